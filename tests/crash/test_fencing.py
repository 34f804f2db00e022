"""Two services on one store: who slept past the lease removes nothing; who died holds nothing for long."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path
from typing import NamedTuple

from twisted.trial.unittest import SynchronousTestCase

from mailgate.model import Account
from tests.crash.dialogue import Pop3
from tests.crash.reopened import Reopened, now_ms
from tests.services import HOSTNAME, Service, Site, wait_for

LEASE_SECONDS = 2           # a service that stands still for two thirds of it loses its sessions
MESSAGES = 3                # in each maildrop, all for `alice` where it is a host's
IN_USE = b"-ERR [IN-USE] "


class Pair(NamedTuple):
    """The login of a session that is forgotten by its lease, and of the one that takes over."""

    account: str
    sleeper: str
    successor: str
    quits: bool             # whether the successor has ended when the sleeper wakes


PAIRS = [Pair(f"{account}{number}", sleeper.format(f"{account}{number}"),
              successor.format(f"{account}{number}"), quits)
         for number, quits in enumerate((True, False))
         for account, sleeper, successor in (
             ("plain", "{}", "{}"),             # one maildrop, twice
             ("under", "alice@{}", "{}"),       # a user's view, then the whole host
             ("over", "{}", "alice@{}"),        # the whole host, then a user's view
             ("same", "alice@{}", "alice+{}"))]     # one view, by both of its names


class FencingTests(SynchronousTestCase):
    def setUp(self) -> None:
        accounts = {pair.account: "secret" for pair in PAIRS if pair.sleeper == pair.successor}
        hosts = {pair.account: ["secret"] for pair in PAIRS if pair.sleeper != pair.successor}
        self.site = Site(Path(self.mktemp()), accounts=accounts, store=f"lease_seconds = {LEASE_SECONDS}")
        self.add_hosts(list(hosts))
        self.recipients = [f"{name}@{HOSTNAME}" for name in accounts]
        self.recipients += [f"alice@{name}.{HOSTNAME}" for name in hosts]
        for number in range(MESSAGES):
            self.site.deliver(b"Subject: %d\r\n\r\nhello\r\n" % number, *self.recipients)
        self.first, self.second = self.start(), self.start()

    def add_hosts(self, names: list[str]) -> None:
        """Add SDPS hosts at once (the command adds one at a time, with a slow hash)."""
        reopened = Reopened(self.site)
        reopened.wait(reopened.store.accounts.add([
            Account(name, sdps=True, verifiers=("{PLAIN}secret",), domains=(f"{name}.{HOSTNAME}",))
            for name in names]))
        reopened.close()

    def start(self) -> Service:
        service = self.site.start()
        self.addCleanup(service.end)
        return service

    def enter(self, service: Service, login: str) -> Pop3:
        """Open a session that must be granted."""
        client = Pop3(service.pop3_port)
        self.addCleanup(client.close)
        self.assertEqual(client.enter(login), MESSAGES)
        return client

    def refused(self, service: Service, login: str) -> bytes:
        """Return the answer to a login that must be refused."""
        with Pop3(service.pop3_port) as client:
            answer = client.login(login)
        self.assertTrue(answer.startswith(b"-ERR"), answer)
        return answer

    def pause(self, service: Service) -> None:
        """Stop a service while it is not writing: it would keep the others from writing, too."""
        for _ in range(10):
            service.pause()
            with contextlib.closing(sqlite3.connect(self.site.data / "mail.db", timeout=0)) as database:
                try:
                    database.execute("BEGIN IMMEDIATE")
                    return
                except sqlite3.OperationalError:
                    service.resume()
        self.fail("the service never stops writing")

    def lease_end_ms(self, account: str) -> int:
        """Return when the lease of a maildrop's session ends if nobody renews it."""
        with contextlib.closing(sqlite3.connect(self.site.data / "mail.db")) as database:
            rows = database.execute(
                "SELECT expires_ms FROM lease JOIN holder ON holder.id = lease.holder"
                " JOIN maildrop ON maildrop.id = maildrop_id WHERE maildrop.name = ?", (account,)).fetchall()
        self.assertEqual(len(rows), 1)
        return int(rows[0][0])

    def wait_until(self, moment_ms: int) -> None:
        time.sleep(max(0, moment_ms - now_ms() + 1) / 1000)

    # ----------------------------------------------------------------------------------------

    def test_who_slept_past_the_lease_removes_nothing(self) -> None:
        """Whoever took over in the meantime, as the same user, a user of the host or the whole host."""
        sleepers = {pair: self.enter(self.first, pair.sleeper) for pair in PAIRS}
        for sleeper in sleepers.values():
            sleeper.mark(1, 2)
        for pair in PAIRS:
            self.assertTrue(self.refused(self.second, pair.successor).startswith(IN_USE), pair)
        self.pause(self.first)
        self.wait_until(max(self.lease_end_ms(pair.account) for pair in PAIRS))
        successors = {pair: self.enter(self.second, pair.successor) for pair in PAIRS}
        for pair, successor in successors.items():
            self.assertIn(b"Subject: 2\r\n", successor.retrieve(3))
            if pair.quits:
                successor.mark(3)
                self.assertTrue(successor.ask(b"QUIT").startswith(b"+OK"), pair)
        for pair, sleeper in sleepers.items():
            if pair.quits:
                sleeper.send(b"QUIT\r\n")       # waits for the service to wake
        self.first.resume()
        for pair, sleeper in sleepers.items():
            answer = sleeper.line() if pair.quits else sleeper.ask(b"QUIT")
            self.assertTrue(answer.startswith(b"-ERR [SYS/TEMP] "), (pair, answer))
        for pair, successor in successors.items():
            if not pair.quits:
                successor.mark(3)
                self.assertTrue(successor.ask(b"QUIT").startswith(b"+OK"), pair)
        self.assert_left({pair.account: [b"0", b"1"] for pair in PAIRS})
        with Pop3(self.first.pop3_port) as client:      # who slept is in service again
            self.assertEqual(client.enter(PAIRS[0].sleeper), 2)

    def assert_left(self, subjects: dict[str, list[bytes]]) -> None:
        """Maildrops hold messages with these subjects, nobody holds them, and the store is sound."""
        reopened = Reopened(self.site)
        try:
            for account, wanted in subjects.items():
                maildrop = reopened.open(account)
                found = [message.partition(b"Subject: ")[2].split(b"\r\n")[0]
                         for message in reopened.contents(maildrop)]
                reopened.wait(maildrop.release())
                self.assertEqual(found, wanted, account)
            self.assertEqual(reopened.wait(reopened.store.check()), [])
        finally:
            reopened.close()

    def test_one_session_over_all_services(self) -> None:
        """The second is told [IN-USE], for as long as the first lives; views of two users go together."""
        holder = self.enter(self.first, "plain0")
        self.enter(self.first, "alice@under0")
        before_ms = self.lease_end_ms("plain0")
        wait_for(lambda: now_ms() > before_ms, "more than the first lease")
        self.assertGreater(self.lease_end_ms("plain0"), before_ms)
        for login in ("plain0", "under0", "alice@under0", "alice+under0"):
            self.assertTrue(self.refused(self.second, login).startswith(IN_USE), login)
        with Pop3(self.second.pop3_port) as other:
            self.assertEqual(other.enter("bob@under0"), 0)
            self.assertTrue(self.refused(self.first, "under0").startswith(IN_USE))
            other.ask(b"QUIT")
        holder.mark(1)
        self.assertTrue(holder.ask(b"QUIT").startswith(b"+OK"))
        with Pop3(self.second.pop3_port) as other:
            self.assertEqual(other.enter("plain0"), MESSAGES - 1)

    def test_who_died_holds_nothing_for_long(self) -> None:
        """After kill -9 the other gets in as soon as the lease has run out, and all messages are there."""
        for pair in PAIRS:
            self.enter(self.first, pair.sleeper).mark(1, 2, 3)
        self.first.kill()
        killed_ms = now_ms()
        end_ms = max(self.lease_end_ms(pair.account) for pair in PAIRS)
        self.assertLessEqual(end_ms, killed_ms + LEASE_SECONDS * 1000)
        self.wait_until(end_ms)
        for pair in PAIRS:
            self.enter(self.second, pair.successor)

    def test_who_ends_in_order_holds_nothing(self) -> None:
        """After SIGTERM the other gets in at once."""
        for pair in PAIRS:
            self.enter(self.first, pair.sleeper).mark(1)
        self.first.stop()
        for pair in PAIRS:
            self.enter(self.second, pair.successor)
