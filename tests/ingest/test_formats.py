"""A file of one program given to the other's command: the error names the right one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cryobench.cli import main
from cryobench.errors import InputError
from cryobench.ingest.cryosparc import import_cryosparc
from cryobench.ingest.relion import import_relion

STAR = "# version 30001\n\ndata_particles\n\nloop_\n_rlnImageName #1\n000001@a.mrcs\n"


def test_each_command_sends_the_other_s_files_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cs, star = tmp_path / "particles.cs", tmp_path / "particles.star"
    with cs.open("wb") as file:
        np.save(file, np.zeros(2, dtype=[("uid", "u8")]))
    star.write_text(STAR, encoding="utf-8")
    with pytest.raises(InputError, match="`cryobench import cryosparc` takes it"):
        import_relion(cs, tmp_path / "out")
    with pytest.raises(InputError, match="`cryobench import relion` takes it"):
        import_cryosparc(star, tmp_path / "out")
    with pytest.raises(SystemExit):
        main(["import", "relion", str(cs), "--out", str(tmp_path / "out")])
    assert "cryobench import cryosparc" in " ".join(capsys.readouterr().err.split())


def test_what_is_neither_or_not_there_is_left_to_the_reader(tmp_path: Path) -> None:
    (tmp_path / "a.cs").write_bytes(b"\x00" * 64)
    for read, name in ((import_cryosparc, "a.cs"), (import_cryosparc, "b.cs"), (import_relion, "b.star")):
        with pytest.raises(InputError) as caught:
            read(tmp_path / name, tmp_path / "out")
        assert "takes it" not in str(caught.value)
