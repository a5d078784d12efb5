from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import zarr
from cryobench_cryogan.images import Order
from cryobench_cryogan.method import Params
from cryobench_cryogan.presets import PRESETS
from cryobench_cryogan.schedule import Schedule
from cryobench_cryogan.train import Trainer
from pydantic import ValidationError

from cryobench.dataset.store import open_store
from cryobench.dataset.view import Observed
from cryobench.reconstruct.run import reconstruct

STUDY = [name for name in PRESETS if name.startswith("paper")]


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_single_parameters_go_over_a_preset_and_the_whole_survives_json(preset: str) -> None:
    params = Params.model_validate({"preset": preset, "batch": 5, "average": 0.25})
    assert (params.preset, params.batch, params.average) == (preset, 5, 0.25)
    for name, value in PRESETS[preset].items():
        if name not in ("batch", "average"):
            assert getattr(params, name) == value
    assert Params.model_validate_json(params.model_dump_json()) == params


def test_fast_is_the_default() -> None:
    assert Params() == Params(preset="fast")


def test_steps_and_epochs_stand_for_one_another() -> None:
    assert Params(preset="paper", steps=100).epochs is None
    assert Params(epochs=2).steps is None
    with pytest.raises(ValidationError, match="either steps or epochs"):
        Params(steps=3, epochs=2)


@pytest.mark.parametrize("preset", [3, ["paper"], "no-such"])
def test_unknown_presets_are_refused(preset: object) -> None:
    with pytest.raises(ValidationError, match="preset"):
        Params.model_validate({"preset": preset})


@pytest.mark.parametrize("given", [{"penalty": 0.1}, {"smoothing": 1.0}, {"loss": "wasserstein"}])
def test_what_only_convolutions_can_do_is_refused_with_templates(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="pass -p preset=convolutions"):
        Params(**given)
    assert Params(preset="convolutions", **given).discriminator == "convolutions"


def test_the_study_s_lengths_and_rates() -> None:
    """41,000 images in two halves, batch 8, four discriminator steps: the numbers that the paper's settings come to."""
    paper = Schedule(Params(preset="paper"), 20_500, 184)
    assert paper.images_per_step == 32
    assert paper.steps * paper.images_per_step == pytest.approx(40 * 20_500, rel=1e-4)
    assert paper.rate(640, 0.0) == 1.0
    assert paper.rate(641, 0.9) == pytest.approx(0.99)
    assert paper.rate(paper.steps - 1, 0.0) == pytest.approx(0.99**39)
    assert paper.width(100) == 0
    experimental = Schedule(Params(preset="paper-experimental"), 20_500, 184)
    assert experimental.steps == pytest.approx(paper.steps * 15 / 40, rel=1e-3)
    assert experimental.rate(1282, 0.0) == pytest.approx(0.92**2)
    assert experimental.width(0) == 2
    assert experimental.width(1281) == pytest.approx(2 * 0.98**2, rel=1e-3)
    assert Schedule(Params(preset="paper-ribosome"), 20_500, 184).steps == pytest.approx(paper.steps / 2, rel=1e-3)


def test_a_budget_brings_learning_rates_down_sooner() -> None:
    schedule = Schedule(Params(steps=1000, final_rate=0.01, coarsest=None), 100, 32)
    assert schedule.rate(500, 0.0) == pytest.approx(0.1)
    assert schedule.rate(10, 0.5) == pytest.approx(0.1)
    assert schedule.rate(1000, 0.0) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("box", "coarsest", "expected"),
    [
        (64, 32, [32, 64]),
        (184, 32, [46, 92, 184]),
        (180, 32, [44, 90, 180]),
        (256, 32, [32, 64, 128, 256]),
        (65, 32, [32, 65]),
        (66, 33, [66]),  # 33 would be odd, and 32 is too small
        (63, 32, [63]),
        (16, 8, [8, 16]),
        (184, None, [184]),
    ],
)
def test_boxes_go_from_coarse_to_fine(box: int, coarsest: int | None, expected: list[int]) -> None:
    assert Schedule(Params(coarsest=coarsest), 100, box).boxes == expected


def test_a_box_ends_at_its_share_of_the_next_one_s_end() -> None:
    schedule = Schedule(Params(coarsest=32, coarse_share=0.25, steps=1000), 100, 184)
    found = [schedule.box_at(progress) for progress in (0.0, 0.0624, 0.0625, 0.2499, 0.25, 1.0)]
    assert found == [46, 46, 92, 92, 184, 184]
    whole = Schedule(Params(coarsest=None), 100, 184)
    assert [whole.box_at(progress) for progress in (0.0, 1.0)] == [184, 184]


