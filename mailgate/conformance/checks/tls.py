"""STLS, TLS from the start, certificates (RFC 2595, 7817, 8314)."""

from __future__ import annotations

import datetime
import ssl
import warnings

from mailgate.conformance.connection import Closed, Connection, Refused, Silent, WireFault
from mailgate.conformance.findings import Finding, Level, Table, expect, skip
from mailgate.conformance.visit import Visit

TABLE = Table("tls")
MUST, SHOULD, ADVICE = Level.MUST, Level.SHOULD, Level.ADVICE
SECTION = "RFC 2595 section 4"
DAYS_LEFT = 14


def _in_clear(v: Visit) -> Connection:
    """Return a connection that could begin TLS. Raises: Skipped."""
    if v.target.tls == "implicit":
        skip("TLS is on from the start")
    connection = v.connect_plain()
    if "STLS" not in v.capabilities(connection):
        skip("STLS is not announced")
    return connection


def _secured(v: Visit, *, verify: bool | None = None) -> Connection:
    """Return a connection inside TLS, either way. Raises: Skipped, Finding."""
    connection = v.connect_plain() if v.target.tls == "implicit" else _in_clear(v)
    if v.target.tls != "implicit":
        try:
            v.start_tls(connection, verify=verify)
        except Refused as fault:
            raise Finding(str(fault)) from None
    return connection


def _for_a_login(v: Visit) -> Connection:
    """Return a connection inside TLS to which a password may be said. Raises: Skipped."""
    if v.target.tls != "none":
        return v.connect()
    try:
        # in clear it would have been said as well
        return _secured(v, verify=False)
    except Finding as fault:
        skip(str(fault))


@TABLE.add("RFC2595-4-STLS-1", MUST, SECTION, "STLS begins TLS; no second greeting, and CAPA works")
def stls(v: Visit) -> None:
    """STLS, a handshake, silence, CAPA."""
    connection = _in_clear(v)
    v.start_tls(connection, verify=False)
    expect(not connection.rest()[0], "the server says something before the client does")
    expect(connection.ask("CAPA", multi=True).ok, "CAPA inside TLS is refused")
    assert connection.tls is not None
    v.remark = str(connection.tls.version())


@TABLE.add("RFC2595-4-STLS-2", MUST, SECTION, "STLS has no arguments")
def stls_arguments(v: Visit) -> None:
    """STLS with a word behind it: refused, and the connection stays in clear."""
    connection = _in_clear(v)
    reply = connection.ask("STLS now")
    expect(not reply.ok, f"STLS now is answered by {reply}", SHOULD)


@TABLE.add("RFC2595-4-STLS-3", MUST, SECTION, "STLS is refused after a login")
def stls_late(v: Visit) -> None:
    """STLS in TRANSACTION."""
    session = v.login()
    reply = session.ask("STLS")
    if reply.ok:
        session.drop()
    expect(not reply.ok, f"STLS after the login is answered by {reply}")


@TABLE.add("RFC2595-4-STLS-4", MUST, SECTION, "STLS inside TLS is refused, and not announced")
def stls_twice(v: Visit) -> None:
    """CAPA and STLS inside TLS."""
    connection = _secured(v, verify=False)
    expect("STLS" not in v.capabilities(connection), "STLS is announced inside TLS", SHOULD)
    reply = connection.ask("STLS")
    if reply.ok:
        connection.drop()
    expect(not reply.ok, f"STLS inside TLS is answered by {reply}")


@TABLE.add("RFC2595-4-INJECTION-1", MUST, "RFC 2595 section 4, CVE-2011-0411",
           "What follows STLS in clear is not taken as said inside TLS")
def injection(v: Visit) -> None:
    """STLS and CAPA in one segment, then a handshake: CAPA is never answered, in clear or inside TLS."""
    _inject(v, b"CAPA\r\n")


@TABLE.add("RFC2595-4-INJECTION-2", MUST, "RFC 2595 section 4, CVE-2011-0411",
           "No login begins in clear and ends inside TLS")
def injected_user(v: Visit) -> None:
    """STLS and USER in one segment, a handshake, then PASS: USER is never answered, and PASS refused."""
    connection = _inject(v, b"USER " + v.target.user + b"\r\n")
    if connection is not None:
        reply = connection.ask("PASS somebody's")
        expect(not reply.ok, f"PASS is answered by {reply}")


