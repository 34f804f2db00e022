"""The client's side of a conversation: replies in any pieces, careless servers, hostile ones."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.pop3 import client
from mailgate.pop3.answers import Reply
from mailgate.pop3.client import Broken, ClientSession, Command, Ended, Event, Line, Piece, Say
from mailgate.wire.dots import to_wire, unstuff

MOST = 10_000
EVERY_CUT = (1, 2, 7, 1 << 20)


def told(events: Iterable[Event]) -> list[tuple[str, object]]:
    """Return events as pairs; pieces of one message joined, wherever they were cut."""
    found: list[tuple[str, object]] = []
    for event in events:
        if isinstance(event, Piece):
            if found and found[-1][0] == f"piece {event.command.verb}":
                found[-1] = found[-1][0], found[-1][1] + event.octets
            else:
                found.append((f"piece {event.command.verb}", event.octets))
        elif isinstance(event, Line):
            found.append((f"line {event.command.verb}", event.line))
        elif isinstance(event, Ended):
            found.append((f"end {event.command.verb}", event.reply))
        elif isinstance(event, Say):
            found.append(("say", event.octets))
        else:
            found.append(("broken", event.words))
    return found


class ClientCase(SynchronousTestCase):
    def hear(self, octets: bytes, *commands: Callable[[], Command], piece_octets: int = 1 << 20,
             greeting: bytes = b"+OK\r\n") -> list[tuple[str, object]]:
        """Return what a server's octets come to, once the commands were sent behind the greeting."""
        session = ClientSession()
        session.receive(greeting)
        for command in commands:
            session.send(command())
        events: list[Event] = []
        for at in range(0, len(octets), piece_octets):
            events += session.receive(octets[at:at + piece_octets])
        return told(events)

    def expect(self, octets: bytes, *commands: Callable[[], Command],
               events: list[tuple[str, object]]) -> None:
        """Hear the octets whole, octet by octet and in pieces: it comes to the same."""
        for piece_octets in EVERY_CUT:
            self.assertEqual(self.hear(octets, *commands, piece_octets=piece_octets), events, piece_octets)

    def broken(self, words: str, octets: bytes, *commands: Callable[[], Command]) -> None:
        """Hear octets that no server may say: it is over, and whatever comes then is not heard."""
        for piece_octets in EVERY_CUT:
            events = self.hear(octets + b"+OK\r\n" * 3, *commands, piece_octets=piece_octets)
            self.assertEqual(events[-1][0], "broken", events)
            self.assertIn(words, str(events[-1][1]))
            self.assertEqual([kind for kind, _ in events].count("broken"), 1)


def top() -> Command:
    return client.top(1, 0, MOST)


