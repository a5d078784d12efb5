"""Suites as files: the shipped ones hold what was published and every cell of them is valid; a wrong one says what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cryobench.errors import InputError, UnknownName
from cryobench.scenario.spec import Scenario
from cryobench.specimens.catalogue import find
from cryobench.suite.plan import Plan
from cryobench.suite.request import Request, make_plan
from cryobench.suite.resolve import choose_specimen
from cryobench.suite.spec import Row, load_suite, suite_files
from cryobench.suite.times import parse_seconds
from cryobench.testing.tiny import tiny_run

PUBLISHED = {
    "betagal-imaging": {
        "half_map 0.143": [8.6, 7.5, 10.8, 14.3, None],
        "truth 0.5": [15.3, 8.3, 14.7, 23.2, None],
        "truth 0.143": [11.7, 6.5, 11.5, 19.8, None],
    },
    "betagal-pose-mismatch": {
        "half_map 0.143": [8.6, 13.2, 17.2, 9.2, 9.4, 14.7, 8.6, 10.6, 12.7],
        "truth 0.5": [15.3, 16.1, 18.6, 16.4, 15.0, 15.5, 16.4, 16.9, 16.1],
        "truth 0.143": [11.7, 12.6, 14.5, 11.6, 10.4, 10.7, 11.5, 14.0, 12.3],
    },
    "ribosome-noise": {
        "half_map 0.143": [15.5, 18.8, 19.5, 63.0, 57.1],
        "truth 0.5": [20.9, 21.9, 24.1, 81.0, 104.3],
        "truth 0.143": [15.3, 19.6, 20.5, 45.1, 57.2],
    },
    "experimental": {
        "half_map 0.143": [12.08, 55.5, None],
        "truth 0.5": [None, 100.7, None],
        "truth 0.143": [None, 54.2, None],
    },
}
"""Of the CryoGAN study, row by row; None for rows of ours."""


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYOBENCH_OFFLINE", "1")
    choose_specimen.cache_clear()


def plan_of(name: str, size: str, directory: Path) -> Plan:
    return make_plan(Request(load_suite(name), size), directory)


def scenarios(plan: Plan) -> list[Scenario]:
    """Of the rows, each as its first cell has it, validated."""
    keys = {cell.label: cell.dataset for cell in plan.cells}
    return [Scenario.model_validate(plan.datasets[str(key)].scenario) for key in keys.values()]


def test_the_shipped_suites_are_those_of_the_study() -> None:
    assert set(suite_files()) == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_values_are_exact(name: str) -> None:
    rows = load_suite(name).rows
    for figure, values in PUBLISHED[name].items():
        assert [row.published.get(figure) for row in rows] == values  # type: ignore[call-overload]
    assert {figure for row in rows for figure in row.published} == set(PUBLISHED[name])


@pytest.mark.parametrize("size", ["desk", "paper"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_cell_is_a_valid_scenario_or_says_how_it_could_be_had(
    name: str, size: str, data_directory: Path, tmp_path: Path
) -> None:
    plan = plan_of(name, size, tmp_path)
    labels = {row.label for row in load_suite(name).rows}
    assert {cell.label for cell in plan.cells} == labels
    assert len({cell.slot for cell in plan.cells}) == len(plan.cells)
    for cell in plan.cells:
        if cell.dataset is None:
            assert "cryobench import" in str(cell.declined)
            continue
        scenario = plan.datasets[cell.dataset].scenario
        if scenario is not None:
            Scenario.model_validate(scenario)
    methods = {(cell.method, cell.params.get("preset")) for cell in plan.cells}
    assert ("relion", None) in methods, "every table has a competitor"
    assert ("cryogan", "fast") in methods
    assert any(str(preset).startswith("paper") for _, preset in methods) == (size == "paper")


def test_imaging_is_the_studys(data_directory: Path, tmp_path: Path) -> None:
    desk = scenarios(plan_of("betagal-imaging", "desk", tmp_path))
    assert [s.noise.snr_db for s in desk] == [-20, -5.2, -20, -20, -20]
    assert [getattr(s.shift, "half_width_percent", 0) for s in desk] == [0, 0, 3, 20, 0]
    assert {(s.image.box, s.particles, s.specimen) for s in desk} == {(64, 40000, "pdb:5A1A")}
    assert find("pdb:5A1A").symmetry == "D2"
    assert desk[4] == desk[0], "the last row is the first, and its method is not told the symmetry"
    paper = scenarios(plan_of("betagal-imaging", "paper", tmp_path))
    assert {(s.image.box, s.image.native_pixel_size, s.particles) for s in paper} == {(184, 1.274, 41000)}
    same = {"image": {"box"}, "particles": True}
    for small, large in zip(desk, paper, strict=True):
        assert small.model_dump(exclude=same) == large.model_dump(exclude=same)  # type: ignore[arg-type]


def test_the_square_of_priors_has_the_true_one_in_rows(data_directory: Path, tmp_path: Path) -> None:
    suite = load_suite("betagal-pose-mismatch")
    deviations: dict[str, Any] = {
        "uniform": {"kind": "uniform"},
        "sigma 2": {"kind": "euler-gaussian", "deviations": [2**0.5, 2**0.5, 1.0]},
        "sigma 3": {"kind": "euler-gaussian", "deviations": [3**0.5, 2**0.5, 1.0]},
    }
    places = [row.place for row in suite.rows]
    assert suite.axes == ("true prior", "assumed prior")
    assert places == [(true, assumed) for true in deviations for assumed in deviations]
    found = scenarios(plan_of("betagal-pose-mismatch", "desk", tmp_path))
    for place, scenario in zip(places, found, strict=True):
        assert place is not None
        assert scenario.pose.prior() == deviations[place[0]]
        assert scenario.assumed_pose() == deviations[place[1]]
        assert scenario.noise.snr_db == -20


def test_the_ribosome_is_another_one_where_the_studys_cannot_be_had_and_the_table_says_so(
    data_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    plan = plan_of("ribosome-noise", "desk", tmp_path)
    found = scenarios(plan)
    assert [s.noise.snr_db for s in found] == [20, 0, -5.2, -14, -20]
    assert {s.shift.prior(100.0)["half_width"] for s in found} == {5.0}
    for scenario in found:
        specimen = find(scenario.specimen)
        assert scenario.specimen.endswith("clean70SRibosome_vol_65p.mrc,voxel_size=5")
        assert dict(specimen.facts())["grid"].startswith("65 x 65 x 65 voxels of 5 x 5 x 5 Å")
    assert all(any("EMD-2660, could not be had" in note for note in cell.notes) for cell in plan.cells)


def test_without_a_data_directory_cells_decline_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CRYOBENCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in PUBLISHED:
        for cell in plan_of(name, "desk", tmp_path).cells:
            assert cell.dataset is None
            assert "CRYOBENCH_DATA" in str(cell.declined) or "--data" in str(cell.declined)


def test_experimental_rows_tell_their_commands_and_their_course(data_directory: Path, tmp_path: Path) -> None:
    cells = {cell.label: cell for cell in plan_of("experimental", "desk", tmp_path).cells}
    betagal = cells["beta-galactosidase, EMPIAR-10061"]
    assert "--data empiar-10061=runs/empiar-10061" in str(betagal.declined)
    assert "--box 32 " in str(betagal.declined)
    assert any("45.2, 26.3, 22.6 and 12.08 Å after 10, 60, 90 and 150 minutes" in note for note in betagal.notes)
    own = cells["beta-galactosidase, EMPIAR-10204"]
    assert (own.declined, own.truth) == (None, "pdb:5A1A")
    assert "--data empiar-10028=runs/empiar-10028" in str(cells["80S ribosome, EMPIAR-10028"].declined)


def test_a_truth_that_cannot_be_had_is_done_without_and_the_table_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CRYOBENCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tiny_run(tmp_path / "mine", particles=16)
    plan = make_plan(Request(load_suite("experimental"), data={"empiar-10028": tmp_path / "mine"}), tmp_path)
    cells = [cell for cell in plan.cells if cell.label == "80S ribosome, EMPIAR-10028"]
    assert cells
    for cell in cells:
        assert cell.truth is None
        assert cell.notes[-1] == "not compared with a truth: ribosome could not be had here"


GOOD = """description = "d"
sizes.desk = { box = 16, particles = 192 }
methods = [{ name = "backproject" }]
rows = [{ label = "a", scenario = "tiny" }]
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("label", "lable", r"suite.toml: .*setting of rows.0, got 'lable'; did you mean 'label'"),
        ("particles", "partcles", r"setting of sizes.desk, got 'partcles'; did you mean 'particles'"),
        ('description = "d"', "descripton = 1", r"setting of a suite, got 'descripton'; did you mean 'description'"),
        ("box = 16", 'box = "big"', "sizes.desk.box.*'native'.*got 'big'"),
        ("particles = 192", 'particles = 192, budget = "soon"', "a time such as 90s, 10m or 2h, got 'soon'"),
        (
            'scenario = "tiny"',
            'data = { name = "a=b", box = 16, commands = ["c"] }',
            r"rows\.0\.data\.name",
        ),
        ('scenario = "tiny"', "notes = []", "rows.0: expected a scenario or data, got both or neither"),
        ("rows = [", 'rows = [{ label = "a", scenario = "tiny" }, ', "label of its own, got a twice"),
        ('"backproject"', '"backproject", sizes = ["paper"]', r"name of a size, got 'paper'.*known: desk"),
        ('"backproject"', '"backproject", rows = ["b"]', r"name of a row, got 'b'"),
        ('"tiny"', '"tiny", place = ["a", "b"]', "expected axes where rows have places"),
        ('"tiny"', '"tiny", published = { "half 0.143" = 1 }', "rows.0.published.half 0.143"),
        ("rows = [{", "rows = [", "expected TOML"),
    ],
)
def test_a_wrong_file_says_where_what_was_expected_and_what_came(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "suite.toml"
    path.write_text(GOOD)
    assert load_suite(str(path)).rows[0] == Row(label="a", scenario="tiny")
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        load_suite(str(path))


def test_a_name_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'betagal-imaging'"):
        load_suite("betagal-imagin")
    with pytest.raises(InputError, match=r"expected a suite file at .*none.toml"):
        load_suite(str(tmp_path / "none.toml"))


@pytest.mark.parametrize(("text", "expected"), [("90s", 90), ("10m", 600), ("2h", 7200), ("0.5m", 30), ("7", 7)])
def test_times(text: str, expected: float) -> None:
    assert parse_seconds(text) == expected


@pytest.mark.parametrize("text", ["", "s", "0s", "-1m", "nan", "inf", "10d"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="a time such as"):
        parse_seconds(text)
