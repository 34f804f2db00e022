"""What a reply looks like: its first line, how many lines it has, whether it comes at all, or twice."""

from __future__ import annotations

from mailgate.testing.trouble import values
from mailgate.testing.trouble.model import Kind, Occasion
from mailgate.testing.trouble.replies import END, is_long, is_refusal, parted, text_lines


def _status(occasion: Occasion, reply: bytes) -> bytes:
    parts = parted(reply)
    line, end = _without_end(parts.status)
    word, _, words = line.partition(b" ")
    other = {b"+OK": occasion.setting("ok"), b"-ERR": occasion.setting("err")}.get(word)
    text, between = occasion.setting("text"), occasion.setting("between")
    words = words if text is None else text
    blank = between if between is not None else b" " if words else b""
    return (word if other is None else other) + blank + words + end + parts.content + parts.end


def _without_end(line: bytes) -> tuple[bytes, bytes]:
    bare = line.rstrip(b"\r\n")
    return bare, line[len(bare):]


def _lines(occasion: Occasion, reply: bytes) -> bytes:
    parts = parted(reply)
    if is_refusal(reply):
        return reply
    if occasion.setting("how") == "one":
        return parts.status
    if is_long(reply):
        return reply
    words = parts.status[3:].lstrip(b" ")
    return b"+OK\r\n" + (words if words.strip() else b"") + END


def _echo(occasion: Occasion, reply: bytes) -> bytes:
    return occasion.line + b"\r\n" + reply


def _repeat(occasion: Occasion, reply: bytes) -> bytes:
    again: int = occasion.setting("again")
    return reply * (again + 1)


def _swallow(occasion: Occasion, reply: bytes) -> bytes:
    return b""


def _long_line(occasion: Occasion, reply: bytes) -> bytes:
    octets: int = occasion.setting("octets")
    parts = parted(reply)
    where = occasion.setting("where")
    if where == "status":
        line, end = _without_end(parts.status)
        line += b" " + b"x" * max(0, octets - len(line) - 1 - len(end))
        return line + end + parts.content + parts.end
    if not is_long(reply):
        return reply
    head, blank, body = parts.content.partition(b"\r\n\r\n")
    if where == "header":
        field = b"X-Long: "
        field += b"x" * max(0, octets - len(field) - 2) + b"\r\n"
        return parts._replace(content=field + parts.content).whole
    line = b"x" * max(0, octets - 2) + b"\r\n"
    return parts._replace(content=head + blank + line + body if blank else parts.content + line).whole


def _continued(occasion: Occasion, reply: bytes) -> bytes:
    parts = parted(reply)
    line, end = _without_end(parts.status)
    word, _, words = line.partition(b" ")
    dash: bytes = occasion.setting("mark")
    extra = b"".join([word + dash + b" " * (not dash) + row for row in text_lines(
        occasion.setting("text")).splitlines(keepends=True)])
    return extra + word + b" " + words + end + parts.content + parts.end


KINDS = (
    Kind("status",
         "Writes the first line otherwise: `ok` and `err` in place of +OK and -ERR, `between` in place "
         "of the blank, `text` in place of the words.",
         {"ok": (values.octets, None), "err": (values.octets, None), "between": (values.octets, None),
          "text": (values.octets, None)}, rework=_status),
    Kind("continued",
         "Says further first lines before the real one, as SMTP would: +OK-text, or with another mark.",
         {"text": (values.octets, b"please wait"), "mark": (values.octets, b"-")}, rework=_continued),
    Kind("lines", "Gives a reply of `one` line where many are due, or of `many` where one is due.",
         {"how": (values.choice("one", "many"), "one")}, rework=_lines),
    Kind("echo", "Says the client's own line before the reply, as a terminal would.", rework=_echo),
    Kind("repeat", "Says the reply again, so many times.", {"again": (values.whole(1, 1000), 1)},
         rework=_repeat),
    Kind("swallow", "Carries the command out and says nothing.", rework=_swallow),
    Kind("long_line",
         "Says a line of so many octets, its end counted: the first of the reply, one more field in a "
         "message's header, or one more line at the beginning of its body.",
         {"octets": (values.whole(2, 1 << 28), 100_000),
          "where": (values.choice("status", "header", "body"), "body")}, rework=_long_line),
)
