"""What a reader should know beside the prediction: a report's warnings, weighed and ranked.

"high": the prediction or the matches may mislead as they stand. "medium": they are less certain than they look. "low":
for information. Within a severity the order is that of `CODES`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

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
from sonoseek.core.patients import LONGEST, PatientShare
from sonoseek.reports.phrases import UNLIKE_ANYTHING, apart, either, percent, point_name, whole_percentile

SMALL_SIDE = 128
"""Pixels. A scan with a shorter side has lost the speckle and the margins that a prediction rests on."""
MARKS_WORTH_A_WORD = 0.001
"""Share of the scan's pixels. Where more was painted over as burned-in annotations, the reader is told."""
NEAR = 0.5
"""Difference of log odds. A likelihood this close to a threshold may fall on the other side for another picture of the
same lesion: those of the two pictures of one BUS-BRA lesion differ by 0.76 (median of 422), and by more than this in
two lesions of three."""
FEWEST = 3
"""Independent similar cases below which their labels are no majority."""

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
"""Code → severity, the heaviest first."""


def warning(code: str, text: str) -> ReportWarning:
    """A warning with the severity of its code."""
    return ReportWarning(severity=CODES[code], code=code, text=text)


def ranked(found: Iterable[ReportWarning]) -> tuple[ReportWarning, ...]:
    """The heaviest first."""
    order = {code: place for place, code in enumerate(CODES)}
    return tuple(sorted(found, key=lambda each: (SEVERITIES.index(each.severity), order[each.code])))


def leading(found: Sequence[ReportWarning]) -> tuple[list[str], list[str]]:
    """The texts that stand under the headline, and the others: high ones lead; without any, the first medium one does.

    Args:
        found: ranked, the heaviest first.
    """
    count = sum(each.severity == "high" for each in found)
    if not count and found and found[0].severity == "medium":
        count = 1
    return [each.text for each in found[:count]], [each.text for each in found[count:]]


def scan_warnings(
    scan: Scan, *, marks: float, preprocessing: Sequence[str], crop: Box | None, seen: bool
) -> list[ReportWarning]:
    """What the reader should know about the picture.

    Args:
        scan: that is asked about.
        marks: share of the scan's pixels that were painted over, 0 … 1.
        preprocessing: its warnings.
        crop: the scan area as the reader drew it, or None.
        seen: whether the scan, or a copy of it, was in the training data.
    """
    found = []
    if seen:
        found.append(
            warning(
                "seen_in_training",
                "This scan, or a copy of it, was in the training data of the network: its prediction shows what was "
                "learnt, not how the network does on a new scan.",
            )
        )
    if min(scan.shape) < SMALL_SIDE:
        found.append(
            warning(
                "small_scan",
                f"The scan is small ({scan.shape[1]} × {scan.shape[0]} pixels): fine texture and margins are lost. "
                "Give the original picture if there is one.",
            )
        )
    if crop is not None:
        found.append(
            warning(
                "reader_crop",
                "The scan area was drawn by the reader: the network saw that part alone. A crop around a lesion, "
                "rather than around the ultrasound picture, makes prediction and matches worthless.",
            )
        )
    if marks >= MARKS_WORTH_A_WORD:
        found.append(
            warning(
                "annotations_removed",
                f"Burned-in annotations were painted over before the network looked ({marks * 100:.1f} % of the scan).",
            )
        )
    found += [warning("preprocessing", f"Preprocessing: {text.rstrip('.')}.") for text in preprocessing]
    if scan.spacing_mm is None:
        found.append(warning("no_spacing", "The size of a pixel is not known: nothing can be given in millimetres."))
    return found


