"""STAT, LIST, RETR, DELE, NOOP, RSET (RFC 1939 section 5)."""

from __future__ import annotations

import re

from mailgate.conformance.findings import Level, Table, expect, skip
from mailgate.conformance.maildrop import unique_ids
from mailgate.conformance.visit import Visit

TABLE = Table("full")
MUST, SHOULD, ADVICE = Level.MUST, Level.SHOULD, Level.ADVICE
SECTION = "RFC 1939 section 5"


@TABLE.add("RFC1939-5-STAT-1", MUST, SECTION, "STAT gives two numbers", profile="basic")
def stat(v: Visit) -> None:
    """STAT: +OK, one space, the number of messages, one space, their octets."""
    reply = v.login().ask("STAT")
    expect(re.match(rb"\+OK \d+ \d+(\s|$)", reply.raw), f"STAT is answered by {reply}")


@TABLE.add("RFC1939-5-STAT-2", ADVICE, SECTION, "STAT gives nothing behind the two numbers")
def stat_alone(v: Visit) -> None:
    """STAT: the line ends behind the octets."""
    reply = v.login().ask("STAT")
    expect(re.fullmatch(rb"\+OK \d+ \d+\r\n", reply.raw), f"STAT is answered by {reply}")


@TABLE.add("RFC1939-5-STAT-3", MUST, SECTION, "STAT and LIST agree", profile="basic")
def stat_and_list(v: Visit) -> None:
    """As many lines in LIST as STAT says, and as many octets in all."""
    session = v.login()
    count, octets = v.stat(session)
    listed = v.listing(session)
    expect(count == len(listed), f"STAT says {count} messages, LIST has {len(listed)}")
    total = sum(one.size for one in listed)
    expect(octets == total, f"STAT says {octets} octets, the sizes in LIST are {total}")


@TABLE.add("RFC1939-5-LIST-1", MUST, SECTION, "LIST numbers the messages from 1", profile="basic")
def list_numbers(v: Visit) -> None:
    """LIST in a new session: the numbers are 1 to n, in order."""
    numbers = [one.number for one in v.listing(v.login())]
    expect(numbers == list(range(1, len(numbers) + 1)), f"the numbers are {numbers[:10]}")


@TABLE.add("RFC1939-5-LIST-2", MUST, SECTION,
           "LIST with a number is one line, as in the listing", profile="basic")
def list_one(v: Visit) -> None:
    """LIST n for a few messages."""
    session = v.login()
    for number, size in v.listing(session)[:5] or skip("the maildrop is empty"):
        reply = session.ask(f"LIST {number}")
        expect(reply.ok and reply.text.split(b" ")[:2] == [b"%d" % number, b"%d" % size],
               f"the listing has {number} {size}; LIST {number} is answered by {reply}")
    v.in_step(session, "LIST with a number")


@TABLE.add("RFC1939-5-LIST-3", MUST, SECTION, "An empty maildrop has a listing without lines")
def list_empty(v: Visit) -> None:
    """Where only messages of the suite are there: mark all, then LIST, UIDL and STAT; take it back."""
    with v.session() as session:
        ids = unique_ids(session)
        if ids and not (v.target.allow_delete or set(ids) <= v.own.seen):
            skip("the maildrop has foreign mail")
        for number in ids.values():
            expect(session.ask(f"DELE {number}").ok, f"DELE {number} is refused")
        expect(v.listing(session) == [], "LIST has lines, though all messages are marked")
        expect(v.stat(session) == (0, 0), f"STAT says {v.stat(session)}, though all messages are marked")
        reply = session.ask("UIDL", multi=True)
        expect(not reply.lines, "UIDL has lines, though all messages are marked")
        expect(session.ask("RSET").ok, "RSET is refused")


@TABLE.add("RFC1939-5-NUMBERS-1", MUST, SECTION, "A number that there is not is refused", profile="basic")
def no_such_message(v: Visit) -> None:
    """LIST, RETR, DELE of the number behind the last."""
    session = v.login()
    none = max((one.number for one in v.listing(session)), default=0) + 1
    for word in ("LIST", "RETR", "DELE"):
        reply = session.ask(f"{word} {none}")
        expect(not reply.ok, f"{word} {none} is answered by {reply}")


@TABLE.add("RFC1939-5-NUMBERS-2", MUST, SECTION, "There is no message 0")
def no_message_zero(v: Visit) -> None:
    """LIST, RETR, DELE, UIDL, TOP with 0."""
    session = v.login()
    for word in ("LIST 0", "RETR 0", "DELE 0", "UIDL 0", "TOP 0 0"):
        reply = session.ask(word)
        expect(not reply.ok, f"{word} is answered by {reply}")


