"""Assertions for other libraries' test suites: plain functions that raise AssertionError, for any test runner."""

from advlib.testing.gradients import assert_gradients_reach_input as assert_gradients_reach_input
from advlib.testing.laws import LAWS as LAWS
from advlib.testing.laws import assert_attack_valid as assert_attack_valid
from advlib.testing.robust import assert_robust as assert_robust
