"""What every page shares: one self-contained HTML file with its figures, style and plotly inside, which needs no network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jinja2
import plotly.graph_objects as go
import plotly.offline

from cryobench.report.table import format_duration, format_found, format_length, format_number, format_size

Columns = Mapping[str, Sequence[Any]]
"""Values by the name of their column, the unit in parentheses: ``"resolution (Å)"``; all of one length."""


@dataclass(frozen=True)
class Drawing:
    """A figure on a page: its fixed place, what it says to who cannot see it, and its shape (CSS).

    Attributes:
        name: of its place on the page and of its files; letters, digits and hyphens.
        title: read out in its stead.
        figure: what is drawn.
        shape: CSS of its place: ``"height: 20rem"`` or ``"aspect-ratio: 2 / 1"``.
        caption: beside it; none if empty.
        section: of the page, for templates that place figures by section.
        zoom: whether a reader may zoom and pan.
        columns: the numbers that are drawn, for papers; empty where the figure shows a map that is beside it in a file.
        still: makes the figure that is printed, where the page draws this one itself.
    """

    name: str
    title: str
    figure: go.Figure
    shape: str
    caption: str = ""
    section: str = ""
    zoom: bool = False
    columns: Columns = field(default_factory=dict)
    still: Callable[[], go.Figure] | None = None

    def script(self) -> str:
        """The figure as JSON that may stand inside a script element."""
        text: str = self.figure.to_json()
        return text.replace("</", "<\\/")


def render(template: str, *, title: str, drawings: Sequence[Drawing], **context: Any) -> str:
    """A page as text.

    A template of this room begins with ``{% extends "document.html.jinja" %}``, fills the block ``body`` (and ``style`` and
    ``script`` where it needs more), and places a figure by ``{{ draw(drawings["name"]) }}`` with ``draw`` of
    ``macros.html.jinja``. It sees ``drawings`` as a mapping by name, and the filters ``angstroms``, ``number``, ``duration``,
    ``size`` and ``found`` (a resolution).

    Args:
        template: its file's name in ``templates``.
        title: of the document.
        drawings: in the order they are drawn in; every one must have a place in the template.
        context: whatever else the template names; a name that is missing is an error.
    """
    return (
        _environment()
        .get_template(template)
        .render(
            title=title,
            drawings={drawing.name: drawing for drawing in drawings},
            plotly_js=plotly.offline.get_plotlyjs(),
            **context,
        )
    )


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cryobench.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        angstroms=format_length, number=format_number, duration=format_duration, size=format_size
    )
    environment.filters["found"] = format_found
    return environment
