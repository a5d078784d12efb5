"""Projection, its adjoint and the CTF: what every simulation and every training step is made of."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch

from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.imaging import ImagingOperator, Slicing
from cryobench.physics.rotation import quaternion_to_matrix, uniform_quaternions
from cryobench.physics.symmetry import symmetrise

BATCH = 64


def make_transfer(count: int) -> ContrastTransfer:
    ones = torch.ones(count)
    defocus = torch.linspace(5e3, 2e4, count)
    return ContrastTransfer(defocus, defocus, 0 * ones, 300 * ones, 2.7 * ones, 0.1 * ones, 0 * ones, 0 * ones)


def make_operator(box: int, slicing: Slicing) -> ImagingOperator:
    generator = torch.Generator().manual_seed(0)
    rotations = quaternion_to_matrix(uniform_quaternions(BATCH, generator))
    shifts = torch.randn(BATCH, 2, generator=generator)
    return ImagingOperator(box, 200 / box, rotations, shifts, make_transfer(BATCH), slicing=slicing)


class Forward:
    """A volume's transform, and 64 of its images with CTF and shift: compiled, and by plain PyTorch in double precision."""

    params = ([32, 64, 128, 256], ["image", "padded", "plain"])
    param_names = ("box", "slicing")
    timeout = 300

    def setup(self, box: int, slicing: str) -> None:
        if box == 256 and slicing != "image":
            raise NotImplementedError  # minutes and gigabytes
        torch.set_num_threads(1)
        self.operator = make_operator(box, "padded" if slicing == "padded" else "image")
        self.volume = torch.randn(box, box, box, dtype=torch.float64 if slicing == "plain" else torch.float32)
        self.spectrum = self.operator.transform(self.volume)
        self.operator.image(self.spectrum)

    def time_transform(self, box: int, slicing: str) -> None:
        self.operator.transform(self.volume)

    def time_project(self, box: int, slicing: str) -> None:
        self.operator.image(self.spectrum)


class Adjoint:
    """The volume that 64 images are taken back to, and their insertion into a reconstruction's sums."""

    params = ([32, 64, 128], ["compiled", "plain"])
    param_names = ("box", "way")
    timeout = 300

    def setup(self, box: int, way: str) -> None:
        torch.set_num_threads(1)
        self.operator = make_operator(box, "image")
        self.images = torch.randn(BATCH, box, box, dtype=torch.float64 if way == "plain" else torch.float32)
        self.precision = torch.ones(box, box // 2 + 1, dtype=self.images.dtype)
        self.sums = torch.zeros(2 * box + 1, 2 * box + 1, box + 1, 3, dtype=self.images.dtype)
        self.operator.insert(self.images, self.precision, self.sums)
        self.operator.T(self.images)

    def time_adjoint(self, box: int, way: str) -> None:
        self.operator.T(self.images)

    def time_insert(self, box: int, way: str) -> None:
        self.operator.insert(self.images, self.precision, self.sums)


class Threads:
    """64 batches of 64 images from a pool of threads, as a simulation makes them."""

    params = ([64, 128], [1, 2])
    param_names = ("box", "threads")
    timeout = 300

    def setup(self, box: int, threads: int) -> None:
        self.operator = make_operator(box, "image")
        self.spectrum = self.operator.transform(torch.randn(box, box, box))
        self.pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        self.operator.image(self.spectrum)

    def teardown(self, box: int, threads: int) -> None:
        self.pool.shutdown()

    def time_project(self, box: int, threads: int) -> None:
        list(self.pool.map(self.operator.image, [self.spectrum] * 64))


class Transfer:
    """CTFs of 64 images."""

    params = ([32, 64, 128], ["compiled", "plain"])
    param_names = ("box", "way")

    def setup(self, box: int, way: str) -> None:
        torch.set_num_threads(1)
        like = torch.zeros((), dtype=torch.float64 if way == "plain" else torch.float32)
        self.transfer = make_transfer(BATCH).to(like)
        self.transfer.evaluate(box, 200 / box)

    def time_evaluate(self, box: int, way: str) -> None:
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
