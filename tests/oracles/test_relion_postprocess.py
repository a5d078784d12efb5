"""Curves, correction for the mask and resolution held against ``relion_postprocess`` on the same half-maps."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import starfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryobench.evaluate.correction import correct_for_mask
from cryobench.evaluate.filters import filter_volume
from cryobench.evaluate.fsc import fsc, resolution
from cryobench.evaluate.masks import make_specimen_mask
from cryobench.interop.mrc import write_map
from cryobench.specimens.atoms import AtomicModel

FIELD = 184 * 1.274
COLUMNS = {
    "unmasked": "rlnFourierShellCorrelationUnmaskedMaps",
    "masked": "rlnFourierShellCorrelationMaskedMaps",
    "randomised": "rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps",
    "corrected": "rlnFourierShellCorrelationCorrected",
}


@dataclass(frozen=True)
class Compared:
    """Half-maps and their mask, and what RELION makes of them."""

    first: Tensor
    second: Tensor
    mask: Tensor
    voxel_size: float
    curves: dict[str, NDArray[np.float64]]
    randomised_from: float
    resolution: float


def noisy(truth: Tensor, seed: int, shell: int) -> Tensor:
    """With white noise, as strong in that shell as the specimen is."""
    box = truth.shape[-1]
    k = torch.fft.fftfreq(box, 1 / box, dtype=torch.float64)
    radii = (k[:, None, None] ** 2 + k[:, None] ** 2 + k**2).sqrt().round()
    deviation = (torch.fft.fftn(truth).abs()[radii == shell].square().mean() / box**3).sqrt()
    draws = torch.randn(truth.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (truth + deviation * draws).float()


@pytest.fixture(scope="module", params=[(64, 1.0, 15, 20), (65, 1.5, 12, 10)], ids=["even", "odd"])
def compared(
    request: pytest.FixtureRequest,
    program: Callable[[str], Path],
    data_directory: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Compared:
    """5A1A, blurred as real maps are, in noise, under the mask that an evaluation would give it.

    The random phases of either program move the corrected curve: where it lies flat by up to two shells, here by less than one.
    """
    executable, directory = program("relion_postprocess"), tmp_path_factory.mktemp("relion")
    box, blur, shell, seed = request.param
    voxel_size = FIELD / box
    model = AtomicModel("5A1A", data_directory / "models/5a1a.cif.gz", symmetry="D2")
    truth = filter_volume(model.density(box, voxel_size).double(), blur)
    first, second = (noisy(truth, seed + i, shell) for i in (1, 2))
    mask = make_specimen_mask(truth, voxel_size).float()
    for name, volume in {"half1": first, "half2": second, "mask": mask}.items():
        write_map(directory / f"{name}.mrc", volume, voxel_size)
    (directory / "out").mkdir()
    command = [str(executable), "--i", "half1.mrc", "--i2", "half2.mrc", "--mask", "mask.mrc", "--force_mask"]
    done = subprocess.run(
        [*command, "--o", "out", "--angpix", str(voxel_size)],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    tables = starfile.read(directory / "out.star")
    return Compared(
        first,
        second,
        mask,
        voxel_size,
        {name: tables["fsc"][column].to_numpy() for name, column in COLUMNS.items()},
        float(tables["general"]["rlnRandomiseFrom"]),
        float(tables["general"]["rlnFinalResolution"]),
    )


def test_the_unmasked_curve_is_relions_at_every_shell(compared: Compared) -> None:
    """To 1e-3 (measured: 5e-6; it prints six digits)."""
    found = fsc(compared.first, compared.second).numpy()
    assert len(found) == len(compared.curves["unmasked"])
    np.testing.assert_allclose(found, compared.curves["unmasked"], rtol=0, atol=2e-5)


def test_the_masked_curve_is_relions_at_every_shell(compared: Compared) -> None:
    found = correct_for_mask(compared.first, compared.second, compared.mask).masked.numpy()
    np.testing.assert_allclose(found, compared.curves["masked"], rtol=0, atol=2e-5)


def test_phases_are_randomised_from_the_same_shell_and_correlate_as_much(compared: Compared) -> None:
    """Other random numbers: shell by shell they scatter, on average they do not."""
    found = correct_for_mask(compared.first, compared.second, compared.mask)
    box = compared.first.shape[-1]
    assert found.randomised_from is not None
    assert box * compared.voxel_size / found.randomised_from == pytest.approx(compared.randomised_from, rel=1e-3)
    np.testing.assert_allclose(
        found.masked[: found.randomised_from + 2], compared.curves["corrected"][: found.randomised_from + 2], atol=2e-5
    )
    after = slice(found.randomised_from + 2, None)
    difference = (found.randomised.numpy() - compared.curves["randomised"])[after]
    assert abs(float(difference.mean())) < 0.05
    assert np.abs(difference).max() < 0.2


def test_the_corrected_resolution_is_within_a_shell_of_relions(compared: Compared) -> None:
    """RELION states the last shell before the corrected curve first falls below 0.143, and does not interpolate."""
    found = correct_for_mask(compared.first, compared.second, compared.mask)
    box = compared.first.shape[-1]
    ours = resolution(found.corrected, 0.143, box, compared.voxel_size)
    assert ours.state == "crossed"
    assert ours.value is not None
    shells = [box * compared.voxel_size / value for value in (ours.value, compared.resolution)]
    assert shells[1] < box // 2 - 5
    assert abs(shells[0] - shells[1]) <= 1
