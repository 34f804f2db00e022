"""Recordings: real clients at real servers, and the same clients at what was recorded of them."""

from __future__ import annotations

import atexit
import poplib
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.endpoints import HostnameEndpoint, TCP4ServerEndpoint
from twisted.trial.unittest import SynchronousTestCase

from mailgate.auth.servertls import NamedServer, read_authorities
from mailgate.testing.harness.records import Records, SessionRecord
from mailgate.testing.harness.thread import ReactorThread
from mailgate.testing.memory import MemoryServer
from mailgate.testing.recording import AT_ONCE, BY_STLS, NONE, RelayFactory, Way, shown_tls
from mailgate.testing.scripted.writing import script_of
from mailgate.testing.server import Server
from tests.interop.programs import curl, fetchmail, mda_into
from tests.peers.dovecot_service import PASSWORD, DovecotService
from tests.ports import held_port
from tests.services import wait_for

USER = "mrose"
MAIL = (b"From: a@example.org\nSubject: one\n\nhello\n.dot\n..\n",
        b"From: b@example.org\nSubject: two\nMessage-ID: <2@example.org>\n\n" + b"x" * 70 + b"\n" * 3)

_DOVECOT: list[DovecotService] = []


def dovecot() -> DovecotService:
    """Return the one of this run, started when it is first asked for."""
    if not _DOVECOT:
        service = DovecotService()
        atexit.register(service.end)
        _DOVECOT.append(service)
    return _DOVECOT[0]


class Recorder:
    """A relay on the harness's reactor, in front of a server at `port` of localhost."""

    def __init__(self, folder: Path, port: int, ca: bytes, *, tls: str = NONE, at_once: bool = False,
                 name: str = "localhost") -> None:
        self.folder = folder
        folder.mkdir()
        self.thread = ReactorThread.shared()
        reactor = self.thread.reactor
        self.records: list[SessionRecord] = []
        self.problems: list[str] = []
        way = Way(HostnameEndpoint(reactor, b"localhost", port), NamedServer(name, read_authorities(ca)),
                  shown_tls(folder), tls, at_once)
        self.factory = RelayFactory(way, reactor, Records(reactor.seconds), self.records.append,
                                    self.problems.append)
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        self._port = self.thread.call(endpoint.listen, self.factory)
        self.port: int = self._port.getHost().port
        self.ca_file = str(folder / "ca.pem")

    def stop(self) -> None:
        """Be no longer there."""
        self.thread.call(self._port.stopListening)
        self.thread.call(self.factory.cut_all)


Client = Callable[[int, str, Path], Any]        # port, authority's file, a folder of its own


def by_poplib(port: int, ca: str, folder: Path) -> Any:
    """Fetch all, and delete the first; return what came."""
    return _with_poplib(poplib.POP3("localhost", port, timeout=60))


def by_poplib_stls(port: int, ca: str, folder: Path) -> Any:
    """The same inside TLS that STLS began."""
    client = poplib.POP3("localhost", port, timeout=60)
    client.stls(ssl.create_default_context(cafile=ca))
    return _with_poplib(client)


def by_poplib_in_tls(port: int, ca: str, folder: Path) -> Any:
    """The same inside TLS."""
    context = ssl.create_default_context(cafile=ca)
    return _with_poplib(poplib.POP3_SSL("localhost", port, timeout=20, context=context))


def _with_poplib(client: poplib.POP3) -> Any:
    said = [client.getwelcome(), client.user(USER), client.pass_(PASSWORD), client.stat(), client.list(),
            client.uidl(), client.retr(1), client.top(2, 1), client.retr(2), client.dele(1), client.quit()]
    return said


def by_curl(port: int, ca: str, folder: Path) -> Any:
    """Fetch one, by AUTH PLAIN or whatever curl takes, inside TLS."""
    folder.mkdir()
    ran = curl(port, "2", "--ssl-reqd", "--cacert", ca, user=USER, password=PASSWORD, folder=folder)
    assert ran.code == 0, ran.everything
    return ran.out


def by_curl_plain_in_tls(port: int, ca: str, folder: Path) -> Any:
    """Fetch one by AUTH PLAIN, inside TLS."""
    folder.mkdir()
    ran = curl(port, "2", "--ssl-reqd", "--cacert", ca, "--login-options", "AUTH=PLAIN", user=USER,
               password=PASSWORD, folder=folder)
    assert ran.code == 0, ran.everything
    return ran.out


