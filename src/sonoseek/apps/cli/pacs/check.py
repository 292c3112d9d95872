"""`sonoseek pacs check`: what a PACS does not let us do, and what to change."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from sonoseek.apps.cli.pacs import peers
from sonoseek.pacs.peer import OUR_AE_TITLE

if TYPE_CHECKING:
    from sonoseek.pacs.check import Step


class PurposeChoice(StrEnum):
    """What the PACS is wanted for."""

    IMPORT = "import"
    RESULTS = "results"
    ALL = "all"


def check(
    peer: peers.CheckedName = "",
    config: peers.Config = None,
    purpose: Annotated[
        PurposeChoice, typer.Option("--for", help="What it is wanted for: scans from it, results to it.")
    ] = PurposeChoice.ALL,
    store: Annotated[bool, typer.Option("--store", help="Send a test object: a phantom marked TEST.")] = False,
    commit: Annotated[bool, typer.Option("--commit", help="With --store: ask for storage commitment.")] = False,
    listen: peers.Listen = "127.0.0.1:11112",
    ae_title: peers.AeTitle = "",
    host: peers.Host = "",
    port: peers.Port = 104,
    our_ae_title: peers.OurAeTitle = OUR_AE_TITLE,
    dicomweb: peers.DicomWeb = "",
    tls: peers.Tls = False,
    tls_ca: peers.TlsCa = None,
    tls_certificate: peers.TlsCertificate = None,
    tls_key: peers.TlsKey = None,
    tls_host_name: peers.TlsHostName = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Walk through what sonoseek needs of a PACS and say what to change; exits with 2 where a step failed."""
    from sonoseek.pacs.check import check_peer

    named = peers.make_peer(
        peer,
        config=config,
        ae_title=ae_title,
        host=host,
        port=port,
        our_ae_title=our_ae_title,
        dicomweb=dicomweb,
        tls=tls,
        tls_ca=tls_ca,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
        tls_host_name=tls_host_name,
    )
    steps = check_peer(
        named,
        purpose=purpose.value,
        store=store or commit,
        commit=peers.parse_listen(listen) if commit else None,
    )
    _show(steps, as_json=json)
    if any(step.passed is False for step in steps):
        raise typer.Exit(2)


def _show(steps: Sequence[Step], *, as_json: bool) -> None:
    import json
    from dataclasses import asdict

    from sonoseek.apps.cli.show import table

    if as_json:
        typer.echo(json.dumps([asdict(step) for step in steps], ensure_ascii=False, indent=2))
        return
    words = {True: "pass", False: "FAIL", None: "-"}
    rows = [(step.name, words[step.passed], step.detail, step.remedy) for step in steps]
    table(("step", "", "", "what to change"), rows)
