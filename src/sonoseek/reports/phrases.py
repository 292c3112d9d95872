"""The sentences of a report, the same in every format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sonoseek.core import (
    Box,
    CalibrationSource,
    Contour,
    LabelCounts,
    Match,
    OperatingPoint,
    Prediction,
    Report,
    Scan,
    SharedDescriptor,
)

MALIGNANT = "malignant"
UNLIKE_ANYTHING = 99.0
"""Novelty percentile from which on a scan is called unlike anything in the archive."""
UNUSUAL = 90.0
"""Novelty percentile from which on a scan is called unusual for the archive."""


def texts(report: Report) -> dict[str, Any]:
    """The sentences of a report by name, as pages show them; one that does not apply is "" or None."""
    prediction = report.prediction
    return {
        "headline": headline(prediction),
        "likeliest": likeliest(prediction),
        "prediction_set": prediction_set(prediction),
        "thresholds": thresholds(prediction),
        "calibration": calibration(prediction.calibration),
        "similar_cases": similar_cases(report),
        "filtered": filtered(report),
        "left_out": left_out(report),
        "no_matches": no_matches(report),
        "novelty": novelty(report),
        "shared_descriptors": [shared_descriptor(each) for each in report.shared_descriptors],
        "region": None if report.region is None else region(report.region),
        "crop": None if report.crop is None else crop(report.crop),
        "lesion": None if report.lesion is None else lesion(report.lesion),
        "refined": refined(report) if report.liked or report.disliked else None,
    }


def percent(probability: float) -> str:
    """A probability as a whole percentage: "87 %"; never rounded to certainty ("> 99 %", "< 1 %")."""
    if 0.0 < probability < 0.01:
        return "< 1 %"
    if 0.99 < probability < 1.0:
        return "> 99 %"
    return f"{probability * 100:.0f} %"


def join_or(names: Iterable[str]) -> str:
    """Names as a choice: "a", "a or b", "a, b or c"."""
    listed = list(names)
    return " or ".join([", ".join(listed[:-1]), listed[-1]]) if len(listed) > 1 else "".join(listed)


def point_name(point: OperatingPoint) -> str:
    """An operating point's name in words: "98 %-sensitivity threshold"."""
    rate, _, value = point.name.partition("_")
    return f"{value} %-{rate} threshold"


def headline(prediction: Prediction) -> str:
    """The first sentence of every report: the likelihood of malignancy, compared with the bundle's thresholds.

    As in "Likelihood of malignancy 15 %, above the 98 %-sensitivity threshold (11 %): malignancy is not ruled out."
    """
    likelihood, point = prediction.likelihood_of_malignancy, prediction.rule_out
    if prediction.out_of_distribution:
        return "No prediction: this image is unlike the scans that the network was trained on."
    if likelihood is None:
        return f"{likeliest(prediction)} This bundle has no class malignant."
    if point is None:
        caveat = "" if prediction.likeliest == MALIGNANT else ": malignancy is not ruled out"
        return f"Likelihood of malignancy {percent(likelihood)}, and this bundle has no threshold{caveat}."
    if likelihood < point.threshold:
        return f"Likelihood of malignancy {compared(likelihood, point)}."
    if prediction.likeliest != MALIGNANT:
        return f"Likelihood of malignancy {compared(likelihood, point)}: malignancy is not ruled out."
    reached = [each for each in prediction.operating_points if likelihood >= each.threshold]
    highest = max(reached, key=lambda each: each.threshold)
    return f"Likelihood of malignancy {compared(likelihood, highest)}."


def compared(likelihood: float, point: OperatingPoint) -> str:
    """A likelihood compared with a threshold: "15 %, above the 98 %-sensitivity threshold (11 %)"."""
    where = "at" if likelihood == point.threshold else "below" if likelihood < point.threshold else "above"
    shown, threshold = distinct_percents(likelihood, point.threshold)
    return f"{shown}, {where} the {point_name(point)} ({threshold})"


