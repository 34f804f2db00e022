"""USER, PASS and APOP (RFC 1939 section 7), and what is said of refused logins."""

from __future__ import annotations

import hashlib
import re

from mailgate.conformance.connection import Connection
from mailgate.conformance.findings import Level, Table, expect, skip
from mailgate.conformance.target import is_busy
from mailgate.conformance.visit import Visit

TABLE = Table("full")
MUST, SHOULD, ADVICE = Level.MUST, Level.SHOULD, Level.ADVICE
WRONG = "PASS not the password of this account"
UNKNOWN = "no-such-user-here"
TIMESTAMP = re.compile(rb"<[^<>@\s]+@[^<>@\s]+>")


@TABLE.add("RFC1939-7-LOGIN", MUST, "RFC 1939 section 7",
           "The account can log in, once and again", profile="basic")
def login(v: Visit) -> None:
    """Log in as the suite does (USER and PASS, or AUTH PLAIN), NOOP, QUIT; twice."""
    for _ in range(2):
        session = v.login()
        expect(session.ask("NOOP").ok, "NOOP after the login is refused")
        session.leave()


@TABLE.add("RFC1939-7-PASS-1", MUST, "RFC 1939 section 7", "A wrong password is refused, and opens nothing",
           profile="basic")
def wrong_password(v: Visit) -> None:
    """USER, a wrong PASS, then STAT; the account can log in afterwards."""
    connection = with_user(v)
    reply = connection.ask(WRONG, seconds=v.target.pace.login_seconds)
    expect(not reply.ok, f"a wrong password is answered by {reply}")
    if not connection.is_closed(v.quiet_seconds):
        expect(not connection.ask("STAT").ok, "STAT works after a refused login")
    v.login()


@TABLE.add("RFC1939-7-PASS-2", MUST, "RFC 1939 section 7", "PASS without USER is refused")
def pass_alone(v: Visit) -> None:
    """PASS with the right password as the first command."""
    connection = v.connect()
    reply = connection.ask(v.password_line(), shown="PASS ****")
    expect(not reply.ok, f"PASS without USER is answered by {reply}")


@TABLE.add("RFC1939-7-PASS-3", SHOULD, "RFC 1939 section 7", "PASS counts only right behind USER")
def pass_later(v: Visit) -> None:
    """USER, then a command that there is not, then PASS with the right password."""
    connection = with_user(v)
    connection.ask("XNOSUCH")
    reply = connection.ask(v.password_line(), shown="PASS ****", seconds=v.target.pace.login_seconds)
    connection.logged_in = reply.ok
    expect(not reply.ok, f"PASS behind another command is answered by {reply}")


@TABLE.add("RFC1939-7-USER-1", ADVICE, "RFC 1939 section 13", "USER does not tell which names there are")
def user_tells_nothing(v: Visit) -> None:
    """USER with a name that there surely is not: the answer is that of a known name."""
    with_user(v).leave()
    reply = v.connect().ask(f"USER {UNKNOWN}")
    expect(reply.ok, f"USER with an unknown name is answered by {reply}")


@TABLE.add("RFC1939-7-USER-2", ADVICE, "RFC 1939 section 13",
           "An unknown name is refused as a wrong password is")
def unknown_user(v: Visit) -> None:
    """USER and PASS with an unknown name, and with a wrong password: the two refusals have the same words."""
    answers = []
    for name in (v.target.user, UNKNOWN.encode()):
        connection = v.connect()
        if not connection.ask(b"USER " + name).ok:
            skip("USER is refused")
        answers.append(connection.ask(WRONG, seconds=v.target.pace.login_seconds))
        connection.leave()
    expect(not answers[1].ok, f"an unknown user is answered by {answers[1]}", MUST)
    expect(re.sub(rb"\d+", b"", answers[0].raw) == re.sub(rb"\d+", b"", answers[1].raw),
           f"they differ: {answers[0]} and {answers[1]}")


@TABLE.add("RFC1939-7-RETRY", MUST, "RFC 1939 section 7",
           "After a refusal a login on the same connection works")
def again(v: Visit) -> None:
    """A wrong PASS, then the right login on the same connection; a server may close it instead."""
    connection = with_user(v)
    connection.ask(WRONG, seconds=v.target.pace.login_seconds)
    if connection.is_closed(v.quiet_seconds):
        v.remark = "the server closes the connection after one wrong password"
        return
    reply = v.try_login(connection)
    expect(reply.ok or is_busy(reply), f"the right login after a wrong one is answered by {reply}")


