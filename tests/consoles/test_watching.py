"""What a service's console gets to know: every command and status line, no secret, no content, bounded."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailgate.assembly.auth import Doors
from mailgate.assembly.listeners import make_factory
from mailgate.auth.hashing import Inline
from mailgate.auth.schemes import hash_password
from mailgate.config import parse
from mailgate.console import feed as feed_module
from mailgate.console import watched
from mailgate.console.feed import TELL_SECONDS, Feeds
from mailgate.console.watched import Watch
from mailgate.console.watching import watch
from mailgate.model import Account, Envelope, Placement
from mailgate.stores.memory import MemoryStore
from mailgate.testing.peers import Peer

PASSWORD, CONTENT = b"s3cret-Passw0rd", b"Confidential-Content"
MESSAGE = b"Subject: " + CONTENT + b"\r\n\r\n+OK " + CONTENT + b"\r\n-ERR " + CONTENT + b"\r\n"
CONFIGURATION = b"""
hostname = "mail.example.org"
[limits]
failure_delay_seconds = 0
bad_commands = 1000
failed_logins = 1000
[pop3]
apop = true
[[listen]]
protocol = "pop3"
endpoint = "tcp:110"
plaintext_login = true
[[listen]]
protocol = "lmtp"
endpoint = "tcp:24"
"""


class WatchedTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Have a service with one account and one message, watched."""
        self.clock = Clock()
        config = parse(CONFIGURATION, folder=Path())
        store = MemoryStore(clock=self.clock)
        store.start()
        verifiers = (hash_password(PASSWORD, "PLAIN"),)
        store.accounts.add([Account("mrose", addresses=("mrose@mail.example.org",), verifiers=verifiers)])
        delivery = store.deliver()
        delivery.write(MESSAGE)
        delivery.commit([Placement("mrose", "mrose", Envelope(b"", b"mrose@mail.example.org", 0))])
        self.records = Watch(self.clock.seconds)
        doors = Doors(config, store, Inline(), self.clock)
        self.factories = {one.protocol: make_factory(config, one, store, doors, self.clock)
                          for one in config.listen}
        for protocol, factory in self.factories.items():
            watch(factory, protocol, self.records)
            prepare = getattr(factory, "prepare", None)
            if prepare is not None:
                prepare()

    def connect(self, protocol: str = "pop3") -> Peer:
        return Peer(self.factories[protocol], clock=self.clock)

    def told(self, number: int = -1) -> list[str]:
        """Return the lines of a session, the latest by default."""
        return [f"{line.who}: {line.text}" for line in list(self.records)[number].lines]


