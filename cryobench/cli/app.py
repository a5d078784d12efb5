"""The application that every command is added to."""

from __future__ import annotations

import os
from typing import Annotated

import typer

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Simulate single-particle cryo-EM datasets, reconstruct them, and measure the result against a hidden truth.",
    epilog="Start with: cryobench run --method cryogan --scenario snr-20",
)


def group(name: str, about: str, panel: str) -> typer.Typer:
    """A group of commands, in a panel of the help."""
    made = typer.Typer(no_args_is_help=True, help=about)
    app.add_typer(made, name=name, rich_help_panel=panel)
    return made


RUN, STAGES, LOOK, MORE = "The whole path", "Each stage alone", "What there is", "Your own data and methods"


def _print_version(asked: bool) -> None:
    if asked:
        from cryobench import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Set what holds for every command."""
    if debug:
        os.environ["CRYOBENCH_DEBUG"] = "1"
