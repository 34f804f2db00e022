"""The parts of the suite one by one: what is cut out of the octets, kept of them, and told in the end."""

from __future__ import annotations

import json
import socket
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from mailgate.conformance.checks import all_checks
from mailgate.conformance.connection import Bounds, Closed, Connection, Flood, Observed, OutOfTime, Silent
from mailgate.conformance.delivering import Undelivered, by_command, by_url
from mailgate.conformance.findings import Check, Finding, Level, Result, Skipped, Verdict
from mailgate.conformance.maildrop import Own
from mailgate.conformance.record import FIRST_EVENTS, LAST_EVENTS, Mask, Record
from mailgate.conformance.reports import as_json, as_junit, details, line, summary
from mailgate.conformance.running import Report, worst
from mailgate.conformance.samples import Sample, samples, split
from mailgate.conformance.target import Met, Target, is_busy
from mailgate.conformance.visit import Visit
from tests.conformance.peers import as_page
from tests.running import ROOT

BOUNDS = Bounds(reply_seconds=0.05, check_seconds=5.0, octets=100_000, quiet_seconds=0.02)


class ConnectionTests(SynchronousTestCase):
    def pair(self, said: bytes, bounds: Bounds = BOUNDS, *, ends: bool = False) -> Connection:
        """Return a connection to whom a server has said something."""
        client, server = socket.socketpair()
        self.addCleanup(client.close)
        self.addCleanup(server.close)
        server.sendall(said)
        if ends:
            server.close()
        self.observed = Observed()
        self.record = Record(Mask([b"secret"]))
        over = time.monotonic() + bounds.check_seconds
        return Connection(client, 1, self.record, bounds, over, self.observed)

    def test_lines(self) -> None:
        """Lines end at CRLF alone, stuffing is taken away once, and a dot alone ends them."""
        reply = self.pair(b"+OK 3\r\na\nb\r\n..\r\n..c\r\n\r\n.\r\n-ERR\r\n").reply(multi=True)
        self.assertEqual(reply.lines, [b"a\nb", b".", b".c", b""])
        self.assertEqual(reply.octets, len(reply.content))
        self.assertEqual((reply.ok, reply.text), (True, b"3"))

    def test_refusals_have_no_lines(self) -> None:
        reply = self.pair(b"-ERR [in-use] later\r\n").reply(multi=True)
        self.assertEqual((reply.ok, reply.code, reply.lines), (False, b"IN-USE", []))
        self.assertTrue(is_busy(reply))

    def test_bare_ends(self) -> None:
        """A dot between bare LFs ends nothing."""
        self.assertRaises(Silent, self.pair(b"+OK\r\na\n.\nb\r\n").reply, multi=True)

    def test_ends(self) -> None:
        self.assertRaises(Closed, self.pair(b"+OK\r\na\r\n", ends=True).reply, multi=True)
        self.assertRaises(Silent, self.pair(b"+OK").reply)
        self.assertRaises(Flood, self.pair(b"+OK\r\n" + b"x" * 150_000).reply, multi=True)
        self.assertRaises(OutOfTime, self.pair(b"", BOUNDS._replace(check_seconds=0.0)).reply)

    def test_rest(self) -> None:
        self.assertEqual(self.pair(b"more").rest(), (b"more", False))
        self.assertEqual(self.pair(b"more", ends=True).rest(), (b"more", True))
        self.assertEqual(self.pair(b"more", ends=True).rest(0.0), (b"more", True))      # looked for late

    def test_observed(self) -> None:
        """Status lines are judged, challenges are not, and what stands behind the words is noted."""
        connection = self.pair(b"+OK\n+OK [odd\r\n-ERR [AUTH] no\r\n+ AA==\r\n+ok\r\n")
        for _ in range(3):
            connection.reply()
        connection.say("AUTH PLAIN")
        for _ in range(2):
            connection.reply()
        self.assertEqual(set(self.observed.seen), {"end", "bare", "code", "indicator"})
        self.assertEqual(self.observed.seen["indicator"], ["+ok\\r\\n"])
        self.assertEqual(self.observed.codes, {b"AUTH"})

    def test_masked(self) -> None:
        """A secret is kept neither as it is nor in base64, and what was left out is counted."""
        connection = self.pair(b"-ERR secret c2VjcmV0 is wrong\r\n")
        connection.say("PASS other", shown="PASS ****")
        connection.reply()
        text = "\n".join(event.text for event in self.record.events)
        self.assertEqual(text, "PASS ****\\r\\n\n-ERR **** **** is wrong\\r\\n")


