"""Sessions: greeting, states, QUIT, the lock, broken connections (RFC 1939 sections 3, 4 and 6)."""

from __future__ import annotations

from mailgate.conformance.findings import Level, Table, expect, skip
from mailgate.conformance.maildrop import unique_ids
from mailgate.conformance.target import is_busy
from mailgate.conformance.visit import Visit

TABLE = Table("full")
MUST, SHOULD, ADVICE = Level.MUST, Level.SHOULD, Level.ADVICE


@TABLE.add("RFC1939-4-GREETING", MUST, "RFC 1939 section 4", "The greeting is one positive line",
           profile="basic")
def greeting(v: Visit) -> None:
    """Connect, take the first line, and see that nothing follows it before something is said."""
    connection = v.connect_plain()
    assert connection.greeting is not None
    expect(connection.greeting.ok, f"the greeting is {connection.greeting}")
    expect(not connection.rest()[0], "more than one line came before anything was said")


@TABLE.add("RFC1939-4-QUIT", MUST, "RFC 1939 section 4", "QUIT before a login is answered and closes",
           profile="basic")
def quit_early(v: Visit) -> None:
    """Connect, QUIT, and wait for the end of the connection."""
    connection = v.connect()
    reply = connection.ask("QUIT")
    expect(reply.ok, f"QUIT is answered by {reply}")
    expect(connection.is_closed(), "the connection stays open after QUIT")


@TABLE.add("RFC1939-6-QUIT-1", MUST, "RFC 1939 section 6", "QUIT after a login is answered and closes",
           profile="basic")
def quit_late(v: Visit) -> None:
    """Log in, QUIT, and wait for the end of the connection."""
    session = v.login()
    reply = session.ask("QUIT")
    expect(reply.ok, f"QUIT is answered by {reply}")
    expect(session.is_closed(), "the connection stays open after QUIT")


@TABLE.add("RFC1939-6-QUIT-2", MUST, "RFC 1939 section 6", "QUIT removes what was marked, and nothing else",
           profile="basic")
def quit_removes(v: Visit) -> None:
    """Mark one message that may be lost, QUIT, and compare the unique-ids of the next session."""
    lost, kept = v.expendable(2)
    session = v.login()
    before = list(unique_ids(session))
    reply = session.ask(f"DELE {v.number(session, lost)}")
    expect(reply.ok, f"DELE is answered by {reply}")
    reply = v.quit(session)
    expect(reply.ok, f"QUIT is answered by {reply}")
    after = list(unique_ids(v.login()))
    expect(lost not in after, "the message that was marked is still there after QUIT")
    expect(kept in after, "QUIT removed a message that was not marked")
    expect(set(before) - {lost} <= set(after), "QUIT removed messages that were not marked")


@TABLE.add("RFC1939-6-QUIT-3", MUST, "RFC 1939 section 6", "QUIT removes all that was marked, at once")
def quit_removes_all(v: Visit) -> None:
    """Mark the first and the last of three messages, QUIT, look; numbers then run from 1 again."""
    first, middle, last = v.expendable(3)
    session = v.login()
    for one in (first, last):
        expect(session.ask(f"DELE {v.number(session, one)}").ok, "DELE is refused")
    expect(v.quit(session).ok, "QUIT is refused")
    session = v.login()
    after = unique_ids(session)
    expect(first not in after and last not in after, "not all marked messages were removed")
    expect(middle in after, "a message that was not marked was removed")
    numbers = [one.number for one in v.listing(session)]
    expect(numbers == list(range(1, len(numbers) + 1)), f"the numbers are not 1 to n: {numbers[:10]}")


@TABLE.add("RFC1939-6-DROP", MUST, "RFC 1939 section 6", "A session without QUIT removes nothing",
           profile="basic")
def drop_removes_nothing(v: Visit) -> None:
    """Mark a message that may be lost, close the connection without QUIT, and look in the next session."""
    one, = v.expendable()
    session = v.login()
    expect(session.ask(f"DELE {v.number(session, one)}").ok, "DELE is refused")
    session.drop()
    expect(one in unique_ids(v.login()), "the marked message is gone, though there was no QUIT")


@TABLE.add("RFC1939-3-UNKNOWN-1", MUST, "RFC 1939 section 3",
           "An unknown command is refused, the session goes on",
           profile="basic")
def unknown_command(v: Visit) -> None:
    """Before and after a login: a command that there is not, then one that there is."""
    connection = v.connect()
    reply = connection.ask("XNOSUCH")
    expect(not reply.ok, f"XNOSUCH is answered by {reply}")
    expect(v.try_login(connection).ok, "after an unknown command the login fails")
    reply = connection.ask("XNOSUCH word")
    expect(not reply.ok, f"XNOSUCH is answered by {reply}")
    v.in_step(connection, "an unknown command")


@TABLE.add("RFC1939-3-KEYWORDS", MUST, "RFC 1939 section 3",
           "Keywords are the same in capitals and small letters",
           profile="basic")
def keywords(v: Visit) -> None:
    """noop, sTaT and List after a login."""
    session = v.login()
    for word in ("noop", "sTaT", "Noop"):
        expect(session.ask(word).ok, f"{word} is refused")
    expect(session.ask("List", multi=True).ok, "List is refused")


