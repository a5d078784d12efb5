"""From images to a map: gradient descent from nothing, then expectation-maximisation over all images.

The initial model is RELION's stochastic gradient descent from randomly turned images (Punjani et al. 2017; Zivanov et al. 2018)
with the point group imposed. Passes over all images give every image its pose; the first compares by cross-correlation, as the
initial model is not on the scale of the images, the others by likelihood (Scheres 2012). RELION's auto-refine is not used: it
needs two half-sets of its own, and these images are one half already. Their independence of the other half is what half-map
figures rest on, and it is kept by giving RELION nothing but this half.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

import torch

from cryobench.reconstruct.contract import Observed, Reconstruction, Run
from cryobench.types import Volume
from cryobench_relion.plan import PROBE, Schedule, first_cutoff, fit_schedule, schedule, shared_arguments
from cryobench_relion.program import RelionRefine, reconstruct_map
from cryobench_relion.project import STAR, write_project
from cryobench_relion.results import Poses, fit_scale, read_density, read_poses

if TYPE_CHECKING:
    from cryobench_relion.method import RelionParams

REFERENCE: Final = "reference.mrc"
SNAPSHOTS: Final = 10
"""Of gradient descent; passes over all images give one each."""
EXAMPLES: Final = 8


@final
class Stages:
    """RELION's stages on one half-set.

    Args:
        scratch: empty directory.
        observed: the half-set.
        params: of the method.
        run: the harness's hand.
        notes: sentences for the report, to which more are added.
    """

    def __init__(
        self, scratch: str, observed: Observed, params: RelionParams, run: Run, notes: Sequence[str] = ()
    ) -> None:
        self._directory, self._observed, self._params, self._run = Path(scratch), observed, params, run
        self._noise = write_project(self._directory, observed)
        threads = torch.get_num_threads()
        self._shared = ["--i", STAR, *shared_arguments(observed, run.seed, threads, params.particle_diameter)]
        self._passes = params.passes if params.refine else 2
        self._images_seen = 0
        self._volume: Volume | None = None
        self._poses: Poses | None = None
        self._notes = list(notes)
        self._processor_before = _processor_seconds()

    def reconstruct(self) -> Reconstruction:
        """Run all stages, as far as the budget goes, and bring back what the last whole iteration gave."""
        plan = self._plan()
        total = plan.iterations + self._passes
        done = self._descend(plan, total)
        if self._run.remaining() > 0:
            last = self._refine(done, total)
            if last and self._poses is not None:
                self._reconstruct_whole(f"refined/run_it{last:03d}_data.star")
        assert self._volume is not None
        seconds = _processor_seconds() - self._processor_before
        self._notes.append(f"RELION used {seconds:.0f} s of processor time, which the harness's own figure leaves out.")
        if self._poses is None:
            self._notes.append("The budget ended before every image had a pose; none are given.")
            return Reconstruction(self._volume, notes=self._notes)
        scale, examples = fit_scale(self._volume, self._observed, self._poses, EXAMPLES)
        return Reconstruction(
            scale * self._volume, scale * examples, self._poses.rotations, self._poses.shifts, self._notes
        )

    def _plan(self) -> Schedule:
        """The schedule of gradient descent: the parameters', or what a timed trial says the budget allows."""
        params, particles = self._params, len(self._observed)
        full = schedule(params.iterations, params.first_subset, params.last_subset, particles)
        if math.isinf(self._run.remaining()):
            return full
        times = []
        with RelionRefine(self._directory, "probe", self._gradient_arguments(PROBE)) as program:
            for iteration in program.follow(self._run.remaining):
                times.append(time.perf_counter())
                self._keep(program, iteration)
        if len(times) < 3:  # before the first, after it, and after one that is typical
            return full
        per_image = (times[-1] - times[1]) / ((len(times) - 2) * min(PROBE.first_subset, particles))
        seconds = params.initial_share * self._run.remaining()
        plan = fit_schedule(full, seconds, per_image, particles)
        if plan != full:
            self._notes.append(
                f"At {1e3 * per_image:.0f} ms an image the budget allowed {plan.iterations} iterations of gradient descent, on "
                f"{plan.first_subset} to {plan.last_subset} images each, in place of {full.iterations} on "
                f"{full.first_subset} to {full.last_subset}."
            )
        return plan

    def _gradient_arguments(self, plan: Schedule) -> list[str]:
        limits = ["--sgd_ini_resol", self._params.first_resolution, "--sgd_fin_resol", self._params.last_resolution]
        own = ["--sgd", "--denovo_3dref", "--healpix_order", "1", *map(str, limits)]
        own += ["--ini_high", f"{first_cutoff(self._observed.box, self._observed.voxel_size):g}"]
        return [*self._shared, *own, *plan.arguments()]

    def _descend(self, plan: Schedule, total: int) -> int:
        """Gradient descent; returns the iterations done."""
        limit = _share_of(self._run, self._params.initial_share)
        every, done = math.ceil(plan.iterations / SNAPSHOTS), 0
        with RelionRefine(self._directory, "initial", self._gradient_arguments(plan)) as program:
            for iteration in program.follow(limit):
                done = iteration
                self._images_seen += round(plan.images / plan.iterations) if iteration else 0
                self._keep(program, iteration, snapshot=iteration > 0 and iteration % every == 0)
                self._run.progress(iteration, total, images_seen=self._images_seen)
            # the map of the last iteration is the reference of the next stage
            program.file(done, "class001.mrc").replace(self._directory / REFERENCE)
        if done < plan.iterations:
            self._notes.append(f"Gradient descent was stopped after {done} of {plan.iterations} iterations.")
        return done

    def _refine(self, done: int, total: int) -> int:
        """Passes over all images, from the initial model; returns how many were finished."""
        last = 0
        words = ["--ref", REFERENCE, "--firstiter_cc", "--ini_high", f"{self._params.last_resolution:g}"]
        words += ["--tau2_fudge", f"{self._params.tau2_fudge:g}", "--healpix_order", "2", "--iter", str(self._passes)]
        with RelionRefine(self._directory, "refined", [*self._shared, *words]) as program:
            for iteration in program.follow(self._run.remaining):
                if iteration == 0:
                    continue
                last = iteration
                self._images_seen += len(self._observed)
                self._keep(program, iteration, snapshot=True, poses=True)
                step = total if iteration == self._passes else done + iteration
                self._run.progress(step, total, images_seen=self._images_seen)
        return last

    def _reconstruct_whole(self, table: str) -> None:
        """The map of the last poses, padded and gridding-corrected, as at the end of RELION's own refinement.

        The passes insert on an unpadded grid: their maps have artefacts in the last fifth of the shells, alike in both halves.
        """
        path = reconstruct_map(self._directory, table, self._observed.symmetry, "whole.mrc")
        self._volume = read_density(path, self._noise, self._observed.voxel_size)
        self._run.snapshot(self._volume, images_seen=self._images_seen)

    def _keep(self, program: RelionRefine, iteration: int, snapshot: bool = False, poses: bool = False) -> None:
        """Read what an iteration gave, and remove the files of the one before."""
        self._volume = read_density(program.file(iteration, "class001.mrc"), self._noise, self._observed.voxel_size)
        if poses:
            self._poses = read_poses(program.file(iteration, "data.star"), len(self._observed))
        if snapshot:
            self._run.snapshot(self._volume, images_seen=self._images_seen)
        if iteration:
            program.forget(iteration - 1)


def _processor_seconds() -> float:
    """Of the programs that this process started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _share_of(run: Run, share: float) -> Callable[[], float]:
    """The clock of a stage that may take a share of what is left now."""
    kept = (1 - share) * run.remaining() if math.isfinite(run.remaining()) else 0.0
    return lambda: run.remaining() - kept
