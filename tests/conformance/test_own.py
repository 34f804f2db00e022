"""Our own service passes every check of every profile: in clear, by STLS, and with TLS from the start."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from mailgate.conformance.checks import all_checks, chosen
from mailgate.conformance.connection import Bounds
from mailgate.conformance.delivering import by_url
from mailgate.conformance.findings import PROFILES, Verdict
from mailgate.conformance.record import shown
from mailgate.conformance.reports import line
from mailgate.conformance.running import Report, Run
from mailgate.conformance.target import Pace, Target
from mailgate.testing.certificates import Authority
from tests.services import BIN, HOSTNAME, WAIT_SECONDS, Service, Site

USER, PASSWORD = "mrose", "a secret for tests"
PACE = Pace(bounds=Bounds(reply_seconds=20.0, quiet_seconds=0.1), pause_seconds=0.0)
FURTHER = """
[pop3]
apop = true
[tls]
certificate = "cert.pem"
key = "key.pem"
[[listen]]
protocol = "pop3s"
endpoint = "tcp:0:interface=127.0.0.1"
[[listen]]
protocol = "pop3"
endpoint = "tcp:0:interface=127.0.0.1"
plaintext_login = false
[[listen]]
protocol = "pop3"
endpoint = "tcp:0:interface=127.0.0.1"
plaintext_login = true
mechanisms = ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256"]
"""
# What the service does not have, and what loopback makes pointless.
NOT_OFFERED = {"RFC2449-6.5-LOGIN-DELAY", "RFC6856-2-UTF8-1", "RFC6856-2-UTF8-2", "RFC6856-3-LANG-1",
               "RFC6856-3-LANG-2", "RFC8314-4-CLEAR"}
# Inside TLS there is no STLS to be tried.
NO_STLS = {"RFC2595-4-STLS-1", "RFC2595-4-STLS-2", "RFC2595-4-INJECTION-1", "RFC2595-4-INJECTION-2",
           "RFC2595-4-FORGET", "RFC2595-4-NOISE"}
NO_HALVES = {"HOSTILE-HALF-CLOSE"}


class OwnTests(SynchronousTestCase):
    """One service for all tests: each leaves the maildrop empty, or fails."""

    folder: Path
    service: Service

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(tempfile.mkdtemp(prefix="mailgate-conformance-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        authority = Authority()
        authority.issue("localhost").write(cls.folder)
        (cls.folder / "ca.pem").write_bytes(authority.pem)
        site = Site(cls.folder, further=FURTHER)
        site.succeed("account", "add", USER, "--scram", "--cram", "--apop", "--password-stdin",
                     stdin=f"{PASSWORD}\n".encode())
        cls.service = site.start()
        cls.addClassCleanup(cls.service.end)

    def setUp(self) -> None:
        self.ca = self.folder / "ca.pem"
        self.clear, lmtp, self.secure, self.guarded, self.many = [port for _, port in self.service.ports]
        self.url = f"lmtp://127.0.0.1:{lmtp}/{USER}@{HOSTNAME}"
        self.addCleanup(lambda: self.assertEqual(self.service.messages_seen(USER, PASSWORD), 0))

    def run_all(self, port: int, tls: str, checks: list[str] | None = None) -> Report:
        target = Target("localhost", port, USER.encode(), PASSWORD.encode(), tls,
                        self.ca.read_text(), pace=PACE)
        return Run(target, chosen(set(PROFILES), set(checks or [])), by_url(self.url)).carry_out()

    def assert_passed(self, report: Report, skipped: set[str]) -> None:
        wrong = [line(one) + "".join(f"\n{event}" for event in one.events) for one in report.results
                 if one.verdict in (Verdict.FAIL, Verdict.WARN)]
        self.assertEqual(wrong, [], "\n".join(wrong))
        self.assertEqual({one.check.id for one in report.results if one.verdict is Verdict.SKIP}, skipped)
        self.assertEqual(report.notices, [])

    def test_in_clear(self) -> None:
        """Everything, on a listener that has STLS and all mechanisms; what was delivered is gone then."""
        report = self.run_all(self.many, "none")
        self.assert_passed(report, NOT_OFFERED)
        self.assertEqual(len(report.results), len(all_checks()))
        self.assert_masked(report, self.service)

    def assert_masked(self, report: Report, service: Service) -> None:
        """No record and no log has the password."""
        said = "\n".join(event.text for one in report.results for event in one.events)
        self.assertIn("PASS ****", said)
        self.assertNotIn(shown(PASSWORD.encode()), said)
        self.assertNotIn(PASSWORD, service.log())

    def test_after_stls(self) -> None:
        """Logins inside STLS, on a listener that takes none in clear."""
        checks = [one.id for one in all_checks() if one.profile in ("basic", "extensions", "tls")]
        report = self.run_all(self.guarded, "starttls", checks)
        no_mechanisms = {"RFC5034-4-AUTH-7", "RFC2195-2-CRAM", "RFC5802-5-SCRAM"}
        skipped = {one.check.id: one.reason for one in report.results if one.verdict is Verdict.SKIP}
        self.assert_passed(report, set(skipped))
        self.assertLessEqual(set(skipped), NOT_OFFERED | no_mechanisms | {"RFC2595-4-FORGET"}, skipped)

    def test_in_tls(self) -> None:
        """TLS from the start."""
        checks = [one.id for one in all_checks() if one.profile in ("basic", "tls")]
        report = self.run_all(self.secure, "implicit", checks)
        self.assert_passed(report, NO_STLS | {"RFC8314-4-CLEAR"})

    def test_command(self) -> None:
        """The command: its lines, its two files, its exit codes."""
        files = self.folder / "out.json", self.folder / "out.xml"
        ran = self.command("--profile", "basic", "--deliver", self.url, "--json", str(files[0]),
                           "--junit", str(files[1]))
        self.assertEqual(ran.returncode, 0, ran)
        lines = ran.stdout.decode().splitlines()
        count = len(chosen({"basic"}, set()))
        self.assertEqual([row[:4] for row in lines[:count]], ["pass"] * count)
        self.assertRegex(lines[-1], rf"^{count} checks in [\d.]+ s: {count} pass, 0 warn, 0 fail, 0 skip$")
        told = json.loads(files[0].read_bytes())
        self.assertEqual((told["format"], told["version"]), ("mailgate-conformance", 1))
        self.assertEqual(told["summary"], {"pass": count, "warn": 0, "fail": 0, "skip": 0})
        self.assertEqual({one["verdict"] for one in told["checks"]}, {"pass"})
        root = ElementTree.parse(files[1]).getroot()
        self.assertEqual((root.get("tests"), root.get("failures")), (str(count), "0"))
        self.assertEqual(len(root.findall("testsuite/testcase")), count)

    def command(self, *options: str, port: int = 0) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [str(BIN / "mailgate"), "conformance", f"localhost:{port or self.clear}", "--user", USER,
             "--password-stdin", *options], input=f"{PASSWORD}\n".encode(), capture_output=True,
            timeout=WAIT_SECONDS, check=False)

    def test_exit_codes(self) -> None:
        """A listener that takes no password in clear; inside TLS; with an authority that is not trusted."""
        self.assertEqual(self.command("--only", "RFC1939-5-STAT-1", port=self.guarded).returncode, 77)
        trusting = self.command("--only", "RFC2595-4-LOGIN", "--tls", "starttls", "--ca", str(self.ca),
                                port=self.guarded)
        self.assertEqual(trusting.returncode, 0, trusting)
        distrusting = self.command("--only", "RFC2595-4-LOGIN", "--tls", "starttls", port=self.guarded)
        self.assertEqual(distrusting.returncode, 69, distrusting)
