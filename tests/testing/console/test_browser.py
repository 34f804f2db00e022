"""The harness's console in a real browser: what it shows, what it does, and what nothing can make it do."""

from __future__ import annotations

import http.client
import poplib
import smtplib
from pathlib import Path
from typing import Any
from unittest.mock import patch

from mailgate.testing.api.site import Web
from mailgate.testing.console.pages import Console
from mailgate.testing.server import Server
from tests.browser import DESKTOP, PHONE, BrowserTestCase, problems_of, stop_browser, tabbed
from tests.ports import held_port

TOKEN = "the-token-of-this-test-0123456789"
LARGE = 5_000_000
VIEWS = ("#/sessions", "#/sessions/1", "#/deliveries", "#/deliveries/1", "#/mail", "#/mail/mrose",
         "#/compose", "#/faults", "#/scenarios", "#/accounts")

# What mail has been seen to try. Each asks for elsewhere.invalid, or leaves a mark, if it works.
HOSTILE = """
<script>window.top.marked = window.marked = 1; fetch("http://elsewhere.invalid/fetch")</script>
<img src="http://elsewhere.invalid/img" onerror="alert(1)"><img src=x onerror=alert(2)>
<img srcset="http://elsewhere.invalid/set 1x" src="//elsewhere.invalid/schemeless">
<picture><source srcset="http://elsewhere.invalid/source"><img src="http://elsewhere.invalid/in"></picture>
<meta http-equiv="refresh" content="0;url=http://elsewhere.invalid/refresh">
<base href="http://elsewhere.invalid/"><link rel="stylesheet" href="http://elsewhere.invalid/css">
<link rel="preconnect" href="http://elsewhere.invalid"><link rel="dns-prefetch" href="//elsewhere.invalid">
<link rel="prefetch" href="http://elsewhere.invalid/prefetch">
<form action="http://elsewhere.invalid/form"><input autofocus onfocus="alert(3)"><button>Go</button></form>
<object data="http://elsewhere.invalid/object"></object><embed src="http://elsewhere.invalid/embed">
<iframe src="http://elsewhere.invalid/frame" srcdoc="<script>alert(4)</script>"></iframe>
<style>@import "http://elsewhere.invalid/import"; body { background: url(http://elsewhere.invalid/url) }
@font-face { font-family: f; src: url(http://elsewhere.invalid/font) } p { font-family: f }</style>
<p style="background-image:url('http://elsewhere.invalid/style')">styled</p>
<p style="background:u\\72l(http://elsewhere.invalid/escaped)">escaped</p>
<svg xmlns="http://www.w3.org/2000/svg"><script>alert(5)</script><image href="http://elsewhere.invalid/svg"/>
<foreignObject><body onload="alert(6)"></body></foreignObject></svg>
<math><mtext></form><form><mglyph><style></math><img src onerror=alert(7)></style></mglyph></form></math>
<a href="javascript:alert(8)">click</a> <a href="http://elsewhere.invalid/link" target="_top">away</a>
<a href="http://elsewhere.invalid/ping" ping="http://elsewhere.invalid/pinged">ping</a>
<video src="http://elsewhere.invalid/video" poster="http://elsewhere.invalid/poster" autoplay></video>
<audio src="http://elsewhere.invalid/audio" autoplay></audio><body background="http://elsewhere.invalid/body">
<table background="http://elsewhere.invalid/table"><tr><td>cell</td></tr></table>
<details open ontoggle="alert(9)">more</details><marquee onstart="alert(10)">m</marquee>
<noscript><p title="</noscript><img src=x onerror=alert(11)>"></noscript>
<template><img src=x onerror=alert(12)></template><!--><img src=x onerror=alert(13)>-->
<p>the end of it</p>
"""


def hostile(markup: str = HOSTILE) -> bytes:
    """Return a message; its subject turns the direction of reading."""
    return f"""From: "<img src=x onerror=alert(15)>" <a@example.org>
Subject: =?utf-8?b?4oCuZXhlLmdwag==?= <script>alert(14)</script>
X-Test: \u202etxt.\u200bexe\x1b[31m
Content-Type: multipart/mixed; boundary=a

--a
Content-Type: text/html; charset=utf-8

{markup}
--a
Content-Type: text/html
Content-Disposition: attachment; filename="../../\u202elmth.exe"

<script>alert(16)</script>
--a--
""".replace("\n", "\r\n").encode()