def _inject(v: Visit, injected: bytes) -> Connection | None:
    connection = _in_clear(v)
    connection.send(b"STLS\r\n" + injected)
    try:
        reply = connection.reply()
    except Closed:
        v.remark = "the server closes the connection"
        return None
    if not reply.ok:
        v.remark = f"STLS is refused then: {reply}"
        return None
    expect(not connection.pending, f"behind the reply to STLS comes {connection.pending[:60]!r}, in clear")
    try:
        connection.start_tls(v.target.context(verify=False), v.target.name)
    except Refused:
        v.remark = "the handshake fails"
        return None
    said, closed = connection.rest(v.quiet_seconds * 2)
    expect(not said, f"what was injected is answered inside TLS: {said[:60]!r}")
    if closed:
        v.remark = "the server closes the connection"
        return None
    reply = connection.ask("XNOSUCH")
    expect(not reply.ok, f"what was injected is answered inside TLS: {reply}")
    expect(not connection.rest()[0], "what was injected is answered inside TLS, late")
    return connection


@TABLE.add("RFC2595-4-FORGET", MUST, SECTION, "What was said before STLS is forgotten")
def forget(v: Visit) -> None:
    """USER in clear, STLS, PASS inside TLS: refused. Skipped where USER is refused in clear."""
    connection = _in_clear(v)
    if not connection.ask(b"USER " + v.target.user).ok:
        skip("USER is refused in clear")
    reply = connection.ask("STLS")
    if not reply.ok:
        v.remark = f"STLS behind USER is refused: {reply}"
        return
    # the password is said to who would have had it in clear anyhow
    connection.start_tls(v.target.context(verify=None if v.target.tls != "none" else False), v.target.name)
    reply = connection.ask(v.password_line(), shown="PASS ****", seconds=v.target.pace.login_seconds)
    connection.logged_in = reply.ok
    expect(not reply.ok, f"PASS behind a USER that was said in clear is answered by {reply}")


@TABLE.add("RFC2595-4-LOGIN", MUST, SECTION, "The account can log in inside TLS, and read")
def login_inside(v: Visit) -> None:
    """A login inside TLS, STAT, LIST, UIDL, RETR of a message if there is one."""
    connection = _for_a_login(v)
    reply = v.try_login(connection)
    if not reply.ok:
        reply = v.try_login(connection, by_sasl=True)
    expect(reply.ok, f"the login is answered by {reply}")
    listed = v.listing(connection)
    expect(connection.ask("STAT").ok, "STAT is refused")
    if listed:
        largest = max((one for one in listed if one.size < 1 << 20), key=lambda one: one.size, default=None)
        if largest is not None:
            sent = connection.ask(f"RETR {largest.number}", multi=True).octets
            expect(sent == largest.size, f"LIST says {largest.size} octets, RETR sent {sent}")
    v.in_step(connection, "RETR")


@TABLE.add("RFC5034-4-PLAIN", MUST, "RFC 5034 section 4",
           "Inside TLS, PLAIN or something stronger is announced")
def plain_inside(v: Visit) -> None:
    """CAPA inside TLS. Skipped where no SASL is announced at all."""
    connection = _secured(v, verify=False)
    listed = v.capabilities(connection)
    if "SASL" not in listed:
        skip("SASL is not announced")
    names = listed["SASL"].upper().split()
    expect("PLAIN" in names, f"SASL {listed['SASL']}")


@TABLE.add("RFC2595-4-NOISE", MUST, "RFC 2595 section 2.5",
           "A failed handshake leads back to no conversation in clear")
def noise(v: Visit) -> None:
    """STLS, then two commands in clear: the server closes, and answers neither."""
    connection = _in_clear(v)
    expect(connection.ask("STLS").ok, "STLS is refused")
    connection.send(b"CAPA\r\nQUIT\r\n")
    said, closed = connection.rest(5.0)
    # one -ERR may tell of the handshake itself
    expect(b"+OK" not in said and said.count(b"-ERR") <= 1, f"commands are answered in clear: {said[-60:]!r}")
    expect(closed, "the connection stays open", ADVICE)
    v.still_serves()