@TABLE.add("RFC1939-5-RETR-1", MUST, SECTION,
           "RETR sends a message up to a line of a dot, and nothing behind it",
           profile="basic")
def retr(v: Visit) -> None:
    """RETR of a few messages, each followed by NOOP."""
    session = v.login()
    for number, _ in v.readable(session):
        reply = session.ask(f"RETR {number}", multi=True)
        expect(reply.ok, f"RETR {number} is answered by {reply}")
        v.in_step(session, f"RETR {number}")


@TABLE.add("RFC1939-5-RETR-2", MUST, SECTION, "The same message is the same twice")
def retr_twice(v: Visit) -> None:
    """RETR of a message twice in a session, and in another."""
    session = v.login()
    number = v.readable(session)[0].number
    first = session.ask(f"RETR {number}", multi=True).content
    expect(session.ask(f"RETR {number}", multi=True).content == first, "the second RETR sent something else")
    session.leave()
    again = v.login().ask(f"RETR {number}", multi=True).content
    expect(again == first, "in the next session RETR sent something else", ADVICE)


@TABLE.add("RFC1939-5-RETR-3", MUST, SECTION, "Reading removes nothing")
def retr_keeps(v: Visit) -> None:
    """RETR of a message that may be lost, QUIT; the next session has it, unless EXPIRE 0 is announced."""
    if v.met.argument("EXPIRE").split(" ")[0] == "0":
        skip("EXPIRE 0 is announced")
    one, = v.expendable()
    session = v.login()
    expect(session.ask(f"RETR {v.number(session, one)}", multi=True).ok, "RETR is refused")
    v.quit(session)
    expect(one in unique_ids(v.login()), "the message is gone, though it was only read")


@TABLE.add("RFC1939-5-SIZE", MUST, "RFC 1939 sections 5 and 11",
           "The size in LIST is what RETR sends", profile="basic")
def sizes(v: Visit) -> None:
    """RETR of a few messages: octets with CRLF at the line ends, without stuffed dots and the last line."""
    session = v.login()
    wrong = []
    for number, size in v.readable(session):
        sent = session.ask(f"RETR {number}", multi=True).octets
        if sent != size:
            wrong.append(f"message {number} has {size} in LIST, RETR sent {sent}")
    expect(not wrong, "; ".join(wrong))


@TABLE.add("RFC1939-5-DELE-1", MUST, SECTION, "A marked message is not shown any more", profile="basic")
def dele(v: Visit) -> None:
    """DELE of a message that may be lost: LIST and STAT are without it, RETR and LIST n refuse it; RSET."""
    one, = v.expendable()
    with v.session() as session:
        count, octets = v.stat(session)
        number = v.number(session, one)
        size = v.size(session, number)
        reply = session.ask(f"DELE {number}")
        expect(reply.ok, f"DELE is answered by {reply}")
        expect(number not in [one.number for one in v.listing(session)], "LIST still has the marked message")
        for word in (f"RETR {number}", f"LIST {number}"):
            expect(not session.ask(word).ok, f"{word} of a marked message is not refused")
        left = v.stat(session)
        expect(left == (count - 1, octets - size),
               f"STAT said {count} {octets}; without a message of {size} octets it says {left[0]} {left[1]}")


@TABLE.add("RFC1939-5-DELE-2", MUST, SECTION, "A marked message cannot be marked again")
def dele_twice(v: Visit) -> None:
    """DELE twice; the second is refused."""
    one, = v.expendable()
    with v.session() as session:
        number = v.number(session, one)
        expect(session.ask(f"DELE {number}").ok, "DELE is refused")
        reply = session.ask(f"DELE {number}")
        expect(not reply.ok, f"the second DELE is answered by {reply}")


@TABLE.add("RFC1939-5-DELE-3", MUST, SECTION, "The other messages keep their numbers")
def dele_keeps_numbers(v: Visit) -> None:
    """DELE of the first of two messages: the second is in LIST as before, by its number."""
    first, second = v.expendable(2)
    with v.session() as session:
        number, other = v.number(session, first), v.number(session, second)
        before = dict(v.listing(session))
        content = session.ask(f"RETR {other}", multi=True).content
        expect(session.ask(f"DELE {number}").ok, "DELE is refused")
        del before[number]
        expect(dict(v.listing(session)) == before, "LIST shows other numbers or sizes after DELE")
        expect(session.ask(f"RETR {other}", multi=True).content == content,
               "a number means another message after DELE")


