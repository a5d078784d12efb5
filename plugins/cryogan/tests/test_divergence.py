from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cryobench_cryogan import divergence, train
from cryobench_cryogan.divergence import PATIENCE, GoodStates, Watch
from cryobench_cryogan.method import Params
from cryobench_cryogan.step import Stepper
from cryobench_cryogan.train import Trainer

from cryobench.dataset.view import Observed

WELL = {"discriminator_loss": 1.2, "score_spread": 0.3, "signal_scale": 1.1, "noise_scale": 0.9, "volume_gradient": 2.0}


def spoil(monkeypatch: pytest.MonkeyPatch, at: int, times: int, damage: Callable[[Stepper], None]) -> None:
    """Do some damage before step ``at``, the first few times that training comes by."""
    take, left = Stepper.take, [times]

    def damaged(self: Stepper, *arguments: Any) -> dict[str, torch.Tensor]:
        if self.state.step == at and left[0]:
            left[0] -= 1
            with torch.no_grad():
                damage(self)
        return take(self, *arguments)

    monkeypatch.setattr(Stepper, "take", damaged)


def set_nan(stepper: Stepper) -> None:
    next(stepper.state.network.parameters())[0] = torch.nan


def explode(stepper: Stepper) -> None:
    stepper.state.simulator.log_noise.fill_(8.0)


