"""A reader at work: what was typed, where the focus is, and a server that is started anew in the middle."""

from __future__ import annotations

import re
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from web_pages import Reader, order, reading_room, serving

pytest.importorskip("playwright", reason="Playwright is not installed")
from playwright.sync_api import Browser, Page, Route, expect

from sonoseek.indexing.case_ids import opaque_id

pytestmark = pytest.mark.peer


def focused(page: Page) -> str:
    """Name of the match that holds the focus."""
    return str(
        page.evaluate("document.activeElement?.closest('.card')?.querySelector('.foot a')?.title ?? 'elsewhere'")
    )


def settled(page: Page) -> None:
    expect(page.locator(".cards.busy, [aria-busy=true]")).to_have_count(0)


def folder_on_its_way(reader: Reader, asked: list[Path], tmp_path: Path) -> tuple[Page, list[Route], list[str]]:
    """A folder of three that is being sent: the page; the first file, held; a list that lets the next ones pass."""
    folder = tmp_path / "loose"
    folder.mkdir()
    for path in asked[:3]:
        (folder / path.name).write_bytes(path.read_bytes())
    page = reader.page
    page.keyboard.press("3")
    held: list[Route] = []
    let: list[str] = []
    page.route("**/files/**", lambda route: route.continue_() if let else held.append(route))
    page.set_input_files("input[webkitdirectory]", str(folder))
    page.get_by_role("button", name="Begin").click()
    page.wait_for_selector("text=Sending 1 of 3")
    return page, held, let


class TestSubject:
    def test_another_scan_s_prediction_never_stands_under_an_address(self, reader: Reader, asked: list[Path]) -> None:
        page = reader.pick(asked[0])
        first = page.locator(".look .name").inner_text()
        reader.pick(asked[1])
        expect(page.locator(".look .name")).not_to_have_text(first)
        page.route("**/api/query", lambda route: route.abort())
        page.go_back()
        expect(page.get_by_role("alert")).to_contain_text("does not answer")
        expect(page.locator(".prediction:visible")).to_have_count(0)
        page.unroute("**/api/query")
        page.get_by_role("button", name="Try again").click()
        expect(page.locator(".look .name")).to_have_text(first)
        reader.wrong = [told for told in reader.wrong if "ERR_FAILED" not in told]

    def test_asking_with_a_case_shows_nothing_of_the_scan_before(self, reader: Reader, asked: list[Path]) -> None:
        page = reader.pick(asked[0])
        page.locator(".card .foot a").first.click()
        held: list[Route] = []
        page.route("**/api/query", lambda route: held.append(route))
        page.get_by_role("button", name="Query with this case").click()
        page.wait_for_selector("[aria-busy=true]")
        expect(page.locator(".prediction:visible")).to_have_count(0)
        held[0].continue_()
        page.wait_for_selector(".card")


class TestFocus:
    def test_likes_follow_the_case_not_its_place(self, reader: Reader, asked: list[Path]) -> None:
        page = reader.pick(asked[2])
        page.keyboard.press("p")
        for _ in range(4):
            page.keyboard.press("ArrowRight")
        fifth = order(page)[4]
        assert focused(page) == fifth
        page.keyboard.press("l")
        expect(page.locator(".steps li")).to_contain_text(f"More like {fifth}")
        settled(page)
        assert focused(page) == fifth
        page.keyboard.press("d")
        expect(page.locator(".steps li")).to_have_count(1)
        expect(page.locator(".steps li")).to_contain_text(f"Less like {fifth}")

    def test_back_from_a_comparison_to_the_case_that_was_compared(self, reader: Reader, asked: list[Path]) -> None:
        page = reader.pick(asked[2])
        names = order(page)
        page.keyboard.press("p")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Enter")
        page.wait_for_selector(".compare")
        page.keyboard.press("ArrowRight")
        expect(page.locator("figcaption").nth(1)).to_contain_text("Match 3:")
        page.keyboard.press("Escape")
        page.wait_for_selector(".card")
        assert focused(page) == names[2]
        page.keyboard.press("Enter")
        more = page.get_by_role("button", name=re.compile("^More like it"))
        expect(more).to_have_attribute("aria-pressed", "false")
        page.keyboard.press("l")
        page.wait_for_selector(".card")
        settled(page)
        assert focused(page) == names[2]
        page.keyboard.press("Enter")
        expect(more).to_have_attribute("aria-pressed", "true")

    def test_zoom_stays_when_the_search_is_refined(self, reader: Reader, asked: list[Path]) -> None:
        page = reader.pick(asked[3])
        page.locator(".look .picture").press("+")
        lens = page.locator(".look .lens").get_attribute("style") or ""
        assert "scale(1.25)" in lens
        page.locator(".card").nth(2).get_by_role("button", name="More like").click()
        expect(page.locator(".steps li")).to_have_count(1)
        settled(page)
        expect(page.locator(".look .lens")).to_have_attribute("style", lens)


