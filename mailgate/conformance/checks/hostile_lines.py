"""Lines that no client should send: too long, endless, with NULs, in pieces, with wrong arguments."""

from __future__ import annotations

import contextlib

from mailgate.conformance.connection import CRLF, Closed, Connection, Reply, Silent, WireFault
from mailgate.conformance.findings import Finding, Level, Table, expect, skip
from mailgate.conformance.maildrop import unique_ids
from mailgate.conformance.visit import Visit

TABLE = Table("hostile")
MUST, SHOULD, ADVICE = Level.MUST, Level.SHOULD, Level.ADVICE
SECTION = "RFC 1939 section 3"
ENDLESS_OCTETS = 2 << 20
BAD_COMMANDS = 100
STRANGE_NAMES = (b"%s%s%n", b"../../etc/passwd", b"' OR '1'='1", b"*)(uid=*", b"\x1b[2J*")


def _one_answer(v: Visit, connection: Connection, octets: bytes, words: str) -> Reply | None:
    """Send something: one reply at the most, which is returned, or the connection is closed.

    Raises: Finding.
    """
    connection.send(octets)
    try:
        reply = connection.reply(seconds=v.target.pace.bounds.reply_seconds)
    except Closed:
        v.remark = "the server closes the connection"
        return None
    except Silent:
        return None
    surplus, _ = connection.rest()
    expect(not surplus, f"{words} is answered more than once: {reply}, then {surplus[:60]!r}")
    return reply


@TABLE.add("HOSTILE-LONG-1", MUST, "RFC 2449 section 4",
           "An over-long line is answered once, or ends the connection")
def long_line(v: Visit) -> None:
    """Lines of 300, 1,000 and 10,000 octets before a login; then a new connection is served."""
    for octets in (300, 1_000, 10_000):
        connection = v.connect()
        reply = _one_answer(v, connection, b"X" * (octets - 2) + CRLF, f"a line of {octets} octets")
        expect(reply is None or not reply.ok, f"a line of {octets} octets is answered by {reply}")
        connection.leave()
    v.still_serves()


@TABLE.add("HOSTILE-LONG-2", MUST, "RFC 2449 section 4", "The end of an over-long line is no command")
def long_line_end(v: Visit) -> None:
    """After a login, lines that are long with DELE 1, or nothing but DELE 1s: nothing is marked."""
    one, = v.expendable()
    for length in (512, 1024, 4096):
        with v.session() as session:
            number = v.number(session, one)
            before = v.stat(session)
            command = b"DELE %d" % number
            with contextlib.suppress(Closed):
                session.send(b"X" * length + command + CRLF + b"X" * (length - len(command)) + command + CRLF)
                said, closed = session.rest()
                owed, after = ([], before) if closed else v.catch_up(session)
                said += b"".join([reply.raw for reply in owed])
                expect(b"+OK" not in said, f"the end of a line of {length} octets is taken: {said[:60]!r}")
                expect(after == before, "a message is marked")
    expect(one in unique_ids(v.login()), "the message is gone")


@TABLE.add("HOSTILE-ENDLESS", MUST, "RFC 2449 section 4", "A line without an end does no harm")
def endless_line(v: Visit) -> None:
    """Two megabytes without a line end: silence, a refusal or the end; others are served beside it."""
    connection = v.connect()
    with contextlib.suppress(Closed, Silent):
        for _ in range(ENDLESS_OCTETS >> 16):
            connection.send(b"E" * 65536, b"E" * 65536)
    said, _ = connection.rest()
    expect(b"+OK" not in said, f"it is answered by {said[:60]!r}")
    connection.drop()
    v.still_serves()


@TABLE.add("HOSTILE-NUL", MUST, SECTION, "NUL octets are refused, or ignored")
def nul(v: Visit) -> None:
    """NULs alone, inside a command, behind one, and in a name."""
    for line in (b"\0\0\0", b"NO\0OP", b"NOOP\0", b"USER a\0b", b"STAT\0\r\nSTAT"):
        connection = v.connect()
        connection.send(line + CRLF)
        with contextlib.suppress(WireFault):
            connection.reply()
        connection.rest()
        connection.drop()
    v.still_serves()


@TABLE.add("HOSTILE-EIGHT-BIT", MUST, SECTION, "Octets above 127 in a command are refused once")
def eight_bit(v: Visit) -> None:
    """All of them in the place of a command, a name, a number."""
    every = bytes(range(0x80, 0x100))
    connection = v.connect()
    reply = _one_answer(v, connection, every + CRLF, "a line of octets above 127")
    expect(reply is None or not reply.ok, f"it is answered by {reply}")
    session = v.login()
    for line in (b"RETR " + every, b"RETR \xb2", b"LIST \xd9\xa1", b"\xff\xfe\xfd"):
        reply = session.ask(line)
        expect(not reply.ok, f"{line[:12]!r} is answered by {reply}")
    v.in_step(session, "octets above 127")