class ConsoleTestCase(BrowserTestCase):
    """A harness with a console, and a page that shows it."""

    def setUp(self) -> None:
        super().setUp()
        self.server = Server().start()
        self.addCleanup(self.server.stop)
        self.harness = self.server._harness
        self.serve()

    def call(self, function: Any, *args: Any, **more: Any) -> Any:
        return self.server._thread.call(function, *args, **more)

    def serve(self, port: int = 0) -> None:
        self.web = Web(self.harness, self.server._thread.reactor, token=TOKEN, console=Console)
        self.call(self.web.listen, port)
        self.port = self.web.access.port
        self.addCleanup(self.call, self.web.stop)

    def open(self, view: str = "", **more: Any) -> Any:
        """Return a page that is signed in and live."""
        page = self.page(f"{self.web.url}/console/#token={TOKEN}", **more)
        page.wait_for_selector("#link[data-state=live]")
        if view:
            self.go(page, view)
        return page

    def go(self, page: Any, view: str) -> None:
        # the heading that has the focus may be that of the view before
        page.evaluate("""(hash) => {
          if (location.hash !== hash) document.activeElement.blur();
          location.hash = hash;
        }""", view)
        page.wait_for_function("(hash) => location.hash === hash && document.activeElement.matches('h1, h2')",
                               arg=view)

    def client(self, name: str = "mrose") -> poplib.POP3:
        client = poplib.POP3("127.0.0.1", self.harness.listener("pop3").address[1], timeout=60)
        self.addCleanup(client.close)
        client.user(name)
        client.pass_("secret")
        return client

    def send(self) -> None:
        """Have a client bring mail that nobody wants."""
        with smtplib.SMTP(*self.server.smtp, timeout=60) as client:
            client.docmd("MAIL", "FROM:<nobody>")

    def fill(self) -> None:
        """Have one of everything."""
        self.call(self.harness.add_account, "mrose", "secret")
        self.call(self.harness.add_account, "farm", "secret", sdps=True)
        self.call(self.harness.add_message, "mrose", b"Subject: one\r\n\r\nhello\r\n.dot\r\n")
        self.call(self.harness.add_message, "mrose", hostile())

    def unique_ids(self) -> list[str]:
        return [one.unique_id.decode() for one in self.call(self.harness.messages, "mrose")]


class ShowingTests(ConsoleTestCase):
    def test_as_it_happens(self) -> None:
        """From the empty page, which says where to connect, to a transcript that grows with each command."""
        page = self.open()
        page.wait_for_selector("text=No sessions yet")
        address = f"127.0.0.1:{self.harness.listener('pop3').address[1]}"
        self.assertIn(address, page.inner_text("main"))
        self.assertNotIn(TOKEN, page.url)                           # it is out of the address, and of history
        self.call(self.harness.add_account, "mrose", "secret")
        self.call(self.harness.add_message, "mrose", b"Subject: <b>one</b>\r\n\r\nhello\r\n")
        client = self.client()
        page.click("text=#1")
        page.wait_for_selector(".transcript >> text=PASS ********")
        self.assertNotIn("secret", page.inner_text("body"))
        client.retr(1)
        page.wait_for_selector(".transcript >> text=Subject: <b>one</b>")
        client.quit()
        page.wait_for_selector(".detail .badge >> text=QUIT")
        self.assertEqual(page.locator(".who-C").all_inner_texts()[-1].split()[-1], "QUIT")
        page.wait_for_function("() => document.getElementById('news').textContent.includes('has ended')")

    def test_errors(self) -> None:
        """What cannot be shown is told, with a way on; a wrong token is asked for again."""
        page = self.open("#/faults")
        page.route("**/api/v1/kinds", lambda route: route.fulfill(
            status=500, json={"detail": "no kinds today"}))
        page.evaluate("location.hash = '#/accounts'")
        page.wait_for_selector("text=Nobody can log in")
        page.evaluate("location.hash = '#/faults'")
        page.wait_for_selector("[role=alert] >> text=no kinds today")
        page.unroute("**/api/v1/kinds")
        page.click("text=Try again")
        page.wait_for_selector("text=Nothing goes wrong")
        self.expect("500")
        stranger = self.page(f"{self.web.url}/console/#token=no-such-token")
        stranger.fill("#token", "wrong too")
        stranger.keyboard.press("Enter")
        stranger.wait_for_selector("text=This is not the token")
        stranger.fill("#token", TOKEN)
        stranger.keyboard.press("Enter")
        stranger.wait_for_selector("#link[data-state=live]")
        self.expect("401")

    def test_comes_back(self) -> None:
        """A connection that is lost is told, tried again by itself, and nothing is missed."""
        self.fill()
        self.serve(held_port(self))
        page = self.open()
        self.call(self.web.stop)
        page.wait_for_selector("#link[data-state=lost]")
        page.wait_for_selector("text=The connection to the harness is lost")
        self.client().quit()
        self.serve(self.port)
        page.wait_for_selector("#link[data-state=live]")
        page.wait_for_selector("#session-1 >> text=mrose")
        self.client()
        page.wait_for_selector("#session-2 >> text=mrose")
        ends = "net::ERR_CONNECTION_", "net::ERR_EMPTY_RESPONSE", "closed before the connection"
        self.complaints[:] = [one for one in self.complaints if not any(words in one for words in ends)]

    def test_every_view(self) -> None:
        """Phone and desktop, light and dark: nothing cut off, unnamed or too faint; all is reached by Tab."""
        self.fill()
        self.client().quit()
        self.send()
        self.call(self.harness.trouble.add, _fault("close", command="RETR", at=30))
        letters = [f"#/mail/mrose/{one}" for one in self.unique_ids()]
        for size, scheme in ((PHONE, "dark"), (DESKTOP, "light")):
            page = self.open(size=size, scheme=scheme, motion="reduce")
            for view in (*VIEWS, *letters):
                self.go(page, view)
                page.wait_for_timeout(60)
                self.assertEqual(problems_of(page), [], f"{view} {size} {scheme}")
                if scheme == "light" and view in ("#/sessions/1", "#/compose", "#/faults", letters[1]):
                    reached = tabbed(page)
                    self.assertGreater(len(reached), 12, view)
                    self.assertEqual(reached[0], "#/sessions")


    def test_deliveries(self) -> None:
        """From the empty list, which says where to send to, to what was said, without asking again."""
        page = self.open("#/deliveries")
        self.assertIn(f"127.0.0.1:{self.server.smtp[1]}", page.inner_text("main"))
        self.send()
        page.click("text=#1 smtp >> xpath=ancestor::a")
        page.wait_for_selector(".transcript >> text=MAIL FROM:<nobody>")
        page.wait_for_selector(".overview .badge >> text=QUIT")


