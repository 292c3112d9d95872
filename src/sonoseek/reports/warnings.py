"""The warnings of a report: their texts, severities and order.

"high": the prediction or the matches may mislead. "medium": they are less certain than they look. "low": for
information. Within a severity the order is that of `CODES`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from sonoseek.core import (
    SEVERITIES,
    Box,
    ExcludedCounts,
    LabelCounts,
    Match,
    Prediction,
    ReportWarning,
    Scan,
    Severity,
)
from sonoseek.core.patients import PatientShare
from sonoseek.reports.phrases import UNLIKE_ANYTHING, distinct_percents, percent, point_name, whole_percentile

SMALL_SIDE = 128
"""Pixels. Scans with a shorter side have lost speckle and margins."""
ANNOTATED = 0.001
"""Share of the scan's pixels painted over as burned-in annotations from which on the reader is warned."""
NEAR = 0.5
"""Difference of log odds. A likelihood this close to a threshold may fall on the other side for another image of the
same lesion. The two images of a BUS-BRA lesion differ by 0.76 (median of 422 lesions), and by more than `NEAR` in two
of three."""
FEWEST = 3
"""Independent similar cases from which on their labels can form a majority."""

CODES: dict[str, Severity] = {
    "seen_in_training": "high",
    "out_of_distribution": "high",
    "one_patient": "high",
    "unlike_archive": "high",
    "disagreement": "high",
    "views_differ": "high",
    "near_threshold": "medium",
    "not_sure": "medium",
    "views_disagree": "medium",
    "small_scan": "medium",
    "preprocessing": "medium",
    "reader_crop": "medium",
    "calibration_unused": "medium",
    "pseudonyms": "medium",
    "copy_in_archive": "medium",
    "no_matches": "medium",
    "few_matches": "low",
    "not_independent": "low",
    "scan_in_archive": "low",
    "left_out": "low",
    "views": "low",
    "reader_mark": "low",
    "region": "low",
    "examples": "low",
    "annotations_removed": "low",
    "no_spacing": "low",
}
"""Code → severity, the most severe first."""


def warning(code: str, text: str) -> ReportWarning:
    """A warning with the severity of its code."""
    return ReportWarning(severity=CODES[code], code=code, text=text)


def ranked(unsorted: Iterable[ReportWarning]) -> tuple[ReportWarning, ...]:
    """Sorted by severity, the most severe first."""
    order = {code: place for place, code in enumerate(CODES)}
    return tuple(sorted(unsorted, key=lambda each: (SEVERITIES.index(each.severity), order[each.code])))


def leading(ranked: Sequence[ReportWarning]) -> tuple[list[str], list[str]]:
    """The texts for under the headline, and the others. The first are those of high severity, else one of medium.

    Args:
        ranked: the most severe first.
    """
    count = sum(each.severity == "high" for each in ranked)
    if not count and ranked and ranked[0].severity == "medium":
        count = 1
    return [each.text for each in ranked[:count]], [each.text for each in ranked[count:]]


def scan_warnings(
    scan: Scan, *, marks: float, preprocessing: Sequence[str], crop: Box | None, seen: bool
) -> Iterator[ReportWarning]:
    """Warnings about the image.

    Args:
        scan: the query scan.
        marks: share of the scan's pixels that were painted over, 0 … 1.
        preprocessing: its warnings.
        crop: the scan area as the reader drew it, or None.
        seen: whether the scan, or a copy of it, was in the training data.
    """
    if seen:
        yield warning(
            "seen_in_training",
            "This scan, or a copy of it, was in the training data of the network. Its prediction does not show how "
            "the network performs on a new scan.",
        )
    if min(scan.shape) < SMALL_SIDE:
        yield warning(
            "small_scan",
            f"The scan is small ({scan.shape[1]} × {scan.shape[0]} pixels): fine texture and margins are lost. "
            "Use the original image if there is one.",
        )
    if crop is not None:
        yield warning(
            "reader_crop",
            "The scan area was drawn by the reader; the network saw this area alone. If it surrounds a lesion "
            "instead of the ultrasound image, the prediction and the matches are not reliable.",
        )
    if marks >= ANNOTATED:
        yield warning(
            "annotations_removed",
            f"Burned-in annotations were painted over before analysis ({marks * 100:.1f} % of the scan).",
        )
    for text in preprocessing:
        yield warning("preprocessing", f"Preprocessing: {text.rstrip('.')}.")
    if scan.spacing_mm is None:
        yield warning("no_spacing", "The pixel size is not known: nothing can be given in millimetres.")


