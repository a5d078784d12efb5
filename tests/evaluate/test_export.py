from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from cryobench.errors import InputError
from cryobench.evaluate.export import write_fsc_curves, write_fsc_xml


def test_is_what_emdb_and_chimerax_read(tmp_path: Path) -> None:
    path = tmp_path / "fsc.xml"
    write_fsc_xml(path, [0.0, 0.01, 0.02], [1.0, 0.9, -0.123456789], "half-map <1> & 2")
    root = ElementTree.parse(path).getroot()
    assert root.tag == "fsc"
    assert root.attrib == {
        "title": "half-map <1> & 2",
        "xaxis": "Resolution (A-1)",
        "yaxis": "Correlation Coefficient",
    }
    points = [(float(c.findtext("x", "")), float(c.findtext("y", ""))) for c in root.findall("coordinate")]
    assert points == [(0.01, 0.9), (0.02, -0.123457)]
    assert path.read_text(encoding="utf-8").startswith("<?xml version='1.0' encoding='utf-8'?>")


@pytest.mark.parametrize("curve", [[1.0, 0.5], [1.0, 0.5, float("nan")]])
def test_refuses_what_is_no_curve(tmp_path: Path, curve: list[float]) -> None:
    with pytest.raises(InputError, match="finite correlations for 3 frequencies"):
        write_fsc_xml(tmp_path / "fsc.xml", [0.0, 0.1, 0.2], curve, "x")
    assert not (tmp_path / "fsc.xml").exists()


def test_every_curve_of_a_result_has_a_file(tmp_path: Path) -> None:
    curves = {"masked": [1.0, 0.8], "randomised": [1.0, 0.1], "corrected": [1.0, 0.7]}
    result = {
        "method": "guess",
        "fsc": {
            "spatial_frequency": [0.0, 0.1],
            "half_map": [1.0, 0.6],
            "truth": None,
            "truth_half1": None,
            "truth_half2": None,
        },
        "masked": {"mask": {}, "half_map": {**curves, "randomised_from": 1}, "truth": None},
    }
    (tmp_path / "fsc").mkdir()
    (tmp_path / "fsc" / "truth.xml").touch()  # of an earlier result
    table, *paths = write_fsc_curves(result, tmp_path)
    names = ["half_map", "half_map_masked", "half_map_randomised", "half_map_corrected"]
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [f"fsc/{name}.xml" for name in names]
    assert sorted((tmp_path / "fsc").iterdir()) == sorted(paths)
    assert table.read_text(encoding="utf-8").splitlines() == [
        "shell,spatial_frequency_per_angstrom,half_map,half_map_masked,half_map_randomised,half_map_corrected",
        "0,0.0,1.0,1.0,1.0,1.0",
        "1,0.1,0.6,0.8,0.1,0.7",
    ]
    assert [ElementTree.parse(path).getroot().findtext("coordinate/y") for path in paths] == [
        "0.600000",
        "0.800000",
        "0.100000",
        "0.700000",
    ]
    assert ElementTree.parse(paths[3]).getroot().attrib["title"] == "guess: half map corrected"
