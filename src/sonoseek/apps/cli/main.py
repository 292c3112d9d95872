"""The command `sonoseek`: collects the verbs and prints errors as sentences."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from sonoseek.apps.cli import (
    bench,
    calibrate,
    data,
    deidentify,
    demo,
    doctor,
    evaluate,
    explain,
    index,
    pacs,
    preprocess,
    query,
    serve,
    train,
)
from sonoseek.core import DISCLAIMER, SonoseekError, TemporaryError
from sonoseek.core.version import __version__

EXIT_ERROR = 2
EXIT_STOPPED = 130
EXIT_TEMPORARY = 75  # EX_TEMPFAIL of sysexits.h: trying again is sensible

app = typer.Typer(
    name="sonoseek",
    help=f"A search engine for breast ultrasound. {DISCLAIMER.capitalize()}.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data")
app.add_typer(index.app, name="index")
app.add_typer(bench.app, name="bench")
app.add_typer(pacs.app, name="pacs")
app.command("calibrate")(calibrate.calibrate)
app.command("query")(query.query)
app.command("explain")(explain.explain)
app.command("preprocess")(preprocess.preprocess_sheet)
app.command("deidentify")(deidentify.deidentify)
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("train")(train.train)
app.command("export")(train.export)
app.command("evaluate")(evaluate.evaluate)
app.command("doctor")(doctor.doctor)


def _version(is_given: bool) -> None:
    if is_given:
        typer.echo(f"sonoseek {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that stand before a verb."""
    del version  # acted on by its callback


def main() -> None:
    """Run the command line; exit 0 when done, 2 on an error, 75 on trouble that may pass, 130 when interrupted."""
    # Where cores are shared, idle workers that spin turn 3 ms into 300; set before a runtime starts any.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except TemporaryError as error:
        _print_error(error)
        sys.exit(EXIT_TEMPORARY)
    except SonoseekError as error:
        _print_error(error)
        sys.exit(EXIT_ERROR)
    except OSError as error:  # a missing folder, a full disk
        typer.echo(
            f"sonoseek: {error.strerror or error}: {error.filename or 'no file named'}; name another place.", err=True
        )
        sys.exit(EXIT_ERROR)
    except SystemExit as end:
        if end.code == EXIT_STOPPED:  # Typer has turned the keyboard's interrupt into this
            typer.echo("stopped; finished work is stored, and the same command continues from there", err=True)
        raise


def _print_error(error: SonoseekError) -> None:
    typer.echo(f"sonoseek: {error}", err=True)
