"""Methods are found by entry point, imported only when asked for, and refused in one line where they are broken."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cryobench.errors import PluginError, UnknownName
from cryobench.reconstruct.registry import describe_methods, describe_parameters, load_method, methods

WHOLE = """
from typing import Literal
from pydantic import BaseModel, Field
from cryobench.reconstruct.contract import Reconstructor
class Params(BaseModel):
    steps: int = Field(3, description="how many")
    loss: Literal["a", "b"] = Field("a", description="which")
class Whole(Reconstructor):
    name, summary, Params = "whole", "does nothing", Params
    def reconstruct(self, observed, params, run): ...
class Renamed(Whole):
    name = "other"
class Bare(Reconstructor):
    name = "bare"
    def reconstruct(self, observed, params, run): ...
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """``install({"name": "module:Class"}, module="source")``: a distribution on the import path."""

    def write(points: dict[str, str], **modules: str) -> None:
        info = tmp_path / "pretend-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pretend\nVersion: 1.0\n", encoding="utf-8")
        lines = "\n".join(f"{name} = {target}" for name, target in points.items())
        (info / "entry_points.txt").write_text(f"[cryobench.reconstructors]\n{lines}\n", encoding="utf-8")
        for name, source in modules.items():
            (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))

    return write


def test_a_method_is_found_by_its_name(install: Install) -> None:
    install({"whole": "reg_whole:Whole"}, reg_whole=WHOLE)
    assert "whole" in methods()
    assert load_method("whole").summary == "does nothing"
    assert ("whole", "does nothing", "pretend") in describe_methods()
    assert describe_parameters(load_method("whole")) == [
        ("steps", "int", "3", "how many"),
        ("loss", "\\['a', 'b']", "a", "which"),
    ]


def test_nothing_is_imported_before_it_is_asked_for(install: Install) -> None:
    install({"whole": "reg_lazy:Whole", "loud": "reg_loud:Loud"}, reg_lazy=WHOLE, reg_loud="raise RuntimeError")
    assert {"whole", "loud"} <= set(methods())
    assert "reg_lazy" not in sys.modules
    load_method("whole")
    assert "reg_loud" not in sys.modules


def test_a_misspelt_name_gets_a_suggestion(install: Install) -> None:
    install({"whole": "reg_spelt:Whole"}, reg_spelt=WHOLE)
    with pytest.raises(UnknownName, match=r"name of a method, got 'whoel'; did you mean 'whole'\?"):
        load_method("whoel")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def (", "SyntaxError"),
        ("raise OSError('libcuda is gone')", "OSError: libcuda is gone"),
        ("", "AttributeError"),
    ],
)
def test_a_plugin_that_fails_to_import_is_named_with_its_package(install: Install, source: str, reason: str) -> None:
    module = f"reg_failing_{abs(hash(source))}"
    install({"failing": f"{module}:Failing"}, **{module: source})
    with pytest.raises(PluginError, match=rf"{module}:Failing of pretend\) to import, got {reason}"):
        load_method("failing")
    assert any(name == "failing" and summary.startswith("broken: ") for name, summary, _ in describe_methods())


def test_what_is_no_method_is_refused(install: Install) -> None:
    install(
        {"renamed": "reg_odd:Renamed", "bare": "reg_odd:Bare", "params": "reg_odd:Params", "text": "reg_odd:__name__"},
        reg_odd=WHOLE,
    )
    with pytest.raises(PluginError, match="to define name = 'renamed'"):
        load_method("renamed")
    with pytest.raises(PluginError, match=r"it lacks \['summary', 'Params'\]"):
        load_method("bare")
    for name in ("params", "text"):
        with pytest.raises(PluginError, match="to be a subclass of Reconstructor"):
            load_method(name)


def test_contract_and_registry_import_light() -> None:
    heavy = ("torch", "xarray", "zarr", "scipy", "numpy", "pandas")
    code = (
        "import sys, cryobench.reconstruct.contract, cryobench.reconstruct.registry, cryobench.reconstruct.scaffold;"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