def prediction_warnings(prediction: Prediction, *, abstain_below: float) -> Iterator[ReportWarning]:
    """Warnings about the probabilities.

    Args:
        prediction: of the scan, or of all views.
        abstain_below: probability from which on a label is given.
    """
    if prediction.out_of_distribution:
        yield _out_of_distribution(prediction.ood_score or 0.0)
        return
    likelihood, point = prediction.likelihood_of_malignancy, prediction.rule_out
    if likelihood is not None and point is not None and abs(_logit(likelihood) - _logit(point.threshold)) < NEAR:
        shown, threshold = distinct_percents(likelihood, point.threshold)
        yield warning(
            "near_threshold",
            f"The likelihood of malignancy ({shown}) lies near the {point_name(point)} ({threshold}): another "
            "image of the same lesion may fall on the other side.",
        )
    if prediction.label is None:
        top = prediction.likeliest
        yield warning(
            "not_sure",
            f"No class is given: {top} is likeliest with {percent(prediction.probabilities[top])}; at least "
            f"{percent(abstain_below)} is required.",
        )


def calibration_unused(bundle_id: str) -> ReportWarning:
    """Warning that the calibration stored beside the gallery was fitted for another bundle, `bundle_id`."""
    return warning(
        "calibration_unused",
        f"The calibration of this archive was fitted for bundle {bundle_id} and is not used. The bundle's own is used. "
        "Run `sonoseek calibrate` on the archive again, or remove it with `sonoseek calibrate --remove`.",
    )


def _logit(probability: float) -> float:
    value = min(max(probability, 1e-9), 1 - 1e-9)
    return math.log(value / (1 - value))


def _out_of_distribution(score: float) -> ReportWarning:
    times = f"{score:.1f}" if score < 100 else "over 100"
    return warning(
        "out_of_distribution",
        f"This image is unlike anything the network was trained on: it is {times} times as far from the training scans "
        "as nearly all new scans of their kind. No prediction is given. Do not rely on the probabilities or the "
        "matches.",
    )


def query_warnings(
    *,
    views: Sequence[Prediction],
    first: Prediction,
    marked: bool = False,
    region: Box | None,
    examples: int,
    patients: int = 1,
    breasts: int = 1,
) -> Iterator[ReportWarning]:
    """Warnings about a query that is more, or less, than one whole scan.

    Args:
        views: the prediction of each further view alone.
        first: the prediction of the first view alone.
        marked: whether the reader marked the lesion on a scan.
        region: to which the search was restricted, or None.
        examples: number of liked and disliked scans.
        patients: number of different patients that the scans name.
        breasts: number of different breasts that the scans name.
    """
    if patients > 1 or breasts > 1:
        whose = f"{patients} patients" if patients > 1 else "both breasts"
        yield warning(
            "views_differ",
            f"The scans name {whose}: they are not views of one lesion, and their joint prediction is not valid. "
            "Query each scan separately.",
        )
    if views:
        alone = [each.likeliest for each in (first, *views)]
        named = ", ".join(f"view {number}: {name}" for number, name in enumerate(alone, start=1))
        agree = len(set(alone)) == 1
        yield warning(
            "views" if agree else "views_disagree",
            f"The prediction and the matches are of {len(alone)} views together; alone, the views "
            f"{'agree' if agree else 'do not agree'} ({named}).",
        )
    if marked:
        yield warning(
            "reader_mark",
            "Prediction, evidence and matches depend on the reader's mark; another box may change them. The "
            "thresholds were fitted, and the archive was indexed, without such marks.",
        )
    if region is not None:
        yield warning(
            "region",
            "The matches were searched with the region alone. The prediction, the count of similar cases and the "
            "novelty are of the whole scan.",
        )
    if examples:
        yield warning(
            "examples",
            f"The search was moved by {examples} liked or disliked {'scan' if examples == 1 else 'scans'}: "
            "the similarities are to the moved query, not to the scan. The count of similar cases is of the whole "
            "scan.",
        )


