"""The sentences that a person reads, the same in every format."""

from __future__ import annotations

from collections.abc import Iterable

from sonoseek.core import Box, Contour, Prediction, Report, Scan, SharedWord

UNLIKE_ANYTHING = 99.0
"""Percentile of novelty from which on a scan is called unlike anything in the archive."""
UNUSUAL = 90.0
"""Percentile of novelty from which on a scan is called unusual for the archive."""


def likeliest(prediction: Prediction) -> str:
    """The class with the highest probability, also where the system abstains; the first of equals."""
    return max(prediction.probabilities, key=prediction.probabilities.__getitem__)


def percent(probability: float) -> str:
    """A probability as a reader wants it: "87 %", and never a rounded certainty ("> 99 %", "< 1 %")."""
    if 0.0 < probability < 0.01:
        return "< 1 %"
    if 0.99 < probability < 1.0:
        return "> 99 %"
    return f"{probability * 100:.0f} %"


def either(names: Iterable[str]) -> str:
    """Names as a choice: "a", "a or b", "a, b or c"."""
    listed = list(names)
    return " or ".join([", ".join(listed[:-1]), listed[-1]]) if len(listed) > 1 else "".join(listed)


def verdict(prediction: Prediction) -> str:
    """The headline: "Malignant, 87 %", "Not sure: benign or malignant", or that the picture is a strange one."""
    if prediction.unfamiliar:
        return "Not sure: unlike the scans of the training"
    if prediction.label is not None:
        return f"{prediction.label.capitalize()}, {percent(prediction.probabilities[prediction.label])}"
    options = prediction.prediction_set
    if len(options) < 2:  # nothing, or one class, left: the two likeliest are what the reader must weigh
        options = tuple(sorted(prediction.probabilities, key=lambda name: -prediction.probabilities[name])[:2])
    return f"Not sure: {either(options)}"


def not_excluded(prediction: Prediction) -> str:
    """The prediction set in words."""
    options = prediction.prediction_set
    if not options:
        return "No class fits this scan at the bundle's confidence level."
    if len(options) == len(prediction.probabilities):
        return "No class can be excluded at the bundle's confidence level."
    if options == (prediction.label,):
        return "The other classes are excluded at the bundle's confidence level."
    return f"Cannot be excluded at the bundle's confidence level: {either(options)}."


def neighbours(report: Report) -> str:
    """The matches' proven diagnoses, counted: "8 of 10 similar cases are malignant, 2 benign."."""
    labels = [match.label for match in report.matches]
    if not labels:
        return "No similar case was found or asked for." if report.gallery_id else "No gallery was asked."
    if len(labels) == 1:
        return f"The one similar case is {labels[0]}."
    counts = sorted({name: labels.count(name) for name in labels}.items(), key=lambda item: -item[1])
    rest = "".join(f", {count} {name}" for name, count in counts[1:])
    return f"{counts[0][1]} of {len(labels)} similar cases are {counts[0][0]}{rest}."


def novelty(report: Report) -> str:
    """How far the scan lies from the archive."""
    if report.novelty is None:
        return "Not known: there is no archive to compare with."
    if report.novelty >= UNLIKE_ANYTHING:
        judgement = "unlike anything in the archive"
    elif report.novelty >= UNUSUAL:
        judgement = "unusual for the archive"
    else:
        judgement = "as close to the archive as its own scans are to one another"
    return f"{judgement.capitalize()} (percentile {report.novelty:.0f})."


def evidence_title(method: str, target: str, report: Report) -> str:
    """What a heatmap shows: "Evidence for malignant", "Likeness to match 2"."""
    kind, _, scan_id = target.partition(":")
    if kind == "match" and scan_id:
        ranks = [match.rank for match in report.matches if match.scan_id == scan_id]
        told = f"Likeness to match {ranks[0]}" if ranks else f"Likeness to scan {scan_id[:12]}"
        return told if method == "pair_evidence" else f"{told} ({method})"
    return f"Evidence for {target}" if method == "class_evidence" else f"Evidence for {target} ({method})"


def shared_word(word: SharedWord) -> str:
    """As in "margin: 7 of 10 spiculated, 12 % in the gallery"."""
    return f"{word.feature}: {word.matches} of {word.described} {word.word}, {percent(word.share)} in the gallery"


def contour(outline: Contour) -> str:
    """The outline's measures, as an estimate; where the spacing is not known nothing is said in millimetres."""
    if outline.longest_mm is None or outline.shortest_mm is None or outline.area_mm2 is None:
        return "The evidence is outlined; the size of a pixel is not known, so nothing can be measured."
    shape = "taller than wide" if outline.taller_than_wide else "not taller than wide"
    return (
        f"The evidence spans about {outline.longest_mm:.0f} × {outline.shortest_mm:.0f} mm "
        f"({outline.area_mm2:.0f} mm²), {shape}, {outline.depth_mm:.0f} mm below the top of the scan: "
        "an estimate, not a measurement."
    )


def region(box: Box) -> str:
    """Where the search was confined to: "rows 120 to 310, columns 80 to 400 of the scan"."""
    return f"rows {box.top:g} to {box.bottom:g}, columns {box.left:g} to {box.right:g} of the scan"


def crop(box: Box) -> str:
    """What the reader left of the scan: "the reader's: rows 20 to 400, columns 60 to 520 of the scan"."""
    return f"drawn by the reader: {region(box)}"


def refined(report: Report) -> str:
    """What moved the search: "towards 2 liked, away from 1 disliked scan"."""
    parts = [
        f"{way} {len(scans)} {kind}"
        for way, scans, kind in (("towards", report.liked, "liked"), ("away from", report.disliked, "disliked"))
        if scans
    ]
    return f"{', '.join(parts)} {'scan' if len(report.liked) + len(report.disliked) == 1 else 'scans'} of the archive"


def size(scan: Scan) -> str:
    """Extent of the scan: "562 × 471 pixels, 56 × 47 mm"."""
    height, width = scan.shape
    if scan.spacing_mm is None:
        return f"{width} × {height} pixels"
    return f"{width} × {height} pixels, {width * scan.spacing_mm[1]:.3g} × {height * scan.spacing_mm[0]:.3g} mm"


def signed(number: float, *, digits: int = 3) -> str:
    """A number with its sign, a true minus, and no negative zero."""
    text = f"{number:+.{digits}f}"
    return text.replace("-", "−") if float(text) else text.lstrip("+-")


def sentence(text: str) -> str:
    """Upper case first, full stop last."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
