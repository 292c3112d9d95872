"""Every flow of the reading room in a real browser: by mouse, and by keyboard alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from web_pages import Reader, chromium, reading_room, sideways, violations

from sonoseek.apps.cli.data import write_phantoms

sys.path.append(str(Path(__file__).parents[1] / "dicom"))
from dicom_files import save, us_dataset

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Phantoms that are not in the archive."""
    folder = tmp_path_factory.mktemp("asked")
    write_phantoms(folder, count=9, seed=77)
    return sorted(path for path in folder.glob("*/*.png") if "_mask" not in path.name)


@pytest.fixture(scope="module")
def room(gallery: Path, asked: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    state = tmp_path_factory.mktemp("state")
    with reading_room("--gallery", gallery, "--state", state, "--examples", asked[0].parent) as address:
        yield address


@pytest.fixture
def reader(browser: Browser, room: str) -> Iterator[Reader]:
    found = Reader(browser, room)
    yield found
    found.calm()
    found.close()


@pytest.fixture(scope="module")
def cine(tmp_path_factory: pytest.TempPathFactory, asked: list[Path]) -> Path:
    """A DICOM loop of six frames, each another phantom, one pixel 0.2 mm."""
    frames = [np.asarray(Image.open(path).convert("L").resize((320, 240))) for path in asked[:6]]
    dataset = us_dataset(np.stack(frames), frames=len(frames))
    dataset.PixelSpacing = [0.2, 0.2]
    return save(dataset, tmp_path_factory.mktemp("cine") / "loop.dcm")


@pytest.fixture(scope="module")
def writable(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A reading room whose archive may grow, on a gallery of its own."""
    own = tmp_path_factory.mktemp("own") / "gallery"
    command = [sys.executable, "-m", "sonoseek", "index", "build", "--dataset", "folder", "--data", str(archive)]
    subprocess.run([*command, "--gallery", str(own)], check=True, capture_output=True)
    with reading_room("--gallery", own, "--writable") as address:
        yield address


def order(page: Page) -> list[str]:
    """The precedents as they are shown."""
    return page.locator(".card .foot a").evaluate_all("links => links.map(link => link.title)")


def tab_to(page: Page, what: str) -> None:
    """Press Tab until something has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.locator(what).evaluate("element => element === document.activeElement"):
            return
    raise AssertionError(f"Tab does not reach {what}")


def settled(page: Page) -> None:
    """The last question is answered."""
    expect(page.locator(".cards.busy")).to_have_count(0)


class TestAsk:
    def test_a_picked_scan_has_verdict_precedents_and_an_address(self, reader: Reader, asked: list[Path]) -> None:
        page = reader.pick(asked[0])
        assert page.locator(".card").count() == 10
        for name in ("Normal", "Benign", "Malignant"):
            expect(page.locator(".bars")).to_contain_text(name)
        expect(page.locator(".beside")).to_contain_text("similar case")
        assert "u=" in page.url
        assert "at=" in page.url
        shown = order(page)
        other = reader.turn(page.url.removeprefix(reader.address))
        other.wait_for_selector(".card")
        assert order(other) == shown
        expect(page.locator("footer")).to_have_text("Research use only, not for diagnosis.")
        expect(page.locator("footer")).to_be_in_viewport()

    def test_drop_and_paste(self, reader: Reader, asked: list[Path]) -> None:
        data = list(asked[1].read_bytes())
        for event in ("drop", "paste"):
            reader.page.goto(reader.address + "#/read")
            reader.page.wait_for_selector("text=Ask about a scan")
            reader.page.evaluate(
                """([kind, bytes]) => {
                  const held = new DataTransfer();
                  held.items.add(new File([new Uint8Array(bytes)], "scan.png", { type: "image/png" }));
                  window.dispatchEvent(kind === "drop"
                    ? new DragEvent("drop", { dataTransfer: held, bubbles: true, cancelable: true })
                    : new ClipboardEvent("paste", { clipboardData: held, bubbles: true, cancelable: true }));
                }""",
                [event, data],
            )
            reader.page.wait_for_selector(".card")
            expect(reader.page.locator(".facts-line")).to_contain_text("scan.png")

    def test_an_example_is_a_click_away(self, reader: Reader) -> None:
        reader.page.locator(".tries button").first.click()
        reader.page.wait_for_selector(".card")

    def test_several_views_are_asked_as_one(self, reader: Reader, asked: list[Path]) -> None:
        page = reader.pick(asked[0], asked[1])
        page.get_by_role("button", name="View 2").click()
        expect(page.get_by_role("button", name="View 2")).to_have_attribute("aria-pressed", "true")
        assert page.get_by_role("button", name="Region").count() == 0

    def test_a_loop_shows_its_frames_and_asks_the_chosen_one(self, reader: Reader, cine: Path) -> None:
        page = reader.pick(cine)
        expect(page.locator(".cine label")).to_contain_text("Frame 1 of 6")
        assert page.locator(".strip button").count() == 6
        first = page.locator(".stage img").first.get_attribute("src")
        page.get_by_role("button", name="Frame 4", exact=True).click()
        expect(page.locator(".cine label")).to_contain_text("Frame 4 of 6")
        assert page.locator(".stage img").first.get_attribute("src") != first
        assert "s=f%3A3" in page.url
        page.get_by_role("button", name="Frame 4", exact=True).press("ArrowRight")
        expect(page.locator(".cine label")).to_contain_text("Frame 5 of 6")
        expect(page.locator(".stage .bar")).to_contain_text("mm")

    def test_what_is_no_scan_says_so_and_the_page_goes_on(
        self, browser: Browser, room: str, asked: list[Path], tmp_path: Path
    ) -> None:
        reader = Reader(browser, room)
        bad = tmp_path / "notes.txt"
        bad.write_text("no picture")
        reader.page.set_input_files("header input[type=file]", str(bad))
        expect(reader.page.get_by_role("alert")).to_contain_text("notes.txt: by its first bytes this is no picture")
        expect(reader.page.get_by_role("alert")).not_to_contain_text("spool")
        reader.pick(asked[0])
        assert reader.page.get_by_role("alert").count() == 0
        reader.close()  # the browser logs the refusal: not calm

    def test_a_link_to_a_scan_that_has_left_asks_for_it_and_goes_on(
        self, browser: Browser, room: str, asked: list[Path]
    ) -> None:
        reader = Reader(browser, room)
        page = reader.pick(asked[2])
        page.get_by_role("checkbox", name="One per patient").check()
        settled(page)
        link, shown = page.url, order(page)
        upload = link.split("u=")[1][:64]
        assert page.evaluate(f"fetch('api/uploads/{upload}', {{ method: 'DELETE' }}).then(r => r.status)") == 204
        other = Reader(browser, room)
        other.page.goto(link)
        expect(other.page.locator("h1")).to_have_text("This link needs its scan")
        assert violations(other.page) == []
        other.pick(asked[2])
        settled(other.page)
        assert order(other.page) == shown
        expect(other.page.get_by_role("checkbox", name="One per patient")).to_be_checked()
        reader.close()
        other.close()


class TestArgue:
    def test_a_region_is_drawn_listed_undone_and_in_the_address(self, reader: Reader, asked: list[Path]) -> None:
        page = reader.pick(asked[0])
        whole = order(page)
        page.get_by_role("button", name="Region").click()
        frame = page.locator(".picture").bounding_box()
        assert frame is not None
        page.mouse.move(frame["x"] + frame["width"] * 0.3, frame["y"] + frame["height"] * 0.6)
        page.mouse.down()
        page.mouse.move(frame["x"] + frame["width"] * 0.7, frame["y"] + frame["height"] * 0.9, steps=4)
        page.mouse.up()
        page.get_by_role("button", name="Search").click()
        expect(page.locator(".steps li")).to_have_count(1)
        settled(page)
        part = order(page)
        assert part != whole
        expect(page.locator(".facts-line")).to_contain_text("searched with the region alone")
        other = reader.turn(page.url.removeprefix(reader.address))
        other.wait_for_selector(".card")
        assert order(other) == part
        page.get_by_role("button", name="Undo u").click()
        settled(page)
        expect(page.locator(".steps li")).to_have_count(0)
        assert order(page) == whole
        page.go_back()
        settled(page)
        expect(page.locator(".steps li")).to_have_count(1)
        assert order(page) == part

    def test_liked_and_disliked_move_the_search(self, reader: Reader, asked: list[Path]) -> None:
        page = reader.pick(asked[0])
        before = order(page)
        page.get_by_role("button", name="Less like match 1", exact=True).click()
        settled(page)
        expect(page.locator(".steps li")).to_contain_text(f"Less like {before[0]}")
        assert before[0] not in order(page)
        page.get_by_role("button", name="More like match 3", exact=True).click()
        expect(page.locator(".steps li")).to_have_count(2)
        page.get_by_role("button", name=f"Undo: Less like {before[0]}").click()
        expect(page.locator(".steps li")).to_have_count(1)
        page.get_by_role("button", name="Undo u").click()
        settled(page)
        assert order(page) == before

    def test_the_scan_area_is_corrected(self, reader: Reader, asked: list[Path]) -> None:
        page = reader.pick(asked[0])
        page.get_by_role("button", name="Network view").click()
        expect(page.locator(".hint")).to_contain_text("What the network saw")
        page.get_by_role("button", name="Area", exact=False).click()
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("Enter")
        expect(page.locator(".steps li")).to_contain_text("Scan area drawn")
        expect(page.locator(".facts-line")).to_contain_text("drawn by hand")
        page.get_by_role("button", name="find it again").click()
        expect(page.locator(".facts-line")).not_to_contain_text("drawn by hand")

    def test_filters_narrow_and_clear(self, reader: Reader, asked: list[Path]) -> None:
        page = reader.pick(asked[0])
        page.get_by_role("button", name="Malignant", exact=True).click()
        page.get_by_role("button", name="Normal", exact=True).click()
        settled(page)
        assert set(page.locator(".card .diagnosis strong").all_inner_texts()) == {"benign"}
        page.get_by_role("textbox", name="Filter in words").fill("age < 0")
        page.keyboard.press("Enter")
        expect(page.locator(".none")).to_contain_text("No past case passes this filter")
        page.get_by_role("button", name="Clear filter").click()
        expect(page.locator(".card")).to_have_count(10)
        page.get_by_role("button", name="Load more").click()
        expect(page.locator(".card")).to_have_count(20)

    def test_a_filter_that_does_not_parse_keeps_the_answer(
        self, browser: Browser, room: str, asked: list[Path]
    ) -> None:
        reader = Reader(browser, room)
        page = reader.pick(asked[0])
        page.get_by_role("textbox", name="Filter in words").fill("agee < 40")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("agee")
        assert page.locator(".card").count() == 10
        reader.close()


class TestCompare:
    def test_side_by_side_in_step_with_window_and_caliper(self, reader: Reader, cine: Path) -> None:
        page = reader.pick(cine)
        page.locator(".thumb").nth(1).click()
        expect(page.locator("figcaption").nth(1)).to_contain_text("Match 2, proven")
        assert page.locator(".pair .heat").count() == 4
        lenses = page.locator(".pair .lens")
        box = page.locator(".pair .picture").first.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] / 3)
        page.mouse.wheel(0, -600)
        expect(lenses.first).to_have_attribute("style", re.compile(r"scale\(2"))
        assert lenses.nth(0).evaluate("e => e.style.transform") == lenses.nth(1).evaluate("e => e.style.transform")
        page.get_by_label("Window").fill("120")
        assert "url(" in page.locator(".pair .lens img").first.evaluate("e => e.style.filter")
        page.get_by_role("button", name="Caliper").click()
        expect(page.locator(".length").first).to_contain_text("mm")
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Why these two").click()
        expect(page.locator(".pair .heat")).to_have_count(0)

    def test_arrows_go_through_the_matches_and_escape_goes_back(self, reader: Reader, asked: list[Path]) -> None:
        page = reader.pick(asked[0])
        page.keyboard.press("c")
        expect(page.locator("figcaption").nth(1)).to_contain_text("Match 1,")
        page.keyboard.press("ArrowRight")
        expect(page.locator("figcaption").nth(1)).to_contain_text("Match 2,")
        assert "m=2" in page.url
        page.keyboard.press("Escape")
        expect(page.locator(".card")).to_have_count(10)


