"""A report for a terminal or a log: plain text without control characters."""

from __future__ import annotations

from sonoseek.core import Match, Report
from sonoseek.reports import phrases, warnings

SYMBOLS = {"normal": "○", "benign": "■", "malignant": "▲"}
_HEADINGS = ("rank", "similarity", "reference", "BI-RADS", "device", "case")
_RIGHT = {"rank", "similarity"}
_WIDEST = 48
_LONGEST = 2000
_MOST_DESCRIPTORS = 4
"""Shared descriptors to list."""


def render_text(report: Report) -> str:
    """Write `report` as plain text, ending in a newline.

    Control characters are shown as "?", and long fields are cut: they come from the archive.
    """
    shares = ", ".join(f"{name} {phrases.percent(value)}" for name, value in report.prediction.probabilities.items())
    leading, others = warnings.leading(report.warnings)
    texts = phrases.texts(report)
    rows = [
        ("Prediction", texts["headline"]),
        ("", texts["lesion"]),
        *[("", f"! {_plain(text, widest=1000)}") for text in leading],
        ("", f"{texts['likeliest']} ({shares})"),
        ("", texts["prediction_set"]),
        ("Thresholds", texts["thresholds"]),
        ("Calibration", texts["calibration"]),
        ("Similar", texts["similar_cases"]),
        ("", texts["filtered"]),
        ("", texts["left_out"]),
        ("Novelty", texts["novelty"]),
        ("Scan", f"{_plain(phrases.name(report.scan), widest=200)}, {phrases.details(report.scan)}"),
    ]
    for number, shared in enumerate(texts["shared_descriptors"][:_MOST_DESCRIPTORS]):
        rows.append(("Descriptors" if number == 0 else "", _plain(shared, widest=200)))
    if report.contour is not None and report.contour.longest_mm is not None:
        rows.append(("Outline", phrases.contour(report.contour)))
    for number, view in enumerate(report.views, start=2):
        mark = "" if view.lesion is None else f" {phrases.lesion(view.lesion)}"
        text = f"{phrases.headline(view.prediction)}{mark} {phrases.name(view.scan)}, {phrases.details(view.scan)}"
        rows.append((f"View {number}", _plain(text, widest=300)))
    rows += [("Scan area", texts["crop"]), ("Region", texts["region"]), ("Refined", texts["refined"])]
    rows += [("Filter", _plain(report.where or "", widest=500))]
    rows += [
        ("Warnings" if number == 0 else "", f"- {_plain(text, widest=1000)}") for number, text in enumerate(others)
    ]
    lines = [f"{head:<12}{body}" for head, body in rows if body]
    if report.matches:
        lines += ["", *_table(report.matches)]
    lines += [
        "",
        f"sonoseek {report.version}, bundle {report.bundle_id}, gallery {report.gallery_id or 'none'}, "
        f"{report.created:%Y-%m-%d %H:%M:%S %Z}",
        phrases.sentence(report.disclaimer),
    ]
    return "".join(_plain(line, widest=_LONGEST) + "\n" for line in lines)


def _table(matches: tuple[Match, ...]) -> list[str]:
    """Lines of the table of matches."""
    cells = [
        (
            str(match.rank),
            f"{match.similarity:.3f}",
            f"{SYMBOLS.get(match.label, '?')} {_plain(match.label)}",
            _plain(match.birads or "-"),
            _plain(match.device or "-"),
            _plain(f"{match.dataset}/{match.case_id}")
            + (f"  ({grouped})" if (grouped := phrases.grouped(match)) else ""),
        )
        for match in matches
    ]
    widths = [max(len(row[index]) for row in (_HEADINGS, *cells)) for index in range(len(_HEADINGS))]
    lines = []
    for row in (_HEADINGS, tuple("-" * size for size in widths), *cells):
        parts = (
            text.rjust(size) if head in _RIGHT else text.ljust(size)
            for text, size, head in zip(row, widths, _HEADINGS, strict=True)
        )
        lines.append("  ".join(parts).rstrip())
    return lines


def _plain(text: str, *, widest: int = _WIDEST) -> str:
    """`text` on one line, printable, at most `widest` characters."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    return shown if len(shown) <= widest else shown[: widest - 1] + "…"
