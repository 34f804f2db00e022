"""AUTH (RFC 5034), with PLAIN, LOGIN, CRAM-MD5 and SCRAM (RFC 4616, 2195, 5802)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets

from mailgate.conformance.connection import Connection, Reply
from mailgate.conformance.findings import Level, Table, expect, skip
from mailgate.conformance.target import is_busy
from mailgate.conformance.visit import Visit

TABLE = Table("extensions")
MUST, SHOULD, ADVICE = Level.MUST, Level.SHOULD, Level.ADVICE
SECTION = "RFC 5034 section 4"
MOST_ROUNDS = 1_000_000     # of PBKDF2 that are done for a server


def _mechanism(v: Visit, connection: Connection, *wanted: str) -> str:
    """Return the first of some mechanisms that is announced here. Raises: Skipped."""
    listed = v.capabilities(connection).get("SASL", "").upper().split()
    found = next((one for one in wanted if one in listed), None)
    if found is None:
        skip(f"SASL {' or '.join(wanted)} is not announced here")
    return found


def _any(v: Visit, connection: Connection) -> str:
    """Return a mechanism that waits for a response. Raises: Skipped."""
    return _mechanism(v, connection, "PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "SCRAM-SHA-1")


@TABLE.add("RFC5034-3-SASL-1", MUST, "RFC 5034 section 3", "SASL lists mechanisms by their names")
def sasl_words(v: Visit) -> None:
    """The argument of SASL: names of capitals, digits, hyphens and underscores, 20 octets at most."""
    names = v.needs("SASL").split()
    wrong = [name for name in names if not re.fullmatch(r"[A-Z0-9_-]{1,20}", name)]
    expect(names and not wrong, f"SASL {' '.join(names)}")
    v.remark = " ".join(names)


@TABLE.add("RFC5034-4-AUTH-1", MUST, SECTION, "An unknown mechanism is refused")
def unknown_mechanism(v: Visit) -> None:
    """AUTH with a mechanism that there is not, then a login."""
    connection = v.connect()
    reply = connection.ask("AUTH XNOSUCH")
    expect(not reply.ok and reply.raw.startswith(b"-ERR"), f"AUTH XNOSUCH is answered by {reply}")
    expect(v.try_login(connection).ok, "the login after it fails")


@TABLE.add("RFC5034-4-AUTH-2", MUST, SECTION,
           "PLAIN without an initial response: an empty challenge, then the login")
def plain(v: Visit) -> None:
    """AUTH PLAIN, an empty challenge, the response on a line of its own."""
    connection = v.connect()
    _mechanism(v, connection, "PLAIN")
    connection.say("AUTH PLAIN")
    challenge = connection.challenge()
    expect(challenge == b"+ \r\n", f"AUTH PLAIN is answered by {challenge!r}", None if
           isinstance(challenge, Reply) or challenge.strip() != b"+" else SHOULD)
    _succeeds(v, connection, v.plain())


@TABLE.add("RFC5034-4-AUTH-3", MUST, SECTION, "PLAIN with an initial response")
def plain_at_once(v: Visit) -> None:
    """AUTH PLAIN with the response on the same line; the mechanism in small letters."""
    connection = v.connect()
    _mechanism(v, connection, "PLAIN")
    reply = connection.ask(b"AUTH plain " + v.plain(), shown="AUTH plain ****",
                           seconds=v.target.pace.login_seconds)
    connection.logged_in = reply.ok
    expect(reply.ok, f"it is answered by {reply}")


@TABLE.add("RFC5034-4-AUTH-4", MUST, SECTION, "A client can cancel by a star")
def cancel(v: Visit) -> None:
    """AUTH, a challenge, `*`: refused, and a login on the same connection works."""
    connection = v.connect()
    connection.say(f"AUTH {_any(v, connection)}")
    challenge = connection.challenge()
    expect(not isinstance(challenge, Reply), f"AUTH is answered by {challenge!r}")
    reply = connection.ask("*", seconds=v.target.pace.login_seconds)
    expect(not reply.ok, f"* is answered by {reply}")
    _still_logs_in(v, connection)


@TABLE.add("RFC5034-4-AUTH-5", MUST, SECTION, "What is no base64 is refused")
def no_base64(v: Visit) -> None:
    """Four responses that are none: a foreign octet, `=` in front and inside, a wrong length."""
    for wrong in ("AHVz!ZXIAcGFzcw==", "=AAA", "AAA=BBB=", "AAAAA"):
        connection = v.connect()
        connection.say(f"AUTH {_any(v, connection)}")
        challenge = connection.challenge()
        expect(not isinstance(challenge, Reply), f"AUTH is answered by {challenge!r}")
        reply = connection.ask(wrong, seconds=v.target.pace.login_seconds)
        expect(not reply.ok and not reply.raw.startswith(b"+ "), f"{wrong} is answered by {reply}")
        connection.leave()


@TABLE.add("RFC5034-4-AUTH-6", MUST, SECTION, "An equals sign is an initial response that is empty")
def empty_response(v: Visit) -> None:
    """AUTH PLAIN =: refused, since PLAIN needs more; not answered by a challenge."""
    connection = v.connect()
    _mechanism(v, connection, "PLAIN")
    reply = connection.ask("AUTH PLAIN =", seconds=v.target.pace.login_seconds)
    expect(reply.raw.startswith(b"-ERR"), f"it is answered by {reply}")


@TABLE.add("RFC5034-4-AUTH-7", MUST, SECTION, "CRAM-MD5 with an initial response is refused")
def server_first(v: Visit) -> None:
    """AUTH CRAM-MD5 with a response on the same line. Skipped where it is not announced."""
    connection = v.connect()
    _mechanism(v, connection, "CRAM-MD5")
    reply = connection.ask("AUTH CRAM-MD5 dGltIGE=", seconds=v.target.pace.login_seconds)
    expect(reply.raw.startswith(b"-ERR"), f"it is answered by {reply}")


@TABLE.add("RFC5034-4-AUTH-8", MUST, SECTION,
           "Wrong credentials are refused, and may be followed by right ones")
def wrong_credentials(v: Visit) -> None:
    """AUTH PLAIN with a wrong password, then a login on the same connection."""
    connection = v.connect()
    _mechanism(v, connection, "PLAIN")
    wrong = base64.b64encode(b"\0" + v.target.user + b"\0not the password").decode()
    reply = connection.ask(f"AUTH PLAIN {wrong}", seconds=v.target.pace.login_seconds)
    expect(not reply.ok, f"a wrong password is answered by {reply}")
    _still_logs_in(v, connection)


@TABLE.add("RFC5034-4-AUTH-9", MUST, SECTION, "AUTH after a login is refused")
def auth_again(v: Visit) -> None:
    """AUTH PLAIN in TRANSACTION."""
    session = v.login()
    reply = session.ask("AUTH PLAIN")
    expect(reply.raw.startswith(b"-ERR"), f"it is answered by {reply}")
    v.in_step(session, "AUTH after a login")


@TABLE.add("RFC5034-4-AUTH-10", MUST, SECTION, "A line behind a challenge is a response, not a command")
def no_command(v: Visit) -> None:
    """AUTH, a challenge, QUIT: refused as a response, and the connection stays open."""
    connection = v.connect()
    connection.say(f"AUTH {_any(v, connection)}")
    challenge = connection.challenge()
    expect(not isinstance(challenge, Reply), f"AUTH is answered by {challenge!r}")
    reply = connection.ask("QUIT", seconds=v.target.pace.login_seconds)
    expect(not reply.ok, f"QUIT in the place of a response is answered by {reply}")


@TABLE.add("RFC5034-4-AUTH-11", SHOULD, SECTION,
           "Responses for PLAIN may be as long as RFC 4616 lets them be")
def long_response(v: Visit) -> None:
    """AUTH PLAIN with 255 octets each for both names and the password: one refusal, then a login."""
    connection = v.connect()
    _mechanism(v, connection, "PLAIN")
    connection.say("AUTH PLAIN")
    challenge = connection.challenge()
    expect(not isinstance(challenge, Reply), f"AUTH is answered by {challenge!r}")
    response = base64.b64encode(b"\0".join([b"x" * 255] * 3))
    reply = connection.ask(response, seconds=v.target.pace.login_seconds)
    expect(not reply.ok, f"it is answered by {reply}")
    _still_logs_in(v, connection)


@TABLE.add("RFC4616-2-NUL", MUST, "RFC 4616 section 2",
           "A response for PLAIN with too many NULs, or too few, is refused")
def wrong_nuls(v: Visit) -> None:
    """The right names and password with a NUL more, and with one less."""
    user, password = v.target.user, v.target.password
    for wrong in (b"\0" + user + b"\0" + password + b"\0", user + b"\0" + password):
        connection = v.connect()
        _mechanism(v, connection, "PLAIN")
        reply = connection.ask(b"AUTH PLAIN " + base64.b64encode(wrong), shown="AUTH PLAIN ****",
                               seconds=v.target.pace.login_seconds)
        connection.logged_in = reply.ok
        expect(not reply.ok, f"it is answered by {reply}")
        connection.leave()


@TABLE.add("RFC2195-2-CRAM", MUST, "RFC 2195 section 2",
           "CRAM-MD5: another challenge each time, and the login")
def cram(v: Visit) -> None:
    """Two challenges differ; the response to the second logs in, unless the account has no secret for it."""
    seen = []
    for _ in range(2):
        connection = v.connect()
        _mechanism(v, connection, "CRAM-MD5")
        connection.say("AUTH CRAM-MD5")
        challenge = connection.challenge()
        expect(not isinstance(challenge, Reply), f"AUTH CRAM-MD5 is answered by {challenge!r}")
        assert isinstance(challenge, bytes)
        seen.append(_decoded(challenge))
    expect(seen[0] != seen[1], "the same challenge came twice")
    digest = hmac.new(v.target.password, seen[1], "md5").hexdigest().encode()
    _answers_or_skips(v, connection, v.target.user + b" " + digest)


@TABLE.add("RFC5802-5-SCRAM", MUST, "RFC 5802 section 5", "SCRAM: the server proves itself, too, and lets in")
def scram(v: Visit) -> None:
    """SCRAM-SHA-256 or SCRAM-SHA-1 from end to end, unless the account has no secret for it."""
    connection = v.connect()
    name = _mechanism(v, connection, "SCRAM-SHA-256", "SCRAM-SHA-1")
    kind = "sha256" if name.endswith("256") else "sha1"
    nonce = base64.b64encode(secrets.token_bytes(18))
    bare = b"n=" + v.target.user.replace(b"=", b"=3D").replace(b",", b"=2C") + b",r=" + nonce
    first = _round(connection, f"AUTH {name} ".encode() + base64.b64encode(b"n,," + bare))
    found = re.match(rb"r=([^,]+),s=([^,]+),i=(\d+)", first)
    expect(found, f"the first message is {first!r}")
    assert found is not None
    rounds = int(found[3])
    expect(found[1].startswith(nonce) and found[1] != nonce, "the nonce does not begin with the client's")
    expect(rounds >= 4096, f"the count of rounds is {rounds}", SHOULD)
    expect(rounds <= MOST_ROUNDS, f"the count of rounds is {rounds}")
    salted = hashlib.pbkdf2_hmac(kind, v.target.password, base64.b64decode(found[2]), rounds)
    final = b"c=biws,r=" + found[1]
    message = b",".join([bare, first, final])
    key = hmac.digest(salted, b"Client Key", kind)
    signature = hmac.digest(hashlib.new(kind, key).digest(), message, kind)
    proof = bytes(one ^ other for one, other in zip(key, signature, strict=True))
    connection.send(base64.b64encode(final + b",p=" + base64.b64encode(proof)) + b"\r\n", b"****\r\n")
    challenge = connection.challenge()
    if isinstance(challenge, Reply):
        expect(not challenge.ok, "the server lets in without proving itself")
        skip(f"refused: {challenge}")
    wanted = b"v=" + base64.b64encode(hmac.digest(hmac.digest(salted, b"Server Key", kind), message, kind))
    expect(_decoded(challenge) == wanted, "the server's proof is wrong")
    reply = connection.ask("")
    connection.logged_in = reply.ok
    expect(reply.ok, f"after the server's proof comes {reply}")


def _round(connection: Connection, line: bytes) -> bytes:
    """Send a line, return the challenge. Raises: Skipped, where there is none."""
    connection.say(line)
    challenge = connection.challenge()
    if isinstance(challenge, Reply):
        skip(f"refused: {challenge}")
    return _decoded(challenge)


def _decoded(challenge: bytes) -> bytes:
    """Return what a challenge says. Raises: Finding."""
    expect(challenge.startswith(b"+ ") and challenge.endswith(b"\r\n"), f"a challenge is {challenge!r}")
    try:
        return base64.b64decode(challenge[2:-2], validate=True)
    except binascii.Error:
        expect(False, f"a challenge is no base64: {challenge!r}")
        raise


def _succeeds(v: Visit, connection: Connection, response: bytes) -> None:
    reply = connection.ask(response, shown="****", seconds=v.target.pace.login_seconds)
    connection.logged_in = reply.ok
    expect(reply.ok, f"the right response is answered by {reply}")
    expect(connection.ask("STAT").ok, "STAT after the login is refused")


def _answers_or_skips(v: Visit, connection: Connection, response: bytes) -> None:
    reply = connection.ask(base64.b64encode(response), shown="****", seconds=v.target.pace.login_seconds)
    connection.logged_in = reply.ok
    if not reply.ok:
        skip(f"refused: {reply}")


def _still_logs_in(v: Visit, connection: Connection) -> None:
    reply = v.try_login(connection)
    expect(reply.ok or is_busy(reply), f"the login after it is answered by {reply}")
