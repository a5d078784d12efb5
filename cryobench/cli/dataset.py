"""Looking at stores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cryobench.cli.app import LOOK, group
from cryobench.cli.options import print_rows

dataset_app = group("dataset", "Stores: info.", LOOK)


@dataset_app.command("info")
def dataset_info(path: Annotated[Path, typer.Argument(help="A run directory or a store.", show_default=False)]) -> None:
    """What a dataset holds: sizes, voxel, priors, noise; with its truth beside it, SNR and specimen too."""
    from cryobench.dataset.store import describe_dataset

    print_rows("", "", rows=describe_dataset(path))
