"""Connections to servers that are not as they should be: silent, slow, out of turn, out of their minds."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ldap
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.auth.ldapserver import Directory, Entry, Search
from mailgate.auth.ldapwire import Broken, Channel, Times, Trust, connect
from mailgate.directories import Server
from mailgate.errors import LoginRefused, StoreUnavailable
from mailgate.testing.certificates import Authority

TLS_GRANTED = bytes.fromhex("300c020101780 70a010004000400".replace(" ", ""))     # message 1
TLS_REFUSED = bytes.fromhex("300c02010178070a010204000400")       # protocolError
BOUND = bytes.fromhex("300c02010161070a010004000400")           # message 1: success
ENTRY = bytes.fromhex("301a0201016415040463 6e3d61300d300b040375696431040402 6161".replace(" ", ""))
SEARCHED = bytes.fromhex("300c02010165070a010004000400")


class Stage(SynchronousTestCase):
    """A server in a thread, whose part a test plays on the socket."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        authority = Authority()
        authority.issue("127.0.0.1").write(self.folder)
        (self.folder / "ca.pem").write_bytes(authority.pem)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.folder / "cert.pem", self.folder / "key.pem")
        self.trust = Trust(str(self.folder / "ca.pem"))

    @contextlib.contextmanager
    def server(self, part: Callable[[socket.socket], None], scheme: str = "ldap") -> Iterator[Server]:
        listener = socket.create_server(("127.0.0.1", 0))

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer = listener.accept()[0]
                    with contextlib.suppress(OSError), peer:
                        peer.settimeout(60)
                        part(peer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield Server(scheme, "127.0.0.1", listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            thread.join(60)
            self.assertFalse(thread.is_alive())

    def broken(self, part: Callable[[socket.socket], None], trust: Trust | None, scheme: str = "ldap",
               seconds: float = 0.3) -> str:
        """Connect and bind, which must fail in time; return the words."""
        with self.server(part, scheme) as server:
            begun = time.monotonic()
            until = begun + 60
            with self.assertRaises(Broken) as caught:
                channel = connect(server, trust, Times(seconds, seconds), until)
                try:
                    channel.answer(channel.ldap.simple_bind("cn=a", b"b"), time.monotonic() + seconds)
                finally:
                    channel.close()
            self.assertLess(time.monotonic() - begun, 20)
            return str(caught.exception)


def silent(peer: socket.socket) -> None:
    while peer.recv(1000):
        pass


def ask_for(server: Server) -> list[Entry]:
    directory = Directory((server,), times=Times(60, 60))
    try:
        return directory.search(Search("dc=x", "subtree", "uid"), "(uid=a)", time.monotonic() + 60)
    finally:
        directory.close()


class SilenceTests(Stage):
    def test_silent(self) -> None:
        """At each step: StartTLS, the handshake, the answer."""
        def granting(peer: socket.socket) -> None:
            peer.recv(1000)
            peer.sendall(TLS_GRANTED)
            silent(peer)

        for part, trust, scheme in ((silent, None, "ldap"), (silent, self.trust, "ldap"),
                                    (silent, self.trust, "ldaps"), (granting, self.trust, "ldap")):
            self.assertIn("no answer in time", self.broken(part, trust, scheme))

    def test_dripping(self) -> None:
        """One octet now and then is no answer either."""
        def drip(peer: socket.socket) -> None:
            for octet in TLS_GRANTED * 100:
                peer.sendall(bytes([octet & 0x30 | 0x30]))
                time.sleep(0.02)

        for scheme in ("ldap", "ldaps"):
            self.broken(drip, self.trust, scheme)

    def test_gone(self) -> None:
        """Closed at once, or in the middle of an answer."""
        for part in (lambda peer: None, lambda peer: peer.sendall(BOUND[:5])):
            for trust, scheme in ((None, "ldap"), (self.trust, "ldap"), (self.trust, "ldaps")):
                self.broken(part, trust, scheme)

    def test_threads_are_let_go(self) -> None:
        """A thread that waits ends when its connection is cut."""
        asked = threading.Event()

        def hearing(peer: socket.socket) -> None:
            peer.recv(1000)
            asked.set()
            silent(peer)

        def cut() -> None:
            asked.wait(60)
            time.sleep(0.1)     # so that it waits; but it ends as well if it does not yet
            channel.cut()

        with self.server(hearing) as server:
            channel = connect(server, None, Times(), time.monotonic() + 60)
            cutting = threading.Thread(target=cut)
            cutting.start()
            with self.assertRaises(Broken) as caught:
                channel.answer(channel.ldap.simple_bind("cn=a", b"b"), time.monotonic() + 60)
            self.assertIn("closed", str(caught.exception))
            cutting.join()
            channel.close()


class TurnTests(Stage):
    def test_refused(self) -> None:
        """A server without TLS is not talked to in clear."""
        heard = bytearray()

        def refuse(peer: socket.socket) -> None:
            heard.extend(peer.recv(1000))
            peer.sendall(TLS_REFUSED)
            while octets := peer.recv(1000):
                heard.extend(octets)

        self.assertIn("StartTLS is refused: protocol error", self.broken(refuse, self.trust, seconds=15))
        self.assertIn(b"1.3.6.1.4.1.1466.20037", heard)
        self.assertEqual(len(heard), 31)        # that request, and nothing behind it

    def test_said_in_clear(self) -> None:
        """What was said before TLS, behind the answer to StartTLS, is no answer within TLS."""
        def inject(peer: socket.socket) -> None:
            peer.recv(1000)
            peer.sendall(TLS_GRANTED + BOUND + BOUND.replace(b"\x02\x01\x01", b"\x02\x01\x02"))
            with self.context.wrap_socket(peer, server_side=True) as inside:
                silent(inside)

        self.assertIn("no answer in time", self.broken(inject, self.trust))

    def test_in_pieces(self) -> None:
        """An answer cut at each octet, or three messages at once."""
        def pieces(peer: socket.socket) -> None:
            peer.recv(1000)
            peer.sendall(BOUND)
            peer.recv(1000)
            for octet in ENTRY:
                peer.sendall(bytes([octet]))
                time.sleep(0.001)
            peer.sendall(SEARCHED)
            silent(peer)

        def at_once(peer: socket.socket) -> None:
            peer.recv(1000)
            peer.sendall(ENTRY * 3 + SEARCHED)
            silent(peer)

        with self.server(at_once) as server:
            found = ask_for(server)
            self.assertEqual([(one.dn, one.values) for one in found], [("cn=a", (b"aa",))] * 3)
        with self.server(pieces) as server:
            channel = connect(server, None, Times(), time.monotonic() + 60)
            channel.answer(channel.ldap.simple_bind("cn=a", b"b"), time.monotonic() + 60)
            channel.close()

    def test_large(self) -> None:
        """An entry of a megabyte comes through, and a password as long as they may be goes out."""
        value = b"x" * (1 << 20)

        def sequence(tag: int, content: bytes) -> bytes:
            return bytes([tag, 0x84]) + len(content).to_bytes(4, "big") + content

        attribute = sequence(0x30, b"\x04\x03uid" + sequence(0x31, sequence(0x04, value)))
        entry = sequence(0x30, b"\x02\x01\x01" + sequence(0x64, b"\x04\x04cn=a" + sequence(0x30, attribute)))
        heard: list[int] = []

        def large(peer: socket.socket) -> None:
            peer.recv(1000)
            peer.sendall(entry + SEARCHED)
            silent(peer)

        def count(peer: socket.socket) -> None:
            heard.append(0)
            while heard[-1] < 4096 and (octets := peer.recv(1000)):
                heard[-1] += octets.count(b"p")
            peer.sendall(BOUND)

        with self.server(large) as server:
            found, = ask_for(server)
            self.assertEqual(found.values, (value,))
        with self.server(count) as server:
            directory = Directory((server,), times=Times(60, 60))
            directory.log_in("uid=x,dc=x", b"p" * 4096, time.monotonic() + 60)
            directory.close()
            self.assertEqual(heard, [4096])

    def test_nothing_is_left(self) -> None:
        """Descriptors, after connections of all kinds have come to their ends."""
        gc.collect()        # what other tests have left is not closed meanwhile
        before = len(os.listdir("/proc/self/fd"))
        for part, trust, scheme in (
                (silent, None, "ldap"), (lambda peer: None, self.trust, "ldap"),
                (silent, self.trust, "ldaps"), (lambda peer: peer.sendall(b"x"), None, "ldap")):
            self.broken(part, trust, scheme, 0.05)
        gc.collect()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)


class NonsenseTests(SynchronousTestCase):
    """Servers answer with any octets: an outage, or an answer that libldap can read; never anything else."""

    ANSWERS = (BOUND, ENTRY, SEARCHED, TLS_REFUSED,
               bytes.fromhex("302b02010161070a010004000400a01d301b0419312e332e362e312e342e312e34322e322e32372e382e352e31"))

    def ask(self, octets: bytes) -> None:
        ours, theirs = socket.socketpair()
        channel = Channel(ours, Server("ldap", "nonsense", 1))
        try:
            theirs.sendall(octets)
            theirs.shutdown(socket.SHUT_WR)
            for begun in (channel.ldap.simple_bind("cn=a", b"b"),
                          channel.ldap.search_ext("dc=x", ldap.SCOPE_SUBTREE, "(uid=a)", ["uid"])):
                with contextlib.suppress(Broken, ldap.LDAPError):
                    channel.answer(begun, time.monotonic() + 5)
        finally:
            channel.close()
            theirs.close()

    @given(st.binary(max_size=60))
    @example(BOUND)
    @example(bytes.fromhex("300c020101659f0a010004000400"))     # ended the process in libldap 2.5.13
    @example(bytes.fromhex("300c02010107a40a010204000400"))
    @settings(deadline=None, max_examples=200)
    def test_any_octets(self, octets: bytes) -> None:
        self.ask(octets)

    def test_spoilt_answers(self) -> None:
        dice = random.Random(7)
        for _ in range(400):
            octets = bytearray(b"".join(dice.choice(self.ANSWERS) for _ in range(dice.randint(1, 3))))
            for _ in range(dice.randint(1, 3)):
                octets[dice.randrange(len(octets))] = dice.randrange(256)
            self.ask(bytes(octets))

    def test_through_the_directory(self) -> None:
        """Both questions end in our own faults."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        dice = random.Random(11)
        spoilt = []
        for _ in range(40):
            octets = bytearray(dice.choice(self.ANSWERS))
            octets[dice.randrange(len(octets))] = dice.randrange(256)
            spoilt.append(bytes(octets))

        def serve() -> None:
            with contextlib.suppress(OSError):
                for octets in spoilt:
                    with listener.accept()[0] as peer, contextlib.suppress(OSError):
                        peer.recv(1000)
                        peer.sendall(octets)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        server = Server("ldap", "127.0.0.1", listener.getsockname()[1])
        for number in range(len(spoilt)):
            directory = Directory((server,), times=Times(2, 2))
            until: Any = time.monotonic() + 2
            with contextlib.suppress(StoreUnavailable, LoginRefused):
                if number % 2:
                    directory.search(Search("dc=x", "subtree", "uid"), "(uid=a)", until)
                else:
                    directory.log_in("cn=a", b"b", until)
            directory.close()
        thread.join(60)
        self.assertFalse(thread.is_alive())
