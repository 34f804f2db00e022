"""Connections that end where they should not, stand still, or come twice."""

from __future__ import annotations

import time
from collections.abc import Callable

from mailgate.conformance.connection import Closed, Connection, WireFault
from mailgate.conformance.findings import Finding, Level, Table, expect, skip
from mailgate.conformance.maildrop import unique_ids
from mailgate.conformance.target import is_busy
from mailgate.conformance.visit import Visit

TABLE = Table("hostile")
MUST, SHOULD, ADVICE = Level.MUST, Level.SHOULD, Level.ADVICE
SECTION = "RFC 1939 section 6"
UNLOCK_SECONDS = 10.0       # a mail program that comes again that soon should be let in
RETRY_SECONDS = 0.1
STALLED_RETRS = 20


@TABLE.add("HOSTILE-RESET", MUST, SECTION, "A reset connection removes nothing")
def reset_removes_nothing(v: Visit) -> None:
    """Mark a message that may be lost, reset the connection, and look in the next session."""
    one, = v.expendable()
    session = v.login()
    expect(session.ask(f"DELE {v.number(session, one)}").ok, "DELE is refused")
    session.reset()
    expect(one in unique_ids(v.login()), "the marked message is gone, though there was no QUIT")


@TABLE.add("HOSTILE-HALF-QUIT", MUST, SECTION, "Half a QUIT is none")
def half_a_quit(v: Visit) -> None:
    """Mark a message, send QUIT without its line end, close; the message is there in the next session."""
    one, = v.expendable()
    session = v.login()
    expect(session.ask(f"DELE {v.number(session, one)}").ok, "DELE is refused")
    session.send(b"QUIT")
    session.drop()
    expect(one in unique_ids(v.login()), "the marked message is gone, though there was no QUIT")


@TABLE.add("HOSTILE-RETR-DROP", MUST, SECTION, "A connection that breaks in RETR removes nothing")
def drop_in_retr(v: Visit) -> None:
    """RETR of the largest message, close after its first octets; the next session has all messages."""
    session = v.login()
    largest = v.readable(session)[-1].number
    before = list(unique_ids(session))
    session.say(f"RETR {largest}")
    session.some(1)
    session.drop()
    after = list(unique_ids(v.login()))
    expect(set(before) <= set(after), f"{len(set(before) - set(after))} messages are gone")


@TABLE.add("HOSTILE-RETR-RESET", MUST, SECTION, "A reset in RETR with a mark set removes nothing")
def reset_in_retr(v: Visit) -> None:
    """DELE of a message that may be lost, RETR of the largest other, reset; the next session has all."""
    one, = v.expendable()
    session = v.login()
    before = list(unique_ids(session))
    number = v.number(session, one)
    largest = next((other.number for other in reversed(v.readable(session)) if other.number != number), None)
    if largest is None:
        skip("there is no other message")
    expect(session.ask(f"DELE {number}").ok, "DELE is refused")
    session.say(f"RETR {largest}")
    session.some(1)
    session.reset()
    after = list(unique_ids(v.login()))
    expect(set(before) <= set(after), f"{len(set(before) - set(after))} messages are gone")


def _drops(session: Connection) -> None:
    session.drop()


def _resets(session: Connection) -> None:
    session.reset()


@TABLE.add("HOSTILE-UNLOCK-1", SHOULD, "RFC 1939 section 4",
           "A closed connection does not hold the lock for long")
def unlocked_by_close(v: Visit) -> None:
    """Log in, close without QUIT, and log in again until it works: within 10 s."""
    _unlocks(v, _drops)


@TABLE.add("HOSTILE-UNLOCK-2", SHOULD, "RFC 1939 section 4",
           "A reset connection does not hold the lock for long")
def unlocked_by_reset(v: Visit) -> None:
    """Log in, reset the connection, and log in again until it works: within 10 s."""
    _unlocks(v, _resets)


def _unlocks(v: Visit, end: Callable[[Connection], None]) -> None:
    end(v.login())
    began = time.monotonic()
    while True:
        connection = v.connect()
        reply = v.try_login(connection)
        waited = time.monotonic() - began
        if reply.ok:
            v.remark = f"let in after {waited:.2f} s"
            return
        connection.leave()
        expect(is_busy(reply), f"the login is answered by {reply}", MUST)
        expect(waited < UNLOCK_SECONDS, f"still locked after {waited:.0f} s: {reply}")
        time.sleep(RETRY_SECONDS)


@TABLE.add("HOSTILE-LOGIN-DROP", SHOULD, "RFC 1939 section 4",
           "A client that leaves during its login leaves no lock")
def drop_in_login(v: Visit) -> None:
    """USER and PASS in one segment and the end of the connection, five times; then a login works soon."""
    if v.met.by_sasl:
        skip("USER is refused")
    v.login().leave()
    head = b"USER " + v.target.user + b"\r\n"
    for _ in range(5):
        connection = v.connect()
        connection.send(head + v.password_line() + b"\r\n", head + b"PASS ****\r\n")
        connection.drop()
    _unlocks(v, _drops)


