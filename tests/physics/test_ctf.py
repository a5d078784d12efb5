"""The contrast transfer function: known values and symmetries."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cryobench.physics.ctf import ContrastTransfer, electron_wavelength
from cryobench.physics.fourier import crop_spectra
from cryobench.physics.grids import half_frequencies, inside_nyquist

BOX, PIXEL = 32, 3.66


def draw(seed: int, count: int = 3, dtype: torch.dtype = torch.float64) -> ContrastTransfer:
    u = torch.rand(8, count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
    return ContrastTransfer(
        defocus_u=8e3 + 2e4 * u[0],
        defocus_v=8e3 + 2e4 * u[1],
        defocus_angle=6 * (u[2] - 0.5),
        voltage=100 + 200 * u[3],
        spherical_aberration=2.7 * u[4],
        amplitude_contrast=0.3 * u[5],
        phase_shift=2 * u[6],
        b_factor=200 * u[7],
    )


def close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_wavelengths(dtype: torch.dtype) -> None:
    """Textbook values; in single precision too, where the constants in SI units would underflow."""
    found = electron_wavelength(torch.tensor([80.0, 100, 200, 300], dtype=dtype))
    assert found.dtype == dtype
    assert found.tolist() == pytest.approx([0.04176, 0.03701, 0.02508, 0.01969], abs=1e-5)


@given(seed=st.integers(0, 2**32 - 1))
def test_value_at_the_origin_is_the_amplitude_contrast(seed: int) -> None:
    ctf = replace(draw(seed), phase_shift=torch.zeros(3, dtype=torch.float64))
    assert close(ctf.evaluate(BOX, PIXEL)[:, 0, 0], ctf.amplitude_contrast)


def test_underfocus_adds_to_the_amplitude_contrast() -> None:
    """Protein is bright: the first lobe of an underfocused image is positive."""
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    ctf = ContrastTransfer(15e3 * one, 15e3 * one, zero, 300 * one, 2.7 * one, 0.1 * one, zero, zero)
    profile = ctf.evaluate(256, PIXEL)[0, 0]
    first_negative = int((profile < 0).nonzero()[0])
    rising = profile[: int(profile[:first_negative].argmax()) + 1]
    assert (rising.diff() > 0).all()
    assert rising[-1] > 0.99
    # chi + asin(Q) = pi at the first zero, by hand: lambda df s^2 = 1 - asin(0.1) / pi, Cs being small there
    s = math.sqrt((1 - math.asin(0.1) / math.pi) / (0.019687 * 15e3))
    assert first_negative == pytest.approx(s * 256 * PIXEL, abs=1)


@given(seed=st.integers(0, 2**32 - 1), turns=st.integers(-3, 3))
def test_astigmatism_has_the_symmetries_of_an_ellipse(seed: int, turns: int) -> None:
    ctf = draw(seed)
    plain = ctf.evaluate(BOX, PIXEL)
    assert close(replace(ctf, defocus_angle=ctf.defocus_angle + turns * math.pi).evaluate(BOX, PIXEL), plain)
    swapped = replace(
        ctf, defocus_u=ctf.defocus_v, defocus_v=ctf.defocus_u, defocus_angle=ctf.defocus_angle + math.pi / 2
    )
    assert close(swapped.evaluate(BOX, PIXEL), plain)
    round_ = replace(ctf, defocus_v=ctf.defocus_u)
    assert close(replace(round_, defocus_angle=ctf.defocus_angle + 1).evaluate(BOX, PIXEL), round_.evaluate(BOX, PIXEL))


def test_the_defocus_angle_turns_from_x_towards_y() -> None:
    """Along the direction of ``defocus_angle`` the defocus is ``defocus_u``, across it ``defocus_v``."""
    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)

    def value(u: float, v: float, angle: float, ky: int, kx: int) -> float:
        ctf = ContrastTransfer(u * one, v * one, angle * one, 300 * one, 2.7 * one, 0.1 * one, zero, zero)
        return ctf.evaluate(BOX, PIXEL)[0, ky, kx].item()

    for u, v, angle, along, across in (
        (2e4, 1e4, 0.0, (0, 6), (6, 0)),
        (2e4, 1e4, math.pi / 4, (6, 6), (-6, 6)),
        (2e4, 1e4, -math.pi / 4, (-6, 6), (6, 6)),
    ):
        assert value(u, v, angle, *along) == pytest.approx(value(u, u, 0.0, *along), abs=1e-9)
        assert value(u, v, angle, *across) == pytest.approx(value(v, v, 0.0, *across), abs=1e-9)


@given(seed=st.integers(0, 2**32 - 1))
def test_the_envelope_is_that_of_the_b_factor(seed: int) -> None:
    ctf = draw(seed)
    bare = replace(ctf, b_factor=torch.zeros(3, dtype=torch.float64)).evaluate(BOX, PIXEL)
    kx, ky = half_frequencies(BOX, bare)
    s2 = (kx**2 + ky**2) / (BOX * PIXEL) ** 2
    assert close(ctf.evaluate(BOX, PIXEL), bare * torch.exp(-ctf.b_factor[:, None, None] * s2 / 4))
    assert (bare.abs() <= 1).all()


@given(seed=st.integers(0, 2**32 - 1))
def test_a_phase_plate_of_a_quarter_wave_turns_sine_into_cosine(seed: int) -> None:
    ctf = draw(seed)
    square = ctf.evaluate(BOX, PIXEL) ** 2
    plate = replace(ctf, phase_shift=ctf.phase_shift + math.pi / 2).evaluate(BOX, PIXEL) ** 2
    kx, ky = half_frequencies(BOX, square)
    envelope = torch.exp(-ctf.b_factor[:, None, None] * (kx**2 + ky**2) / (BOX * PIXEL) ** 2 / 2)
    assert close(square + plate, envelope)


@given(seed=st.integers(0, 2**32 - 1))
def test_a_coarser_pixel_sees_the_low_frequencies_of_a_finer_one(seed: int) -> None:
    ctf, small = draw(seed), 20
    coarse = ctf.evaluate(small, PIXEL * BOX / small)
    cropped = crop_spectra(ctf.evaluate(BOX, PIXEL).to(torch.complex128), small).real * (BOX / small) ** 2
    assert close(cropped, coarse * inside_nyquist(small, coarse))


def test_tables_batches_and_dtypes(device: torch.device) -> None:
    ctf = draw(0, 4)
    assert ContrastTransfer.names()[:3] == ("defocus_u", "defocus_v", "defocus_angle")
    again = ContrastTransfer.stack({name: getattr(ctf, name) for name in ContrastTransfer.names()})
    assert len(again) == 4
    assert close(again[1:3].evaluate(BOX, PIXEL), ctf.evaluate(BOX, PIXEL)[1:3])
    assert close(again[torch.tensor([3, 0])].evaluate(BOX, PIXEL), ctf.evaluate(BOX, PIXEL)[[3, 0]])
    single = ctf.to(torch.zeros(1, dtype=torch.float32, device=device)).evaluate(BOX, PIXEL)
    assert single.dtype == torch.float32
    assert single.device.type == device.type
    assert (single.cpu() - ctf.evaluate(BOX, PIXEL)).abs().max() < 1e-4
    grid = ContrastTransfer(**{name: getattr(ctf, name).reshape(2, 2) for name in ContrastTransfer.names()})
    assert torch.equal(grid.evaluate(BOX, PIXEL).reshape(4, BOX, BOX // 2 + 1), ctf.evaluate(BOX, PIXEL))
