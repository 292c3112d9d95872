"""Odd orders on the page: what is shown is always what the address asks, whatever was clicked meanwhile."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect
from web_pages import Reader, order, settled

pytestmark = [pytest.mark.peer, pytest.mark.slow]


def slowly(page: Page, milliseconds: int) -> None:
    """Hold every question back; what the page does meanwhile is the test's."""

    def wait(route: Route) -> None:
        page.wait_for_timeout(milliseconds)
        route.continue_()

    page.route("**/api/query", wait)


def named(page: Page, path: Path) -> None:
    expect(page.locator(".facts-line .name")).to_have_text(path.name)


def test_a_scan_that_the_server_let_go_is_never_answered_by_another(
    browser: Browser, room: str, asked: list[Path]
) -> None:
    reader = Reader(browser, room)
    page = reader.pick(asked[0])
    named(page, asked[0])
    upload = page.url.split("u=")[1][:64]
    page.get_by_role("checkbox", name="No near-duplicates").uncheck()
    settled(page)
    page.get_by_role("button", name="New scan").click()
    reader.pick(asked[1])
    named(page, asked[1])
    for _ in range(4):
        if upload not in page.url:
            page.go_back()
            page.wait_for_timeout(300)
    named(page, asked[0])
    page.evaluate("id => fetch(`api/uploads/${id}`, { method: 'DELETE' })", upload)
    page.get_by_role("checkbox", name="One per patient").click()  # it is gone when the answer is
    expect(page.locator("h1")).to_have_text("This link needs its scan")
    assert page.locator(".prediction").count() == 0
    reader.close()


def test_the_page_sends_its_own_scan_again(browser: Browser, room: str, asked: list[Path]) -> None:
    reader = Reader(browser, room)
    page = reader.pick(asked[3])
    upload = page.url.split("u=")[1][:64]
    page.evaluate("id => fetch(`api/uploads/${id}`, { method: 'DELETE' })", upload)
    page.get_by_role("checkbox", name="One per patient").uncheck()
    expect(page.locator(".steps li")).to_have_count(1)
    settled(page)
    named(page, asked[3])
    assert upload in page.url
    reader.close()


def test_an_answer_on_its_way_brings_nobody_back(reader: Reader, asked: list[Path]) -> None:
    page = reader.pick(asked[0])
    slowly(page, 600)
    page.get_by_role("checkbox", name="One per patient").uncheck()
    page.get_by_role("link", name="Archive").click()
    page.wait_for_timeout(1200)
    expect(page.locator("h1")).to_have_text("The archive")
    page.get_by_role("link", name="Read", exact=True).click()
    expect(page.locator(".steps li")).to_contain_text("Any number per patient")
    settled(page)
    expect(page.locator(".card")).to_have_count(10)


def test_compare_stays_open_when_an_answer_comes(reader: Reader, asked: list[Path]) -> None:
    page = reader.pick(asked[0])
    slowly(page, 600)
    page.get_by_role("checkbox", name="No near-duplicates").uncheck()
    page.locator(".thumb").nth(1).click()
    page.wait_for_timeout(1200)
    expect(page.locator("figcaption").nth(1)).to_contain_text("Match 2:")


def test_the_way_back_to_read_leads_to_the_search(reader: Reader, asked: list[Path]) -> None:
    page = reader.pick(asked[2])
    shown = order(page)
    page.get_by_role("link", name="Archive").click()
    page.wait_for_selector(".plane canvas")
    page.keyboard.press("1")
    page.wait_for_selector(".card")
    assert order(page) == shown


def test_a_second_drop_leaves_the_first_in_the_history(reader: Reader, asked: list[Path]) -> None:
    page = reader.pick(asked[0])
    reader.page.set_input_files("header input[type=file]", str(asked[1]))
    named(page, asked[1])
    page.go_back()
    named(page, asked[0])


def test_one_picture_twice_is_one_view(reader: Reader, asked: list[Path], tmp_path: Path) -> None:
    copies = [Path(shutil.copy(asked[0], tmp_path / name)) for name in ("a.png", "b.png")]
    page = reader.pick(*copies)
    assert page.locator(".views").count() == 0
    assert page.url.count("u=") == 1


def test_a_headline_never_stands_beside_another_questions_figures(
    browser: Browser, room: str, asked: list[Path]
) -> None:
    reader = Reader(browser, room)
    page = reader.pick(asked[0])
    before = page.locator(".prediction").inner_text()
    page.route("**/text", lambda route: route.abort())
    page.get_by_role("button", name="Area", exact=False).click()
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    assert page.locator(".prediction").inner_text() == before
    reader.close()


def test_a_file_that_is_refused_is_told_from_any_view(browser: Browser, room: str, tmp_path: Path) -> None:
    bad = tmp_path / "notes.txt"
    bad.write_text("no picture")
    reader = Reader(browser, room)
    reader.page.goto(f"{room}#/archive")
    reader.page.wait_for_selector(".plane canvas")
    reader.page.set_input_files("header input[type=file]", str(bad))
    expect(reader.page.get_by_role("alert")).to_contain_text("notes.txt")
    reader.close()


def test_likes_are_one_mark_and_help_keeps_its_keys(reader: Reader, asked: list[Path]) -> None:
    page = reader.pick(asked[0])
    name = order(page)[0]
    page.keyboard.press("c")
    page.wait_for_selector(".compare")
    page.keyboard.press("?")
    page.keyboard.press("d")
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_have_count(0)
    expect(page.locator(".compare")).to_have_count(1)
    page.keyboard.press("l")
    expect(page.locator(".steps li")).to_have_text([re.compile(f"More like {re.escape(name)}")])
    settled(page)
    page.get_by_role("button", name="Less like match 1", exact=True).click()
    expect(page.locator(".steps li")).to_have_text([re.compile(f"Less like {re.escape(name)}")])
    page.get_by_role("button", name=f"Undo: Less like {name}").click()
    expect(page.locator(".steps li")).to_have_count(0)


def test_unfinished_jobs_are_not_asked_about_in_a_loop(reader: Reader) -> None:
    page = reader.page
    for title in ("one", "two"):
        page.evaluate(
            """title => fetch("api/jobs", { method: "POST", headers: { "Content-Type": "application/json" },
              body: JSON.stringify({ kind: "query", title }) })""",
            title,
        )
    page.goto(f"{reader.address}#/batch")
    page.wait_for_selector(".jobs article")
    before = len(reader.asked)
    page.wait_for_timeout(2000)
    assert len(reader.asked) - before < 6
