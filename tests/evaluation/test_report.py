"""What people see and keep of a result: the page, its figures, the table, the arrays and the pictures."""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
import math
import os
import re
import stat
import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from advlib import L0, Linf
from advlib.evaluation import Evaluation, Finding, Stage, compare, export, figures
from advlib.evaluation.curves import Curve
from advlib.evaluation.evaluate import text_of
from advlib.evaluation.export import SavedPictures, replacing

VOID = {"meta", "link", "img", "br", "hr", "input"}
NASTY = '<script>alert("&1")</script>'


def made(x=None, x_adv=None, **changes) -> Evaluation:
    """Five rows: one stands, one is a clean error, two are broken by attacks, one is certified."""
    fields = {
        "threat": "Linf(0.25, bounds=(0, 1))",
        "budget": "standard",
        "seed": 4711,
        "versions": {"advlib": "9.8.7", "python": "3.99", "torch": "2.77", "device": "cpu"},
        "y": torch.tensor([3, 1, 4, 1, 5]),
        "correct": torch.tensor([True, False, True, True, True]),
        "robust": torch.tensor([True, False, False, False, True]),
        "broken_by": ("", "clean", "first", "squares", ""),
        "predicted": torch.tensor([3, 0, 7, 2, 5]),
        "distance": torch.tensor([math.inf, 0.0, 0.25, 0.125, math.inf], dtype=torch.float64),
        "samples": torch.tensor([900, 1, 10, 40, 1]),
        "certified": torch.tensor([False, False, False, False, True]),
        "stages": (Stage("clean", 5, 1, 5, 0, 0.25), Stage("first", 3, 2, 1200, 1100, 1.5)),
        "findings": (),
        "x": x,
        "x_adv": x_adv,
    }
    return Evaluation(**{**fields, **changes})


def pictured(channels=1, size=4, change=0.25, **changes) -> Evaluation:
    x = torch.full((5, channels, size, size), 0.5)
    x_adv = x.clone()
    x_adv[2, :, 0, 0] += change
    x_adv[3, :, 1, 1] -= change / 2
    return made(x, x_adv, **changes)


DOUBTS = (
    Finding("vanishing gradients", "unreliable", "no gradient on 3 rows", "something is constant", "run square"),
    Finding("softmax output", "suspicious", "probabilities", "they vanish", "drop the softmax"),
)


def curve(end=0.2, norm="Linf") -> Curve:
    broken_at = torch.tensor([math.inf, 0.0, end / 2, end, math.inf], dtype=torch.float64)
    return Curve(norm, "quick budget", (0.0, end / 2, end), broken_at, torch.zeros(5, 1), (), 1, 1)