class TestTools:
    def test_what_is_typed_is_not_lost_to_another_filter(self, reader: Reader, asked: list[Path]) -> None:
        page = reader.pick(asked[4])
        page.get_by_label("Filter in words").fill("age < 70")
        page.locator(".filters button.benign").click()
        expect(page.locator(".steps li")).to_contain_text("age < 70")
        expect(page.get_by_label("Filter in words")).to_have_value("age < 70")

    def test_no_tool_works_on_what_the_network_saw(self, reader: Reader, asked: list[Path]) -> None:
        page = reader.pick(asked[4])
        tools = page.locator(".tools [aria-pressed=true]")
        page.keyboard.press("r")
        page.get_by_role("button", name="Model input", exact=True).click()
        expect(tools).to_have_text(["Model input n"])
        expect(page.get_by_role("button", name=re.compile("^Search"))).to_have_count(0)
        page.get_by_role("button", name=re.compile("^Evidence")).click()
        expect(tools).to_have_text(["Evidence h"])
        expect(page.locator(".look .heat").first).to_be_visible()

    def test_a_case_whose_diagnosis_is_hidden_is_not_shown_on_the_map(self, reader: Reader) -> None:
        page = reader.page
        page.keyboard.press("2")
        page.wait_for_selector(".plane canvas")
        page.locator(".plane").press("ArrowLeft")
        tip = page.locator(".tip")
        expect(tip).to_be_visible()
        kind = next(
            word for word in (tip.get_attribute("class") or "").split() if word in ("normal", "benign", "malignant")
        )
        page.locator(f".legend .{kind} input").uncheck()
        expect(tip).to_have_count(0)


class TestCopies:
    def test_one_scan_in_two_datasets_is_one_card_or_shown_twice(
        self, browser: Browser, archive: Path, gallery: Path, asked: list[Path], run: Any, tmp_path: Path
    ) -> None:
        own = tmp_path / "own"
        shutil.copytree(gallery, own)
        rows = [
            f"{opaque_id('folder', f'{path.parent.name}/{path.name}')},{path},{path.parent.name},copies"
            for path in sorted(archive.glob("*/*.png"))
            if "_mask" not in path.name
        ]
        (tmp_path / "copies.csv").write_text("\n".join(["case_id,file,pathology,dataset", *rows]))
        run("index", "build", "--dataset", "manifest", "--data", tmp_path / "copies.csv", "--gallery", own)
        with reading_room("--gallery", own, "--state", tmp_path / "state") as address:
            reader = Reader(browser, address)
            page = reader.pick(asked[0])
            names = order(page)
            assert len({name.partition("/")[2] for name in names}) == len(names) == 10
            expect(page.locator(".card", has_text="1 near-duplicate")).to_have_count(10)
            page.get_by_role("checkbox", name="No near-duplicates").uncheck()
            expect(page.locator(".steps li")).to_have_count(1)
            settled(page)
            names = order(page)
            assert len({name.partition("/")[2] for name in names}) < len(set(names)) == 10
            page.locator(".thumb").first.click()
            expect(page.locator(".strip button, .compare [data-rank]")).to_have_count(10)
            reader.calm()
            reader.close()


