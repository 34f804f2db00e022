"""AUTH and its exchanges done wrong: challenges, SCRAM, CRAM-MD5, OAuth, what is announced.

The exchanges are the service's own; here only what is said in them is changed. So a fault that changes what
a digest is made of makes even the right password fail, as it would at a server that has this fault; where the
client should have noticed, it has been found out by then.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from mailgate.testing.trouble import values
from mailgate.testing.trouble.model import REQUIRED, RESPONSE, Instead, Kind, Occasion
from mailgate.testing.trouble.replies import parted

EXCHANGE = ("AUTH", RESPONSE)
LOGINS = ("PASS", "APOP", *EXCHANGE)
CANCELLED = b"-ERR authentication cancelled\r\n"
LONG_OCTETS = 100_000

Rework = Callable[[Occasion, bytes], bytes]


def is_challenge(reply: bytes) -> bool:
    """Return whether a reply wants an answer (RFC 5034 section 4)."""
    return reply.startswith(b"+") and not reply.startswith(b"+OK")


def challenge(data: bytes) -> bytes:
    """Return a challenge as it is said."""
    return b"+ " + base64.b64encode(data) + b"\r\n"


def challenged(reply: bytes) -> bytes | None:
    """Return what a challenge says; None for what is none."""
    if not is_challenge(reply):
        return None
    try:
        return base64.b64decode(reply[1:].strip(), validate=True)
    except binascii.Error:
        return None


# Challenges ---------------------------------------------------------------------------------------


def _replaced(occasion: Occasion, reply: bytes) -> bytes:
    line: bytes = occasion.setting("line")
    return line + b"\r\n"


_CHALLENGES: Mapping[str, Rework] = {
    "malformed": lambda occasion, reply: b"+ no=base64!\r\n",
    "empty": lambda occasion, reply: b"+ \r\n",
    "bare": lambda occasion, reply: b"+" + reply[1:].lstrip(b" "),
    "unended": lambda occasion, reply: reply.rstrip(b"\r\n").rstrip(b"=") + b"\r\n",
    "long": lambda occasion, reply: challenge(b"x" * occasion.setting("size")),
    "replaced": _replaced,
}


def _challenge(occasion: Occasion, reply: bytes) -> bytes:
    how = occasion.setting("how")
    if how == "again":
        return _one_more(occasion, reply)
    return _CHALLENGES[how](occasion, reply) if is_challenge(reply) else reply


def _one_more(occasion: Occasion, reply: bytes) -> bytes:
    if not reply.startswith(b"+OK") or (occasion.verb == "AUTH" and not occasion.argument):
        return reply
    occasion.around.take_response(lambda response: Instead(reply))
    return b"+ \r\n"


def _endless(occasion: Occasion) -> Instead | None:
    if occasion.verb == "AUTH" and not occasion.argument:
        return None                         # the list of mechanisms
    count, around = occasion.setting("count"), occasion.around
    given = 0

    def take(response: bytes) -> Instead:
        nonlocal given
        if response == b"*" and not occasion.setting("deaf"):
            return Instead(CANCELLED)
        if count and given >= count:
            return Instead(b"-ERR [AUTH] authentication failed\r\n")
        given += 1
        around.take_response(take)
        return Instead(challenge(occasion.setting("text") + b" %d" % given))

    return take(b"")


# Mechanisms ---------------------------------------------------------------------------------------


def _mechanisms(occasion: Occasion, reply: bytes) -> bytes:
    parts = parted(reply)
    if (occasion.verb == "AUTH" and occasion.argument) or not parts.end:
        return reply
    if occasion.verb == "AUTH":
        rows = [row.encode() + b"\r\n" for row in _chosen(occasion, _text(parts.content).split())]
        return parts._replace(content=b"".join(rows)).whole
    found = re.search(rb"^SASL ?(.*)\r\n", parts.content, re.MULTILINE)
    words = _chosen(occasion, _text(found[1]).split() if found else [])
    line = b"SASL " + " ".join(words).encode() + b"\r\n" if words else b""
    content = parts.content.replace(found[0], line, 1) if found else parts.content + line
    return parts._replace(content=content).whole


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "replace")


def _chosen(occasion: Occasion, names: list[str]) -> list[str]:
    only, hidden = occasion.setting("only"), {name.upper() for name in occasion.setting("hide")}
    kept = list(only) if only is not None else [name for name in names if name.upper() not in hidden]
    return kept + [name for name in occasion.setting("add") if name not in kept]


def _initial(occasion: Occasion) -> Instead | None:
    if len(occasion.argument.split()) < 2 or occasion.setting("how") == "ignored":
        return None
    return Instead(b"-ERR an initial response is not taken here\r\n")


def _ignore_initial(occasion: Occasion) -> None:
    words = occasion.argument.split()
    if len(words) > 1 and occasion.setting("how") == "ignored":
        occasion.around.have_command(b"AUTH " + words[0])


def _accept(occasion: Occasion) -> None:
    occasion.around.accept_anything()


# SCRAM, CRAM-MD5 ----------------------------------------------------------------------------------


_FIRST: Mapping[str, Callable[[Occasion, re.Match[bytes]], bytes]] = {
    "nonce": lambda occasion, m: b"r=%b,s=%b,i=%b" % (m["nonce"][::-1], m["salt"], m["count"]),
    "iterations": lambda occasion, m: b"r=%b,s=%b,i=%d" % (m["nonce"], m["salt"], occasion.setting("count")),
    "extension": lambda occasion, m: b"m=mandatory," + m[0],
    "salt": lambda occasion, m: b"r=%b,s=,i=%b" % (m["nonce"], m["count"]),
    "malformed": lambda occasion, m: b"r=%b;s=%b;i=%b" % (m["nonce"], m["salt"], m["count"]),
}
_SERVER_FIRST = re.compile(rb"r=(?P<nonce>[^,]+),s=(?P<salt>[^,]+),i=(?P<count>\d+)")


def _scram(occasion: Occasion, reply: bytes) -> bytes:
    how, said = occasion.setting("how"), challenged(reply)
    if said is None:
        return reply
    found = _SERVER_FIRST.fullmatch(said)
    if found is not None and how in _FIRST:
        return challenge(_FIRST[how](occasion, found))
    if not said.startswith(b"v="):
        return reply
    if how == "signature":
        octets = len(said[2:].rstrip(b"=")) * 3 // 4
        return challenge(b"v=" + base64.b64encode(occasion.random.randbytes(octets)))
    if how == "error":
        return challenge(b"e=other-error")
    if how == "unproven":
        occasion.around.say_ahead(b"")      # the answer to the signature that is not shown: it is +OK next
        return b""
    return reply


def _cram(occasion: Occasion, reply: bytes) -> bytes:
    said = challenged(reply)
    if not said or occasion.argument.split()[:1] != [b"CRAM-MD5"]:
        return reply
    occasion.around.say_challenge(occasion.setting("challenge"))
    return challenge(occasion.setting("challenge"))


# OAuth --------------------------------------------------------------------------------------------


def _oauth(occasion: Occasion) -> Instead | None:
    words = occasion.argument.split()
    if not words or words[0].upper().decode("ascii", "replace") not in occasion.setting("mechanisms"):
        return None
    if len(words) > 1:
        return _oauth_error(occasion)
    occasion.around.take_response(lambda response: (
        Instead(CANCELLED) if response == b"*" else _oauth_error(occasion)))
    return Instead(b"+ \r\n")


def _oauth_error(occasion: Occasion) -> Instead:
    """Tell why in JSON, and refuse whatever the client answers to it (RFC 7628 section 3.2.3)."""
    code, words = occasion.setting("code"), occasion.setting("text").encode()
    refusal = Instead(b"-ERR " + (f"[{code}] " if code else "").encode() + words + b"\r\n")
    how = occasion.setting("how")
    if how == "silent":
        return refusal
    told = _told(occasion)
    if how == "broken":
        told = told[:len(told) // 2]
    occasion.around.take_response(lambda response: refusal)
    return Instead(b"+ " + told + b"\r\n" if how == "bare" else challenge(told))


def _told(occasion: Occasion) -> bytes:
    if occasion.setting("json") is not None:
        octets: bytes = occasion.setting("json")
        return octets
    rows = {name: occasion.setting(name) for name in ("status", "schemes", "scope")}
    return json.dumps({name: value for name, value in rows.items() if value}).encode()


def _check_replaced(settings: Mapping[str, Any]) -> str:
    if re.search(rb"[\r\n]", settings["line"]):
        return "line: one line is expected"
    return "line: is missing" if settings["how"] == "replaced" and not settings["line"] else ""


KINDS = (
    Kind("challenge", "Says a challenge of AUTH wrong: `malformed` (no base64), `empty`, `bare` (no blank"
         " behind the plus), `unended` (no = at its end), `long` (base64 of so many octets), `replaced` by a"
         " line, or one challenge `again` when the exchange has succeeded, +OK behind its answer.",
         {"how": (values.choice(*_CHALLENGES, "again"), REQUIRED), "size": (values.whole(1), LONG_OCTETS),
          "line": (values.octets, b"")}, EXCHANGE, rework=_challenge, check=_check_replaced),
    Kind("endless_challenges", "Answers AUTH with challenge on challenge, without an end or so many, until"
         " the client cancels with *; `deaf`: even then.",
         {"count": (values.whole(0), 0), "text": (values.octets, b"one more"),
          "deaf": (values.switch, False)},
         ("AUTH",), instead=_endless),
    Kind("mechanisms", "Hides mechanisms in CAPA and in the list that AUTH alone gives, adds some, or"
         " announces `only` what is given.",
         {"hide": (values.texts, ()), "add": (values.texts, ()), "only": (values.texts, None)},
         ("CAPA", "AUTH"), rework=_mechanisms),
    Kind("initial_response", "An initial response behind AUTH is `refused`, or `ignored`: it is asked for"
         " again.",
         {"how": (values.choice("refused", "ignored"), "refused")}, ("AUTH",), instead=_initial,
         before=_ignore_initial),
    Kind("accept_anything", "Takes any password, digest or proof for an account that exists.", {}, LOGINS,
         before=_accept),
    Kind("scram", "Breaks SCRAM: a wrong `signature` of the server's, an `error` in place of it, or +OK"
         " without it (`unproven`); a `nonce` that is not the client's, so many `iterations` (count), a"
         " mandatory `extension`, no `salt`, or a `malformed` message.",
         {"how": (values.choice("signature", "error", "unproven", *_FIRST), REQUIRED),
          "count": (values.whole(0), 1)}, EXCHANGE, rework=_scram),
    Kind("cram_challenge", "CRAM-MD5 challenges with these octets; the digest over them is the right one.",
         {"challenge": (values.octets, b"no message-id")}, ("AUTH",), rework=_cram),
    Kind("oauth", "Refuses a bearer token: says why in JSON, as a challenge, and -ERR when that is answered;"
         " `bare`: the JSON without base64; `broken`: half of it; `silent`: -ERR at once.",
         {"how": (values.choice("told", "bare", "broken", "silent"), "told"), "status": (values.text, "400"),
          "schemes": (values.text, "Bearer"), "scope": (values.text, "https://mail.example.org/"),
          "json": (values.octets, None), "code": (values.text, "AUTH"),
          "text": (values.text, "login refused"),
          "mechanisms": (values.texts, ("XOAUTH2", "OAUTHBEARER"))},
         ("AUTH",), instead=_oauth),
)