@pytest.mark.parametrize(("damage", "why"), [(set_nan, "is nan"), (explode, "the noise scale went from 1 to")])
def test_training_goes_back_and_says_so(
    damage: Callable[[Stepper], None],
    why: str,
    small: Callable[..., Params],
    trained: Callable[..., Any],
    recording_run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(divergence, "KEPT_EVERY", 5)
    spoil(monkeypatch, at=12, times=1, damage=damage)
    run = recording_run()
    params = small(final_rate=1.0)
    trainer, result = trained(params, run)
    assert why in result.notes[-1]
    assert "Diverged at step 13" in result.notes[-1]
    assert "went back to step 10 with learning rates at 1/2" in result.notes[-1]
    assert torch.isfinite(result.volume).all()
    assert run.told[-1]["rewinds"] == 1
    assert [told["step"] for told in run.told] == [*range(1, 13), *range(11, 25)]
    assert trainer.state.network_optimiser.param_groups[0]["lr"] == pytest.approx(
        params.learning_rate_discriminator / 2
    )


def test_the_second_time_it_goes_further_back_and_then_gives_up(
    small: Callable[..., Params],
    trained: Callable[..., Any],
    recording_run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(divergence, "KEPT_EVERY", 5)
    spoil(monkeypatch, at=12, times=9, damage=set_nan)
    run = recording_run()
    with pytest.raises(ArithmeticError, match="after 2 rewinds; try smaller -p learning_rate_discriminator"):
        trained(small(rewinds=2), run)
    # kept at 5 and 10
    assert [told["step"] for told in run.told] == [*range(1, 13), 11, 12, *range(6, 13)]


@pytest.mark.parametrize(("discriminator", "of_the_penalty"), [("templates", False), ("convolutions", True)])
def test_giving_up_advises_only_what_the_discriminator_takes(
    discriminator: str,
    of_the_penalty: bool,
    small: Callable[..., Params],
    trained: Callable[..., Any],
    recording_run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoil(monkeypatch, at=1, times=1, damage=set_nan)
    with pytest.raises(ArithmeticError, match="try smaller -p learning_rate_discriminator") as error:
        trained(small(discriminator=discriminator, rewinds=0), recording_run())
    assert ("-p penalty" in str(error.value)) == of_the_penalty


def collapse(monkeypatch: pytest.MonkeyPatch, after: int, until: int) -> None:
    """Have every score be the same for some steps, until training went back."""
    take = Stepper.take

    def blind(self: Stepper, *arguments: Any) -> dict[str, torch.Tensor]:
        measured = take(self, *arguments)
        if after < self.state.step <= until and not self.state.rewound:
            measured["score_spread"] = torch.zeros(())
        return measured

    monkeypatch.setattr(Stepper, "take", blind)


def test_a_collapse_goes_back_to_before_it_began(
    small: Callable[..., Params],
    trained: Callable[..., Any],
    recording_run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is noticed only after it has lasted: what would have been kept meanwhile is no good state."""
    monkeypatch.setattr(divergence, "KEPT_EVERY", 5)
    monkeypatch.setattr(divergence, "PATIENCE", 8)
    collapse(monkeypatch, after=7, until=24)
    _, result = trained(small(), recording_run())
    assert "Diverged at step 16 (the discriminator gave every image the same score" in result.notes[-1]
    assert "went back to step 5 " in result.notes[-1]


@pytest.mark.parametrize("until", [10, 24], ids=["a false alarm", "a collapse"])
def test_no_checkpoint_is_written_while_a_collapse_is_suspected(
    until: int,
    small: Callable[..., Params],
    trained: Callable[..., Any],
    recording_run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run that is killed then would have nothing to go back to but the collapse."""
    monkeypatch.setattr(divergence, "KEPT_EVERY", 5)
    monkeypatch.setattr(divergence, "PATIENCE", 8)
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0.0)
    collapse(monkeypatch, after=7, until=until)
    run, written = recording_run(), []
    monkeypatch.setattr(run, "checkpoint", lambda _, step: written.append(step))
    trained(small(), run)
    again = range(11, 25) if until == 10 else range(6, 25)  # after it was over, or after going back to step 5
    assert written == [*range(1, 8), *again]


def test_no_larger_box_is_entered_while_a_collapse_is_suspected(
    boxes: list[tuple[int, int]],
    small: Callable[..., Params],
    trained: Callable[..., Any],
    recording_run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its first state would be one to go back to."""
    collapse(monkeypatch, after=10, until=15)
    trained(small(coarsest=8), recording_run())
    assert boxes == [(step, 8 if step < 16 else 16) for step in range(24)]  # due after step 12


def test_a_huge_learning_rate_is_noticed(
    small: Callable[..., Params], trained: Callable[..., Any], recording_run: Callable[..., Any]
) -> None:
    with pytest.raises(ArithmeticError, match=r"diverged at step \d+ \(.*\), after 2 rewinds"):
        trained(small(learning_rate_discriminator=1e12, learning_rate_volume=1e12, rewinds=2), recording_run())


@pytest.mark.parametrize("name", list(WELL))
def test_what_is_not_finite_is_named(name: str) -> None:
    found = Watch("logistic").find(1, WELL | {name: float("inf")})
    assert found is not None
    assert found.startswith(f"the {name.replace('_', ' ')} is inf")


@pytest.mark.parametrize(
    ("loss", "sick", "what"),
    [
        ("logistic", {"discriminator_loss": 1e-5}, "certain of every image"),
        ("wasserstein", {"score_spread": 0.0}, "every image the same score"),
    ],
)
def test_only_a_lasting_collapse_counts(loss: str, sick: dict[str, float], what: str) -> None:
    watch = Watch(loss)
    assert [watch.find(step, WELL | sick) for step in range(PATIENCE)] == [None] * PATIENCE
    found = watch.find(PATIENCE, WELL | sick)
    assert found is not None
    assert what in found
    watch.find(PATIENCE + 1, WELL | sick)
    watch.find(PATIENCE + 2, WELL)  # a good step in between
    assert all(watch.find(PATIENCE + 3 + step, WELL | sick) is None for step in range(PATIENCE))


def test_a_wasserstein_loss_of_zero_is_no_collapse() -> None:
    watch = Watch("wasserstein")
    assert all(watch.find(step, WELL | {"discriminator_loss": 0.0}) is None for step in range(2 * PATIENCE))


def test_good_states_stay_as_they_were(
    observed: Observed, small: Callable[..., Params], recording_run: Callable[..., Any]
) -> None:
    """Training on from a state that was taken back must not change what is kept."""
    trainer = Trainer(observed, small(), recording_run())
    for _ in range(3):
        trainer.take_step()
    before = trainer.state.copy()
    good = GoodStates(trainer.state)
    for _ in range(2):
        for _ in range(3):
            trainer.take_step()
        good.rewind(trainer.state, "a reason", most=5)
        now = trainer.state.copy()
        for part in ("network", "simulator"):
            for name, values in before[part].items():
                assert torch.equal(now[part][name], values), name
        for number, moments in before["volume_optimiser"]["state"].items():
            for name, values in moments.items():
                assert torch.equal(now["volume_optimiser"]["state"][number][name], values), name
