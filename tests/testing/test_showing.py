"""Sessions as text and as JSON: readable, to be pasted as scripts, and nothing secret in them."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.testing.harness.discretion import MASK, Discretion
from mailgate.testing.harness.records import Event, Records, SessionRecord
from mailgate.testing.memory import MemoryServer
from mailgate.testing.scripted.notation import escape_shown
from mailgate.testing.scripted.playing import Player
from mailgate.testing.scripted.reading import read_script
from mailgate.testing.showing import show, show_all
from mailgate.testing.trouble.model import Octets


class Recording:
    """A record that a test fills by hand, on a clock of its own."""

    def __init__(self, **more: Any) -> None:
        self.now = 1000.0
        self.records = Records(lambda: self.now, **more)
        self.record = self.records.begin("pop3")

    def say(self, who: str, octets: bytes, after: float = 0.0, **more: Any) -> Event:
        self.now += after
        return self.records.note(self.record, who, octets, **more)


class ShowTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.heard = Recording()
        self.record = self.heard.record

    def test_a_session(self) -> None:
        """One line a line, times since the beginning, notes for what was not said."""
        self.record.peer, self.record.user = "127.0.0.1:40112", "mrose"
        self.heard.say("S", b"+OK ready <1.2@mail.example.org>\r\n")
        self.heard.say("C", b"USER mrose\r\n", 0.25)
        self.heard.say("S", b"+OK\r\n", 0.001)
        self.heard.say("C", b"PASS secret\r\n", 2)
        self.heard.say("S", b"+OK 1 mess", faults=("cut",))
        self.heard.say("*", b"", text="closed", faults=("cut",))
        self.heard.records.end(self.record, "closed by fault cut")
        self.assertEqual(show(self.record), """\
# session 1, pop3, from 127.0.0.1:40112, user mrose
   0.000 S: +OK ready <1.2@mail.example.org>
   0.250 C: USER mrose
   0.251 S: +OK
   2.251 * 2.000 seconds have passed
   2.251 C: PASS ********
   2.251 * by fault cut
   2.251 S: +OK 1 mess\\c
   2.251 S: (closed)
   2.251 * the end: closed by fault cut
""")
        self.assertIn("C: PASS secret\n", show(self.record, secrets=True))

    def test_tls_is_told(self) -> None:
        """TLS, with what it came to, and that the connection stands."""
        self.heard.say("C", b"STLS\r\n")
        self.heard.say("*", b"", text="TLS begins")
        self.heard.say("*", b"", text="inside TLS: TLSv1.3 X")
        text = show(self.record)
        self.assertTrue(text.endswith(
            "TLS: begin\n   0.000 * inside TLS: TLSv1.3 X\n         * the connection stands\n"), text)

    def test_what_is_no_text(self) -> None:
        """UTF-8 is shown; what an editor could not hold, or a script would take for more, is escaped."""
        self.heard.say("S", "+OK grüß\u200bdich \x1b[31m\x00 ".encode()
                       + b"\xff\\ \r\n(closed)\r\n(a b)\n")
        self.heard.say("C", b"X (y) * \t\r\n")
        self.assertEqual(show(self.record).splitlines()[1:5], [
            "   0.000 S: +OK grüß\\xe2\\x80\\x8bdich \\x1b[31m\\0 \\xff\\\\\\x20", "   0.000 S: \\(closed)",
            "   0.000 S: \\(a b)\\n\\c", "   0.000 C: X \\(y) \\* \\t"])

    def test_a_long_body_is_shortened(self) -> None:
        """The middle of what one side says at a stretch is left out, and so is that of a long line."""
        self.heard.say("S", b"+OK\r\n" + b"line\r\n" * 200 + b".\r\n")
        self.heard.say("C", b"X " + b"y" * 1000 + b"\r\n")
        text = show(self.record, width=80, run_lines=20)
        self.assertIn("* 183 lines left out\n", text)
        self.assertEqual(text.count("S: line"), 17)
        self.assertIn("* 929 octets of this line left out", text)
        self.assertTrue(all(len(line) < 100 for line in text.splitlines()))
        whole = show(self.record, width=None, run_lines=None)
        self.assertEqual((whole.count("S: line"), whole.count("y" * 1000)), (200, 1))

    def test_a_long_session_is_shortened(self) -> None:
        """A thousand rows are enough for any report."""
        for _ in range(1000):
            self.heard.say("C", b"NOOP\r\n", 0.01)
            self.heard.say("S", b"+OK\r\n", 0.01)
        self.assertLess(len(show(self.record).splitlines()), 1010)
        self.assertIn("lines left out", show(self.record))
        self.assertEqual(len(show(self.record, rows=None).splitlines()), 2002)

    def test_segments(self) -> None:
        """Where a line of the server's came in several segments, the border is shown."""
        self.heard.say("S", b"+O", faults=("split",))
        self.heard.say("S", b"K\r\n", faults=("split",))
        self.assertIn("S: +O\\|K\n", show(self.record))

    def test_nobody_came(self) -> None:
        """No session is told too: a test often fails because the client never connected."""
        self.assertEqual(show_all([]), "# no client has connected\n")
        self.assertEqual(show_all([self.record, self.record]).count("# session 1"), 2)

    @settings(deadline=None, max_examples=80)
    @given(st.lists(st.tuples(st.sampled_from("CS"), st.one_of(
        st.binary(max_size=30),
        st.sampled_from([b"(closed)", b"(name)", b"a\\|b", b"*", b"\\c", b" ", b""]))), max_size=8))
    def test_pasted_as_a_script(self, said: list[tuple[str, bytes]]) -> None:
        """A transcript is a script: its server says the same octets to who says the same lines."""
        heard = Recording()
        for who, octets in said:
            octets = octets.replace(b"\n", b"").replace(b"\r", b"")
            heard.say(who, octets + b"\r\n")
        player = Player(read_script(show(heard.record, secrets=True)), 1)
        player.feed(heard.record.said("C"))
        effects = player.next()
        self.assertEqual(b"".join(one.octets for one in effects if isinstance(one, Octets)),
                         heard.record.said("S"))
        self.assertTrue(player.finished, effects)


