"""Evaluation: correlating, superposing, and all that is measured of a run, boxes up to the native one of beta-galactosidase."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from cryobench.evaluate.align import Alignment, align, apply
from cryobench.evaluate.fsc import fsc
from cryobench.evaluate.noise_halves import correlate_noise_halves, recall_noise_halves
from cryobench.evaluate.options import Options
from cryobench.evaluate.run import evaluate
from cryobench.physics.grids import radius, soft_sphere
from cryobench.reconstruct.run import reconstruct
from cryobench.scenario.files import adapt_scenario
from cryobench.simulate import simulate

FIELD = 234.0


def draw_halves(box: int) -> tuple[Tensor, Tensor]:
    """A random specimen within half the box, and a turned, shifted and mirrored copy of it, both noisy."""
    specimen, *noise = torch.randn(3, box, box, box, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    falloff = torch.fft.ifftshift(torch.exp(-((radius(box, 3, specimen) * 6 / box) ** 2)))
    specimen = torch.fft.ifftn(torch.fft.fftn(specimen * soft_sphere(box, box / 5, box / 20, specimen)) * falloff).real
    x, y, z, w = Rotation.random(rng=0).as_quat(canonical=True)
    moved = apply(Alignment((x, y, z, w), (1.5, -2.5, 0.5), True, 1.0, None, 1.0), specimen)
    return tuple(v + 0.5 * specimen.std() * n for v, n in zip((specimen, moved), noise, strict=True))


class Volumes:
    """One comparison of two volumes, on one thread."""

    params = [32, 64, 180]
    param_names = ("box",)
    timeout = 600

    def setup(self, box: int) -> None:
        torch.set_num_threads(1)
        self.first, self.second = draw_halves(box)

    def time_fsc(self, box: int) -> None:
        fsc(self.first, self.second)

    def peakmem_fsc(self, box: int) -> None:
        fsc(self.first, self.second)

    def time_align(self, box: int) -> None:
        align(self.second, self.first, 1.0)

    def peakmem_align(self, box: int) -> None:
        align(self.second, self.first, 1.0)


class Runs:
    """A whole run from its stores: superposed, all curves, intervals, directions, masks; what is cached apart."""

    params = [32, 64, 180]
    param_names = ("box",)
    timeout = 900
    number, repeat, warmup_time = 1, 1, 0.0

    def setup_cache(self) -> dict[int, str]:
        directories = {}
        for box in self.params:
            directories[box] = tempfile.mkdtemp()
            settings = [f"image.native_box={box}", f"image.native_pixel_size={FIELD / box}"]
            scenario = adapt_scenario("snr-20", particles=256, box=box, settings=settings)
            simulate(scenario, Path(directories[box]), jobs=1)
            reconstruct(Path(directories[box]), "backproject", workers=1)
        return directories

    def setup(self, directories: dict[int, str], box: int) -> None:
        self.directory = Path(directories[box])

    def time_evaluate(self, directories: dict[int, str], box: int) -> None:
        evaluate(self.directory, options=Options(yardsticks=False))

    def peakmem_evaluate(self, directories: dict[int, str], box: int) -> None:
        evaluate(self.directory, options=Options(yardsticks=False))


class Yardsticks:
    """Two halves of nothing but noise: measured, which a machine does once for each box and symmetry, and recalled."""

    params = [32, 64, 180]
    param_names = ("box",)
    timeout = 900
    number, repeat, warmup_time = 1, 1, 0.0

    def setup_cache(self) -> None:
        for box in self.params:
            recall_noise_halves(box, "C1")

    def time_measure(self, box: int) -> None:
        correlate_noise_halves(box)

    def time_recall(self, box: int) -> None:
        recall_noise_halves(box, "C1")
