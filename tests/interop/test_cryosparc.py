"""cryoSPARC's particle files against the STAR file of the same particles, and bad ones told apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.lib import recfunctions
from numpy.testing import assert_allclose, assert_array_equal

from cryobench.errors import InputError
from cryobench.interop import cryosparc, relion
from cryobench.interop.particles import CTF_COLUMNS


def test_same_particles_as_the_star_file(data_directory: Path) -> None:
    cs = cryosparc.read_particles(data_directory / "particles" / "empiar_10076_7.cs")
    star = relion.read_particles(data_directory / "particles" / "empiar_10076_7.star")
    assert_array_equal(cs.stack, star.stack)
    assert_array_equal(cs.index, star.index)
    for name in CTF_COLUMNS:
        assert_allclose(cs.ctf[name], star.ctf[name], rtol=1e-6, atol=1e-7, err_msg=name)  # .cs holds single precision
    assert_allclose(cs.pixel_size, star.pixel_size, rtol=1e-6)
    assert_array_equal(cs.box, 320)
    assert "invert" in cs.notes[0]


def test_refined_particles(data_directory: Path) -> None:
    table = cryosparc.read_particles(data_directory / "metadata" / "cryosparc_P12_J24_001_particles.cs")
    assert len(table) == 2019
    assert table.half is not None
    assert set(table.half.tolist()) <= {1, 2}
    assert table.common_pixel_size() == pytest.approx(2.95)


def test_bad_files(data_directory: Path, tmp_path: Path) -> None:
    source = np.load(data_directory / "particles" / "empiar_10076_7.cs")

    def read(array: np.ndarray) -> None:
        with (tmp_path / "bad.cs").open("wb") as file:
            np.save(file, array)
        cryosparc.read_particles(tmp_path / "bad.cs")

    with pytest.raises(InputError, match=r"bad\.cs: expected a field ctf/df1_A, found none"):
        read(recfunctions.drop_fields(source, "ctf/df1_A"))
    with pytest.raises(InputError, match=r"expected particles in a structured array, got none"):
        read(source[:0])
    with pytest.raises(InputError, match=r"expected particles in a structured array, got no fields"):
        read(np.zeros(3))
    broken = source.copy()
    broken["ctf/df2_A"][4] = np.nan
    with pytest.raises(InputError, match=r"bad\.cs: particle row 5, field ctf/df2_A: expected a number, got nan"):
        read(broken)
    (tmp_path / "bad.cs").write_text("not numpy")
    with pytest.raises(InputError, match="cannot be read"):
        cryosparc.read_particles(tmp_path / "bad.cs")
    with pytest.raises(InputError, match="cannot be read"):
        cryosparc.read_particles(tmp_path / "none.cs")
