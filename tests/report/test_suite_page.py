from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cryobench.report.comparison import Cell, Comparison
from cryobench.report.leaderboard import gather_leaderboard
from cryobench.report.page import write_report
from cryobench.report.rows import gather_rows
from cryobench.report.suite_figures import colour_methods, draw_suite
from cryobench.report.suite_page import write_suite_page
from tests.browser import Page, find_browser, open_browser
from tests.conftest import require
from tests.report.runs import Outline

PUBLISHED = {"half_map 0.143": 45.0, "truth 0.5": 60.0, "truth 0.143": 20.0}


@pytest.fixture(scope="module")
def page(small_runs: Path) -> Path:
    """A suite of real runs with a square of scenarios, and cells that failed, declined and wait."""

    def finished(name: str, scenario: str, seed: int, **changes: Any) -> Cell:
        run = small_runs / f"{name}-{seed}"
        result = json.loads((run / "result.json").read_text(encoding="utf-8"))
        return Cell(
            scenario,
            name,
            result["params"],
            seed,
            "finished",
            None,
            result,
            directory=run,
            **{"published": PUBLISHED} | changes,
        )

    write_report(small_runs / "cryogan-0")
    params = finished("cryogan", "0 dB", 0).params
    cells = (
        finished("cryogan", "0 dB, 2 % shifts", 0, place=("uniform", "uniform")),
        finished("cryogan", "0 dB, 2 % shifts", 1, place=("uniform", "uniform"), notes=("its own <note>",)),
        finished("backproject", "0 dB, 2 % shifts", 0, published={}),
        Cell("0 dB, 2 % shifts", "relion", {}, 0, "declined", "relion_refine </script><b>is not here"),
        finished("cryogan", "0 dB, sigma 2", 0, place=("sigma 2", "uniform"), published={}),
        Cell(
            "0 dB, sigma 2",
            "cryogan",
            {**params, "steps": 9},
            0,
            "failed",
            "NaN at step 3",
            place=("sigma 2", "sigma 2"),
        ),
        Cell("-20 dB", "cryogan", params, 0, "waiting"),
    )
    comparison = Comparison(
        "betagal", "Runs of seconds.", "desk", "Gupta 2021", cells, ("boxes of 16",), ("true prior", "assumed prior"),
        "cryobench suite run betagal --size desk",
    )  # fmt: skip
    return write_suite_page(comparison, small_runs / "suite" / "index.html")


def test_page_holds_every_part(page: Path) -> None:
    text = Outline(page).text
    for part in (
        "betagal · desk",
        "cryogan[fast]: true prior by assumed prior",
        "published",
        "45.0 Å",
        "20.0 Å *",
        "backproject (oracle poses)",
        "two pure-noise halves",
        "2 seeds",
        "half-map figures in parentheses are not counted",
        "declined: relion_refine </script><b>is not here",
        "NaN at step 3",
        "its own <note>",
        "boxes of 16",
        "published: Gupta 2021",
        "cryobench suite run betagal --size desk",
        "versions torch",
        "4 of 7",
    ):
        assert part in text, part


def test_page_loads_nothing_is_small_and_links_runs_by_their_relative_place(page: Path) -> None:
    outline = Outline(page)
    assert page.stat().st_size < 15e6
    links = [str(a[key]) for _, a in outline.elements for key in ("src", "href", "srcset") if key in a]
    outward = {link for link in links if not link.startswith("#")}
    assert outward == {"../cryogan-0/report.html"}
    assert (page.parent / outward.pop()).is_file()
    assert not outline.all("link")
    assert not outline.all("b")
    style = re.findall(r"<style>(.*?)</style>", page.read_text(encoding="utf-8"), re.DOTALL)
    assert not re.search(r"url\(|@import", " ".join(style))


def test_page_can_be_read_by_a_screen_reader(page: Path) -> None:
    outline = Outline(page)
    levels = [int(name[1]) for name, _ in outline.elements if re.fullmatch("h[1-6]", name)]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert len(outline.all("caption")) == len(outline.all("table"))
    assert all("scope" in head for head in outline.all("th"))
    assert all(a.get("aria-label") for a in outline.all("div") if a.get("class") == "plot")
    identities = [a["id"] for _, a in outline.elements if "id" in a]
    assert len(identities) == len(set(identities))


def test_page_is_the_same_for_the_same_cells(page: Path, small_runs: Path) -> None:
    result = json.loads((small_runs / "cryogan-0" / "result.json").read_text(encoding="utf-8"))
    cell = Cell("a", "cryogan", result["params"], 0, "finished", None, result)
    comparison = Comparison("one", "One run.", "", None, (cell,))
    pages = [write_suite_page(comparison, page.parent / f"{i}.html").read_bytes() for i in (1, 2)]
    assert pages[0] == pages[1]


def test_a_suite_that_has_not_begun_has_a_page(tmp_path: Path) -> None:
    comparison = Comparison("new", "Nothing yet.", "desk", None, (Cell("a", "cryogan", {}, 0, "waiting"),))
    text = Outline(write_suite_page(comparison, tmp_path / "index.html")).text
    assert "No run has come to its end." in text
    assert "0 of 1" in text


@pytest.fixture(scope="module")
def browser(page: Path) -> Iterator[Page]:
    found = find_browser()
    require(found is not None, "a chromium browser")
    with open_browser(str(found)) as opened:
        opened.resize(1300, 1000)
        opened.open(page)
        yield opened


