"""The contrast transfer function held against torch-ctf (teamtomo)."""

from __future__ import annotations

import math

import pytest
import torch
from torch_ctf import calculate_ctf_2d

from cryobench.physics.ctf import ContrastTransfer

COUNT = 12


def draw() -> ContrastTransfer:
    """Astigmatic CTFs of several microscopes, phase plates included, with no envelope."""
    u = torch.rand(6, COUNT, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return ContrastTransfer(
        defocus_u=8e3 + 17e3 * u[0],
        defocus_v=4e3 + 17e3 * u[0] + 4e3 * u[1],  # below defocus_u: torch-ctf takes a square root of the difference
        defocus_angle=2 * math.pi * (u[2] - 0.5),
        voltage=torch.tensor([100.0, 200, 300], dtype=torch.float64).repeat(COUNT // 3),
        spherical_aberration=2.7 * u[3],
        amplitude_contrast=0.3 * u[4],
        phase_shift=math.pi / 2 * u[5],
        b_factor=torch.zeros(COUNT, dtype=torch.float64),
    )


@pytest.mark.parametrize(("box", "pixel_size"), [(64, 3.66), (63, 3.66), (128, 1.274), (33, 7.33)])
def test_agrees_with_torch_ctf(box: int, pixel_size: float) -> None:
    """To 1e-3 of a CTF (measured: 4e-5 at 3.66 and 2e-4 at 1.274 angstrom; torch-ctf computes in float32).

    Conventions: both turn angles from x towards y (whatever the other's docstring says) and count underfocus positive; theirs are
    micrometres, degrees, a mean and half a difference of defocus, and minus the sine of minus our phase.
    """
    ctf = draw()
    theirs = calculate_ctf_2d(
        defocus=(ctf.defocus_u + ctf.defocus_v) / 2 * 1e-4,
        astigmatism=(ctf.defocus_u - ctf.defocus_v) / 2 * 1e-4,
        astigmatism_angle=ctf.defocus_angle.rad2deg(),
        voltage=ctf.voltage,
        spherical_aberration=ctf.spherical_aberration,
        amplitude_contrast=ctf.amplitude_contrast,
        phase_shift=ctf.phase_shift.rad2deg(),
        pixel_size=pixel_size,
        image_shape=(box, box),
        rfft=True,
        fftshift=False,
    )
    ours = ctf.evaluate(box, pixel_size)
    assert theirs.shape == ours.shape
    assert (theirs - ours).abs().max() <= 1e-3
    assert (ours.amax((-2, -1)) > 0.9).all()
    assert (ours.amin((-2, -1)) < -0.9).all()
