"""CAPA, and what it announces (RFC 2449, 6856)."""

from __future__ import annotations

import re

from mailgate.conformance.connection import STATUS_OCTETS
from mailgate.conformance.findings import Level, Table, expect, skip
from mailgate.conformance.visit import Visit

TABLE = Table("extensions")
MUST, SHOULD, ADVICE = Level.MUST, Level.SHOULD, Level.ADVICE
REGISTERED = {"TOP", "USER", "SASL", "RESP-CODES", "LOGIN-DELAY", "PIPELINING", "EXPIRE", "UIDL",
              "IMPLEMENTATION", "STLS", "AUTH-RESP-CODE", "UTF8", "LANG"}
MAY_VANISH = {"STLS"}       # announced while it is permitted (RFC 2595 section 4)
LANGUAGE = "RFC 6856 section 3"


@TABLE.add("RFC2449-5-CAPA-1", MUST, "RFC 2449 section 5", "CAPA lists capabilities before a login")
def capa_before(v: Visit) -> None:
    """CAPA on a new connection: lines up to a dot, each begins with a name. Skipped where there is none."""
    connection = v.connect()
    reply = connection.ask("CAPA", multi=True)
    if not reply.ok:
        skip(f"there is no CAPA: {reply}")
    wrong = [line for line in reply.lines if not re.fullmatch(rb"[!-,./0-~][!-~]*( [!-~]+)*", line)]
    expect(not wrong, f"lines that are no capabilities: {wrong[:3]!r}")
    longest = max(map(len, reply.lines), default=0)
    expect(longest + 2 <= STATUS_OCTETS, f"a line has {longest + 2} octets")
    v.in_step(connection, "CAPA")


@TABLE.add("RFC2449-5-CAPA-2", MUST, "RFC 2449 section 5", "CAPA works after a login too")
def capa_after(v: Visit) -> None:
    """CAPA in TRANSACTION."""
    v.capabilities(v.connect())
    session = v.login()
    reply = session.ask("CAPA", multi=True)
    expect(reply.ok, f"CAPA after the login is answered by {reply}")
    v.in_step(session, "CAPA")


@TABLE.add("RFC2449-5-CAPA-3", MUST, "RFC 2449 section 5",
           "What is announced before a login is announced after it")
def capa_stays(v: Visit) -> None:
    """The names of both lists; STLS may be missing, which is only permitted before a login."""
    if v.met.before is None or v.met.after is None:
        skip("there is no CAPA")
    lost = set(v.met.before) - set(v.met.after) - MAY_VANISH
    expect(not lost, f"missing after the login: {', '.join(sorted(lost))}")


@TABLE.add("RFC2449-5-CAPA-4", ADVICE, "RFC 2449 section 9",
           "Names of capabilities are registered, or begin with X")
def capa_names(v: Visit) -> None:
    """CAPA: every name, none of them twice."""
    connection = v.connect()
    reply = connection.ask("CAPA", multi=True)
    if not reply.ok:
        skip("there is no CAPA")
    names = [line.split(b" ")[0].decode("latin-1").upper() for line in reply.lines]
    strange = sorted({name for name in names if name not in REGISTERED and not name.startswith("X")})
    expect(not strange, f"neither: {', '.join(strange)}")
    expect(len(set(names)) == len(names), f"a name comes twice: {' '.join(names)}")


@TABLE.add("RFC2449-6.1-TOP", ADVICE, "RFC 2449 section 6.1",
           "TOP is announced if it works, and works if it is announced")
def announces_top(v: Visit) -> None:
    """TOP 1 0 where there is a message."""
    _announces(v, "TOP", "TOP 1 0")


@TABLE.add("RFC2449-6.8-UIDL", ADVICE, "RFC 2449 section 6.8",
           "UIDL is announced if it works, and works if it is announced")
def announces_uidl(v: Visit) -> None:
    """UIDL."""
    _announces(v, "UIDL", "UIDL")