class RecordTests(SynchronousTestCase):
    def test_bounded(self) -> None:
        record = Record(Mask())
        for number in range(200):
            record.sent(1, b"%d\r\n" % number + b"x" * 10_000)
        events = record.events
        self.assertEqual(len(events), FIRST_EVENTS + 1 + LAST_EVENTS)
        self.assertIn(f"{200 - FIRST_EVENTS - LAST_EVENTS} more", events[FIRST_EVENTS].text)
        self.assertTrue(events[-1].text.startswith("199\\r\\nxxx"))
        self.assertLess(max(len(event.text) for event in events), 700)

    def test_secret_in_the_gap(self) -> None:
        """A secret is not shown in part where octets are left out."""
        record = Record(Mask([b"s" * 60]))
        record.received(1, b"x" * 380 + b"s" * 60 + b"y" * 500)
        self.assertNotIn("ss", record.events[0].text)


class SampleTests(SynchronousTestCase):
    def test_known_again(self) -> None:
        """Every message carries the token where TOP n 1 shows it, and none has a bare CR or LF."""
        for sample in samples("0123456789abcdef"):
            head, body = split(sample.content)
            self.assertIn(b"0123456789abcdef " + sample.name.encode(), head + body.partition(b"\r\n")[0])
            self.assertEqual(sample.content.count(b"\n"), sample.content.count(b"\r\n"))
            self.assertEqual(sample.content.count(b"\r"), sample.content.count(b"\r\n"))
            self.assertEqual(sample.ends, sample.content.endswith(b"\r\n"))

    def test_every_edge(self) -> None:
        """Each octet of a line of a dot stands at an edge of 16 KiB: with LF, with CRLF, and stuffed."""
        body = next(one for one in samples("t") if one.name == "edges").body
        for form, unit in ((body.replace(b"\r\n", b"\n"), b".\n"), (body, b".\r\n"),
                           (body.replace(b".\r\n", b"..\r\n"), b"..\r\n")):
            for prefix in (0, 1, 437):
                whole = b"p" * prefix + form
                seen = {form_at(whole, edge, unit) for edge in range(16384, len(whole) - 8, 16384)}
                self.assertLessEqual(set(range(len(unit))), seen, (unit, prefix))


def form_at(whole: bytes, place: int, unit: bytes) -> int | None:
    """Return which octet of a unit stands at a place; None where another line does."""
    return next((offset for offset in range(len(unit))
                 if whole[place - offset:place - offset + len(unit)] == unit), None)


class DeliveryTests(SynchronousTestCase):
    SAMPLE = Sample("one", b"Subject: x\r\n\r\n.\r\n")

    def test_urls(self) -> None:
        for wrong in ("lmtp://host/x", "http://host:1/x", "lmtp://host:0/x", "lmtp://host:99999/x",
                      "smtp://host:25/", "lmtp://:24/x"):
            self.assertRaises(ValueError, by_url, wrong)
        self.assertRaises(Undelivered, by_url("lmtp://127.0.0.1:1/x@example.org"), self.SAMPLE)

    def test_command(self) -> None:
        """A command is given LF, and whatever goes wrong with it is told."""
        file = Path(self.mktemp())
        by_command(f"dd status=none of={file}")(self.SAMPLE)
        self.assertEqual(file.read_bytes(), b"Subject: x\n\n.\n")
        fault = self.assertRaises(Undelivered, by_command(
            f"{sys.executable} -c 'import sys; sys.exit(\"no room\")'"), self.SAMPLE)
        self.assertIn("no room", str(fault))
        self.assertRaises(Undelivered, by_command("/nonexistent/program"), self.SAMPLE)
        self.assertRaises(ValueError, by_command, "")


