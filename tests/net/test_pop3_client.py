"""The client on a connection: answers, back-pressure, silence, and what becomes of those who wait."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mailgate.net.pop3_client import PROGRESS_OCTETS, POP3Client
from mailgate.pop3 import client
from mailgate.pop3.answers import Reply, ServerFault

SECONDS = 10.0


class Transport(StringTransport):
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


class ClientCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.transport: Any = Transport()
        self.client = POP3Client(self.clock, SECONDS)
        self.client.makeConnection(self.transport)
        self.say(b"+OK ready\r\n")
        self.assertEqual(self.successResultOf(self.client.greeted), Reply(True, b"ready"))

    def say(self, octets: bytes) -> None:
        self.client.dataReceived(octets)

    def fault(self, answer: Deferred[Any]) -> str:
        return str(self.failureResultOf(answer, ServerFault).value)


class AnswerTests(ClientCase):
    def test_pipelined(self) -> None:
        """Each reply goes to its own command, its content to its sink."""
        pieces: list[bytes] = []
        answers = [self.client.ask(client.stat()), self.client.ask(client.retr(1, 100), pieces.append),
                   self.client.ask(client.noop())]
        self.assertEqual(self.transport.value(), b"STAT\r\nRETR 1\r\nNOOP\r\n")
        self.say(b"+OK 1 3\r\n+OK\r\nx\r\n.\r\n-ERR no\r\n")
        self.assertEqual([self.successResultOf(answer) for answer in answers],
                         [Reply(True, b"1 3"), Reply(True, b""), Reply(False, b"no")])
        self.assertEqual(b"".join(pieces), b"x\r\n")

    def test_back_pressure(self) -> None:
        """While a sink is busy nothing is read, and no later reply is told."""
        gates: list[Deferred[None]] = []

        def slow(_: bytes) -> Deferred[None]:
            gates.append(Deferred())
            return gates[-1]

        answer = self.client.ask(client.retr(1, 100), slow)
        later = self.client.ask(client.noop())
        self.say(b"+OK\r\nx\r\n.\r\n+OK\r\n")
        self.assertEqual(self.transport.producerState, "paused")
        self.clock.advance(SECONDS * 5)     # our own store is slow: that is no silence of the server's
        self.assertNoResult(answer)
        gates[0].callback(None)
        self.assertEqual(self.transport.producerState, "producing")
        self.successResultOf(answer)
        self.successResultOf(later)

    def test_sink_that_fails(self) -> None:
        """Its fault goes to who asked; the connection is over."""
        for sink in (lambda _: 1 // 0, lambda _: Deferred.fromCoroutine(failing())):
            self.setUp()
            answer, later = self.client.ask(client.retr(1, 100), sink), self.client.ask(client.noop())
            self.say(b"+OK\r\nx\r\n.\r\n+OK\r\n")
            self.failureResultOf(answer, ZeroDivisionError)
            self.assertEqual(self.fault(later), "the connection was given up")
            self.assertTrue(self.transport.aborted)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_broken(self) -> None:
        """Everybody who waits is told, and whoever asks later."""
        answers = [self.client.ask(client.noop()), self.client.ask(client.noop())]
        self.say(b"what?\r\n+OK\r\n")
        self.assertEqual({self.fault(answer) for answer in answers}, {'the reply to NOOP is "what?"'})
        self.assertTrue(self.transport.aborted)
        self.assertEqual(self.fault(self.client.ask(client.noop())), 'the reply to NOOP is "what?"')

    def test_lost(self) -> None:
        answer = self.client.ask(client.uidl())
        self.client.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.fault(answer), "the connection ended before the reply to UIDL")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close(self) -> None:
        answer = self.client.ask(client.uidl())
        self.client.close()
        self.assertEqual(self.fault(answer), "the connection was closed")
        self.assertTrue(self.transport.disconnecting)

    def test_close_that_is_not_answered(self) -> None:
        """A server may keep its side of TLS open, and talk on: it is not heard, nor waited for."""
        answer = self.client.ask(client.retr(1, 1 << 60))
        self.say(b"+OK\r\n")
        self.client.close()
        self.client.close()
        self.fault(answer)
        self.say(b"line\r\n" * 1000)
        self.assertEqual(len(self.client._events), 0)
        self.assertFalse(self.transport.aborted)
        self.clock.advance(SECONDS)
        self.assertTrue(self.transport.aborted)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_close_that_is_answered(self) -> None:
        self.client.close()
        self.client.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.client.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stls(self) -> None:
        """What came in clear behind the reply to STLS is no answer: it never gets to TLS."""
        answer = self.client.ask(client.stls())
        self.say(b"+OK go\r\n+OK forged\r\n")
        self.assertIn("octets in clear", self.fault(answer))
        self.assertTrue(self.transport.aborted)


async def failing() -> None:
    1 // 0  # noqa: B018


class SilenceTests(ClientCase):
    def test_silence(self) -> None:
        answer = self.client.ask(client.noop())
        self.clock.advance(SECONDS - 0.1)
        self.assertNoResult(answer)
        self.clock.advance(0.2)
        self.assertEqual(self.fault(answer), "no reply to NOOP for 10 seconds")

    def test_nobody_waits(self) -> None:
        """A connection that was asked nothing may be silent as long as it likes."""
        self.clock.advance(SECONDS)
        self.clock.advance(SECONDS * 100)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        answer = self.client.ask(client.noop())
        self.clock.advance(SECONDS - 0.1)
        self.say(b"+OK\r\n")
        self.successResultOf(answer)

    def test_progress(self) -> None:
        """As long as enough comes it goes on; a trickle is no progress."""
        answer = self.client.ask(client.retr(1, 1 << 20))
        self.say(b"+OK\r\n")
        for _ in range(10):
            self.clock.advance(SECONDS - 1)
            self.say(b"x" * PROGRESS_OCTETS)
        self.assertNoResult(answer)
        for _ in range(3):
            self.clock.advance(SECONDS / 2)
            self.say(b"x")
        self.clock.advance(SECONDS * 1.5)
        self.assertEqual(self.fault(answer), "no reply to RETR 1 for 10 seconds")

    def test_replies_are_progress(self) -> None:
        answers = [self.client.ask(client.noop()) for _ in range(5)]
        for _ in range(4):
            self.clock.advance(SECONDS - 1)
            self.say(b"+OK\r\n")
        self.assertNoResult(answers[-1])
