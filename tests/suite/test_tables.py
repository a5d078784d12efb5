"""What a suite's table says of its rows."""

from __future__ import annotations

from pathlib import Path

from cryobench.report.comparison_tables import explain
from cryobench.report.rows import gather_rows
from cryobench.suite.gather import gather
from cryobench.suite.plan import write_plan
from cryobench.suite.request import Request, make_plan
from cryobench.suite.spec import Suite


def test_what_is_true_of_a_whole_row_is_said_once(tmp_path: Path) -> None:
    data = {"name": "mine", "box": 16, "commands": ["cryobench import relion --out {out}"]}
    suite = Suite.model_validate(
        {
            "name": "small",
            "description": "d",
            "sizes": {"desk": {"box": 16, "particles": 192}},
            "methods": [{"name": "cryogan"}, {"name": "not-here", "rows": ["0 dB"]}, {"name": "backproject"}],
            "rows": [
                {"label": "0 dB", "scenario": "tiny", "notes": ["a note"]},
                {"label": "real", "data": data, "published": {"half_map 0.143": 12.0}},
            ],
        }
    )
    write_plan(make_plan(Request(suite), tmp_path), tmp_path)
    comparison = gather(tmp_path)
    assert [cell.state for cell in comparison.cells] == ["waiting", "declined", "waiting", "declined", "declined"]
    told = explain(comparison, gather_rows(comparison))
    assert told[0] == "here: box of 16 px, 192 images"
    assert told.count("0 dB: a note") == 1
    assert not any("a note" in line and line != "0 dB: a note" for line in told)
    reason = (
        "needs particles that you import; then give --data mine=runs/mine:\n  cryobench import relion --out runs/mine"
    )
    assert f"real: declined: {reason}" in told
    assert (
        "not-here on 0 dB, seed 0: declined: method 'not-here' is not installed; pip install cryobench-not-here" in told
    )
