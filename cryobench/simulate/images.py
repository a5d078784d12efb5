"""``observed.zarr``: made with its noise patches, then filled with images shard by shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from torch import Tensor

from cryobench.dataset.create import build_store
from cryobench.dataset.precision import encode, half_precision_unit
from cryobench.dataset.priors import detector_attributes, split_pose_prior
from cryobench.dataset.shard import ShardBuffer
from cryobench.dataset.store import open_store, open_unfinished, put, writing
from cryobench.machine import available_cores, torch_threads
from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.noise import radial_power
from cryobench.scenario.imager import Imager
from cryobench.scenario.micrographs import describe_micrographs
from cryobench.scenario.noise import NoiseSource, noise_sources
from cryobench.scenario.streams import blocks
from cryobench.simulate.repair import Todo
from cryobench.simulate.truth import imager_of_truth
from cryobench.specimens.catalogue import find

Span = tuple[int, int]
"""First particle, and one past the last."""
Noise: TypeAlias = tuple[dict[str, NoiseSource], str]
"""Sources by pool, and a note on them."""


@dataclass(frozen=True)
class Recipe:
    """All that the images of a dataset follow from.

    Attributes:
        imager: of the clean images.
        sources: of the noise, by pool.
        scale: of the noise.
        note: on where the noise comes from.
    """

    imager: Imager
    sources: dict[str, NoiseSource]
    scale: float
    note: str

    def noise(self, factor: str, block: Span) -> Tensor:
        """Scaled noise at the working box."""
        if self.scale == 0:
            return torch.zeros(block[1] - block[0], *2 * (self.imager.scenario.image.box,))
        return self.scale * self.sources[factor].draw(self.imager.seed, factor, *block, self.imager.scenario.image.box)

    def image(self, block: Span) -> NDArray[np.float32]:
        """Images of a block of particles."""
        clean = self.imager.clean(*block).cpu()
        return (clean if self.scale == 0 else clean + self.noise("noise", block)).numpy()


def _rounding_error(group: zarr.Group, recipe: Recipe) -> float:
    """What half precision loses of the first images: rms of the error over rms of the images."""
    array = group["images"]
    assert isinstance(array, zarr.Array)
    exact = recipe.image(blocks(0, recipe.imager.scenario.particles)[0]).astype(np.float64)
    stored = encode(array, exact).astype(np.float64) * float(array.attrs["scale_factor"])  # type: ignore[arg-type]
    return float(np.sqrt(np.square(stored - exact).mean() / np.square(exact).mean()))


@contextmanager
def one_thread_each(jobs: int | None) -> Iterator[ThreadPoolExecutor]:
    """A pool of workers of one torch thread each, and this thread alike; what was not begun is dropped on an error."""
    with torch_threads(1):
        pool = ThreadPoolExecutor(jobs or available_cores(), initializer=torch.set_num_threads, initargs=(1,))
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


def recipe_of_truth(truth: Path, imager: Imager | None = None, noise: Noise | None = None) -> Recipe:
    """The recipe of the images beside a truth, from what the truth holds.

    Args:
        truth: the store.
        imager: of its scenario and specimen, where there is one at hand; made if not given.
        noise: what :func:`~cryobench.scenario.noise.noise_sources` gives for its scenario, likewise.
    """
    imager = imager or imager_of_truth(truth)
    sources, note = noise or noise_sources(imager.scenario)
    return Recipe(imager, sources, float(open_store(truth, "truth").attrs["noise_scale"]), note)


def create_observed(path: Path, recipe: Recipe, truth_digest: str, deviation: float, pool: Executor) -> None:
    """Write all of ``observed.zarr`` but what belongs to single particles.

    Args:
        path: of the store.
        recipe: of its images and noise.
        truth_digest: salted, of the truth beside it.
        deviation: standard deviation of the images, for the unit of half precision.
        pool: where noise is drawn.
    """
    scenario, spec = recipe.imager.scenario, recipe.imager.scenario.image
    count, patches, box = scenario.particles, scenario.noise.pool, spec.box
    assumed_pose, pose_table = split_pose_prior(scenario.assumed_pose())
    shapes: dict[str, tuple[int, ...]] = {
        "images": (count, box, box),
        "micrograph": (count,),
        "half": (count,),
        "noise_patches": (2 * patches, box, box),
        "patch_half": (2 * patches,),
        "patch_micrograph": (2 * patches,),
        "noise_power": (2, box // 2 + 1),
        **dict.fromkeys(ContrastTransfer.names(), (count,)),
        **{name: values.shape for name, values in pose_table.items()},
    }
    with build_store(
        path,
        "observed",
        shapes,
        {
            "voxel_size": spec.voxel_size,
            "symmetry": scenario.assume.symmetry or find(scenario.specimen).symmetry,
            "assumed_pose": assumed_pose,
            "assumed_shift": scenario.assumed_shift(),
            "contrast": "protein bright",
            "noise_note": recipe.note,
            "ctf_note": describe_micrographs(scenario.ctf),
            "truth_digest": truth_digest,
            **detector_attributes(recipe.imager.detector),
        },
        image_scale=half_precision_unit(deviation) if spec.dtype == "float16" else None,
    ) as group:
        group["images"].attrs["truth_digest"] = truth_digest  # should the store's own metadata be lost
        if spec.dtype == "float16":
            group["images"].attrs["rounding_error"] = _rounding_error(group, recipe)
        for number, factor in enumerate(("pool-1", "pool-2")):
            made = pool.map(lambda block, f=factor: recipe.noise(f, block), blocks(0, patches))
            pool_patches = torch.cat(list(made))
            power = radial_power(pool_patches) if recipe.scale else torch.zeros(box // 2 + 1)
            put(group, "noise_patches", pool_patches.numpy(), number * patches)
            put(group, "noise_power", power.numpy()[None], number)
            micrographs = recipe.sources[factor].micrographs(recipe.imager.seed, factor, 0, patches)
            put(group, "patch_micrograph", micrographs, number * patches)
        put(group, "patch_half", np.repeat([1, 2], patches).astype(np.int8))
        for name, values in pose_table.items():
            put(group, name, values)


def fill_shards(path: Path, recipe: Recipe, todo: Todo, pool: Executor, on_done: Callable[[int], None]) -> None:
    """Compute and write what is to be written of whole shards; while the images of one are written, the next are computed.

    Args:
        path: of the store.
        recipe: of the images.
        todo: shards, and which of their variables.
        pool: where blocks of images are computed.
        on_done: called with the number of images that were added.
    """
    group = open_unfinished(path, "observed")
    array = group["images"]
    assert isinstance(array, zarr.Array)
    buffers: list[ShardBuffer] = []
    pending: _Images | None = None
    for span, variables in todo.items():
        begun = None
        if "images" in variables:
            begun = _Images(recipe, span, buffers.pop() if buffers else ShardBuffer(array), pool)
        _write_columns(group, recipe, span, variables)
        if pending is not None:
            buffers.append(pending.write(on_done))
        pending = begun
    if pending is not None:
        pending.write(on_done)


def _write_columns(group: zarr.Group, recipe: Recipe, span: Span, variables: frozenset[str]) -> None:
    """Those of ``variables`` that are one value a particle."""
    draws = recipe.imager.draws(*span)
    columns = {
        "micrograph": draws.micrographs,
        "half": (1 + np.arange(*span) % 2).astype(np.int8),
        **{name: getattr(draws.ctf, name).numpy() for name in ContrastTransfer.names()},
    }
    for name in variables & set(columns):
        put(group, name, columns[name], span[0])


class _Images:
    """The images of one shard, under computation from the moment this is made."""

    def __init__(self, recipe: Recipe, span: Span, buffer: ShardBuffer, pool: Executor) -> None:
        self.recipe, self.span, self.buffer = recipe, span, buffer
        self.futures: list[Future[int]] = [pool.submit(self._compute, block) for block in blocks(*span)]

    def _compute(self, block: Span) -> int:
        first, last = (index - self.span[0] for index in block)
        self.buffer.rows(first, last)[...] = encode(self.buffer.images, self.recipe.image(block))
        return last - first

    def write(self, on_done: Callable[[int], None]) -> ShardBuffer:
        """Wait for the images and write them; gives back the buffer."""
        for future in self.futures:
            on_done(future.result())
        with writing(Path(str(self.buffer.images.store_path))):
            self.buffer.write(*self.span)
        return self.buffer
