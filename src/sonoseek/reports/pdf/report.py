"""A report as PDF: A4 pages, each with the disclaimer.

Every external text goes through `layout.paragraph`: no markup, no control characters, no missing glyph.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC

import numpy as np
from reportlab.lib.colors import Color
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, KeepTogether, Spacer, Table

from sonoseek.core import Explanation, Match, Report, Scan, View
from sonoseek.reports import phrases, pictures, warnings
from sonoseek.reports.html import likelihood_scale
from sonoseek.reports.pdf import drawing, layout
from sonoseek.reports.pdf.cards import Card, card_grid

GAP = 6 * mm
HALF = (layout.WIDTH - GAP) / 2
"""Two images side by side, `GAP` points apart."""
PICTURE = (HALF, 66 * mm)
PAIR = (HALF, 54 * mm)
NO_PADDING = [
    ("LEFTPADDING", (0, 0), (-1, -1), 0),
    ("RIGHTPADDING", (0, 0), (-1, -1), 0),
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
]


def render_pdf(report: Report, *, rank: int | None = None) -> bytes:
    """See `sonoseek.reports.render_pdf`. The metadata hold sonoseek and its version, no scan and no file name."""
    story = [*_prediction(report), *_images(report), *_details(report), *_other_warnings(report), *_views(report)]
    if rank is not None:
        story += _pair(report, rank)
    story += _similar_cases(report)
    if any(layout.has_missing_glyphs(text) for text in _external_texts(report)):
        story.append(Spacer(0, 6))
        story.append(layout.paragraph(MISSING_GLYPHS, layout.FINE_PRINT, widest=400))
    return layout.build_document(
        story,
        title="sonoseek report",
        author=f"sonoseek {report.version}",
        subject=phrases.sentence(report.disclaimer),
        head=f"report on one breast ultrasound scan · created {report.created.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        foot=(
            phrases.sentence(report.disclaimer),
            f"bundle {layout.sanitize(report.bundle_id, widest=64)} · "
            f"gallery {layout.sanitize(report.gallery_id or 'none', widest=64)} · "
            f"sonoseek {layout.sanitize(report.version, widest=24)}",
        ),
    )


MISSING_GLYPHS = "A “?” may stand for a character that this document's font lacks; the HTML report shows it."


def _external_texts(report: Report) -> Iterator[str]:
    """External texts, whose characters the font may lack."""
    yield from (each.text for each in report.warnings)
    yield from (report.scan.source or "", report.where or "", report.bundle_id, report.gallery_id or "")
    yield from (view.scan.source or "" for view in report.views)
    yield from (each.descriptor for each in report.shared_descriptors)
    for match in report.matches:
        yield from (match.label, match.dataset, match.case_id, match.histology or "", match.device or "")
        yield from (match.birads or "", *(descriptor for _, descriptor in match.descriptors))


def _prediction(report: Report) -> list[Flowable]:
    """The headline, the leading warnings, the likelihood of malignancy on its scale, and the probabilities."""
    prediction = report.prediction
    headline = layout.paragraph(phrases.headline(prediction), layout.HEADLINE, bold=True)
    head = Table(
        [[drawing.class_symbol(phrases.display_class(prediction), 15), headline]], colWidths=[22, layout.WIDTH - 22]
    )
    head.setStyle([*NO_PADDING, ("VALIGN", (0, 0), (-1, -1), "MIDDLE"), ("BOTTOMPADDING", (0, 0), (-1, -1), 5)])
    leading, _ = warnings.leading(report.warnings)
    left: list[Flowable] = [
        layout.paragraph(phrases.likeliest(prediction)),
        Spacer(0, 3),
        drawing.probability_bars(prediction, width=HALF),
    ]
    scale = likelihood_scale(prediction)
    right: list[Flowable] = [] if scale is None else [drawing.likelihood_scale(scale, width=HALF), Spacer(0, 3)]
    sentences = (phrases.similar_cases(report), phrases.filtered(report), phrases.prediction_set(prediction))
    right += [layout.paragraph(text, layout.BODY_MUTED) for text in sentences if text]
    body = Table([[left, "", right]], colWidths=[HALF, GAP, HALF])
    body.setStyle([*NO_PADDING, ("BOTTOMPADDING", (0, 0), (-1, -1), 8)])
    mark = [] if report.lesion is None else [layout.paragraph(phrases.lesion(report.lesion)), Spacer(0, 5)]
    return [head, *mark, *_boxed(leading, rule=layout.CLASS_COLOURS["malignant"]), body]


def _images(report: Report) -> list[Flowable]:
    """The scan, the scan with the evidence for the prediction, and the colour scale."""
    scan = report.scan
    drawn = [
        (box, colour, name)
        for box, colour, name in (
            (report.lesion, drawing.LESION_COLOUR, "the reader's mark"),
            (report.region, drawing.REGION_COLOUR, "the search region"),
        )
        if box is not None
    ]
    pixels = drawing.draw_boxes(scan.pixels, [(box, colour) for box, colour, _ in drawn]) if drawn else scan.pixels
    plain = _picture(pixels, scan)
    caption = f"The scan, with {' and '.join(name for *_, name in drawn)}" if drawn else "The scan"
    if not report.explanations:
        missing = drawing.placeholder("no heatmap was requested", size=PICTURE)
        return [KeepTogether(_side_by_side([(plain, caption), (missing, "")], scan=scan))]
    evidence = report.explanations[0]
    reference = pictures.shared_reference(report, evidence)
    title = phrases.evidence_title(evidence.method, evidence.target, report)
    peak = float(abs(evidence.heatmap).max(initial=0.0)) * evidence.heatmap.size / pictures.PARTS
    if peak < 0.1 * reference:
        title += ": almost none on this scan"
    if report.contour is not None:
        title += "; dashed: its outline, an estimate"
    heat = drawing.heatmap_overlay(scan.pixels, evidence, reference=reference, contour=report.contour)
    shown = [(plain, caption), (_picture(heat, scan), title)]
    scale = drawing.colour_scale(reference=reference, unit=phrases.unit(evidence.target), width=layout.WIDTH)
    legend = phrases.colour_scale(pictures.smallest_scale(evidence), of_all_views=bool(report.views))
    explained = layout.paragraph(legend, layout.FINE_PRINT, widest=400)
    return [KeepTogether([*_side_by_side(shown, scan=scan), Spacer(0, 5), *scale, explained])]


def _picture(pixels: drawing.Pixels, scan: Scan, *, size: tuple[float, float] = PICTURE) -> Flowable:
    aspect = pictures.display_aspect(scan.shape, scan.spacing_mm)
    return drawing.picture(pixels, aspect=aspect, size=size, longest=drawing.PRINTED_SIDE)


def _side_by_side(shown: Sequence[tuple[Flowable, str]], *, scan: Scan | None = None) -> list[Flowable]:
    """Two images and their captions; below the first a scale bar, where `scan`'s spacing is known."""
    (left, left_caption), (right, right_caption) = shown
    captions: list[list[Flowable]] = [
        [layout.paragraph(text, layout.SMALL)] if text else [] for text in (left_caption, right_caption)
    ]
    bar = None if scan is None else pictures.scale_bar(scan.shape[1], scan.spacing_mm)
    if bar is not None:
        captions[0].append(drawing.scale_bar(bar.label, length=left.drawWidth * bar.share))
    table = Table([[left, "", right], [captions[0], "", captions[1]]], colWidths=[HALF, GAP, HALF])
    table.setStyle([*NO_PADDING, ("TOPPADDING", (0, 0), (-1, -1), 2), ("BOTTOMPADDING", (0, 0), (-1, -1), 2)])
    return [table]


