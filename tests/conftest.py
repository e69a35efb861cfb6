"""Settings that every test shares."""

import os

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)  # the tests' networks are small, and pytest-xdist runs a process per core

_COMMON = {"deadline": None, "database": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("fast", max_examples=60, derandomize=True, **_COMMON)
settings.register_profile("thorough", max_examples=2000, **_COMMON)  # new random problems on every run
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Lets the tests run where pytest-timeout is not installed, as on a machine that is there for its GPU."""
    if not pluginmanager.hasplugin("timeout"):
        parser.addini("timeout", "seconds, if pytest-timeout is installed")


def pytest_configure(config: pytest.Config) -> None:
    if not config.pluginmanager.hasplugin("timeout"):
        config.addinivalue_line("markers", "timeout: seconds, if pytest-timeout is installed")
