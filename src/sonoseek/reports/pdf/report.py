"""A report for paper: A4 pages in PDF, which say on each of them what they are not for.

Every text that comes from outside goes through `layout.said`: no markup, no control characters, no missing glyph.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC

from reportlab.lib.colors import Color
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, KeepTogether, Spacer, Table

from sonoseek.core import Explanation, Match, Report, Scan, View
from sonoseek.reports import phrases, pictures, warnings
from sonoseek.reports.html import likelihood_scale, scale_bar, stage
from sonoseek.reports.pdf import drawing, layout
from sonoseek.reports.pdf.cards import Card, grid

GAP = 6 * mm
HALF = (layout.WIDTH - GAP) / 2
"""Two pictures stand side by side, `GAP` points apart."""
PICTURE = (HALF, 66 * mm)
PAIR = (HALF, 54 * mm)
PLAIN = [
    ("LEFTPADDING", (0, 0), (-1, -1), 0),
    ("RIGHTPADDING", (0, 0), (-1, -1), 0),
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
]


def render_pdf(report: Report, *, rank: int | None = None) -> bytes:
    """Draw `report` on A4 pages, for print and for a record.

    Args:
        report: of `SearchEngine.query`.
        rank: of a match, 1-based: adds why the scan and that match are alike, on both pictures. None adds nothing.

    Returns:
        PDF. The same report gives the same bytes. Its metadata name sonoseek and its version, no scan and no file.

    Raises:
        InvalidValueError: no match has this rank.
    """
    story = [*_prediction(report), *_look(report), *_facts(report), *_notes(report), *_views(report)]
    if rank is not None:
        story += _pair(report, rank)
    story += _similar(report)
    if any(layout.lacks(text) for text in _foreign(report)):
        story.append(Spacer(0, 6))
        story.append(layout.said(LACKING, layout.FINE, widest=400))
    return layout.bind(
        story,
        title="sonoseek report",
        author=f"sonoseek {report.version}",
        subject=phrases.sentence(report.disclaimer),
        head=f"report on one breast ultrasound scan · created {report.created.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        foot=(
            phrases.sentence(report.disclaimer),
            f"bundle {layout.clean(report.bundle_id, widest=64)} · "
            f"gallery {layout.clean(report.gallery_id or 'none', widest=64)} · "
            f"sonoseek {layout.clean(report.version, widest=24)}",
        ),
    )


LACKING = "A “?” within a name may stand for a letter that this document's font lacks; the HTML report shows it."


def _foreign(report: Report) -> Iterator[str]:
    """Texts from outside, in which letters may be missing."""
    yield from (each.text for each in report.warnings)
    yield from (report.scan.source or "", report.where or "", report.bundle_id, report.gallery_id or "")
    yield from (view.scan.source or "" for view in report.views)
    yield from (each.descriptor for each in report.shared_descriptors)
    for match in report.matches:
        yield from (match.label, match.dataset, match.case_id, match.histology or "", match.device or "")
        yield from (match.birads or "", *(word for _, word in match.descriptors))


def _prediction(report: Report) -> list[Flowable]:
    """The headline, the heaviest warnings, the likelihood of malignancy on its scale, and the probabilities."""
    prediction = report.prediction
    headline = layout.said(phrases.headline(prediction), layout.HEADLINE, bold=True)
    head = Table([[drawing.mark(phrases.display_class(prediction), 15), headline]], colWidths=[22, layout.WIDTH - 22])
    head.setStyle([*PLAIN, ("VALIGN", (0, 0), (-1, -1), "MIDDLE"), ("BOTTOMPADDING", (0, 0), (-1, -1), 5)])
    heavy, _ = warnings.leading(report.warnings)
    left: list[Flowable] = [
        layout.said(phrases.likeliest(prediction)),
        Spacer(0, 3),
        drawing.bars(prediction, width=HALF),
    ]
    scale = likelihood_scale(prediction)
    right: list[Flowable] = [] if scale is None else [drawing.likelihood_scale(scale, width=HALF), Spacer(0, 3)]
    told = (phrases.similar_cases(report), phrases.filtered(report), phrases.prediction_set(prediction))
    right += [layout.said(text, layout.DIM) for text in told if text]
    body = Table([[left, "", right]], colWidths=[HALF, GAP, HALF])
    body.setStyle([*PLAIN, ("BOTTOMPADDING", (0, 0), (-1, -1), 8)])
    mark = [] if report.lesion is None else [layout.said(phrases.lesion(report.lesion)), Spacer(0, 5)]
    return [head, *mark, *_boxed(heavy, rule=layout.TONES["malignant"]), body]


def _look(report: Report) -> list[Flowable]:
    """The scan beside the scan with the prediction's evidence, and the scale of its colours."""
    scan = report.scan
    drawn = [
        (box, colour, name)
        for box, colour, name in (
            (report.lesion, drawing.MARK_COLOUR, "the reader's mark"),
            (report.region, drawing.REGION_COLOUR, "the region that was searched with"),
        )
        if box is not None
    ]
    pixels = drawing.outlined(scan.pixels, [(box, colour) for box, colour, _ in drawn]) if drawn else scan.pixels
    plain = _picture(pixels, scan)
    caption = f"The scan, with {' and '.join(name for *_, name in drawn)}" if drawn else "The scan"
    if not report.explanations:
        missing = drawing.blank("no heatmap was asked for", room=PICTURE)
        return [KeepTogether(_side_by_side([(plain, caption), (missing, "")], scan=scan))]
    evidence = report.explanations[0]
    reference = _reference(report)
    title = phrases.evidence_title(evidence.method, evidence.target, report)
    peak = float(abs(evidence.heatmap).max(initial=0.0)) * evidence.heatmap.size / pictures.PARTS
    if peak < 0.1 * reference:
        title += ": next to none on this scan"
    if report.contour is not None:
        title += "; dashed: its outline, an estimate"
    heat = drawing.heat_picture(scan.pixels, evidence, reference=reference, contour=report.contour)
    shown = [(plain, caption), (_picture(heat, scan), title)]
    scale = drawing.colour_scale(reference=reference, unit=_unit(evidence), width=layout.WIDTH)
    where = " of all views" if report.views else ""
    how = (
        "Colour: what a hundredth of the scan would add if all of it were like that place. "
        f"Full colour is the strongest place{where}, but never less than {pictures.floor(evidence):g}: weak "
        "evidence stays faint."
    )
    told = layout.said(how, layout.FINE, widest=400)
    return [KeepTogether([*_side_by_side(shown, scan=scan), Spacer(0, 5), *scale, told])]


