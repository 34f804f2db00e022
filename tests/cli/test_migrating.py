"""`mailgate migrate pop3` as it is typed: where, who, by which TLS; what is refused at once."""

from __future__ import annotations

import io
import ipaddress
import os
import sys
from typing import Any

import click
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.ssl import PrivateCertificate
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailgate.auth.servertls import AnyServer, NamedServer
from mailgate.cli import migrating
from mailgate.cli.migrating import Trust, read_batch, read_door, read_host
from mailgate.cli.moving import Step, Wishes
from mailgate.cli.moving_many import Job, Shown
from mailgate.cli.telling import Refusal
from mailgate.importing.matching import UNCOUNTED
from mailgate.net.pop3_source import Credentials, Door, Unreachable, log_in
from tests.auth.test_web import certificate
from tests.cli.base import CONFIGURATION, CommandCase
from tests.net.source_server import SourceServer

PLAIN = Trust("none", None, None, False)


class HostTests(SynchronousTestCase):
    def test_hosts(self) -> None:
        for text, found in (("pop.example.org", ("pop.example.org", None)), ("h:110", ("h", 110)),
                            ("[::1]:995", ("::1", 995)), ("[::1]", ("::1", None)), ("::1", ("::1", None)),
                            ("192.0.2.1:1", ("192.0.2.1", 1))):
            self.assertEqual(read_host(text), found)
        for text in ("", ":110", "h:", "h:0", "h:65536", "h:pop3", "[::1", "[::1]110", "a b", "h:\u0661"):
            self.assertRaises(click.UsageError, read_host, text)

    def test_tls(self) -> None:
        """At once where no port or 995 is given, else by STLS; in clear only where that is said."""
        for host, tls, port, begins in (
                ("h", None, 995, "implicit"), ("h:995", None, 995, "implicit"),
                ("h:110", None, 110, "starttls"), ("h:1110", None, 1110, "starttls"),
                ("h", "starttls", 110, "starttls"), ("h", "none", 110, "none"),
                ("h:1110", "implicit", 1110, "implicit"), ("h:995", "none", 995, "none")):
            door = read_door(host, Trust(tls, None, None, False), 60)
            self.assertEqual((door.host, door.port, door.tls), ("h", port, begins), host)
            self.assertEqual(isinstance(door.creator, NamedServer), begins != "none")
        self.assertIsInstance(read_door("h", Trust(None, None, None, True), 60).creator, AnyServer)

    def test_refused(self) -> None:
        """Options that say nothing where they stand; files that hold no certificate."""
        file: Any = io.BytesIO(b"no certificate")
        file.name = "ca.pem"
        for trust in (Trust("none", file, None, False), Trust("none", None, "x", False),
                      Trust("none", None, None, True), Trust(None, file, None, True),
                      Trust(None, None, "x", True), Trust(None, None, "x" * 300, False)):
            self.assertRaises(click.UsageError, read_door, "h", trust, 60)
        fault = self.assertRaises(Refusal, read_door, "h", Trust(None, file, None, False), 60)
        self.assertEqual((fault.lines, fault.code), (("ca.pem: holds no certificate in PEM form",), 65))
        broken: Any = io.BytesIO(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        broken.name = "ca.pem"
        self.assertRaises(Refusal, read_door, "h", Trust(None, broken, None, False), 60)


class BatchTests(SynchronousTestCase):
    def test_batch(self) -> None:
        """Name, login name, password; a password may hold anything but a line end."""
        self.assertEqual(read_batch(io.BytesIO(b"a\ta*m\tse cret\r\n\nb\xc3\xbc\t\xfc\t x\ty \n"), False), [
            Job("a", Credentials(b"a*m", b"se cret")), Job("b\xfc", Credentials(b"\xfc", b" x\ty "))])
        self.assertEqual(read_batch(io.BytesIO(b""), False), [])

    def test_wrong_lines(self) -> None:
        """Every one is told, none is carried out, and no password is shown."""
        fault = self.assertRaises(Refusal, read_batch, io.BytesIO(
            b"a\ta\thidden\nA\tb\thidden\nhidden\n\xff\ta\thidden\nb\t\thidden\n"), False)
        self.assertEqual([line.partition(":")[0] for line in fault.lines],
                         ["line 2", "line 3", "line 4", "line 5"])
        self.assertNotIn("hidden", str(fault))

    @settings(deadline=None, max_examples=100)
    @given(st.binary(max_size=60))
    def test_any_octets(self, octets: bytes) -> None:
        try:
            read_batch(io.BytesIO(octets), False)
        except Refusal as fault:
            self.assertTrue(fault.lines)

    def test_nothing_is_shown(self) -> None:
        self.assertNotIn("hidden", repr(Job("a", Credentials(b"b", b"hidden"))))


class Asked:
    """Notes what it is to do, in the place of `Many`."""

    made: tuple[Any, ...] = ()
    jobs: list[Job] = []
    parallel = 0

    def __init__(self, *arguments: Any) -> None:
        Asked.made = arguments

    async def carry_out(self, jobs: list[Job], parallel: int) -> int:
        Asked.jobs, Asked.parallel = jobs, parallel
        return 75


class GrammarTests(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(migrating, "with_store", self._with_store)
        self.patch(migrating, "Many", Asked)
        Asked.jobs = []

    def asked(self, *arguments: str, stdin: bytes = b"se cret\n") -> tuple[Door, Wishes]:
        """Type a command; return what was asked for."""
        ran = self.command("migrate", "pop3", *arguments, stdin=stdin)
        self.assertEqual((ran.code, ran.err), (75, ""))
        return Asked.made[3], Asked.made[4]

    def test_one(self) -> None:
        door, wishes = self.asked("pop.example.org", "mrose", "--password-stdin")
        self.assertEqual((door.host, door.port, door.tls), ("pop.example.org", 995, "implicit"))
        self.assertEqual(wishes, Wishes())
        self.assertEqual(Asked.jobs, [Job("mrose", Credentials(b"mrose", b"se cret"))])

    def test_options(self) -> None:
        door, wishes = self.asked(
            "h:110", "mrose", "--user", "rose*admin", "--password-stdin", "--apop", "--copy", "--dry-run",
            "--ignore-sizes", "--ignore-header", "X-Spam", "--ignore-header", "Lists:", "--tls", "none",
            "--timeout", "5")
        self.assertEqual((door.timeout_seconds, door.creator), (5, None))
        self.assertEqual(wishes, Wishes(True, True, True, UNCOUNTED | {b"x-spam", b"lists"}))
        self.assertEqual(Asked.jobs, [Job("mrose", Credentials(b"rose*admin", b"se cret", True))])

    def test_copies_into_a_merge(self) -> None:
        """To the first of its stores, whose ids are shown as they are; all of it has to be there."""
        merge = CONFIGURATION + '[store]\nmerge = ["store", "new"]\n{}' + (
            '[stores.new]\nmetadata = "sqlite:new.db"\nbodies = "file:new"\noptional = true\n')
        arguments = ("h", "mrose", "--password-stdin", "--tls", "none")
        for deliver_to, shown in (("", True), ("store", True), ("new", False)):
            self.file.write_text(merge.format(f'deliver_to = "{deliver_to}"\n' if deliver_to else ""))
            self.asked(*arguments)
            self.assertFalse(Asked.made[1].stores["new"].optional)
            if shown:
                self.asked(*arguments, "--copy")
            else:
                said = self.refused(os.EX_CONFIG, "migrate", "pop3", *arguments, "--copy")
                self.assertIn("store.deliver_to is new, whose unique-ids are shown behind its name", said)

    def test_batch(self) -> None:
        batch = self.folder / "batch"
        batch.write_bytes(b"a\tb\tc\n")
        self.asked("h", "--batch", str(batch), "--parallel", "7")
        self.assertEqual((Asked.jobs, Asked.parallel), ([Job("a", Credentials(b"b", b"c"))], 7))

    def test_terminal(self) -> None:
        """Without --password-stdin the password is typed, once."""
        self.patch(migrating, "read_password_elsewhere", lambda from_stdin: b"typed")
        self.asked("h", "mrose")
        self.assertEqual(Asked.jobs[0].credentials.password, b"typed")

    def test_wrong_usage(self) -> None:
        for arguments in ((), ("h",), ("h", "mrose"), ("h", "mrose", "--batch", "-"),
                          ("h", "--batch", "nowhere"),
                          ("h", "--batch", "-", "--user", "x"), ("h", "--batch", "-", "--password-stdin"),
                          ("h:x", "mrose", "--password-stdin"), ("h", "mrose", "--tls", "maybe"),
                          ("h", "mrose", "--parallel", "0"), ("h", "mrose", "--timeout", "0"),
                          ("h", "mrose", "--password-stdin", "--insecure", "--tls", "none")):
            self.refused(64, "migrate", "pop3", *arguments, stdin=b"x\n")
        self.assertEqual(Asked.jobs, [])

    def test_bad_data(self) -> None:
        self.refused(65, "migrate", "pop3", "h", "mrose", "--password-stdin", stdin=b"")
        self.refused(65, "migrate", "pop3", "h", "mrose", "--password-stdin", stdin=b"a\nb\n")
        self.refused(65, "migrate", "pop3", "h", "--batch", "-", stdin=b"nonsense\n")
        self.refused(65, "migrate", "pop3", "h", "a\udc80", "--password-stdin", stdin=b"x\n")


class ShownTests(SynchronousTestCase):
    def shown(self, is_terminal: bool, accounts: int = 1) -> tuple[Shown, io.StringIO, list[float]]:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return is_terminal

        err, now = Terminal(), [0.0]
        self.patch(sys, "stderr", err)
        return Shown(True, accounts, lambda: now[0]), err, now

    def test_terminal(self) -> None:
        """One line, written over, at most twice a second; gone when an account's line comes."""
        shown, err, now = self.shown(True, 3)
        for step in range(100):
            now[0] += 0.1
            shown.at(Step("headers read", step, 100))
        self.assertLess(err.getvalue().count("\r"), 25)
        self.assertTrue(err.getvalue().startswith("\r0 of 3 accounts, 0 of 100 headers read"))
        self.assertNotIn("\n", err.getvalue())
        shown.account_done()
        self.assertTrue(err.getvalue().endswith(" \r"))
        now[0] += 1
        shown.at(Step("headers read", 1, 2))
        self.assertIn("\r1 of 3 accounts, 1 of 2 headers read", err.getvalue())

    def test_file(self) -> None:
        """Where it is no terminal: lines, if asked for."""
        shown, err, _ = self.shown(False)
        shown.at(Step("headers read", 1, 2))
        shown.account_done()
        self.assertEqual(err.getvalue(), "1 of 2 headers read\n")


class SelfSignedTests(TestCase):
    """Certificates that nobody vouches for but whoever runs the command."""

    timeout = 120

    async def reach(self, pem: bytes, trust: Trust) -> None:
        server = SourceServer([], context=PrivateCertificate.loadPEM(pem).options())
        self.addCleanup(server.port.stopListening)
        door = read_door(f"127.0.0.1:{server.number}", trust, 60)
        source = await log_in(reactor, door, Credentials(b"mrose", b"secret"))
        await source.quit()
        self.assertEqual(server.verbs("PASS"), ["PASS secret"])

    async def test_its_own_authority(self) -> None:
        pem = certificate(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        await self.reach(pem, Trust("implicit", io.BytesIO(pem), None, False))
        await self.assertFailure(self.doubted(pem, None), Unreachable)

    async def test_no_name(self) -> None:
        """A certificate that names nobody is nobody's, whoever signed it; --insecure believes it."""
        pem = certificate()
        await self.assertFailure(self.doubted(pem, io.BytesIO(pem)), Unreachable)
        await self.reach(pem, Trust("implicit", None, None, True))

    def doubted(self, pem: bytes, ca: Any) -> Any:
        return Deferred.fromCoroutine(self.reach(pem, Trust("implicit", ca, None, False)))
