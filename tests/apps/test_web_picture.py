"""The picture keeps its size, evidence can be flickered, cards say all of it, and nothing that was drawn vanishes."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect
from web_pages import Reader, reading_room, settled, violations

pytestmark = [pytest.mark.peer, pytest.mark.slow]
HISTOLOGIES = (
    "Invasive ductal carcinoma",
    "Intraductal papilloma",
    "Papillary lesion",
    "Mixed invasive ductal and lobular carcinoma",
    "Atypical ductal hyperplasia",
)


@pytest.fixture(scope="module")
def shapes(asked: list[Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One scan wider than the stage, and one that is as tall as it: of the latter every line below costs size."""
    folder = tmp_path_factory.mktemp("shapes")
    picture = Image.open(asked[0]).convert("L")
    picture.resize((700, 400)).save(folder / "wide.png")
    picture.resize((400, 600)).save(folder / "tall.png")
    return [folder / "wide.png", folder / "tall.png"]


@pytest.fixture(scope="module")
def described(archive: Path, run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive with histologies as BUS-BRA has them, and long names of cases and devices."""
    folder = tmp_path_factory.mktemp("described")
    with (folder / "table.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["case_id", "file", "pathology", "histology", "device", "birads"])
        scans = sorted(path for path in archive.glob("*/*.png") if "_mask" not in path.name)
        for number, path in enumerate(scans):
            histology = HISTOLOGIES[number % len(HISTOLOGIES)]
            device = "GE Healthcare LOGIQ E9 XDclear 2.0"
            table.writerow([f"case of {path.stem}", path, path.parent.name, histology, device, "4C"])
    run("index", "build", "--dataset", "manifest", "--data", folder / "table.csv", "--gallery", folder / "g")
    return folder / "g"


def box(place: Locator) -> tuple[float, ...]:
    found = place.bounding_box()
    assert found is not None
    return tuple(round(found[side], 1) for side in ("x", "y", "width", "height"))


def switches(page: Page) -> dict[str, tuple[float, ...]]:
    """The picture's place and size with everything switched on and off, one by one."""
    picture = page.locator(".look .picture")
    seen: dict[str, tuple[float, ...]] = {"first": box(picture)}

    def press(*keys: str) -> None:
        for key in keys:
            page.keyboard.press(key)
        seen[" ".join(keys)] = box(picture)

    press("h")
    press("h")
    press("w")
    page.get_by_role("checkbox", name="Outline").uncheck()
    seen["no outline"] = box(picture)
    page.get_by_label("Strength of the evidence map").fill("0")
    seen["no map"] = box(picture)
    page.get_by_role("button", name="Reset").click()
    press("w")
    press("m")
    press("Escape")
    press("r")
    press("Escape")
    press("x")
    press("Escape")
    for name in ("Normal", "Benign"):
        page.locator(".filters").get_by_role("button", name=name).click()
        settled(page)
        seen[f"filter {name}"] = box(picture)
    return seen


class TestSize:
    @pytest.mark.parametrize(("width", "height"), [(1280, 800), (1920, 1080)])
    def test_the_picture_keeps_its_size_whatever_is_switched_on(
        self, browser: Browser, room: str, shapes: list[Path], width: int, height: int
    ) -> None:
        reader = Reader(browser, room, width=width, height=height)
        page = reader.page
        for shape in shapes:
            reader.pick(shape)
            expect(page.locator(".facts-line .name")).to_have_text(shape.name)
            seen = switches(page)
            picture = page.locator(".look .picture")
            page.keyboard.press("r")
            page.keyboard.press("Enter")
            expect(page.locator(".facts-line")).to_contain_text("searched with the region alone")
            seen["region searched"] = box(picture)
            page.keyboard.press("x")
            page.keyboard.press("Shift+ArrowUp")
            page.keyboard.press("Enter")
            expect(page.locator(".facts-line")).to_contain_text("scan area drawn by hand")
            seen["area drawn"] = box(picture)
            assert set(seen.values()) == {seen["first"]}, seen
            pair = page.locator(".pair .picture")
            page.keyboard.press("c")
            page.wait_for_selector(".compare")
            expect(page.locator(".compare .facts")).to_contain_text("Case")
            first = [box(pair.nth(side)) for side in (0, 1)]
            for key in ("h", "h", "m"):
                page.keyboard.press(key)
                assert [box(pair.nth(side)) for side in (0, 1)] == first
            page.locator(".strip [data-rank='2']").click()
            expect(page.locator("figcaption").nth(1)).to_contain_text("Match 2:")
            assert box(pair.nth(0)) == first[0]
            page.get_by_role("button", name="Back").click()
        single = box(page.locator(".look .stage"))
        reader.pick(*shapes)
        page.get_by_role("button", name="View 2").wait_for()
        seen = switches(page)
        assert set(seen.values()) == {seen["first"]}, seen
        assert box(page.locator(".look .stage")) == single
        reader.calm()
        reader.close()

    def test_evidence_opens_as_an_outline_with_a_faint_map_and_flickers(
        self, browser: Browser, room: str, asked: list[Path]
    ) -> None:
        reader = Reader(browser, room)
        page = reader.pick(asked[0])
        heat, outline = page.locator(".look .heat"), page.locator(".look .outline")
        expect(heat).to_have_count(2)
        expect(heat.first).to_have_css("opacity", "0.25")
        expect(outline).to_have_count(1)
        for count in (0, 1, 0, 1):
            page.keyboard.press("h")
            expect(outline).to_have_count(count)
            expect(heat).to_have_count(2 * count)
        page.keyboard.press("w")
        page.get_by_label("Strength of the evidence map").fill("60")
        page.get_by_role("checkbox", name="Outline").uncheck()
        expect(outline).to_have_count(0)
        other = reader.turn(page.url.removeprefix(reader.address))  # another visit: the reader's own choice
        other.wait_for_selector(".card")
        expect(other.locator(".look .heat").first).to_have_css("opacity", "0.6")
        expect(other.locator(".look .outline")).to_have_count(0)
        other.keyboard.press("w")
        other.get_by_role("button", name="Reset").click()
        expect(other.locator(".look .heat").first).to_have_css("opacity", "0.25")
        expect(other.locator(".look .outline")).to_have_count(1)
        assert violations(other) == []
        reader.calm()
        reader.close()


class TestCards:
    def test_the_whole_histology_and_similarity_at_every_width(
        self, browser: Browser, described: Path, asked: list[Path], tmp_path: Path
    ) -> None:
        with reading_room("--gallery", described, "--state", tmp_path / "state") as address:
            for width, height, columns in ((1280, 800, 4), (1920, 1080, 5), (2560, 1440, 5)):
                reader = Reader(browser, address, width=width, height=height)
                page = reader.pick(asked[0])
                cards = page.locator(".card")
                lefts = sorted({round(box(card)[0]) for card in cards.all()})
                assert len(lefts) == columns
                right = max(box(card)[0] + box(card)[2] for card in cards.all())
                frame = box(page.locator(".similar"))
                assert right == pytest.approx(frame[0] + frame[2], abs=2)  # the columns fill the width
                whole = "each => each.scrollHeight <= each.clientHeight + 1 && each.scrollWidth <= each.clientWidth + 1"
                for card in cards.all():
                    assert card.locator(".histology").inner_text() in HISTOLOGIES
                    assert card.locator(".histology").evaluate(whole)
                    figure = card.locator(".likeness")
                    assert re.fullmatch(r"0\.\d{3}|1\.000", figure.inner_text())
                    here, around = box(figure), box(card)
                    assert here[0] >= around[0]
                    assert here[0] + here[2] <= around[0] + around[2]
                if columns == 5:  # two full rows, to the lower third of the screen
                    assert max(box(card)[1] + box(card)[3] for card in cards.all()) > height * 2 / 3
                assert violations(page) == []
                reader.calm()
                reader.close()


class TestArea:
    def test_it_opens_without_a_box_and_the_keyboard_alone_will_do(self, reader: Reader, asked: list[Path]) -> None:
        page = reader.pick(asked[0])
        drawn, use = page.locator(".look .box"), page.get_by_role("button", name="Use")
        page.keyboard.press("x")
        expect(page.locator(".hint")).to_contain_text("Draw around the ultrasound picture")
        expect(drawn).to_have_count(0)
        expect(use).to_be_disabled()
        page.keyboard.press("Enter")
        expect(page.locator(".hint")).to_contain_text("Draw around")  # nothing is drawn: nothing is asked
        page.keyboard.press("Shift+ArrowUp")
        expect(drawn).to_have_count(1)
        picture, found = box(page.locator(".look .picture")), box(drawn)
        assert found[2] == pytest.approx(picture[2], rel=0.02)  # it began as the area that was found: nearly all of it
        assert found[3] == pytest.approx(picture[3] * 0.98, rel=0.02)
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Area").click()
        expect(drawn).to_have_count(0)
        page.mouse.move(picture[0] + picture[2] * 0.1, picture[1] + picture[3] * 0.1)
        page.mouse.down()
        page.mouse.move(picture[0] + picture[2] * 0.9, picture[1] + picture[3] * 0.8, steps=4)
        page.mouse.up()
        use.click()
        expect(page.locator(".steps li")).to_contain_text("Scan area drawn")


class TestViews:
    def search_with_region(self, page: Page) -> None:
        page.keyboard.press("r")
        page.keyboard.press("Enter")
        expect(page.locator(".steps li")).to_contain_text("Region")
        settled(page)

    def test_region_and_area_are_taken_away_with_a_word_and_come_back(self, reader: Reader, asked: list[Path]) -> None:
        page = reader.pick(asked[0])
        self.search_with_region(page)
        page.keyboard.press("x")
        page.keyboard.press("Shift+ArrowUp")
        page.keyboard.press("Enter")
        expect(page.locator(".steps li")).to_have_count(2)
        settled(page)
        page.locator(".filters").get_by_role("button", name="Normal").click()
        settled(page)
        page.get_by_label("Pick another view of the lesion").set_input_files(str(asked[1]))
        page.get_by_role("button", name="View 2").wait_for()
        lost = page.locator(".notice")
        expect(lost).to_contain_text("The region and the area were taken away as a second view was added")
        expect(page.locator(".steps li")).to_have_count(1)  # the filter is of any number of views
        assert violations(page) == []
        lost.get_by_role("button", name="Undo").click()
        expect(page.locator(".steps li")).to_have_count(3)
        expect(page.get_by_role("button", name="View 2")).to_have_count(0)
        expect(page.locator(".notice")).to_have_count(0)

    def test_the_same_when_the_scan_is_dropped_again_beside_another(self, reader: Reader, asked: list[Path]) -> None:
        page = reader.pick(asked[0])
        self.search_with_region(page)
        reader.page.set_input_files("header input[type=file]", [str(asked[0]), str(asked[1])])
        expect(page.locator(".notice")).to_contain_text("The region was taken away as a second view was added")
        page.get_by_role("button", name="New scan").click()
        reader.pick(asked[2], asked[3])
        expect(page.locator(".notice")).to_have_count(0)

    def test_another_frame_takes_a_region_away_with_a_word(
        self, reader: Reader, asked: list[Path], tmp_path: Path
    ) -> None:
        frames = [Image.open(path).convert("L").resize((320, 240)) for path in asked[:3]]
        frames[0].save(tmp_path / "loop.gif", save_all=True, append_images=frames[1:])
        page = reader.pick(tmp_path / "loop.gif")
        self.search_with_region(page)
        page.get_by_role("button", name="Frame 2", exact=True).click()
        expect(page.locator(".notice")).to_contain_text("The region was taken away as another frame was chosen")
        expect(page.locator(".steps li")).to_have_count(1)
        page.locator(".notice").get_by_role("button", name="Undo").click()
        expect(page.locator(".steps li")).to_contain_text("Region")
        expect(page.locator(".cine label")).to_contain_text("Frame 1 of 3")

    def test_a_tool_for_one_scan_says_so_and_how_to_have_it(self, reader: Reader, asked: list[Path]) -> None:
        page = reader.pick(asked[0], asked[1])
        second = page.url.split("u=")[2][:64]
        for key, what in (("r", "A region is of one scan"), ("x", "An area is of one scan")):
            page.keyboard.press(key)
            expect(page.locator(".hint")).to_contain_text(f"{what}, and this query has 2 views")
        page.get_by_role("button", name="View 2").click()
        page.get_by_role("button", name="Query with view 2 alone").click()
        expect(page.get_by_role("button", name="View 2")).to_have_count(0)
        settled(page)
        assert page.url.split("u=")[1][:64] == second
        page.keyboard.press("r")
        expect(page.locator(".hint")).to_contain_text("Draw a box around the region to search with")

    def test_one_picture_twice_is_one_view(self, reader: Reader, asked: list[Path]) -> None:
        page = reader.pick(asked[0])
        page.get_by_label("Pick another view of the lesion").set_input_files(str(asked[0]))
        expect(page.get_by_role("alert")).to_contain_text("among the views already")

    def test_what_the_server_refuses_is_said(self, browser: Browser, room: str, asked: list[Path]) -> None:
        reader = Reader(browser, room)
        page = reader.pick(asked[0], asked[1])
        for step, said in (("r:10,10,90,90", "a region is of one scan"), ("c:10,10,90,90", "a crop is of one file")):
            other = reader.turn(f"{page.url.removeprefix(reader.address)}&s={step}")
            expect(other.get_by_role("alert")).to_contain_text(said)
        reader.close()  # the browser logs the refusals: not calm