class TestBatch:
    def test_stop_on_the_card_stops_the_sending(self, reader: Reader, asked: list[Path], tmp_path: Path) -> None:
        page, held, sent = folder_on_its_way(reader, asked, tmp_path)
        page.locator(".jobs article").first.get_by_role("button", name="Stop").click()
        expect(page.locator(".jobs .state").first).to_have_text("stopped")
        sent.append("let")
        held[0].continue_()
        expect(page.locator("progress")).to_have_count(0)
        expect(page.get_by_role("alert")).to_have_count(0)
        assert len(held) == 1
        reader.wrong = [told for told in reader.wrong if "422" not in told]

    def test_what_was_refused_is_told_after_another_view(
        self, reader: Reader, asked: list[Path], tmp_path: Path
    ) -> None:
        page, held, sent = folder_on_its_way(reader, asked, tmp_path)
        page.keyboard.press("2")
        sent.append("let")
        refusal = '{"status": 422, "title": "Unprocessable", "detail": "a name that is not let in"}'
        held[0].fulfill(status=422, content_type="application/problem+json", body=refusal)
        page.keyboard.press("3")
        expect(page.locator(".jobs .state").first).to_have_text("done", timeout=30_000)
        expect(page.get_by_role("alert")).to_contain_text("1 not sent")
        reader.wrong = [told for told in reader.wrong if "422" not in told]

    def test_leaving_and_another_drop_while_files_are_sent(
        self, reader: Reader, asked: list[Path], tmp_path: Path
    ) -> None:
        page, held, sent = folder_on_its_way(reader, asked, tmp_path)
        page.keyboard.press("2")
        page.keyboard.press("3")
        page.wait_for_selector("text=Sending 1 of 3")
        page.evaluate(
            """() => { const moved = new DataTransfer(); moved.items.add(new File(['x'], 'later.png'));
            window.dispatchEvent(new DragEvent('drop', { dataTransfer: moved, bubbles: true, cancelable: true })); }"""
        )
        sent.append("let")
        for route in held:
            route.continue_()
        expect(page.locator(".jobs .state").first).to_have_text("done", timeout=30_000)
        expect(page.locator("form")).to_contain_text("1 file,")  # the second drop waits to be begun

    def test_what_a_folder_cannot_be_used_for_is_not_chosen(
        self, reader: Reader, asked: list[Path], tmp_path: Path
    ) -> None:
        for place in ("sorted/benign", "loose"):
            (tmp_path / place).mkdir(parents=True)
            (tmp_path / place / "a.png").write_bytes(asked[0].read_bytes())
        page = reader.page
        page.keyboard.press("3")
        page.set_input_files("input[webkitdirectory]", str(tmp_path / "sorted"))
        page.get_by_role("radio", name="Evaluate").check()
        page.get_by_role("button", name="Cancel").click()
        page.set_input_files("input[webkitdirectory]", str(tmp_path / "loose"))
        expect(page.get_by_role("radio", name="Query each")).to_be_checked()


class TestRestart:
    @pytest.fixture
    def port(self) -> int:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            return int(found.getsockname()[1])

    def test_the_page_goes_on_with_a_server_that_was_started_anew(
        self, browser: Browser, gallery: Path, asked: list[Path], tmp_path: Path, port: int
    ) -> None:
        given = ("--gallery", gallery, "--state", tmp_path / "state", "--port", port)
        with serving(*given) as (address, _):
            reader = Reader(browser, address)
            page = reader.pick(asked[0])
        with serving(*given):
            page.locator(".thumb").nth(1).click()  # its pictures are below a report that the server does not know
            loaded = "[...document.querySelectorAll('.compare .picture img')].map(each => each.naturalWidth > 0)"
            expect(page.locator(".compare .heat").first).to_be_visible()
            for _ in range(50):
                if all(page.evaluate(loaded)):
                    break
                page.wait_for_timeout(100)
            assert all(page.evaluate(loaded))
        with serving(*given):
            page.keyboard.press("Escape")
            with page.expect_download() as waiting:
                page.locator(".keep a", has_text="PDF").click()
            assert waiting.value.path().read_bytes().startswith(b"%PDF")
            reader.close()