class DoingTests(ConsoleTestCase):
    def test_fault_by_keyboard(self) -> None:
        """Without a mouse: a fault is switched on, acts, is counted, and is switched off."""
        self.fill()
        page = self.open()
        press = page.keyboard.press

        def tab_to(wanted: str) -> None:
            for _ in range(60):
                press("Tab")
                if page.evaluate("(wanted) => document.activeElement.matches(wanted)", wanted):
                    return
            raise AssertionError(f"{wanted} is not reached")

        tab_to("[data-section=faults]")
        press("Enter")
        page.wait_for_selector("#fault-do")
        tab_to("#fault-do")
        page.keyboard.type("close")
        tab_to("#setting-at")
        page.keyboard.type("20")
        tab_to("#fault-command")
        page.keyboard.type("RETR")
        press("Enter")
        page.wait_for_selector("#off-1")
        with self.assertRaises(poplib.error_proto):
            self.client().retr(1)
        page.wait_for_selector("td[data-name=Acted] >> text=1")
        tab_to("#off-1")
        press("Enter")
        page.wait_for_selector("text=Nothing goes wrong")
        self.assertIn(b"hello", self.client().retr(1)[1])

    def test_bad_fault(self) -> None:
        """What is wrong with a fault is told with its place."""
        page = self.open("#/faults")
        page.fill("#fault-probability", "0.5")
        page.fill("#fault-session", "0")
        page.click("text=Switch on")
        page.wait_for_selector(".failure >> text=session")
        self.expect("422")

    def test_scenario_clock_and_reset(self) -> None:
        """A scenario is found and switched on; the clock is held and moved on; a reset asks first."""
        from mailgate.testing import scenarios

        name = scenarios.names()[0]
        self.fill()
        page = self.open("#/scenarios")
        page.fill("#scenario-search", name)
        page.click(f"#use-{name}")
        page.wait_for_selector(f"#stop-{name}")
        self.assertEqual(self.harness.scenario.name, name)
        self.assertIn(scenarios.load(name).finds[:20], page.inner_text(".card.on"))
        page.click("#hold")
        page.wait_for_selector("#clock-state >> text=held")
        before = self.harness.clock.seconds()
        page.select_option("#advance-unit", "3600")
        page.fill("#advance-by", "2")
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.getElementById('news').textContent.includes('7200')")
        self.assertEqual(self.harness.clock.seconds(), before + 7200)
        page.click("#reset")
        self.assertEqual(page.evaluate("document.activeElement.textContent"), "Cancel")
        page.keyboard.press("Escape")
        self.assertEqual(len(self.unique_ids()), 2)
        page.click("#reset")
        page.click("dialog button >> text=Reset")
        page.wait_for_selector("text=No sessions yet")
        self.assertEqual(self.call(self.harness.store.accounts.list), [])

    def test_mail_in(self) -> None:
        """An account is added, a message written and files dropped; poplib fetches them octet by octet."""
        page = self.open("#/accounts")
        page.fill("#account-name", "mrose")
        page.keyboard.press("Enter")
        page.wait_for_selector("#account-mrose")
        self.go(page, "#/compose/mrose")
        page.fill("#compose-subject", "Gr\u00fc\u00dfe")
        page.fill("#compose-text", "first\n.dot\nlast")
        page.click("text=Put it in")
        page.wait_for_selector("text=message 1 of mrose")
        folder = Path(self.mktemp())
        folder.mkdir(parents=True)
        eml = b"Subject: dropped\r\n\r\n\xff\x00 octets\r\n..two dots\r\n"
        (folder / "one.eml").write_bytes(eml)
        (folder / "many.mbox").write_bytes(
            b"From a@example.org Sat Jan  3 01:05:34 1998\nSubject: m1\n\n>From here\n\n"
            b"From b@example.org Sat Jan  3 01:05:34 1998\nSubject: m2\n\nend\n\n")
        page.set_input_files("#compose-files", [folder / "one.eml", folder / "many.mbox"])
        page.wait_for_selector("text=many.mbox: 2 messages")
        client = self.client()
        fetched = [b"\r\n".join(client.retr(number)[1]) + b"\r\n" for number in range(1, 5)]
        self.assertIn(b"Subject: =?utf-8?B?", fetched[0])
        self.assertTrue(fetched[0].endswith(b"\r\n\r\nfirst\r\n.dot\r\nlast\r\n"), fetched[0])
        self.assertEqual(fetched[1], eml)
        self.assertIn(b"\r\n\r\nFrom here\r\n", fetched[2])
        self.assertTrue(fetched[3].startswith(b"Subject: m2\r\n"))