def distinct_percents(one: float, other: float) -> tuple[str, str]:
    """Two probabilities as percentages, with decimals where the whole numbers would look equal."""
    shown = percent(one), percent(other)
    for digits in range(1, 5):
        if shown[0] != shown[1] or one == other:
            break
        shown = f"{one * 100:.{digits}f} %", f"{other * 100:.{digits}f} %"
    return shown


def display_class(prediction: Prediction) -> str:
    """The class whose symbol and colour a headline has.

    "unsure" where no class is given, or where the likeliest class and the threshold of 98 % sensitivity disagree.
    """
    if prediction.label is None or (prediction.not_ruled_out and prediction.label != MALIGNANT):
        return "unsure"
    return prediction.label


def short_headline(prediction: Prediction) -> str:
    """The prediction in a table's cell: "malignancy 3 %, likeliest benign" or "malignancy 40 %, not sure".

    "malignancy 15 %, not ruled out, likeliest benign" where class and threshold disagree.
    """
    if prediction.out_of_distribution:
        return "no prediction: unlike the training scans"
    likelihood = prediction.likelihood_of_malignancy
    named = "not sure" if prediction.label is None else f"likeliest {prediction.label}"
    if prediction.not_ruled_out and prediction.label not in (None, MALIGNANT):
        named = f"not ruled out, {named}"
    return named if likelihood is None else f"malignancy {percent(likelihood)}, {named}"


def likeliest(prediction: Prediction) -> str:
    """The likeliest class: "Likeliest class: benign, 80 %.", or that no class is given."""
    top = prediction.likeliest
    share = percent(prediction.probabilities[top])
    if prediction.out_of_distribution:
        return f"No class is given. The network's likeliest class is {top} ({share}); do not rely on it."
    if prediction.label is None:
        named = sorted(prediction.probabilities, key=lambda name: -prediction.probabilities[name])[:2]
        if prediction.not_ruled_out and MALIGNANT not in named:
            named.append(MALIGNANT)  # else malignancy would seem ruled out
        return f"Not sure: {join_or(f'{name} ({percent(prediction.probabilities[name])})' for name in named)}."
    return f"Likeliest class: {top}, {share}."


def prediction_set(prediction: Prediction) -> str:
    """The conformal set: "Prediction set at 90 % coverage: benign, malignant."."""
    return f"Prediction set at {percent(prediction.coverage)} coverage: {', '.join(prediction.prediction_set)}."


def thresholds(prediction: Prediction) -> str:
    """The operating points and what they were fitted on; "" where the bundle has none."""
    if not prediction.operating_points:
        return ""
    listed = ", ".join(f"{point_name(point)} {percent(point.threshold)}" for point in prediction.operating_points)
    fitted = (
        f" They were fitted on {prediction.fitted_on}; in other hospitals they shift." if prediction.fitted_on else ""
    )
    return f"Operating points: {listed}.{fitted}"


def calibration(source: CalibrationSource) -> str:
    """Whose cases the probabilities are calibrated on.

    "Calibration of the bundle.", or "Calibrated on 312 cases of this archive, 2026-11-28.".
    """
    if source.cases is None:
        return "Calibration of the bundle."
    named = [f"{value} %-{rate}" for rate, _, value in (name.partition("_") for name in source.bundle_points)]
    one = len(named) == 1
    which = f"{named[0]} threshold: it is" if one else f"thresholds {', '.join(named)}: they are"
    unfitted = f" Too few cases for the {which} the bundle's." if named else ""
    return f"Calibrated on {source.cases} cases of this archive, {source.fitted}.{unfitted}"


def list_counts(labels: Mapping[str, int]) -> str:
    """Labels with their counts: "7 benign, 3 malignant"."""
    return ", ".join(f"{count} {name}" for name, count in labels.items())


def similar_cases(report: Report) -> str:
    """The reference labels of the independent similar cases, whatever is listed.

    As in "7 of 10 independent similar cases are benign, 3 malignant.".
    """
    if report.gallery_id is None:
        return "No archive was searched."
    counts = report.similar_cases
    if not counts.total and report.matches:
        return "No independent similar case: the nearest scans of the archive are this scan or copies of it."
    if not counts.total:
        return "No similar case was found or requested."
    of = " of the whole scan" if report.region is not None or report.liked or report.disliked else ""
    if counts.total == 1:
        return f"The one independent similar case{of} is {next(iter(counts.labels))}."
    (top, count), *others = counts.labels.items()
    rest = "".join(f", {each} {name}" for name, each in others)
    return f"{count} of {counts.total} independent similar cases{of} {'is' if count == 1 else 'are'} {top}{rest}."