class Pop3Tests(WatchedTestCase):
    def test_session(self) -> None:
        """Commands with their arguments, status lines without what follows them; facts beside them."""
        peer = self.connect()
        for line in (b"USER mrose", b"PASS " + PASSWORD, b"STAT", b"STAT", b"LIST", b"UIDL 1", b"RETR 1",
                     b"TOP 1 0", b"noop"):
            peer.say(line + b"\r\n")
        told = self.told()
        unique_id = told[12].split()[-1]
        self.assertTrue(told[0].startswith("S: +OK mailgate ready <"), told[0])
        self.assertEqual(told[1:], [
            "C: USER mrose", "S: +OK send the password", "C: PASS ********",
            "S: +OK maildrop has 1 messages (86 octets)", "C: STAT", "S: +OK 1 86", "C: STAT", "S: +OK 1 86",
            "C: LIST", "S: +OK 1 messages (86 octets)", "C: UIDL 1", f"S: +OK 1 {unique_id}",
            "C: RETR 1", "S: +OK 86 octets", "C: TOP 1 0", "S: +OK top of message follows", "C: noop",
            "S: +OK nothing done"])
        session = list(self.records)[-1]
        self.assertEqual((session.user, session.state, session.commands, session.peer, session.ended),
                         ("mrose", "TRANSACTION", 9, "127.0.0.1:40110", None))
        self.assertGreater(session.octets_out, len(MESSAGE))
        peer.say(b"QUIT\r\n")
        self.assertEqual(self.told()[-2:], ["S: +OK goodbye", "*: the connection has ended"])
        self.assertIsNotNone(session.ended)

    def test_secrets(self) -> None:
        """Passwords, digests, answers to challenges, and words that are no command: not one octet."""
        plain = base64.b64encode(b"\0mrose\0" + PASSWORD)
        for lines, wanted in (
                ([b"AUTH PLAIN " + plain],
                 ["C: AUTH PLAIN ********", "S: +OK maildrop has 1 messages (86 octets)"]),
                ([b"AUTH PLAIN", plain], ["C: AUTH PLAIN", "S: + ********", "C: ********",
                                          "S: +OK maildrop has 1 messages (86 octets)"]),
                ([b"APOP mrose " + PASSWORD], ["C: APOP mrose ********", "S: -ERR ?"]),
                ([b"AUTH " + plain], ["C: AUTH ********", "S: -ERR ?"]),
                ([b"APOP " + PASSWORD], ["C: APOP ********", "S: -ERR ?"]),
                ([b"AUTH OTP " + plain, plain],
                 ["C: AUTH OTP ********", "S: -ERR ?", f"C: (no command: {len(plain)} octets)",
                  "S: -ERR command refused"]),
                ([b"PASS"], ["C: PASS", "S: -ERR command refused"]),
                ([PASSWORD], [f"C: (no command: {len(PASSWORD)} octets)", "S: -ERR command refused"])):
            peer = self.connect()
            peer.say(b"".join(line + b"\r\n" for line in lines))
            told = self.told()[1:]
            self.assertEqual(len(told), len(wanted), told)
            for line, pattern in zip(told, wanted, strict=True):
                self.assertTrue(line == pattern or (pattern[-1] == "?" and pattern[:-1] in line), told)
            peer.vanish()

    @given(st.lists(st.one_of(
        st.sampled_from([b"USER mrose", b"PASS " + PASSWORD, b"RETR 1", b"TOP 1 9", b"LIST", b"AUTH PLAIN",
                         PASSWORD, b"AUTH LOGIN", b"RSET", b"APOP mrose " + PASSWORD, b"CAPA", b"",
                         base64.b64encode(b"\0mrose\0" + PASSWORD), b"AUTH PLAIN " + PASSWORD, b"*",
                         b"x" * 300 + PASSWORD]),
        st.binary(max_size=20)), max_size=12), st.integers(1, 40))
    @settings(deadline=None, max_examples=60)
    def test_whatever_is_said(self, lines: list[bytes], piece_octets: int) -> None:
        """In any order and any pieces: what is told holds neither password nor content."""
        self.begin()
        peer = self.connect()
        peer.say(b"".join(line + b"\r\n" for line in lines), piece_octets)
        peer.vanish()
        told = "\n".join(self.told())
        for secret in (PASSWORD, CONTENT, base64.b64encode(b"\0mrose\0" + PASSWORD)):
            self.assertNotIn(secret.decode(), told)

    def test_many(self) -> None:
        """Lines of all sessions together are bounded, the oldest go first; of the ended some are kept."""
        with patch.object(watched, "KEPT_LINES", 10), patch.object(watched, "KEPT_ENDED", 3):
            first = self.connect()
            for _ in range(8):
                self.connect().vanish()
            kept = list(self.records)
            self.assertEqual([session.number for session in kept], [7, 8, 9, 1])
            self.assertEqual(sum(len(session.lines) for session in kept), 6)
            self.assertEqual(self.records.find(1).lines_from(0), (1, []))
            for _ in range(30):
                first.say(b"NOOP\r\n")
            self.assertEqual(len(self.records.find(1).lines), 10)
            start, lines = self.records.find(1).lines_from(0)
            self.assertEqual((start, len(lines)), (51, 10))


