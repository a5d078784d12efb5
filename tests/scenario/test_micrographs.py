"""The CTFs of a dataset and its detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cryobench.errors import InputError
from cryobench.interop.mtf import read_mtf
from cryobench.scenario.ctf_spec import FixedCTF, TableCTF, UniformCTF
from cryobench.scenario.files import adapt_scenario
from cryobench.scenario.micrographs import describe_micrographs, detector_of, draw_micrographs

NAMES = ["dfU_A", "dfV_A", "dfang_deg", "kV", "Cs_mm", "Q0", "phase_deg"]
ROWS = [
    [9000.0, 8000.0, 10.0, 200.0, 1.4, 0.07, 0.0],
    [60000.0, 60000.0, 0.0, 200.0, 1.4, 0.07, 90.0],
    [9000.0, 2000.0, 0.0, 200.0, 1.4, 0.07, 0.0],
    [9000.0, 1000.0, 0.0, 200.0, 1.4, 0.07, 0.0],
    [-900.0, -900.0, 0.0, 200.0, 1.4, 0.07, 0.0],
]


@pytest.fixture
def table(tmp_path: Path) -> str:
    np.savez(tmp_path / "table.npz", ctf=np.array(ROWS), columns=np.array(NAMES))
    return str(tmp_path / "table.npz")


def test_a_fixed_ctf_is_one_for_all() -> None:
    spec = FixedCTF(defocus=12000, astigmatism=400, astigmatism_angle=90)
    ctf = draw_micrographs(spec, 0)
    assert (ctf.defocus_u.tolist(), ctf.defocus_v.tolist()) == ([12200], [11800])
    assert ctf.defocus_angle.tolist() == pytest.approx([np.pi / 2])
    assert "One CTF" in describe_micrographs(spec)


def test_rows_that_break_a_rule_are_dropped_and_counted(table: str) -> None:
    spec = TableCTF(path=table, max_defocus=50000)
    kept = draw_micrographs(spec, 0)
    assert kept.defocus_u.tolist() == [9000]
    told = describe_micrographs(spec)
    assert "5 rows, 5 distinct, 1 taken" in told
    assert "2 defocus not from 0 to 50000 Å" in told
    assert "2 astigmatism above 0.5 of the defocus" in told
    assert "does not say what a fit reached" in told
    all_rows = TableCTF(path=table, min_defocus=-1e5, max_astigmatism=10)
    assert len(draw_micrographs(all_rows, 0)) == 5
    assert "dropped: none" in describe_micrographs(all_rows)
    with pytest.raises(InputError, match=r"all 5 break one \(5 defocus not from 70000"):
        draw_micrographs(TableCTF(path=table, min_defocus=70000), 0)


def test_optics_are_the_tables_unless_the_scenario_claims_them(table: str) -> None:
    theirs = draw_micrographs(TableCTF(path=table), 0)
    assert (float(theirs.voltage[0]), float(theirs.spherical_aberration[0])) == (200, 1.4)
    ours = draw_micrographs(TableCTF(path=table, optics="scenario", voltage=300), 0)
    assert (float(ours.voltage[0]), float(ours.amplitude_contrast[0])) == (300, 0.1)
    assert "Optics are the scenario's" in describe_micrographs(TableCTF(path=table, optics="scenario"))
    # the phase plate of the scenario comes on top of a fitted phase, the envelope is the scenario's
    shifted = draw_micrographs(TableCTF(path=table, phase_shift_degrees=30, b_factor=50), 0)
    np.testing.assert_allclose(shifted.phase_shift, np.deg2rad([30, 120]))
    np.testing.assert_array_equal(shifted.b_factor, 50)


def test_real_tables_state_what_was_dropped(data_directory: Path) -> None:
    text = TableCTF(path=str(data_directory / "cryogan_betagal" / "ctf-betagal-all-3185.txt"))
    assert "1539 rows, 1539 distinct, 1528 taken; dropped: 11 fitted no better than 4 Å" in describe_micrographs(text)
    star = TableCTF(path=str(data_directory / "metadata" / "empiar10204_micrographs_ctf_mic1-12.star"))
    assert "11 taken; dropped: 1 fitted no better than 4 Å" in describe_micrographs(star)
    assert draw_micrographs(star, 0).voltage.unique().tolist() == [200]
    failed = TableCTF(path=str(data_directory / "empiar10204" / "ctffind4" / "micrographs_ctf_FAILED.star"))
    with pytest.raises(InputError, match="24 fitted no better than 4 Å; the best fit reaches"):
        draw_micrographs(failed, 0)


def test_the_detectors_frequencies_are_of_its_own_pixel(data_directory: Path) -> None:
    path = str(data_directory / "metadata" / "mtf_k2_300kV.star")
    frequencies, values = read_mtf(path)
    for pixel, native in ((None, 1.274), (0.637, 1.274)):
        detector = detector_of(UniformCTF(mtf=path, mtf_pixel_size=pixel), native)
        assert detector is not None
        assert float(detector.at(torch.tensor(0.25 / (pixel or native)))) == pytest.approx(
            np.interp(0.25, frequencies, values), abs=1e-6
        )
    assert detector_of(UniformCTF(), 1.274) is None
    assert adapt_scenario("snr-20", settings=[f"ctf.mtf={path}"]).ctf.mtf == path