def by_curl_login(port: int, ca: str, folder: Path) -> Any:
    """List, in clear."""
    folder.mkdir()
    ran = curl(port, "", "--login-options", "AUTH=PLAIN", user=USER, password=PASSWORD, folder=folder)
    assert ran.code == 0, ran.everything
    return ran.out


def by_fetchmail(port: int, ca: str, folder: Path) -> Any:
    """Fetch and delete all; return the messages as they arrived."""
    folder.mkdir()
    ran = fetchmail(port, folder, f'user "{USER}" password "{PASSWORD}" no sslcertck sslproto ""\n'
                    f"fetchall {mda_into(folder / 'mail')}")
    assert ran.code == 0, ran.everything
    return sorted(one.read_bytes().partition(b"\nFrom: ")[2] for one in (folder / "mail").iterdir())


class RecordingCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        self.harness = Server().start()
        self.addCleanup(self.harness.stop)

    def record(self, port: int, ca: str, client: Client, **more: Any) -> tuple[Any, SessionRecord]:
        """Have a client speak to a server through a relay; return what it got, and what was recorded."""
        recorder = Recorder(self.folder / "relay", port, Path(ca).read_bytes(), **more)
        try:
            got = client(recorder.port, recorder.ca_file, self.folder / "recorded")
            wait_for(lambda: bool(recorder.records), "the session to be recorded")
        finally:
            recorder.stop()
        self.assertEqual(recorder.problems, [])
        return got, recorder.records[0]

    def assert_played_back(self, port: int, ca: str, client: Client, **more: Any) -> str:
        """See that a client gets from the recording what it got from the server; return the script."""
        got, record = self.record(port, ca, client, **more)
        text = script_of(record)
        self.assertNotIn(PASSWORD, text)
        script = self.harness.script(text)
        again = client(script.port, self.harness.ca_file, self.folder / "played")
        self.assertEqual(again, got)
        script.check(1)
        played = script.sessions[0]
        self.assertEqual(played.said("S"), record.said("S"))
        self.assertEqual(played.said("C"), record.said("C"))
        return text


