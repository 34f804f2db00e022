"""A client whose login is refused by every mechanism, for every reason there is; and what the times say."""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
import socket
import ssl
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.auth.sasl.test_scram import Client
from tests.interop.talk import CLIENT_SECONDS

LONG_SECONDS = 0.001    # medians that are nearer to each other say nothing over a network


class Refusal(NamedTuple):
    """What came of one attempt: the server's lines, and the time from the last word to the refusal."""

    lines: tuple[bytes, ...]
    seconds: float


class Caller:
    """One connection. What is said is timed; only the answer to the last of it counts."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.socket: socket.socket = socket.create_connection(("127.0.0.1", port), timeout=CLIENT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.end_point = b""
        if tls is not None:
            secure = tls.wrap_socket(self.socket)
            self.socket = secure
            certificate = secure.getpeercert(binary_form=True)
            self.end_point = hashlib.sha256(certificate or b"").digest()
        self._file = self.socket.makefile("rb")
        self.greeting = self._file.readline()
        self.seconds = 0.0

    def say(self, line: bytes) -> bytes:
        """Return the answer, without its line end."""
        begun = time.perf_counter()
        self.socket.sendall(line + b"\r\n")
        answer = self._file.readline().removesuffix(b"\r\n")
        self.seconds = time.perf_counter() - begun
        return answer

    def say_coded(self, octets: bytes) -> bytes:
        """Say octets in base64."""
        return self.say(base64.b64encode(octets))

    def close(self) -> None:
        self._file.close()
        self.socket.close()


def decoded(answer: bytes) -> bytes:
    """Return the octets of a challenge."""
    assert answer.startswith(b"+ "), answer
    return base64.b64decode(answer[2:])


# One attempt a mechanism: (caller, name, password or token) -> the answers that matter ---------

Attempt = Callable[[Caller, bytes, bytes], list[bytes]]


def by_user(caller: Caller, name: bytes, password: bytes) -> list[bytes]:
    return [caller.say(b"USER " + name), caller.say(b"PASS " + password)]


def by_plain(caller: Caller, name: bytes, password: bytes) -> list[bytes]:
    return [caller.say(b"AUTH PLAIN " + base64.b64encode(b"\0%b\0%b" % (name, password)))]


def by_login(caller: Caller, name: bytes, password: bytes) -> list[bytes]:
    return [caller.say(b"AUTH LOGIN"), caller.say_coded(name), caller.say_coded(password)]


def by_cram_md5(caller: Caller, name: bytes, password: bytes) -> list[bytes]:
    challenge = decoded(caller.say(b"AUTH CRAM-MD5"))
    return [caller.say_coded(name + b" " + hmac.new(password, challenge, "md5").hexdigest().encode())]


def by_apop(caller: Caller, name: bytes, password: bytes) -> list[bytes]:
    stamp = caller.greeting.split()[-1]
    return [caller.say(b"APOP %b %b" % (name, hashlib.md5(stamp + password).hexdigest().encode()))]


def by_scram(algorithm: str, *, plus: bool = False) -> Attempt:
    def attempt(caller: Caller, name: bytes, password: bytes) -> list[bytes]:
        client = Client(password, name=name, algorithm=algorithm,
                        gs2=b"p=tls-server-end-point,," if plus else b"n,,",
                        binding=caller.end_point if plus else b"")
        mechanism = f"SCRAM-{algorithm.upper().replace('SHA', 'SHA-')}{'-PLUS' if plus else ''}"
        first = decoded(caller.say(f"AUTH {mechanism} ".encode() + base64.b64encode(client.first)))
        return [caller.say_coded(client.final(first))]

    return attempt


def by_external(caller: Caller, name: bytes, password: bytes) -> list[bytes]:
    return [caller.say(b"AUTH EXTERNAL " + (base64.b64encode(name) or b"="))]


def by_oauthbearer(caller: Caller, name: bytes, token: bytes) -> list[bytes]:
    message = b"n,a=%b,\1auth=Bearer %b\1\1" % (name, token)
    told = caller.say(b"AUTH OAUTHBEARER " + base64.b64encode(message))
    seconds = caller.seconds            # the refusal is told first; the answer to that is nothing new
    answers = [told, caller.say(b"AQ==")]
    caller.seconds = seconds
    return answers


def by_xoauth2(caller: Caller, name: bytes, token: bytes) -> list[bytes]:
    told = caller.say(b"AUTH XOAUTH2 " + base64.b64encode(b"user=%b\1auth=Bearer %b\1\1" % (name, token)))
    seconds = caller.seconds
    answers = [told, caller.say(b"")]
    caller.seconds = seconds
    return answers


MECHANISMS: dict[str, Attempt] = {
    "USER": by_user, "PLAIN": by_plain, "LOGIN": by_login, "APOP": by_apop, "CRAM-MD5": by_cram_md5,
    "SCRAM-SHA-256": by_scram("sha256"), "SCRAM-SHA-1": by_scram("sha1"),
    "SCRAM-SHA-256-PLUS": by_scram("sha256", plus=True), "SCRAM-SHA-1-PLUS": by_scram("sha1", plus=True),
    "EXTERNAL": by_external, "OAUTHBEARER": by_oauthbearer, "XOAUTH2": by_xoauth2,
}


# What the times say -----------------------------------------------------------------------------


def likelihood(one: Sequence[float], other: Sequence[float]) -> float:
    """Return how likely two samples differ so much in rank if they are of one kind (Mann and Whitney).

    Two-sided, by the normal approximation: good from some ten values each on.
    """
    ranked = sorted([(value, 0) for value in one] + [(value, 1) for value in other])
    ranks = sum(rank for rank, (_, whose) in enumerate(ranked, 1) if whose == 0)
    count, others = len(one), len(other)
    deviation = math.sqrt(count * others * (count + others + 1) / 12)
    distance = abs(ranks - count * (count + others + 1) / 2)
    return math.erfc(distance / deviation / math.sqrt(2))


def differ(one: Sequence[float], other: Sequence[float], *, alpha: float = 1e-5,
           least_seconds: float = LONG_SECONDS) -> bool:
    """Return whether an attacker with these samples could tell one from the other.

    The difference has to be no chance, and of a size that outlives a network. `alpha` is small because
    many pairs are compared in one run and the machine has other work: no run in a thousand is to fail
    by chance.
    """
    apart = abs(statistics.median(one) - statistics.median(other))
    return likelihood(one, other) < alpha and apart > least_seconds
