"""The suite can fail: servers that are wrong in one way each are found, by the check that is meant for it."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailgate.conformance import connection
from mailgate.conformance.checks import all_checks, chosen, hostile_ends
from mailgate.conformance.connection import Bounds
from mailgate.conformance.findings import PROFILES, Result, Verdict
from mailgate.conformance.reports import line
from mailgate.conformance.running import Report, Run
from mailgate.conformance.target import Pace, Target
from mailgate.conformance.visit import LoginRefused
from mailgate.testing.certificates import Authority
from tests.conformance.broken import PASSWORD, SLOW_SECONDS, USER, Server

# Whatever should come is waited for, what should not is for a moment.
PATIENT = Pace(bounds=Bounds(reply_seconds=30.0, quiet_seconds=0.03), pause_seconds=0.0, arrival_seconds=0.4)

# What is wrong, the check that finds it, and whether it is a failure or a warning.
FAULTS = (
    ("unstuffed dots", "RFC1939-3-DOTS-1", Verdict.FAIL),
    ("unstuffed at edges", "RFC1939-3-DOTS-2", Verdict.FAIL),
    ("counts LF", "RFC1939-5-SIZE", Verdict.FAIL),
    ("no terminator", "RFC1939-5-RETR-1", Verdict.FAIL),
    ("small letters", "RFC1939-3-INDICATOR", Verdict.FAIL),
    ("bare LF", "RFC1939-3-CRLF", Verdict.FAIL),
    ("any password", "RFC1939-7-PASS-1", Verdict.FAIL),
    ("no lock", "RFC1939-4-LOCK-1", Verdict.FAIL),
    ("slow to unlock", "RFC1939-4-LOCK-3", Verdict.WARN),
    ("shows new mail", "RFC1939-4-NEW-MAIL", Verdict.FAIL),
    ("STAT counts marked", "RFC1939-5-DELE-1", Verdict.FAIL),
    ("numbers move", "RFC1939-5-DELE-3", Verdict.FAIL),
    ("RSET does nothing", "RFC1939-5-RSET-1", Verdict.FAIL),
    ("QUIT removes nothing", "RFC1939-6-QUIT-2", Verdict.FAIL),
    ("removes one too many", "RFC1939-6-QUIT-2", Verdict.FAIL),
    ("removes without QUIT", "RFC1939-6-DROP", Verdict.FAIL),
    ("TOP sends one too many", "RFC1939-7-TOP-2", Verdict.FAIL),
    ("unique-ids change", "RFC1939-7-UIDL-3", Verdict.FAIL),
    ("unique-ids repeat", "RFC1939-7-UIDL-5", Verdict.WARN),
    ("capabilities vanish", "RFC2449-5-CAPA-3", Verdict.FAIL),
    ("loses what is pipelined", "RFC2449-6.6-PIPELINING-1", Verdict.FAIL),
    ("unknown code", "RFC2449-8-IN-USE", Verdict.WARN),
    ("keeps what came in clear", "RFC2595-4-INJECTION-1", Verdict.FAIL),
    ("keeps the user", "RFC2595-4-FORGET", Verdict.FAIL),
    ("dies of long lines", "HOSTILE-LONG-1", Verdict.FAIL),
    ("wraps", "HOSTILE-WRAP", Verdict.FAIL),
    ("goes on behind QUIT", "HOSTILE-BEHIND-QUIT", Verdict.FAIL),
    ("forgets its lock", "HOSTILE-UNLOCK-1", Verdict.WARN),
)
# What is seen by waiting: for an answer that never comes, and a lock that is never free.
WAITED_FOR = {
    **dict.fromkeys(("no terminator", "loses what is pipelined"),
                    PATIENT._replace(bounds=PATIENT.bounds._replace(reply_seconds=1.0))),
    "forgets its lock": PATIENT._replace(lock_seconds=0.5),
}


class BrokenCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(connection, "GOODBYE_SECONDS", 0.1)

    def server(self, *faults: str) -> Server:
        server = Server(faults, self.context())
        self.addCleanup(server.end)
        return server

    def context(self) -> ssl.SSLContext:
        folder = Path(tempfile.mkdtemp(dir=Path(self.mktemp()).parent.absolute()))
        Authority().issue("localhost").write(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        return context

    def report(self, server: Server, *only: str, profiles: frozenset[str] = frozenset(),
               password: bytes = PASSWORD, deliver: bool = True, allow_delete: bool = False,
               pace: Pace = PATIENT) -> Report:
        target = Target("127.0.0.1", server.port, USER, password, pace=pace, allow_delete=allow_delete)
        return Run(target, chosen(set(profiles), set(only)), server.deliver if deliver else None).carry_out()


class FaultTests(BrokenCase):
    def test_each_is_found(self) -> None:
        """Every fault is found by its check, which finds nothing where the server has none."""
        honest = self.report(self.server(), *{check for _, check, _ in FAULTS})
        self.assertEqual([line(one) for one in honest.results if one.verdict is not Verdict.PASS], [])
        wrong = []
        self.patch(hostile_ends, "UNLOCK_SECONDS", 0.3)
        for fault, check, verdict in FAULTS:
            result = self.report(self.server(fault), check, pace=WAITED_FOR.get(fault, PATIENT)).results[0]
            if result.verdict is not verdict:
                wrong.append(f"{fault}: {line(result)}")
        self.assertEqual(wrong, [])

    def test_edges_alone(self) -> None:
        """A server that stuffs all dots but those at its buffers' edges passes with the easy message."""
        report = self.report(self.server("unstuffed at edges"), "RFC1939-3-DOTS-1", "RFC1939-3-DOTS-2")
        self.assertEqual([one.verdict for one in report.results], [Verdict.PASS, Verdict.FAIL])

    def test_honest(self) -> None:
        """The small server passes every check of RFC 1939: what is found is the fault and no accident."""
        report = self.report(self.server(), profiles=frozenset({"full"}))
        failed = [line(one) for one in report.results if one.verdict is Verdict.FAIL]
        self.assertEqual(failed, [])
        self.assertGreater(report.count(Verdict.PASS), 60)

    def test_slow(self) -> None:
        """A server that answers late is not wrong: what it owes is not taken for what it says next."""
        pace = PATIENT._replace(bounds=PATIENT.bounds._replace(quiet_seconds=SLOW_SECONDS / 4))
        report = self.report(self.server("is slow"), "HOSTILE-LONG-2", "HOSTILE-BARE-LF", "HOSTILE-BLANKS",
                             pace=pace)
        self.assertEqual([line(one) for one in report.results if one.verdict is not Verdict.PASS], [])

    def test_what_was_said(self) -> None:
        """A finding shows what was sent and received, without the password."""
        result = self.report(self.server("counts LF"), "RFC1939-5-SIZE").results[0]
        said = "\n".join(map(str, result.events))
        self.assertRegex(said, r"C: RETR \d+\\r\\n")
        self.assertIn("S: +OK", said)
        self.assertIn("PASS ****", said)
        self.assertNotIn(PASSWORD.decode(), said)


