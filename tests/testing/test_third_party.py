"""Another library's test suite that uses advlib.testing, run as its owner would run it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = Path(__file__).parent / "third_party"


def pytest_there(*arguments):
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=PACKAGE, env=settings, capture_output=True, text=True, timeout=200)


def test_its_suite_passes():
    done = pytest_there()
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


@pytest.fixture(scope="module")
def failures():
    done = pytest_there("tests/broken.py")
    assert "4 failed" in done.stdout
    return dict(re.findall(r"^_+ (test_\w+) _+$(.*?)(?=^_{3,} test|^={3,} )", done.stdout, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize(
    ("test", "told"),
    [
        ("test_too_far_a_promise", "robust accuracy 50.00% (30 of 60 rows"),
        ("test_too_far_a_promise", "is below at_least=90.00%"),
        ("test_a_defence_that_hides_its_gradient", "unreliable: vanishing gradients"),
        ("test_its_gradients", "zero on 60, NaN or infinite on 0"),
        ("test_its_gradients", "suspect the model (Rounded)"),
        ("test_the_careless_attack", "inside: 20 of 20 rows"),
        ("test_the_careless_attack", "untouched: changed the gradient of"),
        ("test_the_careless_attack", "- like x: the result requires a gradient"),
        ("test_the_careless_attack", "- no_grad, inference_mode: raised RuntimeError"),
    ],
)
def test_a_failure_shows_the_callers_line_and_the_message(failures, test, told):
    assert told in failures[test]
    assert "tests/broken.py:" in failures[test]
    assert "advlib/testing/" not in failures[test].rpartition("The above exception")[2]  # its frames are hidden