def test_progress_is_of_steps_or_of_the_budget() -> None:
    schedule = Schedule(Params(steps=1000, coarsest=None), 100, 32)
    assert schedule.progress(250, 0.0) == 0.25
    assert schedule.progress(250, 0.75) == 0.75
    assert schedule.progress(1100, 0.0) == 1


def test_what_is_left_is_counted_in_steps_of_the_box_at_hand() -> None:
    schedule = Schedule(Params(steps=1000, coarsest=32, coarse_share=0.25), 100, 64)
    # 250 of the 500 small steps, then 500 of three times the cost
    assert schedule.left(250) == pytest.approx(250 + 3 * 500)
    assert schedule.left(600) == pytest.approx(400)
    assert schedule.left(1000) == 0


def test_snapshots_are_due_by_steps_or_by_the_budget() -> None:
    schedule = Schedule(Params(steps=1600, snapshots=4), 100, 32)
    assert [schedule.due(step, 0.0) for step in (0, 99, 100, 400, 899, 900, 1600)] == [0, 0, 1, 2, 2, 3, 4]
    assert [schedule.due(100, spent) for spent in (0.0, 0.24, 0.25, 0.6, 1.0)] == [1, 1, 2, 3, 4]


def test_all_boxes_have_the_same_number_of_steps() -> None:
    schedule = Schedule(Params(steps=1000, coarsest=16, coarse_share=0.5), 100, 64)
    progress = [schedule.progress(step, 0.0) for step in range(1001)]
    assert [schedule.box_at(p) for p in progress].count(16) == pytest.approx(1000 / 3, abs=1)
    assert [schedule.box_at(p) for p in progress].count(32) == pytest.approx(1000 / 3, abs=1)
    assert progress == sorted(progress)
    assert progress[500] == pytest.approx(0.375)  # half way from a quarter to a half


@pytest.mark.parametrize("preset", STUDY)
def test_the_study_trains_at_one_box(preset: str) -> None:
    assert Schedule(Params(preset=preset), 20_500, 184).boxes == [184]


def test_shuffled_batches_take_every_image_once_a_pass() -> None:
    order = Order(seed=3, images=10, batch=4, shuffle=True)
    drawn = torch.cat([order(number) for number in range(5)])
    assert sorted(drawn[:10].tolist()) == sorted(drawn[10:].tolist()) == list(range(10))
    assert drawn[:10].tolist() != drawn[10:].tolist()
    assert torch.equal(order(1), Order(3, 10, 4, True)(1))


def test_independent_batches_are_functions_of_their_number() -> None:
    order = Order(seed=3, images=1000, batch=64, shuffle=False)
    assert torch.equal(order(5), Order(3, 1000, 64, False)(5))
    assert not torch.equal(order(5), order(6))
    assert not torch.equal(order(5), Order(4, 1000, 64, False)(5))


def first_weights(directory: Path, half: int, seed: int, **given: object) -> torch.Tensor:
    """Of the discriminator, before training."""

    class Run:
        device = torch.device("cpu")

    Run.seed = seed
    observed = Observed(open_store(directory / "observed.zarr", "observed"), half)
    trainer = Trainer(observed, Params.model_validate({"templates": 4, "channels": 2, **given}), Run())
    return torch.cat([p.detach().flatten() for p in trainer.state.network.parameters()])


def test_halves_share_a_discriminator_s_first_weights_only_when_told_to(tiny_directory: Path) -> None:
    shared = [first_weights(tiny_directory, half, half, preset="paper", steps=1) for half in (1, 2)]
    assert torch.equal(*shared)
    apart = [first_weights(tiny_directory, half, half) for half in (1, 2)]
    assert not torch.equal(*apart)


@pytest.mark.parametrize("preset", STUDY)
def test_presets_run_and_are_stored_resolved(preset: str, tiny_directory: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_directory / "observed.zarr", tmp_path / "observed.zarr")
    given = {"preset": preset, "steps": 2, "channels": 4}
    path = reconstruct(tmp_path, "cryogan", given, device="cpu", workers=1)
    root = zarr.open_group(path, mode="r")
    assert root.attrs["params"] == Params.model_validate(given).model_dump(mode="json")
    assert root.attrs["params"]["learning_rate_volume"] == 1e-3
    float32, unpaired = root["half1"].attrs["notes"]
    assert "float32" in float32
    assert "not paired" in unpaired  # the tiny dataset's noise is generated
