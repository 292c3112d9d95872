"""What stands first on the page, in a real browser: headline, heaviest warning, filtered counts, near-duplicates."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect
from web_pages import Reader, order, reading_room, settled, violations

from sonoseek.core import Report
from sonoseek.engine import open_engine
from sonoseek.io import read_scan

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def reports(gallery: Path, asked: list[Path]) -> dict[Path, Report]:
    """What the page is to show of each scan."""
    with open_engine(gallery, threads=1) as engine:
        return {path: engine.query(read_scan(path), explain_matches=False) for path in asked}


def warnings(page: Page) -> list[str]:
    """Every warning on the page, the heaviest first."""
    return [*page.locator(".prediction .heavy").all_text_contents(), *page.locator(".warnings li").all_text_contents()]


def plain(text: str) -> str:
    """Without the spaces that keep a number and its unit on one line."""
    return text.replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", " ")


def top(place: Locator) -> float:
    found = place.bounding_box()
    assert found is not None
    return found["y"]


@pytest.mark.parametrize("disagree", [True, False])
def test_a_filter_is_labelled_and_changes_neither_counts_nor_warnings(
    reader: Reader, reports: dict[Path, Report], disagree: bool
) -> None:
    scan = next(
        path
        for path, report in reports.items()
        if ("disagreement" in {each.code for each in report.warnings}) is disagree
        and 1 < report.similar_cases.labels.get("benign", 0) < 10
    )
    page = reader.pick(scan)
    similar = page.locator(".beside")
    before = (similar.inner_text(), page.locator(".prediction h1").inner_text(), warnings(page))
    (benign,) = page.locator(".prediction .strip .benign").all_inner_texts()
    assert any("disagree" in text for text in before[2]) is disagree
    expect(page.locator(".filtered")).to_have_count(0)
    page.get_by_role("button", name="Benign", exact=True).click()
    line = re.compile(
        rf"^Filtered: (\d+) of 10 shown are (normal|malignant)\. "
        rf"The filter hides {benign} of the 10 most similar \({benign} benign\)\.$"
    )
    expect(page.locator(".filtered")).to_have_text(line)
    settled(page)
    shown = page.locator(".card .diagnosis strong").all_inner_texts()
    assert "benign" not in shown
    told = line.match(page.locator(".filtered").inner_text())
    assert told is not None
    assert shown.count(told[2]) == int(told[1])
    assert (similar.inner_text(), page.locator(".prediction h1").inner_text(), warnings(page)) == before
    assert violations(page) == []


def test_three_copies_are_one_card(browser: Browser, copies: Path, asked: list[Path], tmp_path: Path) -> None:
    with reading_room("--gallery", copies, "--state", tmp_path / "state") as address:
        reader = Reader(browser, address)
        page = reader.pick(asked[3])
        card = page.locator(".card", has_text="2 near-duplicates")
        expect(card).to_have_count(1)
        expect(card.locator(".foot a")).to_have_text(re.compile("^copy-"))
        expect(page.locator(".card", has_text="2 more of the patient")).to_have_count(1)
        whole = "link => { link.textContent = 'malignant (123)'; return link.scrollWidth <= link.clientWidth; }"
        assert page.locator(".card .foot a").last.evaluate(whole)  # a BUSI name: its number is not cut off
        assert sum("copy-" in name for name in order(page)) == 1
        counted = page.locator(".beside").inner_text()
        page.get_by_role("checkbox", name="No near-duplicates").uncheck()
        expect(page.locator(".steps li")).to_contain_text("Near-duplicates listed")
        settled(page)
        assert sum("copy-" in name for name in order(page)) == 3
        assert page.locator(".beside").inner_text() == counted
        reader.calm()
        reader.close()


def test_the_heaviest_warning_is_seen_before_the_classes(reader: Reader, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 400), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    page = reader.pick(tmp_path / "noise.png")
    expect(page.locator(".prediction h1")).to_contain_text("No prediction: this image is unlike the scans")
    heavy = page.locator(".prediction .heavy").first
    expect(heavy).to_contain_text("unlike anything the network was trained on")
    expect(heavy).to_be_in_viewport()
    classes = page.locator(".prediction .classes")
    assert top(page.locator(".prediction h1")) < top(heavy) < top(classes)
    before = "([one, other]) => Boolean(one.compareDocumentPosition(other) & Node.DOCUMENT_POSITION_FOLLOWING)"
    assert page.evaluate(before, [heavy.element_handle(), classes.element_handle()])  # and for a screen reader
    expect(page.locator(".prediction .scale")).to_have_count(0)  # no likelihood to rely on
    colours = page.locator(".prediction .fill").evaluate_all(
        "bars => bars.map(b => getComputedStyle(b).backgroundColor)"
    )
    assert len(set(colours)) == 1  # and no class's colour
    assert violations(page) == []


def test_without_a_heavy_warning_the_first_of_medium_weight_stands_open(
    reader: Reader, reports: dict[Path, Report]
) -> None:
    scan, found = next((path, r.warnings) for path, r in reports.items() if r.warnings[0].severity == "medium")
    page = reader.pick(scan)
    expect(page.locator(".prediction .heavy")).to_have_count(1)
    expect(page.locator(".prediction .heavy.medium")).to_be_visible()
    assert [plain(text) for text in warnings(page)] == [each.text for each in found]


def test_a_note_that_lowers_certainty_is_read_whole_without_a_click(
    reader: Reader, asked: list[Path], tmp_path: Path
) -> None:
    Image.open(asked[1]).resize((120, 100)).save(tmp_path / "small.png")
    page = reader.pick(tmp_path / "small.png")
    expect(page.locator(".warnings summary")).to_contain_text("notes: ")
    assert "medium" in (page.locator(".warnings li").first.get_attribute("class") or "")
    note = page.locator(".warnings summary")
    assert note.evaluate("note => note.scrollWidth <= note.clientWidth")


def test_the_headline_holds_the_likelihood_against_the_threshold(reader: Reader, asked: list[Path]) -> None:
    page = reader.pick(asked[1])
    sentence = r"Likelihood of malignancy (<\s1|\d+)\s%, (above|below) the \d+\s%-\w+ threshold \([\d.]+\s%\)"
    expect(page.locator(".prediction h1")).to_have_text(re.compile(sentence))
    expect(page.locator(".prediction .points li")).not_to_have_count(0)
