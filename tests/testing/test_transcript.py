"""The transcript tool itself: what its scripts mean, and what it says when a server departs from them."""

from __future__ import annotations

from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailgate.testing.peers import Peer
from mailgate.testing.transcript import (
    AS_WRITTEN,
    PLAYS,
    Advance,
    Event,
    Expect,
    Say,
    ScriptError,
    Stage,
    TranscriptMismatch,
    Watch,
    converse,
    escape,
    parse_script,
)


class Echo(Protocol):
    """Answers each line with itself; `bye` closes, `later` answers after two seconds."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.buffer = b""
        self.segments: list[bytes] = []

    def connectionMade(self) -> None:
        self.transport.write(b"hello\r\n")

    def dataReceived(self, data: bytes) -> None:
        self.segments.append(data)
        *lines, self.buffer = (self.buffer + data).split(b"\r\n")
        for line in lines:
            if line == b"later":
                self.clock.callLater(2, self.transport.write, b"now\r\n")
            elif line == b"bye":
                self.transport.loseConnection()
            elif line != b"silence":
                self.transport.write(line + b"\r\n")


class EchoFactory(Factory):
    noisy = False

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.built: list[Echo] = []

    def buildProtocol(self, addr: object) -> Echo:
        self.built.append(Echo(self.clock))
        return self.built[-1]


class ParsingTests(SynchronousTestCase):
    def test_each_kind_of_line(self) -> None:
        """C, S, T and E lines, comments and blank lines."""
        self.assertEqual(parse_script("""
            # a comment
            C: USER a
            S: +OK *
            S: .

            S:
            S: (closed)
            T: 2.5
            E: it happens
            """), [Say(b"USER a\r\n"), Expect(b"+OK ", True), Expect(b"."), Expect(b""),
                   Watch("(closed)"), Advance(2.5), Event("it happens")])

    def test_escapes(self) -> None:
        """Octets that an editor cannot hold, a literal star, a missing line end, trailing blanks."""
        steps = parse_script("C: a\\x00\\xff\\\\é\\r\\n\\c\nS: all\\*\nS: back\\\\*\nC:  two  ")
        self.assertEqual(steps, [Say(b"a\0\xff\\\xc3\xa9\r\n"), Expect(b"all*"), Expect(b"back\\", True),
                                 Say(b" two  \r\n")])

    def test_escape(self) -> None:
        """What `escape` writes means the same octets again."""
        for octets in (bytes(range(256)), b" lead", b"trail ", b"two  words", b"*", b"(nothing)", b"\\c"):
            self.assertEqual(parse_script("C: " + escape(octets)), [Say(octets + b"\r\n")])
            self.assertEqual(parse_script("S: " + escape(octets)), [Expect(octets)])

    def test_nonsense_is_named_with_its_line(self) -> None:
        """A script that means nothing is the author's mistake, not the server's."""
        for script, line in (("\nX: a", "line 2"), ("C: \\q", "line 1"), ("S: (open)", "line 1"),
                             ("T: soon", "line 1"), ("C: a\nnothing", "line 2")):
            with self.assertRaisesRegex(ScriptError, line):
                parse_script(script)


class ConverseTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.factories: list[EchoFactory] = []
        self.happened: list[str] = []

    def stage(self, clock: Clock) -> Stage:
        self.factories.append(EchoFactory(clock))
        return Stage(self.factories[-1], {"it happens": lambda: self.happened.append("it")},
                     done=lambda: self.happened.append("done"))

    def mismatch(self, script: str) -> str:
        with self.assertRaises(TranscriptMismatch) as caught:
            converse(self.stage, script)
        return str(caught.exception)

    def test_every_play(self) -> None:
        """Five plays, each with its own server, in the promised segments."""
        converse(self.stage, """
            S: hello
            C: one
            C: two
            S: one
            S: two
            C: three
            S: thr*
            E: it happens
            """)
        segments = [factory.built[0].segments for factory in self.factories]
        text = b"one\r\ntwo\r\nthree\r\n"
        self.assertEqual(len(segments), len(PLAYS))
        self.assertEqual(segments[0], [b"one\r\ntwo\r\n", b"three\r\n"])
        self.assertEqual(segments[1], [text[at:at + 1] for at in range(len(text))])
        self.assertEqual(segments[3], [b"one\r\ntw", b"o\r\n", b"three\r\n"])
        self.assertEqual(segments[4], [text])
        self.assertEqual(self.happened, ["it", "done"] * len(PLAYS))

    def test_time_and_silence(self) -> None:
        """Time moves by T lines alone; `(nothing)` holds until then."""
        converse(self.stage, """
            S: hello
            C: later
            S: (nothing)
            T: 1.5
            S: (nothing)
            T: 0.5
            S: now
            C: bye
            S: (closed)
            """)

    def test_any_number_of_lines(self) -> None:
        """`(lines)` skips to the line that the next S line means, or to the end."""
        converse(self.stage, """
            S: (lines)
            C: a
            C: b
            C: end
            S: (lines)
            S: end
            C: c
            S: (lines)
            """, plays=[AS_WRITTEN])

    def test_first_difference_is_shown(self) -> None:
        """The error shows the conversation, what was wanted and what came."""
        text = self.mismatch("""
            S: hello
            C: one
            S: won
            """)
        for part in ("Played as written", "    S: hello\n    C: one\n", "--> wanted: S: won\n",
                     "--> came:   S: one"):
            self.assertIn(part, text)

    def test_missing_line(self) -> None:
        """A server that says nothing where it should is found out."""
        self.assertIn("--> came:   nothing", self.mismatch("S: hello\nC: silence\nS: x*"))

    def test_line_without_its_end(self) -> None:
        """A line that is not ended by CRLF is no line."""
        text = self.mismatch("S: hello\nC: a\\nb\nS: a\nS: b")
        self.assertIn("S: a\\nb", text)

    def test_surplus_line(self) -> None:
        """One line too many is found before the next C line and at the end."""
        self.assertIn("--> wanted: the next C line\n--> came:   S: hello", self.mismatch("C: a\nS: a"))
        self.assertIn("the end of the script\n--> came:   S: a", self.mismatch("S: hello\nC: a"))
        self.assertIn("--> wanted: S: (nothing)", self.mismatch("S: (nothing)"))

    def test_connection_left_open(self) -> None:
        """`(closed)` finds a connection that stayed open, and an early end is shown as such."""
        self.assertIn("the connection is open", self.mismatch("S: hello\nS: (closed)"))
        self.assertIn("--> came:   S: (closed)", self.mismatch("S: hello\nC: bye\nS: bye"))

    def test_only_one_play_fails(self) -> None:
        """The error names the play in which the server departed."""
        class Whole(Protocol):
            def dataReceived(self, data: bytes) -> None:
                self.transport.write(b"whole\r\n" if data.endswith(b"\r\n") else b"part\r\n")

        with self.assertRaisesRegex(TranscriptMismatch, "Played in segments of 1 octet"):
            converse(lambda clock: Stage(Factory.forProtocol(Whole)), "C: a\nS: whole")

    def test_octets_after_the_end(self) -> None:
        """A server that writes when it has asked to close is found out, though nobody would read it."""
        class Talkative(Protocol):
            def dataReceived(self, data: bytes) -> None:
                self.transport.loseConnection()
                self.transport.write(b"by the way\r\n")

        with self.assertRaisesRegex(TranscriptMismatch, "no octet after the server asked to close"):
            converse(lambda clock: Stage(Factory.forProtocol(Talkative)), "C: a\nS: (closed)")

    def test_unknown_event(self) -> None:
        """An event that the stage does not have is the author's mistake."""
        with self.assertRaisesRegex(ScriptError, "no event 'rain'"):
            converse(self.stage, "S: hello\nE: rain")


