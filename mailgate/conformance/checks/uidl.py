"""Unique-ids (RFC 1939 section 7)."""

from __future__ import annotations

import re

from mailgate.conformance.connection import Connection
from mailgate.conformance.findings import Level, Table, expect, skip
from mailgate.conformance.maildrop import unique_ids
from mailgate.conformance.visit import Visit

TABLE = Table("full")
MUST, SHOULD, ADVICE = Level.MUST, Level.SHOULD, Level.ADVICE
SECTION = "RFC 1939 section 7"


def _listed(session: Connection) -> list[tuple[bytes, bytes]]:
    """Return the lines of UIDL, cut at the first space. Raises: Skipped."""
    reply = session.ask("UIDL", multi=True)
    if not reply.ok:
        skip(f"there is no UIDL: {reply}")
    return [(line.partition(b" ")[0], line.partition(b" ")[2]) for line in reply.lines]


@TABLE.add("RFC1939-7-UIDL-1", MUST, SECTION, "UIDL lists the messages that LIST lists", profile="basic")
def uidl(v: Visit) -> None:
    """UIDL and LIST in one session have the same numbers."""
    session = v.login()
    numbers = [one.number for one in v.listing(session)]
    listed = _listed(session)
    expect([one[0] for one in listed] == [b"%d" % number for number in numbers],
           f"UIDL has {len(listed)} lines, LIST {len(numbers)}, or their numbers differ")


@TABLE.add("RFC1939-7-UIDL-2", MUST, SECTION,
           "UIDL with a number is one line, as in the listing", profile="basic")
def uidl_one(v: Visit) -> None:
    """UIDL n for a few messages."""
    session = v.login()
    for number, unique_id in _listed(session)[:5] or skip("the maildrop is empty"):
        reply = session.ask(b"UIDL " + number)
        expect(reply.ok and reply.text == number + b" " + unique_id,
               f"the listing has {number.decode()} {unique_id!r}; UIDL n is answered by {reply}")
    v.in_step(session, "UIDL with a number")


@TABLE.add("RFC1939-7-UIDL-3", MUST, SECTION,
           "A unique-id stays the same from session to session", profile="basic")
def uidl_stable(v: Visit) -> None:
    """UIDL in three sessions; the second ends without QUIT."""
    session = v.login()
    first = dict(_listed(session))
    v.quit(session)
    session = v.login()
    second = dict(_listed(session))
    session.drop()
    third = dict(_listed(v.login()))
    expect(set(first.values()) <= set(second.values()), "unique-ids changed after a session with QUIT")
    expect(set(second.values()) <= set(third.values()), "unique-ids changed after a session without QUIT")


@TABLE.add("RFC1939-7-UIDL-4", MUST, SECTION, "A unique-id is 1 to 70 octets between 0x21 and 0x7E")
def uidl_form(v: Visit) -> None:
    """UIDL: every line is looked at."""
    wrong = [unique_id for _, unique_id in _listed(v.login()) if not re.fullmatch(rb"[!-~]{1,70}", unique_id)]
    expect(not wrong, f"{len(wrong)} are not: {wrong[:3]!r}")


@TABLE.add("RFC1939-7-UIDL-5", SHOULD, SECTION, "No unique-id comes twice in a maildrop")
def uidl_unique(v: Visit) -> None:
    """UIDL, also with two copies of one message where some can be delivered."""
    if v.own.can_deliver:
        sample = v.own.make()[0]
        if v.own.put(sample) and v.own.put(sample):
            v.own.find(v, {sample.name})
    ids = [unique_id for _, unique_id in _listed(v.login())]
    expect(len(set(ids)) == len(ids), f"{len(ids) - len(set(ids))} come more than once")


@TABLE.add("RFC1939-7-UIDL-6", MUST, SECTION, "UIDL is without marked messages")
def uidl_marked(v: Visit) -> None:
    """DELE, then UIDL and UIDL n; RSET brings it back with the id that it had."""
    one, = v.expendable()
    with v.session() as session:
        before = _listed(session)
        number = v.number(session, one)
        expect(session.ask(f"DELE {number}").ok, "DELE is refused")
        expect(b"%d" % number not in dict(_listed(session)), "UIDL lists a marked message")
        expect(not session.ask(f"UIDL {number}").ok, "UIDL n of a marked message is not refused")
        expect(session.ask("RSET").ok, "RSET is refused")
        expect(_listed(session) == before, "UIDL is another after RSET")


@TABLE.add("RFC1939-7-UIDL-7", SHOULD, SECTION, "A removed message's unique-id is not given again")
def uidl_not_reused(v: Visit) -> None:
    """Remove a message, deliver an exact copy of it, and compare their unique-ids."""
    if not v.own.can_deliver:
        skip("needs --deliver")
    one, = v.expendable()
    name = next(name for name, unique_id in v.own.ids.items() if unique_id == one)
    session = v.login()
    _listed(session)
    content = session.ask(f"RETR {(number := v.number(session, one))}", multi=True).content
    expect(session.ask(f"DELE {number}").ok, "DELE is refused")
    v.quit(session)
    v.own.forget(name)
    again = v.own.make()[0]._replace(name=name)
    again = again._replace(content=content[content.index(b"From: conformance@"):])
    if not v.own.put(again) or not v.own.find(v, {name}):
        skip("the copy could not be delivered")
    expect(v.own.ids[name] != one, "the copy has the unique-id of the message that was removed")


@TABLE.add("RFC1939-7-UIDL-8", MUST, SECTION, "Removing a message leaves the others' unique-ids alone")
def uidl_others(v: Visit) -> None:
    """Remove a message, and compare the ids of all others."""
    one, = v.expendable()
    session = v.login()
    before = {unique_id for _, unique_id in _listed(session)}
    expect(session.ask(f"DELE {v.number(session, one)}").ok, "DELE is refused")
    v.quit(session)
    after = set(map(str.encode, unique_ids(v.login())))
    expect(before - {one.encode()} <= after, "unique-ids of other messages changed")
