"""Builds the documentation: ``make docs``. Warnings are errors, and so is a public name without documentation."""

import dataclasses
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

sys.path.insert(0, str(Path(__file__).parent.parent))

import advlib

project = "advlib"
author = "the advlib authors"
copyright = author
release = version = advlib.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"advlib {release}"
html_show_copyright = html_show_sourcelink = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

# References that nobody wrote: the types in signatures. Those written in docstrings and pages must resolve.
nitpicky = True
nitpick_ignore_regex = [
    ("py:class", r"(torch|collections|functools|os)\..*|Tensor|Model|Bounds|advlib\..*\.(Self|State|Result)"),
    ("py:class", r"Basis|nn\.Module"),  # as annotations name them
    ("py:class", "Figure|Axes|PathLike"),  # imported for the type checker alone
]

PUBLIC = [
    "advlib",
    "advlib.attacks",
    "advlib.threats",
    "advlib.losses",
    "advlib.gradients",
    "advlib.models",
    "advlib.oracles",
    "advlib.defenses",
    "advlib.training",
    "advlib.evaluation",
    "advlib.testing",
    "advlib.noise",
    "advlib.search",
    "advlib.evaluator",
    "advlib.data",
    "advlib.zoo",
]


def public_names(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """The functions, classes and constants that a module defines or, in a package, that it collects."""
    package = hasattr(module, "__path__")
    for name, value in vars(module).items():
        if name.startswith("_") or inspect.ismodule(value):
            continue
        if inspect.isclass(value) or inspect.isfunction(value):
            if package or value.__module__ == module.__name__:
                yield name, value
        elif name.isupper():
            yield name, value


def has_own_text(value: Any) -> bool:
    """Whether somebody wrote a docstring, as opposed to what dataclasses and named tuples make up."""
    text = value.__doc__ or ""
    return bool(text.strip()) and not text.startswith(f"{value.__name__}(")


def undocumented(documented: set[str]) -> Iterator[str]:
    """What is missing, given the full names that the pages describe."""
    described = {id(resolve(name)) for name in documented if name.rpartition(".")[0] in PUBLIC}
    for module in map(importlib.import_module, PUBLIC):
        for name, value in public_names(module):
            full = f"{module.__name__}.{name}"
            if id(value) not in described:
                yield f"{full} is public and on no page: add it to docs/api.md"
            if callable(value) and not has_own_text(value):
                yield f"{full} is public and has no docstring"
            for member in vars(value) if inspect.isclass(value) else ():
                attribute = inspect.getattr_static(value, member)
                is_method = inspect.isroutine(attribute) or isinstance(attribute, property)
                if not member.startswith("_") and is_method and not inspect.getdoc(getattr(value, member)):
                    yield f"{full}.{member} is public and has no docstring, of its own or inherited"


def resolve(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute, None)


def check(app: Sphinx, env: BuildEnvironment) -> None:
    documented = {name for name in env.domaindata["py"]["objects"] if name.startswith("advlib.")}
    for problem in sorted(set(undocumented(documented))):
        logging.getLogger(__name__).warning(problem)


def describe_fields(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Adds to the description of a class without ``Args`` what the comments beside its fields say."""
    fields = hasattr(value, "_fields") or dataclasses.is_dataclass(value)
    if inspect.isclass(value) and fields and "Args:" not in (value.__doc__ or ""):
        comments = re.findall(r"^    (\w+): [^#\n]*# (.*)$", inspect.getsource(value), re.MULTILINE)
        lines.extend(["", *(f":param {field}: {comment}" for field, comment in comments), ""])


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", describe_fields)
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
