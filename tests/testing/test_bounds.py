"""What a client, a script or a test may do without end is bounded, and what is left out is told."""

from __future__ import annotations

import base64
import random
import socket
from typing import Any
from unittest.mock import patch

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailgate.errors import ConfigurationError
from mailgate.testing.harness import clock as clocks
from mailgate.testing.harness.clock import HarnessClock, MemoryClock
from mailgate.testing.harness.records import EVENT_OCTETS, KEPT_NOTES, Command, Records
from mailgate.testing.memory import MemoryServer, Talker
from mailgate.testing.scripted import protocol
from mailgate.testing.scripted.patterns import Pattern
from mailgate.testing.showing import show
from mailgate.testing.trouble import active
from tests.testing.serving import served
from tests.testing.trouble.scene import FaultCase


class RecordTests(SynchronousTestCase):
    def test_events(self) -> None:
        """So many are kept; a note tells that there are more, and how it ended is kept all the same."""
        records = Records(lambda: 0.0, kept_events=4, kept_commands=3)
        counted: list[int] = []
        records.counters.append(lambda: counted.append(1))
        record = records.begin("pop3")
        for _ in range(5):
            records.note(record, "C", b"NOOP\r\n")
            records.note(record, "S", b"+OK\r\n")
            records.add_command(record, Command("NOOP", b"", 0.0))
        records.note(record, "*", text="reset")
        self.assertEqual([event.who for event in record.events], ["C", "S", "C", "S", "*", "*"])
        self.assertIn("4 events are kept", record.events[4].text)
        self.assertEqual(record.events[5].text, "reset")
        self.assertEqual((record.events_left_out, len(counted), record.octets_heard), (6, 6, 30))
        self.assertEqual((record.verbs, record.commands_left_out), (["NOOP"] * 3, 2))
        self.assertIn("6 events more happened than are kept", show(record))
        self.assertEqual(record.as_dict()["commands_left_out"], 2)

    def test_notes(self) -> None:
        records = Records(lambda: 0.0, kept_events=0)
        record = records.begin("pop3")
        for _ in range(KEPT_NOTES + 9):
            records.note(record, "*", text="nothing is said")
        self.assertEqual((len(record.events), record.events_left_out), (KEPT_NOTES, 10))

    def test_arguments(self) -> None:
        """Where octets are left out, arguments of commands hold no more of them."""
        records = Records(lambda: 0.0, kept_octets=10)
        record = records.begin("pop3")
        records.note(record, "C", b"x" * 1000)
        records.add_command(record, Command("X", b"x" * 1000, 0.0))
        self.assertEqual(len(record.commands[0].argument), 255)

    def test_secrets(self) -> None:
        """Where octets are left out, what is secret of a command is known all the same."""
        for kept in (10, 1010):
            records = Records(lambda: 0.0, kept_octets=kept)
            record = records.begin("pop3")
            records.note(record, "C", b"x" * 999 + b"\r\n")
            for line in (b"PASS abc", b"AUTH PLAIN " + b"y" * 9000, b"zzz", b"APOP " + b"n" * 250 + b" abc"):
                event = records.note(record, "C", line + b"\r\n")
                verb, _, argument = line.partition(b" ")
                command = Command(verb.decode(), argument, 0.0)
                records.add_command(record, command)
                command.hide(event, record.discretion)
            told = repr(record.commands) + show(record)
            for secret in ("abc", "yyy", "zzz"):
                self.assertNotIn(secret, told)
            self.assertEqual(record.octets_kept, kept)
            self.assertLess(max(len(one.argument) for one in record.commands), 600)

    def test_old_sessions_are_forgotten(self) -> None:
        """All of them together take so much; those that are open stay."""
        records = Records(lambda: 0.0, kept_in_all=2 * EVENT_OCTETS)
        for number in range(6):
            record = records.begin("pop3")
            records.note(record, "*", text="a note")
            if number != 3:
                records.end(record, "QUIT")
        self.assertEqual([record.number for record in records], [4, 5, 6])
        self.assertEqual(len(records), 6)


