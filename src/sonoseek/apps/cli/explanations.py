"""`sonoseek evaluate --protocol explanations`: measure heatmaps (needs the extra `evaluate`)."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sonoseek.core import InvalidValueError

if TYPE_CHECKING:
    from sonoseek.evaluate.context import BenchmarkContext
    from sonoseek.evaluate.explaining.perturbation import OpenPeers
    from sonoseek.evaluate.protocols import Protocol
    from sonoseek.evaluate.systems.base import System

EXPLANATIONS = "explanations"
EXPLAINED = "busi-grouped"
"""The protocol whose rounds are explained where none is named."""
SHOWN = (
    ("inside", "in lesion"),
    ("pointing", "pointing"),
    ("iou", "IoU"),
    ("insertion", "insertion"),
    ("deletion", "deletion"),
    ("randomised", "random network"),
)


def explained_rounds(name: str, *, seeds: Sequence[int] | None) -> Protocol:
    """One seed's rounds of another protocol: the networks, and the folder that they lie in, are that protocol's.

    Raises:
        InvalidValueError: several seeds; a protocol without any.
        NotFoundError: no such protocol.
    """
    from sonoseek.evaluate import PROTOCOLS

    kind: Any = PROTOCOLS.load(name)
    if not hasattr(kind, "seeds"):
        known = [each for each in PROTOCOLS if hasattr(PROTOCOLS.load(each), "seeds")]
        raise InvalidValueError(f"--of names {name!r}, which has no rounds by seed. Take one of: {', '.join(known)}.")
    made = kind()
    made.seeds = tuple(seeds or made.seeds[:1])
    if len(made.seeds) > 1:
        raise InvalidValueError(
            f"--seeds lists {', '.join(map(str, made.seeds))}; heatmaps are measured on one seed, so that "
            "each scan counts once. Name one."
        )
    protocol: Protocol = made
    return protocol


def measure_heatmaps(
    context: BenchmarkContext,
    system: System,
    *,
    runs: Path,
    out: Path,
    per_class: int,
    every: int,
    peers: bool,
    bundle: Path | None,
    on_step: Callable[[str, int, int], None],
) -> None:
    """Measure, write rows, table and figures, and show the table."""
    from sonoseek.evaluate.explaining import explain_rounds

    named = ["--system", system.name] if bundle is None else ["--bundle", bundle.name]
    options = [*getattr(context.protocol, "options", ())]
    if not options and context.protocol.name != EXPLAINED:
        options = ["--of", context.protocol.name]
    seed = context.rounds[0].seed
    command = shlex.join(
        ["sonoseek", "evaluate", "--protocol", EXPLANATIONS, *options, *named]
        + (["--seeds", str(seed)] if seed else [])
        + ([] if per_class == 12 else ["--thorough", str(per_class)])
        + ([] if every == 1 else ["--every", str(every)])
        + ([] if peers else ["--no-peers"])
    )
    folder = explain_rounds(
        context,
        system,
        runs=runs,
        out=out,
        per_class=per_class,
        every=every,
        open_peers=_peers() if peers else None,
        command=command,
        on_progress=lambda what, done, total: on_step(f"{system.name}, {what}", done, total),
    )
    _show(out, f"{folder.name}/{system.name}")


def rescore_heatmaps(root: Path) -> None:
    """The same from rows that exist."""
    from sonoseek.evaluate.explaining import rescore_explanations
    from sonoseek.evaluate.explaining.page import write_explanation_page

    for name, content in rescore_explanations(root).items():
        write_explanation_page(root / EXPLANATIONS / name, content)


def _peers() -> OpenPeers | None:
    """Gradient methods of others, where torch and Captum are installed."""
    from importlib.util import find_spec

    if any(find_spec(name) is None for name in ("torch", "captum")):
        typer.echo('without gradient methods: torch or captum is missing (pip install ".[train]")', err=True)
        return None
    from sonoseek.training.saliency import open_peers

    opens: OpenPeers = open_peers
    return opens


def _show(root: Path, name: str) -> None:
    from sonoseek.apps.cli.show import table
    from sonoseek.evaluate.explaining import rescore_explanations
    from sonoseek.evaluate.explaining.page import TITLES, cell, write_explanation_page

    content = rescore_explanations(root, only=Path(name).parent.name)[name]
    page = write_explanation_page(root / EXPLANATIONS / name, content)
    rows = [
        (TITLES.get(method, method), *(cell(figures.get(key)) for key, _ in SHOWN))
        for method, figures in content["maps"]["prediction"].items()
    ]
    table(("", *(head for _, head in SHOWN)), rows, title=f"Heatmaps of {content['system']['title']}")
    typer.echo(f"written: {page}", err=not sys.stdout.isatty())
