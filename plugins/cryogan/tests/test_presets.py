from __future__ import annotations

import shutil
from pathlib import Path

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


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_single_parameters_go_over_a_preset_and_the_whole_survives_json(preset: str) -> None:
    params = Params.model_validate({"preset": preset, "batch": 5, "penalty": 0.25})
    assert (params.preset, params.batch, params.penalty) == (preset, 5, 0.25)
    for name, value in PRESETS[preset].items():
        if name not in ("batch", "penalty"):
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


def test_the_study_s_lengths_and_rates() -> None:
    """41,000 images in two halves, batch 8, four discriminator steps: the numbers that the paper's settings come to."""
    paper = Schedule(Params(preset="paper"), 20_500)
    assert paper.images_per_step == 32
    assert paper.steps * paper.images_per_step == pytest.approx(40 * 20_500, rel=1e-4)
    assert paper.rate(640, 0.0) == 1.0
    assert paper.rate(641, 0.9) == pytest.approx(0.99)
    assert paper.rate(paper.steps - 1, 0.0) == pytest.approx(0.99**39)
    assert paper.width(100) == 0
    experimental = Schedule(Params(preset="paper-experimental"), 20_500)
    assert experimental.steps == pytest.approx(paper.steps * 15 / 40, rel=1e-3)
    assert experimental.rate(1282, 0.0) == pytest.approx(0.92**2)
    assert experimental.width(0) == 2
    assert experimental.width(1281) == pytest.approx(2 * 0.98**2, rel=1e-3)
    assert Schedule(Params(preset="paper-ribosome"), 20_500).steps == pytest.approx(paper.steps / 2, rel=1e-3)


def test_a_budget_brings_learning_rates_down_sooner() -> None:
    schedule = Schedule(Params(steps=1000, final_rate=0.01), 100)
    assert schedule.rate(500, 0.0) == pytest.approx(0.1)
    assert schedule.rate(10, 0.5) == pytest.approx(0.1)
    assert schedule.rate(1000, 0.0) == pytest.approx(0.01)


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
    trainer = Trainer(observed, Params.model_validate({"channels": 2, **given}), Run())
    return torch.cat([p.detach().flatten() for p in trainer.state.network.parameters()])


def test_halves_share_a_discriminator_s_first_weights_only_when_told_to(tiny_directory: Path) -> None:
    shared = [first_weights(tiny_directory, half, half, preset="paper", steps=1) for half in (1, 2)]
    assert torch.equal(*shared)
    apart = [first_weights(tiny_directory, half, half) for half in (1, 2)]
    assert not torch.equal(*apart)


@pytest.mark.parametrize("preset", sorted(set(PRESETS) - {"fast"}))
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
