"""AUTH and its exchanges with trouble: conversations in memory, and what curl makes of some."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import subprocess
from collections.abc import Mapping
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import settings as bounded
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.errors import ConfigurationError
from mailgate.testing.memory import MemoryServer, Talker
from mailgate.testing.trouble import exchanges, greetings, handshakes
from mailgate.testing.trouble.exchanges import challenge, challenged
from mailgate.testing.trouble.model import Kind, Occasion
from mailgate.testing.trouble.reading import read_fault
from tests.needs import needs
from tests.testing.serving import BODY, served

MECHANISMS = ["SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN"]
SETTINGS: Mapping[str, Any] = {"listen": [{"protocol": "pop3", "mechanisms": MECHANISMS}],
                               "pop3": {"apop": True}}
PLAIN = base64.b64encode(b"\0mrose\0secret")
WRONG = base64.b64encode(b"\0mrose\0wrong")
CANCELLED = b"-ERR authentication cancelled\r\n"
XOAUTH2 = base64.b64encode(b"user=mrose\1auth=Bearer abc\1\1")


class ExchangeCase(SynchronousTestCase):
    """One server in memory for each test, and a client that says octets."""

    def setUp(self) -> None:
        """Start it."""
        self.server = MemoryServer(settings=SETTINGS)
        self.addCleanup(self.server.stop)
        self.server.account("mrose", "secret")

    def client(self, do: str, **settings: Any) -> Talker:
        """Return a client of a server with one fault."""
        self.server.clear_faults()
        self.server.fault(do, **settings)
        return self.server.talk()

    def conversation(self, client: Talker, *lines: bytes) -> list[bytes]:
        """Say lines one by one; return what came back to each."""
        return [client.say(line + b"\r\n") for line in lines]


class ChallengeTests(ExchangeCase):
    """`challenge`: one challenge said wrong; the exchange behind it is the service's own."""

    def test_said_wrong(self) -> None:
        """Each way: what the client gets in place of the empty challenge of AUTH PLAIN."""
        for how, more, said in (
                ("malformed", {}, b"+ no=base64!\r\n"), ("empty", {}, b"+ \r\n"), ("bare", {}, b"+\r\n"),
                ("long", {"size": 75_000}, b"+ " + base64.b64encode(b"x" * 75_000) + b"\r\n"),
                ("replaced", {"line": "+ ="}, b"+ =\r\n")):
            with self.subTest(how):
                client = self.client("challenge", how=how, **more)
                self.assertEqual(client.say(b"AUTH PLAIN\r\n"), said)
                self.assertEqual(self.server.sessions[-1].commands[0].verb, "AUTH")
        self.assertEqual(len(said := self.client("challenge", how="long").say(b"AUTH PLAIN\r\n")), 133_340)
        self.assertEqual(len(challenged(said) or b""), 100_000)

    def test_client_gives_up(self) -> None:
        """Behind a malformed challenge the client cancels, and may log in by another way."""
        client = self.client("challenge", how="malformed", times=1)
        said = self.conversation(client, b"AUTH PLAIN", b"*", b"AUTH PLAIN " + PLAIN)
        self.assertEqual(said[1:], [CANCELLED, b"+OK maildrop has 0 messages (0 octets)\r\n"])

    def test_in_the_middle(self) -> None:
        """The command `response` and its occurrence say which challenge: the one for the password."""
        client = self.client("challenge", how="malformed", command="response", occurrence=1)
        self.assertEqual(self.conversation(client, b"AUTH LOGIN", base64.b64encode(b"mrose")),
                         [challenge(b"Username:"), b"+ no=base64!\r\n"])
        client = self.client("challenge", how="unended")
        self.assertEqual(client.say(b"AUTH LOGIN\r\n"), b"+ VXNlcm5hbWU6\r\n")

    def test_one_too_many(self) -> None:
        """The exchange has succeeded, and another challenge comes; +OK follows whatever answers it."""
        client = self.client("challenge", how="again")
        said = self.conversation(client, b"AUTH PLAIN " + PLAIN, b"", b"STAT")
        self.assertEqual(said, [b"+ \r\n", b"+OK maildrop has 0 messages (0 octets)\r\n", b"+OK 0 0\r\n"])
        record = self.server.sessions[0]
        self.assertEqual([command.verb for command in record.commands], ["AUTH", "", "STAT"])
        told = [event.faults for event in record.events if event.octets.startswith(b"+OK maildrop")]
        self.assertEqual(told, [("challenge",)])

    def test_endless(self) -> None:
        """Challenge on challenge until the client cancels; with a count, until then; deaf, even then."""
        client = self.client("endless_challenges")
        said = self.conversation(client, b"AUTH PLAIN", *[b"AAAA"] * 500)
        self.assertEqual([challenged(reply) for reply in said], [b"one more %d" % n for n in range(1, 502)])
        self.assertEqual(self.conversation(client, b"*", b"AUTH", b"QUIT")[0], CANCELLED)
        self.assertTrue(client.closed)
        client = self.client("endless_challenges", count=2)
        said = self.conversation(client, b"AUTH PLAIN", b"AAAA", b"AAAA", b"AUTH")
        self.assertEqual(said[:3], [challenge(b"one more 1"), challenge(b"one more 2"),
                                    b"-ERR [AUTH] authentication failed\r\n"])
        self.assertTrue(said[3].startswith(b"+OK mechanisms follow"))
        client = self.client("endless_challenges", deaf=True)
        self.assertEqual(self.conversation(client, b"AUTH PLAIN", b"*", b"*")[-1], challenge(b"one more 3"))

    def test_refused_behind_a_good_exchange(self) -> None:
        """-ERR with any code though all was right; the exchange is over at the server, too."""
        for code in ("AUTH", "SYS/TEMP", "SYS/PERM", "IN-USE"):
            client = self.client("error", command="response", code=code)
            self.assertEqual(self.conversation(client, b"AUTH PLAIN", PLAIN, b"STAT")[1:],
                             [b"-ERR [%b] refused\r\n" % code.encode(), b"-ERR command refused\r\n"])

    def test_secrets_stay_masked(self) -> None:
        """A response to a made-up challenge is as secret as any."""
        client = self.client("endless_challenges")
        self.conversation(client, b"AUTH PLAIN", PLAIN)
        self.assertNotIn(PLAIN.decode(), self.server.transcript())


