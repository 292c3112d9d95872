"""`sonoseek serve`: the reading room."""

from __future__ import annotations

import os
import webbrowser
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from sonoseek.apps.cli.options import Bundle, Calibration
from sonoseek.core import DISCLAIMER, InvalidValueError

TOKEN = "SONOSEEK_TOKEN"  # noqa: S105  # the variable's name


def serve(
    gallery: Annotated[str, typer.Option("--gallery", "-g", help="Folder or file, or milvus://HOST:PORT/NAME.")],
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond loopback only with a token of yours.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0: any that is free.")] = 8765,
    root_path: Annotated[str, typer.Option(help="Prefix behind a reverse proxy, e.g. /sonoseek.")] = "",
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Name by which readers reach it, e.g. the proxy's.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help=f"File with the token that readers give; else ${TOKEN}.")
    ] = None,
    proxy_authenticates: Annotated[
        str | None,
        typer.Option(metavar="HEADER", help="Header in which the proxy names the reader, e.g. X-Remote-User."),
    ] = None,
    no_token: Annotated[
        bool, typer.Option("--no-token", help="Let everybody on this machine in; on loopback without a proxy only.")
    ] = False,
    writable: Annotated[bool, typer.Option(help="Let batch jobs add to the archive.")] = False,
    folders: Annotated[
        Path | None, typer.Option(help="Folder on this machine whose sub-folders batch jobs may read.")
    ] = None,
    examples: Annotated[Path | None, typer.Option(help="Folder of example scans on the empty page.")] = None,
    pacs: Annotated[
        Path | None, typer.Option(help="Settings of `pacs listen`: its studies are the page's worklist.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="Folder for batch jobs; by default `serve` beside a gallery's file.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Threads; 0: one per core.")] = 0,
    max_upload_mb: Annotated[int, typer.Option(min=1, help="MiB of one request.")] = 128,
    max_batch_mb: Annotated[int, typer.Option(min=1, help="MiB of one batch job's files.")] = 8192,
    cache_minutes: Annotated[float, typer.Option(help="How long a scan can be asked again without sending it.")] = 240,
    batch_retention_hours: Annotated[
        float, typer.Option(min=0, help="How long a batch job's files stay after its end; 0: they go with it.")
    ] = 24,
    batch_retention_mb: Annotated[int, typer.Option(min=0, help="MiB of all such files.")] = 8192,
    bundle: Bundle = None,
    calibration: Calibration = True,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Log warnings and errors alone.")] = False,
    idle: Annotated[float | None, typer.Option(help="Stop after so many seconds without a request.")] = None,
) -> None:
    """Start the reading room: a web page for queries and batch jobs, with an HTTP API.

    Without a token of yours it makes one, kept in the state folder, and prints the page's address as a link with it.
    """
    from sonoseek.apps.web.link_token import link_token
    from sonoseek.apps.web.settings import WebSettings

    state = state or default_state(gallery)
    token = _token(token_file)
    if no_token and (token is not None or proxy_authenticates is not None):
        raise InvalidValueError(
            f"--no-token is given, and a token (--token-file or ${TOKEN}) or --proxy-authenticates too; leave out one."
        )
    settings = WebSettings(
        host=host,
        port=port,
        root_path=root_path,
        token=token,
        user_header=proxy_authenticates,
        allowed_hosts=tuple(allow_host or ()),
        writable=writable,
        folders=folders,
        examples=examples,
        pacs=pacs,
        state=state,
        workers=workers,
        max_upload_mb=max_upload_mb,
        max_batch_mb=max_batch_mb,
        cache_minutes=cache_minutes,
        batch_retention_hours=batch_retention_hours,
        batch_retention_mb=batch_retention_mb,
    )
    makes_token = token is None and not no_token and not settings.behind_proxy
    run(
        gallery,
        settings=replace(settings, token=link_token(state)) if makes_token else settings,
        show_token=makes_token,
        bundle=bundle,
        calibration=calibration,
        open_page=open_page,
        quiet=quiet,
        idle=idle,
    )


def run(
    gallery: str,
    *,
    settings: object,
    show_token: bool,
    bundle: Path | None = None,
    calibration: bool = True,
    open_page: bool = False,
    quiet: bool = False,
    idle: float | None = None,
) -> None:
    """Serve a gallery until interrupted.

    Args:
        gallery: as `serve` takes it.
        settings: a `WebSettings`.
        show_token: print the address as a link with the token; not one that was given: the output may be a log.
        bundle: as `serve` takes it.
        calibration: the same.
        open_page: open the address in a browser.
        quiet: log warnings and errors alone.
        idle: seconds without a request that end it; None: none do.
    """
    import logging

    from sonoseek.apps.web.app import create_app
    from sonoseek.apps.web.link_token import link, link_file
    from sonoseek.apps.web.logging_metrics import configure_logging
    from sonoseek.apps.web.server import serve as serve_app
    from sonoseek.apps.web.settings import WebSettings
    from sonoseek.engine import open_engine

    assert isinstance(settings, WebSettings)  # noqa: S101  # typed as object so that parsing stays light
    configure_logging(level=logging.WARNING if quiet else logging.INFO)
    app = create_app(open_engine(gallery, bundle=bundle, threads=1, calibration=calibration), settings)

    def ready(address: str) -> None:
        shown = link(address, settings.token if show_token else None)
        typer.echo(f"reading room: {shown}  (Ctrl+C ends it; {DISCLAIMER})")
        if open_page:
            webbrowser.open(link_file(app.state.app_state.jobs.folder, shown) if show_token else address)

    serve_app(app, settings, on_ready=ready, idle_s=idle)


def default_state(gallery: str) -> Path | None:
    """Where a gallery's batch jobs are kept: beside its file; None, a temporary folder, where it is on a server."""
    if "://" in gallery:
        return None
    place = Path(gallery)
    return (place if place.is_dir() else place.parent) / "serve"


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(TOKEN) or None
    try:
        return file.read_text("utf-8").strip() or None
    except OSError as error:
        raise InvalidValueError(f"--token-file {file} cannot be read ({error.strerror}); name another.") from error
