"""A passwd-file: its lines, its changes while the service runs, and who may log in."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from mailgate.auth.checkers import DUMMY_VERIFIER
from mailgate.auth.credentials import PasswordLogin
from mailgate.auth.hashing import HashPool
from mailgate.auth.passwdfile import Entry, PasswdFile, PasswdFileChecker, parse
from mailgate.auth.passwdtable import SETTLE_SECONDS
from mailgate.auth.remembered import RememberedSuccess
from mailgate.errors import LoginRefused, StoreUnavailable, TooBusy
from mailgate.interfaces import IUserLookup
from tests.auth.staging import Busy, Counted, cheap, fresh_path

ALICE = cheap(b"open sesame")
CRYPT = "$5$rounds=1000$saltsalt$niVVtPnVjUOM8qTP0KDfzAELvIEj6xsiZLuC7oyrEk9"     # "Grüße secret"


class Lines(SynchronousTestCase):
    """What a line says."""

    def test_fields(self) -> None:
        """User and verifier; what follows is another program's."""
        entries, problems = parse(f"""\
# staff
alice:{ALICE}:1000:1000:Alice, room 3:/home/alice:/bin/sh:userdb_mail=maildir:~/Maildir
bob:{ALICE}
carol@example.org:{ALICE}::::::
dave:{CRYPT}:
j\u00f6rg:{{PLAIN}} spaced out :

  \t
""".encode())
        self.assertEqual([], problems)
        self.assertEqual({
            "alice": Entry("alice", ALICE),
            "bob": Entry("bob", ALICE),
            "carol@example.org": Entry("carol@example.org", ALICE),
            "dave": Entry("dave", "{CRYPT}" + CRYPT),
            "jörg": Entry("jörg", "{PLAIN} spaced out "),
        }, entries)

    def test_line_ends(self) -> None:
        """LF or CRLF, and none at the end."""
        for content in (f"a:{ALICE}\nb:{ALICE}", f"a:{ALICE}\r\nb:{ALICE}\r\n"):
            entries, problems = parse(content.encode())
            self.assertEqual((["a", "b"], []), (list(entries), problems))
            self.assertEqual(ALICE, entries["a"].verifier)

    def test_locked(self) -> None:
        """As in a shadow file: known, and no password opens it."""
        entries, problems = parse(b"daemon:*:19000:0:99999:7:::\nbin:!\nsync::\nuser:!!$6$x\n")
        self.assertEqual([], problems)
        self.assertEqual({None}, {entry.verifier for entry in entries.values()})
        self.assertEqual(["daemon", "bin", "sync", "user"], list(entries))

    def test_bad_lines(self) -> None:
        """Each is told with its number and a reason that shows no hash; the others count."""
        entries, problems = parse(
            f"good:{ALICE}\nno colon\n:{ALICE}\nx:{{NO-SUCH}}s3cr3t\ny:s3cr3t\n".encode()
            + b"\xff:x\nGOOD:{PLAIN}s3cr3t\na/b:{PLAIN}s3cr3t\n" + f"last:{ALICE}\n".encode())
        self.assertEqual(["good", "last"], list(entries))
        self.assertEqual([2, 3, 4, 5, 6, 7, 8], [number for number, _ in problems])
        self.assertNotIn("s3cr3t", str(problems))
        self.assertEqual(ALICE, entries["good"].verifier)

    @settings(deadline=None, max_examples=150)
    @given(st.binary(max_size=120))
    @example(b"a:{PLAIN}x\0:")
    @example(b"\r\n:\r\n::\n#\n")
    def test_any_octets(self, content: bytes) -> None:
        """Never an exception; each line is an entry, a problem or a comment."""
        entries, problems = parse(content)
        lines = [line for line in content.split(b"\n") if line.strip() and not line.startswith(b"#")]
        self.assertEqual(len(lines), len(entries) + len(problems))


