"""What the tests of acceleration share."""

import pytest

from advlib import replay
from tests.acceleration.traced import trace


@pytest.fixture
def recorded_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets steps be recorded on the CPU, as graphs of operations."""
    monkeypatch.setitem(replay.RECORDERS, "cpu", trace)
