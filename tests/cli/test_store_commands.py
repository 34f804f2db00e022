"""`mailgate store`: what it says, how it ends, and what it finds wrong with a store."""

from __future__ import annotations

import os
import sqlite3
from array import array
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailgate.cli import running, stores
from mailgate.cli.telling import Refusal
from mailgate.cli.verifying import faults_of
from mailgate.config import Config, parse
from mailgate.model import ScanListing
from mailgate.stores.memory import MemoryStore
from mailgate.wire.dots import to_wire
from tests.cli.base import CommandCase
from tests.cli.whole_store import fill
from tests.services import Site

CONFIGURATION = """
hostname = "mail.example.org"
[store]
metadata = "sqlite:mail.db"
{merge}
[[listen]]
protocol = "pop3"
endpoint = "tcp:1110:interface=127.0.0.1"
[stores.new]
metadata = "sqlite:new.db"
bodies = "file:new-bodies"
"""


class CommandTests(CommandCase):
    """In this process, over stores in memory: by the file of their database."""

    def setUp(self) -> None:
        super().setUp()
        self.file.write_text(CONFIGURATION.format(merge=""))
        self.stores: dict[str, Any] = {}
        self.created: list[str] = []
        self.patch(stores, "with_stores", self.with_stores)

    def with_stores(self, configs: list[Config], work: Any, *, create: Config | None = None) -> Any:
        self.created += [config.store.metadata.path for config in configs if config is create]
        found = [self.memory(config.store.metadata.path) for config in configs]
        outcome: list[Any] = []
        Deferred.fromCoroutine(work(*found)).addBoth(outcome.append)
        if hasattr(outcome[0], "raiseException"):
            outcome[0].raiseException()
        return outcome[0]

    def memory(self, path: str) -> Any:
        if path not in self.stores:
            clock = Clock()
            clock.advance(1_000_000_000)
            self.stores[path] = MemoryStore(clock=clock)
        return self.stores[path]

    def filled(self) -> None:
        store = self.memory("mail.db")
        self.successResultOf(store.start())
        self.successResultOf(Deferred.fromCoroutine(fill(store)))

    def test_copy(self) -> None:
        """What came of it in five lines; the target is made where it is missing."""
        self.filled()
        said = self.succeed("store", "copy", "store", "new").splitlines()
        self.assertEqual(said[:2], ["accounts: 4, 4 of them copied", "maildrops: 5"])
        self.assertRegex(said[2], r"^messages: 19 copied \(\d+ octets\), 0 were there$")
        self.assertEqual(said[3], "verified: 19 messages; findings: 0")
        self.assertRegex(said[4], r"^\d+\.\d seconds, \d+ messages/s$")
        self.assertEqual(self.created, ["new.db"])

    def test_progress(self) -> None:
        """On standard error, when it is asked for; nothing when it is no terminal."""
        self.filled()
        ran = self.command("store", "copy", "store", "new", "--progress")
        self.assertEqual(ran.code, 0)
        self.assertRegex(ran.err.splitlines()[-1], r"^5 of 5 maildrops, 19 messages copied, 0 there, 0 MiB, ")

    def test_findings_are_an_exit_code(self) -> None:
        self.filled()
        self.succeed("store", "copy", "store", "new")
        self.successResultOf(self.memory("mail.db").accounts.set_disabled("new", True))
        said = self.refused(os.EX_DATAERR, "store", "copy", "store", "new")
        self.assertIn("account new: TO has another one", said)

    def test_another_configuration(self) -> None:
        """FROM or TO may be the path of one, which tells all its problems with its name."""
        other = Path(self.folder) / "other.toml"
        other.write_text(CONFIGURATION.format(merge="").replace("mail.db", "other.db"))
        self.succeed("store", "copy", str(other), "new")
        self.assertIn("other.db", self.stores)
        other.write_text("hostname = 5\n")
        said = self.refused(os.EX_CONFIG, "store", "copy", str(other), "new")
        self.assertIn(f"{other}: hostname: a string is expected", said)

    def test_names_that_are_none(self) -> None:
        merged = self.folder / "merged.toml"
        merged.write_text(CONFIGURATION.format(merge='merge = ["store", "new"]'))
        for arguments, code, words in (
                (("copy", "store", "old"), os.EX_CONFIG, "there is no [stores.old]; there are: store, new"),
                (("copy", "new", "new"), os.EX_USAGE, "new and new are the same store"),
                (("copy", "merge", "new"), os.EX_CONFIG, "store.merge is not set"),
                (("copy", "new", str(merged)), os.EX_USAGE, "is a merge: name one of its stores"),
                (("verify", "old"), os.EX_CONFIG, "there is no [stores.old]"),
                (("sweep", "old"), os.EX_CONFIG, "there is no [stores.old]"),
                (("sweep", "--grace-seconds", "3599"), os.EX_USAGE, "could lose their bodies")):
            said = self.refused(code, "store", *arguments)
            self.assertIn(words, said)
        self.file.write_text(CONFIGURATION.format(merge='merge = ["store", "new"]'))
        said = self.refused(os.EX_USAGE, "store", "copy", "merge", "new")
        self.assertIn("merge and new are the same store, or one is part of the other", said)
        self.assertEqual(self.stores, {})

    def test_a_merge_is_copied_whole(self) -> None:
        """What an optional store has while it is down is not gone: logins do without it, copies do not."""
        self.file.write_text(CONFIGURATION.format(merge='merge = ["store", "new"]')
                             + 'optional = true\n[stores.all]\n'
                             + 'metadata = "sqlite:all.db"\nbodies = "file:all"\n')
        given: list[Config] = []

        def with_stores(configs: list[Config], work: Any, **options: Any) -> None:
            given.extend(configs)
            raise Refusal("enough")

        self.patch(stores, "with_stores", with_stores)
        self.refused(os.EX_DATAERR, "store", "copy", "merge", "all")
        self.assertEqual(given[0].store.merge, ("store", "new"))
        self.assertFalse(any(section.optional for section in given[0].stores.values()))

    def test_verify_and_sweep(self) -> None:
        """Of one store, or of all."""
        self.filled()
        self.assertEqual(self.succeed("store", "verify"),
                         "5 maildrops, 19 messages read, findings: 0\n")
        said = self.succeed("store", "verify", "new")
        self.assertEqual(said, "0 maildrops, 0 messages read, findings: 0\n")
        said = self.succeed("store", "sweep", "--grace-seconds", "3600")
        self.assertEqual(said.splitlines(), [f"{one}: 0 bodies without a message removed"
                                             for one in ("store", "new")])