class TestKeep:
    def test_pdf_html_and_json_are_one_click(self, reader: Reader, asked: list[Path]) -> None:
        page = reader.pick(asked[0])
        begins = {"PDF": b"%PDF-", "HTML": b"<!doctype html>", "JSON": b"{"}
        for name, start in begins.items():
            with page.expect_download() as waiting:
                page.locator(".keep").get_by_role("link", name=name).click()
            path = waiting.value.path()
            assert path.read_bytes().startswith(start)
            if name == "JSON":
                assert json.loads(path.read_text("utf-8"))["schema"] == "sonoseek-report"

    def test_the_link_is_copied(self, reader: Reader, asked: list[Path]) -> None:
        page = reader.pick(asked[0])
        page.get_by_role("button", name="Copy link").click()
        expect(page.locator(".keep")).to_contain_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == page.url


class TestArchive:
    def test_map_counts_and_a_case(self, reader: Reader, asked: list[Path]) -> None:
        page = reader.pick(asked[0])
        page.get_by_role("link", name="Archive").click()
        expect(page.locator(".side")).to_contain_text("30 scans of 30 cases")
        expect(page.locator(".legend")).to_contain_text("the scan that is asked about")
        plane = page.locator(".plane")
        plane.focus()
        plane.press("ArrowRight")
        expect(page.locator(".tip")).to_be_visible()
        plane.press("Enter")
        expect(page.locator("h1")).to_contain_text("proven")
        expect(page.locator(".scans img").first).to_be_visible()
        page.get_by_role("button", name="Ask with this case").click()
        page.wait_for_selector(".card")
        assert "case=" in page.url
        expect(page.get_by_role("button", name="Network view")).to_have_count(0)

    def test_a_case_that_is_not_there(self, browser: Browser, room: str) -> None:
        reader = Reader(browser, room)
        reader.page.goto(f"{room}#/case/nowhere/nothing")
        expect(reader.page.get_by_role("alert")).to_contain_text("holds no case")
        reader.close()