def copy_warnings(
    scan: Scan, matches: Sequence[Match], *, copy: float | None, archived: bool, left_out: bool
) -> Iterator[ReportWarning]:
    """Warnings where the archive contains the query scan, or a copy of it.

    Args:
        scan: the query scan.
        matches: found for it.
        copy: similarity of the archived scan that is probably a copy of it, or None.
        archived: whether a scan with the same pixels is in the archive.
        left_out: whether this scan, its patient and its group were left out of the search.
    """
    if archived:
        listed = any(match.scan_id == scan.scan_id for match in matches)
        place = "was left out of" if left_out else "is among" if listed else "is not among"
        code = "scan_in_archive" if left_out else "copy_in_archive"
        yield warning(code, f"The archive contains this scan; it {place} the matches.")
    elif copy is not None:
        rank = next((match.rank for match in matches if abs(match.similarity - copy) < 1e-6), None)
        listed_as = "it is not among the matches"
        if rank is not None:
            listed_as = f"match {rank} is not an independent case and is not counted"
        yield warning(
            "copy_in_archive",
            f"The archive probably contains a copy of this scan under another name (similarity {copy:.3f}): "
            f"{listed_as}.",
        )


def match_list_warnings(
    matches: Sequence[Match], *, k: int, filtered: bool, independent: bool, why_none: str | None
) -> Iterator[ReportWarning]:
    """Warnings about the list of matches.

    Args:
        matches: the list.
        k: number of matches that were requested.
        filtered: whether a filter hides some; then a short list needs no warning.
        independent: whether the list has one match per patient or group, and no near-duplicates.
        why_none: why there are no matches, or None.
    """
    if not matches:
        if why_none is not None:
            yield warning("no_matches", why_none)
        return
    if len(matches) < k and not filtered:
        kind = f"{'independent case' if independent else 'scan'}{'' if len(matches) == 1 else 's'}"
        yield warning("few_matches", f"The archive has {len(matches)} {kind} to compare with; {k} were requested.")
    owners = len({owner(match) for match in matches})
    if owners < len(matches):
        yield warning(
            "not_independent",
            f"The {len(matches)} matches are of {owners} patients, groups or cases. Only independent cases are "
            "counted as similar cases.",
        )


def owner(match: Match) -> tuple[str, str, str]:
    """The patient of a match, else its group, else its case."""
    if match.patient_id is not None:
        return match.dataset, "patient", match.patient_id
    return (match.dataset, "group", match.group) if match.group is not None else (match.dataset, "case", match.case_id)


def archive_warnings(
    prediction: Prediction,
    similar: LabelCounts,
    *,
    novelty: float | None,
    left_out: ExcludedCounts | None,
    dominant: PatientShare | None = None,
) -> Iterator[ReportWarning]:
    """Warnings about the archive and the similar cases.

    Args:
        prediction: of the scan.
        similar: reference labels of the independent similar cases, without the filter.
        novelty: percentile, or None.
        left_out: scans that were left out of the search.
        dominant: the patient among the similar cases with most cases of a dataset, or None.
    """
    kin = 0 if left_out is None else left_out.same_patient + left_out.same_group
    # The scan itself is of its patient, too.
    if left_out is not None and kin and 2 * left_out.excluded > left_out.scans:
        yield warning(
            "one_patient",
            f"{left_out.excluded:,} of the archive's {left_out.scans:,} scans carry the same patient or group as "
            "this scan and were left out of the search. If this id is a placeholder, such as ANONYMOUS, give the "
            "archive real pseudonyms.",
        )
    elif kin:
        scans = "scan of the same patient or group was" if kin == 1 else "scans of the same patient or group were"
        yield warning("left_out", f"{kin:,} archived {scans} left out.")
    if dominant is not None:
        yield warning(
            "one_patient",
            f"One patient has {dominant.cases:,} of the {dominant.total:,} cases of {dominant.dataset!r} and counts as "
            "one similar case: the others are not compared. If this patient's id is a placeholder, give the archive "
            "real pseudonyms. `sonoseek index info` names it.",
        )
    if novelty is not None and novelty >= UNLIKE_ANYTHING:
        yield warning(
            "unlike_archive",
            f"This scan is unlike anything in the archive (novelty percentile {whole_percentile(novelty)}). Do not "
            "rely on the prediction or the matches.",
        )
    yield from _disagreement(prediction, similar)


def _disagreement(prediction: Prediction, similar: LabelCounts) -> Iterator[ReportWarning]:
    """One warning where most of three or more independent similar cases have another class than the likeliest.

    None where no prediction is given.
    """
    top = prediction.likeliest
    against = [name for name, count in similar.labels.items() if name != top and 2 * count > similar.total]
    if against and similar.total >= FEWEST and not prediction.out_of_distribution:
        yield warning(
            "disagreement",
            f"The prediction and the similar cases disagree: {top} is likeliest, {similar.labels[against[0]]} of "
            f"{similar.total} independent similar cases are {against[0]}.",
        )
