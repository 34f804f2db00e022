"""Scripts that are servers: what they say, hear and refuse, in memory and to real clients."""

from __future__ import annotations

import poplib
import re
import socket
import subprocess
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.errors import ConfigurationError
from mailgate.testing.memory import MemoryServer
from mailgate.testing.peers import Peer
from mailgate.testing.scripted.bodies import filler, stuffed
from mailgate.testing.scripted.face import Scripted, ScriptMismatch
from mailgate.testing.scripted.notation import ScriptError
from mailgate.testing.scripted.patterns import Pattern
from mailgate.testing.scripted.playing import LINE_OCTETS
from mailgate.testing.scripted.reading import KEYS, load_script, read_script
from mailgate.testing.server import Server
from tests.needs import needs


class PatternTests(SynchronousTestCase):
    def assert_matches(self, pattern: str, line: bytes, **kept: bytes) -> None:
        self.assertEqual(Pattern(pattern).match(line, {}), kept)

    def assert_refuses(self, pattern: str, *lines: bytes) -> None:
        for line in lines:
            self.assertIsNone(Pattern(pattern).match(line, {}), (pattern, line))

    def test_literal(self) -> None:
        """The first word in any case, the rest exactly."""
        self.assert_matches("USER mrose", b"user mrose")
        self.assert_refuses("USER mrose", b"USER Mrose", b"USER mrose ", b"USER")
        self.assert_matches("*ENV 1".replace("*", "\\*"), b"*env 1")
        self.assert_matches("A\\x00\\xff\\\\ é", b"a\x00\xff\\ \xc3\xa9")
        self.assert_matches("", b"")

    def test_anything(self) -> None:
        """A star is any octets, none too; a mask, which is many of them, costs no more."""
        for line in (b"PASS ", b"PASS x y", b"pass \xff\x00"):
            self.assert_matches("PASS *", line)
        self.assert_matches("TOP * 0", b"TOP 12 0")
        self.assert_refuses("TOP * 0", b"TOP 12 1")
        self.assert_refuses("PASS ******** x", b"PASS " + b"y" * 5000)

    def test_names(self) -> None:
        """What stands at a name is kept; `(=name)` is the same again."""
        self.assert_matches("TOP (n) (lines)", b"TOP 1 20", n=b"1", lines=b"20")
        self.assert_matches("A (x) (=x)", b"a 1 1", x=b"1")
        self.assert_refuses("A (x) (=x)", b"a 1 2")
        again = Pattern("DELE (=n)")
        self.assertEqual(again.match(b"DELE 4.", {"n": b"4."}), {})
        self.assertIsNone(again.match(b"DELE 45", {"n": b"4."}))

    def test_choices_and_expressions(self) -> None:
        """One of several, with holes of their own; a regular expression, with or without a name."""
        self.assert_matches("(USER|APOP) *", b"apop mrose x")
        self.assert_matches("LIST(| (n))", b"LIST")
        self.assert_matches("LIST(| (n))", b"LIST 3", n=b"3")
        self.assert_matches("(verb=STAT|LIST)", b"list", verb=b"list")
        self.assert_matches("RETR (n:[0-9]{1,2})", b"RETR 12", n=b"12")
        self.assert_refuses("RETR (n:[0-9]{1,2})", b"RETR 123", b"RETR x")
        self.assert_matches("(:[^)(]+) (:(a|b)+)", b"x aab")
        self.assert_matches("a\\|b", b"a|b")

    def test_nonsense(self) -> None:
        """A pattern that means nothing is the author's mistake."""
        for text in ("(a", "(A b)", "(:[)", "(x) (x)", "\\q", "a*\\c", "(:(?P<x>a)(?P<x>b))"):
            with self.assertRaises(ValueError, msg=text):
                Pattern(text)

    @settings(deadline=None, max_examples=100)
    @given(st.text("ab (|)*\\:=[]x", max_size=12), st.binary(max_size=12))
    def test_any_text(self, text: str, line: bytes) -> None:
        """Whatever is written is a pattern, or a ValueError; nothing else happens."""
        try:
            pattern = Pattern(text)
        except ValueError:
            return
        self.assertIsInstance(pattern.match(line, {}), (dict, type(None)))


