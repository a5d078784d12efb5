"""The run's page in a real browser: every figure drawn, nothing complained of, and what moves moves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cryobench.report.page import write_report
from tests.browser import Page, find_browser, open_browser
from tests.conftest import require
from tests.report.runs import Outline, build_bare_map, build_run

EMPTY = """
[...document.querySelectorAll(".plot")].filter((plot) => {
  const drawn = plot.querySelectorAll(".trace path, .bars path, image, .contour, canvas").length;
  return !plot.querySelector(".main-svg") || drawn === 0;
}).map((plot) => plot.id)
"""
TRIANGLES = "document.getElementById('surfaces').data.map((mesh) => mesh.i.length)"
SET_LEVEL = """
(async () => {
  const slider = document.getElementById("level");
  slider.value = %d;
  slider.dispatchEvent(new Event("input"));
  await new Promise((done) => document.getElementById("surfaces").once("plotly_restyle", done));
})()
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    path = find_browser()
    require(path is not None, "a chromium browser")
    with open_browser(str(path)) as page:
        page.resize(1280, 900)
        yield page


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, browser: Page) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "full"
    build_run(directory)
    page = write_report(directory)
    browser.open(page)
    return page


def test_every_figure_is_drawn_without_a_complaint(browser: Page, full: Path) -> None:
    assert browser.evaluate("document.querySelectorAll('.js-plotly-plot').length") == len(Outline(full).plots())
    assert browser.evaluate(EMPTY) == []
    assert min(browser.evaluate(TRIANGLES)) > 100
    assert browser.complaints == []


def test_one_slider_moves_both_surfaces_and_says_what_they_enclose(browser: Page, full: Path) -> None:
    volume = """(() => { const {x, y, z, i, j, k} = document.getElementById('surfaces').data[%d]; let sum = 0;
      for (let t = 0; t < i.length; t++) { const [a, b, c] = [i[t], j[t], k[t]];
        sum += x[a] * (y[b] * z[c] - z[b] * y[c]) - y[a] * (x[b] * z[c] - z[b] * x[c]) + z[a] * (x[b] * y[c] - y[b] * x[c]); }
      return sum / 6000; })()"""  # by the divergence theorem, in cubic nanometres; positive if triangles face outwards
    said, triangles = [], []
    for position in (80, 115):
        browser.evaluate(SET_LEVEL % position)
        text = browser.evaluate("document.getElementById('level-said').textContent")
        said.append(float(text.split()[0]))
        triangles.append(browser.evaluate(TRIANGLES))
        assert "truth at" in text
        assert browser.evaluate(volume % 0) == pytest.approx(said[-1], rel=0.2)
    assert said[1] > 2 * said[0]
    assert triangles[0] != triangles[1]
    assert browser.complaints == []


def test_surfaces_turn_together(browser: Page, full: Path) -> None:
    browser.evaluate("Plotly.relayout('surfaces', {'scene.camera': {eye: {x: 0.1, y: 1.2, z: 0.3}}}).then(() => 1)")
    browser.wait("document.getElementById('surfaces').layout.scene2.camera.eye.y === 1.2")
    assert browser.complaints == []


def test_the_axis_in_angstrom_follows_a_zoom(browser: Page, full: Path) -> None:
    read = "document.getElementById('fsc').layout.xaxis2.ticktext.map(parseFloat)"
    before = browser.evaluate(read)
    browser.evaluate("Plotly.relayout('fsc', {'xaxis.range': [0.04, 0.05]}).then(() => 1)")
    browser.wait(f"{read}.length && !{read}.includes({before[0]})")
    assert all(20 <= length <= 25 for length in browser.evaluate(read))
    browser.evaluate("Plotly.relayout('fsc', {'xaxis.autorange': true}).then(() => 1)")
    browser.wait(f"{read}.includes({before[-1]})")
    assert browser.complaints == []


def test_over_time_switches_from_seconds_to_images(browser: Page, full: Path) -> None:
    plot = "document.getElementById('over-time-0-5')"
    browser.evaluate(f"{plot}.querySelectorAll('.updatemenu-button')[1].dispatchEvent(new MouseEvent('click'))")
    browser.wait(f"{plot}.layout.xaxis.title.text === 'images seen' && {plot}.data[0].x[7] === 8000")


def test_a_section_folds_and_its_figures_come_back(browser: Page, full: Path) -> None:
    browser.evaluate("document.querySelector('#curves > summary').click()")
    browser.wait(
        "!document.getElementById('fsc').checkVisibility({contentVisibilityAuto: true, visibilityProperty: true})"
    )
    browser.evaluate("document.querySelector('#curves > summary').click()")
    browser.wait(
        "document.getElementById('fsc').checkVisibility() && document.getElementById('fsc').offsetHeight > 300"
    )
    assert browser.complaints == []


@pytest.mark.parametrize("width", [400, 800])
def test_narrow_windows_need_no_scrolling_sideways(browser: Page, full: Path, width: int) -> None:
    browser.resize(width, 800)
    try:
        browser.wait(f"document.querySelector('#fsc .main-svg').getBoundingClientRect().width <= {width}")
        browser.wait(f"document.documentElement.scrollWidth === {width}")  # one figure follows after the other
        wide = (
            "[...document.querySelectorAll('.plot')].filter((p) => p.getBoundingClientRect().right > innerWidth).length"
        )
        assert browser.evaluate(wide) == 0
        box = "document.querySelector('.headline').parentElement"
        assert browser.evaluate(f"{box}.scrollWidth - {box}.clientWidth") <= 0
    finally:
        browser.resize(1280, 900)


def test_pages_of_less_are_drawn_too(browser: Page, tmp_path: Path) -> None:
    build_run(tmp_path / "bare", truth=False, history=False, oracle=True)
    build_bare_map(tmp_path / "other")
    for name in ("bare", "other"):
        browser.open(write_report(tmp_path / name))
        assert browser.evaluate(EMPTY) == []
        assert browser.complaints == []