def _reference(report: Report) -> float:
    """One scale for the prediction's evidence on the scan and on its other views."""
    first = report.explanations[0]
    views = [view.explanations[0] for view in report.views if view.explanations]
    return max(pictures.reference_of(each) for each in (first, *views) if each.target == first.target)


def _unit(evidence: Explanation) -> str:
    return "cosine similarity" if ":" in evidence.target else f"logit of {evidence.target}"


def _picture(pixels: drawing.Pixels, scan: Scan, *, room: tuple[float, float] = PICTURE) -> Flowable:
    return drawing.printed(pixels, aspect=stage(scan)["aspect"], room=room, longest=drawing.PRINTED_SIDE)


def _side_by_side(shown: Sequence[tuple[Flowable, str]], *, scan: Scan | None = None) -> list[Flowable]:
    """Two pictures and their captions; below the first a length, where `scan`'s spacing is known."""
    (left, left_said), (right, right_said) = shown
    captions: list[list[Flowable]] = [
        [layout.said(said, layout.SMALL)] if said else [] for said in (left_said, right_said)
    ]
    bar = None if scan is None else scale_bar(scan)
    if bar is not None:
        captions[0].append(drawing.ruler(bar.label, length=left.drawWidth * bar.percent / 100))
    table = Table([[left, "", right], [captions[0], "", captions[1]]], colWidths=[HALF, GAP, HALF])
    table.setStyle([*PLAIN, ("TOPPADDING", (0, 0), (-1, -1), 2), ("BOTTOMPADDING", (0, 0), (-1, -1), 2)])
    return [table]