class RightsTests(SynchronousTestCase):
    def test_stores_of_two_users(self) -> None:
        """Root stands in for one user, not for two: neither may be led about by the other's files."""
        folder = Path(self.mktemp()).absolute()
        octets = CONFIGURATION.format(merge="").encode()
        configs = [parse(octets, folder=folder / name) for name in ("a", "b")]
        users = {config.folder: 65_000 + number for number, config in enumerate(configs)}
        self.patch(running, "stand_in", lambda config: users[config.folder])
        self.patch(running, "take_on", self.fail)
        fault = self.assertRaises(Refusal, running.with_stores, configs, self.fail)
        self.assertEqual(fault.code, os.EX_NOPERM)
        self.assertIn("user id 65000 and user id 65001", str(fault))


class VerifyTests(SynchronousTestCase):
    """What can be wrong with one message."""

    def faults(self, wire: bytes, size: int | None = None, head: bytes | None = None) -> list[str]:
        end = wire.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in wire else len(wire)
        if wire.startswith(b"\r\n"):
            end = 2
        drop = _Message(wire, wire[:end] if head is None else head,
                        len(wire.replace(b"\r\n.", b"\r\n")) if size is None else size)
        return self.successResultOf(Deferred.fromCoroutine(faults_of(drop, 1)))

    def test_good_ones(self) -> None:
        for text in (b"", b"a\r\n", b"A: b\r\n\r\n", b"A: b\r\n\r\nc\r\n", b"\r\nbody\r\n",
                     b"A: b\r\n\r\n.\r\n..\r\n", b"A: b\r\n\r\nbare\rCR\r\n", b"A: b\r\n\r\n\r\n\r\n"):
            wire = to_wire(text)
            head = wire[:2] if wire.startswith(b"\r\n") else None
            self.assertEqual(self.faults(wire, len(text), head), [], text)

    def test_bad_ones(self) -> None:
        for wire, size, head, words in (
                (b"A: b\r\n\r\nc\r\n", 12, None, "11 octets"), (b"A: b\r\n\r\nc", None, None, "no end"),
                (b"A: b\r\n\r\n.c\r\n", None, None, "not byte-stuffed"),
                (b"A: b\r\n\r\nc\r\n.\r\n", None, None, "not byte-stuffed"),
                (b"A: b\r\n\r\nc\nd\r\n", None, None, "bare LF"),
                (b"A: b\r\n\r\nc\r\n", None, b"A: c\r\n\r\n", "not how it begins"),
                (b"A: b\r\n\r\nc\r\n", None, b"A: b\r\n", "first blank line"),
                (b"A: b\r\n\r\nc\r\n\r\n", None, b"A: b\r\n\r\nc\r\n\r\n", "first blank line")):
            found = self.faults(wire, size, head)
            self.assertEqual([words in one for one in found], [True], (wire, found))

    def test_cut_anywhere(self) -> None:
        """What is wrong is found wherever the pieces end."""
        for wire, words in ((b"A: b\r\n\r\nc\r\n.d\r\n", "byte-stuffed"),
                            (b"A: b\r\n\r\nc\nd\r\n", "bare LF"), (b"A: b\r\n\r\n..d\r\n", "")):
            size = len(wire.replace(b"\r\n.", b"\r\n"))
            for octets in (1, 2, 3):
                drop = _Message(wire, wire[:8], size, octets)
                found = self.successResultOf(Deferred.fromCoroutine(faults_of(drop, 1)))
                self.assertEqual([words in one for one in found], [True] if words else [])


