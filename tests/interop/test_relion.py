"""Particle STAR files: the dialects mean the same, real files parse, RELION reads what is written, bad files are told apart."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cryobench.errors import InputError
from cryobench.interop.particles import CTF_COLUMNS, ParticleTable
from cryobench.interop.relion import locate_stacks, read_particles, write_particles
from cryobench.interop.stacks import compare_pixel_sizes
from cryobench.physics.ctf import ContrastTransfer
from cryobench.physics.rotation import rotation_from_relion

RELION30 = """
data_

loop_
_rlnImageName #1
_rlnMicrographName #2
_rlnVoltage #3
_rlnSphericalAberration #4
_rlnAmplitudeContrast #5
_rlnMagnification #6
_rlnDetectorPixelSize #7
_rlnDefocusU #8
_rlnDefocusV #9
_rlnDefocusAngle #10
_rlnPhaseShift #11
_rlnAngleRot #12
_rlnAngleTilt #13
_rlnAnglePsi #14
_rlnOriginX #15
_rlnOriginY #16
_rlnRandomSubset #17
000001@s.mrcs m/a.mrc 300 2.7 0.1 25000 5 12000 11000 30 90 10 20 30 1.5 -2 1
000002@s.mrcs m/b.mrc 300 2.7 0.1 25000 5 13000 12500 -45 0 50 60 70 0 0.25 2
"""
RELION31 = """
# version 30001

data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
_rlnVoltage #3
_rlnSphericalAberration #4
_rlnAmplitudeContrast #5
_rlnImagePixelSize #6
_rlnImageSize #7
_rlnImageDimensionality #8
1 opticsGroup1 300 2.7 0.1 2.0 8 2


# version 30001

data_particles

