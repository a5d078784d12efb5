"""The import commands, and what they say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cryobench.cli import main
from cryobench.dataset.store import open_store
from cryobench.testing.micrographs import SimulatedMicrographs


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Exit code, and all that was printed as one line."""
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    captured = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, " ".join((captured.out + captured.err).split())


def test_micrographs(micrographs: SimulatedMicrographs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = micrographs.micrographs[0].parent
    command = ["import", "micrographs", where, "--boxes", micrographs.boxes, "--ctf", micrographs.ctf_text, "--box", 32]
    command += ["--out", tmp_path / "out", "--noise-patches", 16, "--no-ramp"]
    code, said = run(capsys, *command)
    assert code == 2
    assert "error: ctf.txt: expected the voltage of the microscope" in said
    code, said = run(capsys, *command, "--voltage", 300, "--cs", 2.7, "--amplitude-contrast", 0.1)
    assert code == 0
    assert "note boxes left out beyond the edge: " in said
    dataset = open_store(tmp_path / "out" / "observed.zarr", "observed")
    assert dataset.attrs["import_options"]["ramp_removed"] is False
    assert dataset.sizes["x"] == 32
    code, said = run(capsys, "dataset", "info", tmp_path / "out")
    assert code == 0
    assert "SNR estimate" in said


def test_cryosparc(data_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(data_directory / "particles" / "empiar_10076_7.mrcs", tmp_path / "empiar_10076_7.mrc")
    file = data_directory / "particles" / "empiar_10076_7.cs"
    command = ["import", "cryosparc", file, "--out", tmp_path / "out", "--box", 48, "--noise-patches", 16]
    code, said = run(capsys, *command)
    assert code == 2
    assert "empiar_10076_7.cs, particle row 1, field blob/path: expected the stack empiar_10076_7.mrc in" in said
    code, said = run(capsys, *command, "--stacks", tmp_path, "--invert", "--symmetry", "C1")
    assert code == 0
    assert "note the file names no micrographs" in said
    assert open_store(tmp_path / "out" / "observed.zarr", "observed").attrs["import_options"]["inverted"] is True