class ReadingTests(SynchronousTestCase):
    def test_mistakes_are_named_with_their_line(self) -> None:
        """What means nothing, or cannot be decided, is told with the line."""
        for text, words in (
                ("S: a\nX: b", "line 2 begins with none of"),
                ("S: \\q", "line 1: unknown escape"),
                ("C: (=x)", r"line 1: \(=x\) was not kept"),
                ("OPTIONAL:\nC: A\nEND:\nS: x", "line 1: how often .* line 4"),
                ("REPEAT: 2\nC: A\nOPTIONAL:\nC: B\nEND:\nEND:\nS: x",
                 "line 3: how often .* the end of the block"),
                ("ANY:\nS: x\nEND:", "line 1: each branch of ANY: begins with a C: line"),
                ("EITHER:\nC: a\nOR:\nEND:", "line 1: each branch"),
                ("ANY:\nOPTIONAL:\nC: a\nEND:\nEND:", "line 2: a block that may be left out begins no"),
                ("ANY:\nC: a", "the end: a block was not ended"),
                ("ANY:\nC: a\nSESSION: 2", "line 3: a block was not ended"),
                ("END:", "line 1: END: without"), ("OR:", "line 1: OR: without"),
                ("REPEAT: x\nC: a\nEND:", "line 1: 'x' is no number of rounds"),
                ("REPEAT: 3-2\nC: a\nEND:", "line 1: '3-2' is no number of rounds"),
                ("ANY: x\nC: a\nEND:", "line 1: ANY: stands alone"),
                ("SESSION: 0", "line 1: '0' is no number"),
                ("SESSION: 1\nSESSION: 1", "line 2: session 1 is"),
                ("T: soon", "line 1: could not"), ("T: -1", "line 1: -1 is no number"),
                ("TLS: end", "line 1: TLS: begin"), ("MISMATCH: laugh", "line 1: 'laugh' is none of"),
                ("BODY: file /nowhere", "line 1: /nowhere: No such"), ("BODY: sample nobody", "no sample"),
                ("BODY: x", "line 1: x  is no file"), ("BODY: filler 3, fast", "'fast' is none of"),
                ("| x", "line 1: a line with"), ("BODY: filler 3\n| x", "line 2: the body is there")):
            with self.assertRaisesRegex(ScriptError, words, msg=text):
                read_script(text)

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.sampled_from([
        "C: a", "C: (x)", "S: b (x)", "S: (closed)", "C: (closed)", "C: (lines)", "ANY:", "OPTIONAL:",
        "EITHER:", "OR:", "REPEAT: 2", "END:", "END:", "T: 1", "BODY:", "| x", "C: (nothing)", "SESSION:",
        "TLS: begin"]), max_size=12),
           st.lists(st.sampled_from([b"a\r\n", b"z\n", b"a", b"\r\n"]), max_size=5))
    def test_any_script_plays_to_an_end(self, lines: list[str], said: list[bytes]) -> None:
        """Whatever can be read can be played, and never for ever, whatever the client says."""
        from mailgate.testing.scripted.playing import Player

        try:
            script = read_script("\n".join(lines))
        except ScriptError:
            return
        player = Player(script, 1)
        for octets in said:
            player.feed(octets)
            for _ in range(50):
                if not player.next():
                    break
        player.hang_up()
        for _ in range(50):
            if not player.next():
                break
        self.assertTrue(player.over)

    def test_bodies(self) -> None:
        """Octets of a filler are counted as those of a message; stuffing is that of the RFC."""
        for octets in (0, 1, 2, 3, 71, 72, 73, 74, 145, 1000):
            body = filler(octets)
            self.assertEqual(len(body), octets)
            self.assertTrue(octets < 2 or body.endswith(b"\r\n"))
        self.assertEqual(stuffed(b".a\r\nb.\r\n.\r\n"), b"..a\r\nb.\r\n..\r\n")