def prediction_warnings(prediction: Prediction, *, abstain_below: float) -> list[ReportWarning]:
    """What the reader should know about the probabilities.

    Args:
        prediction: of the scan, or of all views.
        abstain_below: probability from which on a label is given.
    """
    if prediction.out_of_distribution:
        return [_out_of_distribution(prediction.ood_score or 0.0)]
    found = []
    likelihood, point = prediction.likelihood_of_malignancy, prediction.rule_out
    if likelihood is not None and point is not None and abs(_logit(likelihood) - _logit(point.threshold)) < NEAR:
        said, threshold = apart(likelihood, point.threshold)
        found.append(
            warning(
                "near_threshold",
                f"The likelihood of malignancy ({said}) lies near the {point_name(point)} ({threshold}): another "
                "picture of the same lesion may fall on the other side.",
            )
        )
    if prediction.label is None:
        top = prediction.likeliest
        found.append(
            warning(
                "not_sure",
                f"No class is given: {top} is likeliest with {percent(prediction.probabilities[top])}, less than the "
                f"{percent(abstain_below)} from which on one is given.",
            )
        )
    return found


def calibration_unused(bundle_id: str) -> ReportWarning:
    """That the calibration beside the gallery is of another bundle, and what to do.

    Args:
        bundle_id: that it was fitted for.
    """
    return warning(
        "calibration_unused",
        f"The calibration beside the archive was fitted for bundle {bundle_id} and is not used: the bundle's own is. "
        "Run `sonoseek calibrate` on the archive again, or remove it with `sonoseek calibrate --remove`.",
    )


def _logit(probability: float) -> float:
    value = min(max(probability, 1e-9), 1 - 1e-9)
    return math.log(value / (1 - value))


def _out_of_distribution(score: float) -> ReportWarning:
    times = f"{score:.1f}" if score < 100 else "over 100"
    return warning(
        "out_of_distribution",
        f"This picture is unlike anything the network was trained on: it lies {times} times as far from the training "
        "scans as nearly all new scans of their kind do. No prediction is given; trust neither the probabilities nor "
        "the matches.",
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
) -> list[ReportWarning]:
    """What the reader should know of a search that is not one whole scan's.

    Args:
        views: what each further view shows alone.
        first: what the first shows alone.
        marked: whether a scan was read with a reader's mark.
        region: that was searched with, or None.
        examples: how many scans were liked or disliked.
        patients: how many different ones the scans name.
        breasts: how many different ones the scans name.
    """
    found = []
    if patients > 1 or breasts > 1:
        whose = f"{patients} patients" if patients > 1 else "both breasts"
        found.append(
            warning(
                "views_differ",
                f"The scans name {whose}: they are no views of one lesion, and a prediction of them together is of no "
                "one. Ask about each alone.",
            )
        )
    if views:
        alone = [each.likeliest for each in (first, *views)]
        named = ", ".join(f"view {number}: {name}" for number, name in enumerate(alone, start=1))
        agree = len(set(alone)) == 1
        found.append(
            warning(
                "views" if agree else "views_disagree",
                f"The prediction and the matches are of {len(alone)} views together; alone, "
                f"{'they agree' if agree else 'they do not agree'} ({named}).",
            )
        )
    if marked:
        found.append(
            warning(
                "reader_mark",
                "Prediction, evidence and matches rest on the box that the reader drew around the lesion; another box "
                "may change them. Thresholds were fitted, and the archive was read, without such marks.",
            )
        )
    if region is not None:
        found.append(
            warning(
                "region",
                "The matches were searched with the region alone; the prediction, the count of similar cases and the "
                "novelty are the whole scan's.",
            )
        )
    if examples:
        found.append(
            warning(
                "examples",
                f"The search was moved by {examples} liked or disliked {'scan' if examples == 1 else 'scans'}: "
                "similarities are with what was searched for, not with the scan. The count of similar cases is the "
                "whole scan's.",
            )
        )
    return found


def copy_warnings(
    scan: Scan, matches: Sequence[Match], *, copy: float | None, held: bool, left_out: bool
) -> list[ReportWarning]:
    """What the reader should know when the archive holds the scan that is asked about, as it is or as a copy.

    Args:
        scan: that is asked about.
        matches: found for it.
        copy: similarity of the archived scan that is likely a copy of it, or None.
        held: whether its very pixels are in the archive.
        left_out: whether they, their patient and their group were kept from answering.
    """
    if held and left_out:
        return [warning("scan_in_archive", "The archive holds this very scan; it was left out of the matches.")]
    if held:
        listed = any(match.scan_id == scan.scan_id for match in matches)
        return [
            warning(
                "copy_in_archive",
                f"The archive holds this very scan; it is {'' if listed else 'not '}among the matches.",
            )
        ]
    if copy is None:
        return []
    text = f"The archive likely holds a copy of this scan under another name (similarity {copy:.3f})"
    rank = next((match.rank for match in matches if abs(match.similarity - copy) < 1e-6), None)
    end = "it is not among the matches" if rank is None else f"match {rank} is no independent case, and is not counted"
    return [warning("copy_in_archive", f"{text}: {end}.")]