class TestBatch:
    def test_a_folder_is_asked_evaluated_and_added(self, browser: Browser, writable: str, tmp_path: Path) -> None:
        folder = tmp_path / "monday"
        write_phantoms(folder, count=6, seed=31)
        (folder / "benign" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
        reader = Reader(browser, writable)
        page = reader.page
        page.get_by_role("link", name="Batch").click()
        for kind, told in (("Evaluate", "Accuracy"), ("Add to the archive", "added")):
            page.set_input_files("input[webkitdirectory]", str(folder))
            expect(page.locator("form")).to_contain_text("monday")
            page.get_by_role("radio", name=kind).check()
            page.get_by_role("button", name="Begin").click()
            card = page.locator(".jobs article").first
            expect(card.locator(".state")).to_have_text("done", timeout=30_000)
            expect(card).to_contain_text("1 refused")
            expect(card).to_contain_text(told)
            card.get_by_role("button", name="Show").click()
            expect(card.locator(".rows .error")).to_contain_text("broken.png")
            assert violations(page) == []
        expect(page.locator(".about")).to_contain_text("36 scans")
        with page.expect_download() as waiting:
            page.locator(".jobs article").last.get_by_role("link", name="Table").click()
        assert waiting.value.path().read_text("utf-8").count("\n") == 8
        page.locator(".jobs article").first.get_by_role("button", name="Delete").click()
        expect(page.locator(".jobs article")).to_have_count(1)
        reader.calm()
        reader.close()


class TestKeyboardAlone:
    """No mouse: from the empty page to a refined search, a comparison, the archive and back."""

    def test_ask_read_refine_compare(self, reader: Reader, asked: list[Path]) -> None:
        page = reader.page
        page.wait_for_selector("text=Ask about a scan")
        with page.expect_file_chooser() as waiting:
            page.keyboard.press("o")
        waiting.value.set_files(str(asked[0]))
        page.wait_for_selector(".card")
        page.keyboard.press("h")
        expect(page.locator(".stage .heat")).to_have_count(0)
        page.keyboard.press("h")
        before = order(page)
        page.keyboard.press("r")
        for _ in range(8):
            page.keyboard.press("ArrowDown")
        page.keyboard.press("Shift+ArrowLeft")
        page.keyboard.press("Enter")
        expect(page.locator(".steps li")).to_contain_text("Region")
        settled(page)
        page.keyboard.press("u")
        expect(page.locator(".steps li")).to_have_count(0)
        settled(page)
        page.keyboard.press("p")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        expect(page.locator("[data-rank='3']")).to_be_focused()
        page.keyboard.press("l")
        expect(page.locator(".steps li")).to_contain_text(f"More like {before[2]}")
        settled(page)
        page.keyboard.press("u")
        settled(page)
        page.keyboard.press("p")
        page.keyboard.press("Home")
        page.keyboard.press("Enter")
        expect(page.locator("figcaption").nth(1)).to_contain_text("Match 1,")
        page.keyboard.press("m")
        expect(page.locator(".length")).to_have_count(2)
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")
        expect(page.locator(".card")).to_have_count(10)
        page.keyboard.press("/")
        page.keyboard.type("label = 'benign'")
        page.keyboard.press("Enter")
        settled(page)
        expect(page.locator(".steps li")).to_contain_text("Only label = 'benign'")

    def test_archive_help_theme_and_batch(self, reader: Reader) -> None:
        page = reader.page
        page.wait_for_selector("text=Ask about a scan")
        page.keyboard.press("?")
        expect(page.get_by_role("dialog")).to_be_visible()
        assert violations(page) == []
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        page.keyboard.press("t")
        assert page.evaluate("document.documentElement.dataset.theme") == "light"
        page.keyboard.press("2")
        page.wait_for_selector(".plane canvas")
        tab_to(page, ".plane")
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_contain_text("proven")
        page.keyboard.press("3")
        page.wait_for_selector("text=Many scans at once")
        tab_to(page, ".drop")
        with page.expect_file_chooser():
            page.keyboard.press("Enter")
        page.keyboard.press("1")
        page.wait_for_selector("text=Ask about a scan")


class TestLooks:
    @pytest.mark.parametrize("theme", ["dark", "light"])
    @pytest.mark.parametrize(("width", "height"), [(1280, 800), (820, 1180), (3840, 2160)])
    def test_no_view_breaks_a_rule_of_accessibility_or_its_frame(
        self, browser: Browser, room: str, asked: list[Path], theme: str, width: int, height: int
    ) -> None:
        reader = Reader(browser, room, width=width, height=height)
        page = reader.page
        page.wait_for_selector("text=Ask about a scan")
        if theme == "light":
            page.keyboard.press("t")
        seen = {"welcome": violations(page)}
        reader.pick(asked[0])
        page.keyboard.press("w")
        seen["read"] = violations(page)
        assert not sideways(page)
        page.keyboard.press("c")
        page.wait_for_selector(".compare")
        seen["compare"] = violations(page)
        assert not sideways(page)
        page.keyboard.press("Escape")
        name = order(page)[0]
        page.goto(f"{room}#/archive")
        page.wait_for_selector(".plane canvas")
        page.locator(".plane").focus()
        page.keyboard.press("ArrowUp")
        seen["archive"] = violations(page)
        page.goto(f"{room}#/case/{name}")
        page.wait_for_selector("text=Ask with this case")
        seen["case"] = violations(page)
        page.goto(f"{room}#/batch")
        page.wait_for_selector("text=Many scans at once")
        seen["batch"] = violations(page)
        assert not sideways(page)
        assert {view: found for view, found in seen.items() if found} == {}
        reader.calm()
        reader.close()

    def test_the_page_is_light_and_nothing_jumps(self, browser: Browser, room: str, asked: list[Path]) -> None:
        reader = Reader(browser, room)
        page = reader.page
        page.wait_for_selector("text=Ask about a scan")
        weight = page.evaluate(
            """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
              .filter(e => !e.name.includes("/api/")).reduce((sum, e) => sum + e.transferSize, 0)"""
        )
        assert 10_000 < weight < 150_000
        page.evaluate(
            """() => { window.moved = 0; new PerformanceObserver(list => {
              for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.moved += entry.value;
            }).observe({ type: "layout-shift", buffered: true }); }"""
        )
        reader.pick(asked[0])
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(300)
        assert page.evaluate("window.moved") < 0.1
        reader.close()


class TestToken:
    def test_the_page_asks_for_the_token_once(self, browser: Browser, gallery: Path, tmp_path: Path) -> None:
        token = tmp_path / "token"
        token.write_text("a-long-enough-token\n")
        with reading_room("--gallery", gallery, "--state", tmp_path / "s", "--token-file", token) as address:
            reader = Reader(browser, address)
            page = reader.page
            page.get_by_label("The server's token").fill("not this one")
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_role("alert")).to_contain_text("not the server's token")
            assert violations(page) == []
            page.get_by_label("The server's token").fill("a-long-enough-token")
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_selector("text=Ask about a scan")
            page.reload()
            page.wait_for_selector("text=Ask about a scan")
            reader.close()