def _announces(v: Visit, word: str, command: str) -> None:
    session = v.login()
    announced = word in v.capabilities(session)
    if not v.listing(session):
        skip("the maildrop is empty")
    works = session.ask(command, multi=True).ok
    expect(works or not announced, f"{word} is announced and does not work", MUST)
    expect(announced or not works, f"{word} works and is not announced")


@TABLE.add("RFC2449-6.2-USER", MUST, "RFC 2449 section 6.2", "USER is announced where it works")
def announces_user(v: Visit) -> None:
    """CAPA and USER on a new connection, with TLS where it was asked for."""
    connection = v.connect()
    announced = "USER" in v.capabilities(connection)
    reply = connection.ask(b"USER " + v.target.user)
    expect(reply.ok or not announced, f"USER is announced, and answered by {reply}")
    expect(announced or not reply.ok, "USER works and is not announced", ADVICE)


@TABLE.add("RFC2449-6.5-LOGIN-DELAY", MUST, "RFC 2449 section 6.5",
           "LOGIN-DELAY has a number, and perhaps USER")
def login_delay(v: Visit) -> None:
    """The argument in both lists. Skipped where it is not announced."""
    v.needs("LOGIN-DELAY")
    for listed, ending in ((v.met.before, "( USER)?"), (v.met.after, "")):
        said = (listed or {}).get("LOGIN-DELAY")
        expect(said is None or re.fullmatch(rf"\d+{ending}", said), f"LOGIN-DELAY {said}")


@TABLE.add("RFC2449-6.7-EXPIRE", MUST, "RFC 2449 section 6.7",
           "EXPIRE has a number or NEVER, and perhaps USER")
def expire(v: Visit) -> None:
    """The argument in both lists. Skipped where it is not announced."""
    v.needs("EXPIRE")
    for listed, ending in ((v.met.before, "( USER)?"), (v.met.after, "")):
        said = (listed or {}).get("EXPIRE")
        expect(said is None or re.fullmatch(rf"(\d+|NEVER){ending}", said.upper()), f"EXPIRE {said}")


@TABLE.add("RFC2449-6.9-IMPLEMENTATION", MUST, "RFC 2449 section 6.9", "IMPLEMENTATION says something")
def implementation(v: Visit) -> None:
    """The argument of IMPLEMENTATION. Skipped where it is not announced."""
    said = v.needs("IMPLEMENTATION")
    expect(said.strip(), "it is empty")
    v.remark = said


@TABLE.add("RFC2449-6.6-PIPELINING-1", MUST, "RFC 2449 section 6.6",
           "Commands in one segment are answered in order")
def pipelining(v: Visit) -> None:
    """Twenty commands at once, some of them refused, some with many lines."""
    v.needs("PIPELINING")
    session = v.login()
    count, octets = v.stat(session)
    listed = v.listing(session)
    commands = [("STAT", False), ("LIST", True), (f"LIST {count + 1}", False), ("NOOP", False)] * 5
    replies = session.ask_all(commands)
    for (command, _), reply in zip(commands, replies, strict=True):
        wanted = not command.startswith("LIST ")
        expect(reply.ok is wanted, f"{command} in a row is answered by {reply}")
        expect(command != "STAT" or reply.text.split(b" ")[:2] == [b"%d" % count, b"%d" % octets],
               f"STAT in a row is answered by {reply}")
        expect(command != "LIST" or len(reply.lines) == len(listed), "LIST in a row has other lines")
    v.in_step(session, "commands in a row")


@TABLE.add("RFC2449-6.6-PIPELINING-2", MUST, "RFC 2449 section 6.6",
           "Commands behind a login in one segment wait for it")
