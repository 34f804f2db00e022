"""SCRAM-SHA-1 and SCRAM-SHA-256, with and without channel binding (RFC 5802, 7677, 5056, 9266).

The password never crosses the wire, and what is kept of it is no password either. The server's
signature goes out as a challenge that the client answers with an empty line (RFC 5034 section 4).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable

from mailgate.auth.sasl import (
    Attempt,
    Challenge,
    Consult,
    Facts,
    ProvenClaim,
    ScramQuestion,
    Step,
    decode,
    encode,
    text_of,
)
from mailgate.errors import BadExchange, LoginRefused
from mailgate.model import ScramSecret

NONCE_OCTETS = 18       # 24 characters in base64

_CLIENT_FIRST = re.compile(
    rb"(?P<gs2>(?P<flag>n|y|p=(?P<type>[A-Za-z0-9.-]+)),(?:a=(?P<authzid>[^,]+))?,)"
    rb"(?P<bare>n=(?P<name>[^,]+),r=(?P<nonce>[\x21-\x2b\x2d-\x7e]+)(?:,[A-Za-z]=[^,]+)*)")
_CLIENT_FINAL = re.compile(
    rb"(?P<unproven>c=(?P<binding>[A-Za-z0-9+/=]+),r=(?P<nonce>[\x21-\x2b\x2d-\x7e]+)(?:,[A-Za-z]=[^,]+)*)"
    rb",p=(?P<proof>[A-Za-z0-9+/=]+)")
_ESCAPE = re.compile(rb"=(2C|3D)?")

Phase = Callable[[bytes], Step]


class Scram:
    """One run. `scheme` names the verifier, such as SCRAM-SHA-256; `plus`: bound to the channel."""

    def __init__(self, scheme: str, facts: Facts, *, plus: bool, nonce: bytes | None = None) -> None:
        self._scheme = scheme
        self._algorithm = scheme.removeprefix("SCRAM-").replace("-", "").lower()
        self._facts = facts
        self._plus = plus
        self._own_nonce = nonce             # a fresh one, unless given
        self._phase: Phase = self._first
        self.name = self._bare = self._nonce = self._binding = self._server_first = b""
        self._secret: ScramSecret | None = None

    def step(self, response: bytes | None) -> Step:
        """Take client-first, client-final and the empty answer to the server's signature, in this order."""
        return Challenge(b"") if response is None else self._phase(response)

    def _first(self, message: bytes) -> Step:
        found = _CLIENT_FIRST.fullmatch(message)
        if found is None:       # a mandatory extension (m=) too: none is known (section 5.1)
            raise BadExchange("not a client-first message")
        text_of(message)
        self._binding = found["gs2"] + self._channel(found["flag"], found["type"])
        self.name, self._bare = _unescaped(found["name"]), found["bare"]
        if found["authzid"] is not None and _unescaped(found["authzid"]) != self.name:
            raise LoginRefused("acting as somebody else is not permitted")
        self._nonce = found["nonce"] + (self._own_nonce or encode(self._facts.random(NONCE_OCTETS)))
        self._phase = self._out_of_turn
        return Consult(ScramQuestion(self._scheme, self.name))

    def _channel(self, flag: bytes, kind: bytes | None) -> bytes:
        """Return the channel binding data that a flag promises (section 6)."""
        if self._plus != (kind is not None):
            raise BadExchange("the flag of channel binding does not fit the mechanism")
        if kind is not None:
            if kind not in self._facts.bindings:
                raise BadExchange(f"no channel binding of type {kind!r}")
            return self._facts.bindings[kind]
        if flag == b"y" and self._scheme.encode() + b"-PLUS" in self._facts.offered:
            raise LoginRefused("somebody took channel binding out of the capabilities")
        return b""

    def answered(self, answer: ScramSecret) -> Step:
        """Send salt and count (section 5.1)."""
        self._secret = answer
        self._server_first = b"r=%b,s=%b,i=%d" % (self._nonce, encode(answer.salt), answer.iterations)
        self._phase = self._final
        return Challenge(self._server_first)

    def _final(self, message: bytes) -> Step:
        found = _CLIENT_FINAL.fullmatch(message)
        if found is None:
            raise BadExchange("not a client-final message")
        text_of(message)
        binding, proof = decode(found["binding"]), decode(found["proof"])
        if not hmac.compare_digest(binding, self._binding):
            raise LoginRefused("another channel, or a changed flag of channel binding")
        if not hmac.compare_digest(found["nonce"], self._nonce):
            raise LoginRefused("another nonce")
        signature = self._signature(b",".join((self._bare, self._server_first, found["unproven"])), proof)
        self._phase = self._acknowledged
        return Challenge(b"v=" + encode(signature))

    def _signature(self, message: bytes, proof: bytes) -> bytes:
        """Return the server's signature, if the proof is good for one of the keys (section 3)."""
        secret = self._secret
        assert secret is not None, "asked before"
        good = None
        for keys in secret.keys:        # all of them: the time tells no slot
            mine = hmac.digest(keys.stored, message, self._algorithm)
            if len(proof) != len(mine):
                continue
            client = bytes(one ^ other for one, other in zip(mine, proof, strict=True))
            if hmac.compare_digest(self._hash(client), keys.stored):
                good = keys
        if good is None or secret.vouch is None:
            raise LoginRefused("the proof is wrong")
        return hmac.digest(good.server, message, self._algorithm)

    def _hash(self, octets: bytes) -> bytes:
        return hashlib.new(self._algorithm, octets, usedforsecurity=False).digest()

    def _acknowledged(self, message: bytes) -> Step:
        if message:
            raise BadExchange("an answer to the server's signature")
        assert self._secret is not None, "asked before"
        return Attempt(ProvenClaim(self.name, self._secret.vouch))

    def _out_of_turn(self, message: bytes) -> Step:
        raise BadExchange("a response before its challenge")


def _unescaped(saslname: bytes) -> bytes:
    """Return a name with `=2C` and `=3D` as comma and equals sign. Raises: BadExchange, for another `=`."""
    def octet(found: re.Match[bytes]) -> bytes:
        if found[1] is None:
            raise BadExchange("a name with a bare =")
        return b"," if found[1] == b"2C" else b"="

    return _ESCAPE.sub(octet, saslname)
