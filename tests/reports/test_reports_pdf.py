"""The PDF report: valid, complete, robust and reproducible."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sonoseek.core import Box, InvalidValueError, OperatingPoint, Prediction, Report, ReportWarning, Scan, View
from sonoseek.reports import render_pdf, write_report
from sonoseek.reports.pdf.drawing import decode_grey
from sonoseek.reports.pdf.layout import has_missing_glyphs, sanitize

Build = Callable[..., Report]
needs_poppler = pytest.mark.skipif(shutil.which("pdftotext") is None, reason="pdftotext is not on the PATH")
SPECKLE = np.random.default_rng(5)


def pages_of(pdf: bytes) -> list[str]:
    """The text of each page."""
    done = subprocess.run(["pdftotext", "-layout", "-", "-"], input=pdf, capture_output=True, check=True, timeout=60)
    assert done.stderr == b""
    return done.stdout.decode("utf-8").split("\f")[:-1]


def text_of(pdf: bytes) -> str:
    """All text, on one line, so that a wrapped sentence is found."""
    return " ".join(" ".join(pages_of(pdf)).split())


def page_count(pdf: bytes) -> int:
    return len(re.findall(rb"/Type /Page\b", pdf))


def colours_of(pdf: bytes, tmp_path: Path) -> np.ndarray:
    """The first page as pixels."""
    (tmp_path / "r.pdf").write_bytes(pdf)
    command = ["pdftoppm", "-r", "50", "-png", "-singlefile", str(tmp_path / "r.pdf"), str(tmp_path / "page")]
    subprocess.run(command, check=True, timeout=60)
    return np.asarray(Image.open(tmp_path / "page.png").convert("RGB"))


def speckled(build_match: Callable[..., object], count: int) -> tuple[object, ...]:
    """Matches whose pictures compress as badly as kept ones ever do."""
    noise = [cv2.GaussianBlur(SPECKLE.integers(0, 255, (384, 512), np.uint8), (3, 3), 0) for _ in range(count)]
    pictures = [cv2.imencode(".jpg", each)[1].tobytes() for each in noise]
    return tuple(
        build_match(rank, picture=picture, similarity=1 - rank / 1000) for rank, picture in enumerate(pictures, start=1)
    )


def with_view(report: Report, build_explanation: Callable[..., object], *, source: str = "second.png") -> Report:
    shown = Prediction(
        probabilities={"normal": 0.1, "benign": 0.5, "malignant": 0.4},
        label=None,
        prediction_set=("benign", "malignant"),
        entropy=0.9,
    )
    scan = replace(report.scan, source=source)
    view = View(scan=scan, prediction=shown, explanations=(build_explanation(size=9.0),))
    return replace(report, views=(*report.views, view))


class TestTheFile:
    def test_it_is_a_pdf_with_its_own_metadata_and_no_names(self, build_report: Build) -> None:
        pdf = render_pdf(build_report())
        assert pdf.startswith(b"%PDF-1.")
        assert pdf.rstrip().endswith(b"%%EOF")
        assert b"/Title (sonoseek report)" in pdf
        assert b"/Author (sonoseek 0.1.0)" in pdf
        assert b"/Lang (en)" in pdf
        assert b"exam" not in pdf  # the scan's file name is on the page alone, which is compressed

    def test_the_same_report_gives_the_same_bytes(self, build_report: Build, build_pair: Callable) -> None:
        assert render_pdf(build_report()) == render_pdf(build_report())
        assert render_pdf(build_pair(build_report(), 2), rank=2) == render_pdf(build_pair(build_report(), 2), rank=2)
        other = build_report(created=datetime(2026, 3, 4, 7, 6, 7, tzinfo=timezone(timedelta(hours=2))))
        assert render_pdf(other) == render_pdf(build_report())  # one moment, whatever the clock's zone

    def test_the_font_is_embedded_in_both_weights(self, build_report: Build) -> None:
        pdf = render_pdf(build_report())
        assert len(set(re.findall(rb"BitstreamVeraSans-(?:Roman|Bold)", pdf))) == 2
        assert len(re.findall(rb"/FontFile2", pdf)) == 2

    def test_ten_matches_are_light(self, build_report: Build, build_match: Callable, build_pair: Callable) -> None:
        noise = cv2.GaussianBlur(SPECKLE.integers(0, 255, (120, 160), np.uint8), (3, 3), 0)
        report = build_report(matches=speckled(build_match, 10), scan=Scan(pixels=noise, spacing_mm=(0.2, 0.2)))
        assert len(render_pdf(build_pair(report, 3), rank=3)) < 1_500_000

    def test_a_large_scan_is_shrunk(self, build_report: Build, build_on_pixels: Callable) -> None:
        noise = cv2.GaussianBlur(SPECKLE.integers(0, 255, (1200, 1600), np.uint8), (5, 5), 0)
        report = build_report(
            scan=Scan(pixels=noise), explanations=(build_on_pixels(np.full((1200, 1600), 1e-6)),), contour=None
        )
        assert len(render_pdf(report)) < 1_500_000

    def test_a_suffix_leads_to_it(self, build_report: Build, tmp_path: Path) -> None:
        path = write_report(build_report(), tmp_path / "report.PDF")
        assert path.read_bytes() == render_pdf(build_report())
        assert [each.name for each in tmp_path.iterdir()] == ["report.PDF"]

    def test_reports_of_text_load_no_reportlab(self) -> None:
        code = (
            "import sys, sonoseek.reports as r; r.REPORTS.load('html'); r.REPORTS.load('text'); "
            "assert 'reportlab' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@needs_poppler
class TestContent:
    def test_prediction_similar_cases_and_origin(self, build_report: Build) -> None:
        text = text_of(render_pdf(build_report()))
        for part in (
            "Likelihood of malignancy 87 %, above the 90 %-specificity threshold (55 %).",
            "≥ 98 %-sensitivity threshold, 11 %",
            "Prediction set at 90 % coverage: malignant.",
            "of 5 independent similar cases are",
            "novelty percentile 37",
            "margin: 2 of 2 spiculated, 12 % in the archive",
            "about 12 × 6 mm (60 mm²)",
            "exam.png, 160 × 120 pixels, 32 × 24 mm",
            "birads >= '3'",
            "Burned-in text was painted over.",
            "Evidence for malignant",
            "logit of malignant per 1 % of the scan",
            "similarity 0.950 · BI-RADS 3",
            "invasive ductal carcinoma",
            "GE Logiq 7",
            "archive / case 3",
            "bundle first-0123456789ab · gallery 6a1f · sonoseek 0.1.0",
            "created 2026-03-04 05:06:07 UTC",
        ):
            assert part in text, part
        assert "Evidence for the similarity" not in text
        assert "font lacks" not in text

    def test_every_page_has_the_disclaimer_and_its_number(self, build_report: Build, build_match: Callable) -> None:
        pdf = render_pdf(build_report(matches=(), shared_descriptors=()))
        assert len(pages_of(pdf)) == page_count(pdf) == 1
        many = tuple(build_match(rank, similarity=1 - rank / 1000, picture=None) for rank in range(1, 41))
        pdf = render_pdf(build_report(matches=many))
        pages = pages_of(pdf)
        assert len(pages) == page_count(pdf) >= 3
        for number, page in enumerate(pages, start=1):
            assert "Research use only, not for diagnosis." in page
            assert f"page {number} of {len(pages)}" in page
            assert "first-0123456789ab" in page
            assert "6a1f" in page

    def test_no_card_is_split_or_lost(self, build_report: Build, build_match: Callable) -> None:
        many = tuple(
            build_match(rank, similarity=1 - rank / 1000, case_id=f"begin{rank}", device=f"end{rank}")
            for rank in range(1, 42)
        )
        pages = pages_of(render_pdf(build_report(matches=many)))
        for rank in range(1, 42):
            begins = [number for number, page in enumerate(pages) if re.search(rf"begin{rank}\b", page)]
            ends = [number for number, page in enumerate(pages) if re.search(rf"end{rank}\b", page)]
            assert begins == ends
            assert len(begins) == 1

    def test_not_sure_and_no_gallery(self, unsure_report: Report) -> None:
        text = text_of(render_pdf(unsure_report))
        assert "Not sure: benign (41 %) or malignant (39 %)." in text
        assert "almost none on this scan" in text
        assert "No archive was searched." in text
        assert "Similar past cases" not in text
        assert "gallery none" in text

    def test_a_gallery_without_a_match(self, build_report: Build) -> None:
        why = ReportWarning(severity="medium", code="no_matches", text="The filter passes none of 40 scans.")
        text = text_of(render_pdf(build_report(matches=(), shared_descriptors=(), warnings=(why,))))
        assert re.search(r"Similar past cases\s+The filter passes none of 40 scans\.", text)

    def test_without_heatmap_and_without_pictures(self, build_report: Build, build_match: Callable) -> None:
        report = build_report(matches=(build_match(1, picture=None),), explanations=(), contour=None)
        text = text_of(render_pdf(report))
        assert "no heatmap was requested" in text
        assert "no image stored" in text

    def test_the_readers_mark(self, build_report: Build, build_explanation: Callable, tmp_path: Path) -> None:
        box, view_box = Box(top=20, left=30, bottom=90, right=150), Box(top=1, left=2, bottom=33, right=44)
        plain = with_view(build_report(), build_explanation)
        marked = replace(plain, lesion=box, views=(replace(plain.views[0], lesion=view_box),))
        text = text_of(render_pdf(marked))
        assert "Read with the reader's mark: rows 20 to 90, columns 30 to 150 of the scan." in text
        assert "Read with the reader's mark: rows 1 to 33, columns 2 to 44 of the scan." in text
        assert "The scan, with the reader's mark" in text
        both = text_of(render_pdf(replace(marked, region=box)))
        assert "The scan, with the reader's mark and the search region" in both
        assert "reader's mark" not in text_of(render_pdf(plain))
        drawn, bare = (colours_of(render_pdf(each), tmp_path).astype(int) for each in (marked, plain))
        assert ((drawn[..., 2] - drawn[..., 0] > 40).sum()) > ((bare[..., 2] - bare[..., 0] > 40).sum())  # in blue

    def test_region_and_refinement(self, build_report: Build, tmp_path: Path) -> None:
        report = build_report(region=Box(top=20, left=30, bottom=90, right=150), liked=("a",), disliked=("b", "c"))
        text = text_of(render_pdf(report))
        assert "rows 20 to 90, columns 30 to 150" in text
        assert "towards 1 liked, away from 2 disliked scans" in text
        assert "with the search region" in text
        black = np.zeros((120, 160), np.uint8)
        plain = build_report(scan=Scan(pixels=black))
        with_box, without = (
            colours_of(render_pdf(replace(plain, region=box)), tmp_path) for box in (report.region, None)
        )
        left = (slice(60, 300), slice(36, 190))  # where the scan stands, at 50 dots to the inch
        assert (with_box[left] != without[left]).any()

    def test_other_views(self, build_report: Build, build_explanation: Callable) -> None:
        report = build_report()
        for source in ("second.png", "third.png"):
            report = with_view(report, build_explanation, source=source)
        text = text_of(render_pdf(report))
        assert "Other views of the lesion" in text
        assert "second.png" in text
        assert "third.png" in text
        assert "malignancy 40 %, not sure" in text
        assert "strongest place of all views" in text

    def test_a_view_with_another_target_keeps_off_the_scale(
        self, build_report: Build, build_explanation: Callable
    ) -> None:
        report = with_view(build_report(), build_explanation)
        other = replace(report.views[0], explanations=(build_explanation("benign", size=900.0),))
        scale = re.compile(r"for \+[0-9.]+")
        alone, both = (text_of(render_pdf(replace(report, views=views))) for views in ((), (other,)))
        assert scale.findall(alone) == scale.findall(both)
        assert scale.findall(alone) != scale.findall(text_of(render_pdf(report)))

    def test_a_pair_is_drawn_on_every_view_with_its_part(
        self, build_report: Build, build_pair: Callable, build_explanation: Callable
    ) -> None:
        report = build_pair(with_view(build_report(), build_explanation), 2)
        target = f"match:{report.matches[1].scan_id}"
        on_second = build_explanation(target, method="pair_evidence")
        view = replace(report.views[0], explanations=(*report.views[0].explanations, on_second))
        text = text_of(render_pdf(replace(report, views=(view,)), rank=2))
        parts = [float(e.heatmap.sum()) for e in (*report.explanations, on_second) if e.target == target]
        for number, part in enumerate(parts, start=1):
            assert f"View {number}: {part:+.3f} of the similarity to match 2" in text
        assert "This scan: evidence for the similarity" not in text

    def test_evidence_for_a_similarity(self, build_report: Build, build_pair: Callable, build_match: Callable) -> None:
        report = build_pair(build_report(), 2)
        text = text_of(render_pdf(report, rank=2))
        assert "Evidence for the similarity to match 2 (normal): 0.900" in text
        assert "This scan: evidence for the similarity to match 2" in text
        assert "cosine similarity per 1 % of the scan" in text
        assert "This pair was not explained" in text_of(render_pdf(report, rank=1))
        kept = tuple(replace(match, explanation=None, picture=None) for match in report.matches)
        text = text_of(render_pdf(replace(report, matches=kept), rank=2))
        assert "the archive stores no evidence of it" in text

    def test_hostile_texts_are_escaped(self, hostile_report: Report) -> None:
        pdf = render_pdf(hostile_report, rank=1)
        text = text_of(pdf)
        assert "<script>alert(1)</script>" in text
        assert "&amp;" in text
        assert "{{7*7}}" in text
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "font lacks" in text
        assert b"/JavaScript" not in pdf
        assert b"/URI" not in pdf

    @pytest.mark.parametrize(
        "text",
        [
            "<para><b>unclosed <font size=900>",
            "<img src='/etc/passwd'/><a href='http://example.org'>x</a>",
            "\x00\x07\x1b[2J\ud800\ufffe",
            "😀 карцинома 浸潤性 אבג عربي \u202e\u2066",
            "x" * 5000,
            "W" * 5000,
            "wide word " * 500,
            "e\u0301" * 3000,
            "&#0; &lt; &nbsp; %s {0}",
            "",
            "\n\t \u00a0",
        ],
    )
    def test_any_text_anywhere(
        self, text: str, build_report: Build, build_match: Callable, build_pair: Callable
    ) -> None:
        report = build_report()
        fields = {"histology": text, "device": text, "birads": text, "dataset": text, "case_id": text, "group": text}
        matches = (build_match(1, **fields, label=text, descriptors=(("margin", text),) * 9), *report.matches[1:])
        hostile = build_report(
            scan=replace(report.scan, source=text),
            matches=matches,
            warnings=tuple(ReportWarning(severity="high", code="disagreement", text=text) for _ in range(3)),
            where=text,
            bundle_id=text,
            gallery_id=text,
            version=text,
            shared_descriptors=(replace(report.shared_descriptors[0], descriptor=text),) * 9,
        )
        pages = pages_of(render_pdf(build_pair(hostile, 1), rank=1))
        assert len(pages) < 6
        assert all("Research use only, not for diagnosis." in page for page in pages)

    def test_missing_glyphs_are_shown_and_explained(self, build_report: Build, build_match: Callable) -> None:
        report = build_report(matches=(build_match(1, histology="карцинома Łukaş e\u0301tat"),))
        text = text_of(render_pdf(report))
        assert "????????? Łukaş état" in text
        assert "font lacks" in text

    def test_warnings_that_fill_pages(self, build_report: Build) -> None:
        many = tuple(
            ReportWarning(severity=weight, code="region", text=f"Warning {number}: " + "word " * 180)
            for number, weight in enumerate(["high"] * 10 + ["low"] * 20)
        )
        text = text_of(render_pdf(build_report(warnings=many)))
        assert all(f"Warning {number}:" in text for number in range(30))


@pytest.mark.parametrize("rank", [0, -1, 6, 1000])
def test_an_invalid_rank(rank: int, build_report: Build) -> None:
    with pytest.raises(InvalidValueError, match=rf"rank is {rank}; the report has 5 matches"):
        render_pdf(build_report(), rank=rank)


def test_a_rank_without_matches(unsure_report: Report) -> None:
    with pytest.raises(InvalidValueError, match="0 matches"):
        render_pdf(unsure_report, rank=1)


@pytest.mark.skipif(shutil.which("pdftoppm") is None, reason="pdftoppm is not on the PATH")
@pytest.mark.parametrize(
    ("label", "colour"),
    [("malignant", (194, 87, 0)), ("benign", (13, 127, 120)), ("normal", (91, 107, 124)), (None, (20, 24, 28))],
)
def test_the_class_has_its_colour_and_the_page_is_white(
    label: str | None, colour: tuple[int, int, int], build_report: Build, tmp_path: Path
) -> None:
    shares = {"normal": 0.0, "benign": 0.0, "malignant": 0.0} | {label or "benign": 1.0}
    prediction = Prediction(
        probabilities=shares,
        label=label,
        prediction_set=tuple(n for n in [label] if n),
        entropy=0.0,
        operating_points=(OperatingPoint(name="sensitivity_98", threshold=0.1, sensitivity=1.0, specificity=0.5),),
    )
    page = colours_of(render_pdf(build_report(prediction=prediction)), tmp_path)
    assert (page[0, 0] == 255).all()
    head = page[40:62, 34:52].reshape(-1, 3).astype(int)
    assert np.abs(head - np.array(colour)).sum(axis=1).min() < 60


class TestPictures:
    def test_damaged_and_odd_images_do_not_fail_the_report(self, build_report: Build, build_match: Callable) -> None:
        whole = build_match(1).picture
        colour = cv2.imencode(".jpg", np.full((40, 60, 3), (0, 0, 255), np.uint8))[1].tobytes()
        held = io.BytesIO()
        Image.new("CMYK", (30, 30)).save(held, "JPEG")
        odd = (b"", b"<svg/>", whole[: len(whole) // 2], b"\xff\xd8" + b"\x00" * 50, colour, held.getvalue())
        matches = tuple(build_match(rank, picture=each) for rank, each in enumerate(odd, start=1))
        assert page_count(render_pdf(build_report(matches=matches))) == 2

    def test_a_huge_image_is_not_decoded(self) -> None:
        small = bytearray(cv2.imencode(".jpg", np.zeros((8, 8), np.uint8))[1].tobytes())
        place = small.index(b"\xff\xc0") + 5
        assert decode_grey(bytes(small)) is not None
        small[place : place + 4] = b"\xff\xff\xff\xff"  # height and width
        assert decode_grey(bytes(small)) is None

    @pytest.mark.parametrize("shape", [(8, 900), (900, 8), (8, 8)])
    def test_thin_scans_fit(self, shape: tuple[int, int], build_report: Build, build_on_pixels: Callable) -> None:
        report = build_report(
            scan=Scan(pixels=np.full(shape, 80, np.uint8), spacing_mm=(0.1, 0.1)),
            explanations=(build_on_pixels(np.full(shape, 0.01)),),
            contour=None,
            region=Box(top=0, left=0, bottom=shape[0], right=shape[1]),
        )
        assert page_count(render_pdf(report)) <= 2


def test_sanitize_keeps_to_the_length() -> None:
    assert sanitize("a" * 50, widest=10) == "a" * 9 + "…"
    assert sanitize("é\u0065\u0301", widest=10) == "éé"
    assert sanitize("a\r\n\tb") == "a   b"
    assert sanitize("− × … ² ≥ Łukaş") == "− × … ² ≥ Łukaş"
    assert has_missing_glyphs("я")
    assert not has_missing_glyphs("Łukaş\n")
