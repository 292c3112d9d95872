"""What a reader sees after a new scan, and after a request that failed: in view, and true of what is shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect
from web_pages import Reader, settled, violations

pytestmark = pytest.mark.peer

WIDTHS = pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])

LOADED = "[...document.querySelectorAll('.pair .lens img')].every(each => each.complete && each.naturalWidth > 0)"


@pytest.fixture
def seat(browser: Browser, room: str, width: int, height: int) -> Iterator[Reader]:
    reader = Reader(browser, room, width=width, height=height)
    yield reader
    reader.close()  # the browser logs each refusal: not calm


def until(page: Page, expression: str) -> None:
    """Wait for it; `wait_for_function` would need an `eval`, which the page forbids."""
    for _ in range(200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(expression)


def scroll_down(reader: Reader) -> None:
    """Scroll whatever scrolls to its end."""
    reader.page.evaluate("for (const each of document.querySelectorAll('main, .details')) each.scrollTop = 10_000")


@WIDTHS
def test_another_scan_begins_at_its_top_and_a_refined_search_stays(seat: Reader, asked: list[Path]) -> None:
    page = seat.pick(asked[0])
    scroll_down(seat)
    page.get_by_role("button", name="Less like match 9", exact=True).click()
    settled(page)
    tops = "[...document.querySelectorAll('main, .details')].map(each => each.scrollTop)"
    assert max(page.evaluate(tops)) > 50
    seat.pick(asked[1])
    expect(page.locator(".facts-line .name")).to_have_text(asked[1].name)
    until(page, f"Math.max(...{tops}) === 0")


@WIDTHS
def test_a_refusal_is_in_view_wherever_the_page_is_scrolled_to(seat: Reader, asked: list[Path], height: int) -> None:
    page = seat.pick(asked[0])
    size = page.locator(".stage").bounding_box()
    page.get_by_role("textbox", name="Filter in words").fill("agee < 40")
    scroll_down(seat)
    page.get_by_role("textbox", name="Filter in words").press("Enter")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("agee")
    scroll_down(seat)
    expect(alert).to_be_in_viewport(ratio=1)
    box, now = page.locator(".problem").bounding_box(), page.locator(".stage").bounding_box()
    assert box is not None
    assert size is not None
    assert now is not None
    assert box["y"] + box["height"] < height / 2
    assert (now["width"], now["height"]) == (size["width"], size["height"])
    assert violations(page) == []


@WIDTHS
def test_a_failed_request_is_not_claimed_and_is_made_again_on_demand(seat: Reader, asked: list[Path]) -> None:
    page = seat.pick(asked[0])

    def fail(route: Route) -> None:
        route.abort()

    page.route("**/api/query", fail)
    page.get_by_role("button", name="More like match 2", exact=True).click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The server does not answer")
    expect(page.locator(".steps li")).to_have_count(0)
    expect(page.locator(".mark")).to_have_count(0)
    page.unroute("**/api/query", fail)
    alert.get_by_role("button", name="Try again").click()
    expect(page.locator(".steps li")).to_contain_text("More like")
    expect(page.locator(".mark")).to_have_text("+ liked")
    expect(alert).to_have_count(0)


@pytest.mark.parametrize(("width", "height"), [(1280, 800)])
def test_a_comparison_shows_each_view_and_says_when_the_server_is_away(seat: Reader, asked: list[Path]) -> None:
    page = seat.pick(*asked[2:4])
    page.locator(".thumb").first.click()
    views = page.get_by_role("group", name="Views of the lesion")
    own = page.locator(".pair figure").first.locator(".lens img")
    for number in (1, 2):
        views.get_by_role("button", name=f"View {number}").click()
        expect(page.locator("figcaption").first).to_contain_text(f"This scan, view {number}")
        expect(own.first).to_have_attribute("src", re.compile(rf"scan\?view={number - 1}$"))
        expect(own).to_have_count(3)
        until(page, LOADED)
    assert "view=1" in (own.nth(1).get_attribute("src") or "")
    assert violations(page) == []

    def fail(route: Route) -> None:
        route.abort()

    page.route("**/api/**", fail)
    page.get_by_role("link", name="PDF").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The server does not answer")
    page.keyboard.press("ArrowRight")
    expect(page.locator("figcaption").nth(1)).to_contain_text("Match 2:")
    expect(page.locator(".why")).not_to_contain_text("not known")
    page.unroute("**/api/**", fail)
    alert.get_by_role("button", name="Try again").click()
    expect(alert).to_have_count(0)
    until(page, LOADED)
    with page.expect_download():
        page.get_by_role("link", name="PDF").click()
