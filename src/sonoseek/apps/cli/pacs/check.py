"""`sonoseek pacs check`: what a PACS does not let us do, and what to change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sonoseek.apps.cli.options import with_groups
from sonoseek.apps.cli.pacs import peers

if TYPE_CHECKING:
    from sonoseek.pacs.check import Step


@with_groups
def check(
    peer: peers.CheckedName = "",
    config: peers.Config = None,
    purpose: Annotated[
        Literal["import", "results", "all"],
        typer.Option("--for", help="What it is wanted for: scans from it, results to it."),
    ] = "all",
    store: Annotated[bool, typer.Option("--store", help="Send a test object: a phantom marked TEST.")] = False,
    commit: Annotated[bool, typer.Option("--commit", help="With --store: ask for storage commitment.")] = False,
    listen: peers.Listen = "127.0.0.1:11112",
    *,
    address: peers.Address,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Walk through what sonoseek needs of a PACS and say what to change; exits with 2 where a step failed."""
    from sonoseek.pacs.check import check_peer

    steps = check_peer(
        peers.make_peer(peer, config, address),
        purpose=purpose,
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
