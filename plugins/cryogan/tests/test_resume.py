from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from cryobench_cryogan import train
from cryobench_cryogan.method import Params

PAPER_LIKE = {
    "discriminator": "convolutions",
    "reflect": False,
    "loss": "wasserstein",
    "together": False,
    "n_discr": 2,
    "penalty_interval": 1,
    "noise": "patches",
    "shuffle": True,
    "epoch_decay": 0.3,
    "smoothing": 1.0,
    "smoothing_decay": 0.1,
    "normalise": "image",
    "average": 0.0,
}


TWO_BOXES = {"coarsest": 8, "coarse_share": 0.25}
"""The smaller one for 6 of 24 steps."""


@pytest.mark.parametrize(
    ("given", "stop_at"),
    [
        ({}, 9),
        ({"images": "store"}, 9),
        (PAPER_LIKE, 9),
        (TWO_BOXES, 4),
        (TWO_BOXES, 7),
        (TWO_BOXES, 9),
        ({**TWO_BOXES, "discriminator": "convolutions", "images": "store"}, 4),
    ],
    ids=[
        "fast",
        "from the store",
        "paper-like",
        "in the smaller box",
        "at its end",
        "in the larger box",
        "convolutions in the smaller box",
    ],
)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    given: dict[str, Any],
    stop_at: int,
    small: Callable[..., Params],
    trained: Callable[..., Any],
    recording_run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed after a checkpoint and started again: losses and volume are those of an uninterrupted run, bit for bit."""
    params = small(**given)
    whole = recording_run()
    _, expected = trained(params, whole)

    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0.0)
    killed = recording_run(stop_at=stop_at)
    with pytest.raises(KeyboardInterrupt):
        trained(params, killed)
    resumed = recording_run(file=killed.file)
    _, result = trained(params, resumed)

    assert resumed.told[0]["step"] == stop_at  # from the checkpoint of the step before
    names = ("step", "discriminator_loss", "volume_gradient", "signal_scale", "noise_scale")
    for found, wanted in zip(resumed.told, whole.told[stop_at - 1 :], strict=True):
        assert [found[name] for name in names] == [wanted[name] for name in names]
    assert torch.equal(result.volume, expected.volume)


def test_learning_rates_do_not_rise_again_when_a_run_with_a_budget_goes_on(
    small: Callable[..., Params],
    trained: Callable[..., Any],
    recording_run: Callable[..., Any],
    clock: Callable[[float], Callable[[], float]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One second a step, 40 of them: the rate falls on from where it was."""
    now, take = clock(1), train.Trainer.take_step
    rates: list[float] = []

    def note(self: train.Trainer, *arguments: Any) -> dict[str, float]:
        measured = take(self, *arguments)
        rates.append(self.state.network_optimiser.param_groups[0]["lr"])
        return measured

    monkeypatch.setattr(train.Trainer, "take_step", note)
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0.0)
    params = small(steps=1000, final_rate=0.01)
    run = recording_run(stop_at=20, left=lambda: 40 - now())
    with pytest.raises(KeyboardInterrupt):
        trained(params, run)
    again = recording_run(file=run.file, left=lambda: 40 - now())
    trainer, _ = trained(params, again)
    # the step at which the run was killed was taken twice
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0.01 * params.learning_rate_discriminator, rel=0.15)
    assert trainer.state.step == 39


def test_a_checkpoint_is_written_every_minute_at_least(
    small: Callable[..., Params],
    trained: Callable[..., Any],
    recording_run: Callable[..., Any],
    clock: Callable[[float], Callable[[], float]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten seconds a step, by a clock of its own; more often than twice a minute would be time lost in writing."""
    now, run, written = clock(10), recording_run(), []
    monkeypatch.setattr(run, "checkpoint", lambda *_: written.append(now()))
    trained(small(steps=40, coarsest=None), run)
    assert {20 <= later - earlier <= 60 for earlier, later in pairwise([0.0, *written, now() + 20])} == {True}


def test_a_budget_that_ends_early_has_its_snapshots_all_the_same(
    small: Callable[..., Params],
    trained: Callable[..., Any],
    recording_run: Callable[..., Any],
    clock: Callable[[float], Callable[[], float]],
) -> None:
    now = clock(1)
    run = recording_run(left=lambda: 32 - now())
    trained(small(steps=100_000, snapshots=4), run)
    assert len(run.snapshots) == 4  # at 1/16, 1/4 and 9/16 of the budget, and at its end


def test_progress_tells_losses_gradients_speed_and_time_left(
    small: Callable[..., Params], trained: Callable[..., Any], recording_run: Callable[..., Any]
) -> None:
    run = recording_run()
    trained(small(), run)
    last = run.told[-1]
    assert [told["step"] for told in run.told] == list(range(1, 25))
    assert last["images_seen"] == 24 * 8
    assert last["seconds_left"] == 0
    assert run.told[11]["seconds_left"] > 0
    assert last["images_per_second"] > 0
    assert last["discriminator_gradient"] > 0
    assert last["volume_gradient"] > 0
    assert last["volume_loss"] > 0
    assert last["rewinds"] == 0
