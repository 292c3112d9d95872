"""Studies and results of pathology, joined by rules. What is ambiguous is listed with the reason, never guessed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from sonoseek.core import InvalidValueError
from sonoseek.core.patients import is_placeholder
from sonoseek.pacs.archive.folder import Imported
from sonoseek.pacs.pathology.values import Result

Status = Literal["ambiguous", "unmapped", "no result", "no study", "not used"]


@dataclass(frozen=True, kw_only=True)
class JoinRules:
    """How results find their studies.

    Attributes:
        first_day, last_day: a result without the accession number belongs to a study if its day is so many days after
            the scan; both ends count.
        take_unsided: pictures without a side are of the breast that the result is of, and a result without a side is of
            all pictures. Only for archives that are known to hold one breast a study.
    """

    first_day: int = 0
    last_day: int = 60
    take_unsided: bool = False

    def __post_init__(self) -> None:
        if not -3650 <= self.first_day <= self.last_day <= 3650:
            raise InvalidValueError(
                f"results are taken from {self.first_day} to {self.last_day} days after the scan; the first is not "
                "after the last, and ten years are the most. Correct --days."
            )


@dataclass(frozen=True, kw_only=True)
class JoinedPicture:
    """An imported file with its reference standard."""

    entry: Imported
    pathology: str
    histology: str
    birads: str


@dataclass(frozen=True, kw_only=True)
class Listed:
    """What was not joined, and why. It names a patient."""

    status: Status
    reason: str
    accession: str = ""
    patient_id: str = ""
    study_date: date | None = None
    side: str = ""
    pictures: int = 0
    results: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Joined:
    """All pictures with a reference standard, and the list of what has none."""

    pictures: tuple[JoinedPicture, ...]
    listed: tuple[Listed, ...]


def join_results(entries: Iterable[Imported], results: Sequence[Result], rules: JoinRules | None = None) -> Joined:
    """Give pictures the class of their result.

    Args:
        entries: of an import.
        results: of tables and messages.
        rules: None: the defaults.
    """
    rules = rules or JoinRules()
    studies: dict[str, list[Imported]] = defaultdict(list)
    for entry in entries:
        studies[entry.study_uid].append(entry)
    index = _Index(results, studies)
    pictures: list[JoinedPicture] = []
    listed: list[Listed] = []
    for study in studies.values():
        more, unjoined = _join_study(study, index, rules)
        pictures += more
        listed += unjoined
    return Joined(pictures=tuple(pictures), listed=(*listed, *index.unused()))


class _Index:
    """Results by accession number and by patient, and which of them were used."""

    def __init__(self, results: Sequence[Result], studies: Mapping[str, Sequence[Imported]]) -> None:
        self.results = list(dict.fromkeys(results))
        self.used: set[int] = set()
        self.by_accession: dict[str, list[Result]] = defaultdict(list)
        self.by_patient: dict[str, list[Result]] = defaultdict(list)
        self.patients: dict[str, set[str]] = defaultdict(set)
        for study in studies.values():
            self.patients[study[0].accession].add(study[0].patient_id)
        for result in self.results:
            for accession in result.accessions:
                self.by_accession[accession].append(result)
            # A result that names the accession number of one of the patient's studies is that study's alone.
            named = (self.patients.get(each, set()) for each in result.accessions if _is_number(each))
            if any(patients & set(result.patient_ids) for patients in named):
                continue
            for patient_id in result.patient_ids:
                if not is_placeholder(patient_id):
                    self.by_patient[patient_id].append(result)

    def in_window(self, study: Imported, rules: JoinRules) -> list[Result]:
        if not study.patient_id or study.study_date is None:
            return []
        return [
            result
            for result in self.by_patient.get(study.patient_id, ())
            if result.day is not None and rules.first_day <= (result.day - study.study_date).days <= rules.last_day
        ]

    def use(self, results: Iterable[Result]) -> None:
        self.used.update(id(result) for result in results)

    def unused(self) -> list[Listed]:
        """Results that no study of the import is near to."""
        return [
            Listed(
                status="not used" if result.problem and not result.texts else "no study",
                reason=result.problem
                or "no imported study has its accession number, or its patient and a date near it",
                accession=" ".join(result.accessions),
                patient_id=" ".join(result.patient_ids),
                study_date=result.day,
                side=result.side,
                results=(result.origin,),
            )
            for result in self.results
            if id(result) not in self.used
        ]


def _join_study(study: Sequence[Imported], index: _Index, rules: JoinRules) -> tuple[list[JoinedPicture], list[Listed]]:
    one = study[0]
    sides: dict[str, list[Imported]] = defaultdict(list)
    for entry in study:
        sides[entry.side].append(entry)

    def listing(status: Status, reason: str, side: str, results: Sequence[Result]) -> Listed:
        index.use(results)
        return Listed(
            status=status,
            reason=reason,
            accession=one.accession,
            patient_id=one.patient_id,
            study_date=one.study_date,
            side=side,
            pictures=len(sides[side]) if side in sides else len(study),
            results=tuple(result.origin for result in results),
        )

    numbers = {(entry.patient_id, entry.accession) for entry in study}
    if len(numbers) > 1:
        return [], [listing("ambiguous", "its files name several patients or accession numbers", "", ())]
    by_number = index.by_accession.get(one.accession, []) if _is_number(one.accession) else []
    foreign = [result for result in by_number if result.patient_ids and one.patient_id not in result.patient_ids]
    if foreign:
        reason = "the result with its accession number is of another patient id"
        return [], [listing("ambiguous", reason, "", foreign)]
    nameless = [result for result in by_number if not result.patient_ids]
    if nameless and len(index.patients[one.accession]) > 1:
        reason = "its accession number is that of several patients' studies, and the result names no patient"
        return [], [listing("ambiguous", reason, "", nameless)]
    nearby = index.in_window(one, rules)
    results = by_number or nearby
    if not results:
        return [], [
            listing("no result", "no result has its accession number, or its patient and a date near it", "", ())
        ]
    index.use(results)
    pictures: list[JoinedPicture] = []
    listed: list[Listed] = []
    for side, entries in sides.items():
        mine, why = _of_side(side, results, rules, sides=set(sides), by_number=bool(by_number))
        if why:
            listed.append(listing("ambiguous" if mine else "no result", why, side, mine))
            continue
        # A result of the same days that names no accession number must not say otherwise.
        others = [result for result in nearby if result not in mine and result.side in (side, "both", "")]
        status, why = _disagreement(mine, others)
        if why:
            listed.append(listing(status, why, side, [*mine, *others]))
            continue
        pictures += [_joined(entry, mine) for entry in entries]
    return pictures, listed


def _is_number(accession: str) -> bool:
    """Whether a text can be the accession number of one study: "", "0" and "UNKNOWN" cannot."""
    return bool(accession) and not is_placeholder(accession)


def _of_side(
    side: str, results: Sequence[Result], rules: JoinRules, *, sides: set[str], by_number: bool
) -> tuple[list[Result], str]:
    """The results of the pictures of one side; and why they cannot be joined, "" where they can."""
    if rules.take_unsided and side not in ("left", "right"):
        return list(results), ""
    if side not in ("left", "right"):
        return list(results), (
            "its pictures show both breasts at once" if side == "both" else "its pictures do not state the side"
        )
    sided = [result for result in results if result.side in (side, "both")]
    unsided = [result for result in results if not result.side]
    if unsided and not rules.take_unsided:
        if len(sides) > 1:
            return [*sided, *unsided], "its pictures are of both breasts, and the result states no side"
        if not by_number:
            return [*sided, *unsided], "the result states neither the accession number nor a side"
    if not sided and not unsided:
        return [], "its results are of the other breast"
    return [*sided, *unsided], ""


def _disagreement(mine: Sequence[Result], others: Sequence[Result]) -> tuple[Status, str]:
    unclear = next((result for result in mine if result.pathology is None), None)
    if unclear is not None:
        return ("unmapped" if unclear.problem.startswith("unmapped") else "ambiguous"), unclear.problem
    classes = sorted({str(result.pathology) for result in mine})
    if len(classes) > 1:
        return "ambiguous", f"its results are {' and '.join(classes)}"
    contrary = next((result for result in others if result.pathology not in (None, classes[0])), None)
    if contrary is not None:
        return "ambiguous", f"its result is {classes[0]}; another one of the same days is {contrary.pathology}"
    return "ambiguous", ""


def _joined(entry: Imported, results: Sequence[Result]) -> JoinedPicture:
    texts = dict.fromkeys(result.histology for result in results if result.histology)
    categories = {result.birads for result in results if result.birads}
    return JoinedPicture(
        entry=entry,
        pathology=str(results[0].pathology),
        histology="; ".join(texts),
        birads=categories.pop() if len(categories) == 1 else "",
    )