class Checked(SynchronousTestCase):
    """A checker over a file with alice, Bob and one who is locked."""

    def setUp(self) -> None:
        self.path = fresh_path(self)
        self.wall = 1_700_000_000.0     # seconds since 1970, for the file's times and for who reads it
        self.write(f"alice:{ALICE}:1000\nBob:{cheap(b'builder')}\nlocked:*\n")
        self.clock = Clock()
        self.hashing = Counted()
        self.remembered: RememberedSuccess[Any] = RememberedSuccess(self.clock)
        self.checker = PasswdFileChecker(str(self.path), self.hashing, self.remembered, lambda: self.wall)

    def write(self, content: str) -> None:
        """Replace the file as editors and password tools do, by renaming."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(content, "utf-8")
        os.utime(fresh, (self.wall, self.wall))
        os.replace(fresh, self.path)

    def overwrite(self, content: str) -> None:
        """Write into the file itself, as scripts do; what is there may be a part of what shall be."""
        self.path.write_text(content, "utf-8")
        os.utime(self.path, (self.wall, self.wall))

    def login(self, username: bytes, password: bytes) -> bytes | None:
        """Return the name, None for a refusal."""
        outcome = self.checker.requestAvatarId(PasswordLogin(username, password, "192.0.2.1"))
        outcome.addErrback(lambda failure: failure.trap(LoginRefused) and None)
        name: bytes | None = self.successResultOf(outcome)
        return name


class Logins(Checked):
    """Who gets in."""

    def test_name(self) -> None:
        """As the file spells it, whatever case of ASCII letters was given."""
        self.assertEqual(b"alice", self.login(b"alice", b"open sesame"))
        self.assertEqual(b"Bob", self.login(b"bob", b"builder"))
        self.assertEqual(b"Bob", self.login(b"BOB", b"builder"))

    def test_refused(self) -> None:
        """Wrong, unknown, locked and impossible: one hash each."""
        for name, password in [(b"alice", b"builder"), (b"nobody", b"x"), (b"locked", b"*"), (b"locked", b""),
                               (b"\xff", b"x"), (b"alice ", b"open sesame"), (b"alice:", b"open sesame")]:
            before = self.hashing.hashes
            self.assertIsNone(self.login(name, password), name)
            self.assertEqual(1, self.hashing.hashes - before)
        self.assertIn((DUMMY_VERIFIER,), self.hashing.tried)

    def test_busy(self) -> None:
        """A full pool is no refusal."""
        checker = PasswdFileChecker(str(self.path), Busy())
        self.failureResultOf(checker.requestAvatarId(PasswordLogin(b"alice", b"open sesame")), TooBusy)

    def test_remembered(self) -> None:
        """A second login costs no hash, until its time is over."""
        for _ in range(3):
            self.login(b"alice", b"open sesame")
        self.assertEqual(1, self.hashing.hashes)
        self.assertIsNone(self.login(b"alice", b"open sesame "))
        self.assertEqual(2, self.hashing.hashes)
        self.clock.advance(300)
        self.assertEqual(b"alice", self.login(b"alice", b"open sesame"))
        self.assertEqual(3, self.hashing.hashes)

    def test_knows(self) -> None:
        """Who is in the file receives mail, locked or not."""
        verifyObject(IUserLookup, self.checker)
        for name in ("alice", "ALICE", "bob", "locked", "eve", ""):
            known = self.successResultOf(self.checker.knows(name))
            self.assertIs(name not in ("eve", ""), known, name)

    def test_knows_while_busy(self) -> None:
        """Delivery hears that it should come back."""
        checker = PasswdFileChecker(str(self.path), Busy())
        self.failureResultOf(checker.knows("alice"), StoreUnavailable)


class Changes(Checked):
    """The file changes while the service runs."""

    def test_new_password(self) -> None:
        """Holds at the next login, however warm the memory of the old one."""
        self.assertIsNotNone(self.login(b"alice", b"open sesame"))
        self.write(f"alice:{cheap(b'other')}\n")
        self.assertIsNone(self.login(b"alice", b"open sesame"))
        self.assertEqual(b"alice", self.login(b"alice", b"other"))

    def test_removed_and_added(self) -> None:
        """So does a user's going and coming, the one once it is sure; others stay remembered."""
        self.login(b"alice", b"open sesame")
        self.login(b"bob", b"builder")
        self.write(f"alice:{ALICE}\nnew:{cheap(b'new')}\n")
        hashes = self.hashing.hashes
        self.assertEqual(b"alice", self.login(b"alice", b"open sesame"))
        self.assertEqual(hashes, self.hashing.hashes)
        bob = PasswordLogin(b"bob", b"builder")
        self.failureResultOf(self.checker.requestAvatarId(bob), StoreUnavailable)
        self.wall += SETTLE_SECONDS
        self.assertIsNone(self.login(b"bob", b"builder"))
        self.assertEqual(b"new", self.login(b"new", b"new"))
        self.assertTrue(self.successResultOf(self.checker.knows("new")))

    def test_written_in_place(self) -> None:
        """A changed length is enough to see it."""
        self.login(b"alice", b"open sesame")
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"late:{cheap(b'late')}\n")
        self.assertEqual(b"late", self.login(b"late", b"late"))

    def test_read_once_a_change(self) -> None:
        """An unchanged file is not read again, and one change is read once."""
        reads: list[int] = []
        load = PasswdFile._load
        self.patch(PasswdFile, "_load", lambda file: (reads.append(1), load(file))[1])
        for _ in range(3):
            self.login(b"alice", b"wrong")
        self.write(f"alice:{ALICE}\n")
        for _ in range(3):
            self.login(b"alice", b"wrong")
        self.assertEqual(2, len(reads))

    def test_unreadable(self) -> None:
        """A missing file is an outage, not a wrong password; it may come back."""
        self.login(b"alice", b"open sesame")
        aside = self.path.rename(self.path.with_suffix(".aside"))
        outcome = self.checker.requestAvatarId(PasswordLogin(b"alice", b"open sesame"))
        self.failureResultOf(outcome, StoreUnavailable)
        self.failureResultOf(self.checker.knows("alice"), StoreUnavailable)
        aside.rename(self.path)
        self.assertEqual(b"alice", self.login(b"alice", b"open sesame"))
        self.assertRaises(StoreUnavailable, PasswdFile("/").read)

    def test_problems_are_told_once(self) -> None:
        """At each reading only those that are new."""
        with capturedLogs() as events:
            for content in ("bad\nworse\n", "bad\nworse\n\n", "bad\n:\n", f"alice:{ALICE}\n", "bad\n"):
                self.write(content)
                self.wall += SETTLE_SECONDS
                self.login(b"alice", b"x")
                self.login(b"alice", b"x")
        told = [event["number"] for event in events if event["log_level"] is LogLevel.warn]
        self.assertEqual([1, 2, 2, 1], told)


