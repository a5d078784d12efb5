"""Every figure of a run's page as files for papers: the numbers as CSV, the picture as PNG."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import plotly.graph_objects as go

from cryobench.report.document import Drawing
from cryobench.report.page import draw_run, open_run

DOTS_PER_INCH: Final = 300
SINGLE_COLUMN, DOUBLE_COLUMN = 3.5, 7.2
"""Widths of a printed column, inches."""
_PIXELS_PER_INCH: Final = 96
_PIXELS_PER_REM: Final = 16
_LOW: Final = 16.0
"""Rem: lower figures fit a single column."""
_WIDE: Final = 1.6
"""Width over height: from there to twice as wide as high, a figure is a single panel, and fits a single column."""
_FONT: Final = "Arial, Helvetica, 'Liberation Sans', sans-serif"
_INSTALL: Final = (
    "to draw PNG files install cryobench[figures] (kaleido), and Chrome or Chromium; BROWSER_PATH may name the browser"
)


@dataclass(frozen=True)
class Exported:
    """What an export left on disk.

    Attributes:
        files: that were written, CSV first.
        missing: why there are no PNG files, and what to do about it; None where all were drawn.
    """

    files: tuple[Path, ...]
    missing: str | None


def export_figures(directory: Path) -> Exported:
    """Write ``figures/NAME.csv`` and ``figures/NAME.png`` for every figure of a run's page.

    Columns are named with their units. Pictures are as wide as a printed column (3.5 or 7.2 inches) at 300 dots per inch. The
    surfaces have no table: what they show is in the maps.

    Args:
        directory: of an evaluated run, see :func:`cryobench.report.page.write_report`.

    Raises:
        InputError: if there is no result, or it is not of this version's form.
        StoreError: if a store is missing, unfinished or damaged.
    """
    drawings = list(draw_run(open_run(directory)))
    return export_drawings(drawings, directory / "figures")


def export_drawings(drawings: Iterable[Drawing], folder: Path) -> Exported:
    """The same for any figures.

    Args:
        drawings: of any page.
        folder: that gets the files; made if it is missing.
    """
    drawings = list(drawings)
    folder.mkdir(parents=True, exist_ok=True)
    tables = [_write_table(drawing, folder) for drawing in drawings if drawing.columns]
    try:
        pictures = _write_pictures(drawings, folder)
    except ImportError:
        return Exported(tuple(tables), f"kaleido is not installed; {_INSTALL}")
    except RuntimeError as error:
        return Exported(tuple(tables), f"{str(error).splitlines()[0]}; {_INSTALL}")
    return Exported((*tables, *pictures), None)


def _write_table(drawing: Drawing, folder: Path) -> Path:
    path = folder / f"{drawing.name}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(drawing.columns)
        writer.writerows(zip(*drawing.columns.values(), strict=True))
    return path


def _write_pictures(drawings: Iterable[Drawing], folder: Path) -> list[Path]:
    import kaleido

    jobs = [{"fig": prepare(drawing), "path": folder / f"{drawing.name}.png"} for drawing in drawings]
    scale = {"opts": {"scale": DOTS_PER_INCH / _PIXELS_PER_INCH}}
    # MathJax would be fetched from the network
    kaleido.write_fig_from_object_sync([job | scale for job in jobs], kopts={"mathjax": False})
    return [Path(job["path"]) for job in jobs]


def prepare(drawing: Drawing) -> go.Figure:
    """The figure as it is printed: a column wide, in a printer's font, without what only a reader of the page can use."""
    figure = go.Figure(drawing.still() if drawing.still else drawing.figure)
    width, height = _size(drawing.shape)
    figure.data = [trace for trace in figure.data if trace.visible != "legendonly"]
    figure.update_layout(width=width, height=height, font={"family": _FONT, "color": "black"}, paper_bgcolor="white")
    figure.layout.updatemenus = figure.layout.meta = None
    return figure


def _size(shape: str) -> tuple[float, float]:
    """Width and height in pixels at 96 to the inch, from the CSS of a figure's place."""
    single, double = (inches * _PIXELS_PER_INCH for inches in (SINGLE_COLUMN, DOUBLE_COLUMN))
    if ratio := re.search(r"aspect-ratio: *([\d.]+)(?: */ *([\d.]+))?", shape):
        across = float(ratio[1]) / float(ratio[2] or 1)
        width = single if _WIDE < across < 2 else double
        return width, width / across
    height = re.search(r"height: *([\d.]+)rem", shape)
    tall = float(height[1]) if height else 24.0
    return (single if tall < _LOW else double), tall * _PIXELS_PER_REM