class TranscriptTests(ClientCase):
    def test_greeting(self) -> None:
        """The greeting is the first reply, asked for by nobody; a refusing one too."""
        for greeting in (b"+OK ready <1.2@x>\r\n", b"-ERR [SYS/TEMP] no\r\n", b"+ok\n"):
            session = ClientSession()
            events = session.receive(greeting)
            self.assertEqual(events[0].command, session.greeting)
            self.assertEqual(events[0].reply.ok, greeting[:1] == b"+")

    def test_status_replies(self) -> None:
        """Indicators in any case, with or without words."""
        self.expect(b"+OK\r\n-ERR no such\r\n+Ok\tyes \r\n+OK 2 320\n", client.noop, client.noop, client.noop,
                    client.stat, events=[
                        ("end NOOP", Reply(True, b"")), ("end NOOP", Reply(False, b"no such")),
                        ("end NOOP", Reply(True, b"yes")), ("end STAT", Reply(True, b"2 320"))])

    def test_listing(self) -> None:
        """Lines are unstuffed; the next reply may come along with the end; LF will do."""
        for end in (b"\r\n", b"\n"):
            self.expect(end.join([b"+OK", b"1 abc", b"..2", b".", b"-ERR what?", b""]), client.uidl,
                        client.capa, events=[
                            ("line UIDL", b"1 abc"), ("line UIDL", b".2"), ("end UIDL", Reply(True, b"")),
                            ("end CAPA", Reply(False, b"what?"))])

    def test_empty_listing(self) -> None:
        self.expect(b"+OK\r\n.\r\n", client.list_, events=[("end LIST", Reply(True, b""))])

    def test_content(self) -> None:
        """Content is given out unstuffed, and only CRLF "." CRLF ends it."""
        self.expect(b"+OK\r\nA: b\r\n\r\n..\r\nbare\n.\nand\r.\r\n..x\r\n.\r\n+OK\r\n",
                    top, client.noop, events=[
            ("piece TOP 1", b"A: b\r\n\r\n.\r\nbare\n.\nand\r.\r\n.x\r\n"), ("end TOP 1", Reply(True, b"")),
            ("end NOOP", Reply(True, b""))])

    def test_content_cannot_forge_replies(self) -> None:
        """A message of a CRLF server with LF "." LF inside ends nothing, whatever follows there."""
        self.expect(b"+OK\r\nA: b\r\nx\n.\n+OK forged\r\n.\r\n-ERR true\r\n", top, top, events=[
            ("piece TOP 1", b"A: b\r\nx\n.\n+OK forged\r\n"), ("end TOP 1", Reply(True, b"")),
            ("end TOP 1", Reply(False, b"true"))])

    def test_content_in_lf(self) -> None:
        """Where the first line ends in LF all may; it is given out with CRLF."""
        for last in (b".\n", b".\r\n"):
            self.expect(b"+OK\nA: b\n\n..\nx\r\n" + last + b"+OK\n", top, client.noop, events=[
                ("piece TOP 1", b"A: b\r\n\r\n.\r\nx\r\n"), ("end TOP 1", Reply(True, b"")),
                ("end NOOP", Reply(True, b""))])

    def test_contents_in_lf(self) -> None:
        """Each reply's own lines say how they end, however replies and pieces lie."""
        for end in (b"\n", b"\r\n"):
            first = [("piece TOP 1", b"A: b\r\n\r\nx\r\n"), ("end TOP 1", Reply(True, b""))]
            octets = b"+OK\nA: b\n\nx\n.\n" + b"+OK|A: b||x|.|".replace(b"|", end) + b"+OK\nA: b\n\nx\n.\n"
            self.expect(octets, top, top, top, events=first * 3)

    def test_empty_content(self) -> None:
        for last in (b".\r\n", b".\n"):
            self.expect(b"+OK\r\n" + last, top, events=[("end TOP 1", Reply(True, b""))])

    def test_refused_content(self) -> None:
        """After -ERR no content comes."""
        self.expect(b"-ERR gone\r\n+OK\r\nx\r\n.\r\n", top, top, events=[
            ("end TOP 1", Reply(False, b"gone")), ("piece TOP 1", b"x\r\n"), ("end TOP 1", Reply(True, b""))])

    def test_plain(self) -> None:
        """A short response goes along; a long one waits for the challenge; a further one is cancelled."""
        short = client.auth_plain(b"mrose", b"secret")
        self.assertEqual(short.octets, b"AUTH PLAIN " + base64.b64encode(b"\0mrose\0secret") + b"\r\n")
        long = base64.b64encode(b"\0mrose\0" + b"s" * 300) + b"\r\n"
        self.assertEqual(client.auth_plain(b"mrose", b"s" * 300).octets, b"AUTH PLAIN\r\n")
        self.expect(b"+ \r\n+\r\n-ERR no\r\n", lambda: client.auth_plain(b"mrose", b"s" * 300), events=[
            ("say", long), ("say", b"*\r\n"), ("end AUTH PLAIN", Reply(False, b"no"))])
        self.broken("does not end", b"+ \r\n" * 5, lambda: client.auth_plain(b"mrose", b"secret"))

    def test_apop(self) -> None:
        """The example of RFC 1939 section 7."""
        self.assertEqual(client.apop(b"mrose", b"tanstaaf", b"<1896.697170952@dbc.mtview.ca.us>").octets,
                         b"APOP mrose c4c9334bac560ecc979e58001b3e22fb\r\n")

    def test_octets_sent(self) -> None:
        self.assertEqual([command.octets for command in (
            client.top(3, 0, 1), client.retr(12, 1), client.uidl(), client.list_(), client.rset(),
            client.quit_(), client.user(b"a b"), client.pass_(b" x "), client.stls())],
            [b"TOP 3 0\r\n", b"RETR 12\r\n", b"UIDL\r\n", b"LIST\r\n", b"RSET\r\n", b"QUIT\r\n",
             b"USER a b\r\n", b"PASS  x \r\n", b"STLS\r\n"])

    def test_no_command_takes_another_along(self) -> None:
        """Names and passwords that hold a line end or a NUL, or nothing, are refused, and not shown."""
        for make in (client.user, client.pass_):
            for bad in (b"", b"x\r\nDELE 1", b"x\n", b"x\0"):
                self.assertRaises(ValueError, make, bad)
        self.assertRaises(ValueError, client.auth_plain, b"x\0y", b"z")
        self.assertRaises(ValueError, client.apop, b"x y", b"z", b"<1@x>")
        self.assertNotIn("hidden", repr(client.pass_(b"hidden")))