class WhileItIsWritten(Checked):
    """Readers of a file that is written in place meet any part of it."""

    NAMES = ("alice", "Bob", "locked")

    def unsure(self) -> list[str]:
        """Return who is neither known nor unknown; logins have to say the same as deliveries."""
        found = []
        for name in self.NAMES:
            outcomes = []
            for outcome in (self.checker.knows(name),
                            self.checker.requestAvatarId(PasswordLogin(name.encode(), b"wrong")),
                            self.checker.scram_secret("SCRAM-SHA-256", name.encode())):
                failed: list[Any] = []
                outcome.addErrback(failed.append)
                outcomes.append(bool(failed and failed[0].check(StoreUnavailable)))
            self.assertEqual(1, len(set(outcomes)), name)
            found += [name] if outcomes[0] else []
        return found

    def known(self) -> list[str]:
        """Return who receives mail, of those of whom it can be said."""
        return [name for name in self.NAMES
                if name not in self.unsure() and self.successResultOf(self.checker.knows(name))]

    def test_every_part(self) -> None:
        """Cut at any octet: nobody who is in the file is ever unknown or refused a right password."""
        whole = self.path.read_text("utf-8")
        self.assertEqual([], self.unsure())
        for octets in range(len(whole)):
            self.overwrite(whole[:octets])
            self.assertEqual(sorted(self.NAMES), sorted({*self.unsure(), *self.known()}), whole[:octets])
        self.overwrite(whole)
        self.assertEqual([], self.unsure())
        self.assertEqual(b"alice", self.login(b"alice", b"open sesame"))

    def test_cut_verifier(self) -> None:
        """A line without its end may go on: what is there of it opens nothing, and refuses nobody."""
        self.NAMES = ("carol", "dave")
        self.overwrite("dave:{PLAIN}x\ncarol:{PLAIN}pass")
        self.assertEqual(["carol"], self.unsure())
        self.wall += SETTLE_SECONDS
        self.assertEqual(b"carol", self.login(b"carol", b"pass"))

    def test_rested(self) -> None:
        """After five seconds the file means what it says; each change begins them anew."""
        self.checker.knows("alice")
        self.overwrite(f"alice:{ALICE}\n")
        self.wall += SETTLE_SECONDS - 1
        self.assertEqual(["Bob", "locked"], self.unsure())
        self.overwrite(f"#\nalice:{ALICE}\n")
        self.wall += SETTLE_SECONDS - 1
        self.assertEqual(["Bob", "locked"], self.unsure())
        self.wall += 1
        self.assertEqual([], self.unsure())
        self.assertEqual(["alice"], self.known())

    def test_old_when_it_is_met(self) -> None:
        """A change that was long ago needs no more time."""
        self.checker.knows("alice")
        self.overwrite(f"alice:{ALICE}\n")
        self.wall += SETTLE_SECONDS
        self.assertEqual([], self.unsure())

    def test_time_of_the_file_ahead(self) -> None:
        """By another machine's clock: the time counts from when the change was met."""
        self.checker.knows("alice")
        self.overwrite(f"alice:{ALICE}\n")
        os.utime(self.path, (self.wall + 1e6, self.wall + 1e6))
        self.assertEqual(["Bob", "locked"], self.unsure())
        self.wall += SETTLE_SECONDS
        self.assertEqual([], self.unsure())

    def test_cut_for_good(self) -> None:
        """A full disk, a script that was killed: without a last line end, or empty, it is never believed."""
        self.checker.knows("alice")
        for content in ("", f"alice:{ALICE}\nBob:{{SSHA2"):
            self.overwrite(content)
            self.wall += 1000
            self.assertEqual(["Bob", "locked"], self.unsure()[-2:])
        self.assertEqual(["alice"], self.known())
        self.overwrite(f"alice:{ALICE}\n# Bob has left\n")
        self.wall += 1000
        self.assertEqual([], self.unsure())

    def test_unreadable_and_back_in_parts(self) -> None:
        """What was known before it could not be read is still asked for afterwards."""
        self.checker.knows("alice")
        self.path.unlink()
        self.assertEqual(list(self.NAMES), self.unsure())
        self.overwrite(f"alice:{ALICE}\n")
        self.assertEqual(["Bob", "locked"], self.unsure())

    def test_first_reading(self) -> None:
        """Nothing is missed that nobody has seen; a last line without an end waits until it is old."""
        self.overwrite(f"alice:{ALICE}\nBob:{ALICE}")
        self.assertEqual(["Bob"], self.unsure())
        self.wall += SETTLE_SECONDS
        self.assertEqual((["alice", "Bob"], []), (self.known(), self.unsure()))

    def test_mechanisms(self) -> None:
        """What every user keeps is not learnt from a part of the file."""
        self.overwrite("alice:{PLAIN}x\nBob:{PLAIN}y\n")
        self.wall += SETTLE_SECONDS
        self.assertIn("APOP", self.successResultOf(self.checker.kept()))
        self.overwrite(f"alice:{{PLAIN}}x\nBob:{ALICE}\n")
        self.wall += SETTLE_SECONDS
        self.assertNotIn("APOP", self.successResultOf(self.checker.kept()))
        self.overwrite("alice:{PLAIN}x\n")
        self.assertNotIn("APOP", self.successResultOf(self.checker.kept()))