@TABLE.add("HOSTILE-AUTH-DROP", MUST, "RFC 5034 section 4",
           "A client that leaves in an exchange does no harm")
def drop_in_auth(v: Visit) -> None:
    """AUTH PLAIN, a challenge, the end of the connection; then a login works."""
    connection = v.connect()
    reply = connection.ask("AUTH PLAIN", seconds=v.target.pace.login_seconds)
    if not reply.raw.startswith(b"+ "):
        skip(f"AUTH PLAIN is answered by {reply}")
    connection.drop()
    v.login()


@TABLE.add("HOSTILE-QUIT-DROP", SHOULD, SECTION, "QUIT counts, though nobody waits for its answer")
def drop_after_quit(v: Visit) -> None:
    """Mark two messages that may be lost, QUIT and close at once: both are gone, or (a warning) none is."""
    both = set(v.expendable(2))
    session = v.login()
    for one in both:
        expect(session.ask(f"DELE {v.number(session, one)}").ok, "DELE is refused")
    session.say("QUIT")
    session.drop()
    left = both & set(unique_ids(v.login()))
    expect(len(left) != 1, "one of two marked messages is gone", MUST)
    expect(not left, "nothing was removed")


@TABLE.add("HOSTILE-HALF-CLOSE", SHOULD, SECTION, "A client that has nothing more to say is still answered")
def half_closed(v: Visit) -> None:
    """STAT and QUIT in one segment, then the client's half is closed: both are answered."""
    session = v.login()
    if session.tls is not None:
        skip("inside TLS there is no half")
    session.send(b"STAT\r\nQUIT\r\n")
    session.half_close()
    for word in ("STAT", "QUIT"):
        try:
            reply = session.reply()
        except WireFault as fault:
            raise Finding(f"{word}: {fault}") from None
        expect(reply.ok, f"{word} is answered by {reply}")


@TABLE.add("HOSTILE-SECOND", MUST, "RFC 1939 section 4", "A second session does not disturb the first")
def second_session(v: Visit) -> None:
    """Mark a message, log in beside it (whatever comes of it) and leave; the mark and QUIT count."""
    one, = v.expendable()
    session = v.login()
    count, _ = v.stat(session)
    expect(session.ask(f"DELE {v.number(session, one)}").ok, "DELE is refused")
    second = v.connect()
    v.try_login(second)
    second.leave()
    expect(v.stat(session)[0] == count - 1, "the mark is lost")
    expect(v.quit(session).ok, "QUIT is refused")
    expect(one not in unique_ids(v.login()), "the message is still there")


@TABLE.add("HOSTILE-CONNECTIONS", MUST, "RFC 1939 section 4", "Connections that say nothing do no harm")
def idle_connections(v: Visit) -> None:
    """Twenty connections, closed or reset without a word, one after the other; then a login works."""
    for place in range(20):
        connection = v.dial()
        (_resets if place % 2 else _drops)(connection)
    v.still_serves()
    v.login()


@TABLE.add("HOSTILE-STALL", MUST, "RFC 2449 section 6.6", "A client that reads late loses nothing")
def reads_late(v: Visit) -> None:
    """20 RETRs of the largest message sent at once, read only after a second: all come, and whole."""
    v.needs("PIPELINING")
    session = v.login()
    largest = v.readable(session)[-1]
    session.send(b"RETR %d\r\n" % largest.number * STALLED_RETRS)
    time.sleep(1.0)
    for place in range(STALLED_RETRS):
        reply = session.reply(multi=True)
        expect(reply.ok, f"RETR {place + 1} of {STALLED_RETRS} is answered by {reply}")
        expect(reply.octets == largest.size, f"RETR {place + 1} sent {reply.octets} octets of {largest.size}")
    v.in_step(session, "RETRs")


@TABLE.add("HOSTILE-DROP-STALLED", MUST, SECTION, "A client that leaves without reading does no harm")
def leaves_unread(v: Visit) -> None:
    """20 RETRs of the largest message at once, nothing read, the connection reset; then a login works."""
    session = v.login()
    largest = v.readable(session)[-1]
    session.send(b"RETR %d\r\n" % largest.number * STALLED_RETRS)
    time.sleep(0.2)
    session.reset()
    v.still_serves()
    _unlocks(v, _drops)


@TABLE.add("HOSTILE-MANY-MARKS", MUST, SECTION, "Marks of one session are not seen by another")
def marks_are_private(v: Visit) -> None:
    """Mark a message, drop, and see in the next session that it is shown, read and not marked."""
    one, = v.expendable()
    session = v.login()
    expect(session.ask(f"DELE {v.number(session, one)}").ok, "DELE is refused")
    session.drop()
    try:
        session = v.login()
        number = v.number(session, one)
        expect(session.ask(f"RETR {number}", multi=True).ok, "RETR of it is refused")
        expect(session.ask(f"LIST {number}").ok, "LIST of it is refused")
    except Closed as fault:
        raise Finding(str(fault)) from None
