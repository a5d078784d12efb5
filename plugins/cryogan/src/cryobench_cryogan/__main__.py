"""One half-set over the processes that torchrun starts, on one machine or several that share the run's directory.

torchrun --nproc-per-node 4 -m cryobench_cryogan runs/demo -p preset=paper
"""

from __future__ import annotations

import argparse
import json
import math
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from cryobench.errors import CryobenchError
from cryobench.reconstruct.run import reconstruct
from cryobench_cryogan.launch import serve
from cryobench_cryogan.parallel import LEADER, Team, join


def main(arguments: list[str] | None = None) -> None:
    """Reconstruct both halves in turn: the first process leads and writes, all others follow."""
    parser = argparse.ArgumentParser("cryobench_cryogan", description="What torchrun starts; see the plugin's README.")
    parser.add_argument("directory", type=Path, help="of the run, with observed.zarr")
    parser.add_argument(
        "-p", "--param", action="append", default=[], help="NAME=VALUE, as `cryobench reconstruct` has it"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, default=math.inf, help="seconds for each half")
    parser.add_argument("--overwrite", action="store_true")
    given = parser.parse_args(arguments)
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else torch.device("cpu")
    join(None, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), device)
    try:
        team = Team()
        if team.rank == LEADER:
            params = dict(map(assignment, given.param)) | {"processes": team.size}
            options = {"seed": given.seed, "budget": given.budget, "overwrite": given.overwrite}
            print(reconstruct(given.directory, "cryogan", params, device=str(device), workers=1, **options))
            team.tell(None)
        else:
            serve(device)
    except CryobenchError as error:
        raise SystemExit(f"error: {error}") from error
    finally:
        dist.destroy_process_group()


def assignment(text: str) -> tuple[str, Any]:
    """Name and value of ``NAME=VALUE``."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


if __name__ == "__main__":
    main()