def match_list_warnings(
    matches: Sequence[Match], *, k: int, filtered: bool, independent: bool, why_none: str | None
) -> list[ReportWarning]:
    """What the reader should know about the list of matches.

    Args:
        matches: that are listed.
        k: how many were asked for.
        filtered: whether a filter hides some; then a short list needs no word.
        independent: whether the list holds one match per patient or group, and no near-duplicates.
        why_none: why there are no matches, or None.
    """
    if not matches:
        return [] if why_none is None else [warning("no_matches", why_none)]
    found = []
    if len(matches) < k and not filtered:
        kind = f"{'independent case' if independent else 'scan'}{'' if len(matches) == 1 else 's'}"
        found.append(
            warning("few_matches", f"The archive has {len(matches)} {kind} to compare with; {k} were asked for.")
        )
    owners = len({owner(match) for match in matches})
    if owners < len(matches):
        found.append(
            warning(
                "not_independent",
                f"The {len(matches)} matches are of {owners} patients, groups or cases. The similar cases are counted "
                "over independent ones.",
            )
        )
    return found


def owner(match: Match) -> tuple[str, str, str]:
    """Whom a match belongs to: its patient, else its group, else its case."""
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
) -> list[ReportWarning]:
    """What the reader should know about the similar cases.

    Args:
        prediction: of the scan.
        similar: reference labels of the most similar independent cases, whatever a filter hides.
        novelty: percentile, or None.
        left_out: what was kept from answering.
        dominant: the patient among the similar cases who holds most of a dataset, or None.
    """
    found = []
    kin = 0 if left_out is None else left_out.same_patient + left_out.same_group
    if (
        left_out is not None and kin and 2 * left_out.excluded > left_out.scans
    ):  # an archived scan is its patient's, too
        found.append(
            warning(
                "one_patient",
                f"{left_out.excluded:,} of the archive's {left_out.scans:,} scans carry the same patient or group as "
                "this scan and were left out of the matches. If that name is a placeholder, such as ANONYMOUS, give "
                "the archive real pseudonyms.",
            )
        )
    elif kin:
        scans = "scan of the same patient or group was" if kin == 1 else "scans of the same patient or group were"
        found.append(warning("left_out", f"{kin:,} archived {scans} left out."))
    if dominant is not None:
        found.append(
            warning(
                "one_patient",
                f"Patient {dominant.patient_id[:LONGEST]!r} holds {dominant.cases:,} of the {dominant.total:,} cases "
                f"of {dominant.dataset!r} and counts as one similar case: the others are not compared. If that name is "
                "a placeholder, give the archive real pseudonyms.",
            )
        )
    if novelty is not None and novelty >= UNLIKE_ANYTHING:
        found.append(
            warning(
                "unlike_archive",
                f"This scan is unlike anything in the archive (novelty percentile {whole_percentile(novelty)}): trust "
                "neither the prediction nor the matches.",
            )
        )
    return found + _disagreement(prediction, similar)


def _disagreement(prediction: Prediction, similar: LabelCounts) -> list[ReportWarning]:
    """One warning when most of three or more independent similar cases carry another class than the likeliest.

    None where no prediction is given: there is nothing to disagree with.
    """
    if prediction.out_of_distribution:
        return []
    top = prediction.likeliest
    against = [name for name, count in similar.labels.items() if name != top and 2 * count > similar.total]
    if similar.total < FEWEST or not against:
        return []
    return [
        warning(
            "disagreement",
            f"The prediction and the similar cases disagree: {top} is likeliest, {similar.labels[against[0]]} of "
            f"{similar.total} independent similar cases are {either(against)}.",
        )
    ]