def _facts(report: Report) -> list[Flowable]:
    """What else is known, as terms and their words."""
    scan = report.scan
    shared = [phrases.shared_descriptor(each) for each in report.shared_descriptors[:6]]
    rows = [
        ("Left out", [text] if (text := phrases.left_out(report)) else []),
        ("Novelty", [phrases.novelty(report)]),
        ("Calibration", [phrases.calibration(report.prediction.calibration)]),
        ("Thresholds", [text] if (text := phrases.thresholds(report.prediction)) else []),
        ("Descriptors", ["Readers wrote of these cases:", *shared] if shared else []),
        ("Outline", [] if report.contour is None else [phrases.contour(report.contour)]),
        ("Scan area", [] if report.crop is None else [phrases.crop(report.crop)]),
        ("Region", [] if report.region is None else [f"searched with {phrases.region(report.region)} alone"]),
        ("Refined", [phrases.refined(report)] if report.liked or report.disliked else []),
        ("Filter", [] if report.where is None else [report.where]),
        ("Scan", [f"{layout.clean(phrases.name(scan), widest=160)}, {phrases.details(scan)}"]),
        ("Scan id", [f"{report.scan_id[:16]}…"]),
    ]
    # One row a line: a page may end within a term whose lines are many and long.
    cells = [
        [layout.said("" if number else term, layout.DIM), layout.said(line, widest=500)]
        for term, lines in rows
        for number, line in enumerate(lines)
    ]
    table = Table(cells, colWidths=[58, layout.WIDTH - 58])
    table.setStyle([*PLAIN, ("TOPPADDING", (0, 0), (-1, -1), 1.2), ("BOTTOMPADDING", (0, 0), (-1, -1), 1.2)])
    return [Spacer(0, 8), table]


def _notes(report: Report) -> list[Flowable]:
    """The lighter warnings; the heavy ones stand below the headline."""
    _, lighter = warnings.leading(report.warnings)
    return [Spacer(0, 9), *_boxed(lighter, title="Notes", rule=layout.ACCENT)] if lighter else []


def _boxed(texts: Sequence[str], *, rule: Color, title: str = "") -> list[Flowable]:
    """Sentences in a box with a coloured rule on its left."""
    if not texts:
        return []
    rows = [[layout.said(title, bold=True)]] if title else []
    rows += [[layout.said(text, widest=1000)] for text in texts]
    table = Table(rows, colWidths=[layout.WIDTH])
    table.setStyle(
        [
            ("LINEBEFORE", (0, 0), (0, -1), 2.2, rule),
            ("BOX", (0, 0), (-1, -1), 0.5, layout.LINE),
            ("NOSPLIT", (0, 0), (0, min(1, len(rows) - 1))),  # a title never stands alone at a page's foot
            ("LEFTPADDING", (0, 0), (-1, -1), 9),
            ("TOPPADDING", (0, 0), (-1, -1), 2),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5),
        ]
    )
    return [table, Spacer(0, 7)]


def _views(report: Report) -> list[Flowable]:
    """The other scans of the lesion, each with its heatmap and what it shows alone."""
    if not report.views:
        return []
    cards = [_view(view, number, report) for number, view in enumerate(report.views, start=2)]
    heading = layout.heading(
        "Other views of the lesion", aside="asked about together with the scan, on its scale of colours"
    )
    return [heading, *grid(cards)]