@TABLE.add("RFC1939-7-APOP-1", MUST, "RFC 1939 section 7",
           "A timestamp for APOP is another in every greeting")
def apop_timestamps(v: Visit) -> None:
    """Three greetings: each has a msg-id, and no two the same. Skipped where APOP is not offered."""
    seen = set()
    for _ in range(3):
        connection = v.connect()
        seen.add(timestamp(connection))
        connection.leave()
    expect(len(seen) == 3, "the same timestamp came twice")


@TABLE.add("RFC1939-7-APOP-2", MUST, "RFC 1939 section 7", "APOP lets in who knows the secret")
def apop(v: Visit) -> None:
    """APOP with the right digest. Skipped where it is refused: the account may have no secret for it."""
    connection = v.connect()
    digest = hashlib.md5(timestamp(connection) + v.target.password, usedforsecurity=False).hexdigest()
    reply = connection.ask(b"APOP " + v.target.user + b" " + digest.encode(), shown="APOP ****",
                           seconds=v.target.pace.login_seconds)
    connection.logged_in = reply.ok
    if not reply.ok:
        skip(f"refused: {reply}")
    connection.ask("STAT")


@TABLE.add("RFC1939-7-APOP-3", MUST, "RFC 1939 section 7", "APOP with a wrong digest is refused")
def apop_wrong(v: Visit) -> None:
    """APOP with a digest of something else; where it is not offered it must be refused as well."""
    connection = v.connect()
    reply = connection.ask(b"APOP " + v.target.user + b" " + b"0" * 32, seconds=v.target.pace.login_seconds)
    expect(not reply.ok, f"APOP with a wrong digest is answered by {reply}")


@TABLE.add("RFC3206-6-AUTH-1", MUST, "RFC 3206 section 6",
           "With AUTH-RESP-CODE a wrong password is refused by [AUTH]",
           profile="extensions")
def code_for_passwords(v: Visit) -> None:
    """A wrong PASS. Skipped where AUTH-RESP-CODE is not announced."""
    v.needs("AUTH-RESP-CODE")
    reply = with_user(v).ask(WRONG, seconds=v.target.pace.login_seconds)
    expect(not reply.ok and reply.code.startswith(b"AUTH"), f"a wrong password is answered by {reply}")


@TABLE.add("RFC3206-6-AUTH-2", MUST, "RFC 3206 section 6",
           "[AUTH] tells of nothing but credentials", profile="extensions")
def code_for_others(v: Visit) -> None:
    """A locked maildrop, an unknown command, USER: none of their refusals has [AUTH]."""
    v.needs("AUTH-RESP-CODE")
    v.login()
    second = v.connect()
    for reply in (second.ask("XNOSUCH"), second.ask("STAT"), v.try_login(second)):
        expect(reply.ok or not reply.code.startswith(b"AUTH"), f"[AUTH] stands in {reply}")


@TABLE.add("RFC2449-8-IN-USE", MUST, "RFC 2449 section 8.1.2",
           "With RESP-CODES a locked maildrop is told by [IN-USE]",
           profile="extensions")
def code_for_locks(v: Visit) -> None:
    """A second login beside the first. Skipped where RESP-CODES is not announced, or both are let in."""
    v.needs("RESP-CODES")
    v.login()
    reply = v.try_login(v.connect())
    if reply.ok:
        skip("a second session is let in")
    expect(reply.code == b"IN-USE", f"a locked maildrop is told by {reply}", SHOULD)


@TABLE.add("RFC2449-8-WRONG-IN-USE", MUST, "RFC 2449 section 8.1.2",
           "[IN-USE] is not told to who has the wrong password",
           profile="extensions")
def no_lock_told(v: Visit) -> None:
    """A wrong PASS while a session holds the maildrop."""
    v.needs("RESP-CODES")
    v.login()
    reply = with_user(v).ask(WRONG, seconds=v.target.pace.login_seconds)
    expect(not reply.ok, "a wrong password is let in")
    expect(reply.code != b"IN-USE", f"a wrong password is answered by {reply}")


def with_user(v: Visit) -> Connection:
    """Return a connection on which USER was taken. Raises: Skipped."""
    connection = v.connect()
    reply = connection.ask(b"USER " + v.target.user)
    if not reply.ok:
        skip(f"USER is answered by {reply}")
    return connection


def timestamp(connection: Connection) -> bytes:
    """Return what the greeting gives for APOP. Raises: Skipped."""
    assert connection.greeting is not None
    found = TIMESTAMP.search(connection.greeting.raw)
    if found is None:
        skip("the greeting has no timestamp: APOP is not offered")
    return found[0]
