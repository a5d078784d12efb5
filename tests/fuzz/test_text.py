"""STAR files of particles, micrographs, boxes and MTFs; CTFFIND4's text, EMAN's and CSV boxes, scenarios in TOML."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from hypothesis import strategies as st

from cryobench.errors import InputError
from cryobench.interop.box_files import read_boxes
from cryobench.interop.ctf_tables import read_ctf_rows
from cryobench.interop.ctffind import read_ctf_table
from cryobench.interop.micrograph_ctf import read_micrograph_ctf
from cryobench.interop.mtf import read_mtf
from cryobench.interop.relion import locate_stacks, read_particles, write_particles
from cryobench.scenario.files import load_scenario
from cryobench.testing.damage import TOKENS, check_table, damaged_bytes, damaged_text, invented_text

Real = Callable[..., list[bytes]]
Try = Callable[..., None]

OPTICS_LABELS: Final = [
    *(
        "OpticsGroup",
        "OpticsGroupName",
        "Voltage",
        "SphericalAberration",
        "AmplitudeContrast",
        "ImagePixelSize",
        "ImageSize",
    )
]
PARTICLE_LABELS: Final = [
    *("ImageName", "MicrographName", "OpticsGroup", "DefocusU", "DefocusV", "DefocusAngle"),
    *("AngleRot", "AngleTilt", "AnglePsi", "OriginXAngst", "OriginYAngst", "RandomSubset"),
]
MICROGRAPH_LABELS: Final = [
    *("MicrographName", "DefocusU", "DefocusV", "DefocusAngle", "Voltage", "SphericalAberration"),
    *("AmplitudeContrast", "CtfMaxResolution", "CoordinateX", "CoordinateY"),
]
MTF_LABELS: Final = ["ResolutionInversePixel", "MtfValue"]


def block(name: str, labels: list[str], *rows: str) -> bytes:
    return "\n".join([f"data_{name}", "", "loop_", *(f"_rln{label}" for label in labels), *rows, "", ""]).encode()


PARTICLES: Final = block("optics", OPTICS_LABELS, "1 opticsGroup1 300 2.7 0.1 2.0 8") + block(
    "particles",
    PARTICLE_LABELS,
    "000001@s.mrcs m/a.mrc 1 12000 11000 30 10 20 30 3 -4 1",
    '"000002@s t.mrcs" m/b.mrc 1 13000 12500 -45 50 60 70 0 0.5 2',
)
MICROGRAPHS: Final = block(
    "micrographs",
    MICROGRAPH_LABELS,
    "m/a.mrc 12000 11000 30 300 2.7 0.1 3.5 100 200",
    "m/b.mrc 13000 12500 -45 300 2.7 0.1 4.5 300 400.5",
)
MTF: Final = block("mtf", MTF_LABELS, "0 1", "0.1 0.9", "0.25 0.7", "0.5 0.4")
CTFFIND: Final = b"""# Output from CTFFind version 4.1.14, run on 2020-01-01 00:00:00
# Input file: a.mrc ; Number of micrographs: 1
# Pixel size: 1.400 Angstroms ; acceleration voltage: 300.0 keV ; spherical aberration: 2.70 mm ; amplitude contrast: 0.07
1.000000 12000.500000 11000.250000 -30.000000 0.500000 0.070000 3.500000
"""
CSV: Final = b"micrograph,x,y,w,h\na.mrc,10,20,64,64\nb.mrc,1.5,2,64,64\n"
SCENARIO: Final = b"""name = "mine"
specimen = "phantom"
particles = 100
[image]
native_box = 32
native_pixel_size = 4.0
box = 16
[shift]
kind = "triangular"
half_width_percent = 5
[noise]
kind = "white"
snr_db = 0
"""


@st.composite
def invented_star(draw: st.DrawFn) -> bytes:
    """Blocks of labels that RELION knows, with rows of tokens; more often than not of one width."""
    text = b""
    for name in draw(st.lists(st.sampled_from(["optics", "particles", "", "micrographs", "mtf"]), max_size=3)):
        labels = draw(st.sampled_from([OPTICS_LABELS, PARTICLE_LABELS, MICROGRAPH_LABELS, MTF_LABELS]))
        drawn = draw(st.binary(max_size=3 * len(labels) + 2))
        words = [TOKENS[byte % len(TOKENS)] for byte in drawn]
        text += block(name, labels, *(" ".join(words[i : i + len(labels)]) for i in range(0, len(words), len(labels))))
    return text


def check_particles(path: Path) -> None:
    table = read_particles(path, amplitude_contrast=0.1)
    check_table(table)
    with pytest.raises(InputError):  # names are tried as paths, whatever they hold; none is there
        locate_stacks(table, path.parent)
    try:
        write_particles(path.with_name("again.star"), table)
    except InputError:
        return  # a box that is not stated, or a name with white space
    again = read_particles(path.with_name("again.star"))
    np.testing.assert_array_equal(again.stack, table.stack)
    np.testing.assert_array_equal(again.micrograph, table.micrograph)
    np.testing.assert_allclose(again.ctf["defocus_u"], table.ctf["defocus_u"], rtol=1e-9)


def check_ctfs(path: Path) -> None:
    rows = read_ctf_rows(path)
    assert len(rows) > 0
    assert all(np.isfinite(column).all() for column in rows.columns.values())


def check_micrographs(path: Path) -> None:
    table = read_micrograph_ctf(path, {"voltage": 300.0, "spherical_aberration": 2.7, "amplitude_contrast": 0.1})
    assert len(table) > 0
    assert all(np.isfinite(column).all() for column in table.ctf.values())
    assert (table.fit_resolution >= 0).all()


def check_ctffind(path: Path) -> None:
    table = read_ctf_table(path, np.inf)
    assert len(table) > 0
    assert np.isfinite([table.defocus_u, table.defocus_v, table.defocus_angle, table.phase_shift]).all()
    assert (table.fit_resolution > 0).all()
    check_micrographs(path)


def check_boxes(path: Path) -> None:
    table = read_boxes(path)
    assert len(table) > 0
    assert np.isfinite(table.centres).all()
    assert (table.box >= 0).all()


def check_mtf(path: Path) -> None:
    frequencies, values = read_mtf(path)
    assert (np.diff(frequencies) > 0).all()
    assert np.isfinite(values).all()


def test_particles(try_reader: Try, real: Real) -> None:
    names = ["particles/relion31.star", "particles/empiar_10076_7.star", "metadata/PfCRT_5particles.star"]
    samples = [PARTICLES, *real(*names), *real("metadata/relion31.6opticsgroups.star", lines=60)]
    try_reader(check_particles, ".star", samples, damaged_text(samples), invented_star())


def test_ctfs_of_particles_and_micrographs(try_reader: Try, real: Real) -> None:
    samples = [PARTICLES, MICROGRAPHS, *real("particles/relion31.star")]
    try_reader(check_ctfs, ".star", samples, damaged_text(samples), invented_star())


def test_micrographs(try_reader: Try, real: Real) -> None:
    samples = [MICROGRAPHS, *real("metadata/empiar10204_micrographs_ctf_mic1-12.star", lines=30)]
    try_reader(check_micrographs, ".star", samples, damaged_text(samples), invented_star())


def test_ctffind(try_reader: Try, real: Real) -> None:
    joined = real("cryogan_betagal/ctf-betagal-all-3185.txt", lines=12)
    samples = [CTFFIND, *real("oracles/aspire_ctffind4_diagnostic_output.txt"), *joined]
    try_reader(check_ctffind, ".txt", samples, damaged_text(samples), invented_text())


def test_mtf(try_reader: Try, real: Real) -> None:
    samples = [MTF, *real("metadata/mtf_falcon4EC_300kV.star")]
    try_reader(check_mtf, ".star", samples, damaged_text(samples), invented_star())


@pytest.mark.parametrize("suffix", [".box", ".star", ".csv", ".csv.gz"])
def test_boxes(suffix: str, try_reader: Try) -> None:
    sample = {
        ".box": b"10\t20\t64\t64\n30 -40 64 64 0\n",
        ".star": MICROGRAPHS,
        ".csv": CSV,
        ".csv.gz": gzip.compress(CSV, mtime=0),
    }
    damaged = (damaged_bytes if suffix == ".csv.gz" else damaged_text)([sample[suffix]])
    invented = invented_star() if suffix == ".star" else invented_text(["micrograph,x,y,w,h"])
    try_reader(check_boxes, suffix, [sample[suffix]], damaged, invented)


def test_scenarios(try_reader: Try) -> None:
    words = ["[image]", "[noise]", "kind", "=", '"white"', "snr_db", "box", "[", "]", "{", "}", ","]
    try_reader(
        lambda path: load_scenario(str(path)), ".toml", [SCENARIO], damaged_text([SCENARIO]), invented_text(words)
    )
