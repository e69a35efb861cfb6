"""Settings that every test shares."""

import os

import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)  # the tests' networks are small, and pytest-xdist runs a process per core

_COMMON = {"deadline": None, "database": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("fast", max_examples=60, derandomize=True, **_COMMON)
settings.register_profile("thorough", max_examples=2000, **_COMMON)  # new random problems on every run
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))
