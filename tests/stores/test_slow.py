"""Stores that are far away: with 200 ms added to every call, who does not need them does not notice.

Services are real processes, their bucket is of a real Swift behind a relay that delays every request.
"""

from __future__ import annotations

import poplib
import shutil
import signal
import smtplib
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from twisted.trial.unittest import SynchronousTestCase

from tests.crash.dialogue import Pop3
from tests.engines import postgres
from tests.engines.slow import Relay, Request, longest_chain
from tests.engines.swift import REGION, swift
from tests.services import HOSTNAME, Service, Site, wait_for
from tests.stores.s3_hooks import common_bucket

DELAY_SECONDS = 0.2
MESSAGES = 1000
FEWER = 300
BODIES = 20             # each is delivered to as many users of the host as make the messages


def message(number: int) -> bytes:
    return b"Subject: %d\r\n\r\n" % number + b"%d small\r\n" % number * 40


class SlowStore:
    """A service whose stores are behind relays, and what its clients see. Mixed into a test case."""

    relays: list[Relay]
    service: Service

    @classmethod
    def setUpClass(cls) -> None:
        cls.relays = []
        host, port = swift().endpoint.removeprefix("http://").split(":")
        cls.bucket = cls.relay(host, int(port))
        name, credentials = common_bucket()
        cls.folder = Path(tempfile.mkdtemp(prefix="mailgate-test-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.site = Site(
            cls.folder, accounts=dict.fromkeys(("other", "third", "fourth"), "secret"),
            hosts={"xyz": ["secret"]},
            store=f'inline_octets = 0\ns3_credentials = "{credentials}"\n', metadata=cls.metadata(),
            bodies=f"s3://{name}/slow/{cls.folder.name}?region={REGION}"
                   f"&endpoint=http://127.0.0.1:{cls.bucket.address[1]}")
        cls.service = cls.site.start()
        cls.addClassCleanup(cls.service.end)

    @classmethod
    def relay(cls, host: str, port: int) -> Relay:
        relay = Relay((host, port))
        cls.addClassCleanup(relay.end)
        cls.relays.append(relay)
        return relay

    @classmethod
    def metadata(cls) -> str | None:
        """Return where the database is; None for a file here."""
        return None

    def tearDown(self) -> None:
        self.slow_down(0)

    def login(self, name: str) -> poplib.POP3:
        client = poplib.POP3("127.0.0.1", self.service.pop3_port, timeout=60)
        self.addCleanup(client.close)
        client.user(name)
        client.pass_("secret")
        return client

    def fill(self, messages: int, bodies: int) -> None:
        """Deliver to the host's users: so many messages, of so many bodies."""
        users = [f"u{number}@xyz.{HOSTNAME}" for number in range(messages // bodies)]
        with smtplib.LMTP("127.0.0.1", self.service.lmtp_port) as client:
            for number in range(bodies):
                client.sendmail("", users, message(number))
                # smtplib takes one answer to a message; LMTP has one for each recipient
                self.assertEqual([client.getreply()[0] for _ in users[1:]], [250] * (len(users) - 1))

    def retrieve(self, client: poplib.POP3, messages: int, bodies: int) -> None:
        """Retrieve all in order, and see that each is what it has to be."""
        for number in range(messages):
            text = b"".join(line + b"\r\n" for line in client.retr(number + 1)[1])
            self.assertTrue(text.endswith(b"\r\n" + message(number // (messages // bodies))), text)

    def slow_down(self, seconds: float) -> None:
        for relay in self.relays:
            relay.delay_seconds = seconds
            relay.forget()

    @contextmanager
    def noops(self, client: poplib.POP3) -> Iterator[list[float]]:
        """Say NOOP all the while, from a thread; give the seconds that each answer took."""
        over, seconds = threading.Event(), []

        def loop() -> None:
            while not over.wait(0.01):
                since = time.monotonic()
                client.noop()
                seconds.append(time.monotonic() - since)

        thread = threading.Thread(target=loop)
        thread.start()
        try:
            yield seconds
        finally:
            over.set()
            thread.join()

    def retrieve_beside_noops(self, messages: int) -> None:
        """Retrieve the host's messages while another session says NOOP: it is answered as fast as ever."""
        self.fill(messages, BODIES)
        client, other = self.login("xyz"), self.login("third")
        self.slow_down(DELAY_SECONDS)
        with self.noops(other) as seconds:
            self.retrieve(client, messages, BODIES)
        self.assertTrue(len(seconds) > 50 and median(seconds) < DELAY_SECONDS / 4, seconds)


class SlowBucketTests(SlowStore, SynchronousTestCase):
    """Bodies in a bucket that is 200 ms away; the database is here."""

    def test_small_messages_in_order(self) -> None:
        """A request for each, as each is an object, but sixteen at once: few waits."""
        self.retrieve_beside_noops(FEWER)
        self.assertEqual(self.bucket.asked, FEWER)
        self.assertLessEqual(self.bucket.waits(), FEWER // 10)

    def test_a_bucket_that_does_not_answer(self) -> None:
        """Who waits for a body waits alone: others log in, list, and say NOOP meanwhile."""
        self.site.deliver(b"Subject: waits\r\n\r\n", f"other@{HOSTNAME}")
        client = self.login("other")
        last = client.stat()[0]
        self.bucket.forget()
        self.bucket.freeze()
        answered = threading.Event()
        waiting = threading.Thread(target=lambda: (client.retr(last), answered.set()))
        waiting.start()
        wait_for(lambda: self.bucket.asked == 1, "the body to be asked for")
        for _ in range(20):
            third = self.login("third")
            third.noop()
            self.assertEqual(third.stat(), (0, 0))
            third.quit()
        self.assertFalse(answered.is_set())
        self.bucket.thaw()
        waiting.join(60)
        self.assertTrue(answered.is_set())

    def test_a_stop_while_the_bucket_does_not_answer(self) -> None:
        """Does not wait for what clients wanted to read: they are gone, and the process ends in its time."""
        self.site.deliver(b"Subject: waits\r\n\r\n", f"fourth@{HOSTNAME}")
        service = self.site.start()
        self.addCleanup(service.end)
        self.addCleanup(self.bucket.thaw)
        with Pop3(service.pop3_port) as client:
            last = client.enter("fourth")
            self.bucket.forget()
            self.bucket.freeze()
            client.send(b"RETR %d\r\n" % last)
            wait_for(lambda: self.bucket.asked, "the body to be asked for")
            since = time.monotonic()
            self.assertEqual(service.stop(), -signal.SIGTERM)
            self.assertLess(time.monotonic() - since, 20)       # systemd's unit waits for 30
        self.bucket.thaw()
        with Pop3(self.service.pop3_port) as client:
            self.assertEqual(client.enter("fourth"), last)

    def test_a_large_message(self) -> None:
        """It costs a request for a mebibyte, not one for every 64 KiB; its header, one request."""
        large = b"Subject: large\r\n\r\n" + (b"x" * 62 + b"\r\n") * (12 << 14)      # 12 MiB
        self.site.deliver(large, f"other@{HOSTNAME}")
        client = self.login("other")
        last = client.stat()[0]
        self.bucket.forget()
        self.assertEqual(client.top(last, 0)[1][-2:], [b"Subject: large", b""])
        self.assertEqual(self.bucket.asked, 1)
        self.bucket.forget()
        self.assertTrue(b"\r\n".join(client.retr(last)[1]).endswith(large.removesuffix(b"\r\n")))
        self.assertLess(self.bucket.asked, 15)


class SlowDatabaseTests(SlowStore, SynchronousTestCase):
    """The bucket and the database, too, are 200 ms away."""

    @classmethod
    def metadata(cls) -> str:
        server = postgres.primary()
        name = server.create_database()
        cls.addClassCleanup(server.drop_database, name)
        cls.database = cls.relay("127.0.0.1", server.port)
        return f"postgresql://{postgres.SUPERUSER}@127.0.0.1:{cls.database.address[1]}/{name}"

    def test_a_thousand_small_messages_in_order(self) -> None:
        """One look at the database for every run of messages: no more than 110 waits in all."""
        self.retrieve_beside_noops(MESSAGES)
        self.assertEqual(self.bucket.asked, MESSAGES)
        self.assertLessEqual(self.database.asked, 40)
        waits = longest_chain([*self.bucket.requests, *self.database.requests])
        self.assertLessEqual(waits, 110)


class RelayTests(SynchronousTestCase):
    """What counts round trips has to count right."""

    def test_chains(self) -> None:
        """What overlaps is waited for together."""
        for requests, expected in (
                ([], 0), ([(0, 1)], 1), ([(0, 1), (1, 2), (2, 3)], 3), ([(0, 3), (1, 3), (2, 3)], 1),
                ([(0, 10), (1, 2), (3, 4), (9, 12)], 3), ([(5, 6), (0, 1)], 2)):
            self.assertEqual(longest_chain([Request(*one) for one in requests]), expected, requests)