@TABLE.add("RFC1939-3-STATE-1", MUST, "RFC 1939 section 3",
           "Commands of the TRANSACTION state are refused before a login")
def state_before(v: Visit) -> None:
    """STAT, LIST, RETR, DELE, NOOP, RSET, TOP, UIDL without a login, on two connections."""
    for words in (("STAT", "LIST", "RETR 1", "DELE 1"), ("NOOP", "RSET", "TOP 1 0", "UIDL")):
        connection = v.connect()
        for word in words:
            reply = connection.ask(word)
            # NOOP before a login harms nobody
            expect(not reply.ok, f"{word} before a login is answered by {reply}",
                   SHOULD if word == "NOOP" else None)
        connection.leave()


@TABLE.add("RFC1939-3-STATE-2", MUST, "RFC 1939 section 3", "Commands of a login are refused after one")
def state_after(v: Visit) -> None:
    """USER, PASS and APOP after a login."""
    session = v.login()
    for word in ("USER somebody", "PASS something", "APOP somebody c4c9334bac560ecc979e58001b3e22fb"):
        reply = session.ask(word)
        expect(not reply.ok, f"{word.split()[0]} after a login is answered by {reply}")
    v.in_step(session, "a second login")


@TABLE.add("RFC1939-3-ARGS-1", MUST, "RFC 1939 section 3", "Missing arguments are refused")
def arguments_missing(v: Visit) -> None:
    """RETR, DELE, TOP without any, TOP with one."""
    session = v.login()
    for word in ("RETR", "DELE", "TOP", "TOP 1"):
        reply = session.ask(word)
        expect(not reply.ok, f"{word} is answered by {reply}")
    v.in_step(session, "commands without their arguments")


@TABLE.add("RFC1939-3-ARGS-2", ADVICE, "RFC 1939 section 3", "Surplus arguments are refused")
def arguments_surplus(v: Visit) -> None:
    """STAT, NOOP, RSET with an argument that they do not have."""
    session = v.login()
    taken = [word for word in ("STAT 1", "NOOP now", "RSET 1") if session.ask(word).ok]
    v.in_step(session, "commands with surplus arguments")
    expect(not taken, f"taken: {', '.join(taken)}")


@TABLE.add("RFC1939-3-ONE-LINE", MUST, "RFC 1939 section 3",
           "A refusal is one line, also where success has many")
def refusals_are_lines(v: Visit) -> None:
    """RETR, TOP, LIST, UIDL of a message that there is not; each followed by NOOP."""
    session = v.login()
    none = max((one.number for one in v.listing(session)), default=0) + 1
    for word in (f"RETR {none}", f"TOP {none} 0", f"LIST {none}", f"UIDL {none}"):
        reply = session.ask(word)
        expect(not reply.ok, f"{word} is answered by {reply}")
        v.in_step(session, word)


@TABLE.add("RFC1939-4-LOCK-1", MUST, "RFC 1939 section 4", "A maildrop is open to one session at a time")
def lock(v: Visit) -> None:
    """Log in, then try to log in a second time beside it; the first session must stay in working order."""
    first = v.login()
    count = v.stat(first)
    second = v.connect()
    reply = v.try_login(second)
    expect(v.stat(first) == count, "the second login changed what the first session sees")
    expect(not reply.ok, "a second session was let in beside the first")


@TABLE.add("RFC1939-4-LOCK-2", MUST, "RFC 1939 section 4", "After a refused lock the connection can go on")
def lock_refused(v: Visit) -> None:
    """Log in twice; on the refused connection QUIT is answered, or the server has closed it."""
    v.login()
    second = v.connect()
    if v.try_login(second).ok:
        skip("a second session is let in")
    if second.is_closed(v.quiet_seconds):
        v.remark = "the server closes the connection"
        return
    expect(second.ask("QUIT").ok, "QUIT after a refused lock is refused")


@TABLE.add("RFC1939-4-LOCK-3", MUST, "RFC 1939 section 4", "QUIT releases the lock before it is answered")
def lock_released(v: Visit) -> None:
    """Log in, QUIT, log in at once on a new connection; three times."""
    for _ in range(3):
        session = v.login()
        expect(session.ask("QUIT").ok, "QUIT is refused")
        reply = v.try_login(next_one := v.connect())
        expect(reply.ok or not is_busy(reply), f"right after the reply to QUIT: {reply}", SHOULD)
        expect(reply.ok, f"the second login is answered by {reply}")
        next_one.leave()


@TABLE.add("RFC1939-4-NEW-MAIL", MUST, "RFC 1939 section 4",
           "Mail that arrives during a session shows in the next")
def new_mail(v: Visit) -> None:
    """Deliver a message while a session is open: its numbers and counts stay, and the next session has it."""
    if not v.own.can_deliver:
        skip("needs --deliver")
    session = v.login()
    count, listed = v.stat(session), v.listing(session)
    sample, = v.own.make()
    if not v.own.put(sample):
        skip(v.own.missing[sample.name])
    expect(v.stat(session) == count, "STAT changed during the session")
    expect(v.listing(session) == listed, "LIST changed during the session")
    expect(not session.ask(f"RETR {max((one.number for one in listed), default=0) + 1}").ok,
           "the new message can be read in the session that was open")
    session.leave()
    expect(v.own.find(v, {sample.name}), "the new message never showed in a later session")
