import base64
import dataclasses
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from audit_pictures import MemoryDataset, case, tissue

from sonoseek.core import DISCLAIMER, ScanReadError
from sonoseek.core.patients import PatientShare
from sonoseek.datasets.audit import DuplicatePair, audit, page, write_audit_page
from sonoseek.datasets.splits import Fold

NASTY = '<script>alert("x")</script>'


def moved(seed):
    return cv2.warpAffine(tissue(seed), np.array([[1, 0, 40], [0, 1, 15]], np.float32), (320, 240))


@pytest.fixture(scope="module")
def dataset():
    mask = np.zeros((240, 320), np.bool_)
    mask[50:90, 60:120] = True
    return MemoryDataset(
        [
            case(NASTY, tissue(1), pathology="benign", mask=mask),
            case("moved", moved(1), pathology="malignant", mask=mask),
            case("twin 1", tissue(2)),
            case("twin 2", tissue(2)),
            case("torn", tissue(3), pathology="normal"),
        ],
        broken={"torn": ScanReadError(f"torn.png & {NASTY}: truncated")},
    )


@pytest.fixture(scope="module")
def result(dataset):
    return audit(dataset, folds=[Fold(train=(NASTY, "twin 1"), test=("moved", "twin 2"))])


@pytest.fixture(scope="module")
def html(result, dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "audit.html"
    write_audit_page(result, dataset, path)
    return path.read_text(encoding="utf-8")


class Balance(HTMLParser):
    """Checks that tags close in order, and collects what a browser would fetch."""

    VOID = frozenset({"meta", "link", "img", "br", "hr", "input"})

    def __init__(self):
        super().__init__()
        self.open, self.text, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in {"src", "href"}]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parsed(html):
    parser = Balance()
    parser.feed(html)
    assert parser.open == []
    return parser


def test_the_page_is_whole_and_fetches_nothing(html):
    links = parsed(html).links
    assert links
    assert all(link.startswith(("#", "data:text/csv")) for link in links)
    assert "<script" not in html.lower()
    assert all(target.startswith("data:image/jpeg;base64,") for target in re.findall(r"url\(([^)]*)\)", html))
    assert "http://" not in html
    assert "https://" not in html


def test_a_patient_over_half_of_the_dataset_and_a_placeholder_are_shown(result, dataset, html):
    assert "No patient holds more than half" in html
    share = PatientShare(dataset="memory", patient_id=NASTY, cases=600, total=600)
    told = dataclasses.replace(result, largest_patients=(share,), placeholders={"ANONYMOUS": 12})
    text = "".join(parsed(page.audit_page(told, dataset)).text)
    assert f"Patient {NASTY!r} holds 600 of the 600 cases of 'memory' (100 %)" in text
    assert "12 scans carry the placeholder patient id 'ANONYMOUS'" in text
    assert "No patient holds more than half" not in text


def test_names_and_reasons_are_escaped(html):
    assert NASTY not in html
    assert html.count("&lt;script&gt;") >= 3  # the pair, the split and the unreadable file
    assert NASTY in "".join(parsed(html).text)


def test_every_link_of_the_summary_leads_to_a_section(html):
    targets = set(re.findall(r'href="#([^"]+)"', html))
    assert targets == {
        *("labels", "exact", "near", "related", "crossing", "unstated", "masks", "marks", "patients", "unreadable")
    }
    assert targets <= set(re.findall(r'<h2 id="([^"]+)"', html))


def test_figures_and_conflicts_are_shown(html, result):
    text = " ".join("".join(parsed(html).text).split())
    near = next(pair for pair in result.pairs if pair.kind == "near")
    assert f"{near.ncc:.3f}" in text
    assert "moved −40 / −15 px" in text
    assert html.count('class="card conflict"') == 1
    assert html.count(">two labels</span>") == 1
    assert "torn.png" in text
    assert "mask empty" in text
    assert "CC0-1.0" in text
    assert DISCLAIMER.capitalize() in text


def test_the_pair_is_drawn_side_by_side_on_one_grid(html):
    uris = re.findall(r"--a:url\(data:image/jpeg;base64,([^)]+)\);--b:url\(data:image/jpeg;base64,([^)]+)\)", html)
    assert len(uris) == 2
    left, right = (
        cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_GRAYSCALE).astype(float)
        for data in uris[0]
    )
    assert left.shape == right.shape == (180, 240)
    # The second scan is the first, moved by 40 and 15 of 320 pixels: laid over, what it still holds agrees.
    inside = (slice(2, 180 - 14), slice(2, 240 - 34))
    assert np.corrcoef(left[inside].ravel(), right[inside].ravel())[0, 1] > 0.97


def test_the_table_can_be_taken_from_the_page(html):
    data = re.search(r'href="data:text/csv;charset=utf-8;base64,([^"]+)" download="groups.csv"', html)
    assert base64.b64decode(data[1]).decode().startswith("case_id,pathology,group,")


def test_a_scan_that_is_gone_leaves_a_gap(result, dataset):
    later = MemoryDataset(list(dataset.cases.values()), broken={"moved": OSError("gone")})
    html = page.audit_page(result, later)
    assert "could not be read again" in html
    parsed(html)


def test_an_audit_without_findings_says_so():
    clean = MemoryDataset([case("a", np.full((60, 80), 9, np.uint8)), case("b", tissue(7, size=(120, 160)))])
    html = page.audit_page(audit(clean), clean)
    text = "".join(parsed(html).text)
    assert "No split was given" in text
    assert "Every case was read" in text
    assert "The dataset has no masks" in text


def test_more_pairs_than_can_be_drawn_are_counted(result, dataset, monkeypatch):
    monkeypatch.setattr(page, "MAX_PAIRS", 1)
    alike = dataclasses.replace(result, pairs=result.pairs[:1] * 4, cross_label_groups=())
    assert "3 more are not drawn here" in page.audit_page(alike, dataset)


def pair(transform, kind="near"):
    return DuplicatePair(
        a="a", b="b", kind=kind, ncc=0.9, detail=0.9, inliers=9, transform=np.array(transform, float), overlap=1.0
    )


@pytest.mark.parametrize(
    ("transform", "words"),
    [
        ([[1, 0, 0], [0, 1, 0]], "same place, same size"),
        ([[1, 0, -5], [0, 1, 3]], "moved −5 / +3 px"),
        ([[0.5, 0, 0], [0, 0.5, 0]], "scaled × 0.50"),
        ([[-1, 0, 319], [0, 1, 0]], "mirrored"),
        ([[1.2, 0, 0], [0, 1, 0]], "scaled × 1.10, squeezed 20 %"),
        ([[0, -1, 239], [1, 0, 0]], "turned +90°"),
    ],
)
def test_a_transform_is_put_in_words(transform, words):
    assert page.describe_transform(pair(transform)) == words
