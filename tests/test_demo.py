import importlib.util
import json
import subprocess
import sys

import pytest
import torch
from matplotlib.image import imread

from advlib.cli import main
from advlib.demo import demo

EPS, BUDGETS, IMAGES = (0.05, 0.15, 0.3), (10, 40), 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A reduced demonstration, run once for all tests of its results."""
    made = tmp_path_factory.mktemp("demo") / "new" / "folder"
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    report = demo(made, images=IMAGES, eps=EPS, budgets=BUDGETS, epochs=3, progress=False)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    networks = json.loads((made / "report.json").read_text())["networks"]
    assert [found["clean_accuracy"] for found in networks] == [network.clean_accuracy for network in report.networks]
    assert "robust    pgd            Linf(0.15)" in report.table()
    return made


@pytest.fixture(scope="module")
def report(folder):
    return json.loads((folder / "report.json").read_text())


def test_the_report_says_what_was_done(report):
    assert report["images"] == IMAGES
    assert report["parameters"] == 166_406
    assert report["seed"] == 0
    assert report["torch"] == torch.__version__
    standard, robust = report["networks"]
    assert (standard["name"], robust["name"]) == ("standard", "robust")
    assert 0 < standard["train_seconds"] < robust["train_seconds"] < report["seconds"]
    assert standard["clean_accuracy"] > 0.8
    plan = [("Linf", eps, ("uniform_noise", "fgsm", "pgd")) for eps in EPS]
    plan += [("L0", budget, ("uniform_noise", "jsma")) for budget in BUDGETS]
    names = ("standard", "robust")
    expected = {(name, attack, norm, eps) for name in names for norm, eps, attacks in plan for attack in attacks}
    assert {(run["network"], run["attack"], run["norm"], run["eps"]) for run in report["runs"]} == expected
    assert len(report["runs"]) == len(expected)


def test_the_numbers_agree_with_one_another(report):
    clean = {network["name"]: network["clean_accuracy"] for network in report["networks"]}
    assert sum(run["seconds"] for run in report["runs"]) < report["seconds"]
    for run in report["runs"]:
        assert run["clean_accuracy"] == clean[run["network"]]
        attacked = round(run["clean_accuracy"] * IMAGES)
        assert 0 <= run["robust_accuracy"] <= run["clean_accuracy"]
        assert (run["robust_accuracy"] * IMAGES) % 1 == pytest.approx(0, abs=1e-9)
        assert (run["mean_distance"] is None) == (run["robust_accuracy"] == run["clean_accuracy"])
        assert (run["mean_distance"] or 0) <= run["eps"] * (1 + 1e-6)
        assert run["forward_samples"] >= attacked
        if run["attack"] == "uniform_noise":
            assert run["backward_samples"] == 0
        if run["attack"] == "fgsm":
            assert run["forward_samples"] == run["backward_samples"] == attacked
        if run["attack"] == "pgd":
            assert attacked <= run["backward_samples"] <= run["forward_samples"] <= 41 * attacked
        if run["attack"] == "jsma":  # two objectives a step
            assert run["backward_samples"] <= 2 * run["forward_samples"]


def accuracies(report, attack, norm, network="standard"):
    wanted = (network, attack, norm)
    return [run["robust_accuracy"] for run in report["runs"] if (run["network"], run["attack"], run["norm"]) == wanted]


def test_stronger_attacks_and_larger_balls_leave_less(report):
    noise, fgsm, pgd = (accuracies(report, attack, "Linf") for attack in ("uniform_noise", "fgsm", "pgd"))
    assert all(a >= b >= c for a, b, c in zip(noise, fgsm, pgd, strict=True))
    assert pgd == sorted(pgd, reverse=True)
    assert pgd[-1] == 0
    jsma, chance = accuracies(report, "jsma", "L0"), accuracies(report, "uniform_noise", "L0")
    assert jsma[0] > jsma[1]
    assert jsma[1] < chance[1]


@pytest.mark.slow
def test_the_robust_network_is_robust(tmp_path):
    report = demo(tmp_path, images=200, eps=(0.3,), budgets=(2,), progress=False)
    found = {run.network: run for run in report.runs if run.attack == "pgd"}
    assert found["standard"].robust_accuracy < 0.05
    assert found["robust"].robust_accuracy > 0.5
    assert report.networks[1].clean_accuracy > 0.9


def test_the_pictures_show_something(folder):
    pictures = ("digits-standard.png", "digits-robust.png", "robustness.png")
    for name in pictures:
        image = imread(folder / name)
        assert min(image.shape[:2]) > 500
        colors = image[..., :3].reshape(-1, 3)
        assert (colors.min(0) < 0.2).all()  # ink
        assert (colors.max(1) - colors.min(1) > 0.4).mean() > 0.001  # color
        assert (image[:5] == 1).all()  # a white border: nothing was cut off
        assert (image[-3:] == 1).all()
    assert {path.name for path in folder.iterdir()} == {"report.html", "report.json", *pictures}


def test_the_page_compares_the_networks(folder):
    page = (folder / "report.html").read_text()
    assert "<h1>Standard and adversarial training</h1>" in page
    for name in ("standard", "robust"):
        assert page.count(f">{name}<") > 1


def test_the_command_prints_the_table(tmp_path, monkeypatch, capsys):
    def quick(out, **options):
        assert options == {"images": 20, "seed": 1, "progress": False}
        return demo(out, images=20, seed=1, eps=(0.3,), budgets=(2,), epochs=1, progress=False)

    monkeypatch.setattr("advlib.demo.demo", quick)
    assert main(["demo", "--out", str(tmp_path), "--images", "20", "--seed", "1", "--quiet"]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    for part in ("threat model", "robust", "jsma           L0(2)", "standard  pgd            Linf(0.3)", str(tmp_path)):
        assert part in output.out
    table = output.out.split("\n\n")[1].splitlines()
    assert len({len(line) for line in table[1:]}) == 1  # aligned


def test_progress_is_shown(tmp_path, capsys):
    demo(tmp_path, images=5, eps=(0.1,), budgets=(2,), epochs=1)
    shown = capsys.readouterr().err
    assert "training: 100%" in shown
    assert "attacking the robust network: 100%" in shown


def forbidden(*args, **kwargs):
    raise AssertionError("the work began before the mistake was found")


def test_a_folder_that_cannot_be_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("advlib.demo.train", forbidden)
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert main(["demo", "--out", str(out)]) == 1
        message = capsys.readouterr().err
        assert f"advlib: error: the folder {out} cannot be written" in message
        assert "--out" in message


def test_missing_matplotlib_names_the_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("advlib.demo.train", forbidden)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["demo", "--out", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert "matplotlib" in message
    assert 'pip install "advlib-torch[demo]"' in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dmeo"], "invalid choice: 'dmeo'"),
        ([], "required: COMMAND"),
        (["demo", "--images", "0"], "must be a whole number of at least 1, got '0'"),
        (["demo", "--images", "many"], "got 'many'"),
        (["demo", "--eps", "1"], "unrecognized arguments: --eps 1"),
    ],
)
def test_wrong_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_help_and_version(capsys):
    for arguments, part in ((["--help"], "demo"), (["demo", "--help"], "--out DIR"), (["--version"], "advlib 0.")):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 0
        assert part in capsys.readouterr().out


def test_no_radii_to_attack_at(tmp_path):
    with pytest.raises(ValueError, match="at least one"):
        demo(tmp_path, eps=(), progress=False)


def test_importing_the_library_imports_no_extra():
    extras = "{'matplotlib', 'mlxtend', 'sklearn', 'pandas', 'tqdm.notebook'}"
    code = f"import sys, advlib.cli, advlib.data, advlib.demo, advlib.zoo; print(sorted({extras} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