class HarnessTests(RecordingCase):
    """What is recorded is a harness of our own."""

    def setUp(self) -> None:
        super().setUp()
        self.harness.account(USER, PASSWORD).add_all(MAIL)
        self.authority = Path(self.harness.ca_file).read_bytes()

    def play_back(self, client: Client, protocol: str = "pop3", **more: Any) -> str:
        port = self.harness.address(protocol)[1]
        return self.assert_played_back(port, self.harness.ca_file, client, **more)

    def test_poplib(self) -> None:
        """In clear."""
        text = self.play_back(by_poplib)
        self.assertIn("C: PASS ********\nS: +OK maildrop has 2 messages", text)
        self.assertIn("S: ..dot\nS: ...\nS: .\n", text)

    def test_poplib_stls(self) -> None:
        """With STLS: TLS begins on both sides, and what is inside is recorded."""
        text = self.play_back(by_poplib_stls)
        self.assertIn("C: STLS\nS: +OK begin TLS\nTLS: begin\nC: USER mrose\n", text)

    def test_poplib_in_tls(self) -> None:
        """TLS from the first octet, which the script says too."""
        text = self.play_back(by_poplib_in_tls, "pop3s", tls=AT_ONCE, at_once=True)
        self.assertTrue(text.startswith("TLS: begin\nS: +OK"), text)

    def test_tls_for_a_client_without(self) -> None:
        """The relay does TLS for a client that cannot."""
        text = self.play_back(by_poplib, "pop3s", tls=AT_ONCE)
        self.assertNotIn("TLS", text)

    def test_stls_for_a_client_without(self) -> None:
        """The relay does STLS; the client is not offered any."""
        _, record = self.record(self.harness.pop3[1], self.harness.ca_file, by_poplib, tls=BY_STLS)
        self.assertNotIn("STLS", script_of(record))
        self.assertTrue(self.harness.sessions[0].tls)

    def test_curl(self) -> None:
        """curl, which logs in by SASL inside TLS."""
        self.assertIn("C: AUTH PLAIN", self.play_back(by_curl_plain_in_tls))

    def test_curl_in_clear(self) -> None:
        """curl, by AUTH PLAIN: its response is a secret."""
        text = self.play_back(by_curl_login)
        self.assertRegex(text, r"C: AUTH PLAIN( |\nS: \+\\x20\nC: )\*{8}\n")

    def test_fetchmail(self) -> None:
        """fetchmail, all the way to its delivery."""
        self.play_back(by_fetchmail)

    def test_a_wrong_certificate(self) -> None:
        """A server that cannot prove who it is is not recorded, and the client is sent away."""
        recorder = Recorder(self.folder / "relay", self.harness.pop3s[1], self.authority, tls=AT_ONCE,
                            name="mail.example.com")
        self.addCleanup(recorder.stop)
        with self.assertRaises(poplib.error_proto):
            poplib.POP3("localhost", recorder.port, timeout=60)
        wait_for(lambda: bool(recorder.problems), "the problem to be told")
        self.assertIn("TLS: ", recorder.problems[0])

    def test_nobody_there(self) -> None:
        """A server that cannot be reached is told of, to the client too."""
        recorder = Recorder(self.folder / "relay", held_port(self), self.authority)
        self.addCleanup(recorder.stop)
        with self.assertRaisesRegex(poplib.error_proto, "cannot be reached"):
            poplib.POP3("localhost", recorder.port, timeout=60)
        wait_for(lambda: bool(recorder.problems), "the problem to be told")
        self.assertIn("cannot be reached", recorder.problems[0])

    def test_a_reset(self) -> None:
        """A connection that the server tears is torn for the client, and in the script."""
        self.harness.fault("reset", command="STAT")

        def client(port: int, ca: str, folder: Path) -> Any:
            one = poplib.POP3("localhost", port, timeout=60)
            one.user(USER)
            one.pass_(PASSWORD)
            with self.assertRaises((ConnectionResetError, poplib.error_proto)) as caught:
                one.stat()
            return type(caught.exception)

        self.assertTrue(self.play_back(client).endswith("C: STAT\nS: (reset)\n"))


class DovecotTests(RecordingCase):
    """What is recorded is Dovecot."""

    def setUp(self) -> None:
        super().setUp()
        for index, message in enumerate(MAIL):
            dovecot().deliver(USER, f"cur/{1700000000 + index}.M{index}P1.host:2,", message)

    def play_back(self, client: Client, **more: Any) -> str:
        port = dovecot().secure_port if more.get("tls") == AT_ONCE else dovecot().port
        return self.assert_played_back(port, dovecot().ca, client, **more)

    def test_poplib_stls(self) -> None:
        """poplib, with STLS."""
        self.assertIn("TLS: begin\nC: USER mrose\n", self.play_back(by_poplib_stls))

    def test_poplib_in_tls(self) -> None:
        """poplib, inside TLS."""
        self.play_back(by_poplib_in_tls, tls=AT_ONCE, at_once=True)

    def test_curl(self) -> None:
        """curl, with STLS."""
        self.play_back(by_curl)

    def test_fetchmail(self) -> None:
        """fetchmail, to its delivery."""
        self.play_back(by_fetchmail)