def _view(view: View, number: int, report: Report) -> Card:
    pixels: drawing.Pixels = view.scan.pixels
    evidence = view.explanations[:1]
    if evidence and report.explanations and evidence[0].target == report.explanations[0].target:
        pixels = drawing.heat_picture(view.scan.pixels, evidence[0], reference=_reference(report))
    shares = ", ".join(f"{name} {phrases.percent(share)}" for name, share in view.prediction.probabilities.items())
    return Card(
        number=number,
        picture=drawing.printed(
            pixels, aspect=stage(view.scan)["aspect"], room=drawing.THUMB, longest=drawing.THUMB_SIDE
        ),
        tone=phrases.display_class(view.prediction),
        title=phrases.short_headline(view.prediction),
        lines=(f"alone: {shares}", *([] if view.lesion is None else [phrases.lesion(view.lesion)])),
        quiet=(phrases.name(view.scan), phrases.details(view.scan)),
    )


def _pair(report: Report, rank: int) -> list[Flowable]:
    """Why the scan and one match are alike: both maps on one scale."""
    pair, match = report.pair(rank), report.matches[rank - 1]
    title = (
        f"Why these two: the scan and match {rank} ({layout.clean(match.label, widest=40)}), "
        f"similarity {_similarity(match)}"
    )
    heading = layout.heading(title)
    if pair is None:
        return [heading, layout.said("This pair was not explained: the report carries no heatmap of it.", layout.DIM)]
    own, other = pair
    reference = max(pictures.reference_of(each) for each in (own, *([] if other is None else [other])))
    heat = drawing.heat_picture(report.scan.pixels, own, reference=reference)
    place = f"{layout.clean(match.dataset, widest=40)} / {layout.clean(match.case_id, widest=70)}"
    scale = drawing.colour_scale(reference=reference, unit=_unit(own), width=layout.WIDTH)
    why = "the archive keeps no evidence of it" if other is None else "where it is like this scan"
    shown = [
        (_picture(heat, report.scan, room=PAIR), f"This scan: where it is like match {rank}"),
        (_other_side(match, other, reference=reference), f"Match {rank} ({place}): {why}"),
    ]
    return [KeepTogether([heading, *_side_by_side(shown, scan=report.scan), Spacer(0, 5), *scale])]


def _other_side(match: Match, told: Explanation | None, *, reference: float) -> Flowable:
    """The match's picture, under its half of the pair where the archive keeps its evidence."""
    picture = drawing.grey_of(match.picture)
    if picture is None:
        return drawing.blank("no picture kept", room=PAIR)
    height, width = picture.shape if told is None else told.shape
    drawn = picture if told is None else drawing.heat_picture(picture, told, reference=reference)
    aspect = min(max(width / height, 0.1), 10.0)
    return drawing.printed(drawn, aspect=aspect, room=PAIR, longest=drawing.PRINTED_SIDE)


def _similar(report: Report) -> list[Flowable]:
    """The matches as cards, two to a row."""
    if not report.matches:
        if report.gallery_id is None:
            return []
        return [layout.heading("Similar past cases"), layout.said(phrases.no_matches(report), layout.DIM, widest=1000)]
    heading = layout.heading("Similar past cases", aside="with their reference standard, most similar first")
    return [heading, *grid([_match(match) for match in report.matches])]


def _match(match: Match) -> Card:
    picture = drawing.grey_of(match.picture)
    if picture is None:
        shown: Flowable = drawing.blank("no picture kept", room=drawing.THUMB)
    else:
        aspect = min(max(picture.shape[1] / picture.shape[0], 0.1), 10.0)
        shown = drawing.printed(picture, aspect=aspect, room=drawing.THUMB, longest=drawing.THUMB_SIDE)
    read = ", ".join(layout.clean(word, widest=40) for _, word in match.descriptors[:6])
    birads = f" · BI-RADS {match.birads}" if match.birads else ""
    return Card(
        number=match.rank,
        picture=shown,
        tone=match.label,
        title=phrases.reference(match.label, match.histology),
        share=match.similarity,
        lines=(f"similarity {_similarity(match)}{birads}", read, match.histology or ""),
        quiet=(
            f"{layout.clean(match.dataset, widest=30)} / {match.case_id}",
            match.device or "",
            phrases.behind(match),
        ),
    )


def _similarity(match: Match) -> str:
    return phrases.signed(match.similarity, digits=3).lstrip("+")
