"""Which faults meet a command: sessions, commands, occurrences, users, chance, and several at once."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailgate.testing.trouble.active import Trouble
from mailgate.testing.trouble.reading import read_fault
from tests.testing.trouble.scene import LIST, NOOP, RETR_1, RETR_2, STAT, UIDL, FaultCase


class MeetingTests(FaultCase):
    def test_session(self) -> None:
        self.fault("swallow", command="NOOP", session=[2, 3])
        answers = []
        for _ in range(4):
            client = self.log_in()
            answers.append(client.say(b"NOOP\r\n"))
            self.leave(client)
        self.assertEqual(answers, [NOOP, b"", b"", NOOP])

    def test_argument(self) -> None:
        """RETR 2 is that and no other; TOP 2 is TOP of that message, however many lines."""
        self.fault("swallow", command="RETR 2")
        self.fault("swallow", command="TOP 2")
        client = self.log_in()
        self.assertEqual(client.say(b"RETR 1\r\nRETR 2\r\nRETR 22\r\nTOP 2 7\r\nTOP 22 0\r\n"),
                         RETR_1 + b"-ERR no such message\r\n" * 2)

    def test_occurrence(self) -> None:
        """Counted by what the fault names: a verb, a verb with its argument, any command, those of a kind."""
        for settings, answered in (
                ({"command": "RETR", "occurrence": 2}, [1, 0, 1, 1, 1, 1]),
                ({"command": "RETR 2", "occurrence": 2}, [1, 1, 1, 0, 1, 1]),
                ({"command": "RETR", "occurrence": [1, 4]}, [0, 1, 1, 1, 1, 0]),
                ({"occurrence": 5}, [1, 1, 0, 1, 1, 1])):       # USER and PASS are the first two
            with self.fault("swallow", **settings):
                client = self.log_in()
                said = [self.said(client, line) for line in (b"RETR 1", b"RETR 2", b"NOOP", b"RETR 2",
                                                             b"STAT",
                                                             b"RETR 1")]
                whole = [RETR_1, RETR_2, NOOP, RETR_2, STAT, RETR_1]
                self.assertEqual(said, [reply * there for reply, there in zip(whole, answered, strict=True)])
                self.leave(client)
        self.fault("listing", extra=1, occurrence=2)        # the second of LIST and UIDL together
        client = self.log_in()
        self.assertEqual(client.say(b"LIST\r\n"), LIST)
        self.assertEqual(client.say(b"UIDL\r\n"), UIDL.replace(b"two\r\n", b"two\r\n3 extra-3\r\n"))

    def test_times(self) -> None:
        """So often in all sessions together."""
        fault = self.fault("swallow", command="NOOP", times=2)
        first, answers = self.log_in(), []
        answers += [first.say(b"NOOP\r\n"), first.say(b"NOOP\r\n"), first.say(b"NOOP\r\n")]
        self.assertEqual(answers, [b"", b"", NOOP])
        self.assertEqual(self.server._harness.trouble.acted(fault.id), 2)

    def test_chance_of_one_session_is_its_own(self) -> None:
        """What other sessions say meanwhile changes nothing."""
        self.server.account("other", "secret")
        outcomes = []
        for busy in (False, True):
            self.tearDown()
            self.setUp()
            self.server.account("other", "secret")
            self.fault("swallow", command="NOOP", probability=0.5)
            client, other = self.log_in(), self.connect()
            other.say(b"USER other\r\nPASS secret\r\n")
            answers = []
            for _ in range(40):
                if busy:
                    other.say(b"NOOP\r\n" * 3)
                answers.append(client.say(b"NOOP\r\n") == NOOP)
            outcomes.append(answers)
        self.assertEqual(outcomes[0], outcomes[1])
        self.assertTrue(8 < sum(outcomes[0]) < 32, outcomes[0])

    def test_in_the_order_in_which_they_were_switched_on(self) -> None:
        """Each reworks, and then each delivers, what the one before it left."""
        client = self.log_in()
        with self.fault("replace", find="2", put="3"), self.fault("replace", find="3", put="4"):
            self.assertEqual(self.said(client, b"STAT")[:6], b"+OK 4 ")
        with self.fault("replace", find="3", put="4"), self.fault("replace", find="2", put="3"):
            self.assertEqual(self.said(client, b"STAT")[:6], b"+OK 3 ")
        with self.fault("split", sizes=[4]), self.fault("swallow"), self.fault("insert", text="abcdefgh"):
            self.assertEqual((self.said(client, b"NOOP"), client.segments), (b"abcdefgh", [b"abcd", b"efgh"]))
        with self.fault("error", text="first"), self.fault("error", text="second"), self.fault("echo"):
            self.assertEqual(self.said(client, b"NOOP"), b"NOOP\r\n-ERR first\r\n")
        with self.fault("stall", at=3), self.fault("delay", seconds=5):
            self.forget(client)
            self.assertEqual(client.say(b"STAT\r\n"), b"")
            self.server.advance(5)
            self.assertEqual(client.received, STAT[:3])

    def test_told_in_the_record(self) -> None:
        """Every event says which faults had a hand in it."""
        self.fault("close", command="RETR", at=4, name="a cut")
        self.log_in().say(b"NOOP\r\nRETR 1\r\n")
        told = [(event.octets or event.text, event.faults) for event in self.server.sessions[-1].events[-3:]]
        self.assertEqual(told, [(b"RETR 1\r\n", ()), (b"+OK ", ("a cut",)), ("closed", ("a cut",))])


class TroubleTests(SynchronousTestCase):
    def meeting(self, trouble: Trouble, verb: str = "NOOP", **more: Any) -> list[str]:
        around: Any = None
        found = trouble.meeting(1, "pop3", more.pop("user", None), verb, b"", 1, around, **more)
        return [occasion.fault.label for _, occasion in found]

    def test_neither_greeting_nor_handshake_is_any_command(self) -> None:
        trouble = Trouble()
        trouble.add(read_fault({"do": "close"}))
        self.assertEqual([self.meeting(trouble, verb) for verb in ("NOOP", "response", "greeting", "tls")],
                         [["close"], ["close"], [], []])

    def test_user_and_protocol(self) -> None:
        trouble = Trouble()
        trouble.add(read_fault({"do": "close", "user": "mrose"}))
        trouble.add(read_fault({"do": "stall", "protocol": "pop3s"}))
        self.assertEqual(self.meeting(trouble), [])
        self.assertEqual(self.meeting(trouble, user="mrose"), ["close"])
        self.assertEqual(self.meeting(trouble, user="other"), [])

    def test_probability(self) -> None:
        """0 is never, 1 is always."""
        trouble = Trouble(7)
        never = trouble.add(read_fault({"do": "close", "probability": 0}))
        always = trouble.add(read_fault({"do": "stall", "probability": 1}))
        for _ in range(20):
            self.assertEqual(self.meeting(trouble), ["stall"])
        self.assertEqual((trouble.acted(never), trouble.acted(always)), (0, 20))
        trouble.remove(always)
        self.assertEqual(self.meeting(trouble), [])
        self.assertRaises(KeyError, trouble.remove, always)
