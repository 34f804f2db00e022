"""Tickets of a real KDC, judged by libkrb5: what is taken, and refusals held to MIT's own."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet import reactor
from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailgate.auth import libkrb5
from mailgate.auth.kerberos import Accepted, Acceptor, ServiceKey
from mailgate.errors import ConfigurationError, TicketRefused, TooBusy
from mailgate.kpop.sendauth import SENDAUTH_VERSION, framed
from mailgate.principals import Principal
from tests.kerberos import Realm, ended

ROOT = Path(__file__).parent.parent.parent
SERVICE = "pop/localhost"
DAY = 86400

_open = contextlib.ExitStack()
home: Realm
keytab: Path
cache: Path


def setUpModule() -> None:
    """Start a KDC with one user, and three services of which one is ours."""
    global home, keytab, cache
    import tempfile

    folder = Path(_open.enter_context(tempfile.TemporaryDirectory()))
    home = Realm(folder / "home")
    _open.callback(home.stop)
    home.add("alice", SERVICE, "imap/localhost", "pop/other")
    keytab = home.keytab(SERVICE)
    cache = home.log_in("alice")


def tearDownModule() -> None:
    _open.close()


def request(server: str = SERVICE, *, mutual: bool = False, shift: float = 0) -> bytes:
    """Return an AP-REQ of alice's."""
    answer = home.client({"do": "request", "server": server, "mutual": mutual, "shift": shift},
                         KRB5CCNAME=str(cache))
    return bytes.fromhex(answer["request"])


def fields(message: bytes) -> dict[int, bytes]:
    """Return the fields of a KRB-ERROR (RFC 4120 section 5.9.1) by their numbers, as DER."""
    def element(octets: bytes) -> tuple[int, bytes, bytes]:
        tag, length, at = octets[0], octets[1], 2
        if length & 0x80:
            at += length & 0x7F
            length = int.from_bytes(octets[2:at], "big")
        return tag, octets[at:at + length], octets[at + length:]

    tag, body, rest = element(message)
    assert (tag, rest) == (0x7E, b""), message
    tag, body, rest = element(body)
    assert (tag, rest) == (0x30, b""), message
    found = {}
    while body:
        tag, content, body = element(body)
        found[tag - 0xA0] = content
    return found


class KerberosCase(SynchronousTestCase):
    def setUp(self) -> None:
        stack = contextlib.ExitStack()
        stack.enter_context(home.environment())
        self.addCleanup(stack.close)

    def key(self, *, shift: float = 0, **changed: Any) -> ServiceKey:
        settings = {"keytab": str(keytab), "service": f"{SERVICE}@{home.name}", **changed}
        return ServiceKey(settings["keytab"], settings["service"], now=lambda: time.time() + shift)

    def refusal(self, octets: bytes, **how: Any) -> TicketRefused:
        return self.assertRaises(TicketRefused, self.key(**how).judge, octets)


