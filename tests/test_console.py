from __future__ import annotations

import io

import pytest
from rich.console import Console

from cryobench.console import Listener


@pytest.mark.parametrize("terminal", [False, True])
def test_a_method_s_own_estimate_of_the_time_left_is_shown(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryobench.console.PLAIN_INTERVAL", 0.0)
    seen = io.StringIO()
    with Listener(Console(file=seen, force_terminal=terminal, width=200)) as listener:
        listener("reconstruct", 1, 100, {"discriminator_loss": 1.5, "seconds_left": 9999.0})
        listener("reconstruct", 2, 100, {"discriminator_loss": 1.25, "seconds_left": 754.0})
    assert "left 12:34" in seen.getvalue()
    assert "left 166" not in seen.getvalue()
    assert "discriminator loss 1.25" in seen.getvalue()
    assert "seconds left" not in seen.getvalue()


def test_otherwise_it_is_told_from_the_pace_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 110.0, 120.0])
    monkeypatch.setattr("cryobench.console.time.monotonic", lambda: next(clock))
    seen = io.StringIO()
    listener = Listener(Console(file=seen, width=200))
    for step in (0, 2, 8):
        listener("simulate", step, 8, {})
    first, second, last = seen.getvalue().splitlines()
    assert "left" not in first
    assert "left 0:30" in second
    assert "left" not in last
