"""What came of computing a result again, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from cryobench.report.table import COMPARISONS, format_found, format_plainly, format_range

VERDICTS: Final = {
    "identical": "[bold]reproduced[/]: every number is the same",
    "within intervals": "[bold]reproduced[/]: resolutions and hallucination gap lie within the intervals of the first result",
    "different": "[bold]not reproduced[/]: something lies outside the intervals of the first result",
}


def reproduction_table(found: Mapping[str, Any]) -> Group:
    """The verdict, what differs in the environment, and the numbers side by side.

    Args:
        found: contents of ``reproduction.json``.
    """
    parts: list[RenderableType] = []
    if found["environment"]:
        differs = _table("what differs", "then", "now")
        for row in found["environment"]:
            differs.add_row(*map(escape, (row["what"], *(format_plainly(row[when]) for when in ("then", "now")))))
        parts.append(differs)
    else:
        parts.append("Versions, processor and method are the same.")
    numbers = _table("result", "then", "interval", "now", "")
    for row in found["resolutions"]:
        name = f"{COMPARISONS[row['comparison']]}, FSC {row['threshold']}"
        interval = row["interval"]
        within = "" if interval is None else format_range(interval["finest"], interval["coarsest"], 0.0)
        numbers.add_row(name, format_found(row["then"]), within, format_found(row["now"]), _mark(row["within"]))
    gap = found["hallucination_gap"]
    if gap["then"] is not None:
        numbers.add_row("hallucination gap", f"{gap['then']:+.3f}", "", _signed(gap["now"]), _mark(gap["within"]))
    for half, (then, now) in found["steps"].items():
        numbers.add_row(f"steps of {_half(half)}", f"{then:,}", "", f"{now:,}", "" if then == now else "differs")
    parts += [numbers, *_sentences(found), VERDICTS[found["verdict"]]]
    return Group(*parts)


def _sentences(found: Mapping[str, Any]) -> list[str]:
    same = "the same" if found["dataset"]["same"] else "different"
    curves = ", ".join(f"{COMPARISONS[name]} {value:.3g}" for name, value in found["fsc"].items())
    said = [f"• dataset: {same}, by its digest", f"• largest difference of the FSC curves: {curves}"]
    for half, volume in found["volumes"].items():
        correlation = "" if volume["correlation"] is None else f", correlation {volume['correlation']:.6f}"
        said.append(f"• volume of {_half(half)}: {'the same' if volume['same'] else 'different'}{correlation}")
    return [*said, *(f"• {escape(remark)}" for remark in found["remarks"])]


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _half(name: str) -> str:
    return name.replace("half", "half ")


def _signed(value: float | None) -> str:
    return "none" if value is None else f"{value:+.3f}"


def _mark(within: bool) -> str:
    return "" if within else "outside"
