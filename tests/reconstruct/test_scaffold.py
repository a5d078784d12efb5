"""``cryobench plugin new`` writes a distribution that is clean, complete and works."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from cryobench.dataset.store import open_predicted, open_store
from cryobench.errors import InputError
from cryobench.evaluate.fsc import fsc
from cryobench.physics.fourier import fourier_crop_volumes
from cryobench.physics.grids import radius
from cryobench.reconstruct.registry import load_method
from cryobench.reconstruct.run import reconstruct
from cryobench.reconstruct.scaffold import write_plugin
from cryobench.testing.tiny import tiny_run

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


@pytest.mark.parametrize("name", ["spheres", "my-first-method", "b2"])
def test_what_is_written_is_clean_and_complete(tmp_path: Path, name: str) -> None:
    directory = write_plugin(name, tmp_path / "new")
    module = f"cryobench_{name.replace('-', '_')}"
    assert directory == tmp_path / "new" / f"cryobench-{name}"
    files = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    package = {f"src/{module}/{part}.py" for part in ("__init__", "method", "radial")}
    assert files == {"pyproject.toml", "README.md", "tests/test_conformance.py"} | package
    project = tomllib.loads((directory / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == f"cryobench-{name}"
    (point,) = project["entry-points"]["cryobench.reconstructors"].items()
    assert point[0] == name
    assert point[1].startswith(f"{module}:")
    assert not [path for path in directory.rglob("*") if path.is_file() and "$" in path.read_text(encoding="utf-8")]
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", "--config", str(PROJECT), str(directory)]
        done = subprocess.run(ruff, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["", "My-Method", "2d", "a_b", "a--b", "-a", "a-", "a b", "a/b", "..", "é", "a" * 41])
def test_a_name_that_does_not_fit_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="expected a method name of lower-case letters"):
        write_plugin(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_taken_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cryobench.reconstruct.scaffold.methods", lambda: {"spheres": None})
    with pytest.raises(InputError, match="'spheres', which is installed already"):
        write_plugin("spheres", tmp_path)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    directory = write_plugin("spheres", tmp_path)
    (directory / "README.md").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="expected nothing at"):
        write_plugin("spheres", tmp_path)
    assert (directory / "README.md").read_text(encoding="utf-8") == "mine"
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="found a file"):
        write_plugin("spheres", tmp_path / "file")


def test_the_method_that_is_written_finds_the_radial_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = write_plugin("roundest", tmp_path)
    info = directory / "src" / "cryobench_roundest-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: cryobench-roundest\nVersion: 0.1.0\n", encoding="utf-8"
    )
    points = tomllib.loads((directory / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    lines = "\n".join(f"{name} = {target}" for name, target in points["cryobench.reconstructors"].items())
    (info / "entry_points.txt").write_text(f"[cryobench.reconstructors]\n{lines}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(directory / "src"))
    importlib.invalidate_caches()
    assert load_method("roundest")().name == "roundest"

    run = tiny_run(tmp_path / "run", particles=600, snr_db=10.0)
    _, halves = open_predicted(reconstruct(run, "roundest", device="cpu", workers=1))
    found = torch.as_tensor(halves[1]["volume"].values)
    truth = fourier_crop_volumes(torch.as_tensor(open_store(run / "truth.zarr", "truth")["volume"].values), 16)
    distance = radius(16, 3, truth).round().long().flatten()
    means = torch.zeros(20).index_add(0, distance, truth.flatten()) / torch.bincount(distance, minlength=20).clamp(
        min=1
    )
    averaged = means[distance].reshape(truth.shape)
    inside = radius(16, 3, truth) < 8
    pair = torch.stack([found[inside], averaged[inside]])
    assert torch.corrcoef(pair)[0, 1] > 0.95
    assert fsc(found, averaged)[1:4].min() > 0.9