class ManualTests(SynchronousTestCase):
    def test_examples(self) -> None:
        """Every script of the manual can be read, and every key is told there."""
        page = (Path(__file__).parents[2] / "docs" / "testing" / "scripts.rst").read_text("utf-8")
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "one.eml").write_bytes(b"Subject: one\n\nx\n")
        scripts = re.findall(r"\.\. code-block:: text\n\n((?:    .*\n|\n)+)", page)
        self.assertGreater(len(scripts), 5)
        for script in scripts:
            read_script(script, folder)
        for key in (*(f"{key}:" for key in KEYS), "(closed)", "(reset)", "(nothing)", "(lines)"):
            self.assertIn(f"``{key}", page)


class PlayCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = MemoryServer()
        self.addCleanup(self.server.stop)
        self.script: Scripted | None = None

    def play(self, text: str, **more: Any) -> Peer:
        """Return a client of a script."""
        self.script = self.server.script(text, **more)
        return self.again()

    def again(self) -> Peer:
        """Return another client of it."""
        assert self.script is not None
        return self.server._harness.connect(self.script.name)

    def say(self, peer: Peer, octets: bytes) -> bytes:
        """Say something; return what came since."""
        before = len(peer.received)
        peer.say(octets)
        return bytes(peer.received[before:])

    @property
    def told(self) -> list[str]:
        """The mismatches, as text."""
        assert self.script is not None
        return [str(one) for one in self.script.mismatches]


