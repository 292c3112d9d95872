"""A question in a real browser: asked, argued with, compared, kept."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect
from web_pages import Reader, order, settled, violations

sys.path.append(str(Path(__file__).parents[1] / "io/dicom"))
from dicom_files import save, us_dataset

pytestmark = pytest.mark.peer


@pytest.fixture(scope="module")
def cine(tmp_path_factory: pytest.TempPathFactory, asked: list[Path]) -> Path:
    """A DICOM loop of six frames, each another phantom, one pixel 0.2 mm."""
    frames = [np.asarray(Image.open(path).convert("L").resize((320, 240))) for path in asked[:6]]
    dataset = us_dataset(np.stack(frames), frames=len(frames))
    dataset.PixelSpacing = [0.2, 0.2]
    return save(dataset, tmp_path_factory.mktemp("cine") / "loop.dcm")


class TestAsk:
    def test_a_picked_scan_has_a_prediction_similar_cases_and_an_address(
        self, reader: Reader, asked: list[Path]
    ) -> None:
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
            reader.page.wait_for_selector("text=Open a scan")
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

    def test_several_views_are_asked_as_one(self, reader: Reader, asked: list[Path], tmp_path: Path) -> None:
        # Files of their own: the server knows one that was sent before by the name that it had then.
        for path in asked[:2]:
            Image.open(path).save(tmp_path / path.name, compress_level=1)
        asked = [tmp_path / path.name for path in asked[:2]]
        page = reader.pick(*asked)
        page.get_by_role("button", name="View 2").click()
        expect(page.get_by_role("button", name="View 2")).to_have_attribute("aria-pressed", "true")
        facts = page.locator(".facts-line")
        expect(facts.locator(".name")).to_have_text(asked[1].name)
        expect(facts).to_contain_text("This view alone: Likelihood of malignancy")
        page.get_by_role("button", name="View 1").click()
        expect(facts.locator(".name")).to_have_text(asked[0].name)
        expect(facts).not_to_contain_text("This view alone")
        page.get_by_role("button", name="View 2").click()
        page.get_by_role("button", name="Region").click()
        expect(page.locator(".hint")).to_contain_text("A region is of one scan")

    def test_a_loop_shows_its_frames_and_asks_the_chosen_one(self, reader: Reader, cine: Path) -> None:
        page = reader.pick(cine)
        expect(page.locator(".cine label")).to_contain_text("Frame 1 of 6")
        assert page.locator(".strip button").count() == 6
        first = page.locator(".stage img").first.get_attribute("src")
        page.get_by_role("button", name="Frame 4", exact=True).click()
        expect(page.locator(".cine label")).to_contain_text("Frame 4 of 6")
        expect(page.locator(".stage img").first).not_to_have_attribute("src", first or "")
        assert "s=f%3A3" in page.url
        page.get_by_role("button", name="Frame 4", exact=True).press("ArrowRight")
        expect(page.locator(".cine label")).to_contain_text("Frame 5 of 6")
        expect(page.get_by_role("button", name="Frame 5", exact=True)).to_be_focused()
        for _ in range(3):  # wherever the focus is by now: it must not have been lost to an answer
            page.keyboard.press("ArrowLeft")
        expect(page.locator(".cine label")).to_contain_text("Frame 2 of 6")
        expect(page.get_by_role("button", name="Frame 2", exact=True)).to_be_focused()
        page.keyboard.press("ArrowRight")
        expect(page.locator(".cine label")).to_contain_text("Frame 3 of 6")
        page.locator(".cine input").press("End")
        page.keyboard.press("ArrowLeft")
        expect(page.locator(".cine label")).to_contain_text("Frame 5 of 6")
        expect(page.locator(".cine input")).to_be_focused()
        expect(page.locator(".stage .bar")).to_contain_text("mm")

    def test_a_loop_plays_and_names_the_frame_with_the_highest_likelihood(self, reader: Reader, cine: Path) -> None:
        page = reader.pick(cine)
        label = page.locator(".cine label")
        page.get_by_role("button", name="Play", exact=True).click()
        expect(label).not_to_contain_text("Frame 1 of 6")
        expect(page.locator(".stage img").first).to_have_attribute("src", re.compile(r"/frames/\d"))
        page.locator(".cine").get_by_role("button", name="Stop").click()
        expect(label).to_contain_text("Frame 1 of 6")
        page.get_by_role("button", name="Predict every frame").click()
        status = page.locator(".cine p[role=status]")
        expect(status).to_contain_text("Highest likelihood of malignancy: frame")
        assert page.locator(".column").count() == 6
        number = re.search(r"frame (\d)", status.inner_text())
        assert number is not None
        if (show := status.get_by_role("button", name="Show it")).count():
            show.click()
        expect(label).to_contain_text(f"Frame {number[1]} of 6")
        expect(status).to_contain_text("It is shown")
        assert violations(page) == []

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
        page.get_by_role("checkbox", name="One per patient").uncheck()
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
        expect(other.page.get_by_role("checkbox", name="One per patient")).not_to_be_checked()
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
        page.get_by_role("button", name="Model input", exact=True).click()
        expect(page.locator(".hint")).to_contain_text("The model input: cropped")
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
        expect(page.locator(".none")).to_contain_text("No scan of this archive has an age")
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
        expect(page.locator(".steps li")).to_have_count(0)  # it was not taken: what is shown is not filtered
        field = page.get_by_role("textbox", name="Filter in words")
        expect(field).to_have_value("agee < 40")
        field.fill("age < 70")
        page.keyboard.press("Enter")
        expect(page.locator(".steps li")).to_contain_text("Only age < 70")
        expect(page.get_by_role("alert")).to_have_count(0)
        expect(field).to_have_value("age < 70")
        reader.close()


class TestCompare:
    def test_side_by_side_in_step_with_window_and_caliper(self, reader: Reader, cine: Path) -> None:
        page = reader.pick(cine)
        page.locator(".thumb").nth(1).click()
        expect(page.locator("figcaption").nth(1)).to_contain_text("Match 2:")
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
        expect(page.locator("figcaption").nth(1)).to_contain_text("Match 1:")
        mine = page.locator("figcaption").first
        expect(mine).to_contain_text("malignancy")
        assert mine.evaluate("caption => caption.scrollWidth <= caption.clientWidth")  # nothing of it is cut off
        page.keyboard.press("ArrowRight")
        expect(page.locator("figcaption").nth(1)).to_contain_text("Match 2:")
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
