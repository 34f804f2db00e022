"""Targets of the room `wire`: lines, dots, headers, PROXY headers, and what is shown of octets."""

from __future__ import annotations

import re

from mailgate.errors import LineTooLong
from mailgate.model import Envelope
from mailgate.wire.dots import DotReader, TopCutter, Unstuffer, WireForm, cut_top, to_wire, unstuff
from mailgate.wire.headers import IncomingHeader, field_text, preamble, received_line
from mailgate.wire.lines import LineFramer
from mailgate.wire.proxy import BINARY_OCTETS, BadHeader, Header, read_header
from mailgate.wire.shown import SHOWN_CHARACTERS, shown
from tests.fuzz.target import Target, chance, hold, one_line, pieces, same

LIMIT = 40      # of a line

MESSAGE = (b"Return-Path: <a@example.org>\r\nReceived: by x\r\n\tfor y\r\nSubject: hello\r\n\r\n"
           b".\r\n..two\r\nline\r\n.three\r\n")


# Lines ------------------------------------------------------------------------------------------


def _framed(parts: list[bytes]) -> list[bytes | None]:
    framer, found = LineFramer(LIMIT), []
    for part in parts:
        framer.feed(part)
        while True:
            try:
                line = framer.next_line()
            except LineTooLong:
                found.append(None)
                continue
            if line is None:
                break
            hold(len(line) < LIMIT, "a line past the limit")
            found.append(line)
        hold(framer.pending < LIMIT, f"{framer.pending} octets are kept of a line of at most {LIMIT}")
    return found


def check_lines(data: bytes) -> None:
    whole = _framed([data])
    same(len(whole), data.count(b"\n"), "lines and line ends")
    same(whole, _framed(pieces(data, chance(data))))


# Dots -------------------------------------------------------------------------------------------


def check_dots(data: bytes) -> None:
    random = chance(data)
    form = WireForm()
    wire = b"".join([form.feed(piece) for piece in pieces(data, random)]) + form.finish()
    same(wire, to_wire(data))
    hold(not wire or wire.endswith(b"\r\n"), "no line end at the end")
    hold(b"\r\n.\r\n" not in b"\r\n" + wire, "the wire form ends a reply")
    hold(not re.search(rb"(?<!\r)\n", wire), "a bare LF")
    same((form.wire_octets, form.octets), (len(wire), len(unstuff(wire))), "octets counted")
    hold(0 <= form.head_octets <= len(wire), "the header's octets")
    undone = Unstuffer()
    same(b"".join([undone.feed(piece) for piece in pieces(wire, random)]), unstuff(wire))
    same(to_wire(unstuff(wire)), wire, "stuffed anew")
    for lines in (0, 1, 3, 10 ** 9):
        cutter = TopCutter(lines)
        same(b"".join([cutter.feed(piece) for piece in pieces(wire, random)]),
             cut_top(wire, form.head_octets, lines), f"TOP {lines}")


def _read_dots(parts: list[bytes]) -> tuple[bytes, bytes | None]:
    reader, content = DotReader(), b""
    for index, part in enumerate(parts):
        content += reader.feed(part)
        if reader.rest is not None:
            return content, reader.rest + b"".join(parts[index + 1:])
    return content, None


def check_dot_reader(data: bytes) -> None:
    content, rest = _read_dots([data])
    parts = pieces(data, chance(data))
    same(_read_dots(parts), (content, rest))
    found = (b"\r\n" + data).find(b"\r\n.\r\n")
    same(None if rest is None else len(data) - len(rest), None if found < 0 else found + 3, "the end")


# Headers ----------------------------------------------------------------------------------------


def _sifted(parts: list[bytes]) -> tuple[bytes, int]:
    header = IncomingHeader()
    passed = []
    for part in parts:
        passed.append(header.feed(part))
        hold(len(header._held) <= 64, f"{len(header._held)} octets of a header are held back")
    return b"".join([*passed, header.finish()]), header.received_fields


def check_incoming_header(data: bytes) -> None:
    passed, fields = _sifted([data])
    same((passed, fields), _sifted(pieces(data, chance(data))))
    head = re.split(rb"(?:\A|\n)\r?\n", passed, maxsplit=1)[0]
    hold(not re.search(rb"(?:\A|\n)return-path:", head, re.IGNORECASE), "a Return-Path passed")
    same(_sifted([passed])[0], passed, "sifted twice")