def _details(report: Report) -> list[Flowable]:
    """Further results, as terms and texts."""
    scan, contour = report.scan, report.contour
    shared = [phrases.shared_descriptor(each) for each in report.shared_descriptors[:6]]
    rows = [
        ("Left out", [text] if (text := phrases.left_out(report)) else []),
        ("Novelty", [phrases.novelty(report)]),
        ("Calibration", [phrases.calibration(report.prediction.calibration)]),
        ("Thresholds", [text] if (text := phrases.thresholds(report.prediction)) else []),
        ("Descriptors", ["Shared by several of these cases, as described by readers:", *shared] if shared else []),
        ("Outline", [] if contour is None or contour.longest_mm is None else [phrases.contour(contour)]),
        ("Scan area", [] if report.crop is None else [phrases.crop(report.crop)]),
        ("Region", [] if report.region is None else [f"the search used {phrases.region(report.region)} alone"]),
        ("Refined", [phrases.refined(report)] if report.liked or report.disliked else []),
        ("Filter", [] if report.where is None else [report.where]),
        ("Scan", [f"{layout.sanitize(phrases.name(scan), widest=160)}, {phrases.details(scan)}"]),
        ("Scan id", [f"{report.scan_id[:16]}…"]),
    ]
    # One row per line: a page break may fall within a term with many lines.
    cells = [
        [layout.paragraph("" if number else term, layout.BODY_MUTED), layout.paragraph(line, widest=500)]
        for term, lines in rows
        for number, line in enumerate(lines)
    ]
    table = Table(cells, colWidths=[58, layout.WIDTH - 58])
    table.setStyle([*NO_PADDING, ("TOPPADDING", (0, 0), (-1, -1), 1.2), ("BOTTOMPADDING", (0, 0), (-1, -1), 1.2)])
    return [Spacer(0, 8), table]


