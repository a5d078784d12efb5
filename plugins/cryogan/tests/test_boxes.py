"""Training that goes from a smaller box to the data's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from cryobench_cryogan import divergence
from cryobench_cryogan.method import Params
from cryobench_cryogan.parallel import Team
from cryobench_cryogan.simulator import Simulator
from cryobench_cryogan.step import Stepper
from cryobench_cryogan.train import Trainer

from cryobench.dataset.view import Observed
from cryobench.physics.fourier import fourier_crop_images, fourier_crop_volumes, fourier_pad_volumes

TWO_BOXES = {"coarsest": 8, "coarse_share": 0.25}
"""Of 24 steps, 12 in the smaller one; of a budget, at most a quarter."""


@pytest.mark.parametrize("discriminator", ["templates", "convolutions"])
def test_training_goes_through_the_boxes_and_ends_in_the_data_s(
    discriminator: str,
    boxes: list[tuple[int, int]],
    small: Callable[..., Params],
    trained: Callable[..., Any],
    recording_run: Callable[..., Any],
) -> None:
    run = recording_run()
    _, result = trained(small(discriminator=discriminator, snapshots=6, **TWO_BOXES), run)
    assert boxes == [(step, 8 if step < 12 else 16) for step in range(24)]
    assert [told["step"] for told in run.told] == list(range(1, 25))
    assert run.snapshots == [(16, 16, 16)] * 6  # the first two of them from the smaller box
    assert result.volume.shape == (16, 16, 16)
    assert result.example_images.shape == (16, 16, 16)


def test_a_budget_moves_on_as_steps_do(
    boxes: list[tuple[int, int]],
    observed: Observed,
    small: Callable[..., Params],
    recording_run: Callable[..., Any],
    clock: Callable[[float], Callable[[], float]],
) -> None:
    """One second a step, 20 of them, a quarter in the smaller box."""
    now = clock(1)
    Trainer(observed, small(steps=1000, **TWO_BOXES), recording_run(left=lambda: 20 - now())).train()
    assert boxes == [(step, 8 if step < 5 else 16) for step in range(20)]


def test_a_box_takes_over_volume_scales_and_templates(
    observed: Observed, small: Callable[..., Params], recording_run: Callable[..., Any]
) -> None:
    trainer = Trainer(observed, small(nonnegative=False, **TWO_BOXES), recording_run())
    for _ in range(6):
        trainer.take_step()
    before = trainer.state
    before.rewound = 1
    trainer._enter(16, before)
    after = trainer.state
    assert (after.step, after.rewound, after.generator) == (6, 1, before.generator)
    assert torch.equal(after.simulator.log_noise, before.simulator.log_noise)
    # in the data's units, what both boxes can hold
    expected = fourier_crop_volumes(fourier_pad_volumes(before.average, 16), 8) * before.simulator.unit
    found = fourier_crop_volumes(after.average, 8) * after.simulator.unit
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert float(expected.abs().max()) > 0
    assert torch.equal(after.simulator.values, after.average)
    old, new = before.network.templates.detach(), after.network.templates.detach()
    assert float(new.norm()) == pytest.approx(float(old.norm()))


def test_convolutions_begin_anew(
    observed: Observed, small: Callable[..., Params], recording_run: Callable[..., Any]
) -> None:
    params = small(discriminator="convolutions", **TWO_BOXES)
    trainer = Trainer(observed, params, recording_run())
    first = trainer.state
    trainer._enter(16, first)
    weights = [next(state.network.parameters()) for state in (first, trainer.state)]
    assert weights[0].shape == weights[1].shape
    assert not torch.equal(*weights)


def test_both_boxes_image_a_volume_alike(observed: Observed, small: Callable[..., Params]) -> None:
    """Without noise, images of the larger box, cut to the smaller one, are the smaller one's."""
    params = small(nonnegative=False, mask_radius=1.0, symmetrise=False)
    coarse_observed = observed.coarsen(8)
    draw = torch.Generator().manual_seed(4)
    coarse = Simulator(coarse_observed, params, 0.5, draw, Team())
    ball = torch.exp(-((torch.stack(torch.meshgrid(*[torch.arange(16.0) - 8] * 3, indexing="ij"))) ** 2).sum(0) / 8)
    with torch.no_grad():
        coarse.values.copy_(fourier_crop_volumes(ball, 8))
        coarse.log_signal.fill_(0.3)
        coarse.log_noise.fill_(-50)
        fine = Simulator(observed, params, 0.7, torch.Generator().manual_seed(4), Team())
        fine.resume(coarse, coarse.values)
        images, rows = coarse(8)
        # the noise of a larger box takes more draws, but poses and particles come before it
        fine_images, fine_rows = fine(8)
    assert torch.equal(rows, fine_rows)
    expected, found = images * 0.5, fourier_crop_images(fine_images, 8) * 0.7
    assert float((found - expected).norm() / expected.norm()) < 0.1


def test_going_back_never_crosses_a_box(
    boxes: list[tuple[int, int]],
    small: Callable[..., Params],
    trained: Callable[..., Any],
    recording_run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first state of the larger box is one to go back to, again and again; those of the smaller one are gone."""
    monkeypatch.setattr(divergence, "KEPT_EVERY", 3)
    take = Stepper.take

    def spoil(self: Stepper, *arguments: Any) -> dict[str, torch.Tensor]:
        if self.state.step == 13:
            with torch.no_grad():
                next(self.state.network.parameters())[0] = torch.nan
        return take(self, *arguments)

    monkeypatch.setattr(Stepper, "take", spoil)
    with pytest.raises(ArithmeticError, match="diverged at step 14"):
        trained(small(rewinds=2, **TWO_BOXES), recording_run())
    assert boxes == [*[(step, 8) for step in range(12)], *[(12, 16), (13, 16)] * 3]


def test_rates_stay_halved_in_the_next_box(
    small: Callable[..., Params],
    trained: Callable[..., Any],
    recording_run: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take, left = Stepper.take, [1]

    def spoil(self: Stepper, *arguments: Any) -> dict[str, torch.Tensor]:
        if self.state.step == 4 and left[0]:
            left[0] = 0
            with torch.no_grad():
                self.state.simulator.log_noise.fill_(8)
        return take(self, *arguments)

    monkeypatch.setattr(Stepper, "take", spoil)
    run = recording_run()
    params = small(final_rate=1.0, **TWO_BOXES)
    trainer, result = trained(params, run)
    assert run.told[-1]["rewinds"] == 1
    assert "Diverged at step 5" in result.notes[-1]
    rate = trainer.state.network_optimiser.param_groups[0]["lr"]
    assert rate == pytest.approx(params.learning_rate_discriminator / 2)
