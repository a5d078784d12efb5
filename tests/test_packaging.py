"""Installed from wheels into a bare environment, away from the checkout, the program, a new plugin and its tests work."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parents[1]
METHOD = "freshly-made"


@dataclass(frozen=True)
class Bare:
    """An environment with wheels of cryobench and of a new plugin, and third-party packages from the outer environment."""

    root: Path
    plugin: Path

    @property
    def site(self) -> Path:
        return self.root / "env" / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"

    def call(self, *command: str, status: int = 0) -> str:
        """Run a program of the environment in an empty directory; returns what it prints."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "COVERAGE"))}
        program = self.root / "env" / "bin" / command[0]
        done = subprocess.run(
            [str(program), *command[1:]],
            cwd=self.root / "work",
            env=environment
            | {"COLUMNS": "200", "OMP_NUM_THREADS": "1"},  # more threads than free cores make torch crawl
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, (
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
        return done.stdout + done.stderr


def build_wheel(source: Path, into: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(into), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def expose_third_party(into: Path, names: Path) -> None:
    """Make the outer environment's packages importable in the bare one, all but cryobench's own and its plugins."""
    names.mkdir()
    for origin in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(origin).iterdir():
            if "cryobench" not in entry.name and not entry.name.startswith(("__editable__", "_editable")):
                (names / entry.name).symlink_to(entry)
    (into / "third_party.pth").write_text(f"{names}\n", encoding="utf-8")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Bare:
    root = tmp_path_factory.mktemp("bare")
    (root / "work").mkdir()
    venv.create(root / "env", symlinks=True, with_pip=False)
    made = Bare(root, root / f"cryobench-{METHOD}")
    expose_third_party(made.site, root / "third_party")
    wheels = root / "wheels"
    build_wheel(CHECKOUT, wheels)
    python = str(root / "env" / "bin" / "python")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    install += ["--disable-pip-version-check"]
    subprocess.run([*install, *map(str, wheels.iterdir())], check=True)
    made.call("cryobench", "plugin", "new", METHOD, "--into", str(root))
    build_wheel(made.plugin, wheels)
    subprocess.run([*install, *map(str, wheels.glob("cryobench_freshly*"))], check=True)
    shutil.rmtree(made.plugin / "src")  # from here on the wheel is all there is of it
    return made


def test_what_is_imported_is_the_wheel(bare: Bare) -> None:
    code = "import cryobench, cryobench_freshly_made as made, sys; print(cryobench.__file__, made.__file__, *sys.path)"
    package, plugin, *search = bare.call("python", "-c", code).split()
    assert Path(package).is_relative_to(bare.site)
    assert Path(plugin).is_relative_to(bare.site)
    assert not [path for path in search if Path(path).resolve().is_relative_to(CHECKOUT)]


def test_the_wheel_holds_data_and_templates_and_no_tests(bare: Bare) -> None:
    (wheel,) = (bare.root / "wheels").glob("cryobench-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "cryobench/py.typed" in names
    assert "cryobench/_datasets/scenarios/snr-20.toml" in names
    assert "cryobench/_datasets/catalogue.toml" in names
    assert [name for name in names if name.startswith("cryobench/reconstruct/template/")]
    assert [name for name in names if name.endswith(".jinja")]
    assert {name.split("/")[0] for name in names} == {"cryobench", f"cryobench-{version('cryobench')}.dist-info"}
    assert not [name for name in names if ".zarr" in name or "__pycache__" in name or "/tests/" in name]


def test_scenarios_specimens_and_methods_are_listed(bare: Bare) -> None:
    scenarios = bare.call("cryobench", "scenario", "list")
    assert all(name in scenarios for name in ("snr-20", "snr-5.2", "snr-20-shift3", "snr-20-shift20", "tiny"))
    assert "phantom" in bare.call("cryobench", "specimen", "list")
    methods = bare.call("cryobench", "method", "list")
    assert METHOD in methods
    assert f"cryobench-{METHOD}" in methods
    assert "cryogan" not in methods
    assert "regularisation" in bare.call("cryobench", "method", "show", METHOD)
    refused = bare.call("cryobench", "method", "show", "freshly-mad", status=2)
    assert f"did you mean '{METHOD}'?" in refused


def test_the_whole_path_works_with_the_new_method(bare: Bare) -> None:
    out = bare.root / "run"
    bare.call("cryobench", "run", "--method", METHOD, "--scenario", "tiny", "--out", str(out), "-p", "batch=32")
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    assert result["method"] == METHOD
    assert result["params"]["batch"] == 32
    assert result["provenance"]["method_package"] == f"cryobench-{METHOD}"
    assert result["provenance"]["git"] is None
    made = {path.name for path in out.iterdir()}
    assert made >= {
        "observed.zarr",
        "truth.zarr",
        "predicted.zarr",
        "half1.mrc",
        "half2.mrc",
        "mean.mrc",
        "report.html",
    }


def test_the_new_method_passes_its_conformance_tests(bare: Bare) -> None:
    printed = bare.call("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(bare.plugin))
    assert "passed" in printed
    assert not {"failed", "error", "skipped"} & set(printed.split())
