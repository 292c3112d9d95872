"""The rest of the reading room in a real browser: archive, batch, keyboard alone, looks, token."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect
from web_pages import LINK, Reader, order, reading_room, settled, sideways, tab_to, violations

from sonoseek.apps.cli.data import write_phantoms

pytestmark = [pytest.mark.peer, pytest.mark.slow]


@pytest.fixture(scope="module")
def writable(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A reading room whose archive may grow, on a gallery of its own."""
    own = tmp_path_factory.mktemp("own") / "gallery"
    command = [sys.executable, "-m", "sonoseek", "index", "build", "--dataset", "folder", "--data", str(archive)]
    subprocess.run([*command, "--gallery", str(own)], check=True, capture_output=True)
    with reading_room("--gallery", own, "--writable") as address:
        yield address


class TestArchive:
    def test_map_counts_and_a_case(self, reader: Reader, asked: list[Path]) -> None:
        page = reader.pick(asked[0])
        page.get_by_role("link", name="Archive").click()
        expect(page.locator(".side")).to_contain_text("30 scans of 30 cases")
        expect(page.locator(".legend")).to_contain_text("the query scan")
        plane = page.locator(".plane")
        plane.focus()
        plane.press("ArrowRight")
        expect(page.locator(".tip")).to_be_visible()
        plane.press("Enter")
        expect(page.locator("h1")).to_have_text(re.compile(r"^\s*(Normal|Benign|Malignant)\b"))
        expect(page.locator(".scans img").first).to_be_visible()
        page.get_by_role("button", name="Query with this case").click()
        page.wait_for_selector(".card")
        assert "case=" in page.url
        expect(page.get_by_role("button", name="Model input", exact=True)).to_have_count(0)

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
        page.set_input_files("input[webkitdirectory]", str(folder))
        page.get_by_role("radio", name="Add to the archive").check()
        page.get_by_role("button", name="Begin").click()
        expect(page.get_by_role("alert")).to_contain_text("has a dataset called 'monday' already")
        page.get_by_role("checkbox", name="The archive may have it already").check()
        page.get_by_role("button", name="Begin").click()
        card = page.locator(".jobs article").first
        expect(card.locator(".state")).to_have_text("done", timeout=30_000)
        expect(card).to_contain_text("0 added, 6 updated")
        card.get_by_role("button", name="Delete").click()
        expect(page.locator(".jobs article")).to_have_count(3)  # not yet: its table would be gone
        card.get_by_role("button", name="Delete its table for good").click()
        expect(page.locator(".jobs article")).to_have_count(2)
        expect(page.locator(".jobs")).to_be_focused()
        with page.expect_download() as waiting:
            page.locator(".jobs article").last.get_by_role("link", name="Table").click()
        assert waiting.value.path().read_text("utf-8").count("\n") == 8
        page.locator(".jobs article").first.get_by_role("button", name="Delete").click()
        page.locator(".jobs article").first.get_by_role("button", name="Delete its table for good").click()
        expect(page.locator(".jobs article")).to_have_count(1)
        reader.wrong = [told for told in reader.wrong if "422" not in told]  # the refused name
        reader.calm()
        reader.close()

    def test_a_row_opens_the_very_scan_the_likeliest_malignant_first(
        self, browser: Browser, gallery: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / "tuesday"
        write_phantoms(folder, count=9, seed=41)
        (folder / "benign" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
        noise = np.random.default_rng(0).integers(0, 256, (300, 400), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "noise.png")
        with reading_room("--gallery", gallery, "--state", tmp_path / "state") as address:
            reader = Reader(browser, address)
            page = reader.page
            page.get_by_role("link", name="Batch").click()
            expect(page.locator(".new")).to_contain_text(
                "Its files stay on the server for 24 hours after its end at most"
            )
            page.set_input_files("input[webkitdirectory]", str(folder))
            page.get_by_role("button", name="Begin").click()
            card = page.locator(".jobs article").first
            expect(card.locator(".state")).to_have_text("done", timeout=30_000)
            card.get_by_role("button", name="Show").click()
            rows = card.locator("tbody tr")
            expect(rows).to_have_count(11)
            assert violations(page) == []
            job = page.evaluate("fetch('api/jobs').then(r => r.json()).then(jobs => jobs[0].job_id)")
            told = page.evaluate(f"fetch('api/jobs/{job}/rows').then(r => r.json())")
            asked = [row for row in told if row["refused"] is None and row["name"] != "noise.png"]
            best = sorted(asked, key=lambda row: -row["outcome"]["probabilities"]["malignant"])
            shown = [row.split(" ·")[0].strip() for row in rows.locator(".file").all_inner_texts()]
            assert shown == [*(row["name"] for row in best), "noise.png", "benign/broken.png"]
            expect(rows.nth(9)).to_contain_text("no prediction: unlike the training scans")
            expect(rows.nth(9)).not_to_contain_text("%")
            unsure = sum(row["outcome"]["not_ruled_out"] for row in asked)
            expect(card).to_contain_text(f"Malignancy is not ruled out in {unsure}.")
            expect(rows.last.locator("a")).to_have_count(0)
            card.get_by_role("checkbox", name="refused ones alone").check()
            expect(rows).to_have_count(1)
            card.get_by_role("checkbox", name="refused ones alone").uncheck()
            rows.nth(2).locator(".file a").click()
            page.wait_for_selector(".card")
            expect(page.locator(".facts-line .name")).to_have_text(best[2]["name"].split("/")[-1])
            with page.expect_download() as waiting:
                page.locator(".keep a", has_text="JSON").click()
            report = json.loads(waiting.value.path().read_text("utf-8"))
            assert report["scan"]["scan_id"] == best[2]["outcome"]["scan_id"]
            page.go_back()
            page.wait_for_selector("text=Many scans at once")
            expect(rows).to_have_count(11)  # the table is open as it was left
            reader.calm()
            shutil.rmtree(tmp_path / "state" / "files")  # as after a day
            page.goto(f"{address}#/read?row={job}/{best[0]['number']}")
            expect(page.get_by_role("alert")).to_contain_text(f"'{best[0]['name']}' is not on this server any more")
            expect(page.locator("h1")).to_have_text("This row needs its scan")
            assert violations(page) == []
            reader.pick(folder / best[0]["name"])
            expect(page.locator(".facts-line .name")).to_have_text(best[0]["name"].split("/")[-1])
            expect(page.get_by_role("alert")).to_have_count(0)
            page.get_by_role("link", name="Batch").click()
            expect(page.locator(".jobs article").first.get_by_role("button", name="Hide")).to_be_visible()
            expect(page.locator(".jobs")).to_contain_text("The files are not on this server any more")
            expect(page.locator(".file a")).to_have_count(0)
            reader.close()


class TestKeyboardAlone:
    """No mouse: from the empty page to a refined search, a comparison, the archive and back."""

    def test_ask_read_refine_compare(self, reader: Reader, asked: list[Path]) -> None:
        page = reader.page
        page.wait_for_selector("text=Open a scan")
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
        expect(page.locator("figcaption").nth(1)).to_contain_text("Match 1:")
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
        page.wait_for_selector("text=Open a scan")
        page.keyboard.press("?")
        expect(page.get_by_role("dialog")).to_be_visible()
        assert violations(page) == []
        page.keyboard.press("Escape")
        expect(page.locator("dialog")).to_have_count(0)
        page.keyboard.press("t")
        assert page.evaluate("document.documentElement.dataset.theme") == "light"
        page.keyboard.press("2")
        page.wait_for_selector(".plane canvas")
        tab_to(page, ".plane")
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text(re.compile(r"^\s*(Normal|Benign|Malignant)\b"))
        page.keyboard.press("3")
        page.wait_for_selector("text=Many scans at once")
        tab_to(page, ".drop")
        with page.expect_file_chooser():
            page.keyboard.press("Enter")
        page.keyboard.press("1")
        page.wait_for_selector("text=Open a scan")


class TestLooks:
    @pytest.mark.parametrize(
        ("width", "height", "theme"),
        [
            (1280, 800, "dark"),
            (820, 1180, "light"),
            (3840, 2160, "dark"),
            pytest.param(1280, 800, "light", marks=pytest.mark.long),
            pytest.param(820, 1180, "dark", marks=pytest.mark.long),
            pytest.param(3840, 2160, "light", marks=pytest.mark.long),
        ],
    )
    def test_no_view_breaks_a_rule_of_accessibility_or_its_frame(
        self, browser: Browser, room: str, asked: list[Path], theme: str, width: int, height: int
    ) -> None:
        reader = Reader(browser, room, width=width, height=height)
        page = reader.page
        page.wait_for_selector("text=Open a scan")
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
        page.wait_for_selector("text=Query with this case")
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
        page.wait_for_selector("text=Open a scan")
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
    def test_the_link_signs_in_and_the_token_leaves_the_address(
        self, browser: Browser, gallery: Path, tmp_path: Path
    ) -> None:
        with reading_room("--gallery", gallery, "--state", tmp_path / "s", LINK) as link:
            address, token = link.split("#token=")
            reader = Reader(browser, address)
            page = reader.page
            page.get_by_label("The server's token").wait_for()  # without the link nobody enters
            assert "token" not in page.url
            page.goto(link)  # only the fragment changes: the page stays, and takes the token of the link
            page.wait_for_selector("text=Open a scan")
            assert page.url == address
            assert token not in page.evaluate("document.documentElement.outerHTML + JSON.stringify(history.state)")
            page.reload()
            page.wait_for_selector("text=Open a scan")
            page.get_by_role("button", name="Sign out").click()
            page.get_by_label("The server's token").wait_for()
            page.reload()
            page.get_by_label("The server's token").wait_for()
            assert page.context.cookies() == []
            page.goto(link)
            page.wait_for_selector("text=Open a scan")
            assert violations(page) == []
            assert not [url for url in reader.asked if token in url.split("#")[0]]
            other = Reader(browser, link[:-1] + ("b" if link.endswith("a") else "a"))
            expect(other.page.get_by_role("alert")).to_contain_text("not the server's token")
            assert "token" not in other.page.url
            assert violations(other.page) == []
            other.context.close()
            reader.context.close()
        with reading_room("--gallery", gallery, "--state", tmp_path / "s", LINK) as again:
            assert again.endswith(f"#token={token}")  # a link outlives the server

    def test_open_signs_in_and_the_token_is_no_argument_of_a_program(
        self, browser: Browser, gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program, opened = tmp_path / "browser", tmp_path / "opened"
        program.write_text(f'#!/bin/sh\necho "$@" > {opened}.part\nmv {opened}.part {opened}\n')
        program.chmod(0o700)
        monkeypatch.setenv("BROWSER", f"{program} %s")
        with reading_room("--gallery", gallery, "--state", tmp_path / "s & <t>", "--open", LINK) as link:
            for _ in range(200):
                if opened.exists():
                    break
                time.sleep(0.05)
            url = opened.read_text().strip()
            assert url.startswith("file://")
            assert link.split("#token=")[1] not in url
            assert stat.S_IMODE((tmp_path / "s & <t>" / "open.html").stat().st_mode) == 0o600
            page = browser.new_page()
            page.goto(url)
            page.wait_for_selector("text=Open a scan")
            assert page.url == link.split("#")[0]
            page.close()

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
            page.wait_for_selector("text=Open a scan")
            page.reload()
            page.wait_for_selector("text=Open a scan")
            for view, shown in (("Archive", "The archive"), ("Batch", "Many scans at once")):
                reader.context.clear_cookies()  # as a server that was started anew does, which knows no session
                page.get_by_role("link", name=view, exact=True).click()
                page.get_by_label("The server's token").fill("a-long-enough-token")
                page.get_by_role("button", name="Sign in").click()
                page.get_by_role("heading", name=shown).wait_for()
            reader.close()
