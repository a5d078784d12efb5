from __future__ import annotations

import builtins
import csv
import importlib.util
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from cryobench.report.export import (
    DOTS_PER_INCH,
    DOUBLE_COLUMN,
    SINGLE_COLUMN,
    export_drawings,
    export_figures,
    prepare,
)
from cryobench.report.page import draw_run, open_run
from tests.browser import find_browser
from tests.conftest import require
from tests.report.runs import build_run


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "full"
    build_run(path)
    return path


def read(path: Path) -> dict[str, list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    return dict(zip(head, map(list, zip(*rows, strict=True)), strict=True))


def test_tables_are_written_without_kaleido_and_say_what_to_install(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name == "kaleido":
            raise ImportError(name)
        return own(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    done = export_figures(directory)
    assert done.missing is not None
    assert "cryobench[figures]" in done.missing
    assert {path.suffix for path in done.files} == {".csv"}
    result = json.loads((directory / "result.json").read_text())
    table = read(directory / "figures" / "fsc.csv")
    assert [float(v) for v in table["truth FSC"]] == result["fsc"]["truth"][1:]
    assert [float(v) for v in table["spatial frequency (1/Å)"]] == result["fsc"]["spatial_frequency"][1:]
    gap = read(directory / "figures" / "gap.csv")
    assert [float(v) for v in gap["hallucination gap"]] == result["hallucination"]["gap"][1:]
    over_time = read(directory / "figures" / "over-time-0-5.csv")
    assert over_time["resolution (Å)"][0] == ""  # not reached
    assert float(over_time["resolution (Å)"][1]) == result["over_time"]["half_map"][1]["half_map"]["0.5"]["value"]


def test_every_figure_but_the_surfaces_has_a_table_with_units(directory: Path) -> None:
    drawings = list(draw_run(open_run(directory)))
    assert [drawing.name for drawing in drawings if not drawing.columns] == ["surfaces"]


def test_printed_figures_are_a_column_wide_and_have_no_buttons(directory: Path) -> None:
    drawings = {drawing.name: drawing for drawing in draw_run(open_run(directory))}
    widths = {name: prepare(drawing).layout.width / 96 for name, drawing in drawings.items()}
    assert set(widths.values()) == {SINGLE_COLUMN, DOUBLE_COLUMN}
    assert (widths["fsc"], widths["history-0"], widths["views-0"]) == (DOUBLE_COLUMN, SINGLE_COLUMN, SINGLE_COLUMN)
    printed = prepare(drawings["over-time-0-5"])
    assert not printed.layout.updatemenus
    assert drawings["over-time-0-5"].figure.layout.updatemenus  # and the page's own are left as they were
    assert not [trace for trace in prepare(drawings["fsc"]).data if trace.visible == "legendonly"]


def test_pictures_are_drawn_at_the_dots_that_printers_want(directory: Path, tmp_path: Path) -> None:
    require(importlib.util.find_spec("kaleido") is not None, "kaleido")
    require(find_browser() is not None, "a chromium browser")
    drawings = [d for d in draw_run(open_run(directory)) if d.name in ("gap", "history-0")]
    done = export_drawings(drawings, tmp_path / "figures")
    assert done.missing is None
    pictures = {path.stem: path for path in done.files if path.suffix == ".png"}
    assert set(pictures) == {"gap", "history-0"}
    for name, inches in (("gap", DOUBLE_COLUMN), ("history-0", SINGLE_COLUMN)):
        data = pictures[name].read_bytes()
        width, height = struct.unpack(">II", data[16:24])
        assert width == pytest.approx(inches * DOTS_PER_INCH, abs=1)
        assert height > 300
        assert len(data) > 10_000  # not blank


def test_a_browser_that_is_not_there_is_named(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require(importlib.util.find_spec("kaleido") is not None, "kaleido")
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "none"))
    drawings = [d for d in draw_run(open_run(directory)) if d.name == "gap"]
    done = export_drawings(drawings, tmp_path / "figures")
    assert done.missing is not None
    assert "none" in done.missing
    assert [path.name for path in done.files] == ["gap.csv"]
