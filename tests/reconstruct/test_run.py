"""The harness: it declines before work is done, keeps what was done, goes on from it, and overwrites nothing silently."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import xarray as xr
from pydantic import BaseModel, ConfigDict, Field

from cryobench.conventions import WHOLE
from cryobench.dataset.store import open_predicted, open_store
from cryobench.dataset.view import Observed
from cryobench.errors import Declined, InputError, PluginError, StoreError, UnknownName
from cryobench.physics.rotation import matrix_to_quaternion
from cryobench.reconstruct import checks
from cryobench.reconstruct import run as harness_of
from cryobench.reconstruct.contract import Needs, Reconstruction, Reconstructor, Run
from cryobench.reconstruct.run import method_seed
from cryobench.testing.tiny import tiny_run

STEPS = 8
reconstruct = partial(harness_of.reconstruct, workers=1)  # in this process, where the methods of these tests are
Work = Callable[[Observed, Any, Run], Reconstruction]


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rate: float = Field(1.0, ge=0, description="of growth")


def volume_of(observed: Observed, value: float = 1.0) -> torch.Tensor:
    return torch.full((observed.box,) * 3, value)


def walk(observed: Observed, params: Params, run: Run) -> Reconstruction:
    """Grows by ``rate`` a step; a snapshot every second step, a checkpoint every third."""
    kept = run.restore() or {"step": 0, "value": torch.zeros(())}
    value = kept["value"]
    for step in range(kept["step"] + 1, STEPS + 1):
        value = value + params.rate
        run.progress(step, STEPS, images_seen=10 * step, height=float(value))
        if step % 2 == 0:
            run.snapshot(volume_of(observed, float(value)), images_seen=10 * step)
        if step % 3 == 0:
            run.checkpoint({"step": step, "value": value}, step)
    return Reconstruction(volume_of(observed, float(value)), notes=[f"seed {run.seed} on {run.device}"])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.mktemp("dataset"), particles=10)


@pytest.fixture
def directory(dataset: Path, tmp_path: Path) -> Path:
    shutil.copytree(dataset, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(autouse=True)
def every_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryobench.reconstruct.harness.HISTORY_INTERVAL", 0.0)
    monkeypatch.setattr(harness_of, "describe", lambda *_: {})


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """``install(work, **needs)`` makes ``work`` the method "method"."""

    def put(work: Work, **needs: Any) -> None:
        class Method(Reconstructor):
            name: ClassVar[str] = "method"
            summary: ClassVar[str] = "of this test"

            def reconstruct(self, observed: Observed, params: Any, run: Run) -> Reconstruction:
                return work(observed, params, run)

        Method.Params, Method.needs = Params, Needs(**needs)
        for module in (harness_of, checks):
            monkeypatch.setattr(module, "load_method", lambda _: Method)

    return put


def stop_at(half: int, step: int) -> Callable[..., None]:
    def listen(now_half: int, now_step: int, *_: Any) -> None:
        if (now_half, now_step) == (half, step):
            raise KeyboardInterrupt

    return listen


# --- before any work ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("needs", "options", "reason"),
    [
        ({"gpu": "required"}, {"device": "cpu"}, "needs a CUDA device, and cpu was chosen"),
        ({"programs": ("no-such-program", "python")}, {}, "needs no-such-program on the search path"),
        pytest.param(
            {},
            {"device": "cuda"},
            "expected a CUDA device for --device cuda, found none",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has one"),
        ),
    ],
)
def test_declines_with_a_reason(
    directory: Path, install: Callable[..., None], needs: dict[str, Any], options: dict[str, Any], reason: str
) -> None:
    install(lambda *_: pytest.fail("the method was called"), **needs)
    with pytest.raises(Declined, match=reason):
        reconstruct(directory, "method", **options)
    assert not (directory / "predicted.zarr").exists()


@pytest.mark.parametrize(
    ("params", "device", "error", "reason"),
    [
        ({"raet": 1}, "cpu", UnknownName, r"parameter of method 'method', got 'raet'; did you mean 'rate'\?"),
        ({"rate": "fast"}, "cpu", InputError, "rate: .* valid number.*'fast'"),
        ({"rate": -1}, "cpu", InputError, "rate: .*greater than or equal to 0"),
        ({}, "toaster", InputError, "expected a device such as 'cpu'"),
    ],
)
def test_refuses_bad_parameters_and_devices(
    directory: Path,
    install: Callable[..., None],
    params: dict[str, Any],
    device: str,
    error: type[Exception],
    reason: str,
) -> None:
    install(walk)
    with pytest.raises(error, match=reason):
        reconstruct(directory, "method", params, device=device)
    assert not (directory / "predicted.zarr").exists()


def test_refuses_a_directory_without_a_dataset(tmp_path: Path, install: Callable[..., None]) -> None:
    install(walk)
    with pytest.raises(StoreError, match=r"observed\.zarr, found nothing"):
        reconstruct(tmp_path, "method")


# --- poses --------------------------------------------------------------------------------------------------------------


def test_methods_see_no_poses_unless_they_need_them(directory: Path, install: Callable[..., None]) -> None:
    seen = []

    def look(observed: Observed, _: Any, run: Run) -> Reconstruction:
        run.progress(1, 1)
        batch = observed.read(slice(None))
        seen.append((batch.rotations, batch.shifts))
        return Reconstruction(volume_of(observed))

    install(look)
    reconstruct(directory, "method", device="cpu")
    assert seen == [(None, None)] * 2
    attrs, _ = open_predicted(directory / "predicted.zarr")
    assert (attrs["oracle_poses"], attrs["given_poses"]) == (False, None)
    install(look, poses=True)
    reconstruct(directory, "method", seed=1, overwrite=True, device="cpu")
    attrs, _ = open_predicted(directory / "predicted.zarr")
    assert (attrs["oracle_poses"], attrs["given_poses"]) == (True, "true")
    truth = open_store(directory / "truth.zarr", "truth")
    half = open_store(directory / "observed.zarr", "observed")["half"].values
    for number, (rotations, shifts) in enumerate(seen[2:], 1):
        expected = torch.as_tensor(truth["rotation"].values[half == number])
        dot = (matrix_to_quaternion(rotations).double() * expected).sum(-1).abs()
        torch.testing.assert_close(dot, torch.ones_like(dot), rtol=0, atol=1e-6)
        torch.testing.assert_close(shifts, torch.as_tensor(truth["shift"].values[half == number]).float())


def test_declines_where_there_are_no_poses_and_takes_those_of_an_import(
    directory: Path, install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(directory / "truth.zarr")
    handed = []

    def look(observed: Observed, _: Any, run: Run) -> Reconstruction:
        run.progress(1, 1)
        handed.append(observed.read(slice(None)).shifts)
        return Reconstruction(volume_of(observed))

    install(look, poses=True)
    with pytest.raises(Declined, match="neither a truth nor poses"):
        reconstruct(directory, "method", device="cpu")

    def with_given(path: Path, kind: Any) -> xr.Dataset:
        found = open_store(path, kind)
        particles = found.sizes["particle"]
        given = np.tile([0.0, 0, 0, 1], (particles, 1)), np.arange(2.0 * particles).reshape(-1, 2)
        return found.assign(
            given_rotation=(("particle", "quaternion"), given[0]), given_shift=(("particle", "xy"), given[1])
        )

    monkeypatch.setattr(harness_of, "open_store", with_given)
    reconstruct(directory, "method", device="cpu")
    assert handed[1][:, 0].tolist() == [2.0, 6.0, 10.0, 14.0, 18.0]
    attrs, _ = open_predicted(directory / "predicted.zarr")
    assert (attrs["oracle_poses"], attrs["given_poses"]) == (False, "imported")


# --- what is kept -------------------------------------------------------------------------------------------------------


def test_all_particles_are_one_set_where_that_is_asked_for(directory: Path, install: Callable[..., None]) -> None:
    """With poses, which are then those of all particles; the two halves' result stays as it was."""
    seen = []

    def look(observed: Observed, params: Params, run: Run) -> Reconstruction:
        batch = observed.read(slice(None))
        seen.append((len(observed), None if batch.shifts is None else len(batch.shifts), run.seed))
        return walk(observed, params, run)

    install(look, poses=True)
    halves = reconstruct(directory, "method")
    whole = reconstruct(directory, "method", store="whole.zarr", halves=(WHOLE,))
    assert seen == [(5, 5, method_seed(0, 1)), (5, 5, method_seed(0, 2)), (10, 10, method_seed(0, WHOLE))]
    _, sets = open_predicted(whole, (WHOLE,))
    assert sets[WHOLE].attrs["complete"]
    assert open_predicted(halves)[1].keys() == {1, 2}