class TicketTests(KerberosCase):
    def test_good_ticket(self) -> None:
        """Its client is told; an AP-REP is made only where one was asked for."""
        alice = Principal(("alice",), home.name)
        self.assertEqual(self.key().judge(request()), Accepted(alice, None))
        principal, reply = self.key().judge(request(mutual=True))
        self.assertEqual((principal, reply and reply[:1]), (alice, b"\x6f"))

    def test_once(self) -> None:
        """The same AP-REQ is refused the second time, by whomever it is sent."""
        octets = request()
        self.key().judge(octets)
        refused = self.refusal(octets)
        self.assertEqual((str(refused), refused.ours), ("Request is a replay", False))

    def test_any_octets(self) -> None:
        """Cut or changed anywhere it is refused, with a KRB-ERROR, and nothing worse happens."""
        octets = request()
        for at in range(0, len(octets), 7):
            for broken in (octets[:at], octets[:at] + bytes([octets[at] ^ 0x55]) + octets[at + 1:]):
                try:
                    self.key().judge(broken)
                except TicketRefused as refused:
                    self.assertIn(b"\x02\x01", fields(refused.reply)[6])
        for garbage in (b"", b"\x6e", b"\x6e\x84\xff\xff\xff\xff", b"\x6e\x80" * 30_000, b"\0" * 65_536):
            self.assertEqual(self.refusal(garbage).reply[:1], b"\x7e")

    def test_what_mit_answers(self) -> None:
        """Code, realm, name and text of every refusal are those of krb5_recvauth, octet for octet."""
        twice = request()
        self.key().judge(twice)
        good = request()
        cases: dict[str, tuple[bytes, float, int]] = {      # octets, our clock's error, RFC 4120's code
            "another service": (request("imap/localhost"), 0, 35),
            "another host": (request("pop/other"), 0, 35),
            "changed ticket": (good[:200] + bytes([good[200] ^ 1]) + good[201:], 0, 31),
            "changed authenticator": (good[:-3] + bytes([good[-3] ^ 1]) + good[-2:], 0, 31),
            "expired": (request(), DAY, 32),
            "not yet valid": (request(), -DAY, 33),
            "skewed": (request(), 700, 37),
            "no AP-REQ": (b"\x60" + good[1:], 0, 40),
            "empty": (b"", 0, 40),
            "not DER": (b"\x6e\x05hello", 0, 60)}
        for name, (octets, shift, code) in cases.items():
            ours, theirs = fields(self.refusal(octets, shift=shift).reply), self.mit(octets, shift)
            self.assertEqual(ours[6], b"\x02\x01" + bytes([code]), name)
            self.assertEqual(sorted(ours), sorted(theirs), name)
            for number in set(ours) - {4, 5}:       # stime and susec
                self.assertEqual(ours[number], theirs[number], (name, number))
        self.assertEqual(fields(self.refusal(twice).reply)[6], b"\x02\x01\x22")
        theirs = self.mit(good)
        self.assertEqual(theirs, {})
        self.assertEqual(self.mit(good)[6], b"\x02\x01\x22")

    def test_unknown_realm(self) -> None:
        """A ticket of a KDC that has nothing to do with ours, for a service of the same name."""
        strange = Realm(home.folder / "strange", "STRANGE.EXAMPLE")
        try:
            strange.add("alice", SERVICE)
            made = strange.client({"do": "request", "server": SERVICE, "mutual": True},
                                  KRB5CCNAME=str(strange.log_in("alice")))
        finally:
            strange.stop()
        octets = bytes.fromhex(made["request"])
        ours, theirs = fields(self.refusal(octets).reply), self.mit(octets)
        self.assertEqual((ours[6], ours[11]), (theirs[6], theirs[11]))
        self.assertIn(ours[6][-1], (35, 44))

    def mit(self, octets: bytes, shift: float = 0) -> dict[int, bytes]:
        """Return what MIT's krb5_recvauth answers, in a process of its own with its own replay cache."""
        replays = home.folder / "replays-of-mit"
        replays.mkdir(mode=0o700, exist_ok=True)
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                asked = {"do": "recvauth", "fd": theirs.fileno(), "server": f"{SERVICE}@{home.name}",
                         "keytab": str(keytab), "version": "KPOPV1.0", "shift": shift}
                process = subprocess.Popen(
                    [sys.executable, "-m", "tests.kerberos_peer", json.dumps(asked)], cwd=ROOT, text=True,
                    pass_fds=[theirs.fileno()], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    env={**os.environ, "KRB5RCACHEDIR": str(replays)})
            ours.sendall(framed(SENDAUTH_VERSION) + framed(b"KPOPV1.0\0") + framed(octets))
            said = b""
            while piece := ours.recv(4096):
                said += piece
            ended(process)
        self.assertEqual(said[:1], b"\0")
        length = int.from_bytes(said[1:5], "big")
        return fields(said[5:5 + length]) if length else {}

    def test_own_faults_stay_ours(self) -> None:
        """Without keytab or key nobody gets in; the client is told no more than that there is no key."""
        for changed in ({"keytab": "/nonexistent"}, {"service": f"pop/other@{home.name}"},
                        {"keytab": __file__}):
            refused = self.refusal(request(), **changed)
            self.assertTrue(refused.ours, changed)
            self.assertNotIn(b"/", fields(refused.reply)[11])
            self.assertIn(fields(refused.reply)[11][2:-1],
                          (b"Service key not available", b"Generic error (see e-text)"))

    def test_replay_cache_that_cannot_be_written(self) -> None:
        """Then no ticket is taken: one that cannot be remembered could come twice."""
        octets = request()
        with mock.patch.dict(os.environ, KRB5RCACHEDIR="/nonexistent"):
            refused = self.refusal(octets)
        self.assertTrue(refused.ours, str(refused))
        self.assertEqual(fields(refused.reply)[6], b"\x02\x01\x3c")
        self.key().judge(octets)

    def test_cross_realm(self) -> None:
        """A principal of a realm that ours trusts is known by its own realm; what it opens, the rules say."""
        other = Realm(home.folder / "other", "OTHER.EXAMPLE")
        try:
            trusting = Realm(home.folder / "trusting", "TRUSTING.EXAMPLE", cross=other)
            try:
                other.add("alice")
                trusting.add(SERVICE)
                path = trusting.keytab(SERVICE)
                visitor = other.log_in("alice@OTHER.EXAMPLE", KRB5_CONFIG=str(trusting.folder / "krb5.conf"))
                made = trusting.client({"do": "request", "server": f"{SERVICE}@{trusting.name}",
                                        "mutual": False}, KRB5CCNAME=str(visitor))
                with trusting.environment():
                    key = ServiceKey(str(path), f"{SERVICE}@{trusting.name}")
                    accepted = key.judge(bytes.fromhex(made["request"]))
                self.assertEqual(accepted.principal, Principal(("alice",), "OTHER.EXAMPLE"))
            finally:
                trusting.stop()
        finally:
            other.stop()


