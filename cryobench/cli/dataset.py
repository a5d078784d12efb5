"""Looking at stores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cryobench.cli.app import LOOK, group
from cryobench.cli.options import console, print_rows

dataset_app = group("dataset", "Stores: info, check.", LOOK)


@dataset_app.command("info")
def dataset_info(
    path: Annotated[Path, typer.Argument(help="A run directory, a dataset or a noise store.", show_default=False)],
    digest: Annotated[bool, typer.Option("--digest", help="Also the SHA-256 of all arrays; reads everything.")] = False,
) -> None:
    """What a dataset holds: sizes, voxel, priors, noise; with its truth beside it, SNR and specimen too."""
    from cryobench.dataset.info import describe_dataset

    print_rows("", "", rows=describe_dataset(path, digest))


@dataset_app.command("check")
def dataset_check(
    directory: Annotated[Path, typer.Argument(help="Holds observed.zarr, truth.zarr, or both.", show_default=False)],
) -> None:
    """Read every chunk of a dataset: is it there, does it pass its checksum, is it finite, is the truth the one it was made from?

    Changes nothing. Exits with 1 if anything is wrong; a simulated dataset is then repaired by simulating into the same directory
    again (same scenario, same seed), which makes what is missing or damaged anew and leaves the rest as it is.
    """
    from cryobench.console import Listener
    from cryobench.dataset.check import check_dataset

    with Listener(console()) as listener:
        wrong = check_dataset(directory, lambda stage, done, total: listener(stage, done, total, {}))
    if not wrong:
        console().print(f"whole  {directory}", soft_wrap=True)
        return
    print_rows("file", "what is wrong", rows=wrong)
    raise typer.Exit(1)