class PeerTests(SynchronousTestCase):
    """The transport in memory keeps the rules of Twisted's TCP transport."""

    def connect(self, **how: object) -> tuple[Peer, Protocol, list[str]]:
        log: list[str] = []

        class Server(Protocol):
            def dataReceived(self, data: bytes) -> None:
                log.append(f"heard {len(data)}")

            def connectionLost(self, reason: object = None) -> None:
                log.append("lost")

            def pauseProducing(self) -> None:
                log.append("pause")

            def resumeProducing(self) -> None:
                log.append("resume")

            def stopProducing(self) -> None:
                log.append("stop")

        peer = Peer(Factory.forProtocol(Server), **how)
        return peer, peer.protocol, log

    def test_back_pressure(self) -> None:
        """A push producer is paused past 64 KiB and resumed when all has left."""
        peer, server, log = self.connect(reading_octets=0)
        server.transport.registerProducer(server, True)
        server.transport.write(b"x" * 65536)
        self.assertEqual(log, [])
        server.transport.write(b"x")
        self.assertEqual(log, ["pause"])
        peer.take(65536)
        self.assertEqual(log, ["pause"])
        peer.take(1)
        self.assertEqual(log, ["pause", "resume"])

    def test_pull_producer(self) -> None:
        """A pull producer is asked at registration and whenever all has left, once each time."""
        peer, server, log = self.connect()
        server.transport.registerProducer(server, False)
        self.assertEqual(log, ["resume"])
        server.transport.write(b"x")
        peer.settle()
        self.assertEqual(log, ["resume", "resume"])

    def test_close_waits_for_the_last_octet(self) -> None:
        """loseConnection lets what was written leave first, and stops the producer before the loss."""
        peer, server, log = self.connect(reading_octets=0)
        server.transport.registerProducer(server, True)
        server.transport.write(b"bye")
        server.transport.loseConnection()
        peer.settle()
        self.assertEqual((peer.closed, log), (False, []))
        peer.take(3)
        self.assertEqual((peer.closed, log), (True, ["stop", "lost"]))

    def test_abort_drops_what_waits(self) -> None:
        """abortConnection does not wait, and nothing written later counts."""
        peer, server, log = self.connect(reading_octets=0)
        server.transport.write(b"bye")
        server.transport.abortConnection()
        server.transport.write(b"late")
        peer.settle()
        self.assertEqual((peer.closed, log, peer.transport.take(100)), (True, ["lost"], b""))

    def test_paused_server_hears_nothing(self) -> None:
        """What is said while the server has paused waits, and comes in the said segments."""
        peer, server, log = self.connect()
        server.transport.pauseProducing()
        peer.say(b"abcde", 2)
        self.assertEqual((log, peer.unheard, peer.heard), ([], 5, False))
        server.transport.resumeProducing()
        peer.settle()
        self.assertEqual((log, peer.unheard), (["heard 2", "heard 2", "heard 1"], 0))

    def test_vanish(self) -> None:
        """A peer that vanishes is told to the server once."""
        peer, _, log = self.connect()
        peer.vanish()
        peer.vanish()
        self.assertEqual((peer.closed, log), (True, ["lost"]))
