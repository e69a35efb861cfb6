"""The scripts in examples/ run beside the libraries that they are about, where these are installed.

They are in no extra of this package. To run all: an environment with transformers, timm, lightning and scikit-learn beside
advlib's own tests. Elsewhere, what the scripts take from advlib must be there.
"""

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NEEDS = {"hugging_face": "transformers", "timm_model": "timm", "lightning_training": "lightning"}
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))


def test_every_script_is_known():
    assert {script.stem for script in SCRIPTS} == set(NEEDS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_what_a_script_takes_from_advlib_is_there(script):
    tree = ast.parse(script.read_text())
    taken = [
        (node.module, name.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("advlib")
        for name in node.names
    ]
    taken += [
        ("advlib", node.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "advlib"
    ]
    assert taken
    for module, name in taken:
        assert hasattr(importlib.import_module(module), name), f"{module}.{name}"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_runs(script, tmp_path):
    pytest.importorskip(NEEDS[script.stem], reason="not in the test extra")
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    clean, robust = (int(share) for share in re.search(r"(\d+)% clean, (\d+)% robust, reliable", done.stdout).groups())
    if script.stem == "lightning_training":
        assert clean > 90
        assert robust > 50
    else:
        assert clean == 100
        assert robust < 50  # nobody trained it
