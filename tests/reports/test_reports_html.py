"""The page: self-contained, escaped, not exaggerating weak evidence."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sonoseek.core import Explanation, InvalidValueError, Match, NotFoundError, Report, Scan, View
from sonoseek.reports import IndexEntry, pictures, render, write_index_page

Build = Callable[..., Report]


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def policy(page: Page) -> str:
    return next(m["content"] or "" for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")


def test_it_loads_nothing_and_its_policy_says_so(build_report: Build) -> None:
    html = render(build_report(), "html")
    page = Page(html)
    for tag, attributes in page.tags:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form", "video", "audio"}
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "srcset", "action", "poster"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert "default-src 'none'" in policy(page)
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", html, re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy(page)
    assert "url(" not in html.split("</style>")[0]
    assert "@import" not in html


def test_hostile_texts_are_escaped(hostile_report: Report) -> None:
    html = render(hostile_report, "html")
    page = Page(html)
    assert len(page.all("script")) == 1
    assert html.count("<script") == 1
    assert "<img src=x" not in html
    assert not [a for _, a in page.tags if any(name.startswith("on") for name in a)]
    assert "{{7*7}}" in page.text  # shown, not computed
    assert "49" not in page.text.split("Filter")[1][:60]
    assert all((a["src"] or "").startswith("data:image/") for a in page.all("img"))
    assert "svg onload" not in html


def test_content(build_report: Build) -> None:
    report = build_report()
    page = Page(render(report, "html"))
    text = re.sub(r"\s+", " ", page.text)
    for part in (
        "Likelihood of malignancy 87 %, above the 90 %-specificity threshold (55 %).",
        "98 %-sensitivity 11 %",
        "Likeliest class: malignant, 87 %.",
        "BI-RADS 3",
        "similarity 0.950",
        "distance 0.050",
        "GE Logiq 7",
        "invasive ductal carcinoma",
        "archive / case 5",
        "10 mm",
        "birads >= '3'",
        "2026-03-04 05:06:07 UTC",
        "Research use only, not for diagnosis.",
        "at least 1:",
        "margin: 2 of 2 spiculated, 12 % in the archive",
        "12 × 6 mm (60 mm²), not taller than wide, 8 mm below the top of the scan: an estimate",
        "spiculated, irregular",
    ):
        assert part in text, part
    pictures_shown = page.all("img")
    assert len(pictures_shown) == 1 + 2 + len(report.matches)
    assert all("alt" in a for a in pictures_shown)
    slider = next(a for a in page.all("input") if a.get("type") == "range")
    assert slider["id"] in {a.get("for") for a in page.all("label")}
    assert page.all("html")[0]["lang"] == "en"


def test_the_name_of_a_button_holds_its_visible_text(build_report: Build, build_pair: Callable[..., Report]) -> None:
    html = render(build_pair(build_report(), 1), "html")
    visible = re.sub(r"<[^>]+>", "", re.findall(r"<button[^>]*data-rank.*?</button>", html, re.DOTALL)[0])
    name = re.findall(r'data-rank="\d+"[^>]*aria-label="([^"]+)"', html)[0]
    assert visible.strip() == "Rank 1 why similar"
    assert name.startswith(visible.strip())


def test_shapes_tell_diagnoses_apart_without_colour(build_report: Build) -> None:
    html = render(build_report(), "html")
    shapes = {
        name: set(re.findall(rf'<svg class="shape {name}"[^>]*><(\w+)', html))
        for name in ("normal", "benign", "malignant")
    }
    assert shapes == {"normal": {"circle"}, "benign": {"rect"}, "malignant": {"path"}}


def test_the_scan_in_the_page_is_the_scan(build_report: Build) -> None:
    report = build_report()
    src = Page(render(report, "html")).all("img")[0]["src"]
    assert src is not None
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(src.split(",")[1]))))
    assert (shown == report.scan.pixels).all()


def layer(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGBA"))


class TestHeatmap:
    def test_opacity_is_proportional_to_the_evidence(self, build_explanation: Callable[..., Explanation]) -> None:
        explanation = build_explanation()
        drawn = pictures.draw_heatmap(explanation)
        assert drawn.reference == pytest.approx(explanation.peak * explanation.heatmap.size / 100)
        warm, cool = layer(drawn.warm)[..., 3] / 255, layer(drawn.cool)[..., 3] / 255
        share = explanation.heatmap / explanation.peak
        assert warm == pytest.approx(np.clip(share, 0, 1), abs=0.003)
        assert cool == pytest.approx(np.clip(-share, 0, 1), abs=0.003)

    def test_a_scan_without_evidence_looks_empty(self, build_explanation: Callable[..., Explanation]) -> None:
        drawn = pictures.draw_heatmap(build_explanation(size=0.01))
        assert drawn.reference == 1.0
        assert layer(drawn.warm)[..., 3].max() < 26  # a tenth of full colour
        nothing = replace(build_explanation(), evidence_map=np.zeros((120, 160), np.float32))
        assert layer(pictures.draw_heatmap(nothing).warm)[..., 3].max() == 0

    def test_the_same_evidence_looks_the_same_on_a_scan_twice_the_size(
        self, build_explanation: Callable[..., Explanation], build_on_pixels: Callable[..., Explanation]
    ) -> None:
        small = build_explanation()
        large = build_on_pixels(np.kron(small.heatmap, np.full((2, 2), 0.25, np.float32)))
        assert pictures.draw_heatmap(large).reference == pytest.approx(pictures.draw_heatmap(small).reference)

    def test_the_colours_rise_evenly_in_lightness(self) -> None:
        for stops in (pictures.WARM, pictures.COOL):
            lightness = [0.2126 * r**2.2 + 0.7152 * g**2.2 + 0.0722 * b**2.2 for r, g, b in stops]
            steps = np.diff(np.cbrt(lightness))
            assert steps.min() > 0
            assert steps.max() < 3.5 * np.median(steps)

    def test_a_legend_for_each_of_several(
        self, build_report: Build, build_explanation: Callable[..., Explanation]
    ) -> None:
        report = build_report()
        pair = build_explanation(f"match:{report.matches[1].scan_id}", method="pair_evidence")
        page = Page(render(replace(report, explanations=(*report.explanations, pair)), "html"))
        assert [a["value"] for a in page.all("option")] == ["0", "1"]
        assert "Similarity to match 2" in page.text
        layers = [a for a in page.all("div") if a.get("class") in ("layers", "legend") and "data-evidence" in a]
        assert [("hidden" in a) for a in layers] == [False, True, False, True]

    def test_both_sides_of_a_pair_share_one_scale(self, build_report: Build, build_pair: Callable[..., Report]) -> None:
        report = build_pair(build_report(), 2)
        own, other = report.pair(2) or (None, None)
        assert own is not None
        assert other is not None
        reference = max(pictures.reference_of(own), pictures.reference_of(other))
        page = Page(render(report, "html"))
        warm = {a["alt"]: a["src"] or "" for a in page.all("img") if a.get("class") == "warm"}
        for explained, alt in (
            (own, "Similarity to match 2: where the evidence is for it"),
            (other, "Where match 2 is similar to this scan"),
        ):
            density = explained.heatmap * explained.heatmap.size / 100 / reference
            assert layer(warm[alt])[..., 3] / 255 == pytest.approx(np.clip(density, 0, 1), abs=0.003)

    def test_a_match_without_stored_evidence(
        self, build_report: Build, build_explanation: Callable[..., Explanation]
    ) -> None:
        report = build_report()
        pair = build_explanation(f"match:{report.matches[0].scan_id}", method="pair_evidence")
        page = Page(render(replace(report, explanations=(*report.explanations, pair)), "html"))
        assert "The archive stores no evidence of this scan" in page.text
        assert "Both heatmaps" not in page.text
        (other,) = (a for a in page.all("div") if a.get("class") == "stage" and a.get("id") != "stage")
        assert (other["style"] or "").startswith("aspect-ratio: 1.5 /")  # the picture's own 90 x 60: not stretched

    @pytest.mark.parametrize("picture", [None, b"", b"\xff\xd8 cut short"])
    def test_a_match_without_a_readable_picture(
        self,
        build_report: Build,
        build_explanation: Callable[..., Explanation],
        build_match: Callable[..., Match],
        picture: bytes | None,
    ) -> None:
        match = build_match(1, picture=picture)
        pair = build_explanation(f"match:{match.scan_id}", method="pair_evidence")
        report = build_report(matches=(match,))
        assert "aspect-ratio: 1.33333 /" in render(replace(report, explanations=(*report.explanations, pair)), "html")


class TestScale:
    @pytest.mark.parametrize(
        ("spacing", "label", "percent"),
        [((0.2, 0.2), "10 mm", 31.25), ((0.1, 0.05), "2 mm", 25.0), ((5.0, 5.0), "200 mm", 25.0)],
    )
    def test_bar(self, spacing: tuple[float, float], label: str, percent: float) -> None:
        bar = pictures.scale_bar(160, spacing)
        assert bar is not None
        assert (bar.label, 100 * bar.share) == (label, pytest.approx(percent))

    def test_no_bar_without_spacing_or_with_a_nonsense_one(self) -> None:
        assert pictures.scale_bar(160, None) is None
        assert pictures.scale_bar(160, (1e-9, 1e-9)) is None

    def test_a_millimetre_is_as_long_down_as_across(self) -> None:
        assert pictures.display_aspect((100, 200), (0.2, 0.1)) == 1.0
        assert pictures.display_aspect((100, 200), None) == 2.0


def test_a_huge_scan_makes_no_huge_page(build_report: Build) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (2600, 3200), np.uint8)
    explained = build_report().explanations[0]
    rows, columns = (np.full((side, 40), 40 / side**2, np.float32) for side in (2600, 3200))
    spread = replace(explained.upsampling, rows=rows, columns=columns, scan_shape=(2600, 3200))
    explained = replace(explained, evidence_map=np.ones((40, 40), np.float32) / 100, upsampling=spread)
    html = render(build_report(scan=Scan(pixels=pixels), explanations=(explained,)), "html")
    assert len(html) < 6_000_000


class TestIndexPage:
    def test_it_lists_the_reports(self, build_report: Build, unsure_report: Report, tmp_path: Path) -> None:
        entries = [
            IndexEntry(report=build_report(), href="a.html", truth="malignant"),
            IndexEntry(report=unsure_report, href="sub folder/b.html", truth="benign", title="second"),
            IndexEntry(report=unsure_report, href="c.html"),
        ]
        path = write_index_page(entries, tmp_path / "index.html", title="Ten queries")
        page = Page(path.read_text("utf-8"))
        assert [a["href"] for a in page.all("a")] == ["a.html", "sub%20folder/b.html", "c.html"]
        text = re.sub(r"\s+", " ", page.text)
        for part in (
            "Ten queries",
            "Likelihood of malignancy 87 %",
            "Not sure: benign",
            "reference standard: malignant",
            "second",
        ):
            assert part in text
        assert "The given class is the reference standard in 1 of 2; 1 not sure." in text
        assert "Research use only, not for diagnosis." in text
        assert not page.all("script")
        assert "script-src" not in policy(page)

    def test_hostile_titles_and_links(self, build_report: Build, hostile_report: Report, tmp_path: Path) -> None:
        for link in ("javascript:alert(1)", "https://example.org/x", "/etc/passwd", "", "a\\b"):
            with pytest.raises(InvalidValueError, match="relative to the index page"):
                IndexEntry(report=build_report(), href=link)
        entry = IndexEntry(report=hostile_report, href='"><script>.html', title="<script>x</script>", truth="<b>")
        html = write_index_page([entry], tmp_path / "i.html", title="<script>").read_text("utf-8")
        assert "<script" not in html

    def test_nothing_to_list_and_nowhere_to_write(self, tmp_path: Path) -> None:
        assert "No reports." in write_index_page([], tmp_path / "i.html").read_text("utf-8")
        with pytest.raises(NotFoundError):
            write_index_page([], tmp_path / "no" / "i.html")


class TestSeveralViews:
    @pytest.fixture
    def two(self, build_report: Build, build_pair: Callable, build_explanation: Callable) -> Report:
        report = build_pair(build_report(), 2)
        target = f"match:{report.matches[1].scan_id}"
        explanations = (build_explanation(size=9.0), build_explanation(target, method="pair_evidence"))
        view = View(scan=report.scan, prediction=report.prediction, explanations=explanations)
        return replace(report, views=(view,))

    def test_each_map_is_on_every_view_on_one_scale(self, two: Report) -> None:
        page = Page(render(two, "html"))
        layers = [a["data-evidence"] for a in page.all("div") if a.get("class") == "layers" and "data-evidence" in a]
        assert sorted(layers) == ["0", "0", "1", "1"]
        strongest = two.views[0].explanations[0]
        assert pictures.shared_reference(two, two.explanations[0]) == pictures.reference_of(strongest)
        assert f"+{pictures.reference_of(strongest):.2f} logit" in page.text
        own = pictures.draw_heatmap(two.explanations[0], longest=640, reference=pictures.reference_of(strongest))
        assert own.warm in {a["src"] for a in page.all("img")}  # the weaker view is not stretched to full colour

    def test_each_views_part_of_a_similarity_is_said(self, two: Report) -> None:
        own, other = (float(each.heatmap.sum()) for each in (two.explanations[1], two.views[0].explanations[1]))
        text = Page(render(two, "html")).text
        assert f"this view's pixels have {own:+.3f}, those of view 2 (below) {other:+.3f}." in text
