"""The plugin's face: what it is called, what can be set, and its loop over the images. Imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, final

from pydantic import BaseModel, ConfigDict, Field

from cryobench.errors import Declined
from cryobench.reconstruct.contract import Needs, Reconstruction, Reconstructor, Run

if TYPE_CHECKING:
    from cryobench.dataset.view import Observed
    from cryobench.types import Images, Volume

SNAPSHOTS: Final = (0.125, 0.25, 0.5)
"""Fractions of the images after which a volume and a checkpoint are kept; the result itself is the last snapshot."""
EXAMPLES: Final = 8


class BackprojectParams(BaseModel):
    """Parameters of :class:`Backproject`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch: int = Field(
        500, ge=1, description="images inserted together; memory grows with it, the result hardly changes"
    )
    wiener: float = Field(
        1.0,
        gt=0,
        allow_inf_nan=False,
        description="weight of the Wiener term 1 / (signal power): below 1 sharper, above 1 smoother",
    )
    symmetrise: bool = Field(True, description="average over the dataset's point group")


@final
class Backproject(Reconstructor):
    """Wiener-weighted Fourier reconstruction from known poses (see :mod:`cryobench_backproject.fourier`)."""

    name: ClassVar[str] = "backproject"
    summary: ClassVar[str] = "Wiener-weighted Fourier reconstruction from known (oracle) poses"
    Params: ClassVar[type[BaseModel]] = BackprojectParams
    needs: ClassVar[Needs] = Needs(gpu="optional", poses=True, memory_bytes_per_voxel=300)

    def reconstruct(self, observed: Observed, params: BackprojectParams, run: Run) -> Reconstruction:
        """Insert all images, block by block, then filter. The seed is of no use: nothing is drawn."""
        from cryobench_backproject.fourier import FourierAccumulator

        first = observed.read(slice(0, min(params.batch, len(observed))))
        if first.rotations is None:
            raise Declined("backproject needs the pose of every image, and none were handed to it")
        sums = FourierAccumulator.prepare(observed, first.images, run.device)
        done, notes = _resume(sums, run.restore()), []
        group = observed.symmetry if params.symmetrise else "C1"
        total = len(observed)
        marks = [round(fraction * total) for fraction in SNAPSHOTS]
        while done < total:
            if done and run.remaining() <= 0:
                notes.append(f"Stopped at the end of its budget, after {done} of {total} images.")
                break
            stop = min(done + params.batch, total)
            sums.insert(observed.read(slice(done, stop)), done)
            passed = any(done < mark <= stop for mark in marks)
            done = stop
            run.progress(done, total, images_seen=done)
            if passed and done < total:
                run.snapshot(sums.solve(group, params.wiener), images_seen=done)
                run.checkpoint({**sums.state(), "done": done}, done)
        volume = sums.solve(group, params.wiener)
        run.snapshot(volume, images_seen=done)
        return Reconstruction(volume, example_images=_examples(volume, observed), notes=notes)


def _resume(sums: Any, state: dict[str, Any] | None) -> int:
    """Take up a checkpoint, where there is one; returns how many images it holds."""
    if state is None:
        return 0
    sums.load(state)
    return int(state["done"])


def _examples(volume: Volume, observed: Observed) -> Images:
    """Clean images of the first particles' poses, to be shown beside the real ones."""
    from cryobench.physics.imaging import ImagingOperator

    batch = observed.read(slice(0, EXAMPLES))
    assert batch.rotations is not None
    operator = ImagingOperator(
        observed.box, observed.voxel_size, batch.rotations.to(volume), batch.shifts, batch.ctf.to(volume)
    )
    return operator(volume)