class InThreads(TestCase):
    """With the pool of the service."""

    timeout = 20

    async def test_read_in_the_pool(self) -> None:
        """Several logins that meet a changed file: one of them reads it, all are answered."""
        path = fresh_path(self)
        path.write_text(f"alice:{ALICE}\n")
        pool = HashPool(reactor, threads=2)
        pool.start()
        self.addCleanup(pool.stop)
        checker = PasswdFileChecker(str(path), pool)
        reads: list[int] = []
        load = PasswdFile._load
        self.patch(PasswdFile, "_load", lambda file: (reads.append(1), load(file))[1])
        logins = [checker.requestAvatarId(PasswordLogin(b"alice", b"open sesame")) for _ in range(8)]
        self.assertEqual([b"alice"] * 8, [await login for login in logins])
        self.assertEqual(1, len(reads))

    async def test_default_pool(self) -> None:
        """Made at the first login, not before; remembers as well."""
        path = fresh_path(self)
        path.write_text(f"alice:{ALICE}\n")
        stops: list[Any] = []
        self.patch(reactor, "addSystemEventTrigger", lambda phase, event, stop: stops.append(stop))
        checker = PasswdFileChecker(str(path))
        self.assertIsNone(checker.pool)
        login = PasswordLogin(b"alice", b"open sesame")
        self.assertEqual(b"alice", await checker.requestAvatarId(login))
        self.assertEqual(b"alice", self.successResultOf(checker.requestAvatarId(login)))
        self.assertEqual(1, len(stops))
        await stops[0]()
