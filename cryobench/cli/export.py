"""Stores into particle files of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cryobench.cli.app import MORE, group
from cryobench.cli.options import console
from cryobench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryobench.interop.mrc_write import StackType

export_app = group("export", "Datasets into files of RELION and cryoSPARC.", MORE)

Dataset = Annotated[Path, typer.Argument(help="Run directory or observed.zarr.", show_default=False)]
Out = Annotated[Path, typer.Option(help="New directory for the files.", show_default=False)]
WithTruth = Annotated[bool, typer.Option("--with-truth", help="Write the true poses of truth.zarr.")]
Dtype = Annotated[str, typer.Option(help="Of the images: float32, or float16 (MRC mode 12; not for RELION before 4).")]


@export_app.command("relion")
def export_relion_command(dataset: Dataset, out: Out, with_truth: WithTruth = False, dtype: Dtype = "float32") -> None:
    """A dataset as particles.star (RELION 3.1 and later) and MRC stacks; completes one that was begun."""
    from cryobench.ingest.export import export_relion

    _export(export_relion, dataset, out, with_truth, dtype)


@export_app.command("cryosparc")
def export_cryosparc_command(
    dataset: Dataset, out: Out, with_truth: WithTruth = False, dtype: Dtype = "float32"
) -> None:
    """A dataset as particles.cs and MRC stacks; completes one that was begun."""
    from cryobench.ingest.export import export_cryosparc

    _export(export_cryosparc, dataset, out, with_truth, dtype)


def _export(export: Callable[..., Path], dataset: Path, out: Path, with_truth: bool, dtype: str) -> None:
    from cryobench.console import Listener

    if dtype not in ("float32", "float16"):
        raise InputError(f"expected --dtype float32 or float16, got {dtype!r}")
    chosen: StackType = "float16" if dtype == "float16" else "float32"
    with Listener(console()) as listener:
        path = export(
            dataset,
            out,
            with_truth=with_truth,
            dtype=chosen,
            on_progress=lambda stage, done, total: listener(stage, done, total, {}),
        )
    console().print(f"particles  {path}", soft_wrap=True)
