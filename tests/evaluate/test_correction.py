from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import starfile
import torch
from torch import Tensor

from cryobench.errors import InputError
from cryobench.evaluate.correction import correct_for_mask, randomise_phases
from cryobench.evaluate.fsc import fsc, resolution
from cryobench.evaluate.shells import Shells, spectrum
from cryobench.interop.mrc import write_map
from cryobench.physics.grids import radius, soft_sphere

BOX, VOXEL = 48, 3.0


def noise(seed: int) -> Tensor:
    return torch.randn(BOX, BOX, BOX, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def specimen() -> Tensor:
    """Random density in the middle of the box that loses power with frequency."""
    falloff = torch.fft.ifftshift(torch.exp(-radius(BOX, 3, noise(0)) / 5))
    coloured = torch.fft.ifftn(torch.fft.fftn(noise(0) * soft_sphere(BOX, 12.0, 3.0, noise(0))) * falloff).real
    return 6 * coloured / coloured.std()


MASK = soft_sphere(BOX, 14.0, 5.0, noise(0))


def test_randomised_phases_keep_every_amplitude_and_the_lower_shells() -> None:
    volume = specimen()
    found = randomise_phases(volume, 9, torch.Generator().manual_seed(1))
    before, after = spectrum(volume), spectrum(found)
    torch.testing.assert_close(after.abs(), before.abs())
    kept = Shells(BOX).index.reshape(before.shape) < 9
    torch.testing.assert_close(after[kept], before[kept])
    curve = fsc(volume, found)
    torch.testing.assert_close(curve[:9], torch.ones(9, dtype=torch.float64))
    # n / 2 independent phases, weighed by powers that vary as their mean: 4 standard deviations
    count = Shells(BOX).sum(torch.ones_like(before.real))
    assert (curve[9:].abs() < 4 * (2 / count[9:]).sqrt()).all()


def test_takes_away_what_a_mask_alone_makes_correlate() -> None:
    """Unrelated maps under one tight mask correlate, and not when corrected."""
    level = 4.0  # a solvent level makes the mask's own spectrum part of both maps
    a, b = noise(1) + level, noise(2) + level
    sharp = soft_sphere(BOX, 8.0, 1.0, a)
    found = correct_for_mask(a, b, sharp)
    assert found.randomised_from == 1
    assert found.masked[4:8].mean() > 0.3
    assert found.corrected[4:8].mean() < 0.1


def test_corrected_is_what_the_signal_in_the_mask_promises() -> None:
    """Signal inside the mask, noise all over the box: masking keeps the signal and a known part of the noise."""
    signal = 0.25 * specimen() * MASK
    power = [Shells(BOX).sum(spectrum(v).abs() ** 2) for v in (signal * MASK, noise(5) * MASK)]
    expected = power[0] / (power[0] + power[1])
    found = correct_for_mask(signal + noise(1), signal + noise(2), MASK)
    assert found.randomised_from is not None
    shells = slice(found.randomised_from + 3, 20)
    assert (found.corrected - expected)[shells].abs().max() < 0.12
    assert abs(float((found.corrected - expected)[shells].mean())) < 0.04
    assert (found.unmasked[shells] < expected[shells]).all()
    torch.testing.assert_close(found.corrected[: found.randomised_from + 2], found.masked[: found.randomised_from + 2])


def test_the_correction_is_the_formula() -> None:
    signal = specimen()
    found = correct_for_mask(signal + noise(1), signal + noise(2), MASK)
    assert found.randomised_from is not None
    start = found.randomised_from + 2
    t, n = found.masked[start:], found.randomised[start:]
    torch.testing.assert_close(found.corrected[start:], torch.where(n > t, 0.0, (t - n) / (1 - n)))


def test_equal_maps_need_no_correction() -> None:
    found = correct_for_mask(noise(1), noise(1), MASK)
    assert found.randomised_from is None
    torch.testing.assert_close(found.corrected, torch.ones(BOX // 2 + 1, dtype=torch.float64))


def test_gives_the_same_numbers_again() -> None:
    first, second = (correct_for_mask(specimen() + noise(1), specimen() + noise(2), MASK) for _ in range(2))
    assert torch.equal(first.corrected, second.corrected)


def test_refuses_a_mask_of_another_box() -> None:
    with pytest.raises(InputError, match=r"a mask of shape \(48, 48, 48\)"):
        correct_for_mask(noise(1), noise(2), torch.ones(8, 8, 8))


@pytest.mark.parametrize("seed", [0, 10])
def test_agrees_with_relion_postprocess(tmp_path: Path, program: Callable[[str], Path], seed: int) -> None:
    signal = specimen()
    first, second = ((signal + noise(seed + i)).float() for i in (1, 2))
    for name, volume in {"half1": first, "half2": second, "mask": MASK.float()}.items():
        write_map(tmp_path / f"{name}.mrc", volume, VOXEL)
    (tmp_path / "out").mkdir()
    command = [str(program("relion_postprocess")), "--i", "half1.mrc", "--i2", "half2.mrc", "--mask", "mask.mrc"]
    done = subprocess.run(
        [*command, "--o", "out", "--angpix", str(VOXEL), "--force_mask"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    tables = starfile.read(tmp_path / "out.star")
    theirs = {
        name: tables["fsc"][f"rlnFourierShellCorrelation{column}"].to_numpy()
        for name, column in (("unmasked", "UnmaskedMaps"), ("masked", "MaskedMaps"), ("corrected", "Corrected"))
    }
    mask = MASK.float()
    np.testing.assert_allclose(fsc(first, second, "relion").numpy(), theirs["unmasked"], atol=1e-5)
    np.testing.assert_allclose(fsc(first * mask, second * mask, "relion").numpy(), theirs["masked"], atol=1e-4)
    # counted once each, coefficients give the same up to sampling: the plane that RELION counts twice is 1 / radius of a shell
    plain, shells = fsc(first, second).numpy()[1:-1], np.arange(1, BOX // 2)
    assert (np.abs(plain - theirs["unmasked"][1:-1]) < 4 * (1 - plain**2) / (2 * np.pi * shells**3) ** 0.5 + 1e-3).all()
    found = correct_for_mask(first, second, mask)
    assert found.randomised_from is not None
    assert BOX * VOXEL / found.randomised_from == pytest.approx(tables["general"]["rlnRandomiseFrom"], rel=1e-3)
    # RELION's is the last shell before the curve falls below 0.143
    ours = resolution(found.corrected, 0.143, BOX, VOXEL).value
    assert ours is not None
    relion = BOX * VOXEL / float(tables["general"]["rlnFinalResolution"])
    assert abs(BOX * VOXEL / ours - relion) <= 1.01
    assert np.abs(found.corrected.numpy()[:-1] - theirs["corrected"][:-1]).max() < 0.15