def _other_warnings(report: Report) -> list[Flowable]:
    """The warnings that are not below the headline."""
    leading, others = warnings.leading(report.warnings)
    title = "Further warnings" if leading else "Warnings"
    return [Spacer(0, 9), *_boxed(others, title=title, rule=layout.ACCENT)] if others else []


def _boxed(texts: Sequence[str], *, rule: Color, title: str = "") -> list[Flowable]:
    """Sentences in a box with a coloured rule on its left."""
    if not texts:
        return []
    rows = [[layout.paragraph(title, bold=True)]] if title else []
    rows += [[layout.paragraph(text, widest=1000)] for text in texts]
    table = Table(rows, colWidths=[layout.WIDTH])
    table.setStyle(
        [
            ("LINEBEFORE", (0, 0), (0, -1), 2.2, rule),
            ("BOX", (0, 0), (-1, -1), 0.5, layout.RULE),
            ("NOSPLIT", (0, 0), (0, min(1, len(rows) - 1))),  # no page break after the title
            ("LEFTPADDING", (0, 0), (-1, -1), 9),
            ("TOPPADDING", (0, 0), (-1, -1), 2),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5),
        ]
    )
    return [table, Spacer(0, 7)]


def _views(report: Report) -> list[Flowable]:
    """The other views of the lesion, each with its heatmap and its own prediction."""
    if not report.views:
        return []
    cards = [_view(view, number, report) for number, view in enumerate(report.views, start=2)]
    heading = layout.heading(
        "Other views of the lesion", aside="each with its own prediction; same colour scale as above"
    )
    return [heading, *card_grid(cards)]


def _view(view: View, number: int, report: Report) -> Card:
    pixels: drawing.Pixels = view.scan.pixels
    for first in report.explanations[:1]:
        reference = pictures.shared_reference(report, first)
        for each in (each for at, _, each in pictures.on_all_views(report, first) if at == number):
            pixels = drawing.heatmap_overlay(view.scan.pixels, each, reference=reference)
    shares = ", ".join(f"{name} {phrases.percent(share)}" for name, share in view.prediction.probabilities.items())
    return Card(
        number=number,
        picture=drawing.picture(
            pixels,
            aspect=pictures.display_aspect(view.scan.shape, view.scan.spacing_mm),
            size=drawing.THUMBNAIL,
            longest=drawing.THUMBNAIL_SIDE,
        ),
        display_class=phrases.display_class(view.prediction),
        title=phrases.short_headline(view.prediction),
        lines=(f"alone: {shares}", *([] if view.lesion is None else [phrases.lesion(view.lesion)])),
        muted_lines=(phrases.name(view.scan), phrases.details(view.scan)),
    )


