"""The command line: parse, call one stage, print. No logic, and nothing heavy imported before it is needed."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

# the help lists its panels in the order of their first commands, so stages come first
from cryobench.cli import stages  # isort: skip
from cryobench.cli import reproduce, suite  # isort: skip
from cryobench.cli import catalogue, dataset, export, imports, leaderboard, noise
from cryobench.cli.app import app
from cryobench.errors import CryobenchError

__all__ = [
    "app",
    "catalogue",
    "dataset",
    "export",
    "imports",
    "leaderboard",
    "main",
    "noise",
    "reproduce",
    "stages",
    "suite",
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; every error of the input is one line and exit code 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if "--debug" in arguments:
        arguments = ["--debug", *(a for a in arguments if a != "--debug")]
    debug = "--debug" in arguments or bool(os.environ.get("CRYOBENCH_DEBUG"))
    try:
        app(args=arguments, prog_name="cryobench", standalone_mode=True)
    except CryobenchError as error:
        if debug:
            raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except Exception as error:
        if debug:
            raise
        typer.echo(f"internal error: {type(error).__name__}: {error} (--debug shows where)", err=True)
        sys.exit(1)