@TABLE.add("RFC8314-4-VERSION-1", MUST, "RFC 8314 section 4", "TLS is 1.2 or newer")
def version(v: Visit) -> None:
    """A handshake with whatever both sides like best."""
    connection = _secured(v, verify=False)
    assert connection.tls is not None
    name = str(connection.tls.version())
    v.remark = f"{name} {(connection.tls.cipher() or ['?'])[0]}"
    expect(name in ("TLSv1.2", "TLSv1.3"), f"it is {name}")


@TABLE.add("RFC8314-4-VERSION-2", MUST, "RFC 8996", "TLS 1.0 and 1.1 are refused")
def old_versions(v: Visit) -> None:
    """A handshake in which the client knows nothing newer than TLS 1.1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            context = v.target.context(verify=False, at_most=ssl.TLSVersion.TLSv1_1)
        except (ssl.SSLError, ValueError) as fault:
            skip(f"this client cannot speak it: {fault}")
    if v.target.tls == "implicit":
        connection = v.dial()
    else:
        connection = _in_clear(v)
        expect(connection.ask("STLS").ok, "STLS is refused")
    try:
        connection.start_tls(context, v.target.name)
    except Refused as fault:
        if "no protocols available" in str(fault).lower() or "no_protocols" in str(fault).lower():
            skip("this client cannot speak it")
        return
    assert connection.tls is not None
    raise Finding(f"{connection.tls.version()} is taken")


@TABLE.add("RFC7817-3-CERTIFICATE", MUST, "RFC 7817 section 3",
           "The certificate is trusted, and names the host")
def certificate(v: Visit) -> None:
    """A handshake that verifies the chain and the name; fails too where --ca or --tls-name is missing."""
    if v.target.tls == "implicit":
        connection = v.dial()
    else:
        connection = _in_clear(v)
        expect(connection.ask("STLS").ok, "STLS is refused")
    try:
        connection.start_tls(v.target.context(verify=True), v.target.name)
    except Refused as fault:
        raise Finding(f"{v.target.name}: {fault}") from None
    assert connection.tls is not None
    found = connection.tls.getpeercert() or {}
    v.remark = f"names {found.get('subjectAltName', ())}"
    ends = datetime.datetime.fromtimestamp(ssl.cert_time_to_seconds(str(found["notAfter"])),
                                           datetime.timezone.utc)
    left = ends - datetime.datetime.now(datetime.timezone.utc)
    expect(left.days >= DAYS_LEFT, f"it ends on {ends.date()}", ADVICE)


@TABLE.add("RFC8314-3.4-CLOSE", SHOULD, "RFC 8314 section 3.4",
           "TLS is closed in order before the connection")
def close_notify(v: Visit) -> None:
    """QUIT inside TLS: the end comes as a close_notify, not as a bare end of the connection."""
    connection = _secured(v, verify=False)
    expect(connection.ask("QUIT").ok, "QUIT is refused")
    try:
        connection.some(1)
    except Silent:
        raise Finding("the connection stays open after QUIT") from None
    except Closed as fault:
        expect("EOF" not in str(fault).upper(), f"the connection ended without it: {fault}")


@TABLE.add("RFC8314-4-STALLED", ADVICE, "RFC 8314 section 4",
           "A client that leaves in its handshake does no harm")
def stalled(v: Visit) -> None:
    """STLS, some octets of a handshake, then nothing and the end; others are served beside it."""
    connection = v.dial() if v.target.tls == "implicit" else _in_clear(v)
    if v.target.tls != "implicit":
        expect(connection.ask("STLS").ok, "STLS is refused")
    connection.send(b"\x16\x03\x01\x02\x00\x01\x00\x01")
    v.still_serves()
    connection.drop()
    v.still_serves()


@TABLE.add("RFC8314-4-CLEAR", ADVICE, "RFC 8314 section 4.1",
           "Away from loopback no password is taken in clear")
def passwords_in_clear(v: Visit) -> None:
    """CAPA in clear: neither USER nor SASL PLAIN or LOGIN is announced. Skipped on loopback."""
    connection = _in_clear(v)
    if v.target.host in ("127.0.0.1", "::1", "localhost"):
        skip("on loopback nobody listens")
    try:
        listed = v.capabilities(connection)
    except WireFault as fault:
        raise Finding(str(fault)) from None
    weak = [name for name in listed.get("SASL", "").upper().split() if name in ("PLAIN", "LOGIN")]
    weak += ["USER"] * ("USER" in listed)
    expect(not weak, f"announced in clear: {' '.join(weak)}")