def test_browser_draws_every_figure_without_a_complaint(browser: Page) -> None:
    drawn = "[...document.querySelectorAll('.plot')].map(p => [p.id, p.querySelectorAll('.main-svg').length > 0])"
    plots = dict(browser.evaluate(drawn))
    assert list(plots) == ["fsc-0", "fsc-1", "fsc-2", "course-0", "course-1", "gaps", "cost-figure"]
    assert all(plots.values())
    traces = "[...document.querySelectorAll('.plot')].every(p => p.querySelectorAll('.trace').length > 0)"
    assert browser.evaluate(traces)
    assert browser.complaints == []


def test_small_multiples_share_their_axes(browser: Page) -> None:
    for prefix, axes in (("fsc", ("xaxis", "yaxis")), ("course", ("xaxis", "yaxis"))):
        for axis in axes:
            ranges = browser.evaluate(
                f"[...document.querySelectorAll('[id^={prefix}-]')].map(p => p._fullLayout.{axis}.range.join())"
            )
            assert len(ranges) > 1
            assert len(set(ranges)) == 1


def column(browser: Page, number: int) -> list[str]:
    rows = "[...document.querySelectorAll('#leaders tbody tr')]"
    return browser.evaluate(f"{rows}.map(r => r.cells[{number}].firstChild?.textContent.trim() ?? '')")


def press(browser: Page, number: int) -> str:
    """Focus a heading, press Enter as a keyboard does, and tell which way it says it sorts."""
    browser.evaluate(f"document.querySelectorAll('#leaders thead button')[{number}].focus()")
    for kind in ("keyDown", "keyUp"):
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
        browser.send("Input.dispatchKeyEvent", type=kind, **key | ({"text": "\r"} if kind == "keyDown" else {}))
    return browser.evaluate(f"document.querySelectorAll('#leaders thead th')[{number}].getAttribute('aria-sort')")


def test_leaderboard_sorts_by_its_headings_from_the_keyboard(browser: Page) -> None:
    assert press(browser, 2) == "ascending"  # truth 0.5
    assert column(browser, 1)[0] == "backproject (oracle poses)"
    up = column(browser, 2)
    lengths = [float(text.strip("≤ Å")) for text in up]
    assert lengths == sorted(lengths)
    assert press(browser, 2) == "descending"
    assert [float(text.strip("≤ Å")) for text in column(browser, 2)] == lengths[::-1]
    assert press(browser, 1) == "ascending"
    assert column(browser, 1) == sorted(column(browser, 1))
    heads = "[...document.querySelectorAll('#leaders thead th')].filter(h => h.hasAttribute('aria-sort')).length"
    assert browser.evaluate(heads) == 1


def test_half_maps_that_do_not_count_stand_behind_those_that_do(browser: Page) -> None:
    press(browser, 5)
    shown = column(browser, 5)
    assert [text.startswith("(") for text in shown] == sorted(text.startswith("(") for text in shown)
    assert {text.startswith("(") for text in shown} == {True, False}


def test_leaderboard_sorts_by_the_mouse(browser: Page) -> None:
    button = "document.querySelectorAll('#leaders thead button')[7]"  # wall time
    browser.evaluate(f"{button}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    spot = browser.evaluate(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({button}.getBoundingClientRect())")
    for kind in ("mousePressed", "mouseReleased"):
        browser.send("Input.dispatchMouseEvent", type=kind, x=spot[0], y=spot[1], button="left", clickCount=1)
    orders = browser.evaluate("[...document.querySelectorAll('#leaders tbody tr')].map(r => +r.cells[7].dataset.order)")
    assert len(orders) == 3
    assert orders == sorted(orders)


def test_narrow_window_scrolls_tables_and_not_the_page(browser: Page) -> None:
    browser.resize(400, 900)
    browser.wait("document.documentElement.clientWidth === 400")
    browser.wait("document.documentElement.scrollWidth <= 400")
    wide = "[...document.querySelectorAll('.plot')].filter(p => p.getBoundingClientRect().right > 400).length"
    assert browser.evaluate(wide) == 0
    inner = "[...document.querySelectorAll('.wide')].some(w => w.scrollWidth > w.clientWidth && w.tabIndex === 0)"
    assert browser.evaluate(inner)


def test_figures_carry_tables_that_say_what_they_are_of(small_runs: Path) -> None:
    board = gather_leaderboard([small_runs])
    tables = {drawing.name: pd.DataFrame(drawing.columns) for drawing in draw_suite(gather_rows(board))}
    assert set(tables) == {"fsc-0", "fsc-1", "course-0", "gaps", "cost-figure"}
    assert all(set(table["scenario"]) == {board.cells[0].scenario} for table in tables.values())
    curves = tables["fsc-1"]
    assert set(curves["method"]) == {"cryogan[fast]"}
    result = json.loads((small_runs / "cryogan-1" / "result.json").read_text(encoding="utf-8"))
    of_one = curves[(curves["seed"] == 1) & (curves["comparison"] == "truth")]
    assert list(of_one["FSC"]) == result["fsc"]["truth"][1:]
    assert list(of_one["spatial frequency (1/Å)"]) == result["fsc"]["spatial_frequency"][1:]
    assert sorted(tables["gaps"]["method"]) == ["backproject (oracle poses)", "cryogan[fast]"]


def test_a_method_has_one_colour_on_the_whole_page(small_runs: Path) -> None:
    first, second = (row for row in gather_rows(gather_leaderboard([small_runs])) if row.kind == "method")
    drawn = {drawing.name: drawing.figure for drawing in draw_suite([replace(first, gap=None), second])}
    colours = colour_methods([first, second])
    for name in ("gaps", "cost-figure"):
        assert all(trace.marker.color == colours[trace.name] for trace in drawn[name].data)