class PlayTests(PlayCase):
    def test_a_conversation(self) -> None:
        """What is sent, what is expected and what is kept of it."""
        peer = self.play("""
            S: +OK ready, (nobody) is here
            C: USER (name)
            S: +OK hello (name)
            C: PASS *
            S: +OK
            C: QUIT
            S: +OK bye (name)
            """)
        self.assertEqual(bytes(peer.received), b"+OK ready, (nobody) is here\r\n")
        self.assertEqual(self.say(peer, b"user Rosa\r\n"), b"+OK hello Rosa\r\n")
        self.assertEqual(self.say(peer, b"PASS x y\nQUIT\r\n"), b"+OK\r\n+OK bye Rosa\r\n")
        self.assertTrue(peer.closed)
        self.script.check(1)
        self.assertEqual(self.script.kept, [{"session": b"1", "name": b"Rosa"}])
        record = self.script.sessions[0]
        self.assertEqual((record.verbs, record.commands[1].reply, record.end, record.protocol),
                         (["USER", "PASS", "QUIT"], b"+OK", "the script's end", "script"))

    def test_blocks(self) -> None:
        """Optional, either, any order, so many times."""
        text = """
            S: +OK
            OPTIONAL:
              C: CAPA
              S: +OK
              S: .
            END:
            EITHER:
              C: USER *
              S: +OK
              C: PASS *
            OR:
              C: APOP *
            END:
            S: +OK in
            ANY:
              C: STAT
              S: +OK 1 2
              C: RETR (n)
              S: +OK (n)
              BODY:
              | .(n)
            END:
            REPEAT: 2-3
              C: DELE *
              S: +OK gone
            END:
            C: QUIT
            S: +OK
            """
        peer = self.play(text)
        said = self.say(peer, b"CAPA\r\nUSER a\r\nPASS b\r\nRETR 7\r\nSTAT\r\nSTAT\r\nDELE 1\r\nDELE 2\r\n"
                        b"QUIT\r\n")
        self.assertEqual(said, b"+OK\r\n.\r\n+OK\r\n+OK in\r\n+OK 7\r\n..7\r\n.\r\n+OK 1 2\r\n+OK 1 2\r\n"
                         b"+OK gone\r\n+OK gone\r\n+OK\r\n")
        peer = self.again()
        said = self.say(peer, b"APOP a b\r\nDELE 1\r\nDELE 1\r\nDELE 1\r\nQUIT\r\n")
        self.assertEqual(said.count(b"gone"), 3)
        self.script.check(2)
        peer = self.again()
        self.say(peer, b"APOP a b\r\nDELE 1\r\nQUIT\r\n")
        self.assertEqual(self.told, ["session 3, line 25: wanted C: DELE *; came C: QUIT"])

    def test_branches_of_several_turns(self) -> None:
        """With OR: a branch of ANY: may go on for longer."""
        peer = self.play("""
            ANY:
              C: AUTH LOGIN
              S: + VXNlcg==
              C: *
              S: -ERR no
            OR:
              C: NOOP
              S: +OK
            END:
            C: QUIT
            """)
        self.assertEqual(self.say(peer, b"AUTH LOGIN\r\nNOOP\r\nNOOP\r\nQUIT\r\n"),
                         b"+ VXNlcg==\r\n-ERR no\r\n+OK\r\n")
        self.script.check(1)

    def test_a_catch_all_ends(self) -> None:
        """In ANY: a line that fits what follows is taken for that, even where a branch takes anything."""
        peer = self.play("ANY:\nC: *\nS: -ERR no such thing\nEND:\nC: QUIT\nS: +OK")
        self.assertEqual(self.say(peer, b"X\r\nY\r\nQUIT\r\n"), b"-ERR no such thing\r\n" * 2 + b"+OK\r\n")
        self.assertTrue(peer.closed)

    def test_any_lines(self) -> None:
        """`(lines)` takes what comes, up to what follows it."""
        peer = self.play("C: DATA\nS: 354\nC: (lines)\nC: .\nS: 250")
        self.assertEqual(self.say(peer, b"DATA\r\na\r\n\r\n..\r\n.\r\n"), b"354\r\n250\r\n")

    def test_sessions(self) -> None:
        """Each connection plays its own section; the last is played again and again."""
        self.play("SESSION: 1\nS: one (session)\nSESSION: 3\nS: three (session)\nSESSION: 2\nS: two")
        said = [bytes(peer.received) for peer in (self.again(), self.again(), self.again())]
        self.assertEqual(said, [b"two\r\n", b"three 3\r\n", b"three 4\r\n"])

    def test_octets(self) -> None:
        """Escapes, a line without its end, several lines or none in one write, and bodies."""
        file = Path(self.mktemp())
        file.write_bytes(b"Subject: x\n\n.dot\nlast")
        peer = self.play(f"""
            S: a\\x00\\xff\\n\\c
            S: b\\r
            BODY: file {file}
            BODY: file {file}, unstuffed, unended
            BODY: file {file}, raw
            BODY: filler 4
            S: .\\r\\n\\c
            """)
        body = b"Subject: x\r\n\r\n%b\r\nlast\r\n"
        self.assertEqual(bytes(peer.received),
                         b"a\x00\xff\nb\r\r\n" + body % b"..dot" + b".\r\n" + body % b".dot"
                         + file.read_bytes() + b"xx\r\n.\r\n.\r\n")
        self.assertEqual(peer.transport.writes, 1)

    def test_samples_and_scripts_in_files(self) -> None:
        """A body of the samples; files are looked for beside the script."""
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "one.eml").write_bytes(b"x\n")
        (folder / "a.script").write_text("BODY: file one.eml\nBODY: sample dots\n")
        peer = self.play(load_script(folder / "a.script"))
        self.assertTrue(peer.received.startswith(b"x\r\n.\r\nMessage-ID: <dots.1@"))
        self.assertTrue(peer.received.endswith(b"\r\n.\r\n"))
        self.script = self.server.script(str(folder / "a.script"))
        self.assertTrue(self.again().received.startswith(b"x\r\n"))

    def test_segments(self) -> None:
        r"""`\\|` and `T: 0` part segments that arrive apart; without them lines leave together."""
        peer = self.play("S: one\nS: t\\|wo\nT: 0\nS: three")
        self.assertEqual((peer.transport.writes, bytes(peer.received)), (3, b"one\r\ntwo\r\nthree\r\n"))
        self.assertEqual([event.octets for event in self.script.sessions[0].events],
                         [b"one\r\nt", b"wo\r\n", b"three\r\n"])

    def test_pauses(self) -> None:
        """Seconds pass by the harness's clock; what the client says meanwhile waits."""
        peer = self.play("C: A\nT: 600\nS: late\nC: B\nS: then")
        self.assertEqual(self.say(peer, b"A\r\nB\r\n"), b"")
        self.server.advance(599)
        peer.settle()
        self.assertEqual(bytes(peer.received), b"")
        self.server.advance(1)
        peer.settle()
        self.assertEqual(bytes(peer.received), b"late\r\nthen\r\n")

    def test_nothing_yet(self) -> None:
        """`C: (nothing)` finds a client that does not wait."""
        self.say(self.play("C: A\nC: (nothing)\nT: 1\nC: (nothing)\nS: +OK"), b"A\r\n")
        self.assertEqual(self.told, [])
        self.say(self.play("C: A\nC: (nothing)\nS: +OK"), b"A\r\nB\r\n")
        self.assertEqual(self.told, ["session 1, line 2: wanted C: (nothing); came C: B"])

    def test_ends(self) -> None:
        """The server closes or resets, or waits for the client to."""
        self.assertTrue(self.play("S: a\nS: (closed)\nS: b").closed)
        peer = self.play("S: a\nS: (reset)")
        self.assertEqual((peer.closed, type(peer.reason.value).__name__), (True, "ConnectionAborted"))
        peer = self.play("S: a\nC: (closed)")
        self.assertFalse(peer.closed)
        peer.vanish()
        self.script.check(1)

    def test_events(self) -> None:
        """`E:` lines call what the test gave; a name that is not there is told at once."""
        happened: list[int] = []
        self.say(self.play("C: A\nE: it happens\nS: +OK", events={"it happens": lambda: happened.append(1)}),
                 b"A\r\n")
        self.assertEqual(happened, [1])
        with self.assertRaisesRegex(ConfigurationError, "E: it happens: there is no such event"):
            self.server.script("E: it happens")

    def test_line_ends_that_count(self) -> None:
        r"""With `\\c` the line's end is part of what is expected, or the octets are, without one."""
        self.say(self.play("C: NOOP\\r\\n\\c\nC: \\x05\\x01\\c\nC: A\nS: +OK"), b"NOOP\r\n\x05\x01A\r\n")
        self.script.check(1)
        self.say(self.play("C: NOOP\\r\\n\\c\nS: +OK"), b"NOOP\n")
        self.assertEqual(self.told, ["session 1, line 1: wanted C: NOOP\\r\\n\\c; came C: NOOP"])

    def test_in_pieces(self) -> None:
        """How the client's octets are cut does not matter."""
        for octets in (1, 2, 7):
            peer = self.play("C: USER (name)\nS: +OK (name)\nC: QUIT\nS: +OK")
            peer.say(b"USER rosa\r\nQUIT\r\n", octets)
            self.assertEqual(bytes(peer.received), b"+OK rosa\r\n+OK\r\n")

    def test_reset_of_the_harness(self) -> None:
        """The first client after it is session 1, and nothing is remembered."""
        self.play("S: (session)\nC: A").say(b"B\r\n")
        self.server.reset()
        self.assertEqual((self.told, self.script.sessions), ([], []))
        self.assertEqual(bytes(self.again().received), b"1\r\n")


