"""What a test says wrong is told to it at once, in words that name what is wrong."""

from __future__ import annotations

import gc
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from mailgate.errors import ConfigurationError, MessageMalformed, NoSuchAccount
from mailgate.testing import MemoryServer, Server, TooLate
from mailgate.testing.harness.settings import plan

SCENARIO = "message-cut-but-ended-properly"


class WrongUse(SynchronousTestCase):
    """One server in memory, with an account."""

    def setUp(self) -> None:
        self.server = MemoryServer()
        self.addCleanup(self.server.stop)
        self.drop = self.server.account("mrose", "secret")

    def assertTold(self, words: str, kind: type[BaseException], function: Callable[[], Any]) -> None:
        """A call fails so, and these words are among those that it is told by."""
        self.assertIn(words, str(self.assertRaises(kind, function)))


class MailTests(WrongUse):
    """Messages, and the maildrops that they are put into."""

    def test_maildrop_of_nobody(self) -> None:
        """Mail for a name that no account has would never be fetched; it is told who there is."""
        for put in (lambda: self.server.maildrop("mrsoe").add("Subject: x\n\n"),
                    lambda: self.server.scenario(SCENARIO, maildrops=["mrsoe"])):
            self.assertTold("mrsoe; there are mrose", NoSuchAccount, put)
        self.assertEqual(self.server.maildrop("MRose").add("Subject: x\n\n"), self.drop.unique_ids[0])

    def test_maildrops_as_one_text(self) -> None:
        """A name is not taken for the list of its letters."""
        self.assertTold("['mrose']", TypeError, lambda: self.server.scenario(SCENARIO, maildrops="mrose"))

    def test_no_message(self) -> None:
        """A number is not taken for so many NULs, a list of octets not for a message."""
        for wrong in (5, None, [65, 66]):
            self.assertTold(type(wrong).__name__, TypeError, lambda wrong=wrong: self.drop.add(wrong))
        self.assertEqual(self.drop.messages, [])

    def test_all_of_one(self) -> None:
        """One message is not taken for the list of its letters."""
        for one in ("Subject: x\n\n", b"Subject: x\n\n", Path("x")):
            self.assertTold("add()", TypeError, lambda one=one: self.drop.add_all(one))
        self.assertEqual(self.drop.messages, [])

    def test_no_time(self) -> None:
        """What is no time is told as such."""
        self.assertTold("'yesterday'", TypeError, lambda: self.drop.add("x", arrived="yesterday"))
        self.assertTold("'1'", TypeError, lambda: self.drop.add("x", age="1"))

    def test_unique_id_twice(self) -> None:
        """A unique-id that is taken is not quietly replaced by another; a fault makes doubles."""
        self.drop.add("x", unique_id="u1")
        self.assertTold("u1", MessageMalformed, lambda: self.drop.add("y", unique_id="u1"))
        self.assertEqual(self.drop.unique_ids, ["u1"])


class AccountTests(WrongUse):
    """Names and passwords."""

    def test_no_text(self) -> None:
        """A password is a text, and so is a name."""
        self.assertTold("password", TypeError, lambda: self.server.account("ada", b"secret"))
        self.assertTold("name", TypeError, lambda: self.server.account(None, "secret"))
        self.assertTold("password", TypeError, lambda: self.server.host("shire", 5))


class FaultTests(WrongUse):
    """Faults that would never act."""

    def test_command_misspelt(self) -> None:
        """A verb that is nearly one of POP3's is refused; one that is like none may be a client's own."""
        self.assertTold("fault.command: RTER: did you mean RETR?", ConfigurationError,
                        lambda: self.server.fault("close", command="RTER 2"))
        for verb in ("XTND", "LAST", "last", "APOP", "*ENV", "XSENDER", "greeting", "RPOP"):
            self.server.fault("error", command=verb)

    def test_protocol_misspelt(self) -> None:
        """There are three."""
        self.assertTold("did you mean pop3s?", ConfigurationError,
                        lambda: self.server.fault("close", protocol="pops"))


