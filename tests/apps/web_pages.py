"""A reading room as a process, and a browser to look at it with."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
ROOT = Path(__file__).parents[2]
BUILT = ROOT / "src/sonoseek/apps/web/page/index.html"
AXE = ROOT / "frontend/node_modules/axe-core/axe.min.js"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


LINK = "link"
"""An argument of `serving`: the server makes its token, and the address is the link with it."""


@contextmanager
def reading_room(*arguments: object) -> Iterator[str]:
    """`sonoseek serve ARGUMENTS` on a free port; gives its address, and ends it."""
    with serving(*arguments) as (address, _):
        yield address


@contextmanager
def serving(*arguments: object) -> Iterator[tuple[str, int]]:
    """The same; gives the process's id too. Everybody may enter where no argument is about who may."""
    options = [*map(str, arguments)]
    if not {"--token-file", "--proxy-authenticates", LINK} & set(options):
        options.append("--no-token")
    options = [option for option in options if option != LINK]
    command = [sys.executable, "-m", "sonoseek", "serve", "--port", "0", "--quiet", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, f"no address in {line!r}"
        yield found[0], process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
        if process.stdout is not None:
            process.stdout.close()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, driven by Playwright; a skip that says why where it is not there."""
    if CHROMIUM is None:
        pytest.skip("no chromium on the PATH")
    if not BUILT.is_file():
        pytest.skip("the page is not built; `make page` builds it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class Reader:
    """A page, and what went wrong on it: every test ends with `calm`."""

    def __init__(self, browser: Browser, address: str, *, width: int = 1280, height: int = 800) -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, accept_downloads=True, reduced_motion="reduce"
        )
        self.context.set_default_timeout(10_000)
        self.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address.rstrip("/"))
        self.address = address
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.page = self.turn()

    def turn(self, hash_: str = "") -> Page:
        """Another page of the same reader."""
        page = self.context.new_page()
        page.on("console", lambda told: self.wrong.append(told.text) if told.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("filechooser", lambda _: None)  # from now on: asked for in the moment, it comes too late at times
        page.goto(self.address + hash_)
        return page

    def pick(self, *files: Path) -> Page:
        """Pick files as a reader does, and wait for the similar cases."""
        self.page.set_input_files("header input[type=file]", [str(file) for file in files])
        self.page.wait_for_selector(".card")
        expect(self.page.locator(".prediction h1")).not_to_have_text("")
        return self.page

    def calm(self) -> None:
        """No error on the page, and nothing asked from elsewhere."""
        assert not self.wrong, self.wrong
        elsewhere = [url for url in self.asked if not url.startswith((self.address, "blob:", "data:"))]
        assert not elsewhere, elsewhere

    def close(self) -> None:
        self.context.close()


def violations(page: Page) -> list[str]:
    """What axe-core finds against WCAG 2.2 AA on what is shown now."""
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate(
        """async tags => {
          const found = await axe.run(document, { runOnly: { type: "tag", values: tags } });
          return found.violations.map(v => `${v.id}: ${v.help} ${v.nodes.map(n => n.target.join(" ")).join(" | ")}`);
        }""",
        TAGS,
    )
    return [str(each) for each in found]


def sideways(page: Page) -> bool:
    """Whether the page has to be pushed sideways to be read."""
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth + 1"))


def order(page: Page) -> list[str]:
    """The matches as they are shown."""
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
