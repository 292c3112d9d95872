"""What an evaluation measured of a system, for the card of a bundle: read from the folder that `evaluate` wrote."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from sonoseek.core import NotFoundError, ResultsError
from sonoseek.evaluate.files import SCORES

FIGURES = ("accuracy", "balanced_accuracy", "auroc_malignant", "ece")
SEARCHES = ("precision@5", "map_full")
T = TypeVar("T")


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A figure over all scans and its 95 % interval by drawing groups; None where it is not defined."""

    pooled: float | None
    low: float | None
    high: float | None


class MeasuredPart(Measured, frozen=True, kw_only=True):
    """The same of a subset of the scans."""

    pooled: float | None = msgspec.field(name="value")


class MeasuredScanner(msgspec.Struct, frozen=True, kw_only=True):
    """The scans of one scanner."""

    scans: int
    accuracy: MeasuredPart
    auroc_malignant: MeasuredPart


class _Protocol(msgspec.Struct, frozen=True):
    name: str
    title: str
    guarded: bool


class _System(msgspec.Struct, frozen=True):
    name: str
    description: str
    identity: str


class _Made(msgspec.Struct, frozen=True):
    command: str


class _Counts(msgspec.Struct, frozen=True):
    scored: int


class _Subsets(msgspec.Struct, frozen=True):
    device: dict[str, MeasuredScanner] = {}


class SystemScores(msgspec.Struct, frozen=True, kw_only=True):
    """One system: the part of its entry in `scores.json` that a card quotes.

    Attributes:
        system: name, description, identity.
        made: by which command.
        counts: scans that were scored.
        classification, retrieval: figure → its value; the latter is empty where nothing was searched.
        subsets: scanner → its figures, where the archive names scanners.
    """

    system: _System
    made: _Made
    counts: _Counts
    classification: dict[str, Measured]
    retrieval: dict[str, Measured] = {}
    subsets: _Subsets = _Subsets()


class ProtocolResults(SystemScores, frozen=True, kw_only=True):
    """One system under one protocol.

    Attributes:
        protocol: name, title, and whether a guard held that nothing crossed into the training side.
    """

    protocol: _Protocol


class _Scores(msgspec.Struct, frozen=True):
    protocol: _Protocol
    systems: dict[str, msgspec.Raw]


def read_card_results(root: Path, *, system: str) -> tuple[ProtocolResults, ...]:
    """The results of one system under every protocol that has scored it, guarded protocols first.

    Args:
        root: as `evaluate` writes it: `<protocol>/scores.json`.
        system: its name there.

    Raises:
        NotFoundError: no results there, or none of this system.
        ResultsError: a file that does not read, or holds another system.
    """
    files = sorted(root.glob(f"*/{SCORES}"))
    if not files:
        raise NotFoundError(
            f"no results under {root}; looked for <protocol>/{SCORES}. Name the folder that `sonoseek evaluate` has "
            "written to, such as docs/results."
        )
    scores = [(file, _decoded(file, file.read_bytes(), _Scores)) for file in files]
    known = sorted({name for _, each in scores for name in each.systems})
    if system not in known:
        near = difflib.get_close_matches(system, known, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known are: {', '.join(known)}."
        raise NotFoundError(f"no protocol under {root} has scored a system called {system!r}. {hint}")
    results = [_read(file, each, system=system) for file, each in scores if system in each.systems]
    return tuple(sorted(results, key=lambda each: not each.protocol.guarded))


def _read(file: Path, scores: _Scores, *, system: str) -> ProtocolResults:
    results = _decoded(file, scores.systems[system], SystemScores)
    missing = [name for name in FIGURES if name not in results.classification]
    if missing or results.system.name != system:
        wrong = f"lacks {', '.join(missing)}" if missing else f"is called {results.system.name!r} there"
        raise ResultsError(
            f"{file}: {system!r} {wrong}; an entry must hold its own system's figures. Evaluate the system again."
        )
    return ProtocolResults(protocol=scores.protocol, **msgspec.structs.asdict(results))


def _decoded(file: Path, content: bytes | msgspec.Raw, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.DecodeError as error:
        raise ResultsError(
            f"{file} does not read as the figures of a protocol: {error}. Make it again from its rows: sonoseek "
            f"evaluate --rescore {file.parents[1]}."
        ) from error


def results_section(results: Sequence[ProtocolResults], *, identities: Mapping[str, str]) -> str:
    """Markdown: whose figures these are, a table over protocols, one over scanners, and the commands.

    Args:
        results: as `read_card_results` gives them, at least one.
        identities: identity of a system → what that system is to the bundle, in words.
    """
    system = results[0].system
    whose = identities.get(system.identity, "another recipe than this bundle's, or other settings: read with care")
    parts = [
        f"System `{system.name}`: {system.description} It is {whose}. Each cell: value over all scans [95 % interval "
        "by drawing groups of scans that belong together].",
        _protocol_table(results),
    ]
    if not all(each.protocol.guarded for each in results):
        parts.append(
            "† Copies of a test scan may stand on the training side: shown for what that does to figures, not as "
            "a measure of the network."
        )
    scanners = _scanner_rows(results)
    parts.append("### Per scanner")
    parts.append(
        "\n".join(["| protocol | scanner | scans | accuracy | AUROC, malignant |", "|---|---|---|---|---|", *scanners])
        if scanners
        else "The archives of these protocols do not say which scanner made which scan."
    )
    parts.append("Made by:")
    parts.append("\n".join(f"    {command}" for command in dict.fromkeys(each.made.command for each in results)))
    return "\n\n".join(parts)


def _protocol_table(results: Sequence[ProtocolResults]) -> str:
    rows = [
        "| protocol | scans | accuracy | balanced accuracy | AUROC, malignant | ECE | precision@5 | mAP |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in results:
        cells = [_measured(each.classification.get(name)) for name in FIGURES]
        cells += [_measured(each.retrieval.get(name)) for name in SEARCHES]
        title = f"{_cell(each.protocol.title)} (`{each.protocol.name}`){'' if each.protocol.guarded else ' †'}"
        rows.append(f"| {title} | {each.counts.scored} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _scanner_rows(results: Sequence[ProtocolResults]) -> list[str]:
    return [
        f"| `{each.protocol.name}` | {_cell(name)} | {scanner.scans} | {_measured(scanner.accuracy)} | "
        f"{_measured(scanner.auroc_malignant)} |"
        for each in results
        for name, scanner in each.subsets.device.items()
    ]


def _measured(figure: Measured | None) -> str:
    if figure is None or figure.pooled is None:
        return "–"
    span = "" if figure.low is None or figure.high is None else f" [{figure.low:.3f}, {figure.high:.3f}]"
    return f"{figure.pooled:.3f}{span}"


def _cell(text: str) -> str:
    """A name from outside: a bar in it would end the table's cell."""
    return text.replace("|", "\\|")
