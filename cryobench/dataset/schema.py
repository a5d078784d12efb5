"""What a store is: its variables, their dims, dtypes and units, and how they are chunked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from cryobench.physics.ctf import ContrastTransfer

Kind: TypeAlias = Literal["observed", "truth"]

PARTICLES_PER_CHUNK: Final = 128
PARTICLES_PER_SHARD: Final = 2048
"""One shard is one unit of work: what a worker computes, and what a killed run may lose."""

SHAPE_OF_CTF_UNITS: Final = {
    "defocus_u": "angstrom",
    "defocus_v": "angstrom",
    "defocus_angle": "radian",
    "voltage": "kilovolt",
    "spherical_aberration": "millimetre",
    "amplitude_contrast": "1",
    "phase_shift": "radian",
    "b_factor": "angstrom^2",
}
assert tuple(SHAPE_OF_CTF_UNITS) == ContrastTransfer.names()


@dataclass(frozen=True)
class Variable:
    """One array of a store."""

    dims: tuple[str, ...]
    dtype: str
    units: str
    description: str
    required: bool = True


OBSERVED: Final[dict[str, Variable]] = {
    "images": Variable(("particle", "y", "x"), "float32", "density angstrom", "particle images, protein bright"),
    **{name: Variable(("particle",), "float64", units, "CTF") for name, units in SHAPE_OF_CTF_UNITS.items()},
    "micrograph": Variable(("particle",), "int32", "1", "which micrograph a particle comes from"),
    "half": Variable(("particle",), "int8", "1", "half-set, 1 or 2"),
    "noise_patches": Variable(("patch", "y", "x"), "float32", "as images", "particle-free noise, a pool for each half"),
    "patch_half": Variable(("patch",), "int8", "1", "half-set that may use a patch"),
    "patch_micrograph": Variable(("patch",), "int32", "1", "micrograph of a patch, -1 if generated"),
    "noise_power": Variable(
        ("noise_half", "shell"), "float32", "as images, squared", "mean |F|^2 / box^2 per integer shell, by half"
    ),
    "given_rotation": Variable(
        ("particle", "quaternion"), "float64", "1", "pose that an imported file states (x, y, z, w)", required=False
    ),
    "given_shift": Variable(
        ("particle", "xy"), "float64", "angstrom", "shift that an imported file states", required=False
    ),
}

TRUTH: Final[dict[str, Variable]] = {
    "volume": Variable(("z", "y", "x"), "float32", "density", "the specimen at the native voxel"),
    "rotation": Variable(("particle", "quaternion"), "float64", "1", "pose (x, y, z, w), scalar last"),
    "shift": Variable(("particle", "xy"), "float64", "angstrom", "shift of the content"),
}

SCHEMAS: Final[dict[str, dict[str, Variable]]] = {"observed": OBSERVED, "truth": TRUTH}

REQUIRED_ATTRIBUTES: Final[dict[str, tuple[str, ...]]] = {
    "observed": ("voxel_size", "symmetry", "assumed_pose", "assumed_shift", "contrast", "noise_note"),
    "truth": ("voxel_size", "noise_scale", "clean_signal_variance", "scenario", "seed", "salt"),
}


def chunk_shape(dims: tuple[str, ...], shape: tuple[int, ...], particles: int) -> tuple[int, ...]:
    """Chunk (or shard) shape: ``particles`` along the particle axis of images, whole along every other axis."""
    along = {"particle": particles} if len(dims) == 3 else {}
    return tuple(max(1, along.get(dim, n)) for dim, n in zip(dims, shape, strict=True))