class HostileTests(ConsoleTestCase):
    """Mail that wants out. `BrowserTestCase` fails for every request elsewhere, every dialog, every throw."""

    def look_through(self, page: Any, unique_id: str) -> None:
        self.go(page, f"#/mail/mrose/{unique_id}")
        frame = page.frame_locator("iframe.frame")
        frame.locator("body").wait_for()
        self.assertEqual(page.get_attribute("iframe.frame", "sandbox"), "")
        for name in ("Text", "Headers", "Source", "Attachments", "HTML"):
            page.click(f"[role=tab] >> text={name}")
            page.wait_for_timeout(30)

    def test_does_nothing(self) -> None:
        """Scripts, remote content, forms, frames, styles, tricks in the header: shown, and harmless."""
        self.call(self.harness.add_account, "mrose", "secret")
        unique_id = self.call(self.harness.add_message, "mrose", hostile())
        page = self.open()
        self.look_through(page, unique_id)
        frame = page.frame_locator("iframe.frame")
        frame.locator("text=the end of it").wait_for()
        self.assertEqual(frame.locator(
            "a[href], form, script, link, meta[http-equiv], base, iframe, object").count(), 0)
        frame.locator("a").first.click()
        self.assertIn("U+202E", page.inner_text("h2"))
        self.assertNotIn("\u202e", page.inner_text("main"))
        self.assertIsNone(page.evaluate("window.marked ?? null"))
        page.click("[role=tab] >> text=Attachments")
        with page.expect_download() as download:
            page.click("td >> text=Save")
        self.assertRegex(download.value.suggested_filename, r"^[^./\\\u202e][^/\\\u202e]*lmth\.exe$")
        self.assertEqual([one for one in self.asked if "elsewhere" in one], [])

    def test_without_the_cleaner(self) -> None:
        """The frame and its policy hold alone: were the HTML sent as it came, it could do nothing either."""
        self.call(self.harness.add_account, "mrose", "secret")
        unique_id = self.call(self.harness.add_message, "mrose", hostile())
        with patch("mailgate.testing.console.pages.page_of", lambda letter: HOSTILE.encode()):
            page = self.open()
            self.look_through(page, unique_id)
            page.wait_for_timeout(300)
            self.expect("Content Security Policy", "sandbox")
        self.assertIsNone(page.evaluate("window.marked ?? null"))
        self.assertTrue(page.url.startswith(self.web.url))
        page.context.close()        # what else was blocked may be told late
        self.complaints[:] = [one for one in self.complaints if "Content Security Policy" not in one
                              and "sandbox" not in one]
        self.complaints[:] = [one for one in self.complaints if "ERR_BLOCKED_BY_CSP" not in one
                              and "violates the following" not in one and "asks elsewhere" not in one]
        self.assertEqual(self.trapped(), 0)

    def test_large(self) -> None:
        """Five megabytes of HTML are shown in part, soon, and can be saved whole."""
        self.call(self.harness.add_account, "mrose", "secret")
        content = hostile("<p>" + f"<b>{'x' * 90}</b> " * (LARGE // 98))
        unique_id = self.call(self.harness.add_message, "mrose", content)
        page = self.open()
        self.look_through(page, unique_id)
        page.frame_locator("iframe.frame").locator("text=the rest is left out").wait_for()
        with page.expect_download() as download:
            page.click(".detail .head >> text=Save")
        self.assertEqual(Path(download.value.path()).read_bytes(), content)


class RefusalTests(ConsoleTestCase):
    def ask(self, method: str, path: str, **headers: str) -> tuple[int, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        self.addCleanup(connection.close)
        connection.request(method, path, headers={
            name.replace("_", "-"): value.replace("PORT", str(self.port)) for name, value in headers.items()})
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer

    def test_strangers(self) -> None:
        """No token, a wrong one, another page, another host: refused, for reading, changing and watching."""
        bearer = f"Bearer {TOKEN}"
        ours, socket = "http://127.0.0.1:PORT", {
            "Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13",
            "Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
        expected: list[tuple[int, str, str, dict[str, str]]] = [
            (401, "GET", "/console/mail/mrose", {}),
            (401, "POST", "/console/session", {"Authorization": "Bearer no"}),
            (403, "POST", "/console/session", {"Authorization": bearer, "Origin": "http://elsewhere.invalid"}),
            (403, "POST", "/api/v1/reset", {"Authorization": bearer, "Origin": "http://127.0.0.1:1"}),
            (403, "GET", "/api/v1/events", {"Authorization": bearer, "Origin": "null", **socket}),
            (403, "GET", "/console/mail/mrose", {"Authorization": bearer, "Sec_Fetch_Site": "same-site"}),
            (421, "GET", "/console/", {"Host": "rebound.invalid:PORT"}),
            (401, "GET", "/api/v1/events", {"Origin": ours, **socket}),
            (101, "GET", "/api/v1/events", {"Authorization": bearer, "Origin": ours, **socket})]
        found = [(self.ask(method, path, **headers)[0], method, path, headers)
                 for _, method, path, headers in expected]
        self.assertEqual(found, expected)

    def test_headers(self) -> None:
        """Every page says what a browser may do with it; the cookie is for no script and no other site."""
        for path in ("/console", "/console/", "/console/static/harness.js", "/console/static/console.css"):
            status, answer = self.ask("GET", path)
            self.assertEqual(status, 200)
            policy = answer.getheader("Content-Security-Policy") or ""
            self.assertTrue(policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';"))
            self.assertNotIn("unsafe", policy)
            self.assertEqual((answer.getheader("X-Content-Type-Options"), answer.getheader("Referrer-Policy"),
                              answer.getheader("Cache-Control")), ("nosniff", "no-referrer", "no-store"))
        for status, method, path in ((404, "GET", "/console/none"), (404, "HEAD", "/console/static/../x"),
                                     (405, "POST", "/console/"), (405, "BREW", "/console/static/api.js"),
                                     (405, "PUT", "/console/mail/mrose"), (404, "GET", "/console/mail"),
                                     (200, "HEAD", "/console/")):
            found, answer = self.ask(method, path, Authorization=f"Bearer {TOKEN}")
            self.assertEqual((found, answer.getheader("X-Content-Type-Options")), (status, "nosniff"), path)
            self.assertTrue(answer.getheader("Content-Security-Policy"), path)
            self.assertEqual("application/json" in str(answer.getheader("Content-Type")), status != 200, path)
        status, answer = self.ask("POST", "/console/session", Authorization=f"Bearer {TOKEN}")
        cookie = (answer.getheader("Set-Cookie") or "").lower()
        self.assertEqual(status, 200)
        self.assertIn("httponly", cookie)
        self.assertIn("samesite=strict", cookie)


def _fault(do: str, **settings: Any) -> Any:
    from mailgate.testing.trouble.reading import read_fault

    return read_fault({"do": do, **settings})


def tearDownModule() -> None:
    stop_browser()