class Page(HTMLParser):
    """What is in a page: its elements with their attributes, its text, and whether all that opens is closed."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text("utf-8")
        self.elements, self.open, self.text = [], [], ""
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data.replace("\u00a0", " ") + (
                "\n" if self.open[-1] in ("td", "th", "h1", "dd", "b", "span", "caption") else ""
            )

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def page(tmp_path, result, **options) -> Page:
    result.save(tmp_path / "page.html", **options)
    return Page(tmp_path / "page.html")


def compared(tmp_path, results, **options) -> Page:
    compare(results, tmp_path / "page.html", **options)
    return Page(tmp_path / "page.html")


def decoded(image) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2]))))


# -- the page --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole_pages(tmp_path_factory):
    """One page of each kind, with everything on it."""
    folder, full = tmp_path_factory.mktemp("pages"), pictured(findings=DOUBTS)
    single = page(folder, full, title="A model", curve=curve())
    return single, compared(folder, {"one": full, "two": pictured()}, curves={"two": curve()})


def test_a_page_holds_all_it_shows_and_loads_nothing(whole_pages):
    for shown in whole_pages:
        assert "http" not in shown.source.replace("http-equiv", "")
        assert "@import" not in shown.source
        assert not {"script", "iframe", "object", "audio", "video"} & {tag for tag, _ in shown.elements}
        for tag, attributes in shown.elements:
            for name, value in attributes.items():
                assert not name.startswith("on")
                if name in ("src", "href", "srcset", "data"):
                    assert value.startswith("#" if tag == "use" else "data:")
        for address in re.findall(r"url\(([^)]*)\)", shown.source):
            assert address.startswith("#")


def test_names_inside_a_page_are_its_own_and_all_references_find_one(whole_pages):
    for shown in whole_pages:
        names = [attributes["id"] for _, attributes in shown.elements if "id" in attributes]
        assert len(set(names)) == len(names) > 0
        wanted = [link["href"][1:] for link in shown.all("use")] + re.findall(r"url\(#([^)]*)\)", shown.source)
        assert wanted
        assert set(wanted) <= set(names)


def test_a_page_can_be_read_aloud(whole_pages):
    for shown in whole_pages:
        assert shown.all("html") == [{"lang": "en"}]
        assert all(image["alt"] for image in shown.all("img"))
        drawings = shown.all("svg")
        assert drawings
        assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in drawings)
        assert all(head.get("scope") in ("row", "col") for head in shown.all("th"))
        assert len(shown.all("caption")) == len(shown.all("table")) > 0
        assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in shown.all("meta")


def test_a_wide_table_scrolls_in_its_own_box(whole_pages):
    for shown in whole_pages:
        boxes = [attributes for attributes in shown.all("div") if attributes.get("class") == "wide"]
        assert len(boxes) == len(shown.all("table"))
        assert all(box["tabindex"] == "0" and box["aria-label"] for box in boxes)  # so that the keyboard scrolls it
    assert re.search(r"\.wide \{[^}]*overflow-x: auto", shown.source)


def test_a_page_says_what_was_found(tmp_path):
    shown = page(tmp_path, pictured())
    assert "40.00 %" in shown.text  # robust: 2 of 5
    assert "80.00 %" in shown.text
    assert "95 % interval 5.27 to 85.34 %" in shown.text
    assert "95 % interval 28.36 to 99.49 %" in shown.text
    assert "an upper bound: a stronger attack may break more" in shown.text
    assert re.search(r'width:40\.00%"></i><b style="left:5\.27%;width:80\.06%"', shown.source)
    assert '<dd class="figure verdict reliable">reliable</dd>' in shown.source
    assert "none of the checks saw a reason for doubt" in shown.text
    assert "Next: Compare with a larger budget" in shown.text.replace("\n", "")


def test_a_page_says_what_was_asked_and_how_to_ask_again(tmp_path):
    shown = page(tmp_path, pictured())
    assert shown.text.count("Linf(0.25, bounds=(0, 1))") == 2
    assert ": every feature may change by at most eps" in shown.text
    assert "white-box: the adversary sees the model's gradients and scores" in shown.text
    assert "1 of 5 rows, which were given as such and never attacked" in shown.text
    assert "5 rows, standard budget" in shown.text
    assert "4711" in shown.text
    assert "advlib 9.8.7, python 3.99, torch 2.77, device cpu" in shown.text
    assert "1.8 seconds" in shown.text
    none_proved = page(tmp_path, made(certified=torch.zeros(5, dtype=torch.bool), threat="Hamming(2)"))
    assert "given as such" not in none_proved.text
    assert "Hamming(2)\n" in none_proved.text.replace("Hamming(2)", "Hamming(2)\n", 2)
    assert "may change by" not in none_proved.text


def test_a_page_lists_the_cost_of_each_stage_and_of_all(tmp_path):
    shown = page(tmp_path, pictured()).text
    assert (
        "stage\nrows\nbroken\nforward\nbackward\nseconds\nclean\n5\n1\n5\n0\n0.2\nfirst\n3\n2\n1,200\n1,100\n1.5\n"
        in shown
    )
    assert "all\n3\n1,205\n1,100\n1.8\n" in shown


def test_a_page_shows_each_finding_and_what_to_do_next(tmp_path):
    shown = page(tmp_path, pictured(findings=DOUBTS))
    text = shown.text.replace("\n", "")
    assert "Vanishing gradientsNo gradient on 3 rows. Something is constant.Next: Run square." in text
    assert "Softmax outputProbabilities. They vanish.Next: Drop the softmax." in text
    assert '<dd class="figure verdict unreliable">unreliable</dd><dd class="note">2 findings, below' in shown.source
    assert 'class="finding unreliable"' in shown.source
    assert 'class="finding suspicious"' in shown.source
    assert "an upper bound, and in doubt until the findings are settled" in text
    assert "larger budget, and" not in text
    assert "1 finding, below" in page(tmp_path, pictured(findings=DOUBTS[:1])).text


def test_no_name_can_break_out_of_the_page(tmp_path):
    doubt = Finding(NASTY, NASTY, NASTY, NASTY, NASTY)
    nasty = pictured(
        threat=NASTY,
        budget=NASTY,
        seed=NASTY,
        versions={NASTY: NASTY},
        broken_by=("", "clean", NASTY, NASTY, ""),
        stages=(Stage(NASTY, 5, 1, 5, 0, 0.1),),
    )
    results = {NASTY: nasty, "two": nasty}
    for shown in (page(tmp_path, nasty, title=NASTY, curve=curve()), compared(tmp_path, results, title=NASTY)):
        assert shown.all("script") == []
        assert shown.text.count(NASTY) >= 8
    from advlib.evaluation import report

    box = report._findings(SimpleNamespace(findings=(doubt,)))
    assert "<script" not in box
    assert '"&1' not in box


def test_figures_take_the_colours_and_the_font_of_the_page(whole_pages):
    for shown in whole_pages:
        drawings = re.findall(r"<svg.*?</svg>", shown.source, flags=re.DOTALL)
        for drawing in drawings:
            body = re.sub(r"(url\(|href=\"|id=\")[^\")]*", "", drawing)
            left = set(re.findall(r"#[0-9a-fA-F]{3,8}", body))
            assert not left
            assert "DejaVu" not in drawing
            assert "<style" not in drawing
            assert "<text" in drawing
            assert drawing.startswith('<svg viewBox="0 0 ')
        used = set(re.findall(r"var\((--[\w-]+)\)", shown.source))
        assert {"--ink", "--grid", "--font", "--series-0"} <= used
        assert used <= set(re.findall(r"(--[\w-]+):", shown.source))


def luminance(color):
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_text_stands_out_in_light_and_dark(tmp_path):
    source = page(tmp_path, made()).source
    light, dark = source.split("prefers-color-scheme: dark")
    first = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light))
    second = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", dark))
    assert set(first) == set(second)
    kinds = ("reliable", "suspicious", "unreliable")
    pairs = [(ink, paper) for ink in ("ink", "muted", *kinds) for paper in ("paper", "panel")]
    pairs += [pair for kind in kinds for pair in ((kind, f"{kind}-paper"), ("ink", f"{kind}-paper"))]
    for colors in (first, second):
        for ink, paper in pairs:
            low, high = sorted((luminance(colors[ink]), luminance(colors[paper])))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, paper)  # WCAG 2.2, 1.4.3


# -- pictures on the page --------------------------------------------------------------------------------------


def test_pictures_show_clean_adversarial_and_the_amplified_difference(tmp_path):
    shown = page(tmp_path, pictured())
    clean, changed, difference, *rest = shown.all("img")
    assert len(rest) == 3  # rows 2 and 3: no clean error, and none that stands
    assert (decoded(clean) == 128).all()
    assert decoded(changed)[0, 0] == 191
    assert (decoded(changed)[1:] == 128).all()
    assert decoded(difference)[0, 0] == 255  # the largest change of all spans the range
    assert (decoded(difference)[1:] == 128).all()
    assert decoded(rest[2])[1, 1] == 64  # half of it, the other way
    assert "the difference times 2 on grey" in shown.text
    assert "2 of the 2 rows that an attack broke" in shown.text
    assert "Black is" not in shown.text
    text = shown.text.replace("\n", "")
    assert "Row 2: 4 → 7stage first, distance 0.25" in text
    assert "Row 3: 1 → 2stage squares, distance 0.125" in text
    assert [image["alt"] for image in (clean, changed, difference)] == [
        "row 2, label 4",
        "row 2 attacked, predicted 7",
        "row 2, the difference",
    ]
    assert (clean["width"], clean["height"]) == ("4", "4")


def test_coloured_pictures_keep_their_colours(tmp_path):
    result = pictured(channels=3)
    result.x_adv[2, 0] = 1.0
    assert decoded(page(tmp_path, result).all("img")[1])[2, 2].tolist() == [255, 128, 128]


def test_small_pictures_are_drawn_as_squares_and_large_ones_smoothly(tmp_path):
    assert {image.get("class") for image in page(tmp_path, pictured(size=127)).all("img")} == {"small"}
    assert {image.get("class") for image in page(tmp_path, pictured(size=128)).all("img")} == {None}


def test_pictures_outside_zero_and_one_say_what_black_and_white_are(tmp_path):
    result = pictured()
    result.x[2] = -1.0
    result.x_adv[2] = 3.0
    shown = page(tmp_path, result)
    assert "Black is -1 and white 3." in shown.text
    assert (decoded(shown.all("img")[0]) == 0).all()
    assert (decoded(shown.all("img")[1]) == 255).all()
    assert (decoded(shown.all("img")[3]) == 96).all()  # 0.5, from -1 to 3


def test_a_handful_of_rows_is_shown_from_all_over(tmp_path):
    count = 40
    flags = torch.ones(count, dtype=torch.bool)
    result = made(
        torch.zeros(count, 1, 2, 2),
        torch.ones(count, 1, 2, 2),
        y=torch.zeros(count).long(),
        predicted=torch.ones(count).long(),
        correct=flags,
        robust=~flags,
        certified=~flags,
        broken_by=("first",) * count,
        distance=torch.ones(count).double(),
        samples=torch.full((count,), 7),
    )
    shown = page(tmp_path, result)
    assert re.findall(r"Row (\d+):", shown.text) == ["0", "8", "16", "23", "31", "39"]
    assert "6 of the 40 rows" in shown.text


def test_a_row_that_broke_without_a_change_is_shown(tmp_path):
    assert "the difference times 1 on grey" in page(tmp_path, pictured(change=0.0)).text


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (made(), "holds no examples: it was read from JSON, or evaluated with examples=False"),
        (made(torch.zeros(5, 6), torch.zeros(5, 6)), "of shape (6,), which are no images"),
        (made(torch.zeros(5, 2, 4, 4), torch.zeros(5, 2, 4, 4)), "of shape (2, 4, 4), which are no images"),
        (pictured(broken_by=("", "clean", "", "", "")), "No attack broke a row"),
    ],
)
def test_a_page_without_pictures_says_why(tmp_path, result, said):
    shown = page(tmp_path, result)
    assert said in shown.text
    assert shown.all("img") == []


def test_a_result_read_from_json_gives_a_page(tmp_path):
    assert "no examples" in page(tmp_path, Evaluation.from_json(pictured().to_json())).text


# -- figures ---------------------------------------------------------------------------------------------------


def test_the_fall_is_what_is_left_after_each_number_of_passes():
    assert figures.fall(made()) == ([1, 10, 40], pytest.approx([0.8, 0.6, 0.4]))
    nothing = made(correct=torch.zeros(5).bool(), robust=torch.zeros(5).bool())
    assert figures.fall(nothing) == ([1], [0.0])


def test_plot_draws_the_fall_and_the_interval():
    result = made()
    figure = result.plot()
    (axes,) = figure.axes
    assert axes.get_title() == "Linf(0.25, bounds=(0, 1)), standard budget, 5 rows"
    assert axes.get_xscale() == "log"
    assert axes.get_xlim() == (1, 900)
    assert axes.get_ylim() == (0, 100)
    fall, (spread,) = axes.lines[0], axes.containers[0].lines[2]
    assert list(fall.get_xdata()) == [1, 10, 40, 900]
    assert list(fall.get_ydata()) == pytest.approx([80, 60, 40, 40])
    assert fall.get_drawstyle() == "steps-post"
    low, high = result.robust_interval
    assert spread.get_segments()[0].tolist() == pytest.approx(np.array([[900, 100 * low], [900, 100 * high]]))
    assert axes.get_legend() is None
    figure.savefig(io.BytesIO())
    assert [label.get_text() for label in axes.get_xticklabels()][1:3] == ["1", "10"]
    assert len(axes.xaxis.get_minor_locator()()) == 0
    assert made(samples=torch.ones(5).long()).plot().axes[0].get_xlim() == (1, 10)


def test_a_line_ends_where_its_own_search_did():
    falls = figures.draw_falls({"long": made(), "short": made(samples=torch.tensor([50, 1, 10, 40, 1]))}).axes[0]
    assert [line.get_xdata()[-1] for line in falls.lines] == [900, 50]
    assert falls.get_xlim() == (1, 900)


def test_a_title_is_no_mathematics():
    made(threat=r"$\frac$").plot().savefig(io.BytesIO())


def test_a_figure_is_nobodys_but_the_callers():
    import matplotlib.pyplot

    before = matplotlib.pyplot.get_fignums()
    made().plot()
    assert matplotlib.pyplot.get_fignums() == before


def test_a_curve_is_drawn_where_there_is_one(tmp_path):
    assert "against eps" not in page(tmp_path, made()).text
    with pytest.raises(TypeError, match="a curve must be what robustness_curve returned, got float"):
        made().save(tmp_path / "page.html", curve=0.4)
    shown = page(tmp_path, made(), title="net", curve=curve())
    assert "Robust accuracy against eps" in shown.text
    falls, drawn = shown.all("svg")
    assert drawn["aria-label"].replace("\u00a0", " ") == (
        "Robust accuracy: net 80.00 % at eps 0, 60.00 % at eps 0.1, 40.00 % at eps 0.2."
    )
    assert falls["aria-label"].replace("\u00a0", " ") == (
        "Accuracy against passes: net falls from 80.00 % at one pass to 40.00 % at 40."
    )
    assert "eps (Linf)" in shown.text


def test_a_legend_names_lines_as_they_are_called():
    names = ["_hidden", r"$\frac$", "a < b & c", '"']
    falls = figures.svg(lambda: figures.draw_falls(dict.fromkeys(names, made())), "", "")
    curves = figures.svg(lambda: figures.draw_curves(dict.fromkeys(names, curve()), names), "", "")
    for name in ("_hidden", r"$\frac$", "a &lt; b &amp; c", '"'):
        assert falls.count(f">{name}</text>") == curves.count(f">{name}</text>") == 1


def test_a_name_has_one_colour_in_all_figures():
    from matplotlib.colors import to_hex

    names = [str(number) for number in range(9)]
    lines = figures.draw_falls(dict.fromkeys(names, made())).axes[0].lines
    axes = figures.draw_curves({"8": curve(), "2": curve()}, names).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["2", "8"]
    assert [line.get_color() for line in axes.lines] == [lines[2].get_color(), lines[8].get_color()]
    assert lines[2].get_color() != lines[8].get_color()
    assert [to_hex(band.get_facecolor()[0]) for band in axes.collections] == [
        line.get_color().lower() for line in axes.lines
    ]
    assert lines[0].get_color() == lines[7].get_color()  # seven colours


def test_a_page_is_the_same_whatever_the_style_of_the_programs_figures(tmp_path):
    import matplotlib.style

    plain = page(tmp_path, made(), curve=curve()).source
    with matplotlib.style.context(["dark_background", {"text.usetex": True, "font.family": "serif", "font.size": 30}]):
        assert page(tmp_path, made(), curve=curve()).source == plain


# -- several results -------------------------------------------------------------------------------------------


def test_results_stand_side_by_side(tmp_path):
    other = made(correct=torch.ones(5).bool(), robust=torch.tensor([False, True, True, False, True]), findings=DOUBTS)
    shown = compared(tmp_path, {"one": made(), "two": other})
    assert "Robustness compared" in shown.text
    assert "one\n80.00 %\n40.00 %\n5.27 to 85.34 %\nreliable\n461\n1.8\n" in shown.text
    assert "two\n100.00 %\n60.00 %\n14.66 to 94.73 %\nunreliable\n461\n1.8\n" in shown.text
    assert "one\ntwo\none\n0\n1\ntwo\n2\n0\n" in shown.text  # rows that one holds and the other does not
    assert shown.text.count("What it cost") == 2
    assert shown.text.count("How the accuracy fell") == 3
    assert "differ" not in shown.text.partition("amplified")[0].replace("difference", "")
    alts = [drawing["aria-label"].replace("\u00a0", " ") for drawing in shown.all("svg")]
    assert alts[0].startswith("Accuracy against passes: one falls from 80.00 % at one pass to 40.00 % at 40; two falls")


def test_curves_are_drawn_together_and_each_with_its_result(tmp_path):
    results = {"one": made(), "two": made(), "three": made()}
    shown = compared(tmp_path, results, curves={"two": curve(), "three": curve(0.3)})
    assert shown.text.count("Robust accuracy against eps") == 3
    labels = [drawing["aria-label"] for drawing in shown.all("svg") if "Robust" in drawing["aria-label"]]
    assert [("two" in label, "three" in label) for label in labels] == [(True, True), (True, False), (False, True)]


def test_a_comparison_says_what_cannot_be_compared(tmp_path):
    one = made()
    text = compared(tmp_path, {"one": one, "two": made(y=one.y + 1)}).text
    assert "not of the same rows" in text
    assert "Rows robust under" not in text
    assert "threat models differ" in compared(tmp_path, {"one": one, "two": made(threat="L2(1)")}).text
    assert "budgets differ" in compared(tmp_path, {"one": one, "two": made(budget="quick")}).text
    assert "Rows robust under" not in compared(tmp_path, {"one": one}).text


@pytest.mark.parametrize(
    ("results", "options", "error", "said"),
    [
        ({}, {}, ValueError, "there must be results"),
        ([made()], {}, TypeError, "must be a dict of results by name, got list"),
        ({"one": 0.4}, {}, TypeError, "got float for 'one'"),
        ({"one": made()}, {"curves": {"one": [0.1]}}, TypeError, "a curve must be what robustness_curve returned, got"),
        ({"one": made()}, {"curves": {"two": curve()}}, ValueError, r"got \['two'\]: name them as in \['one'\]"),
    ],
)
def test_a_comparison_refuses_what_is_no_result(tmp_path, results, options, error, said):
    with pytest.raises(error, match=said):
        compare(results, tmp_path / "page.html", **options)
    assert list(tmp_path.iterdir()) == []


# -- files -----------------------------------------------------------------------------------------------------


def test_the_table_has_a_line_for_each_row(tmp_path):
    made().to_csv(tmp_path / "rows.csv")
    assert (tmp_path / "rows.csv").read_bytes().decode() == (
        "row,label,correct,robust,certified,broken_by,predicted,distance,samples\n"
        "0,3,true,true,false,,3,,900\n"
        "1,1,false,false,false,clean,0,0.0,1\n"
        "2,4,true,false,false,first,7,0.25,10\n"
        "3,1,true,false,false,squares,2,0.125,40\n"
        "4,5,true,true,true,,5,,1\n"
    )
    made(broken_by=('a,"b"', "é", "", "", "")).to_csv(tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(encoding="utf-8", newline="") as file:
        assert [line["broken_by"] for line in csv.DictReader(file)][:2] == ['a,"b"', "é"]


def test_examples_are_kept_as_arrays(tmp_path):
    result = pictured()
    result.save_examples(tmp_path / "examples")  # the name as it was given
    with np.load(tmp_path / "examples") as arrays:
        assert set(arrays) == {"x", "x_adv", "y", "predicted", "correct", "robust", "distance"}
        for name in arrays:
            assert np.array_equal(arrays[name], getattr(result, name).numpy())


def test_examples_that_are_not_there_cannot_be_saved(tmp_path):
    for result in (made(), dataclasses.replace(pictured(), x_adv=None)):
        with pytest.raises(ValueError, match="evaluate again with examples=True"):
            result.save_examples(tmp_path / "examples.npz")
        with pytest.raises(ValueError, match="evaluate again with examples=True"):
            result.save_pictures(tmp_path / "pictures", None, Linf(0.25))
    assert list(tmp_path.iterdir()) == []


def test_a_file_appears_complete_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail():
        with replacing(path) as file:
            file.write(b"half")
            file.flush()
            assert path.read_text() == "old"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("file", "old")]
    with replacing(path) as file:
        file.write(b"new")
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("file", "new")]


def test_a_file_has_the_permissions_of_any_other_and_a_link_stays_one(tmp_path):
    before = os.umask(0o027)
    try:
        (tmp_path / "link").symlink_to(tmp_path / "file")
        made().to_csv(tmp_path / "link")
    finally:
        os.umask(before)
    assert (tmp_path / "link").is_symlink()
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


WRITERS = {
    "save": lambda path: made().save(path),
    "compare": lambda path: compare({"one": made()}, path),
    "to_csv": lambda path: made().to_csv(path),
    "save_examples": lambda path: pictured().save_examples(path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_path_that_cannot_be_written_is_refused_before_any_work(tmp_path, monkeypatch, name):
    monkeypatch.setattr(figures, "draw_falls", None)  # the work
    (tmp_path / "file").write_text("")
    for path, error in (
        (tmp_path / "missing" / "file", FileNotFoundError),
        (tmp_path, IsADirectoryError),
        (tmp_path / "file" / "file", NotADirectoryError),
    ):
        with pytest.raises(error, match=r"path must be one that can be written \(.+\): look at the name") as caught:
            WRITERS[name](path)
        assert str(path) in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("call", [lambda path: made().plot(), WRITERS["save"], WRITERS["compare"]])
def test_without_matplotlib_the_error_names_the_extra(tmp_path, monkeypatch, call):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r"advlib-torch\[plot\]"):
        call(tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


def test_without_pillow_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "PIL.Image")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ModuleNotFoundError, match=r"advlib-torch\[plot\]"):
        pictured().save_pictures(tmp_path / "pictures", None, Linf(0.25))  # before the model is asked
    assert list(tmp_path.iterdir()) == []


# -- 8-bit pictures --------------------------------------------------------------------------------------------


def bright(x):
    """Class 1 where the first pixel is above 100 grey levels, by whatever little."""
    first = x.flatten(1)[:, 0]
    return torch.stack((torch.zeros_like(first), first - 100.3 / 255), 1)


def levels(*rows) -> torch.Tensor:
    """Pictures of one grey value and another."""
    return torch.tensor(rows).reshape(len(rows), 1, 1, 2) / 255


def attacked(clean, changed, **changes) -> Evaluation:
    count = len(clean)
    flags = torch.ones(count, dtype=torch.bool)
    fields = {
        "y": torch.zeros(count).long(),
        "predicted": torch.ones(count).long(),
        "correct": flags,
        "robust": ~flags,
        "certified": ~flags,
        "broken_by": ("first",) * count,
        "distance": torch.ones(count).double(),
        "samples": torch.full((count,), 7),
    }
    return made(levels(*clean), levels(*changed), **{**fields, **changes})


def saved(result, folder, model, threat) -> SavedPictures:
    """The pictures of a result that was found within this threat model."""
    return dataclasses.replace(result, threat=text_of(threat)).save_pictures(folder, model, threat)


def saved_levels(folder) -> dict[str, list[int]]:
    return {path.name: np.asarray(Image.open(path)).ravel().tolist() for path in sorted(folder.iterdir())}


def test_pictures_are_those_that_survive_rounding(tmp_path):
    clean = ((100, 50), (100, 50), (100, 50), (99, 50))
    changed = (
        (101.6, 50.4),  # nearest: 102, 50, inside and breaking
        (100.4, 50.0),  # nearest: 100, which breaks nothing
        (102.7, 52.7),  # nearest: 103, 53, outside; towards the clean picture 102, 52, inside and breaking
        (101.5, 47.0),  # 47 is more than 2.7 levels off and cannot be rounded: breaking, but outside
    )
    found = saved(attacked(clean, changed), tmp_path / "new" / "folder", bright, Linf(2.7 / 255))
    assert found == SavedPictures(broken=4, inside=3, breaking=3, saved=2)
    assert saved_levels(tmp_path / "new" / "folder") == {"0_0_as_1.png": [102, 50], "2_0_as_1.png": [102, 52]}


def test_rounded_towards_the_clean_picture_a_whole_level_stays_one(tmp_path):
    values = range(254)
    result = attacked([(value, 10) for value in values], [(value + 1, 11.6) for value in values])
    result.x_adv[..., 0] = torch.nextafter(result.x_adv[..., 0], result.x[..., 0])  # by rounding a little less than one
    found = saved(result, tmp_path, lambda x: torch.tensor([[0.0, 1.0]]).expand(len(x), 2), Linf(1.6 / 255))
    assert found == SavedPictures(254, 254, 254, 254)
    assert list(saved_levels(tmp_path).values()) == [[value + 1, 11] for value in values]


def test_pictures_of_rows_that_no_attack_broke_are_not_saved(tmp_path):
    names = ("", "clean", "first")
    found = saved(attacked(((100, 0),) * 3, ((102, 0),) * 3, broken_by=names), tmp_path, bright, Linf(0.1))
    assert found == SavedPictures(1, 1, 1, 1)
    assert list(saved_levels(tmp_path)) == ["2_0_as_1.png"]
    nothing = attacked(((100, 0),) * 3, ((102, 0),) * 3, broken_by=("", "clean", ""))
    assert saved(nothing, tmp_path / "none", None, Linf(0.1)) == SavedPictures(0, 0, 0, 0)


def test_names_sort_by_row_and_tell_what_the_rounded_picture_is_taken_for(tmp_path):
    clean, changed = ((100, 0),) * 101, ((102, 0),) * 101
    names = ("first",) * 2 + ("",) * 98 + ("first",)

    def other(x):
        return torch.nn.functional.one_hot(torch.full((len(x),), 8), 10).float()

    saved(attacked(clean, changed, broken_by=names, y=torch.full((101,), 3)), tmp_path, other, Linf(0.1))
    assert list(saved_levels(tmp_path)) == ["000_3_as_8.png", "001_3_as_8.png", "100_3_as_8.png"]


def test_colours_are_saved_as_they_are(tmp_path):
    x = torch.zeros(1, 3, 2, 2)
    x_adv = x.clone()
    x_adv[0, 0, 0, 0], x_adv[0, 2, 1, 0] = 101 / 255, 7 / 255
    base = attacked(((0, 0),), ((0, 0),))
    saved(dataclasses.replace(base, x=x, x_adv=x_adv), tmp_path, bright, Linf(1.0))
    pixels = np.asarray(Image.open(tmp_path / "0_0_as_1.png"))
    assert pixels[0, 0].tolist() == [101, 0, 0]
    assert pixels[1, 0].tolist() == [0, 0, 7]


def test_the_model_is_asked_as_an_evaluation_asks(tmp_path):
    class Watched(torch.nn.Module):
        asked: tuple = ()

        def forward(self, x):
            self.asked += ((len(x), self.training, torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")),)
            return bright(x).to(torch.bfloat16)

    model = Watched()
    with torch.autocast("cpu"):
        saved(attacked(((100, 0),) * 230, ((110, 0),) * 230), tmp_path, model, Linf(0.1))
    assert model.asked == ((100, False, False, False), (100, False, False, False), (30, False, False, False))
    assert model.training


def test_an_answer_that_is_no_number_breaks_nothing(tmp_path):
    result = attacked(((100, 0),), ((102, 0),))
    found = saved(result, tmp_path, lambda x: torch.tensor([[0.0, math.nan]]), Linf(0.1))
    assert found == SavedPictures(1, 1, 0, 0)


def test_each_row_is_held_to_its_own_radius(tmp_path):
    result = attacked(((100, 0),) * 3, ((102, 0),) * 3, broken_by=("", "first", "first"))
    found = saved(result, tmp_path, bright, Linf(torch.tensor([9.0, 0.5, 9.0]) / 255))
    assert list(saved_levels(tmp_path)) == ["2_0_as_1.png"]
    assert found.broken == 2


def test_another_threat_model_than_the_evaluated_one_is_refused(tmp_path):
    result = attacked(((100, 0),), ((102, 0),), threat=text_of(Linf(0.1)))
    with pytest.raises(ValueError, match=r"evaluated, Linf\(0.1, bounds=\(0, 1\)\), got Linf\(0.2, "):
        result.save_pictures(tmp_path / "pictures", None, Linf(0.2))
    with pytest.raises(TypeError, match="must be a threat model such as"):
        result.save_pictures(tmp_path / "pictures", None, 0.1)
    pixels = dataclasses.replace(result, threat=text_of(L0(2.0, per_pixel=True)))
    with pytest.raises(ValueError, match=r"evaluated, L0\(2, per_pixel=True, bounds=\(0, 1\)\), got L0\(2, bounds"):
        pixels.save_pictures(tmp_path / "pictures", None, L0(2.0))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (made(torch.zeros(5, 6), torch.zeros(5, 6)), r"got rows of shape \(6,\): save_examples"),
        (attacked(((-1, 0),), ((2, 0),)), r"must lie in \[0, 1\], got values in \[-0.0039"),
        (attacked(((1, 0),), ((256, 0),)), r"got values in \[0, 1.0039"),
        (attacked(((1, 0),), ((-2, 0),)), r"got values in \[-0.0078"),
        (attacked(((300, 0),), ((2, 0),)), r"got values in \[0, 1.17"),
    ],
)
def test_what_is_no_picture_is_not_saved_as_one(tmp_path, result, said):
    with pytest.raises(ValueError, match=said):
        saved(result, tmp_path / "pictures", bright, Linf(1.0, bounds=None))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused_before_the_model_is_asked(tmp_path, monkeypatch):
    result = attacked(((100, 0),), ((102, 0),))
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="path must be one that can be written"):
        saved(result, tmp_path / "file", None, Linf(0.1))

    def full(dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(export.tempfile, "TemporaryFile", full)  # root may write anywhere
    with pytest.raises(PermissionError, match=r"can be written \(Permission denied\)"):
        saved(result, tmp_path / "folder", None, Linf(0.1))