class MechanismTests(ExchangeCase):
    """What is announced, initial responses, and who is let in."""

    def test_announced(self) -> None:
        """Mechanisms are hidden, made up, or replaced, in CAPA and in the list of AUTH; or in one of both."""
        client = self.client("mechanisms", hide=["PLAIN"], add=["X-UNKNOWN"])
        self.assertIn(b"\r\nSASL SCRAM-SHA-256 CRAM-MD5 LOGIN X-UNKNOWN\r\n", client.say(b"CAPA\r\n"))
        self.assertEqual(client.say(b"AUTH\r\n"), b"+OK mechanisms follow\r\nSCRAM-SHA-256\r\nCRAM-MD5\r\n"
                                                  b"LOGIN\r\nX-UNKNOWN\r\n.\r\n")
        self.assertEqual(client.say(b"AUTH X-UNKNOWN\r\n"), b"-ERR command refused\r\n")
        self.assertIn(b"+OK", client.say(b"AUTH PLAIN " + PLAIN + b"\r\n"))     # hidden, and still there
        client = self.client("mechanisms", only=[], command="CAPA")
        self.assertNotIn(b"SASL", client.say(b"CAPA\r\n"))
        self.assertIn(b"PLAIN", client.say(b"AUTH\r\n"))

    def test_initial_response(self) -> None:
        """Refused, so that the client has to try without; or ignored, so that it is asked for again."""
        client = self.client("initial_response")
        said = self.conversation(client, b"AUTH PLAIN " + PLAIN, b"AUTH PLAIN", PLAIN)
        self.assertEqual(said[0], b"-ERR an initial response is not taken here\r\n")
        self.assertEqual(said[1], b"+ \r\n")
        self.assertTrue(said[2].startswith(b"+OK"))
        client = self.client("initial_response", how="ignored", session=2)
        said = self.conversation(client, b"AUTH PLAIN " + PLAIN, PLAIN)
        self.assertEqual(said[0], b"+ \r\n")
        self.assertTrue(said[1].startswith(b"-ERR [IN-USE]"), said)     # the first one has the maildrop

    def test_anything_is_accepted(self) -> None:
        """A wrong password, digest or proof lets in who has an account; nobody else."""
        for lines in ([b"USER mrose", b"PASS wrong"], [b"APOP mrose " + b"0" * 32],
                      [b"AUTH PLAIN " + WRONG], [b"AUTH PLAIN", WRONG],
                      [b"AUTH CRAM-MD5", base64.b64encode(b"mrose " + b"0" * 32)]):
            with self.subTest(lines[0]):
                client = self.client("accept_anything")
                self.assertEqual(self.conversation(client, *lines, b"STAT")[-2:],
                                 [b"+OK maildrop has 0 messages (0 octets)\r\n", b"+OK 0 0\r\n"])
                client.say(b"QUIT\r\n")
        client = self.client("accept_anything")
        self.assertTrue(self.conversation(client, b"USER nobody", b"PASS x")[1].startswith(b"-ERR [AUTH]"))
        client = self.client("accept_anything", command="APOP")
        self.assertTrue(self.conversation(client, b"USER mrose", b"PASS x")[1].startswith(b"-ERR [AUTH]"))


