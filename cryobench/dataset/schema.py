"""What a store is: its variables, their dims, dtypes and units, and how they are chunked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from cryobench.physics.ctf import ContrastTransfer

Kind: TypeAlias = Literal["observed", "truth", "noise"]

PARTICLES_PER_CHUNK: Final = 128
PARTICLES_PER_SHARD: Final = 2048
"""One shard is one unit of work: what a worker computes, and what a killed run may lose. Per-particle columns are chunked alike,
so that no two workers write into one chunk."""

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
    "assumed_pose_table": Variable(
        ("pose", "quaternion"), "float64", "1", "poses of an empirical prior to assume (x, y, z, w)", required=False
    ),
}

TRUTH: Final[dict[str, Variable]] = {
    "volume": Variable(("z", "y", "x"), "float32", "density", "the specimen at the native voxel"),
    "rotation": Variable(("particle", "quaternion"), "float64", "1", "pose (x, y, z, w), scalar last"),
    "shift": Variable(("particle", "xy"), "float64", "angstrom", "shift of the content"),
    "state": Variable(("particle",), "int32", "1", "which state of an ensemble a particle is in", required=False),
    "state_volume": Variable(
        ("member", "z", "y", "x"),
        "float32",
        "density",
        "the states of an ensemble; volume is their mean",
        required=False,
    ),
}

NOISE: Final[dict[str, Variable]] = {
    "patches": Variable(
        ("patch", "y", "x"), "float32", "own deviations", "particle-free noise, protein bright, mean zero"
    ),
    "patch_mean": Variable(("patch",), "float32", "as micrographs", "mean of a patch as it was recorded"),
    "patch_deviation": Variable(("patch",), "float32", "as micrographs", "standard deviation as it was recorded"),
    "patch_micrograph": Variable(("patch",), "int32", "1", "micrograph of a patch, a row of the attribute micrographs"),
    "position": Variable(("patch", "xy"), "int32", "pixel", "first pixel of a patch on its micrograph, resampled"),
    "radial_power": Variable(("shell",), "float32", "1", "mean |F|^2 / box^2 per integer shell"),
}

SCHEMAS: Final[dict[str, dict[str, Variable]]] = {"observed": OBSERVED, "truth": TRUTH, "noise": NOISE}

REQUIRED_ATTRIBUTES: Final[dict[str, tuple[str, ...]]] = {
    "observed": ("voxel_size", "symmetry", "assumed_pose", "assumed_shift", "contrast", "noise_note"),
    "truth": ("voxel_size", "noise_scale", "clean_signal_variance", "scenario", "seed", "salt"),
    "noise": ("voxel_size", "contrast", "micrographs", "sources", "noise_note"),
}


def chunk_shape(dims: tuple[str, ...], shape: tuple[int, ...], particles: int) -> tuple[int, ...]:
    """Chunk (or shard) shape: ``particles`` along particles, so many too along patches, one state, all of every other axis."""
    along = {"particle": particles, "patch": particles, "member": 1}
    return tuple(max(1, along.get(dim, n)) for dim, n in zip(dims, shape, strict=True))
