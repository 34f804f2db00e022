"""A harness in memory with two messages, for tests that show what a fault does octet for octet."""

from __future__ import annotations

import atexit
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailgate.testing.memory import MemoryServer, Talker

ONE = b"Subject: one\r\n\r\nhello\r\n.dot\r\n"
TWO = b"Subject: two\r\n\r\ncaf\xc3\xa9\r\n"
UIDS = (b"uid-one", b"uid-two")

GREETING = b"+OK mailgate ready\r\n"
USER = b"+OK send the password\r\n"
PASS = b"+OK maildrop has 2 messages (%d octets)\r\n" % (len(ONE) + len(TWO))
STAT = b"+OK 2 %d\r\n" % (len(ONE) + len(TWO))
LIST = b"+OK 2 messages (%d octets)\r\n1 %d\r\n2 %d\r\n.\r\n" % (len(ONE) + len(TWO), len(ONE), len(TWO))
UIDL = b"+OK unique-ids follow\r\n1 uid-one\r\n2 uid-two\r\n.\r\n"
RETR_1 = b"+OK %d octets\r\n" % len(ONE) + ONE.replace(b".dot", b"..dot") + b".\r\n"
RETR_2 = b"+OK %d octets\r\n" % len(TWO) + TWO + b".\r\n"
TOP_1_0 = b"+OK top of message follows\r\nSubject: one\r\n\r\n.\r\n"
DELE = b"+OK marked as deleted\r\n"
NOOP = b"+OK nothing done\r\n"
QUIT = b"+OK goodbye\r\n"

_shared: list[MemoryServer] = []


def server() -> MemoryServer:
    """Return the one of this run, as good as new."""
    if not _shared:
        _shared.append(MemoryServer(protocols=["pop3"]))
        atexit.register(_shared[0].stop)
    _shared[0].reset()
    _shared[0].flush()
    return _shared[0]


class FaultCase(SynchronousTestCase):
    """Has a server, an account and two messages."""

    def setUp(self) -> None:
        self.server = server()
        drop = self.server.account("mrose", "secret")
        for content, unique_id in zip((ONE, TWO), UIDS, strict=True):
            drop.add(content, unique_id=unique_id.decode())

    def tearDown(self) -> None:
        self.server.reset()
        self.server.flush()

    def fault(self, do: str, **settings: Any) -> Any:
        """Switch a fault on."""
        return self.server.fault(do, **settings)

    def connect(self) -> Talker:
        """Return a client that was greeted, which it has forgotten."""
        client = self.server.talk()
        self.forget(client)
        return client

    def log_in(self) -> Talker:
        """Return a client that has logged in, its replies forgotten."""
        client = self.connect()
        client.say(b"USER mrose\r\nPASS secret\r\n")
        self.forget(client)
        return client

    def forget(self, client: Talker) -> None:
        """Forget what came."""
        client.received = b""
        client.segments.clear()

    def said(self, client: Talker, line: bytes) -> bytes:
        """Return all that comes on a line, the next five minutes included."""
        self.forget(client)
        client.say(line + b"\r\n")
        self.server.advance(300)
        return client.received

    def leave(self, client: Talker) -> None:
        """Have the client hang up."""
        assert client.transport is not None
        client.transport.loseConnection()
        self.server.flush()

    def holds(self) -> list[str]:
        """Return the unique-ids of what the maildrop holds."""
        return [one.unique_id for one in self.server.maildrop("mrose").messages]
