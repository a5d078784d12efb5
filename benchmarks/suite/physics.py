"""Projection, its adjoint and the CTF: what every simulation and every training step is made of."""

from __future__ import annotations

import torch

from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.imaging import ImagingOperator
from cryobench.physics.rotation import quaternion_to_matrix, uniform_quaternions
from cryobench.physics.symmetry import symmetrise

BATCH = 64


def make_transfer(count: int) -> ContrastTransfer:
    ones = torch.ones(count)
    defocus = torch.linspace(5e3, 2e4, count)
    return ContrastTransfer(defocus, defocus, 0 * ones, 300 * ones, 2.7 * ones, 0.1 * ones, 0 * ones, 0 * ones)


class Imaging:
    """64 images: a volume's transform, projection with CTF and shift, and the adjoint."""

    params = ([32, 64, 128], ["image", "padded"])
    param_names = ("box", "slicing")
    timeout = 120

    def setup(self, box: int, slicing: str) -> None:
        torch.set_num_threads(1)
        generator = torch.Generator().manual_seed(0)
        rotations = quaternion_to_matrix(uniform_quaternions(BATCH, generator))
        shifts = torch.randn(BATCH, 2, generator=generator)
        self.operator = ImagingOperator(box, 200 / box, rotations, shifts, make_transfer(BATCH), slicing=slicing)
        self.volume = torch.randn(box, box, box, generator=generator)
        self.spectrum = self.operator.transform(self.volume)
        self.images = self.operator.image(self.spectrum)

    def time_transform(self, box: int, slicing: str) -> None:
        self.operator.transform(self.volume)

    def time_project(self, box: int, slicing: str) -> None:
        self.operator.image(self.spectrum)

    def time_adjoint(self, box: int, slicing: str) -> None:
        self.operator.T(self.images)


class Transfer:
    """CTFs of 64 images."""

    params = [32, 64, 128]
    param_names = ("box",)

    def setup(self, box: int) -> None:
        torch.set_num_threads(1)
        self.transfer = make_transfer(BATCH)

    def time_evaluate(self, box: int) -> None:
        self.transfer.evaluate(box, 200 / box)


class Symmetry:
    """A volume of 64 voxels a side made invariant under its group."""

    params = ["D2", "O", "I"]
    param_names = ("group",)

    def setup(self, group: str) -> None:
        torch.set_num_threads(1)
        self.volume = torch.randn(64, 64, 64, generator=torch.Generator().manual_seed(0))

    def time_symmetrise(self, group: str) -> None:
        symmetrise(self.volume, group)
