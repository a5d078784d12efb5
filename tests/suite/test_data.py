"""Real particles as rows: by a recipe from the data directory, or imported by the user."""

from __future__ import annotations

from pathlib import Path

import pytest

from cryobench.dataset.store import open_store
from cryobench.suite.plan import DatasetPlan
from cryobench.suite.request import Request, make_plan
from cryobench.suite.spec import load_suite
from cryobench.suite.states import read_state
from cryobench.suite.work import DATASET, work
from cryobench.testing.tiny import tiny_run

ROW = "beta-galactosidase, EMPIAR-10204"


def make(data: DatasetPlan, place: Path) -> None:
    """Do what the process of a dataset does."""
    place.mkdir(exist_ok=True)
    (place / DATASET).write_text(f'{{"dataset": {data.model_dump_json()}, "workers": 1}}')
    work(place)
    assert read_state(place).state == "finished", read_state(place)


def recipe_of(size: str, box: int | None, directory: Path) -> DatasetPlan:
    plan = make_plan(Request(load_suite("experimental"), size, box=box), directory)
    (key,) = {cell.dataset for cell in plan.cells if cell.label == ROW}
    return plan.datasets[str(key)]


def test_particles_of_the_data_directory_come_by_their_recipe(
    data_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRYOBENCH_OFFLINE", "1")
    data = recipe_of("desk", 16, tmp_path)
    make(data, tmp_path / "data")
    store = tmp_path / "data" / "observed.zarr"
    observed = open_store(store, "observed")
    assert dict(observed["images"].sizes) == {"particle": 1408, "y": 16, "x": 16}
    assert observed.attrs["symmetry"] == "D2"
    assert observed.attrs["voxel_size"] == pytest.approx(64 * 3.54 / 16)
    written = (store / "zarr.json").stat().st_mtime_ns
    make(data, tmp_path / "data")
    assert (store / "zarr.json").stat().st_mtime_ns == written, "what is whole is left alone"
    assert recipe_of("desk", None, tmp_path).box == 32
    assert recipe_of("paper", None, tmp_path).box == 64, "no finer than the images are"
    assert len({recipe_of("desk", box, tmp_path).key for box in (16, 32)}) == 2


def test_imported_particles_are_shared_in_place(tmp_path: Path) -> None:
    tiny_run(tmp_path / "mine", particles=16)
    request = Request(load_suite("experimental"), data={"empiar-10061": tmp_path / "mine"})
    cells = [c for c in make_plan(request, tmp_path).cells if c.label == "beta-galactosidase, EMPIAR-10061"]
    plan = make_plan(request, tmp_path)
    assert all(cell.declined is None for cell in cells)
    make(plan.datasets[str(cells[0].dataset)], tmp_path / "data")
    link = tmp_path / "data" / "observed.zarr"
    assert link.resolve() == (tmp_path / "mine" / "observed.zarr").resolve()
    assert not (tmp_path / "data" / "truth.zarr").exists()
