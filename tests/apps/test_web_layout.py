"""Where things stand on the page: on paper, in narrow windows, and over the scan."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from web_pages import Reader, sideways, violations

pytestmark = pytest.mark.peer


def test_on_paper_all_classes_and_all_matches_and_no_controls(reader: Reader, asked: list[Path]) -> None:
    page = reader.pick(asked[0])
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.emulate_media(media="print")
    for name in ("Normal", "Benign", "Malignant"):
        expect(page.locator(".bars")).to_contain_text(name)
    cut = page.evaluate(
        """() => [...document.querySelectorAll('.page, main, .read, .details, .look, .under, .facts-line')]
          .filter(each => getComputedStyle(each).overflowY !== 'visible' || each.scrollHeight > each.clientHeight + 2)
          .map(each => each.className)"""
    )
    assert [each for each in cut if "look" not in each] == []
    ends = page.evaluate(
        "[document.querySelector('.page'), [...document.querySelectorAll('.card')].at(-1)]"
        ".map(each => each.getBoundingClientRect().bottom)"
    )
    assert page.locator(".card").count() == 10
    assert ends[1] < ends[0]
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    expect(page.locator("button:visible:not(.thumb)")).to_have_count(0)
    expect(page.locator("footer")).to_be_visible()


def test_nothing_covers_the_scan_and_the_model_input_is_shown_on_demand(reader: Reader, asked: list[Path]) -> None:
    page = reader.pick(asked[0])
    assert page.locator(".stage > *").count() == 1
    page.get_by_role("button", name="Model input", exact=True).click()
    expect(page.get_by_role("application", name="The model input")).to_be_visible()


@pytest.mark.parametrize("width", [1280, 1920])
def test_the_filter_field_has_room_and_no_selection_is_cut(
    browser: Browser, room: str, asked: list[Path], width: int
) -> None:
    reader = Reader(browser, room, width=width, height=1000)
    page = reader.pick(asked[0])
    rem = page.evaluate("parseFloat(getComputedStyle(document.documentElement).fontSize)")
    box = page.locator("#where").bounding_box()
    assert box is not None
    assert box["width"] > 13.9 * rem
    reader.calm()
    reader.close()


def test_a_narrow_header_is_one_row_and_steps_fade_where_they_are_cut(
    browser: Browser, room: str, asked: list[Path]
) -> None:
    reader = Reader(browser, room, width=390, height=844)
    page = reader.pick(asked[0])
    tops = page.locator("header :is(.brand, nav a, button)").evaluate_all(
        "all => all.map(each => { const box = each.getBoundingClientRect(); return (box.top + box.bottom) / 2; })"
    )
    assert max(tops) - min(tops) < 5
    assert not sideways(page)
    steps = page.locator(".steps ol")
    for text in ("age < 90", "age < 91"):
        page.get_by_role("textbox", name="Filter in words").fill(text)
        page.keyboard.press("Enter")
        expect(steps).to_contain_text(text)
    expect(steps).to_have_attribute("data-cut", "left")
    steps.evaluate("row => { row.scrollLeft = 0; }")
    expect(steps).to_have_attribute("data-cut", "right")
    assert violations(page) == []
    reader.calm()
    reader.close()
