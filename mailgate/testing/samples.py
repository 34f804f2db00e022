"""Messages that clients stumble over, by name: what scenarios fill a maildrop with.

    contents("dots")            # one message, with dots at the starts of lines
    contents("plain x 50")      # fifty, each with a number of its own

Every message is made anew from its name and number, the same in every run, its lines ended by CRLF. Its
Message-ID, `<NAME.NUMBER@samples.example.org>`, tells which one it is.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from random import Random

DOMAIN = "samples.example.org"
BUFFER_OCTETS = (1024, 4096, 8192, 16384, 65536)    # sizes of buffers that readers have
MEGABYTE = 1_000_000
NOTHING = "none"            # in the place of a name: the maildrop is empty

Body = Callable[[int], bytes]


def names() -> list[str]:
    """Return the names of all samples, sorted."""
    return sorted(_SAMPLES)


def told(name: str) -> str:
    """Return what a sample is, in one sentence. Raises: LookupError."""
    words = _found(name).__doc__
    assert words is not None
    return words


def contents(name: str, first: int = 1) -> list[bytes]:
    """Return the messages of "NAME" or "NAME x COUNT"; the first gets the number `first`.

    "none" is no message at all.
    Raises: LookupError, for a name that there is not or a count that is none.
    """
    if name == NOTHING:
        return []
    word, times, count = name.partition(" x ")
    make = _found(word)
    if times and (not count.isdecimal() or not int(count)):
        raise LookupError(f"{name}: a number of messages is expected behind the x")
    return [make(number) for number in range(first, first + int(count or 1))]


def all_contents(wanted: tuple[str, ...] | list[str]) -> list[bytes]:
    """Return the messages of several names in order, no two of them with one Message-ID."""
    found: list[bytes] = []
    seen: dict[str, int] = {}
    for name in wanted:
        word = name.partition(" x ")[0]
        some = contents(name, seen.get(word, 0) + 1)
        seen[word] = seen.get(word, 0) + len(some)
        found += some
    return found


def _found(name: str) -> Body:
    if name not in _SAMPLES:
        raise LookupError(f"there is no sample {name!r}; there are {', '.join(names())}")
    return _SAMPLES[name]


# How they are put together ------------------------------------------------------------------------


def head(name: str, number: int, *more: str) -> bytes:
    """Return header lines, and the empty line that ends them."""
    lines = [f"Message-ID: <{name}.{number}@{DOMAIN}>", "From: Ada <ada@example.org>",
             "To: mrose@mail.example.org", f"Subject: {name} {number}",
             f"Date: Mon, 05 Jan 2026 10:{number // 60 % 60:02}:{number % 60:02} +0000", *more]
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


def _lines(*lines: bytes) -> bytes:
    return b"".join(line + b"\r\n" for line in lines)


def _filler(octets: int, seed: object) -> bytes:
    """Return so many octets of lines of 72 letters, no line of them with a dot; the last is shorter."""
    random = Random(f"{seed}")
    row = bytes(random.choices(b"abcdefghijklmnopqrstuvwxyz     ", k=70))
    body = b""
    if octets > 72:
        rows = (octets - 2) // 72
        body = b"".join(b"%s%02d\r\n" % (row[:68], at % 100) for at in range(rows))
    rest = octets - len(body)
    return body + (b"x" * (rest - 2) + b"\r\n" if rest >= 2 else b"")


# The samples --------------------------------------------------------------------------------------


def _plain(number: int) -> bytes:
    """Some lines of text, nothing special."""
    return head("plain", number) + _lines(b"Dear reader,", b"", b"this is message %d." % number, b"Ada")


def _short(number: int) -> bytes:
    """A body of one letter."""
    return head("short", number) + b"x\r\n"


def _empty_body(number: int) -> bytes:
    """Headers, the empty line, and nothing behind it."""
    return head("empty-body", number)


def _headers_only(number: int) -> bytes:
    """Headers without the empty line that ends them."""
    return head("headers-only", number)[:-2]


def _no_final_newline(number: int) -> bytes:
    """A last line that has no end of its own."""
    return head("no-final-newline", number) + b"first line\r\nlast words without an end"


def _dots(number: int) -> bytes:
    """Dots at the starts of lines: one, two, many, with text behind them, in the first line and the last."""
    return head("dots", number) + _lines(b".", b"..", b"...", b".com/page", b"..com/page", b"", b".", b"",
                                         b"in the mid.dle and at the end.", b" .", b". ", b"." * 70, b".")


def _lone_dot(number: int) -> bytes:
    """A line of one dot, and behind it text that looks like the replies of a server."""
    return head("lone-dot", number) + _lines(
        b"before the dot", b".", b"+OK message 1 deleted", b"+OK 2 messages", b"1 120", b"2 200", b".",
        b"-ERR no such message", b"+OK bye", b"behind the dot")


def _replies(number: int) -> bytes:
    """A body that looks like the replies of a server, without dots."""
    return head("replies", number) + _lines(b"+OK", b"-ERR no", b"+ ", b"+OK 3 messages", b"1 a", b"2 b",
                                            b"-ERR [IN-USE] locked", b"QUIT", b"+OK bye")


def _dots_at_buffers(number: int) -> bytes:
    """Lines of one dot and of two, a hundred octets of them wherever a buffer of 1 KiB to 64 KiB may end."""
    text = head("dots-at-buffers", number)
    for edge in sorted({*BUFFER_OCTETS, *(2 * size for size in BUFFER_OCTETS[:-1])}):
        text += _filler(edge - 96 - len(text), edge) + b".\r\n..\r\n" * 14
    return text + _lines(b"the end.")


def _sentence_end(number: int) -> bytes:
    """Many lines that end in a dot, where a reader of segments may see the end."""
    return head("sentence-end", number) + _lines(
        *(b"This is sentence %d." % at for at in range(1, 41)), b"And the last one goes on")


def _from_lines(number: int) -> bytes:
    """Lines that begin with From, as they part the messages of an mbox."""
    return head("from-lines", number) + _lines(
        b"From here on it goes well.", b"", b"From ada@example.org Mon Jan  5 10:00:00 2026", b"Subject: no",
        b"", b">From quoted", b"from small")


def _eight_bit(number: int) -> bytes:
    """Octets over 127 that are no UTF-8, in the body and in the subject."""
    return head("eight-bit", number).replace(b"Subject: eight", b"Subject: gr\xfc\xdfe eight") + _lines(
        bytes(range(0x80, 0x100)), b"gr\xfc\xdfe", b"\xff\xfe\xfd")


def _utf8(number: int) -> bytes:
    """UTF-8 in header and body, characters of two, three and four octets, many of them."""
    more = ("MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8",
            "Content-Transfer-Encoding: 8bit", "X-Greeting: grüße, привет, 你好")
    line = "grüße, привет, 你好, 👋🏽 ".encode()
    return head("utf8", number, *more) + _lines(*(line * 3 for _ in range(60)))


def _long_line_998(number: int) -> bytes:
    """Lines of 998 octets, the longest that mail may have (RFC 5322 section 2.1.1)."""
    return head("long-line-998", number) + _lines(b"a" * 998, b"." + b"b" * 997, b"c" * 998)


def _long_line_3000(number: int) -> bytes:
    """A line of 3000 octets: longer than the 2048 that some readers take."""
    return head("long-line-3000", number) + _lines(b"<p>" + b"w" * 2994 + b"<p>", b"behind it")


def _long_line_100000(number: int) -> bytes:
    """A line of 100,000 octets, as mail has that was made by a program."""
    return head("long-line-100000", number) + _lines(b"<p>" + b"w" * 99_994 + b"<p>", b"behind it")


def _nul(number: int) -> bytes:
    """Octets of value 0 in the middle of lines, at their start and at their end."""
    return head("nul", number) + _lines(b"before\x00behind", b"\x00at the start", b"at the end\x00", b"\x00",
                                        b"last")


def _control(number: int) -> bytes:
    """Control characters, lone CRs among them."""
    return head("control", number) + _lines(b"\x07\x08\x0b\x0c\x1b[31mred\x1b[0m", b"lone\rreturn", b"\x7f")


def _attachment(number: int) -> bytes:
    """A text and a file of 20 kB beside it, in base64."""
    data = base64.encodebytes(Random(number).randbytes(20_000)).replace(b"\n", b"\r\n")
    mark = b"--=_part"
    more = ("MIME-Version: 1.0", 'Content-Type: multipart/mixed; boundary="=_part"')
    return head("attachment", number, *more) + _lines(
        mark, b"Content-Type: text/plain", b"", b"See the file.", mark,
        b'Content-Type: application/octet-stream; name="data.bin"', b"Content-Transfer-Encoding: base64",
        b"") + data + _lines(mark + b"--")


def _html(number: int) -> bytes:
    """A page in quoted-printable whose soft line ends leave dots at the starts of lines."""
    more = ("MIME-Version: 1.0", "Content-Type: text/html; charset=utf-8",
            "Content-Transfer-Encoding: quoted-printable")
    return head("html", number, *more) + _lines(b'<a href=3D"https://www=', b".example=", b"..org/a.html=",
                                                b'.b">here</a>')


def _kb100(number: int) -> bytes:
    """100 kB of text."""
    return head("kb100", number) + _filler(100_000, number)


def _mb1(number: int) -> bytes:
    """1 MB of text."""
    return head("mb1", number) + _filler(MEGABYTE, number)


def _mb5(number: int) -> bytes:
    """5 MB of text."""
    return head("mb5", number) + _filler(5 * MEGABYTE, number)


def _no_message_id(number: int) -> bytes:
    """A message without Message-ID; its subject tells which one it is."""
    return head("no-message-id", number).partition(b"\r\n")[2] + _lines(b"who am I?")


def _folded_first(number: int) -> bytes:
    """A first line that goes on a line that is not there, as after a lost first line."""
    orphan = b"\tby mx.example.org; Mon, 05 Jan 2026 10:00:00 +0000\r\n"
    return orphan + head("folded-first", number) + _lines(b"the first header line is lost")


_SAMPLES: Mapping[str, Body] = {function.__name__[1:].replace("_", "-"): function for function in (
    _plain, _short, _empty_body, _headers_only, _no_final_newline, _dots, _lone_dot, _replies,
    _dots_at_buffers, _sentence_end, _from_lines, _eight_bit, _utf8, _long_line_998, _long_line_3000,
    _long_line_100000, _nul, _control, _attachment, _html, _kb100, _mb1, _mb5, _no_message_id,
    _folded_first)}
