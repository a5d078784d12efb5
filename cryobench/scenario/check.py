"""Which assumptions of the CryoGAN paper's Theorem 1 a scenario keeps, with the numbers.

Theorem 1 (Gupta, McCann, Donati and Unser, "CryoGAN: a new reconstruction paradigm for single-particle cryo-EM via deep
adversarial learning", IEEE Trans. Computational Imaging 7, 2021): if the simulated images of a density have the distribution of
the data, the density is the true one up to a rotation and a reflection, given noise whose spectrum vanishes nowhere, CTFs without
a common zero, non-negative densities of bounded support, and known, bounded priors of pose, shift and CTF. It speaks of
distributions: how many images it takes to tell two of them apart at this SNR it does not say.
"""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from cryobench.errors import CryobenchError
from cryobench.physics.grids import radius
from cryobench.physics.noise import radial_power
from cryobench.physics.zeros import find_common_zero
from cryobench.scenario.check_priors import check_assumed, check_pose, check_shift, shift_reach
from cryobench.scenario.ctf_spec import NoCTF
from cryobench.scenario.finding import Finding
from cryobench.scenario.micrographs import describe_micrographs, detector_of, draw_micrographs
from cryobench.scenario.noise import noise_sources
from cryobench.scenario.spec import Scenario
from cryobench.specimens.base import Specimen
from cryobench.specimens.catalogue import find

NOISE_IMAGES: Final = 64
VANISHING: Final = 1e-6
"""Below this share of the mean, noise power counts as none."""
LARGEST_BOX: Final = 128
"""The density is looked at in the native box, or in this one over the same field of view."""
NEGATIVE_SHARE: Final = 0.01
SUPPORT: Final = 0.01
"""Where the density is above this share of its highest is its support."""


def check_scenario(scenario: Scenario, seed: int = 0) -> list[Finding]:
    """Every assumption of the theorem, in its order.

    Args:
        scenario: to be checked.
        seed: of its micrographs and noise, which are measured.

    Raises:
        InputError: if a file that the scenario names cannot be used. A specimen that cannot be had is told as not checked.
    """
    try:
        specimen = find(scenario.specimen)
    except CryobenchError as error:
        of_specimen = [Finding("density", "not checked", str(error)), check_assumed(scenario, None)]
    else:
        of_specimen = [*_density(scenario, specimen), check_assumed(scenario, specimen)]
    return [_noise(scenario, seed), _ctf(scenario, seed), *of_specimen, check_pose(scenario), check_shift(scenario)]


def describe_conditions(scenario: Scenario) -> list[tuple[str, str]]:
    """What else decides how hard a scenario is: names and numbers."""
    spec = scenario.image
    _, note = noise_sources(scenario)
    snr = scenario.noise.snr_db
    rows = [
        ("SNR", "no noise" if snr == math.inf else f"{snr:g} dB at the native pixel of {spec.native_pixel_size:g} Å"),
        (
            "images",
            f"{scenario.particles} of {spec.box} px of {spec.voxel_size:.4g} Å; Nyquist {2 * spec.voxel_size:.4g} Å",
        ),
        ("noise", "none" if snr == math.inf else note),
        ("CTF", describe_micrographs(scenario.ctf)),
    ]
    detector = detector_of(scenario.ctf, spec.native_pixel_size)
    if detector is not None:
        passed = float(detector.at(torch.tensor(0.5 / spec.voxel_size)))
        rows.append(("detector", f"passes {passed:.2f} of the amplitude at the Nyquist frequency"))
    return rows


def _noise(scenario: Scenario, seed: int) -> Finding:
    what = "noise power vanishes nowhere"
    if scenario.noise.snr_db == math.inf:
        return Finding(what, "fails", "there is no noise")
    source, box = noise_sources(scenario)[0]["noise"], scenario.image.box
    power = radial_power(source.draw(seed, "noise", 0, NOISE_IMAGES, box))[1 : (box + 1) // 2]
    low, high = float(power.min() / power.mean()), float(power.max() / power.mean())
    numbers = f"{low:.3g} to {high:.3g} of its mean in the shells inside the Nyquist disc, of {NOISE_IMAGES} images"
    return Finding(what, "holds" if low > VANISHING else "fails", numbers)


def _ctf(scenario: Scenario, seed: int) -> Finding:
    what = "no frequency where all CTFs vanish"
    spec = scenario.image
    detector = detector_of(scenario.ctf, spec.native_pixel_size)
    table = draw_micrographs(scenario.ctf, seed)
    lowest, where, common, used = find_common_zero(table, detector, spec.box, spec.voxel_size)
    at = "at zero frequency" if where == 0 else f"at {1 / where:.3g} Å"
    of = "no CTF" if isinstance(scenario.ctf, NoCTF) else f"{used} of {len(table)} CTFs"
    numbers = f"the strongest |CTF|² is at least {lowest:.2g} ({at}; {of})"
    if common is not None:
        numbers = f"all CTFs change sign at {1 / common:.3g} Å ({of})"
    return Finding(what, "holds" if common is None and lowest > VANISHING else "fails", numbers)


def _density(scenario: Scenario, specimen: Specimen) -> list[Finding]:
    spec = scenario.image
    box = min(spec.native_box, LARGEST_BOX)
    voxel_size = scenario.field_of_view / box
    try:
        volume = specimen.density(box, voxel_size)
    except CryobenchError as error:
        return [Finding("density", "not checked", str(error))]
    smooth = _smoothed(volume)
    ringing, negative = _negative_share(volume), _negative_share(smooth)
    support = _support_radius(smooth) * voxel_size
    half, reach = scenario.field_of_view / 2, shift_reach(scenario.shift.prior(scenario.field_of_view))
    shifted = f"; shifted by up to {reach:.0f} Å it reaches {support + reach:.0f} Å" if reach else ""
    leaves = ", past the edge, where it wraps around" if support <= half < support + reach else ""
    return [
        Finding(
            "density not negative",
            "holds" if negative < NEGATIVE_SHARE else "fails",
            f"{negative:.2%} of the density is negative once it is smoothed to {6 * voxel_size:.3g} Å; {ringing:.2%} "
            f"before, where a density band-limited at {2 * voxel_size:.3g} Å rings",
        ),
        Finding(
            "density of bounded support",
            "holds" if support <= half else "fails",
            f"within {support:.0f} Å of the centre (where it is above {SUPPORT:.0%} of its highest), the image ends at "
            f"{half:.0f} Å{shifted}{leaves}",
        ),
    ]


def _smoothed(volume: Tensor) -> Tensor:
    """A Gaussian low-pass whose standard deviation is a third of the Nyquist frequency, which leaves no ringing."""
    n = volume.shape[-1]
    across, half = torch.fft.fftfreq(n), torch.fft.rfftfreq(n)
    squared = across[:, None, None] ** 2 + across[None, :, None] ** 2 + half**2
    return torch.fft.irfftn(torch.fft.rfftn(volume) * torch.exp(-squared / (2 * (0.5 / 3) ** 2)), s=volume.shape)


def _negative_share(volume: Tensor) -> float:
    return float(-volume.clamp(max=0).sum() / volume.abs().sum())


def _support_radius(volume: Tensor) -> float:
    """Radius in voxels beyond which the density is nowhere above :data:`SUPPORT` of its highest."""
    return float(radius(len(volume), 3, volume)[volume.abs() > SUPPORT * volume.abs().max()].max())