loop_
_rlnImageName #1
_rlnMicrographName #2
_rlnOpticsGroup #3
_rlnDefocusU #4
_rlnDefocusV #5
_rlnDefocusAngle #6
_rlnPhaseShift #7
_rlnAngleRot #8
_rlnAngleTilt #9
_rlnAnglePsi #10
_rlnOriginXAngst #11
_rlnOriginYAngst #12
_rlnRandomSubset #13
000001@s.mrcs m/a.mrc 1 12000 11000 30 90 10 20 30 3 -4 1
000002@s.mrcs m/b.mrc 1 13000 12500 -45 0 50 60 70 0 0.5 2
"""
RELION5 = RELION31.replace("30001", "50001").replace(
    "# version 50001\n\ndata_optics",
    "# version 50001\n\ndata_general\n\n_rlnTomoSubTomosAre2DStacks 0\n\n# version 50001\n\ndata_optics",
    1,
)


def read(directory: Path, text: str, **options: float) -> ParticleTable:
    path = directory / "particles.star"
    path.write_text(text)
    return read_particles(path, **options)


def write_stack(path: Path, sections: int, height: int = 8, width: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(np.zeros((sections, height, width), dtype=np.float32))


def test_ctf_columns_are_those_of_the_stores() -> None:
    assert ContrastTransfer.names() == CTF_COLUMNS


@pytest.mark.parametrize("text", [RELION30, RELION31, RELION5], ids=["3.0", "3.1", "5"])
def test_every_dialect_says_the_same_in_our_units(tmp_path: Path, text: str) -> None:
    table = read(tmp_path, text)
    assert table.stack.tolist() == ["s.mrcs", "s.mrcs"]
    assert table.index.tolist() == [0, 1]
    assert table.micrograph.tolist() == ["m/a.mrc", "m/b.mrc"]
    assert table.common_pixel_size() == pytest.approx(2.0)
    assert_array_equal(table.ctf["defocus_u"], [12000, 13000])
    assert_allclose(table.ctf["defocus_angle"], np.deg2rad([30, -45]))
    assert_allclose(table.ctf["phase_shift"], [np.pi / 2, 0])
    assert_array_equal(table.ctf["voltage"], 300)
    assert_array_equal(table.ctf["b_factor"], 0)
    assert table.shift is not None
    assert_allclose(table.shift, [[-3, 4], [0, -0.5]])  # RELION's origins move the image back
    assert table.quaternion is not None
    assert_allclose(table.quaternion, rotation_from_relion([[10, 20, 30], [50, 60, 70]]).as_quat())
    assert table.half is not None
    assert table.half.tolist() == [1, 2]


def test_real_relion31(data_directory: Path) -> None:
    table = read_particles(data_directory / "particles" / "relion31.star")
    assert len(table) == 5
    assert table.common_pixel_size() == 2.806
    assert_array_equal(table.box, 256)
    assert table.ctf["defocus_u"][0] == 13108.082418
    assert_allclose(table.ctf["defocus_angle"], np.deg2rad(-160.39))
    assert_array_equal(table.ctf["spherical_aberration"], 0.01)
    assert table.notes == ()


def test_real_six_optics_groups(data_directory: Path) -> None:
    path = data_directory / "metadata" / "relion31.6opticsgroups.star"
    table = read_particles(path)
    assert len(table) == 139
    assert sorted(set(table.pixel_size)) == [1.24, 1.25]
    assert sorted(set(table.ctf["spherical_aberration"])) == [2.6, 2.7]  # one group of the six has 2.6
    assert "beam tilt" in table.notes[0]
    assert "anisotropic magnification" in table.notes[0]
    with pytest.raises(
        InputError, match=r"6opticsgroups.star: expected one pixel size, got 1.25 Å in particle row 1 and 1.24"
    ):
        table.common_pixel_size()


def test_real_relion30_with_unnamed_block(data_directory: Path) -> None:
    table = read_particles(data_directory / "particles" / "empiar_10076_7.star")
    assert len(table) == 7
    assert table.common_pixel_size() == pytest.approx(5e4 / 38168)
    assert table.micrograph.tolist() == [str(i) for i in range(1, 8)]
    assert table.quaternion is None
    assert table.shift is None
    assert table.half is None


def test_real_file_without_amplitude_contrast_asks_for_it(data_directory: Path) -> None:
    path = data_directory / "metadata" / "PfCRT_5particles.star"
    with pytest.raises(InputError, match=r"column rlnAmplitudeContrast.*state the value"):
        read_particles(path)
    table = read_particles(path, amplitude_contrast=0.07)
    assert_array_equal(table.ctf["amplitude_contrast"], 0.07)
    assert "0.07 was taken" in table.notes[0]


def test_real_mixed_voltages(data_directory: Path) -> None:
    table = read_particles(data_directory / "particles" / "aspire_sample.star")
    assert len(table) == 17
    assert sorted(set(table.ctf["voltage"])) == [200, 300]


def test_angles_of_a_2d_classification_are_not_poses(data_directory: Path) -> None:
    table = read_particles(data_directory / "metadata" / "empiar10204_class2d_it025_data_mic1-12.star")
    assert len(table) == 2368
    assert table.quaternion is None
    assert "2D classification" in table.notes[0]


def some_table(n: int = 20, seed: int = 0) -> ParticleTable:
    rng = np.random.default_rng(seed)
    group = rng.integers(2, size=n)
    quaternion = rng.standard_normal((n, 4))
    return ParticleTable(
        source=Path("x"),
        stack=np.array([f"stack{i % 3}.mrcs" for i in range(n)], dtype=object),
        index=np.arange(n),
        ctf={
            "defocus_u": rng.uniform(5e3, 3e4, n),
            "defocus_v": rng.uniform(5e3, 3e4, n),
            "defocus_angle": rng.uniform(-1.5, 1.5, n),
            "voltage": np.array([200.0, 300.0])[group],
            "spherical_aberration": np.array([2.7, 0.01])[group],
            "amplitude_contrast": np.full(n, 0.1),
            "phase_shift": rng.uniform(0, 3, n),
            "b_factor": rng.uniform(0, 100, n),
        },
        pixel_size=np.full(n, 1.274),
        box=np.full(n, 184),
        micrograph=np.array([f"{i // 2:04d}" for i in range(n)], dtype=object),
        quaternion=quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True),
        shift=rng.uniform(-20, 20, (n, 2)),
        half=(1 + np.arange(n) % 2).astype(np.int8),
    )


def assert_same(a: ParticleTable, b: ParticleTable, rtol: float) -> None:
    for name in ("stack", "index", "micrograph", "half", "box"):
        assert_array_equal(getattr(a, name), getattr(b, name), name)
    for name in CTF_COLUMNS:
        assert_allclose(a.ctf[name], b.ctf[name], rtol=rtol, atol=rtol, err_msg=name)
    assert a.shift is not None
    assert b.shift is not None
    assert_allclose(a.shift, b.shift, rtol=rtol, atol=10 * rtol)
    assert a.quaternion is not None
    assert b.quaternion is not None
    assert_allclose(np.abs((a.quaternion * b.quaternion).sum(-1)), 1, atol=rtol)


def test_written_particles_read_back_the_same(tmp_path: Path) -> None:
    table = some_table()
    write_particles(tmp_path / "a.star", table)
    back = read_particles(tmp_path / "a.star")
    assert_same(table, back, 1e-8)
    write_particles(tmp_path / "b.star", back)
    assert (tmp_path / "a.star").read_text() == (tmp_path / "b.star").read_text()


def test_relion_itself_reads_written_particles(tmp_path: Path, program: Callable[[str], Path]) -> None:
    table = some_table()
    write_particles(tmp_path / "a.star", table)
    command = [program("relion_star_handler"), "--i", "a.star", "--o", "b.star"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert_same(table, read_particles(tmp_path / "b.star"), 1e-5)  # RELION writes six decimals


def test_names_with_white_space_are_not_written(tmp_path: Path) -> None:
    table = replace(some_table(1), micrograph=np.array(["my micrograph.mrc"], dtype=object))
    with pytest.raises(InputError, match=r"without white space, got 'my micrograph\.mrc'"):
        write_particles(tmp_path / "a.star", table)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("_rlnDefocusU #4", "_rlnOther #4", "particles.star: expected a column rlnDefocusU, got none"),
        ("_rlnImageName", "_rlnImage", "one block of particles with a column rlnImageName|column rlnImageName"),
        ("_rlnImagePixelSize", "_rlnSomething", "rlnDetectorPixelSize"),
        ("13000", "nan", "particles.star, particle row 2, column rlnDefocusU: expected a number, got nan"),
        ("13000", "twelve", "particle row 2, column rlnDefocusU: expected a number, got twelve"),
        ("0 0.5 2", "0", "particles.star, line 37: expected 13 values in row 2 of block data_particles, got 11"),
        ("000002@", "000001@", r"particle row 2, .*every image once \(it is in particle row 1 too\)"),
        ("000002@", "000000@", "particle row 2, .*counted from 1, got 000000@s.mrcs"),
        (
            "m/b.mrc 1",
            "m/b.mrc 7",
            "particle row 2, column rlnOpticsGroup: expected an optics group of this file, got 7",
        ),
        ("_rlnOpticsGroup #3", "_rlnOther #3", "a column rlnOpticsGroup"),
        (
            "2.7 0.1 2.0",
            "2.7 10 2.0",
            "particle row 1, amplitude contrast: expected a fraction from 0 to below 1, got 10",
        ),
        ("0.1 2.0 8", "0.1 0 8", "column rlnImagePixelSize: expected a positive number"),
        ("0.5 2\n", "0.5 3\n", "particle row 2, column rlnRandomSubset: expected 1 or 2, got 3"),
        ("2.0 8 2", "2.0 8 3", "expected single-particle images, got subtomograms"),
        ("_rlnImageDimensionality", "_rlnCtfDataAreCtfPremultiplied", "CTF-premultiplied"),
        ("data_particles", "data_micrographs\n\n_rlnX 1\n\ndata_particles\n\n_rlnX 1\n\ndata_x", "particles"),
    ],
)
def test_bad_files_name_file_row_and_column(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in RELION31
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, RELION31.replace(old, new))
    assert "\n" not in str(caught.value)
    assert "particles.star" in str(caught.value)


def test_no_particles(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"particles\.star: expected particles, got none"):
        read(tmp_path, "\n".join(RELION31.splitlines()[:-2]) + "\n")


def test_not_a_star_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found nothing"):
        read_particles(tmp_path / "none.star")
    with pytest.raises(InputError, match="found a directory"):
        read_particles(tmp_path)
    for text in ("", "hello\n", "data_\n\nloop_\n_rlnImageName #1\na b c\n"):
        with pytest.raises(InputError, match=r"particles\.star(, line \d)?: expected (a|1 values)"):
            read(tmp_path, text)
    (tmp_path / "binary.star").write_bytes(bytes(range(256)) * 8)
    with pytest.raises(InputError, match=r"binary\.star, line 1: expected text, got a control character"):
        read_particles(tmp_path / "binary.star")


def test_stacks_are_found_beside_the_file_above_it_and_where_told(tmp_path: Path) -> None:
    deep = tmp_path / "Refine3D" / "job010"
    deep.mkdir(parents=True)
    table = read(deep, RELION31.replace("s.mrcs", "Extract/s.mrcs"))
    with pytest.raises(
        InputError, match=r"particle row 1, column rlnImageName: expected the stack Extract/s\.mrcs in .*say where"
    ):
        locate_stacks(table)
    project = tmp_path / "Extract" / "s.mrcs"
    write_stack(project, 2)
    assert locate_stacks(table)["Extract/s.mrcs"].samefile(project)
    beside = deep / "Extract" / "s.mrcs"
    write_stack(beside, 2)
    assert locate_stacks(table)["Extract/s.mrcs"].samefile(beside)
    elsewhere = tmp_path / "elsewhere" / "s.mrcs"
    write_stack(elsewhere, 2)
    assert locate_stacks(table, elsewhere.parent)["Extract/s.mrcs"].samefile(elsewhere)


def test_stacks_that_do_not_fit_their_table(tmp_path: Path) -> None:
    table = read(tmp_path, RELION31)
    write_stack(tmp_path / "s.mrcs", 1)
    with pytest.raises(
        InputError, match=r"particle row 2, column rlnImageName: expected an image of the 1 in s\.mrcs, got 2"
    ):
        locate_stacks(table)
    write_stack(tmp_path / "s.mrcs", 2, 10, 10)
    with pytest.raises(InputError, match=r"particle row 1, .*expected a box of 10 px as in s\.mrcs, got 8"):
        locate_stacks(table)
    write_stack(tmp_path / "s.mrcs", 2, 6, 8)
    with pytest.raises(InputError, match=r"s\.mrcs: expected square images, got 6 x 8 px"):
        locate_stacks(table)
    (tmp_path / "s.mrcs").write_bytes((tmp_path / "s.mrcs").read_bytes()[:-40])
    with pytest.raises(InputError, match=r"s\.mrcs"):
        locate_stacks(table)


def test_paths_with_spaces_and_dots(tmp_path: Path) -> None:
    project = tmp_path / "my project"
    (project / "Refine3D").mkdir(parents=True)
    table = read(
        project / "Refine3D",
        RELION31.replace("000001@s.mrcs", '"000001@../Extract job/s.mrcs"').replace(
            "000002@s.mrcs", '"000002@../Extract job/s.mrcs"'
        ),
    )
    stack = project / "Extract job" / "s.mrcs"
    write_stack(stack, 2)
    assert locate_stacks(table)["../Extract job/s.mrcs"].samefile(stack)


def test_names_that_no_file_can_have(tmp_path: Path) -> None:
    for name in ("x" * 5000, "a/" * 3000 + "s.mrcs", "~/s.mrcs", "|s.mrcs"):
        table = read(tmp_path, RELION31.replace("s.mrcs", name))
        with pytest.raises(InputError, match=r"particle row 1, column rlnImageName: expected the stack"):
            locate_stacks(table)
    with pytest.raises(InputError, match="got a control character"):
        read(tmp_path, RELION31.replace("s.mrcs", "\0"))
    with pytest.raises(InputError, match="counted from 1, got 9999999999999"):
        read(tmp_path, RELION31.replace("000002@", "9999999999999@"))


@pytest.mark.parametrize("angle", ["nan", "inf", "1e400", "-1e300", "1_0", "ten"])
def test_angles_that_are_no_numbers(tmp_path: Path, angle: str) -> None:
    with pytest.raises(
        InputError, match=r"particles\.star, particle row 2, column rlnAngleTilt: expected a number, got"
    ):
        read(tmp_path, RELION31.replace(" 60 ", f" {angle} "))


def test_a_column_that_is_there_twice(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"particles\.star, line 27: expected every column once, got rlnDefocusU a second time"
    ):
        read(tmp_path, RELION31.replace("_rlnDefocusV #5", "_rlnDefocusU #5"))


def test_headers_that_state_another_pixel_size(data_directory: Path, tmp_path: Path) -> None:
    """Real ones do: 1 Å where the table rightly says 2.806 Å."""
    table = read_particles(data_directory / "particles" / "relion31.star")
    (note,) = compare_pixel_sizes(table, locate_stacks(table, data_directory / "particles"))
    assert "the headers of 1 stacks state another pixel size than the table, whose was taken (1 Å in " in note
    assert "2.806 Å in relion31.star)" in note
    table = read(tmp_path, RELION31)
    write_stack(tmp_path / "s.mrcs", 2)  # states none
    assert compare_pixel_sizes(table, locate_stacks(table)) == []
