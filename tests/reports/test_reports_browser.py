"""The page in a real browser, driven over Chromium's own debugging pipe."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sonoseek.core import Report
from sonoseek.reports import IndexEntry, write_index_page, write_report

pytestmark = pytest.mark.peer
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Browser:
    """Just enough of the DevTools protocol: commands and answers, each ended by a zero byte."""

    def __init__(self, profile: Path) -> None:
        reads, gives = os.pipe()
        takes, writes = os.pipe()

        # --remote-debugging-pipe reads from descriptor 3 and writes to descriptor 4
        move = "import fcntl, os, sys; ends = [fcntl.fcntl(int(n), fcntl.F_DUPFD, 20) for n in sys.argv[1:3]]; "
        move += "os.dup2(ends[0], 3); os.dup2(ends[1], 4); os.execv(sys.argv[3], sys.argv[3:])"
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        flags += ["--remote-debugging-pipe", f"--user-data-dir={profile}", "--window-size=1280,900", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", move, str(reads), str(writes), str(CHROMIUM), *flags],
            pass_fds=(reads, writes),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(reads)
        os.close(writes)
        self._watchdog = threading.Timer(120, self._process.kill)  # a browser that hangs fails the test, not the suite
        self._watchdog.daemon = True
        self._watchdog.start()
        self._to = os.fdopen(gives, "wb", buffering=0)
        self._from = os.fdopen(takes, "rb")
        self._number = 0
        self._session = ""
        self.events: list[dict[str, Any]] = []
        page = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, path: Path) -> None:
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(e["method"] == "Page.loadEventFired" for e in self.events):
            self._next()

    def evaluate(self, expression: str) -> Any:
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def press(self, key: str) -> None:
        codes = {"ArrowRight": 39, "ArrowLeft": 37, "End": 35, "Tab": 9, "Escape": 27, " ": 32}
        for kind in ("rawKeyDown", "char", "keyUp") if key == " " else ("rawKeyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                windowsVirtualKeyCode=codes[key],
                **({"text": " "} if kind == "char" else {}),
            )

    def close(self) -> None:
        self._session = ""
        self.call("Browser.close")
        self._to.close()
        self._from.close()
        self._process.wait(timeout=20)
        self._watchdog.cancel()

    def _next(self) -> dict[str, Any]:
        data = bytearray()
        while (byte := self._from.read(1)) != b"\0":
            assert byte, "the browser is gone"
            data += byte
        message: dict[str, Any] = json.loads(bytes(data))
        if "method" in message:
            self.events.append(message)
        return message


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture
def page(
    browser: Browser,
    build_report: Callable[..., Report],
    build_pair: Callable[..., Report],
    tmp_path: Path,
) -> Browser:
    browser.open(write_report(build_pair(build_pair(build_report(), 2), 3), tmp_path / "r.html"))
    return browser


def console_messages(browser: Browser) -> list[str]:
    return [
        json.dumps(e["params"])[:400]
        for e in browser.events
        if e["method"] in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
    ]


WARM = "getComputedStyle(document.querySelector('.layers:not([hidden]) .warm'))"


def test_no_console_messages_and_one_file(page: Browser) -> None:
    assert console_messages(page) == []
    requested = [e["params"]["request"]["url"] for e in page.events if e["method"] == "Network.requestWillBeSent"]
    assert [url for url in requested if not url.startswith("data:")] == [page.evaluate("location.href")]
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)") is True


def test_the_slider_moves_the_opacity_by_keyboard(page: Browser) -> None:
    assert page.evaluate(WARM + ".opacity") == "0.65"
    page.evaluate("document.getElementById('opacity').focus()")
    page.press("ArrowRight")
    assert page.evaluate(WARM + ".opacity") == "0.7"
    assert page.evaluate("document.getElementById('opacity-value').textContent") == "70 %"
    page.press("End")
    assert page.evaluate(WARM + ".opacity") == "1"


def test_layers_go_on_and_off(page: Browser) -> None:
    cool = "getComputedStyle(document.querySelector('.layers .cool')).display"
    assert (page.evaluate(WARM + ".display"), page.evaluate(cool)) == ("block", "none")
    for name in ("show-warm", "show-cool"):
        page.evaluate(f"document.getElementById('{name}').focus()")
        page.press(" ")
    assert (page.evaluate(WARM + ".display"), page.evaluate(cool)) == ("none", "block")


def test_another_heatmap_can_be_chosen(page: Browser) -> None:
    shown = "[...document.querySelectorAll('#stage .layers, .legend')].map(e => e.checkVisibility())"
    assert page.evaluate(shown) == [True, False, False, True, False, False]
    page.evaluate(
        "{ const w = document.getElementById('which'); w.value = '1'; w.dispatchEvent(new Event('change')); }"
    )
    assert page.evaluate(shown) == [False, True, False, False, True, False]


OTHERS = "[...document.querySelectorAll('.other')].map(e => e.checkVisibility())"
OUTLINE = "document.querySelector('.outline').checkVisibility()"


def test_a_card_opens_its_pair_side_by_side_and_closes_it(page: Browser) -> None:
    assert page.evaluate(OTHERS) == [False, False]
    assert page.evaluate(OUTLINE) is True
    page.evaluate("document.querySelector('[data-show=\"2\"]').click()")
    assert page.evaluate(OTHERS) == [False, True]
    assert page.evaluate(OUTLINE) is False  # it outlines the evidence for the prediction, not for the similarity
    assert page.evaluate("location.hash") == "#match-3"
    left, right = page.evaluate(
        "[...document.querySelectorAll('.panel')].filter(e => e.checkVisibility())"
        ".map(e => e.querySelector('.stage').getBoundingClientRect().left)"
    )
    assert left < right
    page.evaluate("document.getElementById('show-warm').click()")
    hidden = "[...document.querySelectorAll('.panel .warm')].filter(e => e.checkVisibility()).length"
    assert page.evaluate(hidden) == 0  # one switch for both
    page.evaluate("document.getElementById('back').click()")
    assert page.evaluate(OTHERS) == [False, False]
    assert console_messages(page) == []


def test_pairs_by_keyboard_alone(page: Browser) -> None:
    page.evaluate("document.querySelector('[data-show]').focus()")
    page.press(" ")
    assert page.evaluate(OTHERS) == [True, False]
    page.press("ArrowRight")
    assert page.evaluate(OTHERS) == [False, True]
    assert page.evaluate("document.activeElement.dataset.show") == "2"
    page.press("Escape")
    assert page.evaluate(OTHERS) == [False, False]
    assert page.evaluate("document.activeElement.dataset.show") == "2"


def test_a_link_opens_a_pair(browser: Browser, page: Browser) -> None:
    file = page.evaluate("location.pathname")
    browser.open(Path("/"))
    browser.call("Page.navigate", url=f"file://{file}#match-2")
    while not browser.evaluate("document.readyState === 'complete' && !!document.getElementById('which')"):
        pass
    assert browser.evaluate(OTHERS) == [True, False]


def test_a_link_opens_a_pair_on_an_open_page_too(page: Browser) -> None:
    page.evaluate("location.hash = '#match-3'")
    for _ in range(1000):
        if page.evaluate(OTHERS) == [False, True]:
            break
    assert page.evaluate(OTHERS) == [False, True]
    assert console_messages(page) == []


def test_the_pair_stays_in_sight_when_arrows_choose_another(page: Browser) -> None:
    top = "document.getElementById('stage').getBoundingClientRect().top"
    page.call("Emulation.setDeviceMetricsOverride", width=1280, height=800, deviceScaleFactor=1, mobile=False)
    try:
        page.evaluate("document.querySelector('[data-show]').focus()")
        page.press(" ")
        before = page.evaluate(top)
        page.press("ArrowRight")
        assert page.evaluate(OTHERS) == [False, True]
        assert page.evaluate(top) == pytest.approx(before, abs=2)
    finally:
        page.call("Emulation.clearDeviceMetricsOverride")


def test_the_outline_goes_on_and_off(page: Browser) -> None:
    assert page.evaluate(OUTLINE) is True
    page.evaluate("document.getElementById('show-outline').click()")
    assert page.evaluate("getComputedStyle(document.querySelector('.outline')).display") == "none"


@pytest.mark.parametrize("width", [360, 600, 1280, 3840])
def test_nothing_overflows_and_the_disclaimer_stays_in_sight(page: Browser, width: int) -> None:
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
    try:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for place in ("0", "document.body.scrollHeight"):
            page.evaluate(f"window.scrollTo(0, {place})")
            bottom, top = page.evaluate(
                "(r => [r.bottom, r.top])(document.querySelector('.disclaimer').getBoundingClientRect())"
            )
            assert 0 < top < bottom <= 800
        ratio = page.evaluate("(r => r.width / r.height)(document.getElementById('stage').getBoundingClientRect())")
        assert ratio == pytest.approx(160 / 120, rel=0.01)
    finally:
        page.call("Emulation.clearDeviceMetricsOverride")


def test_hostile_texts_run_nothing(browser: Browser, hostile_report: Report, tmp_path: Path) -> None:
    browser.open(write_report(hostile_report, tmp_path / "h.html"))
    assert console_messages(browser) == []
    assert browser.evaluate("document.scripts.length") == 1
    browser.open(
        write_index_page([IndexEntry(report=hostile_report, href="h.html", title="<img src=x>")], tmp_path / "i.html")
    )
    assert console_messages(browser) == []
    assert browser.evaluate("document.querySelector('.card a').href.endsWith('/h.html')") is True