def test_keeps_volumes_history_snapshots_cost_and_provenance(directory: Path, install: Callable[..., None]) -> None:
    install(walk)
    told = []
    path = reconstruct(
        directory, "method", {"rate": 0.5}, seed=3, device="cpu", on_progress=lambda *report: told.append(report)
    )
    attrs, halves = open_predicted(path)
    assert attrs["method"] == "method"
    assert attrs["params"] == {"rate": 0.5}
    assert attrs["seed"] == 3
    assert attrs["device"] == "cpu"
    assert attrs["symmetry"] == "D2"
    assert not (directory / "predicted.checkpoints").exists()
    assert [(half, step, total) for half, step, total, _ in told] == [
        (h, s + 1, STEPS) for h in (1, 2) for s in range(STEPS)
    ]
    assert told[3][3] == {"height": 2.0}
    for half, found in halves.items():
        assert (found["volume"].values == 0.5 * STEPS).all()
        assert found["history_height"].values.tolist() == [0.5 * (s + 1) for s in range(STEPS)]
        assert found["history_step"].values.tolist() == list(range(1, STEPS + 1))
        assert found["snapshots"].values[:, 0, 0, 0].tolist() == [1.0, 2.0, 3.0, 4.0]
        assert found["snapshot_images_seen"].values.tolist() == [20, 40, 60, 80]
        assert (np.diff(found["snapshot_seconds"].values) > 0).all()
        assert found.attrs["steps"] == STEPS
        assert found.attrs["gpu_seconds"] is None
        assert found.attrs["peak_memory_bytes"] > 1e7
        assert found.attrs["notes"] == [f"seed {method_seed(3, half)} on cpu"]
    assert method_seed(3, 1) != method_seed(3, 2)