@TABLE.add("HOSTILE-BARE-LF", ADVICE, SECTION, "A bare LF does not bring replies out of step")
def bare_lf(v: Visit) -> None:
    """STAT behind LF instead of CRLF: one reply or none; the next command with CRLF is answered."""
    session = v.login()
    session.send(b"NOOP\n")
    said, closed = session.rest()
    expect(said.count(b"\r\n") <= 1, f"NOOP with a bare LF is answered by {said[:60]!r}", MUST)
    if closed:
        v.remark = "the server closes the connection"
        return
    if not said:
        v.remark = "no line end"
        session.send(CRLF)
        owed, _ = v.catch_up(session)
        expect(len(owed) <= 2, f"NOOP with a bare LF, and an empty line: {len(owed)} answers", MUST)
    expect(session.ask("NOOP").ok, "the next command is refused", MUST)


@TABLE.add("HOSTILE-BARE-CR", MUST, SECTION, "A bare CR ends no line")
def bare_cr(v: Visit) -> None:
    """STAT, CR, STAT, CRLF: at most one reply."""
    session = v.login()
    _one_answer(v, session, b"NOOP\rNOOP\r\n", "NOOP CR NOOP CRLF")
    v.still_serves()


@TABLE.add("HOSTILE-OCTETS", MUST, SECTION, "Commands in single octets are commands", profile="hostile")
def single_octets(v: Visit) -> None:
    """A login, STAT, LIST and QUIT, every octet in a segment of its own."""
    if v.met.by_sasl:
        skip("USER is refused")
    v.login().leave()
    connection = v.connect()
    connection.drip(b"USER " + v.target.user + CRLF)
    expect(connection.reply().ok, "USER is refused")
    connection.drip(v.password_line() + CRLF, b"PASS ****\r\n")
    reply = connection.reply(seconds=v.target.pace.login_seconds)
    expect(reply.ok, f"PASS is answered by {reply}")
    for word in (b"STAT", b"LIST", b"QUIT"):
        connection.drip(word + CRLF, pause_seconds=0.002)
        reply = connection.reply(multi=word == b"LIST")
        expect(reply.ok, f"{word.decode()} is answered by {reply}")


@TABLE.add("HOSTILE-BEHIND-QUIT", MUST, "RFC 1939 section 6", "What stands behind QUIT is not carried out")
def behind_quit(v: Visit) -> None:
    """QUIT, DELE of a message that may be lost, and QUIT in one segment: one reply, nothing is removed."""
    one, = v.expendable()
    session = v.login()
    number = v.number(session, one)
    session.send(b"QUIT\r\nDELE %d\r\nQUIT\r\n" % number)
    reply = session.reply()
    expect(reply.ok, f"QUIT is answered by {reply}")
    said, _ = session.rest(v.quiet_seconds * 3)
    session.drop()
    expect(not said, f"behind the reply to QUIT comes {said[:60]!r}")
    expect(one in unique_ids(v.login()), "the message is gone")


@TABLE.add("HOSTILE-ARGUMENTS", MUST, SECTION, "Wrong arguments are refused")
def wrong_arguments(v: Visit) -> None:
    """Words, signs, fractions, other bases and huge numbers for message numbers; NOOP behind each."""
    session = v.login()
    for number in ("abc", "-1", "+", "0x", "1.5", "1,2", "%s%n", "'1'", "9" * 19, "9" * 40, "2147483648",
                   "9223372036854775808"):
        for word in ("LIST", "RETR", "UIDL", "TOP"):
            command = f"{word} {number}" + (" 0" if word == "TOP" else "")
            session = _refuses(v, session, command)
    v.in_step(session, "wrong arguments")


@TABLE.add("HOSTILE-ARGUMENTS-2", ADVICE, SECTION, "Message numbers are digits, and nothing else")
def sloppy_arguments(v: Visit) -> None:
    """A sign, leading blanks, a word behind the number, another base: what is read as message 1 is told."""
    session = v.login()
    if not v.listing(session):
        skip("the maildrop is empty")
    taken = []
    for number in ("+1", "1x", "1 2", "0x1", "1.0"):
        reply = session.ask(f"LIST {number}")
        if reply.ok:
            taken.append(f"'{number}'")
    v.in_step(session, "wrong arguments")
    expect(not taken, f"taken: {', '.join(taken)}")


@TABLE.add("HOSTILE-WRAP", MUST, SECTION, "Huge numbers do not come out as small ones")
def wrapping_numbers(v: Visit) -> None:
    """LIST and UIDL with numbers that are 1 in 16 to 64 bits; so DELE, for a message that may be lost."""
    session = v.login()
    if not v.listing(session):
        skip("the maildrop is empty")
    for number in (2**32 + 1, 2**64 + 1, 2**31 + 1, -(2**32) + 1, -(2**64) + 1, 2**16 + 1):
        if number > 0 and any(one.number == number for one in v.listing(session)):
            continue
        for word in ("LIST", "UIDL"):
            session = _refuses(v, session, f"{word} {number}")
    v.in_step(session, "huge numbers")
    session.leave()
    if v.own.can_deliver or v.target.allow_delete:
        one, = v.expendable()
        with v.session() as session:
            number = v.number(session, one)
            for power in (16, 31, 32, 64):
                session = _refuses(v, session, f"DELE {2**power + number}")
            expect(number in [one.number for one in v.listing(session)], "a message is marked")


