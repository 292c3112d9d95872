"""Draw the reading room's pictures, on phantoms alone: `.venv/bin/python docs/images/reading_room.py`.

Needs Chromium and the built page (`make page`). Walks the tutorial's steps in a real browser and photographs each.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

HERE = Path(__file__).parent
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


def walk(page: Page, address: str, folder: Path) -> None:
    """The tutorial, step by step."""
    page.goto(address)
    page.wait_for_selector(".tries img")
    keep(page, "room-empty")
    page.get_by_role("button", name="malignant", exact=False).first.click()
    page.wait_for_selector(".card")
    keep(page, "room-read")
    page.get_by_role("button", name="Region").click()
    frame = page.locator(".picture").bounding_box()
    outline = page.locator(".outline").bounding_box()
    assert frame is not None and outline is not None  # noqa: PT018, S101  # for the type checker
    page.mouse.move(outline["x"] - 8, outline["y"] - 8)
    page.mouse.down()
    page.mouse.move(outline["x"] + outline["width"] + 8, outline["y"] + outline["height"] + 8, steps=5)
    page.mouse.up()
    page.get_by_role("button", name="Search").click()
    page.wait_for_selector(".steps li")
    page.get_by_role("button", name="More like match 2", exact=True).click()
    expect(page.locator(".steps li")).to_have_count(2)
    keep(page, "room-refine")
    page.locator(".thumb").nth(0).click()
    page.wait_for_selector(".compare")
    keep(page, "room-compare")
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Archive").click()
    page.wait_for_selector(".plane canvas")
    plane = page.locator(".plane").bounding_box()
    assert plane is not None  # noqa: S101
    page.mouse.move(plane["x"] + plane["width"] * 0.72, plane["y"] + plane["height"] * 0.72)
    page.wait_for_timeout(400)
    for _ in range(3):
        page.locator(".plane").focus()
        page.keyboard.press("ArrowRight")
    page.wait_for_selector(".tip img")
    keep(page, "room-archive")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Query with this case")
    keep(page, "room-case")
    page.get_by_role("link", name="Batch").click()
    page.set_input_files("input[webkitdirectory]", str(folder))
    page.get_by_role("radio", name="Evaluate").check()
    page.get_by_role("button", name="Begin").click()
    expect(page.locator(".state").first).to_have_text("done", timeout=60_000)
    page.get_by_role("button", name="Show").first.click()
    page.wait_for_selector(".rows td")
    keep(page, "room-batch")


def keep(page: Page, name: str) -> None:
    """Photograph the page once it has come to rest."""
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(300)
    page.screenshot(path=HERE / f"{name}.jpg", type="jpeg", quality=82)


def main() -> None:
    """Build an archive, open the reading room on it, walk."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("no chromium on the PATH; install it to draw the pictures")
    run = [sys.executable, "-m", "sonoseek"]
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        subprocess.run([*run, "demo", "--no-serve", "--out", str(place / "demo")], check=True)
        subprocess.run(
            [*run, "data", "phantom", "--out", str(place / "monday"), "--count", "24", "--seed", "5"], check=True
        )
        (place / "monday" / "benign" / "notes.png").write_text("no picture")
        gallery, scans = place / "demo/gallery-phantom", place / "demo/scans"
        options = ["--gallery", str(gallery), "--examples", str(scans), "--port", "0", "--quiet", "--writable"]
        options += ["--no-token"]
        server = subprocess.Popen([*run, "serve", *options], stdout=subprocess.PIPE, text=True)
        try:
            found = re.search(r"http://\S+", server.stdout.readline() if server.stdout else "")
            assert found is not None  # noqa: S101
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
                page = browser.new_page(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
                walk(page, found[0], place / "monday")
                browser.close()
        finally:
            server.terminate()
            server.wait(20)


if __name__ == "__main__":
    main()