class RecordTests(SynchronousTestCase):
    def test_what_is_counted(self) -> None:
        """All octets are counted, and those that are not kept are told."""
        heard = Recording(kept_octets=10)
        heard.say("C", b"NOOP\r\n")
        heard.say("S", b"+OK done\r\n")
        record = heard.record
        self.assertEqual((record.octets_heard, record.octets_said, record.octets_left_out), (6, 10, 6))
        self.assertIn("6 octets more were said than are kept", show(record))

    def test_a_copy_stands_still(self) -> None:
        """What another thread copied does not change while the session goes on."""
        heard = Recording()
        heard.say("C", b"NOOP\r\n")
        copy = heard.record.copy()
        heard.say("C", b"QUIT\r\n")
        heard.records.end(heard.record, "QUIT")
        self.assertEqual((copy.said("C"), copy.open, heard.record.open), (b"NOOP\r\n", True, False))

    def test_json(self) -> None:
        """A record as JSON has it all, what is secret masked."""
        with MemoryServer() as server:
            server.account("mrose", "sesame")
            peer = server._harness.connect("pop3")
            peer.say(b"USER mrose\r\nPASS sesame\r\nSTAT\r\nQUIT\r\n")
            record = server._harness.records
            told = json.loads(json.dumps(next(iter(record)).as_dict()))
        self.assertEqual((told["number"], told["protocol"], told["user"], told["open"], told["end"]),
                         (1, "pop3", "mrose", False, "QUIT"))
        self.assertEqual([(one["verb"], one["argument"], one["succeeded"]) for one in told["commands"]],
                         [("USER", "mrose", True), ("PASS", "********", True), ("STAT", "", True),
                          ("QUIT", "", True)])
        self.assertEqual(told["logins"], [{"name": "mrose", "mechanism": "USER", "succeeded": True}])
        said = b"".join(base64.b64decode(one["octets"]) for one in told["events"] if one["who"] == "C")
        self.assertEqual(said, b"USER mrose\r\nPASS ********\r\nSTAT\r\nQUIT\r\n")
        self.assertNotIn("events", next(iter(record)).as_dict(events=False))


def _b64(octets: bytes) -> bytes:
    return base64.b64encode(octets)


