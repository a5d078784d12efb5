"""The conformance kit finds fault with methods that are at fault: for every check, a method that must fail it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cryobench.dataset.view import Observed
from cryobench.errors import PluginError
from cryobench.reconstruct import checks, run
from cryobench.testing.conformance import ReconstructorTests, read_volumes
from cryobench.testing.tiny import tiny_run

METHODS = '''
import itertools, os, time
from pathlib import Path
from typing import Any
from pydantic import BaseModel, ConfigDict, Field
from cryobench.reconstruct.contract import Needs, Reconstruction, Reconstructor

COUNTER = itertools.count()

class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")
    steps: int = Field(6, ge=1, description="how many")

class Good(Reconstructor):
    """A random walk that keeps the contract."""
    name, summary, Params, needs = "good", "A random walk", Params, Needs()

    def disturb(self, observed, run, step):
        return 0.0

    def save(self, run, step, state):
        run.checkpoint(state, step)

    def reconstruct(self, observed, params, run):
        import torch
        generator = torch.Generator().manual_seed(run.seed)
        volume, step = torch.zeros((observed.box,) * 3), 0
        kept = run.restore()
        if kept is not None:
            volume, step = kept["volume"], kept["step"]
            generator.set_state(kept["generator"])
        while step < params.steps and run.remaining() > 0:
            volume = volume + torch.randn(volume.shape, generator=generator) + self.disturb(observed, run, step)
            step += 1
            run.progress(step, params.steps)
            if step % 2 == 0:
                self.save(run, step, {"volume": volume, "step": step, "generator": generator.get_state()})
        return Reconstruction(volume)

class Unsummed(Good):
    name, summary = "unsummed", " "

class Wordy(Good):
    name, summary = "wordy", "one line\\nand another"

class Greedy(Good):
    name, needs = "greedy", Needs(gpu="always")

class Listed(Good):
    name, needs = "listed", Needs(programs="relion_refine")

class Loose(Good):
    name = "loose"
    class Params(Params):
        model_config = ConfigDict(extra="ignore")

class Undescribed(Good):
    name = "undescribed"
    class Params(Params):
        rate: float = 0.1

class Untyped(Good):
    name = "untyped"
    class Params(Params):
        rate: Any = Field(0.1, description="anything goes")

class Demanding(Good):
    name = "demanding"
    class Params(Params):
        rate: float = Field(description="no default")

class Flat(Good):
    name = "flat"
    def reconstruct(self, observed, params, run):
        return Reconstruction(super().reconstruct(observed, params, run).volume * 0)

class Silent(Good):
    name = "silent"
    def reconstruct(self, observed, params, run):
        import torch
        return Reconstruction(torch.ones((observed.box,) * 3).cumsum(0))

class Backwards(Good):
    name = "backwards"
    def reconstruct(self, observed, params, run):
        result = super().reconstruct(observed, params, run)
        run.progress(params.steps - 1, params.steps)
        return result

class Restless(Good):
    name = "restless"
    def disturb(self, observed, run, step):
        return next(COUNTER)

class Peeping(Good):
    name = "peeping"
    def disturb(self, observed, run, step):
        return float((run._path.parent.parent / "truth.zarr").exists())

class Homesick(Good):
    name = "homesick"
    def disturb(self, observed, run, step):
        return float("rather" in str(run._path))

class Stubborn(Good):
    name = "stubborn"
    def reconstruct(self, observed, params, run):
        try:
            return super().reconstruct(observed, params, run)
        except BaseException:
            import torch
            return Reconstruction(torch.ones((observed.box,) * 3))

class Careless(Good):
    name = "careless"
    def save(self, run, step, state):
        pass

class Forgetful(Good):
    """Keeps the volume and not the generator."""
    name = "forgetful"
    def save(self, run, step, state):
        import torch
        run.checkpoint(state | {"generator": torch.Generator().get_state()}, step)

class NeverLooks(Good):
    name = "never-looks"
    def reconstruct(self, observed, params, run):
        run.restore = lambda: None
        return super().reconstruct(observed, params, run)

class Tireless(Good):
    name = "tireless"
    def reconstruct(self, observed, params, run):
        run.remaining = lambda: 1.0
        return super().reconstruct(observed, params, run)
    def disturb(self, observed, run, step):
        time.sleep(0.1)
        return 0.0
'''
HEAVY = "import scipy\nfrom misbehaving import Good\n\nclass Heavy(Good):\n    name = 'heavy'\n"
BROKEN = "import no_such_module\n"
SECOND_MODULE = {"heavy": "weighty:Heavy", "absent": "vanished:Absent"}


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The methods above, installed as a distribution."""
    place = tmp_path_factory.mktemp("site")
    for name, text in (("misbehaving", METHODS), ("weighty", HEAVY), ("vanished", BROKEN)):
        (place / f"{name}.py").write_text(text, encoding="utf-8")
    names = [
        line.split('"')[1]
        for line in METHODS.splitlines()
        if line.startswith(("    name = ", "    name, ")) and '"' in line
    ]
    classes = [
        line.split()[1].split("(")[0] for line in METHODS.splitlines() if "(Good):" in line or "(Reconstructor)" in line
    ]
    points = {name: f"misbehaving:{found}" for name, found in zip(names, classes, strict=True)} | SECOND_MODULE
    info = place / "misbehaving-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: misbehaving\nVersion: 1.0\n", encoding="utf-8")
    listed = "\n".join(f"{name} = {target}" for name, target in points.items())
    (info / "entry_points.txt").write_text(f"[cryobench.reconstructors]\n{listed}\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(place))
        yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.mktemp("tiny"), particles=8)