def _pair(report: Report, rank: int) -> list[Flowable]:
    """Why the scan and one match are similar: both heatmaps on one colour scale."""
    pair, match = report.pair(rank), report.matches[rank - 1]
    title = (
        f"Evidence for the similarity to match {rank} ({layout.sanitize(match.label, widest=40)}): {_similarity(match)}"
    )
    heading = layout.heading(title)
    if pair is None:
        return [
            heading,
            layout.paragraph("This pair was not explained: the report has no heatmap of it.", layout.BODY_MUTED),
        ]
    own, other = pair
    reference = pictures.shared_reference(report, own)
    views = pictures.on_all_views(report, own)
    place = f"{layout.sanitize(match.dataset, widest=40)} / {layout.sanitize(match.case_id, widest=70)}"
    scale = drawing.colour_scale(reference=reference, unit=phrases.unit(own.target), width=layout.WIDTH)
    evidence = "the archive stores no evidence of it" if other is None else "evidence for the similarity to this scan"
    shown: list[tuple[Flowable, str]] = []
    for number, scan, each in views:
        heat = drawing.heatmap_overlay(scan.pixels, each, reference=reference)
        part = phrases.signed(float(each.heatmap.sum(dtype=np.float64)), digits=3)
        caption = "This scan: evidence for" if len(views) == 1 else f"View {number}: {part} of"
        shown.append((_picture(heat, scan, size=PAIR), f"{caption} the similarity to match {rank}"))
    shown.append((_match_image(match, other, reference=reference), f"Match {rank} ({place}): {evidence}"))
    if len(shown) % 2:
        shown.append((Spacer(0, 0), ""))
    rows = [
        each
        for start in range(0, len(shown), 2)
        for each in _side_by_side(shown[start : start + 2], scan=views[start][1] if start < len(views) else None)
    ]
    return [KeepTogether([heading, *rows, Spacer(0, 5), *scale])]


def _match_image(match: Match, explanation: Explanation | None, *, reference: float) -> Flowable:
    """The match's image, with its heatmap where the archive stores its evidence."""
    picture = drawing.decode_grey(match.picture)
    if picture is None:
        return drawing.placeholder("no image stored", size=PAIR)
    height, width = picture.shape if explanation is None else explanation.shape
    drawn = picture if explanation is None else drawing.heatmap_overlay(picture, explanation, reference=reference)
    aspect = min(max(width / height, 0.1), 10.0)
    return drawing.picture(drawn, aspect=aspect, size=PAIR, longest=drawing.PRINTED_SIDE)


def _similar_cases(report: Report) -> list[Flowable]:
    """The matches as cards, two to a row."""
    if not report.matches:
        if report.gallery_id is None:
            return []
        return [
            layout.heading("Similar past cases"),
            layout.paragraph(phrases.no_matches(report), layout.BODY_MUTED, widest=1000),
        ]
    heading = layout.heading("Similar past cases", aside="with reference standard, most similar first")
    return [heading, *card_grid([_match(match) for match in report.matches])]


def _match(match: Match) -> Card:
    picture = drawing.decode_grey(match.picture)
    if picture is None:
        shown: Flowable = drawing.placeholder("no image stored", size=drawing.THUMBNAIL)
    else:
        aspect = min(max(picture.shape[1] / picture.shape[0], 0.1), 10.0)
        shown = drawing.picture(picture, aspect=aspect, size=drawing.THUMBNAIL, longest=drawing.THUMBNAIL_SIDE)
    descriptors = ", ".join(layout.sanitize(descriptor, widest=40) for _, descriptor in match.descriptors[:6])
    birads = f" · BI-RADS {match.birads}" if match.birads else ""
    return Card(
        number=match.rank,
        picture=shown,
        display_class=match.label,
        title=phrases.reference(match.label, match.histology),
        similarity=match.similarity,
        lines=(f"similarity {_similarity(match)}{birads}", descriptors, match.histology or ""),
        muted_lines=(
            f"{layout.sanitize(match.dataset, widest=30)} / {match.case_id}",
            match.device or "",
            phrases.grouped(match),
        ),
    )


def _similarity(match: Match) -> str:
    return phrases.signed(match.similarity, digits=3).lstrip("+")