@TABLE.add("HOSTILE-TOP", MUST, "RFC 1939 section 7", "TOP with a huge number of lines is answered in order")
def huge_top(v: Visit) -> None:
    """TOP 1 with counts around 2**31, 2**32, 2**64 and beyond: the whole message, or a refusal."""
    session = v.login()
    number = v.readable(session)[0].number
    whole = len(session.ask(f"RETR {number}", multi=True).lines)
    for count in (2**31 - 1, 2**31, 2**32, 2**32 + 1, 2**64, 10**40):
        reply = session.ask(f"TOP {number} {count}", multi=True)
        expect(not reply.ok or len(reply.lines) >= whole,
               f"TOP {number} {count} sent {len(reply.lines)} of {whole} lines", SHOULD)
    v.in_step(session, "TOP")


@TABLE.add("HOSTILE-COMMANDS", MUST, SECTION,
           "Many bad commands are refused one by one, or end the connection")
def many_bad(v: Visit) -> None:
    """A hundred unknown commands, one at a time; then a new connection is served."""
    connection = v.connect()
    for count in range(BAD_COMMANDS):
        try:
            reply = connection.ask(f"XBAD{count}")
        except Closed:
            v.remark = f"the server closes the connection after {count}"
            break
        expect(not reply.ok, f"XBAD{count} is answered by {reply}")
    v.still_serves()


@TABLE.add("HOSTILE-BLANKS", ADVICE, SECTION, "Empty lines and blanks around a command do no harm")
def blanks(v: Visit) -> None:
    """An empty line, blanks alone, a blank before and behind NOOP, a TAB: one reply each, or none."""
    session = v.login()
    for line in (b"", b" ", b" NOOP", b"NOOP ", b"NOOP\t", b"\tNOOP", b"LIST  1"):
        session.send(line + CRLF)
        said, closed = session.rest(v.quiet_seconds)
        expect(not closed, f"{line!r} ends the connection")
        said += b"".join([reply.raw for reply in v.catch_up(session)[0]])
        expect(said.count(CRLF) <= 1, f"{line!r} is answered by {said[:60]!r}", MUST)
    expect(session.ask("NOOP").ok, "NOOP after them is refused", MUST)


@TABLE.add("HOSTILE-NAMES", MUST, "RFC 1939 section 7", "Strange login names are refused as others are")
def strange_names(v: Visit) -> None:
    """Names with %, quotes, paths, wildcards, escapes; each with a password; then others are served."""
    for name in STRANGE_NAMES:
        connection = v.connect()
        try:
            reply = connection.ask(b"USER " + name)
            if reply.ok:
                reply = connection.ask("PASS x", seconds=v.target.pace.login_seconds)
                expect(not reply.ok, f"the name {name!r} is let in")
        except Closed:
            v.remark = "the server closes the connection"
        connection.leave()
    v.still_serves()


@TABLE.add("HOSTILE-AUTH-1", MUST, "RFC 5034 section 4", "An endless response to AUTH does no harm")
def endless_response(v: Visit) -> None:
    """AUTH PLAIN, then 200,000 octets of base64: refused once, or the connection ends."""
    connection = v.connect()
    reply = connection.ask("AUTH PLAIN", seconds=v.target.pace.login_seconds)
    if not reply.raw.startswith(b"+ "):
        skip(f"AUTH PLAIN is answered by {reply}")
    with contextlib.suppress(Closed, Silent):
        answer = _one_answer(v, connection, b"QUFB" * 50_000 + CRLF, "the response")
        expect(answer is None or not answer.ok, f"it is answered by {answer}")
    v.still_serves()


@TABLE.add("HOSTILE-FLOOD", MUST, "RFC 2449 section 6.6", "Thousands of commands at once are all answered")
def flood(v: Visit) -> None:
    """5,000 NOOPs sent without reading, where PIPELINING is announced; then all replies are read."""
    v.needs("PIPELINING")
    session = v.login()
    count = 5_000
    session.send(b"NOOP\r\n" * count)
    for place in range(count):
        try:
            reply = session.reply()
        except WireFault as fault:
            raise Finding(f"after {place} replies: {fault}") from None
        expect(reply.ok, f"NOOP {place + 1} is answered by {reply}")
    v.in_step(session, f"{count} NOOPs")


def _refuses(v: Visit, session: Connection, command: str) -> Connection:
    """Say a command that must be refused; log in anew where a server has enough of them."""
    try:
        reply = session.ask(command)
    except Closed:
        session.drop()
        v.remark = "the server closes the connection after some bad commands"
        session = v.login()
        reply = session.ask(command)
    expect(not reply.ok, f"{command} is answered by {reply}")
    return session