def kit(name: str, **settings: Any) -> ReconstructorTests:
    """The conformance tests of a method."""
    return type("Kit", (ReconstructorTests,), {"method": name, **settings})()


def finish(tests: ReconstructorTests, tiny: Path, tmp_path: Path) -> Any:
    """What the fixture ``finished`` gives."""
    place = tmp_path / "finished"
    place.mkdir()
    return tests.finish(tests.copy_dataset(tiny, place, with_truth=True))


class TestAGoodMethod(ReconstructorTests):
    method = "good"


class TestAGoodMethodThatStartsAnew(ReconstructorTests):
    method = "careless"
    checkpoints = False


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("nobody", "entry point"),
        ("unsummed", "summary is empty"),
        ("wordy", "several lines"),
        ("absent", "no_such_module"),
    ],
)
def test_registration_is_checked(name: str, complaint: str) -> None:
    with pytest.raises((AssertionError, PluginError), match=complaint):
        kit(name).test_is_registered()


@pytest.mark.parametrize(("name", "complaint"), [("greedy", "needs.gpu"), ("listed", "needs.programs")])
def test_needs_are_checked(name: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        kit(name).test_declares_its_needs()


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("loose", "extra="),
        ("undescribed", "rate lacks a description"),
        ("untyped", "rate takes anything"),
        ("demanding", "rate has no default"),
    ],
)
def test_parameters_are_checked(name: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        kit(name).test_parameters_are_described_and_strict()


def test_heavy_imports_are_found() -> None:
    with pytest.raises(AssertionError, match="imports scipy"):
        kit("heavy").test_imports_light()
    with pytest.raises(AssertionError, match="no_such_module"):
        kit("absent").test_imports_light()


def test_misspelt_parameters_are_checked(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tests = kit("good")
    for module in (checks, run):
        monkeypatch.setattr(module, "parse_params", lambda method, _: method.Params())
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        tests.test_refuses_a_misspelt_parameter_before_any_work(tiny, tmp_path)


def test_volumes_are_checked(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"0\.0 everywhere"):
        kit("flat").test_returns_volumes(finish(kit("flat"), tiny, tmp_path))


@pytest.mark.parametrize(("name", "complaint"), [("silent", "never called"), ("backwards", "do not rise")])
def test_progress_is_checked(name: str, complaint: str, tiny: Path, tmp_path: Path) -> None:
    tests = kit(name)
    with pytest.raises(AssertionError, match=complaint):
        tests.test_reports_progress(finish(tests, tiny, tmp_path))


def test_repeatability_is_checked(tiny: Path, tmp_path: Path) -> None:
    tests = kit("restless")
    with pytest.raises(pytest.fail.Exception, match="same seed differs"):
        tests.test_same_seed_gives_the_same_result(finish(tests, tiny, tmp_path))


def test_a_look_at_the_truth_is_found(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tests = kit("peeping")
    with pytest.raises(pytest.fail.Exception, match="when the truth is moved away"):
        tests.test_truth_is_out_of_reach(finish(tests, tiny, tmp_path), tiny, tmp_path / "alone", monkeypatch)


@pytest.mark.parametrize("leak", ["path", "text", "nested"])
def test_a_path_in_the_method_s_hands_is_found(
    leak: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tests = kit("good")
    finished = finish(tests, tiny, tmp_path)
    place = tmp_path / "alone"

    def leaky(*arguments: Any) -> Observed:
        observed = Observed(*arguments)
        leaks: dict[str, Any] = {"path": place, "text": f"from {place}/observed.zarr", "nested": {"origin": [place]}}
        observed.extra = leaks[leak]  # type: ignore[attr-defined]
        return observed

    monkeypatch.setattr(run, "Observed", leaky)
    with pytest.raises(AssertionError, match=r"Observed\.extra leads to a path"):
        tests.test_truth_is_out_of_reach(finished, tiny, place, monkeypatch)


def test_dependence_on_the_place_is_found(tiny: Path, tmp_path: Path) -> None:
    tests = kit("homesick")
    with pytest.raises(pytest.fail.Exception, match="another directory"):
        tests.test_does_not_depend_on_where_the_data_lie(finish(tests, tiny, tmp_path), tiny, tmp_path)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("stubborn", "did not come through"),
        ("careless", "no checkpoint"),
        ("forgetful", "interrupted and resumed run differs"),
        ("never-looks", "never restored"),
    ],
)
def test_resumption_is_checked(
    name: str, complaint: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tests = kit(name)
    with pytest.raises((AssertionError, pytest.fail.Exception), match=complaint):
        tests.test_goes_on_after_an_interruption(finish(tests, tiny, tmp_path), tiny, tmp_path / "again", monkeypatch)


def test_an_overrun_budget_is_found(tiny: Path, tmp_path: Path) -> None:
    tests = kit("tireless", budget_seconds=0.01, grace_seconds=0.1)
    with pytest.raises(pytest.fail.Exception, match="into a budget"):
        tests.test_keeps_to_its_budget(tiny, tmp_path / "first")
    late = kit("tireless", budget_seconds=0.01, grace_seconds=0.55)  # the last step, after which no more is reported
    with pytest.raises((AssertionError, pytest.fail.Exception), match="budget"):
        late.test_keeps_to_its_budget(tiny, tmp_path / "second")


def test_volumes_are_read_by_half(tiny: Path, tmp_path: Path) -> None:
    finished = finish(kit("good"), tiny, tmp_path)
    volumes = read_volumes(finished.directory)
    assert volumes.shape == (2, 16, 16, 16)
    assert (volumes[0] != volumes[1]).any()