class FaultTests(KerberosCase):
    def test_nothing_wrong(self) -> None:
        self.assertEqual(self.key().faults(), [])

    def test_words(self) -> None:
        """What is missing where, and what is there instead."""
        empty = Path(self.mktemp()).absolute()
        empty.write_bytes(b"\x05\x02")
        for changed, words in (
                ({"keytab": "/nonexistent"}, "/nonexistent: No such file or directory"),
                ({"keytab": "/"}, "/: Is a directory"),
                ({"keytab": __file__}, f"{__file__}: Unsupported key table format version number"),
                ({"keytab": str(empty)}, f"{empty} has no key of {SERVICE}@{home.name}; it is empty"),
                ({"service": f"pop/other@{home.name}"},
                 f"{keytab} has no key of pop/other@{home.name}; there are keys of {SERVICE}@{home.name}")):
            self.assertEqual(self.key(**changed).faults(), [words])

    def test_broken_krb5_conf(self) -> None:
        broken = Path(self.mktemp()).absolute()
        broken.write_text("[libdefaults\n")
        with mock.patch.dict(os.environ, KRB5_CONFIG=str(broken)):
            (words,) = self.key().faults()
            self.assertRegex(words, "krb5.conf")
            self.assertRaises(ConfigurationError, self.key().judge, b"")

    def test_no_library(self) -> None:
        """Said as what to install."""
        libkrb5.library.cache_clear()
        self.addCleanup(libkrb5.library.cache_clear)
        self.patch(libkrb5, "SONAMES", ("libnothing.so.77",))
        (words,) = self.key().faults()
        self.assertRegex(words, r"^Kerberos needs MIT's libkrb5 \(Debian: apt-get install libkrb5-3\): .*77")

    def test_no_cffi(self) -> None:
        libkrb5.library.cache_clear()
        self.addCleanup(libkrb5.library.cache_clear)
        with mock.patch.dict(sys.modules, cffi=None):
            self.assertEqual(self.key().faults(),
                             ["Kerberos needs the Python package cffi: pip install mailgate[kerberos]"])


_LOOP = """
import os, sys
from pathlib import Path
from mailgate.auth.kerberos import ServiceKey
from mailgate.errors import TicketRefused

keytab, service, octets = sys.argv[1], sys.argv[2], bytes.fromhex(sys.argv[3])
key, replays = ServiceKey(keytab, service), Path(os.environ["KRB5RCACHEDIR"])

def round():
    for file in replays.iterdir():
        file.unlink()                       # so that the ticket is good again
    assert key.judge(octets).reply
    for bad in (octets, b"", octets[:-1], octets[:300] + b"!" + octets[301:]):
        try:
            key.judge(bad)
        except TicketRefused:
            pass
        else:
            raise AssertionError(bad)
    assert not key.faults() and ServiceKey(keytab, "a/b@C").faults()

def held():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE"), len(os.listdir("/proc/self/fd"))

for _ in range(200):
    round()
memory, files = held()
for _ in range(1000):
    round()
grown, files_now = held()
print(grown - memory, files_now - files)
"""


class LeakTests(KerberosCase):
    def test_loop(self) -> None:
        """7,000 judgements and looks at the keytab cost no memory that stays, and no descriptor."""
        ran = subprocess.run([sys.executable, "-c", _LOOP, str(keytab), f"{SERVICE}@{home.name}",
                              request(mutual=True).hex()],
                             capture_output=True, text=True, check=False, cwd=ROOT)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        memory, files = map(int, ran.stdout.split())
        self.assertLess(memory, 300_000)        # 50 octets a judgement would show
        self.assertEqual(files, 0)


class AcceptorTests(TestCase):
    def setUp(self) -> None:
        stack = contextlib.ExitStack()
        stack.enter_context(home.environment())
        self.addCleanup(stack.close)

    @inlineCallbacks
    def test_in_threads(self) -> Any:
        """Many at a time, each once; after the end nothing is taken."""
        acceptor = Acceptor(ServiceKey(str(keytab), f"{SERVICE}@{home.name}"), reactor)
        self.assertEqual((yield acceptor.faults()), [])
        requests = [request() for _ in range(4)]
        outcomes = yield gatherResults([
            acceptor.accept(octets, "192.0.2.1").addErrback(lambda failure: failure.trap(TicketRefused))
            for octets in requests * 5])
        self.assertEqual(sum(isinstance(one, Accepted) for one in outcomes), 4)
        self.assertEqual(outcomes.count(TicketRefused), 16)
        yield acceptor.stop()
        yield self.assertFailure(acceptor.accept(requests[0], None), TooBusy)


class LoadingTests(SynchronousTestCase):
    def test_nothing_is_loaded_before_it_is_used(self) -> None:
        """Making all the parts opens no library: twistd forks afterwards."""
        code = ("import sys; from twisted.internet import reactor; "
                "from mailgate.auth.kerberos import *; Acceptor(ServiceKey('/k', 'pop/h@R'), reactor); "
                "print('cffi' in sys.modules, 'libkrb5' in open('/proc/self/maps').read())")
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                             cwd=ROOT)
        self.assertEqual(ran.stdout.split(), ["False", "False"])