class ScramTests(ExchangeCase):
    """SCRAM-SHA-256 by a client that looks at everything (RFC 5802 sections 3 and 5.1)."""

    def exchange(self, client: Talker, password: bytes = b"secret") -> str:
        """Log in; return what the client found wrong, or how the server ended it."""
        bare = b"n=mrose,r=clientnonce"
        hello = base64.b64encode(b"n,," + bare)
        first = challenged(client.say(b"AUTH SCRAM-SHA-256 " + hello + b"\r\n")) or b""
        fields = dict(field.split(b"=", 1) for field in first.split(b",") if b"=" in field)
        if not first.startswith(b"r="):
            return "no server-first message" if not first.startswith(b"m=") else "a mandatory extension"
        if set(fields) != {b"r", b"s", b"i"}:
            return "malformed"
        if not fields[b"r"].startswith(b"clientnonce") or len(fields[b"r"]) <= len(b"clientnonce"):
            return "another nonce"
        if not fields[b"s"]:
            return "no salt"
        if int(fields[b"i"]) < 4096:
            return "too few iterations"
        unproven = b"c=biws,r=" + fields[b"r"]
        message = b",".join((bare, first, unproven))
        salted = hashlib.pbkdf2_hmac("sha256", password, base64.b64decode(fields[b"s"]), int(fields[b"i"]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        proof = bytes(a ^ b for a, b in zip(key, hmac.digest(
            hashlib.sha256(key).digest(), message, "sha256"), strict=True))
        reply = client.say(base64.b64encode(unproven + b",p=" + base64.b64encode(proof)) + b"\r\n")
        said = challenged(reply)
        if said is None:
            return "+OK without a proof of the server's" if reply.startswith(b"+OK") else "refused"
        if said.startswith(b"e="):
            return "the server's error"
        signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
        if said != b"v=" + base64.b64encode(signature):
            return "a wrong signature"
        return "in" if client.say(b"\r\n").startswith(b"+OK") else "out"

    def test_each_way(self) -> None:
        """What is broken is what the client finds; without a fault it gets in."""
        client = self.server.talk()
        self.assertEqual(self.exchange(client), "in")
        client.say(b"QUIT\r\n")
        for how, found in (("signature", "a wrong signature"), ("error", "the server's error"),
                           ("unproven", "+OK without a proof of the server's"), ("nonce", "another nonce"),
                           ("iterations", "too few iterations"), ("extension", "a mandatory extension"),
                           ("salt", "no salt"), ("malformed", "malformed")):
            with self.subTest(how):
                self.assertEqual(self.exchange(self.client("scram", how=how)), found)

    def test_unproven_login(self) -> None:
        """Who does not miss the server's signature is logged in without it."""
        client = self.client("scram", how="unproven")
        self.exchange(client)
        self.assertEqual(client.say(b"STAT\r\n"), b"+OK 0 0\r\n")

    def test_count(self) -> None:
        """The number of iterations is a setting: none at all, or so many that a client had better refuse."""
        for count in (0, 2_000_000_000):
            client = self.client("scram", how="iterations", count=count)
            hello = base64.b64encode(b"n,,n=mrose,r=x")
            first = challenged(client.say(b"AUTH SCRAM-SHA-256 " + hello + b"\r\n")) or b""
            self.assertTrue(first.endswith(b",i=%d" % count), first)


class CramTests(ExchangeCase):
    """CRAM-MD5 with challenges of another shape."""

    def test_challenge(self) -> None:
        """Whatever it is, the digest over it is the right one; over the service's own it is not asked for."""
        for octets in (b"no message-id", b"", b"\xff\0\r\n", b"<" + b"x" * 5000 + b">"):
            with self.subTest(octets[:20]):
                client = self.client("cram_challenge", challenge=octets)
                self.assertEqual(client.say(b"AUTH CRAM-MD5\r\n"), challenge(octets))
                digest = hmac.digest(b"secret", octets, "md5").hex().encode()
                self.assertTrue(client.say(base64.b64encode(b"mrose " + digest) + b"\r\n").startswith(b"+OK"))
                client.say(b"QUIT\r\n")


class OAuthTests(ExchangeCase):
    """Refused bearer tokens, as the large providers refuse them."""

    def test_told(self) -> None:
        """JSON in a challenge; -ERR behind the client's answer, whether empty or control-A."""
        for answer in (b"", base64.b64encode(b"\1"), b"*"):
            client = self.client("oauth", scope="https://mail.example.com/")
            said = self.conversation(client, b"AUTH XOAUTH2 " + XOAUTH2, answer, b"CAPA")
            self.assertEqual(json.loads(challenged(said[0]) or b""),
                             {"status": "400", "schemes": "Bearer", "scope": "https://mail.example.com/"})
            self.assertEqual(said[1], b"-ERR [AUTH] login refused\r\n")
            self.assertTrue(said[2].startswith(b"+OK"))

    def test_without_an_initial_response(self) -> None:
        """The token is asked for; a client that cancels there is not told anything."""
        client = self.client("oauth", status="invalid_token", schemes="", scope="", code="SYS/TEMP")
        token = base64.b64encode(b"n,,\1auth=Bearer x\1\1")
        said = self.conversation(client, b"AUTH OAUTHBEARER", token, b"AQ==")
        self.assertEqual(said, [b"+ \r\n", challenge(b'{"status": "invalid_token"}'),
                                b"-ERR [SYS/TEMP] login refused\r\n"])
        client = self.client("oauth")
        self.assertEqual(self.conversation(client, b"AUTH XOAUTH2", b"*"), [b"+ \r\n", CANCELLED])

    def test_said_wrong(self) -> None:
        """Without base64, half of it, any octets at all, or -ERR at once; other mechanisms are left alone."""
        told = b'{"status": "400", "schemes": "Bearer", "scope": "https://mail.example.org/"}'
        for settings, said in (({"how": "bare"}, b"+ " + told + b"\r\n"),
                               ({"how": "broken"}, challenge(told[:len(told) // 2])),
                               ({"json": {"hex": "00ff"}}, challenge(b"\0\xff")),
                               ({"how": "silent", "code": ""}, b"-ERR login refused\r\n")):
            client = self.client("oauth", **settings)
            self.assertEqual(client.say(b"AUTH XOAUTH2 " + XOAUTH2 + b"\r\n"), said)
        client = self.client("oauth")
        self.assertTrue(client.say(b"AUTH PLAIN " + PLAIN + b"\r\n").startswith(b"+OK"))

    def test_curl(self) -> None:
        """curl chooses XOAUTH2 where it is announced, answers the JSON as asked, and ends with 67."""
        curl, server = needs("curl"), served()
        server.fault("mechanisms", only=["XOAUTH2"])
        server.fault("oauth", how="told")
        fetched = subprocess.run(
            [curl, "-sS", "--ssl-reqd", "--cacert", server.ca_file, "-u", "mrose:", "--oauth2-bearer",
             "token", f"pop3://localhost:{server.pop3[1]}/1"],
            capture_output=True, check=False, timeout=60, text=True)
        self.assertEqual(fetched.returncode, 67, fetched.stderr)
        self.assertIn("AUTH", server.session.verbs)


class ReworkTests(SynchronousTestCase):
    """Replies that another fault has reworked before: whatever they are, nothing fails."""

    @bounded(deadline=None, max_examples=150)
    @given(st.sampled_from([kind for kind in (*exchanges.KINDS, *greetings.KINDS, *handshakes.KINDS)
                            if kind.rework is not None]),
           st.sampled_from(["CAPA", "AUTH", "STLS", "greeting"]),
           st.one_of(st.binary(max_size=60), st.builds(challenge, st.binary(max_size=60)),
                     st.builds(lambda octets: challenge(b"v=" + octets), st.binary(max_size=9)),
                     st.builds(b"+OK\r\nSASL %b\r\n.\r\n".__mod__, st.binary(max_size=9))),
           st.randoms(use_true_random=False))
    def test_whatever_comes(self, kind: Kind, verb: str, reply: bytes, random: Random) -> None:
        """Each way of each kind gives octets for any."""
        for how in HOW.get(kind.name, [None]):
            way = {} if how is None else {"how": how}
            fault = read_fault({"do": kind.name, **way, **MORE.get(how, {})})
            occasion = Occasion(fault, 1, verb, b"", 1, random, Ignoring())
            assert kind.rework is not None
            self.assertIsInstance(kind.rework(occasion, reply), bytes)


class Ignoring:
    """Surroundings that nothing happens in."""

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: None


HOW = {"challenge": ["malformed", "empty", "bare", "unended", "long", "replaced", "again"],
       "scram": ["signature", "error", "unproven", "nonce", "iterations", "extension", "salt", "malformed"],
       "greeting": ["missing", "long", "refused", "smtp"], "timestamp": ["given", "attack", "no_at", "long"],
       "stls": ["hidden", "stripped", "injected", "plaintext"]}
MORE: Mapping[str, Any] = {"replaced": {"line": "+ x"}}


class ReadingTests(SynchronousTestCase):
    """Settings that make no sense are told with their place."""

    def test_challenge_replaced(self) -> None:
        """A line to replace a challenge by: one, and there."""
        server = MemoryServer()
        self.addCleanup(server.stop)
        for settings in ({"how": "replaced"}, {"how": "replaced", "line": "a\r\nb"}, {"how": "nonsense"}, {}):
            with self.subTest(**settings):
                self.assertRaises(ConfigurationError, server.fault, "challenge", **settings)


class ClientTests(SynchronousTestCase):
    """curl through a good exchange with odd challenges."""

    def test_curl_and_a_challenge_without_blank(self) -> None:
        """curl logs in all the same: `+` alone is borne by it."""
        curl, server = needs("curl"), served()
        server.fault("challenge", how="bare")
        server.fault("mechanisms", only=["PLAIN"])
        fetched = subprocess.run(
            [curl, "-sS", "-u", "mrose:secret", f"pop3://localhost:{server.pop3[1]}/1"], capture_output=True,
            check=False, timeout=60)
        self.assertEqual((fetched.returncode, fetched.stdout), (0, BODY), fetched.stderr)