def pipelined_login(v: Visit) -> None:
    """USER, PASS, STAT, LIST, NOOP, QUIT at once."""
    v.needs("PIPELINING")
    if v.met.by_sasl:
        skip("USER is refused")
    v.login().leave()
    connection = v.connect()
    head = b"USER " + v.target.user + b"\r\n"
    tail = b"\r\nSTAT\r\nLIST\r\nNOOP\r\nQUIT\r\n"
    connection.send(head + v.password_line() + tail, head + b"PASS ****" + tail)
    names = ("USER", "PASS", "STAT", "LIST", "NOOP", "QUIT")
    for name in names:
        reply = connection.reply(multi=name == "LIST", seconds=v.target.pace.login_seconds)
        expect(reply.ok, f"{name} in a row is answered by {reply}")
    expect(connection.is_closed(), "the connection stays open after QUIT")


@TABLE.add("RFC2449-6.6-PIPELINING-3", MUST, "RFC 2449 section 6.6",
           "Commands behind RETR in one segment wait for it")
def pipelined_retr(v: Visit) -> None:
    """RETR and LIST n of a few messages at once, the largest first."""
    v.needs("PIPELINING")
    session = v.login()
    listed = v.readable(session)[::-1]
    commands = [command for number, _ in listed for command in
                ((f"RETR {number}", True), (f"LIST {number}", False), (f"TOP {number} 0", True))]
    replies = session.ask_all(commands)
    for place, (number, _) in enumerate(listed):
        whole, line, _ = replies[place * 3:place * 3 + 3]
        expect(whole.ok, f"RETR {number} in a row is answered by {whole}")
        expect(line.text.split(b" ")[:1] == [b"%d" % number], f"LIST {number} in a row is answered by {line}")
    v.in_step(session, "RETRs in a row")


@TABLE.add("RFC2449-4-LINE", MUST, "RFC 2449 section 4", "A command line of 255 octets is taken")
def long_enough(v: Visit) -> None:
    """A USER line of 255 octets with its end is answered once, and the login works after it."""
    connection = v.connect()
    connection.ask(b"USER " + b"x" * 248)
    surplus, closed = connection.rest()
    expect(not surplus and not closed, "it is answered more than once, or the connection is closed")
    expect(v.try_login(connection).ok, "the login after it fails")


@TABLE.add("RFC6856-2-UTF8-1", MUST, "RFC 6856 section 2", "UTF8 works before a login where it is announced")
def utf8(v: Visit) -> None:
    """UTF8, then a login. Skipped where it is not announced."""
    v.needs("UTF8")
    connection = v.connect()
    reply = connection.ask("UTF8")
    expect(reply.ok or reply.code, f"UTF8 is answered by {reply}", SHOULD)
    expect(v.try_login(connection).ok, "the login after UTF8 fails")
    expect(not connection.ask("UTF8").ok, "UTF8 after the login is not refused")


@TABLE.add("RFC6856-2-UTF8-2", MUST, "RFC 6856 section 2", "UTF8 has no arguments")
def utf8_arguments(v: Visit) -> None:
    """UTF8 with a word behind it."""
    v.needs("UTF8")
    reply = v.connect().ask("UTF8 yes")
    expect(not reply.ok, f"UTF8 yes is answered by {reply}")


@TABLE.add("RFC6856-3-LANG-1", MUST, LANGUAGE, "LANG lists the languages, and takes those that it lists")
def lang(v: Visit) -> None:
    """LANG, LANG with each that is listed, LANG *. Skipped where it is not announced."""
    v.needs("LANG")
    connection = v.connect()
    reply = connection.ask("LANG", multi=True)
    expect(reply.ok and reply.lines, f"LANG is answered by {reply}")
    for line in reply.lines[:5]:
        tag = line.split(b" ")[0]
        expect(connection.ask(b"LANG " + tag).ok, f"LANG {tag!r} is refused, though it is listed")
    expect(connection.ask("LANG *").ok, "LANG * is refused")


@TABLE.add("RFC6856-3-LANG-2", MUST, LANGUAGE, "LANG refuses what it does not know")
def lang_unknown(v: Visit) -> None:
    """LANG with a tag that is nobody's."""
    v.needs("LANG")
    reply = v.connect().ask("LANG x-nobody-speaks-this")
    expect(not reply.ok, f"an unknown language is answered by {reply}")