class ScenarioTests(WrongUse):
    """Where a scenario is, and what it may be."""

    def file(self, octets: bytes) -> Path:
        """Return a file that has these octets."""
        folder = Path(tempfile.mkdtemp(dir=self.mktemp_root()))
        path = folder / "odd.toml"
        path.write_bytes(octets)
        return path

    def mktemp_root(self) -> str:
        """Return a folder of this test."""
        root = Path(self.mktemp())
        root.mkdir(parents=True)
        return str(root)

    def test_file_is_named(self) -> None:
        """What is wrong in a file is told with its path."""
        for octets in (b"x =\n", b"[[fault]]\ndo = 'close'\ncomand = 'x'\n", b"\xff\xfe"):
            path = self.file(octets)
            self.assertTold(f"{path}: ", ConfigurationError, lambda path=path: self.server.scenario(path))

    def test_path_as_text(self) -> None:
        """A text is a name or TOML; what looks like a path is told to be given as one."""
        self.assertTold("Path", LookupError, lambda: self.server.scenario("scenarios/odd.toml"))

    def test_part_of_a_name(self) -> None:
        """Names that begin so, or have it in them, are told."""
        self.assertTold("cut-in-mid-message", LookupError, lambda: self.server.scenario("cut-in"))

    def test_nothing_like_it(self) -> None:
        """None and octets are no scenario."""
        for wrong in (None, b"x", 5):
            self.assertTold(type(wrong).__name__, TypeError,
                            lambda wrong=wrong: self.server.scenario(wrong))

    def test_script_that_is_not_there(self) -> None:
        """The file is named, also where its path is given as a text."""
        self.assertTold("odd.script: ", ConfigurationError, lambda: self.server.script("odd.script"))


class SettingsTests(SynchronousTestCase):
    """Servers that cannot be made."""

    def test_protocols(self) -> None:
        """One name is no list of names; what is told to be known is all that a harness speaks."""
        fault = self.assertRaises(ConfigurationError, plan, {}, Path("."), "pop3")
        self.assertEqual(fault.problems, ["protocols: names are expected, such as ['pop3'], not 'pop3'"])
        fault = self.assertRaises(ConfigurationError, plan, {}, Path("."), ["pop3", "pop"])
        self.assertEqual(fault.problems,
                         ["protocols[1]: unknown: 'pop'; known: pop3, pop3s, lmtp, smtp, kpop"])

    def test_nothing_is_left(self) -> None:
        """Settings that are wrong leave no folder for the collector to warn of."""
        root = self.mktemp()
        Path(root).mkdir(parents=True)
        with mock.patch.object(tempfile, "tempdir", root), warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            self.assertRaises(ConfigurationError, MemoryServer, settings={"pop": {}})
            gc.collect()
            self.assertEqual(list(Path(root).iterdir()), [])
        self.assertEqual([str(one.message) for one in warned], [])


class ConsoleTests(SynchronousTestCase):
    """The one thing that needs a package more."""

    def test_no_wsproto(self) -> None:
        """It is told at once what is missing and how it is had, not by a page that stays empty."""
        import wsproto

        sys.modules["wsproto"] = None       # type: ignore[assignment]  # patch.dict would unload others
        self.addCleanup(sys.modules.__setitem__, "wsproto", wsproto)
        with Server() as server:
            fault = self.assertRaises(ConfigurationError, server.serve_console)
            self.assertIn("pip install 'mailgate[harness]'", str(fault))
            self.assertTrue(server.serve_api()[0].endswith("/api/v1"))


class StoppedTests(SynchronousTestCase):
    """A server whose time is over: what was said can be read, all else is told to be too late."""

    def check(self, server: Any) -> None:
        """Nothing is done by a stopped server, and nothing is made up."""
        drop = server.maildrop("mrose")
        for late in (lambda: drop.messages, lambda: len(drop), lambda: drop.add("x"), drop.clear,
                     lambda: server.account("ada", "secret"), lambda: server.host("shire"),
                     lambda: server.fault("close"), lambda: server.scenario(SCENARIO), server.reset,
                     lambda: server.script("S: +OK"), server.lose_leases):
            fault = self.assertRaises(RuntimeError, late)
            self.assertIn("stopped", str(fault))
        self.assertEqual(server.sessions, [])
        self.assertEqual(server.deleted, [])
        self.assertEqual(server.transcript(), server.transcript(secrets=True))

    def test_in_memory(self) -> None:
        """In memory."""
        with MemoryServer() as server:
            server.account("mrose", "secret").add("Subject: x\n\n")
        self.check(server)

    def test_in_a_thread(self) -> None:
        """In its thread; and before it is started the address is told to be missing for that."""
        server = Server()
        self.addCleanup(server.stop)
        self.assertIn("does not run", str(self.assertRaises(LookupError, lambda: server.pop3)))
        server.account("mrose", "secret")       # may be done before
        with server:
            self.assertEqual(server.maildrop("mrose").messages, [])
            late = self.assertRaises(TooLate, server.wait_for, lambda: server.sessions, 0)
            self.assertIn("no client has connected", str(late))
            with mock.patch("mailgate.testing.server.WAIT_SECONDS", 0):
                late = self.assertRaises(TooLate, lambda: server.session)
        self.assertIn("an ended session not within 0 seconds", str(late))
        self.assertIn("does not run", str(self.assertRaises(LookupError, lambda: server.pop3)))
        self.check(server)