def filtered(report: Report) -> str:
    """What a filter shows and hides: "Filtered: 7 of 7 shown are malignant. The filter hides 3 of … (3 benign)."."""
    if report.where is None or report.hidden is None:
        return ""
    shown = LabelCounts(labels={m.label: sum(o.label == m.label for o in report.matches) for m in report.matches})
    shares = "none is shown"
    if shown.total:
        top, count = next(iter(shown.labels.items()))
        shares = f"{count} of {shown.total} shown {'is' if count == 1 else 'are'} {top}"
    hidden = report.hidden
    if not hidden.total:
        return f"Filtered: {shares}. The filter hides none of the most similar cases."
    most_similar = f"{hidden.total} of the {report.similar_cases.total} most similar"
    return f"Filtered: {shares}. The filter hides {most_similar} ({list_counts(hidden.labels)})."


def no_matches(report: Report) -> str:
    """Why there are no matches; "" where there are some."""
    if report.matches:
        return ""
    reasons = [each.text for each in report.warnings if each.code == "no_matches"]
    return reasons[0] if reasons else "None was requested."


def left_out(report: Report) -> str:
    """Which scans were left out of the search, and why; "" where none were."""
    out = report.left_out
    if out is None or not out.excluded:
        return ""
    reasons = (
        (out.same_scan, "this scan itself" if out.same_scan == 1 else f"{out.same_scan} copies of this scan"),
        (out.same_patient, f"{out.same_patient:,} of the same patient"),
        (out.same_group, f"{out.same_group:,} of the same group"),
    )
    named = ", ".join(text for count, text in reasons if count)
    return f"Left out of the search: {out.excluded:,} of the archive's {out.scans:,} scans ({named})."


def novelty(report: Report) -> str:
    """How far the scan is from those of the archive."""
    if report.gallery_id is None:
        return "Not known: no archive was searched."
    if report.novelty is None:
        out = report.left_out
        if out is not None and out.scans and out.excluded >= out.scans:
            return "Not known: every scan of the archive was left out."
        return "Not known: the archive holds too few scans to compare with."
    if report.novelty >= UNLIKE_ANYTHING:
        level = "unlike anything in the archive"
    elif report.novelty >= UNUSUAL:
        level = "unusual for the archive"
    else:
        level = "typical of the archive"
    return f"{level.capitalize()} (novelty percentile {whole_percentile(report.novelty)})."


def whole_percentile(percentile: float) -> int:
    """A percentile without decimals, rounded down: 98.6 is below 99, where the wording changes."""
    return int(percentile)


def evidence_title(method: str, target: str, report: Report) -> str:
    """What a heatmap shows: "Evidence for malignant", "Similarity to match 2"."""
    kind, _, scan_id = target.partition(":")
    if kind == "match" and scan_id:
        ranks = [match.rank for match in report.matches if match.scan_id == scan_id]
        title = f"Similarity to match {ranks[0]}" if ranks else f"Similarity to scan {scan_id[:12]}"
        return title if method == "pair_evidence" else f"{title} ({method})"
    return f"Evidence for {target}" if method == "class_evidence" else f"Evidence for {target} ({method})"


def unit(target: str) -> str:
    """What a heatmap's numbers are parts of: of a class its logit, of a match the cosine."""
    return "cosine similarity" if ":" in target else f"logit of {target}"


def shared_descriptor(shared: SharedDescriptor) -> str:
    """As in "margin: 7 of 10 spiculated, 12 % in the archive"."""
    return (
        f"{shared.feature}: {shared.matches} of {shared.described} {shared.descriptor}, "
        f"{percent(shared.share)} in the archive"
    )


