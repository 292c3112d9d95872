"""The reader's mark in a real browser: drawn, read with, undone; not offered where the bundle reads none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from web_pages import Reader, reading_room, settled, sideways, violations

pytestmark = [pytest.mark.peer, pytest.mark.slow]


@pytest.fixture
def marker(browser: Browser, marking_gallery: Path, marking_bundle: Path, tmp_path: Path) -> Iterator[Reader]:
    """A page of a reading room whose bundle reads marks."""
    with reading_room("--gallery", marking_gallery, "--bundle", marking_bundle, "--state", tmp_path) as address:
        found = Reader(browser, address)
        yield found
        found.calm()
        found.close()


def draw(page: Page, *, top: float, left: float, bottom: float, right: float) -> None:
    """Drag a box over the picture; shares of it."""
    frame = page.locator(".picture").bounding_box()
    assert frame is not None
    page.mouse.move(frame["x"] + frame["width"] * left, frame["y"] + frame["height"] * top)
    page.mouse.down()
    page.mouse.move(frame["x"] + frame["width"] * right, frame["y"] + frame["height"] * bottom, steps=5)
    page.mouse.up()


def test_a_lesion_is_marked_read_and_the_mark_undone(marker: Reader, asked: list[Path]) -> None:
    page = marker.pick(asked[0])
    shares = page.locator(".bars .fill")
    before = shares.evaluate_all("bars => bars.map(bar => bar.style.width)")
    expect(page.locator(".marked")).to_have_count(0)
    button = page.get_by_role("button", name="Mark the lesion")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".hint")).to_contain_text("Draw a box around the lesion")
    expect(page.locator(".slot .primary")).to_be_disabled()
    draw(page, top=0.3, left=0.35, bottom=0.55, right=0.6)
    assert violations(page) == []
    page.locator(".slot .primary").click()
    expect(page.locator(".marked")).to_contain_text("Read with the reader's mark")
    expect(page.locator("rect.mark")).to_have_count(1)
    expect(page.locator(".steps li")).to_contain_text("Lesion marked: rows")
    assert shares.evaluate_all("bars => bars.map(bar => bar.style.width)") != before
    assert "s=m%3A" in page.url
    assert violations(page) == []
    assert not sideways(page)
    with page.expect_download() as waiting:
        page.locator(".keep a", has_text="JSON").click()
    lesion = json.loads(waiting.value.path().read_text("utf-8"))["lesion"]
    assert lesion["top"] < lesion["bottom"]
    page.locator(".thumb").first.click()
    expect(page.locator(".compare rect.mark")).to_have_count(1)
    page.keyboard.press("Escape")
    again = marker.turn(page.url.removeprefix(marker.address))  # the mark stands in the link
    expect(again.locator(".marked")).to_contain_text("Read with the reader's mark")
    page.get_by_role("button", name="read without it").click()
    expect(page.locator(".marked")).to_have_count(0)
    settled(page)
    assert shares.evaluate_all("bars => bars.map(bar => bar.style.width)") == before
    page.keyboard.press("u")
    expect(page.locator(".marked")).to_have_count(1)
    page.keyboard.press("u")
    expect(page.locator(".marked")).to_have_count(0)


def test_by_keys_alone_and_beside_a_region(marker: Reader, asked: list[Path]) -> None:
    page = marker.pick(asked[1])
    page.keyboard.press("b")
    page.keyboard.press("Shift+ArrowLeft")
    expect(page.locator("rect.mark.drawing")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator(".marked")).to_have_count(1)
    page.keyboard.press("r")
    expect(page.locator("rect.mark")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator(".steps li")).to_have_count(2)
    expect(page.locator("rect.box")).to_have_count(2)
    page.keyboard.press("b")  # the present mark, to be moved
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Escape")
    expect(page.locator(".marked")).to_have_count(1)


def test_several_views_are_not_marked_and_a_second_one_takes_the_mark_away(marker: Reader, asked: list[Path]) -> None:
    page = marker.pick(asked[2])
    page.keyboard.press("b")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    expect(page.locator(".marked")).to_have_count(1)
    page.set_input_files(".tools input[type=file]", str(asked[3]))
    expect(page.locator(".notice")).to_contain_text("The mark was taken away as a second view was added")
    expect(page.locator(".marked")).to_have_count(0)
    page.get_by_role("button", name="Mark the lesion").click()
    expect(page.locator(".hint")).to_contain_text("A mark is of one scan, and this query has 2 views")


def test_it_is_not_offered_where_the_bundle_reads_no_marks(reader: Reader, asked: list[Path]) -> None:
    page = reader.pick(asked[0])
    expect(page.get_by_role("button", name="Region")).to_have_count(1)
    expect(page.get_by_role("button", name="Mark the lesion")).to_have_count(0)
    page.keyboard.press("b")
    expect(page.locator(".hint")).to_have_count(0)


def test_a_case_of_the_archive_is_not_marked(marker: Reader, asked: list[Path]) -> None:
    page = marker.pick(asked[0])
    name = page.locator(".card .foot a").first.get_attribute("title")
    page.goto(f"{marker.address}#/read?case={name}")
    page.reload()
    page.wait_for_selector(".card")
    expect(page.get_by_role("button", name="Region")).to_have_count(1)
    expect(page.get_by_role("button", name="Mark the lesion")).to_have_count(0)
