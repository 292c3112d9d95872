"""Results of pathology from HL7 v2 messages, ORU^R01. Imports hl7 when it is used."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from sonoseek.core import DatasetError
from sonoseek.core.extras import require_extra
from sonoseek.pacs.archive.folder import parse_day
from sonoseek.pacs.pathology.terms import Terms
from sonoseek.pacs.pathology.values import Result, Side, parse_side

MOST = 256 << 20
"""Bytes of a file of messages."""
_FINAL, _WITHDRAWN = frozenset("FC"), frozenset("DWX")
"""Status of a result or an observation (HL7 tables 0085, 0123): final, corrected; deleted, wrong, cannot be had."""
_TEXT = frozenset(("TX", "FT", "ST"))
_CODED = frozenset(("CE", "CWE", "CNE"))
_LINE = re.compile(r"\r\n|\r|\n")
_BREAK = re.compile(r"[\r\n]+")
_SPACE = re.compile(r"\.(?:br|sp[+0-9]*|in[-+0-9]*|ti[-+0-9]*|sk[+0-9]*|fi|nf|ce)", re.IGNORECASE)
_HEX = re.compile(r"X((?:[0-9A-F]{2})+)", re.IGNORECASE)
_TIME = re.compile(r"([0-9]{4})" + 5 * r"(?:([0-9]{2})" + 5 * ")?" + r"(?:\.[0-9]+)?([-+][0-9]{4})?")
_PRECISION = (
    *(timedelta(days=days) for days in (366, 31, 1)),
    *(timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)),
)
"""How long a stated time may last, by the number of its parts."""


def read_hl7_results(files: Sequence[Path], terms: Terms) -> list[Result]:
    """Read files with one or more messages, in batches or not, with or without MLLP's framing bytes.

    A result is an OBR group; where its observations have sub-ids (OBX-4) with a side of their own, one per sub-id. A
    later message on the same order (OBR-3, else OBR-2) replaces an earlier one, in whatever file it stands; where it is
    not known which is later, both count. Results that are not final, and observations that were withdrawn, are not
    used.

    Raises:
        DatasetError: one does not open, is too large, or holds no message.
        MissingExtraError: hl7 is not installed.
    """
    require_extra("pacs")
    reports: dict[object, list[tuple[str, list[Result]]]] = {}
    for path in files:
        for number, text in enumerate(_read(path), start=1):
            for key, stamp, results in _read_message(text, terms, origin=f"message {number} of {path.name}"):
                known = [each for each in reports.get(key, ()) if not _is_before(each[0], stamp)]
                if not any(_is_before(stamp, other) for other, _ in known):
                    known.append((stamp, results))
                reports[key] = known
    return [result for known in reports.values() for _, results in known for result in results]


def _read(path: Path) -> list[str]:
    """The messages of a file."""
    try:
        if path.stat().st_size > MOST:
            raise DatasetError(f"{path} is larger than {MOST >> 20} MiB, the limit for messages. Split it.")
        messages = _messages(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"{path} does not open: {error.strerror}. Give a file of HL7 messages.") from error
    if not messages:
        raise DatasetError(f"{path} holds no HL7 message; one begins with MSH. Export ORU^R01 messages.")
    return messages


def _messages(data: bytes) -> list[str]:
    """The messages of a file, each with carriage returns between segments."""
    plain = data.replace(b"\x0b", b"\r").replace(b"\x1c", b"\r")
    try:
        text = plain.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = plain.decode("cp1252", errors="replace")
    messages: list[list[str]] = []
    for line in _LINE.split(text):
        if line.startswith("MSH"):
            messages.append([])
        if messages and line.strip() and line[:3] not in ("FHS", "BHS", "BTS", "FTS"):
            messages[-1].append(line)
    return ["\r".join(lines) for lines in messages]


@dataclass
class _Group:
    """One OBR and what follows it."""

    obr: _Segment
    patient_ids: tuple[str, ...]
    observations: list[_Segment] = field(default_factory=list)
    specimens: list[_Segment] = field(default_factory=list)


class _Segment:
    """A segment by the numbers of its fields, unescaped."""

    def __init__(self, message: Any, segment: Any) -> None:
        self._message, self._segment = message, segment
        self.name = str(segment[0])

    def raw(self, number: int) -> str:
        return str(self._segment[number]) if number < len(self._segment) else ""

    def repetitions(self, number: int) -> list[list[str]]:
        """Repetitions of a field, each as its components."""
        _, _, repetition, component = self._message.separators[:4]
        return [
            [self._unescaped(part) for part in each.split(component)] for each in self.raw(number).split(repetition)
        ]

    def first(self, number: int) -> str:
        """First component of the first repetition."""
        return self.repetitions(number)[0][0].strip()

    def _unescaped(self, text: str) -> str:
        """HL7 2.5.1, 2.7. What is not known becomes U+FFFD, which no term has: a text is never cut."""
        escape = re.escape(str(self._message.esc))
        return re.sub(f"{escape}([^{escape}]*){escape}", lambda match: self._meant(match[1]), _BREAK.sub(" ", text))

    def _meant(self, sequence: str) -> str:
        _, field_, repetition, component, part = self._message.separators[:5]
        signs = {"F": field_, "S": component, "T": part, "R": repetition, "E": self._message.esc, "H": "", "N": ""}
        if sequence in signs:
            return str(signs[sequence])
        if coded := _HEX.fullmatch(sequence):
            return bytes.fromhex(coded[1]).decode("latin-1")
        return " " if _SPACE.fullmatch(sequence) else "\ufffd"


def _read_message(text: str, terms: Terms, *, origin: str) -> Iterator[tuple[object, str, list[Result]]]:
    """(what it is a result of, time, results) for each OBR of a message."""
    import hl7  # type: ignore[import-untyped]

    try:
        message = hl7.parse(text)
        segments = [_Segment(message, segment) for segment in message]
        kind = segments[0].repetitions(9)[0]
    except Exception as error:  # the parser lets index and key errors through
        yield origin, "", [Result(origin=origin, problem=f"it does not parse ({type(error).__name__})")]
        return
    if kind[0] != "ORU":
        yield origin, "", [Result(origin=origin, problem=f"it is a message {'^'.join(kind)[:20]}; ORU^R01 are read")]
        return
    groups = list(_groups(segments))
    if sum(segment.name == "OBX" for segment in segments) > sum(len(group.observations) for group in groups):
        yield (origin, "without"), "", [Result(origin=origin, problem="it has observations that no OBR stands before")]
    for number, group in enumerate(groups):
        filler, placer = group.obr.first(3), group.obr.first(2)
        order = filler or placer
        key = (order, group.obr.first(4), group.patient_ids) if order else (origin, number)
        stamp = group.obr.first(22) or segments[0].first(7)
        yield key, stamp, _results(group, terms, origin=origin)


def _is_before(first: str, second: str) -> bool:
    """Whether a time (HL7 data type TS) is before another; False also where that is not known."""
    stated = [_TIME.fullmatch(text) for text in (first, second)]
    if stated[0] is None or stated[1] is None:
        return False
    zoned = bool(stated[0][7] and stated[1][7])
    try:
        return _span(stated[0], zoned=zoned)[1] <= _span(stated[1], zoned=zoned)[0]
    except (ValueError, OverflowError):  # such as a 13th month
        return False


def _span(stated: re.Match[str], *, zoned: bool) -> tuple[datetime, datetime]:
    """When a stated time begins and ends: in UTC, or as the clock on the wall has it."""
    parts = [int(part) for part in stated.groups()[:6] if part is not None]
    begin = datetime(*parts, *(1, 1, 1)[len(parts) : 3])  # type: ignore[arg-type]
    if zoned:
        hours, minutes = int(stated[7][:3]), int(stated[7][0] + stated[7][3:])
        begin -= timedelta(hours=hours, minutes=minutes)
    return begin, begin + _PRECISION[len(parts) - 1]


def _groups(segments: Sequence[_Segment]) -> Iterator[_Group]:
    patient_ids: tuple[str, ...] = ()
    group: _Group | None = None
    for segment in segments:
        if segment.name in ("PID", "OBR") and group is not None:
            yield group
            group = None
        if segment.name == "PID":
            ids = [repetition[0].strip() for repetition in segment.repetitions(3)]
            patient_ids = tuple(dict.fromkeys(filter(None, (*ids, segment.first(2)))))
        elif segment.name == "OBR":
            group = _Group(segment, patient_ids)
        elif group is not None and segment.name == "OBX":
            group.observations.append(segment)
        elif group is not None and segment.name == "SPM":
            group.specimens.append(segment)
    if group is not None:
        yield group


def _results(group: _Group, terms: Terms, *, origin: str) -> list[Result]:
    obr = group.obr
    base = Result(
        origin=origin,
        accessions=tuple(dict.fromkeys(filter(None, (obr.first(number) for number in terms.hl7_accession)))),
        patient_ids=group.patient_ids,
        day=_day(group),
    )
    live = [each for each in group.observations if each.first(11).upper() not in _WITHDRAWN]
    diagnoses = [each for each in live if each.first(3) in terms.hl7_diagnosis]
    status = {obr.first(25).upper()} - {""} or {each.first(11).upper() for each in diagnoses}
    if not status <= _FINAL or not {each.first(11).upper() for each in diagnoses} <= _FINAL | {""}:
        return [replace(base, problem=f"it is not final (status {', '.join(sorted(status)) or 'missing'})")]
    sides = {each.first(4): _side(each) for each in live if each.first(3) in terms.hl7_laterality}
    common = _specimen_side(group)
    if len(sides) <= 1:
        return [_result(diagnoses, base, next(iter(sides.values()), common), terms)]
    parts: dict[str, list[_Segment]] = {}
    for each in diagnoses:
        parts.setdefault(each.first(4), []).append(each)
    return [_result(mine, base, sides.get(sub_id, common), terms) for sub_id, mine in parts.items()]


def _result(diagnoses: Sequence[_Segment], base: Result, side: Side | None, terms: Terms) -> Result:
    lines = [_values(each)[0] for each in diagnoses if each.first(2) in _TEXT]
    whole = " ".join(lines)
    texts = [whole] if terms.classify([whole])[0] else lines
    # A coded value has its code and its text: what of them is known counts, and must agree.
    for each in diagnoses:
        if each.first(2) in _CODED:
            values = _values(each) or [""]
            texts += [value for value in values if terms.classify([value])[0]] or values[:1]
    pathology, problem = terms.classify(texts)
    if side is None:
        pathology, problem = None, "its side is no side that is known; it must be left, right or both"
    written = [_values(each)[-1] for each in diagnoses if each.first(2) in _TEXT | _CODED and _values(each)]
    return replace(
        base,
        side=side or "",
        pathology=pathology,
        texts=tuple(texts),
        problem=problem,
        histology=" ".join(filter(None, written))[:500],
    )


def _values(observation: _Segment) -> list[str]:
    """Code and text of OBX-5, or its text; without what is empty."""
    repetitions = observation.repetitions(5)
    if observation.first(2) in _CODED:
        return [part.strip() for part in repetitions[0][:2] if part.strip()]
    return [" ".join(part.strip() for repetition in repetitions for part in repetition).strip()]


def _side(observation: _Segment) -> Side | None:
    for part in _values(observation):
        if (side := parse_side(part)) is not None:
            return side
    return None


def _specimen_side(group: _Group) -> Side | None:
    """From SPM-9 (source site modifier) or OBR-15's site modifier; "" where neither names a side."""
    sides = {parse_side(specimen.first(9)) for specimen in group.specimens} - {None, ""}
    parts = group.obr.repetitions(15)[0]
    if len(parts) > 4:  # OBR-15.5, HL7 2.5.1: site modifier
        sides |= {parse_side(parts[4].split("&")[0])} - {None, ""}
    return sides.pop() if len(sides) == 1 else ""


def _day(group: _Group) -> date | None:
    """Of the specimen (SPM-17, OBR-7), else of the result (OBR-22)."""
    candidates = [specimen.first(17) for specimen in group.specimens] + [group.obr.first(7), group.obr.first(22)]
    return next(filter(None, map(parse_day, candidates)), None)
