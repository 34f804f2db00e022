"""`mailgate conformance` in the test's own process, over the small server."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailgate.cli import conformance, main
from mailgate.conformance import connection
from mailgate.conformance.checks import all_checks
from mailgate.testing.certificates import Authority
from tests.cli.base import Ran, Terminal
from tests.conformance.broken import PASSWORD, USER, Server


class CommandTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(connection, "GOODBYE_SECONDS", 0.1)

    def run_command(self, *arguments: str, password: bytes = PASSWORD) -> Ran:
        self.patch(sys, "stdin", Terminal(password + b"\n", False))
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(["conformance", *arguments])
        out.flush()
        return Ran(code, out.buffer.getvalue().decode(), err.getvalue())  # type: ignore[attr-defined]

    def over(self, server: Server, *arguments: str, password: bytes = PASSWORD) -> Ran:
        self.addCleanup(server.end)
        return self.run_command(f"127.0.0.1:{server.port}", "--user", USER.decode(), "--password-stdin",
                                "--timeout", "30", "--pause", "0", *arguments, password=password)

    def test_list(self) -> None:
        """All checks, or those that are asked for; nobody is connected to."""
        ran = self.run_command("--list")
        self.assertEqual((ran.code, ran.err), (0, ""))
        named = [row.split("\t")[0] for row in ran.out.splitlines()]
        self.assertEqual(named, [one.id for one in all_checks()])
        ran = self.run_command("--list", "--profile", "tls")
        self.assertEqual({row.split("\t")[1] for row in ran.out.splitlines()}, {"tls"})

    def test_usage(self) -> None:
        for words in ((), ("host:110",), ("--user", "x"), ("host:0", "--user", "x"),
                      ("host", "--user", "x", "--only", "RFC1939-5-STAT-1", "--profile", "basic"),
                      ("host", "--user", "x", "--only", "NONE"),
                      ("host", "--user", "x", "--deliver", "http://localhost/"),
                      ("host", "--user", "x", "--deliver", "lmtp://h:1/r", "--deliver-command", "true"),
                      ("host", "--user", "x", "--deliver-command", "'"), ("--profile", "some")):
            self.assertEqual(self.run_command(*words).code, 64, words)

    def test_authorities(self) -> None:
        """A file without certificates, and one with."""
        file = Path(self.mktemp())
        file.write_text("nothing")
        ran = self.run_command("localhost:1", "--user", "x", "--password-stdin", "--ca", str(file))
        self.assertEqual(ran.code, 65, ran)
        file.write_bytes(Authority().pem)
        ran = self.run_command("localhost:1", "--user", "x", "--password-stdin", "--ca", str(file))
        self.assertEqual(ran.code, 69, ran)

    def test_found(self) -> None:
        """A finding, with what was said below it, and 1."""
        server = Server(["counts LF"])
        server.messages.append(("one", b"Subject: x\r\n\r\ny\r\n"))
        ran = self.over(server, "--only", "RFC1939-5-SIZE,RFC1939-5-STAT-1")
        self.assertEqual(ran.code, 1)
        rows = ran.out.splitlines()
        self.assertTrue(rows[0].startswith("pass  RFC1939-5-STAT-1"), rows[0])
        self.assertTrue(rows[1].startswith("fail  RFC1939-5-SIZE"), rows[1])
        self.assertTrue([row for row in rows if row.endswith("1C: RETR 1\\r\\n")], rows)
        self.assertNotIn("\x1b", ran.out)
        self.assertTrue(rows[-1].endswith("1 pass, 0 warn, 1 fail, 0 skip"), rows[-1])

    def test_warned(self) -> None:
        """A warning is no failure, unless it is to be one."""
        for arguments, code in (((), 0), (("--strict",), 1)):
            server = Server()
            server.messages.append(("one", b"x\r\n"))
            ran = self.over(server, "--only", "RFC1939-5-NOOP,RFC1957-TEXT", "--quiet", *arguments)
            self.assertEqual(ran.code, code, ran)
            self.assertEqual([row[:18] for row in ran.out.splitlines()[:-1]], ["warn  RFC1957-TEXT"])

    def test_json_alone(self) -> None:
        """`--json -` leaves standard output to the JSON."""
        ran = self.over(Server(), "--only", "RFC1939-5-STAT-1", "--json", "-")
        self.assertEqual(json.loads(ran.out)["summary"], {"pass": 1, "warn": 0, "fail": 0, "skip": 0})
        self.assertIn("1 pass", ran.err)

    def test_refused(self) -> None:
        ran = self.over(Server(), password=b"wrong")
        self.assertEqual((ran.code, ran.out), (77, ""))
        self.assertIn("login is answered by -ERR wrong", ran.err)

    def test_in_use(self) -> None:
        """A maildrop that stays in use."""
        server = Server()
        server.lock.acquire()
        self.patch(conformance, "Pace", lambda **given: PACE._replace(**given))
        ran = self.over(server)
        self.assertEqual(ran.code, 75, ran)

    def test_files(self) -> None:
        """A report that cannot be written is said to be so."""
        ran = self.over(Server(), "--only", "RFC1939-5-STAT-1", "--junit", "/nonexistent/report.xml")
        self.assertEqual(ran.code, 73, ran)


PACE = conformance.Pace(lock_seconds=0.1)
