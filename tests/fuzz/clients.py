"""Targets of what reads another server's octets: a POP3 client's conversation, and prints of messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mailgate.importing.matching import PrintReader
from mailgate.pop3 import client
from mailgate.pop3.answers import (
    Reply,
    ServerFault,
    read_capabilities,
    read_counts,
    read_size,
    read_unique_id,
    timestamp,
)
from mailgate.pop3.client import LINE_OCTETS, Broken, ClientSession, Command, Ended, Event, Piece
from tests.fuzz.target import Target, chance, hold, one_line, pieces, same
from tests.fuzz.wire import MESSAGE

MOST = 2000     # octets of content
COMMANDS: Sequence[Callable[[], Command]] = (
    client.capa, client.stat, client.uidl, client.list_, lambda: client.top(1, 0, MOST),
    lambda: client.retr(2, MOST), client.noop, client.quit_)
LAST: Sequence[Callable[[], Command]] = (client.noop, lambda: client.auth_plain(b"mrose", b"s" * 200))

SERVER = (b"+OK ready <1.2@x>\r\n+OK\r\nTOP\r\nPIPELINING\r\n.\r\n+OK 2 320\r\n+OK\r\n1 abc\r\n2 d e\r\n.\r\n"
          b"+OK\r\n1 120\r\n2 200\r\n.\r\n+OK\r\nA: b\r\n\r\n..\r\n.\r\n-ERR no\r\n+OK\r\n+OK\r\n")


def _hear(parts: list[bytes], commands: list[Callable[[], Command]]) -> list[tuple[str, object]]:
    """Return what a server's octets come to: kinds of events with what they hold, pieces joined."""
    session = ClientSession()
    for command in commands:
        session.send(command())
    found: list[tuple[str, object]] = []
    content = b""
    for event in (event for part in parts for event in _received(session, part)):
        hold(not found or found[-1][0] != "Broken", "an event behind the end")
        if isinstance(event, Piece):
            content += event.octets
            hold(len(content) <= MOST, "more content than is allowed")
            continue
        found.append(("content", content))
        content = b""
        if isinstance(event, (Ended, Broken)):
            one_line(str(event.reply) if isinstance(event, Ended) else event.words)
        found.append((type(event).__name__, event[-1]))
    return [*found, ("content", content)]


def _received(session: ClientSession, part: bytes) -> list[Event]:
    events = session.receive(part)
    hold(session._lines.pending <= LINE_OCTETS, "more than a line is kept")
    return events


def check_client(data: bytes) -> None:
    random = chance(data)
    commands = [random.choice(COMMANDS) for _ in range(random.randrange(12))] + [random.choice(LAST)]
    same(_hear([data], commands), _hear(pieces(data, random), commands))


def check_answers(data: bytes) -> None:
    reply = Reply(True, data)
    stamp = timestamp(reply)
    hold(stamp is None or stamp in data, "a timestamp that is not there")
    lines = data.split(b"\n")
    hold(len(read_capabilities(lines).words or ()) <= len(lines), "words out of nothing")
    for read in (lambda: read_counts(reply), lambda: read_size(data), lambda: read_unique_id(data)):
        try:
            number, other = read()
        except ServerFault as fault:
            one_line(str(fault))
        else:
            hold(number >= 0, number)
            hold(other is None or isinstance(other, int) or 0 < len(other) <= 70, other)


# Prints of messages -------------------------------------------------------------------------------


def _print(parts: list[bytes]) -> tuple[Any, int, int]:
    reader = PrintReader()
    for part in parts:
        reader.feed(part)
    return reader.print(), reader.body_octets, reader.body_lines


def check_print(data: bytes) -> None:
    found, body_octets, body_lines = _print([data])
    same((found, body_octets, body_lines), _print(pieces(data, chance(data))))
    same(found.octets + body_octets, len(data), "octets of header and body")
    same(found.lines + body_lines, data.count(b"\n"), "lines of header and body")
    if b"\r" not in data:
        crlf = _print([data.replace(b"\n", b"\r\n")])[0]
        same((crlf.fields, crlf.received), (found.fields, found.received), "in LF and in CRLF")


TARGETS = {
    "pop3-client": Target(check_client, (SERVER, SERVER.replace(b"\r\n", b"\n")),
                          (b"+OK\r\n", b"-ERR ", b"+ ", b".\r\n", b"\r\n.\r\n", b"\n.\n", b"..", b"\r", b"\n",
                           b"x" * LINE_OCTETS)),
    "pop3-answers": Target(check_answers, (b"[IN-USE] busy <1.2@x>", b"1 120 octets", b"2 whqtswO00WBw",
                                           b"SASL PLAIN\nTOP"),
                           (b"<", b">", b"@", b" ", b"\t", b"0", b"99999999999999999999", b"\n")),
    "message-print": Target(check_print, (MESSAGE, b"A: b\n c\n\nbody\n", b"\n", b"Received: x\r\n\r\n"),
                            (b"\n\n", b"\r\n\r\n", b"\n ", b":", b"Received:", b"Status: RO\n", b"\r")),
}