# Every way that a password goes to a server, well and badly. `{p}` is the password, `{plain}` PLAIN's
# response, `{b}` the password in base64, `{x}` a token's.
PATHS = [
    "USER mrose|PASS {p}", "PASS {p}", "pass {p}", "pAsS  {p}", "USER mrose|PASS\t{p}", " PASS {p}",
    "\0PASS {p}", "PASS{p}", "USER mrose|NOOP|PASS {p}", "USER mrose\rPASS {p}", "PASS a\nb{p}",
    "STLS|PASS {p}",
    "AUTH PLAIN {plain}", "AUTH PLAIN|{plain}", "auth plain|{plain}", "AUTH  PLAIN  {plain}",
    "AUTH\tPLAIN\t{plain}", "AUTH PLAIN {p}", "AUTH PLAIN|{p}", "AUTH PLAIN|*|{plain}",
    "AUTH LOGIN|{u}|{b}", "AUTH LOGIN {u}|{b}", "AUTH LOGIN|{u}|{p}", "AUTH NONE|{b}", "AUTH {b}", "AUTH|{b}",
    "AUTH XOAUTH2 {x}", "AUTH XOAUTH2|{x}", "AUTH OAUTHBEARER {x}", "AUTH CRAM-MD5|{b}", "APOP mrose {p}",
    "APOP  mrose  {p}", "AUTH SCRAM-SHA-256 {b}|{b}", "LOGIN mrose {p}", "a1 LOGIN mrose {p}",
    "XYZ|AUTH LOGIN|{u}|{b}",
    "PASS {p}{long}", "{blank}AUTH PLAIN {plain}", "AUTH PLAIN {plain}|NOOP|PASS {p}", "AUTHPLAIN {plain}",
    "PASS {p}|USER {p}", "USER {p}|PASS {p}", "RPOP {p}",
]
PASSWORDS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1, max_size=12).map(
    lambda text: f"Zq{text}7k".encode())


SPLIT: dict[str, Any] = {"do": "split", "sizes": [3]}
FAULTS: list[list[dict[str, Any]]] = [
    [], [{"do": "echo"}], [{"do": "echo"}, SPLIT], [{"do": "endless_challenges"}],
    [{"do": "challenge", "how": "empty"}], [{"do": "initial_response", "how": "ignored"}],
    [{"do": "continued", "mark": " "}], [{"do": "swallow"}]]
# as a name it can be known only when it is a password too
NAMED = ("PASS {p}|USER {p}", "USER {p}|PASS {p}")


def lines_of_path(path: str, password: bytes) -> list[bytes]:
    """Return what the client says, line by line."""
    token = _b64(b"user=mrose\x01auth=Bearer " + password + b"\x01\x01")
    values = {"{plain}": _b64(b"\0mrose\0" + password), "{b}": _b64(password), "{x}": token,
              "{u}": _b64(b"mrose"), "{long}": b"x" * 1200, "{blank}": b" ", "{p}": password}
    lines = []
    for part in path.split("|"):
        octets = part.encode()
        for name, value in values.items():
            octets = octets.replace(name.encode(), value)
        lines.append(octets + b"\r\n")
    return lines