class MismatchTests(PlayCase):
    def test_what_fits_nowhere(self) -> None:
        """It is told with line, what was wanted and what came, in all places; the connection ends."""
        peer = self.play("S: +OK\nOPTIONAL:\nC: CAPA\nS: +OK\nEND:\nC: USER *\nS: +OK")
        self.say(peer, b"PASS sesame open\r\nUSER x\r\n")
        words = "session 1, line 3: wanted C: CAPA or C: USER *; came C: PASS ********"
        self.assertEqual((self.told, peer.closed), ([words], True))
        record = self.script.sessions[0]
        self.assertEqual(record.end, f"mismatch with the script: {words}")
        self.assertIn(f"* mismatch: {words}", self.server.transcript())
        with self.assertRaisesRegex(ScriptMismatch, "wanted C: CAPA or C: USER"):
            self.script.check()

    def test_refused(self) -> None:
        """Where the script says so, or the test, it is answered -ERR and the session goes on."""
        for text, more in (("MISMATCH: refuse\nC: A\nS: +OK", {}), ("C: A\nS: +OK", {"mismatch": "refuse"})):
            peer = self.play(text, **more)
            self.assertEqual(self.say(peer, b"B\r\nC\r\nA\r\n"),
                             b"-ERR that is not in the script\r\n" * 2 + b"+OK\r\n")
            self.assertEqual(len(self.told), 2)

    def test_too_much(self) -> None:
        """What comes behind the script's end was not wanted."""
        self.say(self.play("C: A\nS: +OK"), b"A\r\nB\r\n")
        self.assertEqual(self.told, ["session 1, behind the end: wanted nothing more; came C: B"])

    def test_too_little(self) -> None:
        """A client that hangs up early is told of; one that may, is not."""
        self.play("C: A\nS: +OK\nC: B").vanish()
        self.assertEqual(self.told, ["session 1, line 1: wanted C: A; came (closed)"])
        peer = self.play("C: A\nT: 60\nS: +OK\nC: B")
        peer.say(b"A\r\n")
        peer.vanish()
        self.assertEqual(self.told, ["session 1, line 4: wanted C: B; came (closed)"])
        peer = self.play("ANY:\nC: A\nS: +OK\nEND:")
        peer.say(b"A\r\n")
        peer.vanish()
        self.script.check(1)

    def test_nobody_came(self) -> None:
        """Sessions that should have been are missed."""
        script = self.server.script("S: +OK")
        script.check()
        with self.assertRaisesRegex(ScriptMismatch, "0 of 0 sessions were played"):
            script.check(1)

    def test_an_endless_line(self) -> None:
        """A line that does not end is told of, not kept for ever; it is shown in part."""
        peer = self.play("C: A\nS: +OK")
        peer.say(b"x" * (LINE_OCTETS + 10))
        self.assertEqual(self.told, [f"session 1, line 1: wanted C: A; came C: {'x' * 200}"])
        self.assertTrue(peer.closed)

    def test_a_script_that_cannot_be(self) -> None:
        """A row of `listen` that is wrong is refused before anything listens."""
        for row, words in (({"script": "X: y"}, "line 1 begins with none"),
                           ({"script": "nowhere"}, "No such"),
                           ({"script": "S: a", "mismatch": "x"}, "mismatch"),
                           ({"script": "S: a", "port": 1}, "unknown")):
            with self.assertRaisesRegex(ConfigurationError, words):
                MemoryServer(settings={"listen": [{"protocol": "script", **row}]})


