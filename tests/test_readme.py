"""What the README shows works as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).resolve().parent.parent / "README.md"


@pytest.mark.slow
def test_python_example_runs(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    script = tmp_path / "example.py"
    script.write_text(example, encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "'0.143'" in done.stdout
    assert "xarray.Dataset" in done.stdout


def test_commands_exist() -> None:
    text = README.read_text(encoding="utf-8")
    commands = set(re.findall(r"cryobench ((?:scenario|method|specimen|dataset|import|plugin) \w+|\w+)", text))
    from typer.testing import CliRunner

    from cryobench.cli import app

    words = {
        c
        for c in commands
        if c.split()[0] in ("run", "simulate", "reconstruct", "evaluate", "report", "doctor") or " " in c
    }
    assert {"run", "plugin new", "import relion"} <= words
    for command in words:
        assert CliRunner().invoke(app, [*command.split(), "--help"]).exit_code == 0, command
