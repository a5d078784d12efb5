from __future__ import annotations

import pytest
from typer.testing import CliRunner

from cryobench.cli import app


def shown(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["specimen", *arguments], env={"COLUMNS": "200"}, catch_exceptions=False)
    assert result.exit_code == 0
    return " ".join(result.output.split())


def test_the_list_says_what_each_is_and_where_it_comes_from():
    told = shown("list")
    assert "phantom-o O embedded procedural protein of 24 subunits" in told
    assert "betagal D2 PDB 5A1A beta-galactosidase" in told
    assert "ribosome C1 EMD-2660 80S ribosome" in told


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("phantom", ["symmetry D2", "179 x 116 x 84 Å", "216,240 electrons", "units electrons per Å^3"]),
        ("phantom-path,states=3", ["state 2 0.333 of the particles", "arm turned by +30.0 degrees", "states 8"]),
        ("phantom + 3 * phantom-c1", ["state 1 0.75 of the particles: phantom-c1 (C1)"]),
    ],
)
def test_show_tells_what_it_is(spec, expected):
    told = shown("show", spec)
    for part in expected:
        assert part in told


def test_show_tells_what_was_read_and_which_options_there_are(data_directory, monkeypatch):
    monkeypatch.setenv("CRYOBENCH_DATA", str(data_directory))
    told = shown("show", "betagal,scattering=electron,b_factors=yes")
    for part in (
        "name betagal,scattering=electron,b_factors=yes",
        "assembly 1, of the only model: 4 chains",
        "electron scattering factors, blurred by a Gaussian of 0.225 x 2.5 Å and its B-factor",
        "units volts; 3.74e+06 V Å^3 in all",
        "resolution 2.5 Å: a Gaussian",
        "Options follow the name after commas",
    ):
        assert part in told
