"""The half-set a method is allowed to see: read from ``observed.zarr``, and no way back from it to a path or a truth."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from cryobench.conventions import HALVES, WHOLE
from cryobench.dataset.priors import detector_from, join_pose_prior
from cryobench.errors import InputError, StoreError
from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.fourier import fourier_crop_images
from cryobench.physics.priors import poses_from_normals, shifts_from_uniforms
from cryobench.physics.rotation import quaternion_to_matrix
from cryobench.types import Curve, Images, Rotations, Shifts

ROWS_AT_A_TIME: Final = 1024
DENSE: Final = 4
"""A run is read whole where at least one row of so many is wanted."""


@dataclass(frozen=True)
class Batch:
    """Some particles of a half-set: ``images (batch, y, x)``, their CTFs, and poses where the method needs them."""

    images: Images
    ctf: ContrastTransfer
    rotations: Rotations | None = None
    shifts: Shifts | None = None


@dataclass(frozen=True)
class Poses:
    """Known poses of a half-set, for methods that declare the need: ``quaternions (particle, 4)``, ``shifts`` in angstrom."""

    quaternions: Tensor
    shifts: Tensor


@final
class Observed:
    """One half-set, or all images as half :data:`~cryobench.conventions.WHOLE`, and nothing of the truth: what a method may know.

    Attributes:
        box: pixels of an image's side, and voxels of the volume to be returned.
        voxel_size: angstrom.
        symmetry: point group to assume, such as ``"D2"``.
        assumed_pose: the pose prior to assume, such as ``{"kind": "uniform"}``.
        assumed_shift: the shift prior to assume, such as ``{"kind": "triangular", "half_width": 7.0}`` in angstrom.
        detector: its transfer function, which multiplies the spectra of images; None where the dataset has none.
        ctf: parameters of all particles of the half-set.
        noise_patches: ``(patch, y, x)`` particle-free noise from this half's own pool.
        micrographs: ``(particle,)`` number of the micrograph that each is from.
        patch_micrographs: ``(patch,)`` the same of noise patches; -1 where they were generated.
        noise_power: ``(shell,)`` mean power of that noise per pixel in integer shells, ``box // 2 + 1`` of them.
    """

    def __init__(self, dataset: xr.Dataset, half: int, poses: Poses | None = None) -> None:
        index = _members(dataset["half"].values, half)
        if len(index) == 0:
            raise StoreError(f"expected particles in half {half}, found none; a dataset needs at least two particles")
        self._images, self._index, self._poses = dataset["images"], index, poses
        self.box = int(dataset.sizes["x"])
        self.voxel_size = float(dataset.attrs["voxel_size"])
        self.symmetry = str(dataset.attrs["symmetry"])
        self.assumed_pose: Mapping[str, Any] = join_pose_prior(dataset)
        self.assumed_shift: Mapping[str, Any] = dict(dataset.attrs["assumed_shift"])
        self.detector = detector_from(dataset)
        columns = {name: torch.as_tensor(dataset[name].values[index]) for name in ContrastTransfer.names()}
        self.ctf = ContrastTransfer.stack(columns)
        chosen = _members(dataset["patch_half"].values, half)
        self.noise_patches: Images = torch.as_tensor(dataset["noise_patches"].values[chosen])
        self.micrographs = torch.as_tensor(dataset["micrograph"].values[index])
        self.patch_micrographs = torch.as_tensor(dataset["patch_micrograph"].values[chosen])
        powers = torch.as_tensor(dataset["noise_power"].values)
        self.noise_power: Curve = powers.mean(0) if half == WHOLE else powers[half - 1]

    def __len__(self) -> int:
        return len(self._index)

    def __repr__(self) -> str:
        return f"<Observed: {len(self)} images of {self.box} px at {self.voxel_size:.4g} Å, {self.symmetry}>"

    def coarsen(self, box: int) -> Observed:
        """The same half-set in a smaller ``box`` over the same field of view: images and noise are cut in Fourier space.

        Raises:
            InputError: if the box is larger, or below 4 pixels.
        """
        if not 4 <= box <= self.box:
            raise InputError(f"expected a box of 4 to {self.box} pixels to cut images to, got {box}")
        coarse, ratio = copy(self), box / self.box
        coarse.box, coarse.voxel_size = box, self.voxel_size / ratio
        coarse.noise_patches = fourier_crop_images(self.noise_patches, box)
        coarse.noise_power = self.noise_power[: box // 2 + 1] * ratio**2
        return coarse

    def read(self, index: slice | NDArray[Any] | list[int]) -> Batch:
        """The particles at ``index`` (0 ... len - 1) as CPU tensors; ascending indices are read fastest."""
        rows = self._index[index]
        images = fourier_crop_images(torch.as_tensor(_read_rows(self._images, rows)), self.box)
        rotations = shifts = None
        if self._poses is not None:
            rotations = quaternion_to_matrix(self._poses.quaternions[index]).float()
            shifts = self._poses.shifts[index].float()
        return Batch(images, self.ctf[torch.as_tensor(np.arange(len(self))[index])], rotations, shifts)

    def sample_poses(self, count: int, generator: torch.Generator) -> tuple[Rotations, Shifts]:
        """``count`` poses and shifts drawn from the assumed priors, on the generator's device."""
        normals = torch.randn(count, 4, generator=generator, device=generator.device)
        uniforms = torch.rand(count, 4, generator=generator, device=generator.device)
        rotations = quaternion_to_matrix(poses_from_normals(self.assumed_pose, normals))
        return rotations, shifts_from_uniforms(self.assumed_shift, uniforms)


def _members(halves: NDArray[Any], half: int) -> NDArray[np.intp]:
    """Rows of a half, or all that belong to either."""
    return np.flatnonzero(np.isin(halves, HALVES) if half == WHOLE else halves == half)


def _read_rows(images: xr.DataArray, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """Images at ``rows``; where these are ascending and dense, by whole runs of them, which is many times as fast."""
    if len(rows) == 0 or (np.diff(rows) <= 0).any() or rows[-1] - rows[0] >= DENSE * len(rows):
        return images[rows].values.astype(np.float32, copy=False)
    found = np.empty((len(rows), *images.shape[1:]), np.float32)
    end = int(rows[-1]) + 1
    for start in range(int(rows[0]), end, ROWS_AT_A_TIME):
        stop = min(start + ROWS_AT_A_TIME, end)
        chosen = slice(*np.searchsorted(rows, (start, stop)))
        found[chosen] = images[start:stop].values[rows[chosen] - start]
    return found