class RealTests(SynchronousTestCase):
    """Real sockets, real clients."""

    def setUp(self) -> None:
        self.server = Server().start()
        self.addCleanup(self.server.stop)

    def test_poplib_with_stls(self) -> None:
        """poplib begins TLS in the middle, and is shown the harness's certificate."""
        script = self.server.script("""
            S: +OK ready
            C: CAPA
            S: +OK
            S: STLS
            S: .
            C: STLS
            S: +OK
            TLS: begin
            C: USER (name)
            S: +OK
            C: PASS *
            S: +OK
            ANY:
              C: RETR (n)
              S: +OK
              BODY: sample dots
            END:
            C: QUIT
            S: +OK
            """)
        client = poplib.POP3("localhost", script.port, timeout=60)
        client.stls(self.server.ssl_context())
        client.user("rosa")
        client.pass_("sesame")
        self.assertIn(b".", b"".join(client.retr(1)[1]))
        client.quit()
        self.server.wait_for(lambda: script.finished)
        script.check(1)
        record = script.sessions[0]
        self.assertTrue(record.tls_details.startswith("TLSv1"), record.tls_details)
        self.assertEqual((record.server_name, record.events[-1].tls), ("localhost", True))

    def test_tls_from_the_first_octet(self) -> None:
        """As a setting of the listener, and as the first line of the script."""
        text = "S: +OK\nC: QUIT\nS: +OK bye"
        context = self.server.ssl_context()
        for script in (self.server.script(text, tls=True), self.server.script(f"TLS: begin\n{text}")):
            client = poplib.POP3_SSL("localhost", script.port, context=context, timeout=60)
            self.assertEqual(client.quit(), b"+OK bye")

    def test_behind_stls_in_clear(self) -> None:
        """What a client says in clear behind STLS is a mismatch, and TLS begins for nobody."""
        script = self.server.script("C: STLS\nS: +OK\nTLS: begin\nC: QUIT")
        with socket.create_connection(script.address, timeout=60) as client:
            client.sendall(b"STLS\r\nUSER rosa\r\n")
            self.assertEqual(client.makefile("rb").read(), b"+OK\r\n")
        self.server.wait_for(lambda: script.mismatches)
        self.assertEqual(str(script.mismatches[0]),
                         "session 1, line 3: wanted TLS: begin; came C: USER rosa")

    def test_a_client_that_closes_its_half(self) -> None:
        """All is answered that was said; then it is the end."""
        script = self.server.script("C: A\nS: +OK a\nC: B\nS: +OK b\nC: (closed)\nS: bye")
        with socket.create_connection(script.address, timeout=60) as client:
            client.sendall(b"A\r\nB\r\n")
            client.shutdown(socket.SHUT_WR)
            self.assertEqual(client.makefile("rb").read(), b"+OK a\r\n+OK b\r\nbye\r\n")
        self.server.wait_for(lambda: script.finished)
        script.check(1)

    def test_curl(self) -> None:
        """curl fetches a message that there is nowhere but in a script."""
        curl = needs("curl")
        script = self.server.script("""
            MISMATCH: refuse
            S: +OK
            OPTIONAL:
              C: CAPA
              S: -ERR
            END:
            C: USER rosa
            S: +OK
            C: PASS *
            S: +OK
            C: RETR 1
            S: +OK
            BODY:
            | Subject: from a script
            |
            | .dot
            C: QUIT
            S: +OK
            """)
        ran = subprocess.run([curl, "-sS", "--max-time", "60", "-u", "rosa:sesame",
                              f"pop3://{script.host}:{script.port}/1"], capture_output=True, check=False)
        self.assertEqual(ran.stdout, b"Subject: from a script\r\n\r\n.dot\r\n", ran.stderr)
        self.assertEqual(ran.returncode, 0)
        self.server.wait_for(lambda: script.finished)
        script.check(1)

    def test_as_a_row_of_the_settings(self) -> None:
        """A harness may be started with scripts, beside what it serves else; each has a name."""
        rows = [{"protocol": "script", "script": "S: one"}, {"protocol": "script", "script": "S: two"},
                {"protocol": "pop3"}, {"protocol": "script", "script": "S: three", "name": "last"}]
        with Server(settings={"listen": rows}) as server:
            self.assertEqual(sorted(server.scripts), ["last", "script", "script-2"])
            for name, said in (("script", b"one"), ("script-2", b"two"), ("last", b"three")):
                with socket.create_connection(server.address(name), timeout=60) as client:
                    self.assertEqual(client.makefile("rb").read(), said + b"\r\n")
            poplib.POP3(*server.pop3, timeout=60).quit()
