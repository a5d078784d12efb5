"""Fourier shell correlation curves for other programs: the XML that EMDB takes and ChimeraX draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from cryobench.errors import InputError


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
    """Write every curve of a ``result.json`` as a file of its own, such as ``fsc_half_map.xml`` or ``fsc_truth_corrected.xml``.

    Returns:
        The paths, in a fixed order.
    """
    curves: dict[str, Sequence[float] | None] = {}
    for name in ("half_map", "truth", "truth_half1", "truth_half2"):
        curves[name] = result["fsc"][name]
        under_mask = result["masked"].get(name) or {}
        curves |= {f"{name}_{kind}": under_mask.get(kind) for kind in ("masked", "randomised", "corrected")}
    paths = []
    for name, curve in curves.items():
        if curve is not None:
            paths.append(directory / f"fsc_{name}.xml")
            title = f"{result['method']}: {name.replace('_', ' ')}"
            write_fsc_xml(paths[-1], result["fsc"]["spatial_frequency"], curve, title)
    return paths