class SessionTests(FaultCase):
    def test_different_commands(self) -> None:
        """What faults can name is counted, but not without end; what is counted already goes on."""
        with patch.object(active, "MOST_COUNTED", 20):
            client = self.log_in()
            for number in range(50):
                client.say(b"LIST %d\r\n" % number)
            self.fault("error", command="LIST", occurrence=51)
            self.assertEqual(client.say(b"LIST 1\r\n"), b"-ERR refused\r\n")
        connection, = self.server._harness._listeners.find("pop3").factory.idle.watched
        self.assertEqual(len(connection._given), 20)

    def test_corruption_of_much(self) -> None:
        """A long message is changed in so many octets, and no line end is."""
        content = b"Subject: long\r\n\r\n" + b"abcdefgh\r\n" * 20_000
        self.server.maildrop("mrose").add(content)
        self.fault("corrupt", command="RETR", octets=500)
        first, again = [self.said(self.log_in_alone(), b"RETR 3") for _ in range(2)]
        good = b"+OK %d octets\r\n" % len(content) + content + b".\r\n"
        changed = [at for at, pair in enumerate(zip(good, first, strict=True)) if pair[0] != pair[1]]
        self.assertEqual((len(changed), len(again)), (500, len(first)))
        self.assertFalse([at for at in changed if good[at] in b"\r\n"])

    def log_in_alone(self) -> Talker:
        """Return a client that has logged in when all others have gone."""
        for one in self.server._harness.listener().factory.idle.watched.copy():
            one.cut()
        self.server.flush()
        return self.log_in()

    def test_flood_behind_a_stall(self) -> None:
        """A client that is not answered any more is read all the same, so that its end is heard of."""
        self.fault("stall", command="NOOP")
        client = self.connect()
        client.say(b"NOOP\r\n" + b"STAT\r\n" * 50_000)
        client.say(b"STAT\r\n" * 50_000)
        connection, = self.server._harness._listeners.find("pop3").factory.idle.watched
        self.assertFalse(connection._paused)
        self.assertLess(len(connection._inbox), 500_000)
        self.leave(client)
        self.assertFalse(self.server.sessions[-1].open)

    def test_flood_of_a_client(self) -> None:
        """Over a real socket: it has gone, and nothing is left of it."""
        server = served()
        server.fault("stall", command="NOOP")
        with socket.create_connection(server.pop3, timeout=20) as client:
            client.recv(100)
            client.sendall(b"NOOP\r\n" + b"STAT\r\n" * 200_000)
        server.idle(60)


class SameTests(SynchronousTestCase):
    """The same seed, the same octets, whatever other connections say in between."""

    SAID = (b"CAPA", b"STAT", b"AUTH CRAM-MD5", b"*", b"AUTH SCRAM-SHA-256 biwsbj1tcm9zZSxyPWFiYw==", b"*",
            b"AUTH SCRAM-SHA-256 " + base64.b64encode(b"n,,n=nobody,r=abc"), b"*", b"STAT", b"STAT")

    def replies(self, order: int, seed: int = 5) -> list[bytes]:
        """Return what four connections at once are told, who says his next line being drawn."""
        with MemoryServer(seed=seed, settings={"pop3": {"apop": True}}, protocols=["pop3"]) as server:
            server.account("mrose", "secret")
            server.fault("corrupt", command="STAT", octets=3, probability=0.5)
            server.fault("split", command="CAPA", sizes=[1, 2, 30], random=True)
            clients = [server.talk() for _ in range(4)]
            turns = [client for client in clients for _ in self.SAID]
            random.Random(order).shuffle(turns)
            left = {client: iter(self.SAID) for client in clients}
            for client in turns:
                client.say(next(left[client]) + b"\r\n")
                server.advance(1)
            return [b"|".join(client.segments) for client in clients]

    def test_whatever_others_say(self) -> None:
        first = self.replies(1)
        self.assertEqual(first, self.replies(2))
        self.assertEqual(len(set(first)), 4)
        self.assertNotEqual(first, self.replies(1, seed=6))


