"""Every row of docs/migration.md runs, and compares with the other library as its last column says.

The libraries are in the benchmarks' environment: make bench, then
.venv-bench/bin/python -m pytest tests/test_migration.py. Elsewhere advlib's half of each row runs.
"""

import functools
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from advlib import L0, L1, L2, Linf, Patch, Spatial
from advlib.data import digits
from advlib.models import Normalize
from advlib.threats import Threat
from advlib.zoo import small_cnn, train

PAGE = (Path(__file__).parent.parent / "docs" / "migration.md").read_text()


def tables():
    """The rows of the tables under "From ..." headings: library, their call, advlib's, how they compare."""
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE):
        library = re.match(r"From (\w+)", section)
        for row in re.findall(r"^\| `(.*?)` \| `(.*?)` \| ([\w ]+) \|$", section, re.MULTILINE) if library else ():
            yield library[1], *row


def blocks(heading):
    """The Python of one section."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return "\n".join(re.findall(r"^```python\n(.*?)^```$", section, re.DOTALL | re.MULTILINE))


ROWS = list(tables())
MODULES = {"CleverHans": "cleverhans", "torchattacks": "torchattacks", "Foolbox": "foolbox", "ART": "art"}
each_row = pytest.mark.parametrize(
    ("library", "theirs", "ours", "compared"), ROWS, ids=[f"{r[0]}-{r[2]}" for r in ROWS]
)


@functools.cache
def victim():
    data = digits()
    model = train(small_cnn(size=8), data.x_train, data.y_train, epochs=10).eval()
    x, y = data.x_test[:100], data.y_test[:100]
    inner = Normalize(model, -2.0, 4.0)  # takes inputs normalised by 0.5 and 0.25
    with torch.no_grad():
        right = model(x).argmax(1) == y
    assert right.float().mean() > 0.9
    return {"model": model, "x": x, "y": y, "wanted": (y + 1) % 10, "inner": inner}


@functools.cache
def prepared(library):
    """What a row may use: the names on the page, and the network."""
    names = dict(victim())
    exec(blocks("What is different"), names)
    if library != "advlib":
        exec(blocks(f"From {library}"), names)
    return names


def value(expression, library):
    """What an expression gives, from a known state of the generators and with inputs of its own."""
    torch.manual_seed(0)
    np.random.seed(0)
    x, y = victim()["x"].clone(), victim()["y"].clone()
    found = eval(expression, {**prepared(library), "x": x, "y": y})
    return torch.as_tensor(found).detach()


def threat_of(ours):
    """The threat model that the advlib call names."""
    words = re.search(r"\b(L0|L1|L2|Linf|Spatial|Patch)\([^()]*\)", ours)
    known = {"L0": L0, "L1": L1, "L2": L2, "Linf": Linf, "Patch": Patch, "Spatial": Spatial, "torch": torch}
    return eval(words[0], known)


def stands(x_adv, ours):
    """Rows on which the attack has not reached its goal, as the row's advlib call states it."""
    names = victim()
    with torch.no_grad():
        predicted = names["model"](x_adv).argmax(1)
    return predicted != names["wanted"] if "targeted=True" in ours else predicted == names["y"]


def test_the_page_covers_every_attack_and_library():
    import advlib.attacks

    used = " ".join(ours for _, _, ours, _ in ROWS)
    exist = [name for name, value in vars(advlib.attacks).items() if callable(value) and not name.startswith("_")]
    nowhere_else = {
        "lbfgs",
        "negative",
        "patch",
        "universal_patch",
        "admix",
        "bsr",
        "sia",
        "ssa",
        "ti_fgsm",
        "nes",
        "pdpgd",
        "max_confidence",
        "sigma_zero",
    }
    missing = [name for name in exist if f"advlib.{name}(" not in used and name not in nowhere_else]
    assert not missing, f"docs/migration.md has no row for {missing}"
    assert {library for library, *_ in ROWS} == set(MODULES)
    words = {re.sub(r"\d+", "5", compared) for *_, compared in ROWS}
    assert words == set(re.findall(r"^\| ([\w ]+) \| [^`|]*\|$", PAGE, re.MULTILINE)) - {"compared"}
    assert len(ROWS) == len(re.findall(r"^\| `", PAGE, re.MULTILINE)), "a row does not parse"


@each_row
def test_advlibs_half_of_a_row_runs(library, theirs, ours, compared):
    if "auto_attack" in ours:
        pytest.skip("half a minute; beside the other library it runs")
    found = value(ours, "advlib")
    if compared != "same":
        threat, x = threat_of(ours), victim()["x"]
        if isinstance(threat, Threat):
            bounds = None if "bounds=None" in ours else (0.0, 1.0)
            threat = type(threat)(threat.eps, bounds=bounds)
        assert isinstance(threat, Spatial) or threat.contains(found, x).all()
        assert not torch.equal(found, x)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@each_row
def test_a_row_compares_as_it_says(library, theirs, ours, compared):
    pytest.importorskip(MODULES[library], reason="make bench makes an environment that has it")
    mine, other = value(ours, "advlib"), value(theirs, library)
    if compared == "same":
        assert torch.equal(mine.double(), other.double()) or abs(float(mine) - float(other)) < 1e-6
        return
    x = victim()["x"]
    if compared == "equal":
        assert (mine - other).abs().max() <= 1e-5
        assert not torch.equal(mine, x)
        return
    left, left_theirs = (100 * float(stands(x_adv, ours).float().mean()) for x_adv in (mine, other))
    print(f"{left:.0f} % stand, theirs {left_theirs:.0f} %")
    if compared.startswith("within"):
        assert abs(left - left_theirs) <= int(compared.split()[1])
    if compared == "no weaker":
        assert left <= left_theirs + 2
    if compared == "no farther":
        assert left <= left_theirs
        broken = ~stands(mine, ours) & ~stands(other, ours)
        distance, distance_theirs = (threat_of(ours).distance(x_adv, x)[broken].median() for x_adv in (mine, other))
        print(f"median distance {distance:.4f}, theirs {distance_theirs:.4f}")
        assert distance <= 1.02 * distance_theirs
