"""Faults over several sessions: a window onto the maildrop, mail that goes once fetched, new mail."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailgate.testing.memory import MemoryServer, Talker
from mailgate.testing.samples import contents


class StoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = MemoryServer()
        self.addCleanup(self.server.stop)
        self.drop = self.server.account("mrose", "secret")
        self.unique_ids = [self.drop.add(content) for content in contents("plain x 3")]

    def login(self) -> Talker:
        talker = self.server.talk()
        talker.say(b"USER mrose\r\n")
        talker.say(b"PASS secret\r\n")
        return talker

    def test_window(self) -> None:
        """STAT, LIST and UIDL know the first two; what is marked among them is not replaced by others."""
        self.server.fault("window", messages=2)
        talker = self.login()
        self.assertEqual(talker.say(b"STAT\r\n"), b"+OK 2 400\r\n")
        self.assertEqual(talker.say(b"LIST\r\n"), b"+OK\r\n1 200\r\n2 200\r\n.\r\n")
        first, second, _ = [one.encode() for one in self.unique_ids]
        self.assertEqual(talker.say(b"UIDL\r\n"), b"+OK\r\n1 %b\r\n2 %b\r\n.\r\n" % (first, second))
        self.assertEqual(talker.say(b"LIST 2\r\n"), b"+OK 2 200\r\n")
        self.assertEqual(talker.say(b"UIDL 3\r\n"), b"-ERR no such message\r\n")
        talker.say(b"DELE 1\r\n")
        self.assertEqual(talker.say(b"STAT\r\n"), b"+OK 1 200\r\n")
        self.assertEqual(talker.say(b"LIST\r\n"), b"+OK\r\n2 200\r\n.\r\n")
        self.assertTrue(talker.say(b"LIST 9\r\n").startswith(b"-ERR"))

    def test_empty_window(self) -> None:
        """Of nothing at all."""
        self.server.fault("window", messages=0)
        talker = self.login()
        self.assertEqual(talker.say(b"STAT\r\n"), b"+OK 0 0\r\n")
        self.assertEqual(talker.say(b"LIST\r\n"), b"+OK\r\n.\r\n")

    def test_fetched(self) -> None:
        """QUIT removes what RETR gave; TOP, a refused RETR and a lost connection remove nothing."""
        self.server.fault("fetched")
        lost = self.login()
        lost.say(b"RETR 1\r\n")
        lost.transport.loseConnection()     # type: ignore[union-attr]
        self.server.flush()
        self.assertEqual(self.drop.unique_ids, self.unique_ids)
        talker = self.login()
        for line in (b"TOP 1 0\r\n", b"RETR 9\r\n", b"RETR 2\r\n", b"RETR 3\r\n", b"DELE 3\r\n"):
            talker.say(line)
        self.assertEqual(talker.say(b"QUIT\r\n"), b"+OK goodbye\r\n")
        self.assertEqual(self.drop.unique_ids, self.unique_ids[:1])
        self.assertEqual(self.server.sessions[-1].deleted, self.unique_ids[1:])

    def test_arrival(self) -> None:
        """New mail is there in the next session, not in this one; before a login it has nowhere to go."""
        [content] = contents("short")
        self.server.fault("arrival", command="NOOP", text=content.decode())
        self.server.talk().say(b"NOOP\r\n")
        talker = self.login()
        talker.say(b"NOOP\r\n")
        self.assertEqual(talker.say(b"STAT\r\n"), b"+OK 3 600\r\n")
        talker.say(b"QUIT\r\n")
        self.assertEqual([one.content for one in self.drop.messages][3:], [content])