def test_the_clock_leaves_out_what_the_harness_writes(directory: Path, install: Callable[..., None]) -> None:
    def work(observed: Observed, _: Any, run: Run) -> Reconstruction:
        for _ in range(20):
            run.snapshot(volume_of(observed))
            run.checkpoint({"volume": volume_of(observed)}, 1)
        time.sleep(0.05)
        return Reconstruction(volume_of(observed))

    install(work)
    began = time.perf_counter()
    _, halves = open_predicted(reconstruct(directory, "method", device="cpu"))
    whole = time.perf_counter() - began
    counted = sum(found.attrs["wall_seconds"] for found in halves.values())
    assert 0.1 <= counted < 0.5 * whole


# --- stopping and going on ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [(1, 1), (1, 5), (2, 4), (2, 8)], ids=str)
def test_goes_on_where_it_was_stopped(directory: Path, install: Callable[..., None], where: tuple[int, int]) -> None:
    install(walk)
    with pytest.raises(KeyboardInterrupt):
        reconstruct(directory, "method", device="cpu", on_progress=stop_at(*where))
    with pytest.raises(StoreError, match="unfinished"):
        open_predicted(directory / "predicted.zarr")
    told: list[tuple[int, int]] = []
    reconstruct(directory, "method", device="cpu", on_progress=lambda half, step, *_: told.append((half, step)))
    half, step = where
    assert told[0] == (half, 3 * (step // 3) + 1)
    _, halves = open_predicted(directory / "predicted.zarr")
    for found in halves.values():
        assert (found["volume"].values == STEPS).all()
        assert found["history_step"].values.tolist() == list(range(1, STEPS + 1))
        assert found["snapshots"].values[:, 0, 0, 0].tolist() == [2.0, 4.0, 6.0, 8.0]


def test_a_method_that_starts_anew_leaves_no_trace_of_the_first_try(
    directory: Path, install: Callable[..., None]
) -> None:
    def anew(observed: Observed, params: Params, run: Run) -> Reconstruction:
        for step in range(1, 4):
            run.snapshot(volume_of(observed, step))
            run.progress(step, 3)
        return Reconstruction(volume_of(observed))

    install(anew)
    with pytest.raises(KeyboardInterrupt):
        reconstruct(directory, "method", device="cpu", on_progress=stop_at(1, 2))
    _, halves = open_predicted(reconstruct(directory, "method", device="cpu"))
    for found in halves.values():
        assert found["snapshots"].values[:, 0, 0, 0].tolist() == [1.0, 2.0, 3.0]
        assert found["history_step"].values.tolist() == [1, 2, 3]


def test_a_checkpoint_of_a_removed_result_is_not_taken_up(directory: Path, install: Callable[..., None]) -> None:
    install(walk)
    with pytest.raises(KeyboardInterrupt):
        reconstruct(directory, "method", {"rate": 100.0}, device="cpu", on_progress=stop_at(1, 5))
    shutil.rmtree(directory / "predicted.zarr")
    _, halves = open_predicted(reconstruct(directory, "method", device="cpu"))
    assert (halves[1]["volume"].values == STEPS).all()


def test_the_budget_holds_for_each_half_and_counts_earlier_tries(directory: Path, install: Callable[..., None]) -> None:
    left = []

    def patient(observed: Observed, _: Any, run: Run) -> Reconstruction:
        kept = run.restore()
        left.append(run.remaining())
        step = 0 if kept is None else kept["step"]
        while run.remaining() > 0:
            time.sleep(0.02)
            step += 1
            run.checkpoint({"step": step}, step)
            run.progress(step, 1000)
        return Reconstruction(volume_of(observed))

    install(patient)
    with pytest.raises(KeyboardInterrupt):
        reconstruct(directory, "method", device="cpu", budget=0.3, on_progress=stop_at(1, 5))
    _, halves = open_predicted(reconstruct(directory, "method", device="cpu", budget=0.3))
    first, resumed, second = left
    assert first == pytest.approx(0.3, abs=0.05)
    assert resumed <= 0.3 - 4 * 0.02
    assert second == pytest.approx(0.3, abs=0.05)
    assert all(0.3 <= found.attrs["wall_seconds"] < 2 for found in halves.values())


def test_without_a_budget_the_time_left_is_endless(directory: Path, install: Callable[..., None]) -> None:
    def work(observed: Observed, _: Any, run: Run) -> Reconstruction:
        assert run.remaining() == math.inf
        return Reconstruction(volume_of(observed))

    install(work)
    assert reconstruct(directory, "method", device="cpu").exists()


# --- results that are there already -------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"params": {"rate": 2.0}}, {"seed": 5}, {"budget": 60.0}], ids=str)
def test_another_result_is_not_overwritten_silently(
    directory: Path, install: Callable[..., None], change: dict[str, Any]
) -> None:
    install(walk)
    path = reconstruct(directory, "method", device="cpu")
    with pytest.raises(StoreError, match=r"holds a result of method 'method' with other .*--overwrite"):
        reconstruct(directory, "method", device="cpu", **change)
    assert open_predicted(path)[0]["seed"] == 0
    reconstruct(directory, "method", device="cpu", overwrite=True, **change)
    attrs, halves = open_predicted(path)
    assert attrs["seed"] == change.get("seed", 0)
    assert (halves[1]["volume"].values == STEPS * change.get("params", {}).get("rate", 1.0)).all()


def test_the_same_result_is_not_computed_again(directory: Path, install: Callable[..., None]) -> None:
    install(walk)
    path = reconstruct(directory, "method", device="cpu")
    install(lambda *_: pytest.fail("the method was called"))
    assert reconstruct(directory, "method", device="cpu") == path


def test_another_store_stands_beside_the_first_and_is_replaced_only_where_it_differs(
    directory: Path, install: Callable[..., None]
) -> None:
    install(walk)
    beside = partial(reconstruct, directory, "method", device="cpu", store="other.zarr", overwrite="other")
    first = reconstruct(directory, "method", device="cpu")
    with pytest.raises(KeyboardInterrupt):
        beside({"rate": 3.0}, on_progress=stop_at(1, 5))
    assert [path.name for path in directory.glob("*.checkpoints")] == ["other.checkpoints"]
    told: list[tuple[int, int]] = []
    assert beside({"rate": 3.0}, on_progress=lambda half, step, *_: told.append((half, step))).name == "other.zarr"
    assert told[0] == (1, 4)
    assert not list(directory.glob("*.checkpoints"))
    _, halves = open_predicted(beside({"rate": 2.0}))
    assert (halves[1]["volume"].values == 2 * STEPS).all()
    install(lambda *_: pytest.fail("the method was called"))
    beside({"rate": 2.0})
    assert (open_predicted(first)[1][1]["volume"].values == STEPS).all()


def test_what_is_no_store_is_not_overwritten(directory: Path, install: Callable[..., None]) -> None:
    install(walk)
    (directory / "predicted.zarr").mkdir()
    (directory / "predicted.zarr" / "thesis.txt").write_text("irreplaceable", encoding="utf-8")
    with pytest.raises(StoreError, match="holds a result of method None"):
        reconstruct(directory, "method", device="cpu")
    assert (directory / "predicted.zarr" / "thesis.txt").exists()


# --- methods at fault ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (lambda _: None, "to return a Reconstruction, got NoneType"),
        (
            lambda box: Reconstruction(torch.zeros(box, box, box - 1)),
            r"volume of shape \(16, 16, 16\), got shape \(16, 16, 15\)",
        ),
        (lambda box: Reconstruction(torch.full((box,) * 3, math.nan)), "finite volume .* with NaN or infinity"),
        (
            lambda box: Reconstruction(torch.ones((box,) * 3), torch.ones(2, box, 8)),
            r"example_images of shape \(any, 16, 16\)",
        ),
        (
            lambda box: Reconstruction(torch.ones((box,) * 3), rotations=torch.ones(5, 4)),
            r"rotations of shape \(5, 3, 3\)",
        ),
        (lambda box: Reconstruction(torch.ones((box,) * 3), shifts=torch.full((5, 2), math.inf)), "finite shifts"),
    ],
    ids=["nothing", "misshapen", "NaN", "examples", "rotations", "shifts"],
)
def test_a_result_that_breaks_the_contract_is_refused(
    directory: Path, install: Callable[..., None], result: Callable[[int], Any], reason: str
) -> None:
    install(lambda observed, *_: result(observed.box))
    with pytest.raises(PluginError, match=reason):
        reconstruct(directory, "method", device="cpu")
    with pytest.raises(StoreError, match="unfinished"):
        open_predicted(directory / "predicted.zarr")


