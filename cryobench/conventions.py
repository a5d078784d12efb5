"""Axes, centre, units and signs: the one place that states them. Every store carries them as attributes.

- Arrays are indexed ``[z, y, x]`` and ``[y, x]``; points, shifts and rotation matrices are in ``(x, y, z)`` order.
- The origin is voxel ``n // 2`` on every axis, for odd and even ``n``.
- Lengths are in angstrom; angles in radians inside, in degrees at the edges (command line, TOML, STAR).
- A pose ``R`` takes specimen coordinates to microscope coordinates and the beam runs along z: a point ``p`` lands at
  ``(R p)[:2] + shift``. Rotations are stored as unit quaternions, scalar last. A shift moves the content:
  ``(S_t y)(x) = y(x - t)``; RELION's origins are the negative of that.
- RELION's ``A(rot, tilt, psi)`` is our ``R``, the transpose of scipy's ``from_euler("ZYZ", [rot, tilt, psi])``.
- CTF: underfocus positive, ``+sin(chi + asin(amplitude_contrast))``, protein bright.
- Forward model ``y = C S P x + n``; ``P`` integrates along the beam in angstrom.
- SNR in dB is power, ``10 log10(var(signal) / var(noise))``, over all pixels of the clean images of the whole dataset
  at the native pixel.
"""

from __future__ import annotations

from typing import Final

CONVENTIONS: Final[dict[str, str]] = {
    "axes": "arrays z,y,x; vectors x,y,z",
    "origin": "voxel n // 2 on every axis",
    "length": "angstrom",
    "angle": "radian",
    "pose": "R takes specimen to microscope coordinates; beam along z; unit quaternion, scalar last",
    "shift": "moves the content: (S_t y)(x) = y(x - t)",
    "ctf": "underfocus positive; +sin(chi + asin(amplitude_contrast)); protein bright",
    "forward_model": "y = C S P x + n",
    "snr": "10 log10(var(signal) / var(noise)), all pixels, whole dataset, native pixel",
}

HALVES: Final = (1, 2)
WHOLE: Final = 0
"""In place of a half's number: all particles as one set, for a map that no half-map figure goes with."""
THRESHOLDS: Final = (0.143, 0.5)


def origin(n: int) -> int:
    """Index of the voxel that holds the origin of an axis of ``n`` voxels."""
    return n // 2
