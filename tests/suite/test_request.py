"""What is asked for becomes cells whose address changes with all that decides a result, and with nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import zarr

from cryobench.errors import InputError, UnknownName
from cryobench.interop.mrc import write_map
from cryobench.suite.plan import Plan, content_key, merge_plans, read_plan, write_plan
from cryobench.suite.request import Request, make_plan
from cryobench.suite.spec import Suite
from cryobench.suite.workers import share_out
from cryobench.testing.tiny import tiny_run

SUITE: dict[str, Any] = {
    "name": "small",
    "description": "d",
    "sizes": {"desk": {"box": 16, "particles": 192, "budget": "60s"}, "paper": {"box": "native", "particles": 400}},
    "methods": [{"name": "cryogan", "params": {"steps": 20}}, {"name": "backproject", "sizes": ["desk"]}],
    "rows": [
        {"label": "0 dB", "scenario": "tiny"},
        {"label": "-5 dB", "scenario": "tiny", "settings": {"noise": {"snr_db": -5.0}}},
    ],
}


def request(**changes: Any) -> Request:
    return Request(Suite.model_validate(SUITE), **changes)


def keys(asked: Request, directory: Path, method: str = "cryogan") -> list[str]:
    return [cell.key for cell in make_plan(asked, directory).cells if cell.method == method]


def test_a_plan_has_every_row_seed_and_method(tmp_path: Path) -> None:
    plan = make_plan(request(seeds=(0, 3)), tmp_path)
    found = [(cell.label, cell.seed, cell.method) for cell in plan.cells]
    assert found == [(r, s, m) for r in ("0 dB", "-5 dB") for s in (0, 3) for m in ("cryogan", "backproject")]
    assert len(plan.datasets) == 4, "methods share a dataset; rows and seeds do not"
    assert len({cell.key for cell in plan.cells}) == 8
    assert {cell.budget for cell in plan.cells} == {60}
    assert plan.cells[0].params["steps"] == 20
    assert plan.cells[0].params["batch"] > 0, "defaults are resolved"


def test_the_table_says_what_it_was_made_under(tmp_path: Path) -> None:
    assert make_plan(request(), tmp_path).notes == ["here: box of 16 px, 192 images, at most 60s a half"]
    changed = make_plan(request(size="paper", particles=1000, budget=10.0), tmp_path)
    assert changed.notes == ["here: native box, 1,000 images, at most 10 s a half"]


def test_the_native_box_is_the_scenarios(tmp_path: Path) -> None:
    plan = make_plan(request(size="paper"), tmp_path)
    scenarios = [data.scenario for data in plan.datasets.values()]
    assert {(s["image"]["box"], s["particles"]) for s in scenarios if s} == {(24, 400)}
    assert {cell.method for cell in plan.cells} == {"cryogan"}
    assert {cell.budget for cell in plan.cells} == {None}


@pytest.mark.parametrize(
    "changes",
    [
        {"params": {"steps": 21}},
        {"budget": 61.0},
        {"seeds": (1,)},
        {"device": "cpu"},
        {"particles": 200},
        {"box": 18},
    ],
)
def test_what_decides_a_result_changes_its_address(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert not set(keys(request(), tmp_path)) & set(keys(request(**changes), tmp_path))


@pytest.mark.parametrize("name", ["cryobench.suite.request.__version__", "cryobench.suite.request.torch.__version__"])
def test_another_version_is_another_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    before = keys(request(), tmp_path)
    monkeypatch.setattr(name, "99.0")
    assert not set(before) & set(keys(request(), tmp_path))


def test_builds_of_torch_for_cpu_and_cuda_are_one_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for version in ("9.1+cpu", "9.1+cu126"):
        monkeypatch.setattr("cryobench.suite.request.torch.__version__", version)
        found.append(keys(request(), tmp_path))
    assert found[0] == found[1]


def test_what_is_only_said_does_not_change_it(tmp_path: Path) -> None:
    rows = [
        {**row, "label": f"{row['label']}!", "published": {"truth 0.5": 1.0}, "notes": ["n"]} for row in SUITE["rows"]
    ]
    told = Suite.model_validate({**SUITE, "name": "other", "description": "e", "rows": rows})
    assert keys(replace(request(), suite=told), tmp_path) == keys(request(), tmp_path)
    assert keys(request(params={"steps": 20}), tmp_path) == keys(request(), tmp_path)


def test_a_file_that_a_scenario_names_counts_by_its_content(tmp_path: Path) -> None:
    spectrum = tmp_path / "power.toml"
    spectrum.write_text("one")
    row = {"label": "a", "scenario": "tiny", "settings": {"noise": {"kind": "fitted", "path": str(spectrum)}}}
    asked = replace(request(), suite=Suite.model_validate({**SUITE, "rows": [row]}))
    before = keys(asked, tmp_path)
    assert keys(asked, tmp_path) == before
    spectrum.write_text("two")
    assert keys(asked, tmp_path) != before


def test_imported_data_count_by_their_content_wherever_they_lie(tmp_path: Path) -> None:
    data = {"name": "mine", "box": 16, "commands": ["cryobench import ... --out {out}"]}
    suite = Suite.model_validate({**SUITE, "rows": [{"label": "real", "data": data}]})
    declined = make_plan(Request(suite), tmp_path).cells[0]
    assert "give --data mine=runs/mine:\n  cryobench import ... --out runs/mine" in str(declined.declined)
    found = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        tiny_run(tmp_path / name, seed, particles=16)
        found[name] = keys(Request(suite, data={"mine": tmp_path / name}), tmp_path)
    assert found["a"] == found["b"] != found["c"]
    with pytest.raises(UnknownName, match="dataset of suite 'small', got 'mien'; did you mean 'mine'"):
        make_plan(Request(suite, data={"mien": tmp_path}), tmp_path)
    with pytest.raises(InputError, match=r"--data mine=.*expected an observed\.zarr"):
        make_plan(Request(suite, data={"mine": tmp_path}), tmp_path)


def test_imported_data_count_by_what_a_method_is_told_of_them(tmp_path: Path) -> None:
    tiny_run(tmp_path / "mine", particles=16)
    data = {"name": "mine", "box": 16, "commands": ["cryobench import ..."]}
    suite = Suite.model_validate({**SUITE, "rows": [{"label": "real", "data": data}]})
    asked = Request(suite, data={"mine": tmp_path / "mine"})
    before = keys(asked, tmp_path)
    group = zarr.open_group(tmp_path / "mine" / "observed.zarr", mode="r+")
    assert group.attrs["symmetry"] == "D2"
    group.attrs["symmetry"] = "C1"
    assert not set(before) & set(keys(asked, tmp_path))


def test_the_file_of_a_truth_counts_by_its_content(tmp_path: Path) -> None:
    tiny_run(tmp_path / "mine", particles=16)
    found = []
    for value in (1.0, 2.0):
        write_map(tmp_path / "truth.mrc", torch.full((16, 16, 16), value), 14.0)
        data = {"name": "mine", "box": 16, "commands": ["c"], "truth": {"name": str(tmp_path / "truth.mrc")}}
        suite = Suite.model_validate({**SUITE, "rows": [{"label": "real", "data": data}]})
        (cell, *_) = make_plan(Request(suite, data={"mine": tmp_path / "mine"}), tmp_path).cells
        assert cell.truth == str(tmp_path / "truth.mrc")
        found.append(cell.key)
    assert found[0] != found[1]


def test_what_is_asked_for_twice_is_one_run_and_not_two_seeds(tmp_path: Path) -> None:
    once = make_plan(request(seeds=(0,)), tmp_path)
    assert make_plan(request(seeds=(0, 0)), tmp_path).cells == once.cells
    alike = [{"name": "cryogan", "params": {"steps": 20}}, {"name": "cryogan", "params": {"steps": 30}}]
    suite = Suite.model_validate({**SUITE, "methods": alike})
    asked = make_plan(Request(suite, params={"steps": 5}), tmp_path)
    assert [cell.label for cell in asked.cells] == ["0 dB", "-5 dB"]


def test_methods_and_parameters_as_asked(tmp_path: Path) -> None:
    plan = make_plan(request(methods=("backproject", "cryogan[fast]"), params={"batch": 32}), tmp_path)
    assert {(cell.method, cell.params["batch"]) for cell in plan.cells} == {("backproject", 32), ("cryogan", 32)}
    assert {cell.params["steps"] for cell in plan.cells if cell.method == "cryogan"} == {20}
    with pytest.raises(UnknownName, match="did you mean 'cryogan'"):
        make_plan(request(methods=("cryogn",)), tmp_path)
    with pytest.raises(UnknownName, match="parameter of any chosen method, got 'stesp'; did you mean 'steps'"):
        make_plan(request(params={"stesp": 1}), tmp_path)
    with pytest.raises(InputError, match="steps"):
        make_plan(request(params={"steps": -1}), tmp_path)
    with pytest.raises(UnknownName, match="size of suite 'small', got 'dsek'"):
        make_plan(request(size="dsek"), tmp_path)
    with pytest.raises(InputError, match="expected --device cpu or cuda, got 'cuda:1'"):
        make_plan(request(device="cuda:1"), tmp_path)


def test_a_method_of_the_suite_that_is_not_installed_is_declined(tmp_path: Path) -> None:
    suite = Suite.model_validate({**SUITE, "methods": [{"name": "not-here"}]})
    (cell, _) = make_plan(Request(suite), tmp_path).cells
    assert cell.declined == "method 'not-here' is not installed; pip install cryobench-not-here"


def test_conditions_have_directories_of_their_own() -> None:
    assert str(request().directory()) == "runs/suites/small-desk"
    assert str(request(box=16, particles=192, budget=60.0).directory()) == "runs/suites/small-desk"
    assert str(request(box=18, particles=100, budget=10.0).directory()) == "runs/suites/small-desk-box18-n100-10s"


def test_the_command_asks_for_the_same() -> None:
    asked = request(box=18, methods=("cryogan[fast]",), params={"steps": 5}, seeds=(1, 2), data={"a": Path("b c")})
    told = (
        "cryobench suite run small --size desk --box 18 --method 'cryogan[fast]' --param steps=5 --seed 1 --seed 2 "
        "--data 'a=b c'"
    )
    assert asked.command(asked.directory()) == told
    assert asked.command(Path("there")) == f"{told} --out there"
    assert (
        request(named="my suite.toml").command(Path("a")) == "cryobench suite run 'my suite.toml' --size desk --out a"
    )


def test_plans_are_kept_and_merged(tmp_path: Path) -> None:
    first = make_plan(request(methods=("backproject",)), tmp_path)
    write_plan(first, tmp_path)
    assert read_plan(tmp_path) == first
    assert read_plan(tmp_path / "nowhere") is None
    second = make_plan(request(methods=("cryogan",), params={"steps": 5}), tmp_path)
    both = merge_plans(first, second)
    assert [(c.label, c.method) for c in both.cells] == [
        (label, method) for label in ("0 dB", "-5 dB") for method in ("cryogan", "backproject")
    ]
    assert both.datasets == first.datasets
    newer = make_plan(request(methods=("cryogan",), params={"steps": 5}, budget=5.0), tmp_path)
    assert _cells(merge_plans(both, newer), "cryogan") == _cells(newer, "cryogan"), "of the same place the newer counts"
    for changes in ({"box": 18}, {"particles": 100}, {"size": "paper"}):
        with pytest.raises(InputError, match="choose another with --out"):
            merge_plans(both, make_plan(request(**changes), tmp_path))


def test_a_method_that_is_installed_since_takes_the_place_of_its_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("cryobench.suite.request.methods", lambda: {"backproject": None})
        before = make_plan(request(), tmp_path)
    assert [cell.declined is None for cell in before.cells] == [False, True, False, True]
    other = merge_plans(before, make_plan(request(methods=("backproject",)), tmp_path))
    assert {cell.key for cell in other.cells} == {cell.key for cell in before.cells}, "others leave it where it was"
    after = make_plan(request(), tmp_path)
    assert merge_plans(before, after).cells == after.cells


def _cells(plan: Plan, method: str) -> list[str]:
    return [cell.key for cell in plan.cells if cell.method == method]


def test_a_damaged_plan_is_told(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(Exception, match=r"plan\.json: expected the plan of a suite.*remove it"):
        read_plan(tmp_path)


def test_addresses_do_not_depend_on_order() -> None:
    assert content_key({"a": 1, "b": [2, {"c": 3, "d": 4}]}) == content_key({"b": [2, {"d": 4, "c": 3}], "a": 1})


@pytest.mark.parametrize(
    ("cores", "gpus", "on_gpu", "on_cpu", "at_once", "expected"),
    [
        (2, 0, 0, 9, None, [((0, 1), None)]),
        (5, 0, 0, 9, None, [((0, 1), None), ((2, 3), None)]),
        (1, 0, 0, 9, None, [((0,), None)]),
        (8, 0, 3, 0, None, [((0, 1), None), ((2, 3), None), ((4, 5), None)]),
        (8, 0, 0, 9, 2, [((0, 1, 2, 3), None), ((4, 5, 6, 7), None)]),
        (2, 0, 0, 9, 4, [((0,), None), ((1,), None), ((0, 1), None), ((0, 1), None)]),
        (4, 2, 9, 0, None, [((0, 1), "0"), ((2, 3), "1")]),
        (8, 1, 9, 1, None, [((0, 1, 2, 3), "0"), ((4, 5), None)]),
        (8, 1, 1, 9, None, [((0, 1, 2, 3), "0"), ((4, 5), None), ((6, 7), None)]),
    ],
)
def test_a_machine_is_shared_out(
    cores: int, gpus: int, on_gpu: int, on_cpu: int, at_once: int | None, expected: list[Any]
) -> None:
    slots = share_out(range(cores), [str(i) for i in range(gpus)], on_gpu, on_cpu, at_once)
    assert [(slot.cores, slot.gpu) for slot in slots] == expected