class _Message:
    """A maildrop with one message, whatever it is."""

    def __init__(self, wire: bytes, head: bytes, size: int, octets: int = 0) -> None:
        self.listing = ScanListing(array("Q", [size]), [b"1"])
        self._wire = wire
        self._head = head
        self._octets = octets

    def fetch(self, number: int, body_lines: int | None = None) -> Any:
        content = self._wire if body_lines is None else self._head
        return _Pieces(content, self._octets) if self._octets else content


class _Pieces:
    def __init__(self, content: bytes, octets: int) -> None:
        self._left = content
        self._octets = octets

    def read(self) -> Deferred[bytes]:
        piece, self._left = self._left[:self._octets], self._left[self._octets:]
        return succeed(piece)

    def close(self) -> None:
        self._left = b""


class DamagedTests(SynchronousTestCase):
    """A real store that somebody had his hands in."""

    def test_verify_finds_it(self) -> None:
        """A body changed, another gone, a count that is wrong: a line each, and exit code 65."""
        site = Site(Path(self.mktemp()), accounts={"mrose": "secret"}, store="inline_octets = 900")
        for text in (b"one\n", b"two\n", b"three\n" * 200):
            site.deliver(b"Subject: x\n\n" + text, "mrose@mail.example.org")
        self.assertIn(b"1 maildrops, 3 messages read, findings: 0", site.succeed("store", "verify"))
        database = sqlite3.connect(site.folder / "mail.db", isolation_level=None)
        database.execute("UPDATE body SET data = CAST(replace(data, x'74776f', x'2e776f') AS BLOB)"
                         " WHERE key IS NULL")
        database.execute("UPDATE maildrop SET octets = octets + 1")
        database.close()
        for path in (site.folder / "bodies").rglob("*"):
            if path.is_file() and len(path.name) > 20:
                path.unlink()
        ran = site.command("store", "verify", "store")
        said = ran.stdout.decode().splitlines()
        self.assertEqual(ran.returncode, os.EX_DATAERR, ran)
        for words in ("maildrop", "is missing", "message 2", "not byte-stuffed", "message 3"):
            self.assertTrue(any(words in line for line in said), (words, said))
        self.assertRegex(said[-1], r"^1 maildrops, 3 messages read, findings: \d$")
