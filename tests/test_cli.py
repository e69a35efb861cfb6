"""The command line, as a user and a pipeline see it."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import advlib
from advlib.cli import main
from advlib.evaluation import Evaluation

MODULE = """
import torch
from torch import nn

def make():
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, 4)).double()

def plain():
    model = make()
    return lambda x: model(x)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A user's folder: a module and data, nothing else."""
    made = tmp_path_factory.mktemp("user")
    (made / "cli_module.py").write_text(MODULE)
    torch.manual_seed(0)
    x = torch.rand(60, 1, 8, 8, dtype=torch.float64)
    scope: dict = {}
    exec(MODULE, scope)
    with torch.no_grad():
        y = scope["make"]()(x).argmax(1)
    np.savez(made / "data.npz", x=x.numpy(), y=y.numpy())
    return made


@pytest.fixture(autouse=True)
def there(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("cli_module", None)


def evaluated(out, *options, data="data.npz", model="cli_module:make", threat="linf:0.03"):
    return main(["evaluate", model, "--data", data, "--threat", threat, "--out", str(out), "--quiet", *options])


def told(folder):
    fields = json.loads((folder / "result.json").read_text())
    for stage in fields["stages"]:
        del stage["seconds"]
    return fields


@pytest.fixture(scope="module")
def report(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "new" / "report"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        assert evaluated(out, "--curve", "--budget", "quick") == 0
    sys.modules.pop("cli_module", None)
    return out


def test_what_is_written(report):
    result = Evaluation.from_json((report / "result.json").read_text())
    assert (result.threat, result.budget, result.seed) == ("Linf(0.03, bounds=(0, 1))", "quick", 0)
    assert result.clean_accuracy == 1
    assert 0 < result.robust_accuracy < 1
    broken = int((~result.robust).sum())
    with (report / "rows.csv").open() as file:
        assert sum(line["robust"] == "false" for line in csv.DictReader(file)) == broken
    with np.load(report / "adversarial.npz") as found:
        assert found["x_adv"].shape == (60, 1, 8, 8)
    page = (report / "report.html").read_text()
    assert "cli_module:make" in page
    assert "Robust accuracy against eps" in page
    assert len(list((report / "pictures").glob("*.png"))) <= broken


def test_the_same_command_finds_the_same_without_asking_again(report, monkeypatch):
    before = told(report)
    (report / "result.json").unlink()
    monkeypatch.setattr("advlib.evaluation.schedule.run", None)  # nothing is attacked again
    assert evaluated(report, "--budget", "quick") == 0
    assert told(report) == before


def test_another_command_is_refused_for_the_same_folder(report):
    with pytest.raises(ValueError, match="must hold an evaluation with this threat"):
        evaluated(report, "--budget", "quick", threat="linf:0.04")


@pytest.mark.parametrize(("share", "status"), [("0", 0), ("1", 3)])
def test_fail_under(report, capsys, share, status):
    assert evaluated(report, "--budget", "quick", "--fail-under", share) == status
    assert ("below --fail-under 1.0" in capsys.readouterr().err) == (status == 3)


def test_a_function_and_fewer_rows_without_examples(tmp_path, capsys):
    assert evaluated(tmp_path, "--budget", "quick", "--rows", "7", "--no-examples", model="cli_module:plain") == 0
    assert "7 rows" in capsys.readouterr().out
    assert sorted(file.name for file in tmp_path.iterdir()) == ["blocks", "report.html", "result.json", "rows.csv"]


def test_the_seed_counts(tmp_path):
    results = []
    for seed in ("0", "0", "1"):
        out = tmp_path / str(len(results))
        assert evaluated(out, "--budget", "quick", "--seed", seed) == 0
        with np.load(out / "adversarial.npz") as found:
            results.append(found["x_adv"])
    assert np.array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threat": "linf"}, "a threat model is NORM:EPS"),
        ({"data": "none.npz"}, r"there is no file none\.npz"),
        ({"model": "cli_modul:make"}, "there is no module 'cli_modul'"),
        ({"options": ("--fail-under", "40")}, "must be a share in [0, 1], 0.4 for 40 %, got '40'"),
        ({"options": ("--fail-under", "much")}, "must be a share in [0, 1]"),
        ({"options": ("--rows", "0")}, "must be a whole number of at least 1"),
        ({"options": ("--budget", "huge")}, "invalid choice: 'huge'"),
    ],
)
def test_wrong_arguments(tmp_path, capsys, options, message):
    options = dict(options)
    try:
        status = evaluated(tmp_path, *options.pop("options", ()), **options)
    except SystemExit as stopped:  # argparse's own way
        status = stopped.code
    assert status == 2
    said = capsys.readouterr().err
    assert message.replace("\\", "") in " ".join(said.split())
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told_before_the_work(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("advlib.evaluate", None)
    assert evaluated(tmp_path / "file" / "report") == 1
    assert "cannot be written" in capsys.readouterr().err


def test_no_matplotlib_is_told_before_the_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr("advlib.evaluate", None)
    assert evaluated(tmp_path) == 1
    assert 'pip install "advlib-torch[plot]"' in capsys.readouterr().err


def test_several_processes_write_one_report(tmp_path, folder, report):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "advlib"]
    options = ["evaluate", "cli_module:make", "--data", "data.npz", "--threat", "linf:0.03", "--budget", "quick"]
    done = subprocess.run(
        [*command, *options, "--out", tmp_path, "--device", "cpu"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    assert told(tmp_path) == told(report)
    assert done.stdout.count("robust accuracy") == 1


def test_reports_on_one_page(report, tmp_path, capsys):
    assert evaluated(tmp_path / "other", "--budget", "quick", threat="linf:0.01") == 0
    page = tmp_path / "page.html"
    assert main(["compare", str(report), str(tmp_path / "other"), "--out", str(page)]) == 0
    assert ">other<" in page.read_text()
    assert f"Written to {page}: report, other" in capsys.readouterr().out


def test_reports_that_are_none(tmp_path, capsys):
    assert main(["compare", str(tmp_path)]) == 2
    assert "give folders that advlib evaluate wrote" in capsys.readouterr().err
    (tmp_path / "result.json").write_text("{}")
    assert main(["compare", str(tmp_path)]) == 2
    assert "must be what to_json() wrote" in capsys.readouterr().err


def test_the_module_is_the_command(folder):
    done = subprocess.run([sys.executable, "-m", "advlib", "--version"], capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == f"advlib {advlib.__version__}"
