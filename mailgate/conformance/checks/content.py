"""What was delivered comes back as it was (RFC 1939 sections 3 and 11)."""

from __future__ import annotations

from collections.abc import Callable

from mailgate.conformance.connection import CRLF
from mailgate.conformance.findings import Level, Table, expect, skip
from mailgate.conformance.record import shown
from mailgate.conformance.samples import split
from mailgate.conformance.visit import Visit

TABLE = Table("full")
MUST, SHOULD, ADVICE = Level.MUST, Level.SHOULD, Level.ADVICE


def _compares(name: str) -> Callable[[Visit], None]:
    def look(v: Visit) -> None:
        _compare(v, name)
    look.__doc__ = f"Deliver the message `{name}`, RETR it, compare the body octet for octet, and the size."
    return look


for _id, _level, _profile, _name, _title in (
        ("RFC1939-5-CONTENT", MUST, "basic", "plain", "A plain message comes as it was delivered"),
        ("RFC1939-3-DOTS-1", MUST, "basic", "dots", "Lines that begin with dots come as they were"),
        ("RFC1939-3-DOTS-2", MUST, "full", "edges", "Dots are stuffed at the edges of buffers too"),
        ("RFC1939-11-LINES", MUST, "full", "lines", "Many lines come as they were"),
        ("RFC1939-11-LONG-1", MUST, "full", "long", "Lines of 998 octets come as they were"),
        ("RFC1939-11-LONG-2", SHOULD, "full", "overlong", "Lines of 70,000 octets come as they were"),
        ("RFC1939-11-EIGHT-BIT", SHOULD, "full", "eight-bit", "Octets above 127 come as they were"),
        ("RFC1939-11-BLANKS", SHOULD, "full", "blanks", "Blanks, empty lines and lines with From stay"),
        ("RFC1939-11-EMPTY-BODY", MUST, "full", "empty-body", "A message without a body can be read"),
        ("RFC1939-11-NO-HEADER", SHOULD, "full", "no-header", "A message without a header can be read"),
        ("RFC1939-11-NO-END", MUST, "full", "no-end", "A last line without an end receives one")):
    TABLE.add(_id, _level, "RFC 1939 sections 3, 5 and 11", _title, profile=_profile)(_compares(_name))


def _compare(v: Visit, name: str) -> None:
    sample = v.own_sample(name)
    session = v.login()
    number = v.number(session, sample)
    size = v.size(session, number)
    reply = session.ask(f"RETR {number}", multi=True)
    expect(reply.ok, f"RETR is answered by {reply}", MUST)
    v.in_step(session, "RETR")
    body = split(reply.content)[1]
    wanted = sample.body if sample.ends or sample.body.endswith(CRLF) else sample.body + CRLF
    expect(body == wanted, f"the body differs: {_difference(body, wanted)}")
    expect(size == reply.octets, f"LIST says {size} octets, RETR sent {reply.octets}", MUST)


def _difference(found: bytes, wanted: bytes) -> str:
    place = next((place for place, (one, other) in enumerate(zip(found, wanted)) if one != other),  # noqa: B905
                 min(len(found), len(wanted)))
    return (f"{len(found)} octets for {len(wanted)}; from octet {place} on "
            f"'{shown(found[place:], 30)}' for '{shown(wanted[place:], 30)}'")


@TABLE.add("RFC1939-11-HEADER-ONLY", MUST, "RFC 1939 sections 5 and 11",
           "A message without an empty line can be read")
def header_only(v: Visit) -> None:
    """Deliver a header without an empty line behind it: RETR has all its lines, its size, and TOP n 0 too."""
    sample = v.own_sample("header-only")
    session = v.login()
    number = v.number(session, sample)
    size = v.size(session, number)
    reply = session.ask(f"RETR {number}", multi=True)
    wanted = sample.content.splitlines()
    expect(all(line in reply.lines for line in wanted), "lines of the header are missing")
    expect(size == reply.octets, f"LIST says {size} octets, RETR sent {reply.octets}")
    top = session.ask(f"TOP {number} 0", multi=True)
    expect(not top.ok or all(line in top.lines for line in wanted), "TOP n 0 lacks lines of the header")
    v.in_step(session, "TOP")


@TABLE.add("RFC1939-7-TOP-4", MUST, "RFC 1939 sections 3 and 7",
           "TOP stuffs dots, and cuts at the line that was asked for")
def top_dots(v: Visit) -> None:
    """TOP with 1 to 10 lines of the message of dots."""
    sample = v.own_sample("dots")
    session = v.login()
    number = v.number(session, sample)
    lines = sample.body.split(CRLF)
    for count in range(1, 11):
        top = session.ask(f"TOP {number} {count}", multi=True)
        if not top.ok:
            skip(f"there is no TOP: {top}")
        found = split(top.content)[1]
        wanted = b"".join([line + CRLF for line in lines[:count]])
        expect(found == wanted, f"TOP n {count}: {_difference(found, wanted)}")
    v.in_step(session, "TOP")


@TABLE.add("RFC1939-5-SIZES", MUST, "RFC 1939 sections 5 and 11", "Sizes are exact for every kind of message")
def all_sizes(v: Visit) -> None:
    """RETR of all messages that were delivered; each size in LIST is compared with the octets that came."""
    if not v.own.can_deliver:
        skip("needs messages of its own: --deliver")
    session = v.login()
    listed = dict(v.listing(session))
    wrong = []
    for name in v.own.wanted:
        if name in v.own.ids:
            number = v.number(session, v.own.wanted[name])
            sent = session.ask(f"RETR {number}", multi=True).octets
            if sent != listed[number]:
                wrong.append(f"{name} has {listed[number]} in LIST, RETR sent {sent}")
    expect(not wrong, "; ".join(wrong))
