"""Fourier shell correlation curves for other programs: a table, and the XML that EMDB takes and ChimeraX draws."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from cryobench.errors import InputError
from cryobench.interop.atomic import written_whole


def write_fsc_xml(path: Path, frequencies: Sequence[float], curve: Sequence[float], title: str) -> None:
    """Write a curve as EMDB's FSC XML (``fsc`` of ``coordinate``s with x in 1/angstrom and y), shell 0 left out.

    Args:
        path: of the file.
        frequencies: spatial frequency of every shell, 1/angstrom.
        curve: correlation of every shell.
        title: what is compared.

    Raises:
        InputError: if the lengths differ or a value is not finite.
    """
    if len(frequencies) != len(curve) or not all(math.isfinite(v) for v in (*frequencies, *curve)):
        raise InputError(
            f"expected finite correlations for {len(frequencies)} frequencies to write to {path}, got {len(curve)} values"
        )
    root = ElementTree.Element("fsc", {"title": title, "xaxis": "Resolution (A-1)", "yaxis": "Correlation Coefficient"})
    for frequency, value in list(zip(frequencies, curve, strict=True))[1:]:
        coordinate = ElementTree.SubElement(root, "coordinate")
        ElementTree.SubElement(coordinate, "x").text = f"{frequency:.6f}"
        ElementTree.SubElement(coordinate, "y").text = f"{value:.6f}"
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def write_fsc_curves(result: Mapping[str, Any], directory: Path) -> list[Path]:
    """Write the curves of a ``result.json``: all in ``fsc.csv``, and each as XML in the folder ``fsc``.

    The XML files are called by what is compared, such as ``half_map.xml`` or ``truth_corrected.xml``; those of an earlier result
    are taken away.

    Returns:
        The paths, the table first, in a fixed order.
    """
    curves: dict[str, Sequence[float]] = dict(_name_curves(result))
    folder = directory / "fsc"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.xml"):
        old.unlink()
    frequencies = result["fsc"]["spatial_frequency"]
    paths = [directory / "fsc.csv"]
    with written_whole(paths[0]) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["shell", "spatial_frequency_per_angstrom", *curves])
        table.writerows(zip(range(len(frequencies)), frequencies, *curves.values(), strict=True))
    for name, curve in curves.items():
        paths.append(folder / f"{name}.xml")
        write_fsc_xml(paths[-1], frequencies, curve, f"{result['method']}: {name.replace('_', ' ')}")
    return paths


def _name_curves(result: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[float]]]:
    """Every curve that was measured, by what it compares and, under the mask, its kind."""
    for name in ("half_map", "truth", "truth_half1", "truth_half2"):
        under_mask = result["masked"].get(name) or {}
        kinds = {f"{name}_{kind}": under_mask.get(kind) for kind in ("masked", "randomised", "corrected")}
        yield from ((key, curve) for key, curve in {name: result["fsc"][name], **kinds}.items() if curve is not None)