class ScriptTests(SynchronousTestCase):
    def test_silly_scripts(self) -> None:
        """Each is refused by name, and none with an accident."""
        with MemoryServer(protocols=["pop3"]) as server:
            for text in ("BODY: filler 99999999999\n", "BODY: filler " + "9" * 9999, "\0",
                         "EITHER:\n" * 3000 + "C: A\n" + "END:\n" * 3000,
                         "C: " + "(a|" * 2000 + "b" + ")" * 2000 + "\n"):
                self.assertRaises(ConfigurationError, server.script, text)

    def test_many_holes(self) -> None:
        """A line that could be shared among them in too many ways fits nowhere, and is told at once."""
        self.assertIsNotNone(Pattern("* * * *x").match(b"a b c dx", {}))
        self.assertIsNone(Pattern("* * * *x").match(b" " * 100_000, {}))
        self.assertIsNotNone(Pattern("*").match(b" " * 1_000_000, {}))
        self.assertIsNotNone(Pattern("USER (name)").match(b"USER " + b"x" * 1_000_000, {}))

    def test_flood_while_the_script_waits(self) -> None:
        """What is not its turn is not read; later it is, in order."""
        with patch.object(protocol, "UNREAD_OCTETS", 600), MemoryServer(protocols=["pop3"]) as server:
            script = server.script("C: A\nT: 60\nREPEAT:\n C: B\n S: +OK\nEND:\nC: QUIT\n")
            client = server.talk(script.name)
            client.say(b"A\r\n")
            connection, = script._listener.factory.idle.watched
            for _ in range(8):
                client.say(b"B\r\n" * 100)
            self.assertEqual(connection._player.unread, 900)
            self.assertTrue(connection._paused)
            server.advance(60)
            client.say(b"QUIT\r\n")
            server.advance(1)
            script.check()
            self.assertEqual(client.received, b"+OK\r\n" * 800)


class ClockTests(SynchronousTestCase):
    def test_what_no_date_shows(self) -> None:
        """Neither is a clock there, nor does it get there."""
        for wrong in (float("nan"), float("inf"), -1.0, 1e300):
            self.assertRaises(ValueError, HarnessClock, Clock(), held=True, now=wrong)
            self.assertRaises(ValueError, MemoryClock, Clock(), now=wrong)
        for one in (HarnessClock(Clock(), held=True, now=5.0), MemoryClock(Clock(), now=5.0)):
            self.assertRaises(ValueError, one.advance, 1e12)
            self.assertEqual(one.seconds(), 5.0)

    def test_without_end(self) -> None:
        """What comes again and again for as long as time is moved is given up."""
        for one in (HarnessClock(Clock(), held=True, now=0.0), MemoryClock(Clock(), now=0.0)):
            made: list[float] = []

            def again(clock: Any = one, made: list[float] = made) -> None:
                made.append(clock.seconds())
                clock.callLater(1, again)

            again()
            with patch.object(clocks, "MOST_DUE", 50):
                fault = self.assertRaises(RuntimeError, one.advance, 365 * 86400)
            self.assertIn("smaller steps", str(fault))
            self.assertEqual(len(made), 51)

    def test_restart_of_a_running_clock(self) -> None:
        """What waits does so for as long as before, also where nobody has asked for the time meanwhile."""
        below = Clock()
        clock = HarnessClock(below)
        rang: list[float] = []
        clock.callLater(10, lambda: rang.append(below.seconds()))
        below.rightNow += 6
        clock.restart()
        below.advance(3.9)
        self.assertEqual(rang, [])
        below.advance(0.2)
        self.assertEqual(len(rang), 1)