class LmtpTests(WatchedTestCase):
    def test_delivery(self) -> None:
        """Envelope and status lines; not the message."""
        peer = self.connect("lmtp")
        peer.say(b"LHLO client\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<mrose@mail.example.org>\r\nDATA\r\n"
                 + MESSAGE + b".\r\n" + PASSWORD + b"\r\nQUIT\r\n")
        told = self.told()
        self.assertEqual([line for line in told if line.startswith("C:")], [
            "C: LHLO client", "C: MAIL FROM:<a@example.org>", "C: RCPT TO:<mrose@mail.example.org>",
            "C: DATA", "C: QUIT"])
        self.assertEqual([line.split()[1] for line in told if line.startswith("S:")],
                         ["220", "250-mail.example.org", "250", "250", "354", "250", "500", "221"])
        for secret in (PASSWORD, CONTENT):
            self.assertNotIn(secret.decode(), "\n".join(told))


class Socket:
    """A WebSocket's transport that keeps what it is given."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []
        self.closed: int | None = None
        self.transport = self       # what carries it
        self.heard = True

    def pauseProducing(self) -> None:
        self.heard = False

    def resumeProducing(self) -> None:
        self.heard = True

    def sendTextMessage(self, text: str) -> None:
        self.said.append(json.loads(text))

    def loseConnection(self, code: int = 1000) -> None:
        self.closed = code

    def attachProducer(self, producer: Any) -> None:
        pass

    def detachProducer(self) -> None:
        pass


class FeedTests(WatchedTestCase):
    def test_news(self) -> None:
        """A watcher gets what changed, and lines of the session that it looks at; later, if it is slow."""
        feeds, transport = Feeds(self.records, self.clock), Socket()
        feed = feeds.buildProtocol(None)
        feed.negotiationStarted(transport)
        feed.negotiationFinished()
        self.assertEqual(transport.said, [])
        peer = self.connect()
        peer.say(b"USER mrose\r\n")
        self.clock.advance(TELL_SECONDS)
        self.assertEqual([[one["number"] for one in news["sessions"]] for news in transport.said], [[1]])
        feed.textMessageReceived('{"look": 1}')
        self.clock.advance(TELL_SECONDS)
        self.assertEqual([line["text"] for line in transport.said[-1]["lines"]["lines"]][1:],
                         ["USER mrose", "+OK send the password"])
        feed.pauseProducing()
        peer.say(b"NONSENSE\r\n" * 3)
        self.clock.advance(5)
        self.assertEqual((len(transport.said), transport.heard), (2, False))
        feed.resumeProducing()
        self.assertTrue(transport.heard)
        self.clock.advance(TELL_SECONDS)
        self.assertEqual((len(transport.said), len(transport.said[-1]["lines"]["lines"])), (3, 6))
        feed.textMessageReceived("nonsense")
        self.assertEqual((transport.closed, self.records.watchers), (1008, []))

    def test_asleep(self) -> None:
        """For a watcher that takes nothing no more sessions are kept than are known; the rest are gone."""
        feeds, transport = Feeds(self.records, self.clock), Socket()
        feed = feeds.buildProtocol(None)
        feed.negotiationStarted(transport)
        feed.negotiationFinished()
        feed.pauseProducing()
        with patch.object(watched, "KEPT_ENDED", 3), patch.object(feed_module, "SESSIONS_AT_ONCE", 10):
            feed._many = 20
            open_one = self.connect()
            for _ in range(100):
                self.connect().vanish()
            self.assertLessEqual(len(feed._changed), 21)
            feed.resumeProducing()
            for _ in range(10):
                self.clock.advance(TELL_SECONDS)
        told = {one["number"] for news in transport.said for one in news["sessions"]}
        self.assertLessEqual({1, 99, 100, 101}, told)
        open_one.vanish()