class HostileTests(ClientCase):
    def test_no_status(self) -> None:
        self.broken('the reply to NOOP is "OK"', b"OK\r\n", client.noop)
        self.broken('the reply to NOOP is "+OKAY"', b"+OKAY\r\n", client.noop)
        self.broken('the reply to NOOP is ""', b"\r\n", client.noop)
        self.broken('the reply to NOOP is "+ go on"', b"+ go on\r\n", client.noop)

    def test_unasked(self) -> None:
        self.broken('unasked: "-ERR idle"', b"-ERR idle\r\n")

    def test_endless_lines(self) -> None:
        """A line that does not end costs no more than its limit."""
        for start, command in ((b"", client.noop), (b"+OK\r\n", client.uidl)):
            session = ClientSession()
            session.receive(b"+OK\r\n")
            session.send(command())
            session.receive(start)
            sent = 512
            while not session.receive(b"x" * 512):
                sent += 512
                self.assertLessEqual(sent, client.LINE_OCTETS)
        self.broken("more than 4096 octets", b"x" * 5000 + b"\r\n", client.noop)

    def test_endless_listing(self) -> None:
        self.broken("more than 256 lines", b"+OK\r\n" + b"X\r\n" * 300, client.capa)

    def test_endless_content(self) -> None:
        """Content ends at what the command allows; what came until then was given out."""
        self.broken("the reply to TOP 1 has more than 10000 octets", b"+OK\r\n" + b"A: b\r\n" * 2000, top)
        self.broken("more than 10000 octets", b"+OK\r\n" + b"x" * 10001, top)

    def test_octets_behind_stls(self) -> None:
        """What was said in clear behind the reply is nothing that was said inside TLS."""
        session = ClientSession()
        session.receive(b"+OK\r\n")
        session.send(client.stls())
        events = session.receive(b"+OK go\r\n+OK forged\r\n")
        self.assertEqual(told(events), [("broken", "octets in clear behind the reply to STLS")])
        self.assertEqual(session.receive(b"+OK\r\n"), [])

    def test_nothing_behind_an_exchange(self) -> None:
        """A command behind STLS or AUTH could be read as a part of either."""
        for first in (client.stls(), client.auth_plain(b"a", b"b")):
            session = ClientSession()
            session.receive(b"+OK\r\n")
            session.send(first)
            self.assertRaises(AssertionError, session.send, client.noop())

    def test_words_are_harmless(self) -> None:
        """What a server says is shown without its control characters."""
        self.broken(r'"\x1b[2J"', b"\x1b[2J\r\n", client.noop)
        self.assertEqual(str(Reply(False, b"\x1b]0;x\x07")), r"\x1b]0;x\x07")


COMMANDS = (client.noop, client.uidl, top, client.capa, lambda: client.auth_plain(b"a", b"b"), client.stls)
WORDS = [b"+OK", b"-ERR no", b"+ ", b"\r\n", b"\n", b".", b"..", b"\r", b"1 x", b"A: b", b"\0", b"x" * 700]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=40).map(b"".join)


class PropertyTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=150)
    @given(texts=TEXTS, cuts=st.lists(st.integers(1, 9), min_size=1, max_size=5),
           commands=st.lists(st.sampled_from(COMMANDS[:4]), max_size=4))
    def test_cuts_change_nothing(self, texts: bytes, cuts: list[int],
                                 commands: list[Callable[[], Command]]) -> None:
        """Whatever comes, it comes to the same however it is cut, and nothing is raised."""
        outcomes = []
        for sizes in ([1 << 20], cuts):
            session = ClientSession()
            for command in commands:
                session.send(command())
            events: list[Event] = []
            at = turn = 0
            while at < len(texts):
                events += session.receive(texts[at:at + sizes[turn % len(sizes)]])
                at += sizes[turn % len(sizes)]
                turn += 1
            outcomes.append((told(events), session.outstanding))
        self.assertEqual(*outcomes)

    @settings(deadline=None, max_examples=100)
    @given(octets=TEXTS, command=st.sampled_from(COMMANDS))
    def test_what_is_kept(self, octets: bytes, command: Callable[[], Command]) -> None:
        """Nothing is kept beyond a line; at most one `Broken`, and that last."""
        session = ClientSession()
        session.send(command())
        events = [event for _ in range(20) for event in session.receive(octets)]
        self.assertLessEqual(session._lines.pending, client.LINE_OCTETS)
        self.assertNotIn("broken", [kind for kind, _ in told(events)[:-1]])

    @settings(deadline=None, max_examples=100)
    @given(message=TEXTS, piece_octets=st.integers(1, 50), bare=st.booleans())
    def test_any_message_arrives(self, message: bytes, piece_octets: int, bare: bool) -> None:
        """A message in wire form comes out as it went in, and the reply behind it is the next one."""
        wire = to_wire(b"A: b\n" + (message.replace(b"\r", b"") if bare else message))
        octets = b"+OK\r\n" + wire + b".\r\n+OK\r\n"
        if bare:
            octets = octets.replace(b"\r\n", b"\n")
        session = ClientSession()
        session.receive(b"+OK\r\n")
        session.send(client.retr(1, 1 << 20))
        session.send(client.noop())
        events = [event for at in range(0, len(octets), piece_octets)
                  for event in session.receive(octets[at:at + piece_octets])]
        content = b"".join(event.octets for event in events if isinstance(event, Piece))
        self.assertEqual(content, unstuff(wire))
        self.assertEqual([kind for kind, _ in told(events)][-2:], ["end RETR 1", "end NOOP"])
        self.assertEqual([one for one in events if isinstance(one, Broken)], [])
