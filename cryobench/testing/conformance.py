"""Conformance tests for methods: subclass :class:`ReconstructorTests`, name your method, run pytest.

    from cryobench.testing.conformance import ReconstructorTests

    class TestMyMethod(ReconstructorTests):
        method = "my-method"
        params = {"steps": 20}  # whatever makes it fast

Each check says in its docstring what it demands, and in its message what to fix.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from cryobench.dataset.store import open_predicted
from cryobench.dataset.view import Observed
from cryobench.errors import CryobenchError, UnknownName
from cryobench.reconstruct import harness
from cryobench.reconstruct.contract import Needs, Reconstruction, Reconstructor, Run
from cryobench.reconstruct.registry import load_method, methods
from cryobench.reconstruct.run import reconstruct
from cryobench.testing.tiny import tiny_run

HEAVY: Final = ("torch", "xarray", "zarr", "scipy", "pandas", "matplotlib", "plotly", "jax", "tensorflow", "sklearn")
"""What the module that an entry point names must not import."""
_IMPORT: Final = """
import json, sys
from importlib.metadata import entry_points
(point,) = entry_points(group="cryobench.reconstructors", name=sys.argv[1])
point.load()
print(json.dumps([name for name in sys.argv[2:] if name in sys.modules]))
"""


@dataclass
class Watch:
    """What a method told the harness in its second half-set, in order, and how often it asked for a checkpoint and got one."""

    half: int = 0
    events: list[str] = field(default_factory=list)
    steps: list[tuple[int, int, int]] = field(default_factory=list)
    restored: int = 0

    def told(self, half: int, step: int, total: int) -> None:
        """Note a report of progress."""
        if half != self.half:
            # checkpoints written before the first report of a half are counted to the half before: no harm
            self.half, self.events = half, []
        self.events.append("progress")
        self.steps.append((half, step, total))


@dataclass(frozen=True)
class Finished:
    """A finished run of the method: its directory, half-maps ``(half, z, y, x)``, and what was told on the way."""

    directory: Path
    volumes: NDArray[np.float32]
    watch: Watch


class ReconstructorTests:
    """Checks of the method contract. Subclasses set :attr:`method`, and :attr:`params` for speed.

    Attributes:
        method: name under which the method is registered.
        params: parameters with which it takes a second or so on 96 images of 16 pixels.
        device: to run on; ``"cuda"`` for methods that need a GPU, whose checks are skipped where there is none.
        checkpoints: False for a method so quick that it starts anew when it was stopped. Else it must write a checkpoint
            with :attr:`params` (lower its interval there).
        budget_seconds: for each half, with the *default* parameters.
        grace_seconds: by which it may overrun the budget.
    """

    method: ClassVar[str]
    params: ClassVar[Mapping[str, Any]] = {}
    device: ClassVar[str] = "cpu"
    checkpoints: ClassVar[bool] = True
    budget_seconds: ClassVar[float] = 0.5
    grace_seconds: ClassVar[float] = 10.0

    # --- what the checks share -------------------------------------------------------------------------------------

    @pytest.fixture(scope="class")
    @classmethod
    def tiny(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Directory of the simulated tiny dataset, its truth beside it. Leave it as it is."""
        return tiny_run(tmp_path_factory.mktemp("tiny"))

    @pytest.fixture(scope="class")
    @classmethod
    def finished(cls, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
        """One whole run, which the other checks are held against."""
        cls._skip_where_needs_are_not_met()
        return cls.finish(cls.copy_dataset(tiny, tmp_path_factory.mktemp("finished"), with_truth=True))

    @classmethod
    def finish(cls, directory: Path) -> Finished:
        """A whole run on the dataset in ``directory``, watched."""
        with pytest.MonkeyPatch.context() as patch:
            watch = cls._watch(patch)
            cls.run(directory, on_progress=lambda half, step, total, _: watch.told(half, step, total))
        return Finished(directory, read_volumes(directory), watch)

    @classmethod
    def run(cls, directory: Path, **options: Any) -> Path:
        """Run the method on the dataset in ``directory``; options as :func:`cryobench.reconstruct.run.reconstruct` has them.

        The halves are run in turn in this process, where the checks can watch them.
        """
        settings = {"params": cls.params, "device": cls.device, "workers": 1, **options}
        return reconstruct(directory, cls.method, **settings)

    @classmethod
    def copy_dataset(cls, tiny: Path, place: Path, with_truth: bool = False) -> Path:
        """A copy of the dataset; its truth is left behind unless asked for, or the method needs the poses."""
        shutil.copytree(tiny / "observed.zarr", place / "observed.zarr")
        if with_truth or load_method(cls.method).needs.poses:
            shutil.copytree(tiny / "truth.zarr", place / "truth.zarr")
        return place

    @classmethod
    def _skip_where_needs_are_not_met(cls) -> None:
        needs = load_method(cls.method).needs
        if (needs.gpu == "required" or cls.device.startswith("cuda")) and not torch.cuda.is_available():
            pytest.skip(f"{cls.method} needs a CUDA device")
        missing = [program for program in needs.programs if shutil.which(program) is None]
        if missing:
            pytest.skip(f"{cls.method} needs {', '.join(missing)}")

    @classmethod
    def _skip_unless_repeatable(cls) -> None:
        if cls.device != "cpu":
            pytest.skip("the same seed gives the same bits on the CPU only")

    @staticmethod
    def _watch(patch: pytest.MonkeyPatch) -> Watch:
        """Have every report of progress come through, and checkpoints noted."""
        watch = Watch()
        write, read = harness.Harness.checkpoint, harness.Harness.restore

        def checkpoint(self: harness.Harness, state: Mapping[str, Any], step: int) -> None:
            write(self, state, step)
            watch.events.append("checkpoint")

        def restore(self: harness.Harness) -> dict[str, Any] | None:
            state = read(self)
            watch.restored += state is not None
            return state

        patch.setattr(harness.Harness, "checkpoint", checkpoint)
        patch.setattr(harness.Harness, "restore", restore)
        patch.setattr(harness, "HISTORY_INTERVAL", 0.0)
        return watch

    # --- what the method declares ----------------------------------------------------------------------------------

    def test_is_registered(self) -> None:
        """The entry point ``cryobench.reconstructors`` names the class, and the class says its name and a one-line summary."""
        assert self.method in methods(), (
            f'no entry point {self.method!r}: name it under [project.entry-points."cryobench.reconstructors"] and reinstall'
        )
        found = load_method(self.method)
        assert found.summary.strip(), "summary is empty: say in one line what the method does"
        assert "\n" not in found.summary, "summary has several lines: `cryobench method list` prints one"

    def test_declares_its_needs(self) -> None:
        """``needs`` is a :class:`Needs` with values that the harness can check."""
        needs = load_method(self.method).needs
        assert isinstance(needs, Needs), f"expected needs to be a Needs, got {needs!r}"
        assert needs.gpu in ("none", "optional", "required"), f"needs.gpu: got {needs.gpu!r}"
        assert isinstance(needs.poses, bool), f"needs.poses: expected True or False, got {needs.poses!r}"
        programs = needs.programs
        assert isinstance(programs, tuple), f"needs.programs: expected a tuple of names, got {programs!r}"
        assert all(isinstance(p, str) and p for p in programs), f"needs.programs: expected names, got {programs!r}"
        memory = needs.memory_bytes_per_voxel
        assert memory is None or memory > 0, f"needs.memory_bytes_per_voxel: expected bytes or None, got {memory!r}"

    def test_parameters_are_described_and_strict(self) -> None:
        """Every parameter has a default, a description and a type; unknown names are refused; values survive JSON."""
        params = load_method(self.method).Params
        assert issubclass(params, BaseModel), f"expected Params to be a pydantic model, got {params!r}"
        for name, info in params.model_fields.items():
            assert not info.is_required(), f"parameter {name} has no default: the method must run with none given"
            assert info.description, f"parameter {name} lacks a description: use Field(..., description=...)"
            assert not _accepts(params, {name: object()}), f"parameter {name} takes anything: give it a type"
        assert not _accepts(params, {"no_such_parameter": 1}), (
            'unknown parameters pass silently: set model_config = ConfigDict(extra="forbid")'
        )
        chosen = params.model_validate(dict(self.params))
        again = params.model_validate(json.loads(json.dumps(chosen.model_dump(mode="json"))))
        assert again == chosen, "parameters do not survive JSON, in which results keep them: use plain types"

    def test_refuses_a_misspelt_parameter_before_any_work(self, tiny: Path, tmp_path: Path) -> None:
        """A wrong name costs one line, not a run."""
        self._skip_where_needs_are_not_met()
        directory = self.copy_dataset(tiny, tmp_path)
        with pytest.raises(UnknownName):
            self.run(directory, params={"no_such_parameter": 1})
        assert not (directory / "predicted.zarr").exists(), "work was begun with a parameter that does not exist"

    def test_imports_light(self) -> None:
        """The module that the entry point names imports nothing heavy: `cryobench method list` loads every method.

        Import torch and the like inside ``reconstruct``, or in modules that only it imports; types under TYPE_CHECKING.
        """
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        command = [sys.executable, "-c", _IMPORT, self.method, *HEAVY]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"the entry point's module fails to import by itself:\n{done.stderr}"
        heavy = json.loads(done.stdout.splitlines()[-1])
        assert not heavy, f"importing the method imports {', '.join(heavy)}: move that into reconstruct()"

    # --- what it returns -------------------------------------------------------------------------------------------

    def test_returns_volumes(self, finished: Finished) -> None:
        """A volume from each half that is not the same everywhere.

        The harness itself refuses volumes, example images, poses and shifts of the wrong shape or with NaN or infinity in them.
        """
        for half, volume in enumerate(finished.volumes, 1):
            assert np.ptp(volume) > 0, f"half {half}: the volume is {volume.flat[0]} everywhere"

    def test_reports_progress(self, finished: Finished) -> None:
        """``run.progress(step, total)`` is called in each half, with steps that rise and end at the total."""
        for half in (1, 2):
            told = [(step, total) for which, step, total in finished.watch.steps if which == half]
            assert told, f"half {half}: run.progress was never called: call it every step"
            steps = [step for step, _ in told]
            assert steps == sorted(steps), f"half {half}: the steps reported do not rise: {steps}"
            assert all(step <= total for step, total in told), f"half {half}: a step is beyond the total: {told}"
            assert told[-1][0] == told[-1][1], f"half {half}: the last step reported is {told[-1][0]} of {told[-1][1]}"

    # --- what it may depend on -------------------------------------------------------------------------------------

    def test_same_seed_gives_the_same_result(self, finished: Finished) -> None:
        """Bit for bit on the CPU: draw from a ``torch.Generator`` seeded with ``run.seed``, and from nothing else."""
        self._skip_unless_repeatable()
        shutil.rmtree(finished.directory / "predicted.zarr")
        self.run(finished.directory)
        _assert_same(read_volumes(finished.directory), finished.volumes, "a second run with the same seed differs")

    def test_truth_is_out_of_reach(
        self, finished: Finished, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The result is the same with the truth moved away, and nothing that the method is handed names a path.

        Methods that declare ``needs.poses`` are handed the true poses, and nothing more.
        """
        self._skip_unless_repeatable()
        handed: list[object] = []
        found = load_method(self.method)
        original = found.reconstruct

        def spy(self: Reconstructor, observed: Observed, params: BaseModel, run: Run) -> Reconstruction:
            handed.extend((observed, run))
            return original(self, observed, params, run)

        monkeypatch.setattr(found, "reconstruct", spy)
        directory = self.copy_dataset(tiny, tmp_path)
        try:
            self.run(directory)
        except CryobenchError as error:
            pytest.fail(f"the method fails without a truth beside the data (is it looking for one?): {error}")
        _assert_same(read_volumes(directory), finished.volumes, "the result changes when the truth is moved away")
        for thing in handed:
            for name, value in _public(thing):
                assert not _names_path(value, directory), f"{type(thing).__name__}.{name} leads to a path: {value!r}"

    def test_does_not_depend_on_where_the_data_lie(self, finished: Finished, tiny: Path, tmp_path: Path) -> None:
        """The same data in another directory give the same result: no caches by path, no draws from names or times."""
        self._skip_unless_repeatable()
        elsewhere = tmp_path / "a rather different name"
        elsewhere.mkdir()
        self.run(self.copy_dataset(tiny, elsewhere, with_truth=True))
        _assert_same(read_volumes(elsewhere), finished.volumes, "the same data in another directory differ")

    # --- how it stops and goes on ----------------------------------------------------------------------------------

    def test_goes_on_after_an_interruption(
        self, finished: Finished, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Stopped in the second half-set and run again, it completes, with the result of an uninterrupted run.

        Demanded: ``KeyboardInterrupt`` is let through; a checkpoint is written (unless :attr:`checkpoints` is False) and is
        taken up by ``run.restore()``; and on the CPU the result is the same bit for bit: the checkpoint must hold all that the
        rest depends on (weights, optimisers, counters, ``generator.get_state()``).
        """
        expected = finished.watch.events
        if self.checkpoints:
            assert "checkpoint" in expected, (
                f"no checkpoint in the second half with params {dict(self.params)}: call run.checkpoint(...), and often enough "
                "with these; or set checkpoints = False for a method that takes seconds"
            )
        directory = self.copy_dataset(tiny, tmp_path)
        watch = self._watch(monkeypatch)
        reports = expected.count("progress")

        def interrupt(half: int, step: int, total: int, _: dict[str, float]) -> None:
            watch.told(half, step, total)
            told = watch.events.count("progress")
            ripe = told >= (reports + 1) // 2 and (not self.checkpoints or "checkpoint" in watch.events)
            if half == 2 and (ripe or told == reports):
                raise KeyboardInterrupt

        try:
            self.run(directory, on_progress=interrupt)
        except KeyboardInterrupt:
            pass
        else:
            pytest.fail(
                "a KeyboardInterrupt in run.progress(...) did not come through: catch Exception, not BaseException"
            )
        written, watch.restored = "checkpoint" in watch.events, 0
        self.run(directory)
        assert not written or watch.restored, "a checkpoint was written and never restored: begin with run.restore()"
        volumes = read_volumes(directory)
        if self.device == "cpu":
            _assert_same(volumes, finished.volumes, "the result of an interrupted and resumed run differs")

    def test_keeps_to_its_budget(self, tiny: Path, tmp_path: Path) -> None:
        """With its default parameters and a budget of half a second a half, it stops in time and returns its best so far.

        Look at ``run.remaining()`` every step.
        """
        self._skip_where_needs_are_not_met()
        directory = self.copy_dataset(tiny, tmp_path)
        limit = self.budget_seconds + self.grace_seconds
        began: dict[int, float] = {}

        def guard(half: int, *_: Any) -> None:
            now = time.perf_counter()
            if now - began.setdefault(half, now) > limit:
                raise KeyboardInterrupt

        try:
            self.run(directory, params={}, budget=self.budget_seconds, on_progress=guard)
        except KeyboardInterrupt:
            pytest.fail(
                f"still at work {limit:.0f} s into a budget of {self.budget_seconds} s: look at run.remaining()"
            )
        _, halves = open_predicted(directory / "predicted.zarr")
        for half, found in halves.items():
            seconds = found.attrs["wall_seconds"]
            assert seconds <= limit, f"half {half}: took {seconds:.1f} s with a budget of {self.budget_seconds} s"


def read_volumes(directory: Path) -> NDArray[np.float32]:
    """Both half-maps of a run, ``(half, z, y, x)``."""
    _, halves = open_predicted(directory / "predicted.zarr")
    return np.stack([halves[half]["volume"].values for half in sorted(halves)])


def _accepts(params: type[BaseModel], values: dict[str, object]) -> bool:
    try:
        params.model_validate(values)
    except ValidationError:
        return False
    return True


def _assert_same(found: NDArray[np.float32], expected: NDArray[np.float32], what: str) -> None:
    if not np.array_equal(found, expected):
        scale = float(np.abs(expected).max()) or math.nan
        pytest.fail(f"{what}: by up to {float(np.abs(found - expected).max()) / scale:.3g} of the largest density")


def _public(thing: object) -> Iterator[tuple[str, object]]:
    for name in dir(thing):
        if not name.startswith("_"):
            value = getattr(thing, name)
            if not callable(value):
                yield name, value


def _names_path(value: object, directory: Path) -> bool:
    if isinstance(value, Mapping):
        return any(_names_path(part, directory) for part in value.values())
    if isinstance(value, list | tuple | set):
        return any(_names_path(part, directory) for part in value)
    return isinstance(value, os.PathLike) or (isinstance(value, str) and str(directory) in value)