class SecretTests(SynchronousTestCase):
    """What no transcript shows unless it is asked for."""

    def setUp(self) -> None:
        self.server = MemoryServer()
        self.addCleanup(self.server.stop)
        self.server.account("mrose", "secret")
        self.seen: list[tuple[SessionRecord, Event | None]] = []
        self.server._harness.records.watchers.append(lambda *what: self.seen.append(what))

    def views(self, record: SessionRecord) -> dict[str, bytes]:
        """Return everything that shows a record to whoever asks for no secrets."""
        told = record.as_dict()
        live = [event for one, event in self.seen if one is record and event is not None]
        return {
            "text": show(record, width=None, run_lines=None, rows=None).encode("utf-8", "surrogateescape"),
            "JSON": json.dumps(told, ensure_ascii=False).encode("utf-8", "surrogateescape"),
            "octets in JSON": b"".join(base64.b64decode(one["octets"]) for one in told["events"]),
            "watchers": b"".join(event.shown() for event in live),
            "reprs": f"{record!r} {record.events!r} {record.commands!r}".encode("utf-8", "surrogateescape"),
        }

    def assert_hidden(self, record: SessionRecord, *secrets: bytes, but: tuple[str, ...] = ()) -> None:
        for name, view in self.views(record).items():
            if name in but:
                continue
            for secret in secrets:
                for form in (secret, escape_shown(secret).encode(), repr(secret)[2:-1].encode(),
                             json.dumps(escape_shown(secret))[1:-1].encode()):
                    self.assertNotIn(form, view, f"{name} shows {secret!r}")

    @settings(deadline=None, max_examples=150)
    @given(st.sampled_from(PATHS), PASSWORDS, st.sampled_from([1, 3, 1000]),
           st.sampled_from(["", "all", "cut"]), st.sampled_from(FAULTS))
    def test_no_path_shows_a_password(self, path: str, password: bytes, piece: int, how: str,
                                      faults: list[dict[str, Any]]) -> None:
        """However a password is sent, in whatever pieces, pipelined or cut off, it is shown nowhere."""
        harness = self.server._harness
        self.server.clear_faults()
        for fault in faults:
            self.server.fault(**fault)
        peer = harness.connect("pop3")
        lines = lines_of_path(path, password)
        if how == "all":
            lines = [b"".join(lines)]
        for line in lines[:-1]:
            peer.say(line, piece)
        peer.say(lines[-1][:-2] if how == "cut" else lines[-1], piece)
        peer.advance(3)
        peer.vanish()
        record = list(harness.records)[-1]
        self.assertTrue(record.events)
        if path in NAMED and how == "cut":
            return                      # nobody could know
        self.assert_hidden(record, password, _b64(password), _b64(b"\0mrose\0" + password),
                           but=("watchers", "reprs") if path in NAMED or SPLIT in faults else ())

    @settings(deadline=None, max_examples=80)
    @given(st.sampled_from(PATHS), PASSWORDS, st.integers(1, 9), st.booleans())
    def test_nor_does_a_stream_that_nobody_cut_into_lines(self, path: str, password: bytes, piece: int,
                                                          asked: bool) -> None:
        """The same where octets are noted as they come, without a session that knows what they mean."""
        records = self.server._harness.records
        record = records.begin("script")
        for line in lines_of_path(path, password):
            for at in range(0, len(line), piece):
                records.note(record, "C", line[at:at + piece])
            records.note(record, "S", b"+ " if asked else b"-ERR")
            records.note(record, "S", b" go on\r\n")
        but = ("watchers", "reprs") if path in NAMED else ()
        self.assert_hidden(record, password, _b64(password), _b64(b"\0mrose\0" + password), but=but)

    def test_an_echo(self) -> None:
        """A server that repeats a password, in one piece or several, does not give it away."""
        heard = Recording()
        heard.say("C", b"USER mrose\r\nPASS open sesame\r\n")
        heard.say("S", b"-ERR open sesame is wrong, b3BlbiBzZXNhbWU= too\r\n")
        heard.say("S", b"-ERR open ses")
        heard.say("S", b"ame again\r\n", text="open sesame")
        heard.say("*", b"", text="fault open sesame")
        heard.records.end(heard.record, "closed: open sesame")
        self.assert_hidden(heard.record, b"open sesame", b"b3BlbiBzZXNhbWU=", but=("reprs",))
        self.assertIn("S: -ERR ******** is wrong, ******** too\n", show(heard.record))
        self.assertIn("open sesame is wrong", show(heard.record, secrets=True))

    def test_inside_an_exchange_a_verb_is_a_response(self) -> None:
        """While the server waits for a response all is one, whatever it looks like; afterwards not."""
        discretion = Discretion()
        self.assertEqual(discretion.heard(b"AUTH LOGIN\r\n"), ())
        discretion.said(b"+ VXNlcm5hbWU6\r\n")
        self.assertEqual(discretion.heard(b"QUIT\r\n"), ((0, 4),))
        discretion.said(b"+OK\r\n")
        self.assertEqual(discretion.heard(b"STAT\r\nUSER mrose\r\n"), ())

    def test_what_is_no_secret_is_shown(self) -> None:
        """Commands are readable: names, numbers, unknown verbs, a cancelled exchange."""
        discretion = Discretion()
        for line in (b"USER mrose", b"XTND XMIT", b"RETR 1", b"AUTH", b"*", b"AUTH PLAIN", b"APOP mrose",
                     b"PASSIVE"):
            spans = discretion.heard(line + b"\r\n")
            discretion.said(b"-ERR no\r\n")
            self.assertEqual(spans, ((4, 7),) if line == b"PASSIVE" else (), line)

    def test_a_secret_that_is_not_kept_whole(self) -> None:
        """Where the record is full in the middle of a secret, what is kept of it is masked."""
        heard = Recording(kept_octets=10)
        heard.say("C", b"PASS sesame open\r\n")
        self.assertEqual(heard.record.events[0].shown(), b"PASS " + MASK)

    def test_sent_before_tls(self) -> None:
        """A password that a client sends behind STLS, in clear, is told of, and masked."""
        peer = self.server._harness.connect("pop3")
        peer.say(b"STLS\r\nUSER mrose\r\nPASS Zqsesame7k\r\n")
        record = list(self.server._harness.records)[-1]
        self.assertIn(b"PASS Zqsesame7k", record.said("C"))
        self.assert_hidden(record, b"Zqsesame7k")