def test_estimated_poses_and_example_images_are_kept(directory: Path, install: Callable[..., None]) -> None:
    def work(observed: Observed, _: Any, run: Run) -> Reconstruction:
        rotations, shifts = observed.sample_poses(len(observed), torch.Generator().manual_seed(run.seed))
        return Reconstruction(volume_of(observed), torch.ones(3, 16, 16), rotations, shifts)

    install(work)
    _, halves = open_predicted(reconstruct(directory, "method", device="cpu"))
    found = halves[2]
    assert found["rotation"].shape == (5, 4)
    assert found["rotation"].dims == ("particle", "quaternion")
    assert found["shift"].dims == ("particle", "xy")
    assert found["example_images"].shape == (3, 16, 16)
    np.testing.assert_allclose(np.linalg.norm(found["rotation"].values, axis=1), 1, rtol=1e-5)


def test_a_crash_in_a_method_is_named_and_its_history_kept(directory: Path, install: Callable[..., None]) -> None:
    def crash(observed: Observed, _: Any, run: Run) -> Reconstruction:
        run.progress(1, 2, loss=4.0)
        raise ZeroDivisionError("no images left")

    install(crash)
    with pytest.raises(PluginError, match="method 'method' failed: ZeroDivisionError: no images left") as caught:
        reconstruct(directory, "method", device="cpu")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    half = xr.open_zarr(directory / "predicted.zarr", group="half1", consolidated=False, chunks=None)
    assert half["history_loss"].values.tolist() == [4.0]


def test_a_method_may_decline_by_itself(directory: Path, install: Callable[..., None]) -> None:
    def decline(*_: Any) -> Reconstruction:
        raise Declined("needs an odd box")

    install(decline)
    with pytest.raises(Declined, match="needs an odd box"):
        reconstruct(directory, "method", device="cpu")


def test_a_snapshot_must_be_finite(directory: Path, install: Callable[..., None]) -> None:
    def work(observed: Observed, _: Any, run: Run) -> Reconstruction:
        run.snapshot(volume_of(observed, math.inf))
        return Reconstruction(volume_of(observed))

    install(work)
    with pytest.raises(InputError, match="finite volume in the snapshot"):
        reconstruct(directory, "method", device="cpu")


def test_what_is_kept_of_parameters_reads_back_as_json(directory: Path, install: Callable[..., None]) -> None:
    install(walk)
    path = reconstruct(directory, "method", {"rate": 0.25}, device="cpu")
    attrs = json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]
    assert attrs["params"] == {"rate": 0.25}
    assert attrs["cryobench_store"] == "predicted"