class ReportTests(SynchronousTestCase):
    def report(self) -> Report:
        def look(visit: Visit) -> None:
            """Say something."""
        record = Record(Mask())
        record.sent(1, b"STAT\r\n")
        record.received(1, b"+OK \x1b[31m\x00<&\r\n")
        results = [
            Result(Check(f"T-{verdict.name}", "basic", Level.MUST, "RFC 1939", "A <title>", look, False),
                   verdict, "because \x1b[2J \x07", 0.25, record.events) for verdict in Verdict]
        target = Target("host", 110, b"user", b"secret")
        return Report(target, Met(b"+OK hi\r\n", {"TOP": ""}, None, False), 0.0, 1.0, results, ["a notice"])

    def test_terminal(self) -> None:
        """One line a result; nothing that a server said steers the terminal."""
        result = self.report().results[2]
        shown = [line(result), *details(result)]
        self.assertEqual(shown[0].split()[:2], ["fail", "T-FAIL"])
        self.assertFalse([row for row in shown if not row.isprintable()])
        self.assertIn("  Say something.", shown)
        self.assertTrue(line(result, colours=True).startswith("\x1b[31mfail\x1b[0m"))
        self.assertEqual(summary(self.report()), "4 checks in 1.0 s: 1 pass, 1 warn, 1 fail, 1 skip")

    def test_json(self) -> None:
        told = json.loads(as_json(self.report()))
        self.assertEqual(told["server"], {"host": "host", "port": 110, "tls": "none", "greeting": "+OK hi",
                                          "capabilities": {"TOP": ""}, "capabilities_after_login": None})
        self.assertEqual(told["began"], "1970-01-01T00:00:00Z")
        self.assertEqual(set(told["checks"][0]), {"id", "profile", "level", "section", "title", "done",
                                                  "verdict", "reason", "seconds", "exchange"})
        self.assertEqual(set(told["checks"][0]["exchange"][0]),
                         {"seconds", "connection", "who", "octets", "text"})

    def test_junit(self) -> None:
        root = ElementTree.fromstring(as_junit(self.report()))
        cases = root.findall("testsuite/testcase")
        self.assertEqual([[child.tag for child in case] for case in cases],
                         [[], ["system-out"], ["failure"], ["skipped"]])
        self.assertIn("STAT", cases[2][0].text or "")

    def test_worst(self) -> None:
        results = self.report().results
        self.assertTrue(worst(results))
        self.assertFalse(worst(results[:2]))
        self.assertTrue(worst(results[:2], strict=True))


class PageTests(SynchronousTestCase):
    """What the manual says of the suite."""

    def test_servers(self) -> None:
        """The tables are those of the figures, of checks that there are; our own service has no finding."""
        folder = ROOT / "docs/conformance"
        told = json.loads((folder / "servers.json").read_text())
        self.assertEqual((folder / "servers.inc").read_text(), as_page(told["taken"], told["servers"]))
        names = {one["server"] for one in told["servers"]}
        self.assertEqual(names, {"mailgate", "Dovecot", "Courier", "Cyrus", "popa3d"})
        known = {check.id for check in all_checks()}
        for server in told["servers"]:
            self.assertLessEqual(set(server["checks"]), known)
            if server["server"] == "mailgate":
                self.assertEqual((server["summary"]["fail"], server["summary"]["warn"]), (0, 0))

    def test_counts(self) -> None:
        for page in ("README.rst", "docs/changes/conformance.feature"):
            self.assertRegex((ROOT / page).read_text(), rf"\b{len(all_checks())}\s+statements")

    def test_nothing_delivered(self) -> None:
        """Without a way to deliver, own messages are skipped, with a hint."""
        visit = Visit(Target("host", 110, b"", b""), None, Own(None), Observed(), Record(Mask()))
        self.assertIn("--deliver", str(self.assertRaises(Skipped, visit.own_sample, "dots")))
        self.assertNotIsInstance(Skipped(), Finding)