@TABLE.add("RFC1939-5-NOOP", MUST, SECTION, "NOOP does nothing", profile="basic")
def noop(v: Visit) -> None:
    """NOOP between two STATs."""
    session = v.login()
    before = v.stat(session)
    expect(session.ask("NOOP").ok, "NOOP is refused")
    expect(v.stat(session) == before, "STAT is another after NOOP")


@TABLE.add("RFC1939-5-RSET-1", MUST, SECTION, "RSET takes every mark back", profile="basic")
def rset(v: Visit) -> None:
    """DELE of two messages, RSET: STAT and LIST are as before, RETR works."""
    with_two = v.expendable(2)
    with v.session() as session:
        before = v.stat(session), v.listing(session)
        numbers = [v.number(session, one) for one in with_two]
        for number in numbers:
            expect(session.ask(f"DELE {number}").ok, "DELE is refused")
        expect(session.ask("RSET").ok, "RSET is refused")
        expect((v.stat(session), v.listing(session)) == before, "STAT or LIST is another after RSET")
        expect(session.ask(f"RETR {numbers[0]}", multi=True).ok, "RETR after RSET is refused")


@TABLE.add("RFC1939-5-RSET-2", MUST, SECTION, "What RSET took back is not removed by QUIT")
def rset_then_quit(v: Visit) -> None:
    """DELE, RSET, QUIT, and a look in the next session."""
    one, = v.expendable()
    session = v.login()
    expect(session.ask(f"DELE {v.number(session, one)}").ok, "DELE is refused")
    expect(session.ask("RSET").ok, "RSET is refused")
    v.quit(session)
    expect(one in unique_ids(v.login()), "the message is gone")


@TABLE.add("RFC1939-7-TOP-1", MUST, "RFC 1939 section 7", "TOP n 0 is the header and the empty line")
def top_header(v: Visit) -> None:
    """RETR and TOP n 0 of a few messages are compared."""
    session = v.login()
    for number, _ in v.readable(session):
        whole = session.ask(f"RETR {number}", multi=True).lines
        top = session.ask(f"TOP {number} 0", multi=True)
        if not top.ok:
            skip(f"there is no TOP: {top}")
        head = whole[:whole.index(b"") + 1] if b"" in whole else whole
        # where there is no empty line at all, some add one
        expect(_same_but_marks(top.lines, head) or (b"" not in whole and top.lines == [*whole, b""]),
               f"TOP {number} 0 sent {len(top.lines)} lines, the header with its empty line has {len(head)}")


@TABLE.add("RFC1939-7-TOP-2", MUST, "RFC 1939 section 7", "TOP n k has k lines of the body, or all there are")
def top_lines(v: Visit) -> None:
    """TOP with 1, 2, 10 and 99999999 lines of a few messages."""
    session = v.login()
    for number, _ in v.readable(session):
        whole = session.ask(f"RETR {number}", multi=True).lines
        if b"" not in whole:
            continue
        head = whole.index(b"") + 1
        for count in (1, 2, 10, 99_999_999):
            top = session.ask(f"TOP {number} {count}", multi=True)
            if not top.ok and count == 1:
                skip(f"there is no TOP: {top}")
            wanted = whole[:head + count]
            expect(_same_but_marks(top.lines, wanted),
                   f"TOP {number} {count} sent {len(top.lines)} lines, {len(wanted)} were expected")


@TABLE.add("RFC1939-7-TOP-3", MUST, "RFC 1939 section 7", "TOP refuses what there is not")
def top_refuses(v: Visit) -> None:
    """TOP without lines, with -1 lines, with a word, and of the number behind the last."""
    session = v.login()
    listed = v.listing(session)
    if not listed or not session.ask("TOP 1 0", multi=True).ok:
        skip("there is no TOP, or no message")
    for word in ("TOP 1", "TOP 1 -1", "TOP 1 many", f"TOP {listed[-1].number + 1} 0"):
        reply = session.ask(word)
        expect(not reply.ok, f"{word} is answered by {reply}")
    v.in_step(session, "refused TOPs")


def _same_but_marks(one: list[bytes], other: list[bytes]) -> bool:
    """Whether lines are the same but for the Status fields that reading changes in some mailboxes."""
    return _without(one) == _without(other)


def _without(lines: list[bytes]) -> list[bytes]:
    return [line for line in lines if not re.match(rb"(?:X-)?Status:", line, re.I)]