def check_own_fields(data: bytes) -> None:
    """Nothing a client says of itself or its addresses adds a line, or a control character."""
    sender, _, rest = data.partition(b"\n")
    recipient, _, helo = rest.partition(b"\n")
    random = chance(data)
    own = preamble(Envelope(sender, recipient, 0))
    received = received_line(
        hostname="mail.example.org", protocol=random.choice(("LMTP", "UTF8LMTPS")), delivery_id="id",
        arrived_ms=random.choice((0, 10 ** 12, 253_402_300_799_999)), helo=helo,
        peer=random.choice((None, "203.0.113.7", "fe80::1")), recipient=recipient)
    same(own.count(b"\n"), 2, "lines of the preamble")
    for line in (own + received).split(b"\r\n"):
        hold(not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", line), f"a control character in {line!r}")
        line.decode()
    for line in received.split(b"\r\n")[1:-1]:
        hold(line.startswith(b"\t"), f"a line that is no continuation: {line!r}")
    hold(not re.search(rb"[\x00-\x1f\x7f]", field_text(data)), "a control character in a field")


# PROXY and what is shown ------------------------------------------------------------------------


def check_proxy(data: bytes) -> None:
    """The verdict on a beginning is the verdict on all that begins so; and it comes soon."""
    verdict: object = None
    for at in range(min(len(data), 300) + 1):
        try:
            now: object = read_header(data[:at])
        except BadHeader as fault:
            one_line(str(fault))
            now = BadHeader
        if verdict is not None:
            same(now, verdict, f"with {at} octets")
        verdict = now
    try:
        header = read_header(data)
    except BadHeader:
        return
    if header is None:
        hold(len(data) < 16 + BINARY_OCTETS, "it waits for more than a header has")
        return
    hold(isinstance(header, Header) and 0 < header.octets <= len(data), header)
    same(read_header(data[:header.octets]), header, "without what follows")
    hold(header.host is None or re.fullmatch(r"[0-9a-f.:]+", header.host), header)
    hold(0 <= header.port <= 65535, header)


def check_shown(data: bytes) -> None:
    for octets in (data, data.decode("utf-8", "surrogateescape"), data.decode("latin-1")):
        text = shown(octets)
        one_line(text)
        hold(len(text) <= 10 * SHOWN_CHARACTERS + 30, f"{len(text)} characters")


V2 = b"\r\n\r\n\0\r\nQUIT\n"
PROXY_SEEDS = (
    b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 110\r\nCAPA\r\n", b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n",
    b"PROXY UNKNOWN\r\n", V2 + b"\x21\x11\0\x0c" + bytes(range(12)) + b"QUIT\r\n",
    V2 + b"\x20\0\0\0", V2 + b"\x21\x21\0\x24" + bytes(range(36)),
    V2 + b"\x21\x31\0\xd8" + b"/run/sock".ljust(108, b"\0") * 2,
    V2 + b"\x21\x11\0\x22" + bytes(12) + b"\x20\0\x0d\x01\0\0\0\0\x21\0\x05TLSv1\x03\0\x04abcd\x05\0\0")

TARGETS = {
    "lines": Target(check_lines, (b"USER mrose\r\nPASS secret\r\n", b"x" * 100 + b"\nNOOP\n", b"\r\r\n\n"),
                    (b"\r\n", b"\n", b"\r", b"x" * LIMIT)),
    "dots": Target(check_dots, (MESSAGE, b".", b"a\nb\n\n.c", b"\r.\r\n.\r"),
                   (b"\r\n.\r\n", b".", b"\n.", b"\r", b"\r\n\r\n")),
    "dot-reader": Target(check_dot_reader, (MESSAGE + b".\r\nQUIT\r\n", b"..\r\n.\r\n", b".\r\n"),
                         (b"\r\n.\r\n", b"\n.\n", b"\r.\r", b"..", b".\r")),
    "incoming-header": Target(check_incoming_header,
                              (MESSAGE, b"return-path: <>\n x\n y\nA: b\n\nreturn-path:\n"),
                              (b"\nReturn-Path:", b"\nReceived:", b"\n\n", b"\r\n ", b"\r\n")),
    "own-fields": Target(check_own_fields, (b"a@example.org\nmrose@mail.example.org\nclient.example",
                                            "ä@ö.example\n<x>\n[1.2.3.4]".encode()),
                         (b"\r\n", b"\0", b"\r", b"\t")),
    "proxy": Target(check_proxy, PROXY_SEEDS,
                    (V2, b"PROXY ", b"TCP4", b"TCP6", b"UNKNOWN", b"\r\n", b"::ffff:1.2.3.4",
                                               b"\x21\x11", b"\x03\0\x04", b"\x20\0\x05")),
    "shown": Target(check_shown, (b"mrose", "grüß\u202e\u2028".encode(), b"\x1b[31m\xff\\x"),
                    (b"\\", b"\x1b", b"\xff")),
}