class WritingTests(SynchronousTestCase):
    """From a record to a script, without a server."""

    def setUp(self) -> None:
        self.now = 0.0
        self.records = Records(lambda: self.now)
        self.record = self.records.begin("pop3")

    def say(self, who: str, octets: bytes, after: float = 0.0, **more: Any) -> None:
        self.now += after
        self.records.note(self.record, who, octets, **more)

    def test_pipelined(self) -> None:
        """Each reply stands behind its command, however both came; replies in pieces too."""
        self.say("S", b"+OK\r\n")
        self.say("C", b"USER a\r\nPASS sesame\r\nLI")
        self.say("S", b"+OK\r\n+O")
        self.say("C", b"ST\r\nSTAT\r\n")
        self.say("S", b"K\r\n+OK\r\n1 2\r\n.\r\n+OK 1 2\r\n")
        self.records.end(self.record, "closed by the server")
        self.assertEqual(script_of(self.record).splitlines(), [
            "S: +OK", "C: USER a", "S: +OK", "C: PASS ********", "S: +OK", "C: LIST", "S: +OK", "S: 1 2",
            "S: .", "C: STAT", "S: +OK 1 2"])

    def test_what_varies(self) -> None:
        """Whatever proves who somebody is stands as a pattern; what a server repeats of it, as stars."""
        self.say("S", b"+OK <1@x>\r\n")
        for line in (b"APOP mrose 0123456789abcdef0123456789abcdef", b"AUTH PLAIN AGEAc2VzYW1l", b"USER a"):
            self.say("C", line + b"\r\n")
            self.say("S", b"-ERR\r\n")
        self.say("C", b"AUTH CRAM-MD5\r\n")
        self.say("S", b"+ PDFAeD4=\r\n")
        self.say("C", b"YSAwMTIzNDU2Nzg5YWJjZGVm\r\n")
        self.say("S", b"-ERR sesame (a)\r\n")
        text = script_of(self.record)
        for line in ("C: APOP mrose ********", "C: AUTH PLAIN ********", "S: + PDFAeD4=\nC: ********",
                     "S: -ERR ****** \\(a)"):
            self.assertIn(f"{line}\n", text)
        self.assertNotIn("sesame", text)

    def test_content(self) -> None:
        """Messages whole, their headers and how long they are, or only how long."""
        self.say("S", b"+OK\r\n")
        self.say("C", b"RETR 1\r\n")
        self.say("S", b"+OK 24 octets\r\nSubject: x\r\n\r\n..dot\r\nabc\r\n.\r\n")
        self.say("C", b"TOP 1 0\r\n")
        self.say("S", b"+OK\r\nSubject: x\r\n\r\n.\r\n")
        self.assertIn("S: ..dot\nS: abc\nS: .\n", script_of(self.record))
        self.assertIn("S: Subject: x\nS:\nBODY: filler 11\nC: TOP 1 0\nS: +OK\nS: Subject: x\nS:\n"
                      "BODY: filler 0\n", script_of(self.record, content="headers"))
        self.assertIn("S: +OK 24 octets\nBODY: filler 25\n", script_of(self.record, content="sizes"))
        with self.assertRaisesRegex(ValueError, "'half' is none of"):
            script_of(self.record, content="half")

    def test_pauses_and_ends(self) -> None:
        """A silence that counts, a client that hung up, what cannot be played."""
        self.say("S", b"+OK\r\n")
        self.say("C", b"AUTH SCRAM-SHA-256 biws\r\n")
        self.say("S", b"-ERR no\r\n", 2.5)
        self.records.end(self.record, "the client hung up")
        text = script_of(self.record, pauses=1)
        self.assertIn("T: 2.500\nS: -ERR no\nC: (closed)\n", text)
        self.assertIn("# SCRAM-SHA-256: the server answers what the client makes up", text)
        self.assertNotIn("T:", script_of(self.record))
        self.assertEqual(script_of([self.record, self.record]).count("SESSION: "), 2)

    @settings(deadline=None, max_examples=30)
    @given(st.lists(st.sampled_from([
        b"USER mrose", b"PASS sesame", b"STAT", b"LIST", b"LIST 1", b"UIDL", b"RETR 1", b"TOP 1 1", b"DELE 1",
        b"CAPA", b"AUTH", b"AUTH PLAIN", b"*", b"NOOP", b"XYZ", b"RSET", b"QUIT"]), max_size=12),
        st.integers(1, 40))
    def test_any_session_can_be_played(self, lines: list[bytes], piece: int) -> None:
        """What our own service said in any session, its recording says again, and it is all of it."""
        with MemoryServer() as server:
            server.account("mrose", "sesame").add("Subject: x\n\n.y\n")
            peer = server._harness.connect("pop3")
            said = b"".join(line + b"\r\n" for line in [b"USER mrose", b"PASS sesame", *lines])
            peer.say(said, piece)
            peer.vanish()
            record = list(server._harness.records)[-1]
            script = server.script(script_of(record))
            again = server._harness.connect(script.name)
            again.say(said, 7)
            again.vanish()
            self.assertEqual(bytes(again.received), record.said("S"))
            if not peer.closed or b"QUIT" not in lines:
                script.check(1)