class MailTests(BrokenCase):
    """Foreign mail is left alone, and nothing of the suite's own is left behind."""

    FOREIGN = b"Subject: foreign\r\n\r\nNot of the suite.\r\n"

    def filled(self, *faults: str) -> Server:
        server = self.server(*faults)
        server.messages += [(f"old{number}", self.FOREIGN) for number in range(3)]
        return server

    def test_cleared(self) -> None:
        server = self.filled()
        report = self.report(server, profiles=frozenset(PROFILES))
        self.assertEqual(report.notices, [])
        self.assertEqual([unique_id for unique_id, _ in server.messages], ["old0", "old1", "old2"])

    def test_cleared_where_ids_change(self) -> None:
        """What is removed carries the token, whatever the server says of unique-ids."""
        server = self.filled("unique-ids change")
        self.report(server, "RFC1939-6-QUIT-2", "RFC1939-6-DROP")
        self.assertLessEqual({"old0", "old1", "old2"}, {unique_id for unique_id, _ in server.messages})

    def test_never_marked(self) -> None:
        """Without a way to deliver no DELE is said that could mark foreign mail, in any profile."""
        server = self.filled("removes without QUIT")
        report = self.report(server, profiles=frozenset(PROFILES), deliver=False)
        self.assertEqual(len(server.messages), 3)
        marked = [one.check.id for one in report.results for event in one.events
                  if event.who == "C" and any(f"DELE {number}\\r" in event.text for number in (1, 2, 3))
                  and one.check.id not in ("RFC1939-3-STATE-1",)]
        self.assertEqual(marked, [])
        skipped = {one.check.id: one.reason for one in report.results if one.verdict is Verdict.SKIP}
        self.assertIn("--deliver", skipped["RFC1939-6-QUIT-2"])

    def test_allowed(self) -> None:
        """With --allow-delete it may."""
        server = self.filled()
        report = self.report(server, "RFC1939-6-QUIT-2", deliver=False, allow_delete=True)
        self.assertEqual(report.results[0].verdict, Verdict.PASS)
        self.assertEqual(len(server.messages), 2)


class RunTests(BrokenCase):
    def test_refused(self) -> None:
        self.assertRaises(LoginRefused, self.report, self.server(), "RFC1939-5-STAT-1", password=b"wrong")

    def test_time(self) -> None:
        """When the time of the run is over, what is left is skipped."""
        server = self.server()
        target = Target("127.0.0.1", server.port, USER, PASSWORD, pace=PATIENT._replace(total_seconds=-1.0))
        told: list[Result] = []
        report = Run(target, chosen({"basic"}, set()), tell=told.append).carry_out()
        self.assertEqual(report.count(Verdict.SKIP), len(report.results))
        self.assertEqual(told, report.results)

    def test_table(self) -> None:
        """Ids are told once, and every check says what it does and where that stands."""
        checks = all_checks()
        self.assertEqual(len({one.id for one in checks}), len(checks))
        self.assertEqual([one.id for one in checks if not one.done or not one.section or not one.title], [])
        self.assertEqual({one.profile for one in checks}, set(PROFILES))
        self.assertRaises(KeyError, chosen, set(), {"RFC1-NONE"})
