"""A real browser for tests: headless Chromium, driven by Playwright. One for each module that wants it.

    class PageTests(BrowserTestCase):
        def test_title(self) -> None:
            page = self.page("http://127.0.0.1:8110/")
            self.assertEqual(page.title(), "mailgate")

Whatever a page throws or complains of fails its test at the end. So does a connection to any name below
`invalid`: they lead into a trap, and all others (the browser has wishes of its own) nowhere.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from twisted.trial.unittest import SynchronousTestCase

from tests.needs import needs, unavailable

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
             "--disable-sync", "--no-first-run", "--disable-quic"]
WAIT_MS = 60_000       # for what takes moments: the machine may be busy
PHONE, DESKTOP = (360, 780), (1440, 900)


class Browser:
    """The browser of this process, while a module's tests run."""

    def __init__(self) -> None:
        program = needs("chromium")
        try:
            from playwright.sync_api import sync_playwright
        except ImportError:
            unavailable("missing: playwright; install with: pip install -e '.[test]'")
        self._trap = socket.create_server(("127.0.0.1", 0))
        self._trap.setblocking(False)
        to_trap = (f"--host-resolver-rules=MAP *.invalid 127.0.0.1:{self._trap.getsockname()[1]}, "
                   "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
        self._driver = sync_playwright().start()
        self.chromium: Any = self._driver.chromium.launch(
            executable_path=program, args=[*ARGUMENTS, to_trap], timeout=WAIT_MS)

    def trapped(self) -> int:
        """Return how many connections to elsewhere there were since the last call."""
        count = 0
        while True:
            try:
                connection, _ = self._trap.accept()
            except BlockingIOError:
                return count
            connection.close()
            count += 1

    def stop(self) -> None:
        self.chromium.close()
        self._driver.stop()
        self._trap.close()


_browser: list[Browser] = []


def stop_browser() -> None:
    """To be called by `tearDownModule`."""
    while _browser:
        _browser.pop().stop()


class BrowserTestCase(SynchronousTestCase):
    """Tests that open pages."""

    def setUp(self) -> None:
        if not _browser:
            _browser.append(Browser())
        self.complaints: list[str] = []     # of pages; what a test expects it takes out
        self.asked: list[str] = []          # addresses
        self._latest: Any = None            # page; while it is waited for, whatever happens is heard
        _browser[0].trapped()
        self.addCleanup(self._judge)

    def _judge(self) -> None:
        self.assertEqual(self.complaints, [])
        self.assertEqual(self.trapped(), 0)

    def trapped(self) -> int:
        return _browser[0].trapped()

    def page(self, address: str = "", *, size: tuple[int, int] = DESKTOP, scheme: Any = "light",
             motion: Any = "no-preference") -> Any:
        """Return a page in a browser profile of its own."""
        context = _browser[0].chromium.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, reduced_motion=motion)
        context.set_default_timeout(WAIT_MS)
        self.addCleanup(context.close)
        page = self._latest = context.new_page()
        page.on("console", lambda message: message.type in ("error", "warning") and self.complaints.append(
            message.text))
        page.on("pageerror", lambda fault: self.complaints.append(f"thrown: {fault}"))
        page.on("dialog", lambda dialog: (self.complaints.append(f"dialog: {dialog.message}"),
                                          dialog.dismiss()))
        page.on("popup", lambda popup: self.complaints.append(f"popup: {popup.url}"))
        page.on("request", lambda request: self._note(request.url))
        page.on("websocket", lambda socket: self._note(socket.url))
        if address:
            page.goto(address)
        return page

    def _note(self, address: str) -> None:
        self.asked.append(address)
        parts = urlsplit(address)
        if parts.scheme not in ("data", "blob") and parts.hostname != "127.0.0.1":
            self.complaints.append(f"asks elsewhere: {address}")

    def expect(self, *words: str) -> None:
        """Take complaints out that have to come: at least one with each of these words."""
        for word in words:
            until = time.monotonic() + WAIT_MS / 1000
            while not any(word in one for one in self.complaints) and time.monotonic() < until:
                self._latest.wait_for_timeout(20)
            self.assertTrue([one for one in self.complaints if word in one], (word, self.complaints))
        self.complaints[:] = [one for one in self.complaints if not any(word in one for word in words)]


# What can be judged of any page -------------------------------------------------------------------

PROBLEMS = Path(__file__).with_name("browser_problems.js").read_text(encoding="utf-8")


def problems_of(page: Any) -> list[str]:
    """Return what is wrong with a page as it is shown now: layout, names, structure, contrast."""
    found: list[str] = page.evaluate(PROBLEMS)
    return found


def tabbed(page: Any, most: int = 200) -> list[str]:
    """Return what gets the focus behind the skip link, by the Tab key alone, until it comes round.

    Raises: AssertionError, where the focus cannot be seen or does not come round.
    """
    page.evaluate("() => { window.first = document.querySelector('.skip'); window.first.focus(); }")
    seen: list[str] = []
    for _ in range(most):
        page.keyboard.press("Tab")
        told = page.evaluate("""() => {
          const one = document.activeElement;
          if (!one || one === document.body || one === window.first) return "";
          const style = getComputedStyle(one);
          const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
          const name = one.id || one.getAttribute("href") || one.textContent.trim() || one.tagName;
          return (ring ? "" : "UNSEEN ") + name.slice(0, 60);
        }""")
        if not told:
            break
        seen.append(told)
    else:
        raise AssertionError(f"the focus does not come round: {seen[-5:]}")
    unseen = [one for one in seen if one.startswith("UNSEEN")]
    if unseen:
        raise AssertionError(f"focus that cannot be seen: {unseen}")
    return seen