def contour(outline: Contour) -> str:
    """The size of the outlined evidence, as an estimate; in millimetres only where the spacing is known."""
    if outline.longest_mm is None or outline.shortest_mm is None or outline.area_mm2 is None:
        return "The evidence is outlined. The pixel size is not known: nothing can be measured."
    shape = "taller than wide" if outline.taller_than_wide else "not taller than wide"
    return (
        f"The evidence spans about {outline.longest_mm:.0f} × {outline.shortest_mm:.0f} mm "
        f"({outline.area_mm2:.0f} mm²), {shape}, {outline.depth_mm:.0f} mm below the top of the scan: "
        "an estimate, not a measurement."
    )


def region(box: Box) -> str:
    """A box on the scan: "rows 120 to 310, columns 80 to 400 of the scan"."""
    return f"rows {box.top:g} to {box.bottom:g}, columns {box.left:g} to {box.right:g} of the scan"


def crop(box: Box) -> str:
    """The scan area that the reader set: "drawn by the reader: rows 20 to 400, columns 60 to 520 of the scan"."""
    return f"drawn by the reader: {region(box)}"


def lesion(box: Box) -> str:
    """That the reader marked the lesion: "Read with the reader's mark: rows 120 to 310, columns …"."""
    return f"Read with the reader's mark: {region(box)}."


def refined(report: Report) -> str:
    """How examples moved the search: "towards 2 liked, away from 1 disliked scan of the archive"."""
    steps = [
        f"{direction} {len(scans)} {kind}"
        for direction, scans, kind in (("towards", report.liked, "liked"), ("away from", report.disliked, "disliked"))
        if scans
    ]
    return f"{', '.join(steps)} {'scan' if len(report.liked) + len(report.disliked) == 1 else 'scans'} of the archive"


def size(scan: Scan) -> str:
    """Extent of the scan: "562 × 471 pixels, 56 × 47 mm"."""
    height, width = scan.shape
    if scan.spacing_mm is None:
        return f"{width} × {height} pixels"
    return f"{width} × {height} pixels, {width * scan.spacing_mm[1]:.3g} × {height * scan.spacing_mm[0]:.3g} mm"


def name(scan: Scan) -> str:
    """The scan's source and, of a file with several frames, which one: "exam.dcm, frame 12 of 40"."""
    source = scan.source or "unnamed scan"
    if scan.frame is None:
        return source
    of = "" if scan.frames is None else f" of {scan.frames}"
    return f"{source}, frame {scan.frame + 1}{of}"


def details(scan: Scan) -> str:
    """Extent, breast and view: "562 × 471 pixels, 56 × 47 mm, left breast, view l"."""
    side = f", {scan.laterality} breast" if scan.laterality else ""
    return f"{size(scan)}{side}{f', view {scan.view}' if scan.view else ''}"


def grouped(match: Match) -> str:
    """Scans that a match stands for: "2 near-duplicates, 1 more of the patient"; "" where there are none."""
    copies = f"{match.near_duplicates} near-duplicate{'' if match.near_duplicates == 1 else 's'}"
    others = f"{match.same_patient} more of the patient"
    return ", ".join(text for count, text in ((match.near_duplicates, copies), (match.same_patient, others)) if count)


def reference(label: str, histology: str | None) -> str:
    """A case's reference standard: "malignant, pathology-proven" where a histology is stated, else the label."""
    return f"{label}, pathology-proven" if histology else label


def colour_scale(smallest: float, *, of_all_views: bool = False) -> str:
    """How to read a heatmap's colours.

    Args:
        smallest: value that full colour stands for at least, `pictures.smallest_scale`.
        of_all_views: whether several views share the scale.
    """
    where = " of all views" if of_all_views else ""
    return (
        "Colour shows the evidence per 1 % of the scan's area. Full colour is the strongest "
        f"place{where}, but at least {smallest:g}: weak evidence stays faint."
    )


def signed(number: float, *, digits: int = 3) -> str:
    """A number with its sign, a true minus, and no negative zero."""
    text = f"{number:+.{digits}f}"
    return text.replace("-", "−") if float(text) else text.lstrip("+-")


def sentence(text: str) -> str:
    """Upper case first, full stop last."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
