"""The worklist in a real browser: from the list to the scan, the patient's other study beside it, and a decision."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from web_pages import Reader, reading_room, violations

pytest.importorskip("pynetdicom")
from worklist_parts import NOW, received, wait_for

pytestmark = [
    pytest.mark.peer,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


def test_from_the_list_to_a_verified_report(browser: Browser, archive: Path, gallery: Path, tmp_path: Path) -> None:
    with (
        received(tmp_path, archive, gallery) as (settings, store_of, _),
        reading_room("--gallery", gallery, "--state", tmp_path / "serve", "--pacs", settings) as address,
    ):
        reader = Reader(browser, address)
        page = reader.page
        page.get_by_role("link", name="Worklist").click()
        rows = page.locator("tbody tr")
        expect(rows).to_have_count(3)
        expect(page.locator("[role=status]")).to_contain_text("3 sent")
        assert violations(page) == []
        page.get_by_label("Search the worklist").fill("a1")
        expect(rows).to_have_count(1)
        rows.first.get_by_role("link").click()
        study = page.get_by_role("region", name="The study")
        expect(study).to_contain_text("Curie, Marie")
        assert NOW in page.url
        strip = study.get_by_role("group", name="Pictures of the study")
        expect(strip.locator("img")).to_have_count(2)
        expect(strip.locator("[aria-current]")).to_have_class(re.compile("highest"))
        expect(study.get_by_role("note")).to_have_count(0)
        strip.locator("a:not(.highest)").click()
        expect(strip.locator("[aria-current]")).not_to_have_class(re.compile("highest"))
        expect(page.locator(".read:not([inert]) .prediction h1")).to_be_visible()
        expect(study.get_by_role("note")).to_contain_text("is open; the report is of picture")
        expect(study.get_by_role("button", name="Accept")).to_have_text(re.compile(r"Accept .*% \(picture \d"))
        assert violations(page) == []
        study.get_by_role("button", name="2025-01-01").click()
        expect(study.locator("figure img")).to_be_visible()
        accept = study.get_by_role("button", name="Accept")
        expect(accept).to_be_disabled()
        study.get_by_label("Your name").fill("Wilhelm Röntgen")
        before = len(store_of.stored)
        accept.click()
        expect(study).to_contain_text("Accepted by Wilhelm Röntgen")
        wait_for(lambda: len(store_of.stored) == before + 1, seconds=20)
        assert violations(page) == []
        page.reload()
        expect(study).to_contain_text("Accepted by Wilhelm Röntgen")
        reader.calm()
        reader.close()
