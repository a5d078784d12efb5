"""Back projection keeps the contract, and comes close to the truth as far as the noise allows."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cryobench.dataset.store import open_predicted, open_store
from cryobench.errors import Declined
from cryobench.evaluate.fsc import fsc
from cryobench.physics.fourier import fourier_crop_volumes
from cryobench.reconstruct.run import reconstruct
from cryobench.testing.conformance import ReconstructorTests
from cryobench.testing.tiny import tiny_run


class TestContract(ReconstructorTests):
    method = "backproject"
    params = {"batch": 12}  # noqa: RUF012


def half_maps(directory: Path, **params: object) -> tuple[Tensor, Tensor]:
    reconstruct(directory, "backproject", params, device="cpu", overwrite=True, workers=1)
    _, halves = open_predicted(directory / "predicted.zarr")
    first, second = (torch.as_tensor(halves[half]["volume"].values) for half in (1, 2))
    return first, second


def truth_of(directory: Path, box: int) -> Tensor:
    return fourier_crop_volumes(torch.as_tensor(open_store(directory / "truth.zarr", "truth")["volume"].values), box)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.mktemp("noisy"), particles=400, snr_db=-15.0)


@pytest.mark.parametrize("box", [24, 23])
def test_without_noise_it_finds_the_truth(tmp_path: Path, box: int) -> None:
    directory = tiny_run(tmp_path, particles=400, snr_db=math.inf, box=box)
    truth = truth_of(directory, box)
    for volume in half_maps(directory):
        curve = fsc(volume, truth)
        assert curve.min() > 0.95
        assert curve[1 : 3 * box // 8].min() > 0.99
        scale = (volume * truth).sum() / truth.square().sum()
        assert scale == pytest.approx(1, abs=0.05)


def test_beneath_the_noise_it_comes_close_to_the_nyquist_limit(tmp_path: Path) -> None:
    directory = tiny_run(tmp_path, particles=2000, snr_db=-12.0)
    first, second = half_maps(directory)
    truth = truth_of(directory, 16)
    assert fsc((first + second) / 2, truth)[1:7].min() > 0.5
    # the half-sets share no noise: their correlation foretells that of their mean with the truth (Rosenthal & Henderson 2003)
    half = fsc(first, second).clamp(min=0)
    foretold = (2 * half / (1 + half)).sqrt()
    assert (foretold - fsc((first + second) / 2, truth))[1:7].abs().max() < 0.12


def test_symmetry_helps_and_is_imposed(noisy: Path) -> None:
    truth = truth_of(noisy, 16)
    asymmetric, _ = half_maps(noisy, symmetrise=False)
    symmetric, _ = half_maps(noisy)
    assert fsc(symmetric, truth)[1:7].mean() > fsc(asymmetric, truth)[1:7].mean() + 0.03
    turned = symmetric[:, 1:, 1:].flip(1, 2)  # by half a turn about z, the first of the two-fold axes
    torch.testing.assert_close(turned, symmetric[:, 1:, 1:], rtol=0, atol=1e-4 * float(symmetric.abs().max()))


def test_the_wiener_term_holds_noise_down(noisy: Path) -> None:
    truth = truth_of(noisy, 16)
    errors = [
        float((half_maps(noisy, wiener=weight)[0] - truth).square().mean() / truth.square().mean())
        for weight in (1e-3, 1.0, 1e3)
    ]
    assert errors[1] < errors[0]
    assert errors[1] < errors[2]
    assert errors[1] < 1


def test_batches_of_any_size_give_the_same_volume_but_for_rounding(plain: Path) -> None:
    one, _ = half_maps(plain, batch=1000)
    many, _ = half_maps(plain, batch=7)
    torch.testing.assert_close(many, one, rtol=0, atol=1e-4 * float(one.abs().max()))


def test_keeps_snapshots_with_the_images_behind_them(plain: Path) -> None:
    first, _ = half_maps(plain, batch=12)
    _, halves = open_predicted(plain / "predicted.zarr")
    assert halves[1]["snapshot_images_seen"].values.tolist() == [12, 24, 48, 96]
    torch.testing.assert_close(torch.as_tensor(halves[1]["snapshots"].values[-1]), first)


def test_example_images_resemble_the_data(tmp_path: Path) -> None:
    directory = tiny_run(tmp_path, snr_db=20.0)
    half_maps(directory)
    _, halves = open_predicted(directory / "predicted.zarr")
    simulated = torch.as_tensor(halves[1]["example_images"].values)
    observed = open_store(directory / "observed.zarr", "observed")
    real = torch.as_tensor(observed["images"].values[observed["half"].values == 1][: len(simulated)])
    for a, b in zip(simulated, real, strict=True):
        assert torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1] > 0.95


def test_declines_where_there_are_no_poses(tmp_path: Path) -> None:
    directory = tiny_run(tmp_path)
    (directory / "truth.zarr").rename(tmp_path / "away.zarr")
    with pytest.raises(Declined, match="needs poses"):
        reconstruct(directory, "backproject")
