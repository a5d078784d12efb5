"""A result computed again: identical where it can be, and honest about what differs where it cannot."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

from cryobench.cli import main
from cryobench.dataset.store import open_predicted
from cryobench.errors import InputError, StoreError, UnknownName
from cryobench.evaluate.options import Options
from cryobench.interop.mrc import write_map
from cryobench.physics.grids import soft_sphere
from cryobench.pipeline import Method, judge, solve
from cryobench.reproduce import compare, reproduce
from cryobench.testing.tiny import tiny_run


@pytest.fixture(scope="module")
def mask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mask") / "mask.mrc"
    write_map(path, soft_sphere(16, 5.0, 3.0, torch.zeros(())), 24 * 9.768 / 16)
    return path


@pytest.fixture(scope="module")
def options(mask: Path) -> Options:
    return Options(mask=mask, yardsticks=False, bootstrap_draws=40)


@pytest.fixture(scope="module")
def first(options: Options, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by the quickest method there is, its method's seed another than its dataset's."""
    directory = tiny_run(tmp_path_factory.mktemp("first") / "run", seed=3, particles=40, snr_db=-5.0)
    solve(directory, Method("backproject", {"wiener": 2.0}, "cpu", workers=1), seed=4)
    judge(directory, options=options)
    return directory


@pytest.fixture(scope="module")
def result(first: Path) -> dict[str, Any]:
    return json.loads((first / "result.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryobench.reconstruct.run.default_workers", lambda _: 1)


def test_a_run_is_repeated_to_the_last_digit_from_its_result_alone(
    first: Path, result: dict[str, Any], mask: Path, tmp_path: Path
) -> None:
    shutil.copy(first / "result.json", tmp_path / "result.json")
    found, directory = reproduce(tmp_path / "result.json", tmp_path / "again", mask=mask)
    assert found["verdict"] == "identical"
    assert found["environment"] == []
    assert found["dataset"]["same"]
    assert set(found["fsc"].values()) == {0.0}
    assert found["volumes"] == {half: {"same": True, "correlation": None} for half in ("half1", "half2")}
    again = json.loads((directory / "result.json").read_text(encoding="utf-8"))
    assert (again["params"], again["seed"], again["dataset"]["seed"]) == (result["params"], 4, 3)
    assert again["options"] == result["options"]
    assert json.loads((directory / "reproduction.json").read_text(encoding="utf-8")) == found


def test_a_given_dataset_must_be_the_one_that_it_was_made_from(first: Path, mask: Path, tmp_path: Path) -> None:
    other = tiny_run(tmp_path / "other", seed=5, particles=40)
    with pytest.raises(StoreError, match="got one of digest"):
        reproduce(first, tmp_path / "again", data=other, mask=mask)


def test_another_volume_than_then_is_a_failure_with_its_own_exit_code(
    first: Path,
    mask: Path,
    options: Options,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The first result is falsified as if it had come from better images."""
    forged = tmp_path / "forged"
    shutil.copytree(first, forged)
    _, halves = open_predicted(forged / "predicted.zarr")
    # noise of half the power, so that the first result is better than what its request gives
    for half in (1, 2):
        clean = sum(halves[h]["volume"].values for h in (1, 2)) / 2
        group = zarr.open_group(forged / "predicted.zarr" / f"half{half}", mode="r+")
        group["volume"][...] = clean + 0.2 * (halves[half]["volume"].values - clean)
    judge(forged, options=options)
    monkeypatch.setenv("COLUMNS", "160")
    with pytest.raises(SystemExit) as left:
        main(["reproduce", *map(str, (forged, "--data", first, "--mask", mask, "--out", tmp_path / "again"))])
    assert left.value.code == 3
    said = capsys.readouterr().out
    assert (tmp_path / "again" / "observed.zarr").is_symlink()
    assert "Versions, processor and method are the same" in said
    assert "volume of half 2: different" in said
    assert "not reproduced" in said
    assert "outside" in said
    found = json.loads((tmp_path / "again" / "reproduction.json").read_text(encoding="utf-8"))
    assert not found["volumes"]["half1"]["same"]
    assert 0.3 < found["volumes"]["half1"]["correlation"] < 0.9999


def test_says_what_is_missing_before_any_work(first: Path, result: dict[str, Any], mask: Path, tmp_path: Path) -> None:
    def written(**changes: Any) -> Path:
        path = tmp_path / "result.json"
        path.write_text(json.dumps(result | changes), encoding="utf-8")
        return path

    out, options = tmp_path / "again", result["options"]
    with pytest.raises(InputError, match="another directory"):
        reproduce(first, first)
    with pytest.raises(InputError, match="imported and cannot be simulated; name its directory with --data"):
        reproduce(written(dataset=None), out, mask=mask)
    with pytest.raises(InputError, match=r"expected the mask mask\.mrc .* got none; give it with --mask"):
        reproduce(first, out)
    write_map(tmp_path / "other.mrc", torch.ones(16, 16, 16), 14.0)
    with pytest.raises(InputError, match=r"expected the mask mask\.mrc .* got .*other\.mrc"):
        reproduce(first, out, mask=tmp_path / "other.mrc")
    truth = {"name": "map.mrc", "files": [{"file": "map.mrc", "sha256": "0" * 64}]}
    with pytest.raises(InputError, match=r"the truth map\.mrc .*--truth"):
        reproduce(written(options=options | {"truth": truth}), out, mask=mask)
    with pytest.raises(InputError, match=r"got another file, .*other\.mrc"):
        reproduce(tmp_path / "result.json", out, mask=mask, truth=str(tmp_path / "other.mrc"))
    store = {"name": "truth.zarr", "digest": "0" * 64}
    with pytest.raises(InputError, match=r"the truth truth\.zarr .*got another store"):
        reproduce(written(options=options | {"truth": store}), out, mask=mask, truth=str(first))
    with pytest.raises(InputError, match="got another file"):
        reproduce(tmp_path / "result.json", out, mask=mask, truth=str(tmp_path / "other.mrc"))
    with pytest.raises(InputError, match="found nothing; evaluate the run first"):
        reproduce(tmp_path / "nowhere", out)
    with pytest.raises(InputError, match="the bare map 'backproject', which does not say how it was made"):
        reproduce(written(provenance=None), out)
    with pytest.raises(UnknownName, match="expected the name of a method, got 'gone'"):
        reproduce(written(method="gone"), out)
    assert not out.exists()


# --- the comparison alone -----------------------------------------------------------------------------------------------

NOWHERE = {"half1": None, "half2": None}


def changed(result: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    copied = copy.deepcopy(result)
    *folders, name = path.split("/")
    inner = copied
    for folder in folders:
        inner = inner[folder]
    inner[name] = value
    return copied


def test_intervals_decide_between_a_repeat_and_a_difference(result: dict[str, Any]) -> None:
    interval = result["intervals"]["half_map"]["0.5"]
    finest, coarsest = interval["finest"], interval["coarsest"]
    for value, verdict in (
        ((finest + coarsest) / 2, "within intervals"),
        (coarsest, "within intervals"),
        (coarsest * 1.01, "different"),
        (finest * 0.99, "different"),
        (None, "different"),
    ):
        now = changed(result, "resolution/half_map/0.5/value", value)
        assert compare(result, now, NOWHERE)["verdict"] == verdict, value
    gap = result["intervals"]["mean_gap"]
    assert (
        compare(result, changed(result, "hallucination/mean_gap", gap["high"]), NOWHERE)["verdict"]
        == "within intervals"
    )
    beyond = changed(result, "hallucination/mean_gap", gap["high"] + 0.01)
    assert compare(result, beyond, NOWHERE)["verdict"] == "different"


def test_what_no_draw_reached_is_not_reproduced_by_reaching_it(result: dict[str, Any]) -> None:
    nothing = {"value": None, "state": "below_at_first_shell"}
    then = changed(result, "resolution/half_map/0.5", nothing)
    then = changed(then, "intervals/half_map/0.5", {"finest": None, "coarsest": None})
    assert compare(then, changed(result, "resolution/half_map/0.5", nothing), NOWHERE)["resolutions"][1]["within"]
    now = changed(result, "resolution/half_map/0.5/value", 30.0)
    assert not compare(then, now, NOWHERE)["resolutions"][1]["within"]
    assert compare(then, now, NOWHERE)["verdict"] == "different"


def test_cost_and_machine_are_told_and_do_not_decide(result: dict[str, Any]) -> None:
    now = changed(result, "provenance/versions/torch", "99.0")
    now = changed(now, "cost/half1/wall_seconds", 1e6)
    found = compare(result, now, NOWHERE)
    assert found["verdict"] == "identical"
    torch = result["provenance"]["versions"]["torch"]
    assert found["environment"] == [{"what": "versions torch", "then": torch, "now": "99.0"}]


def test_a_curve_that_moved_is_measured(result: dict[str, Any]) -> None:
    curve = list(result["fsc"]["truth"])
    curve[3] -= 0.125
    found = compare(result, changed(result, "fsc/truth", curve), NOWHERE)
    assert found["fsc"]["truth"] == pytest.approx(0.125)
    assert found["fsc"]["half_map"] == 0
    assert found["verdict"] == "within intervals"


def test_a_budget_and_a_changed_dataset_are_remarked_on(result: dict[str, Any]) -> None:
    timed = changed(result, "budget_seconds", 60.0)
    now = changed(changed(timed, "digests/observed", "another"), "cost/half2/steps", 7)
    found = compare(timed, now, NOWHERE)
    assert any("60 s of wall-clock time" in remark for remark in found["remarks"])
    assert any("dataset came out different" in remark for remark in found["remarks"])
    assert found["steps"]["half2"] == [result["cost"]["half2"]["steps"], 7]
    assert not found["dataset"]["same"]
    assert np.isfinite(found["hallucination_gap"]["then"])
