"""What a reader should know beside the verdict: a report's warnings, as sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sonoseek.core import Box, Match, Prediction, Scan
from sonoseek.reports.words import UNLIKE_ANYTHING, either, likeliest, percent

SMALL_SIDE = 128
"""Pixels. A scan with a shorter side has lost the speckle and the margins that a verdict rests on."""
MARKS_WORTH_A_WORD = 0.001
"""Share of the scan's pixels. Where more was painted over as burned-in marks, the reader is told."""


def about_the_scan(
    scan: Scan,
    prediction: Prediction,
    *,
    abstain_below: float,
    marks: float,
    cleaning: Sequence[str],
    crop: Box | None = None,
) -> list[str]:
    """What the reader should know about the picture and the verdict.

    Args:
        scan: that is asked about.
        prediction: of it.
        abstain_below: probability at which the bundle commits itself.
        marks: share of the scan's pixels that were painted over, 0 … 1.
        cleaning: warnings of the cleaning.
        crop: the scan area as the reader drew it, or None.
    """
    said = []
    if prediction.unfamiliar:
        said.append(_about_a_stranger(prediction.unfamiliarity or 0.0))
    elif prediction.label is None:
        top = likeliest(prediction)
        said.append(
            f"The network is not sure: {top} is likeliest with {percent(prediction.probabilities[top])}, less than the "
            f"{percent(abstain_below)} at which this bundle commits itself."
        )
    if min(scan.shape) < SMALL_SIDE:
        said.append(
            f"The scan is small ({scan.shape[1]} × {scan.shape[0]} pixels): fine texture and margins are lost. "
            "Give the original picture if there is one."
        )
    if marks >= MARKS_WORTH_A_WORD:
        said.append(
            f"Burned-in text or calipers were painted over before the network looked ({marks * 100:.1f} % of the scan)."
        )
    if crop is not None:
        said.append(
            "The scan area was drawn by the reader: the network saw that part alone. A crop around a lesion, rather "
            "than around the ultrasound picture, makes verdict and matches worthless."
        )
    said += [f"Cleaning: {warning.rstrip('.')}." for warning in cleaning]
    if scan.spacing_mm is None:
        said.append("The size of a pixel is not known: nothing can be given in millimetres.")
    return said


def _about_a_stranger(unfamiliarity: float) -> str:
    """Why there is no verdict on a picture unlike the training scans."""
    times = f"{unfamiliarity:.1f}" if unfamiliarity < 100 else "over 100"
    return (
        f"This picture is unlike anything the network was trained on: it lies {times} times as far from the training "
        "scans as nearly all new scans of their kind do. No verdict is given, however sure the probabilities look; "
        "trust neither them nor the matches."
    )


def about_the_question(
    *, views: Sequence[Prediction], first: Prediction, region: Box | None, examples: int
) -> list[str]:
    """What the reader should know of a search that is not one whole scan's.

    Args:
        views: what each further view shows alone.
        first: what the first shows alone.
        region: that was searched with, or None.
        examples: how many scans were liked or disliked.
    """
    said = []
    if views:
        alone = [likeliest(each) for each in (first, *views)]
        verdicts = ", ".join(f"view {number}: {name}" for number, name in enumerate(alone, start=1))
        agree = "they agree" if len(set(alone)) == 1 else "they do not agree"
        said.append(f"The verdict and the matches are of {len(alone)} views together; alone, {agree} ({verdicts}).")
    if region is not None:
        said.append(
            "The matches were searched with the region alone; the verdict and the novelty are the whole scan's."
        )
    if examples:
        said.append(
            f"The search was moved by {examples} liked or disliked {'scan' if examples == 1 else 'scans'}: "
            "similarities are with what was searched for, not with the scan."
        )
    return said


def about_copies(
    scan: Scan, matches: Sequence[Match], nearest: float | None, *, held: bool, left_out: bool, same_scan: float
) -> list[str]:
    """What the reader should know when the archive holds the scan that is asked about, as it is or nearly.

    Args:
        scan: that is asked about.
        matches: found for it.
        nearest: distance to the nearest scan of the archive, or None.
        held: whether its very pixels are in the archive.
        left_out: whether they, their patient and their group were kept from answering.
        same_scan: cosine from which on two scans are likely one, as the bundle says.
    """
    if held and left_out:
        return ["The archive holds this very scan; it, its patient and its group were left out of the matches."]
    if held:
        listed = any(match.scan_id == scan.scan_id for match in matches)
        return [f"The archive holds this very scan; it is {'' if listed else 'not '}among the matches."]
    likely = "The archive likely holds this very scan under another name"
    if matches and matches[0].similarity >= same_scan:
        return [f"{likely} (similarity {matches[0].similarity:.3f}): that match is no independent precedent."]
    if nearest is not None and 1.0 - nearest >= same_scan:
        return [f"{likely} (similarity {1.0 - nearest:.3f}); it is not among the matches."]
    return []


def about_the_archive(
    prediction: Prediction, matches: tuple[Match, ...], *, novelty: float | None, k: int, where: str | None
) -> list[str]:
    """What the reader should know about the precedents."""
    said = []
    if novelty is not None and novelty >= UNLIKE_ANYTHING:
        said.append(
            f"This scan is unlike anything in the archive (novelty percentile {novelty:.0f}): trust neither the "
            "verdict nor the matches."
        )
    said += _near_copies(matches)
    said += _disagreement(prediction, matches)
    if len(matches) < k:
        why = "pass the filter" if where is not None else "are in the archive"
        said.append(f"Only {len(matches)} of the {k} matches asked for {why}.")
    return said


def _near_copies(matches: tuple[Match, ...]) -> list[str]:
    """One sentence where matches share a group: they are not so many precedents."""
    counts = Counter((match.dataset, match.group) for match in matches if match.group is not None)
    shared = {group: count for (_, group), count in counts.items() if count > 1}
    if not shared:
        return []
    named = ", ".join(f"group {group}: {count}" for group, count in shared.items())
    return [
        f"{sum(shared.values())} of the {len(matches)} matches are near-copies of one another, or belong together "
        f"otherwise ({named}): count each group as one precedent."
    ]


def _independent(matches: tuple[Match, ...]) -> list[Match]:
    """The best match of each group, and every match without a group."""
    first: dict[tuple[str, str] | int, Match] = {}
    for match in matches:
        first.setdefault(match.rank if match.group is None else (match.dataset, match.group), match)
    return list(first.values())


def _disagreement(prediction: Prediction, matches: tuple[Match, ...]) -> list[str]:
    """One sentence when most of three or more independent matches carry another class than the likeliest."""
    top = likeliest(prediction)
    labels = [match.label for match in _independent(matches)]
    against = [label for label in sorted(set(labels)) if label != top and 2 * labels.count(label) > len(labels)]
    if len(labels) < 3 or not against:
        return []
    kind = "matches" if len(labels) == len(matches) else "independent matches"
    return [
        f"The network and the precedents disagree: it finds {top} likeliest, {labels.count(against[0])} of "
        f"{len(labels)} {kind} are {either(against)}."
    ]
