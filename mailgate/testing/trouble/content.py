"""Octets of a reply that are not what they should be: line ends, dots, headers, octets of any kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mailgate.testing.trouble import values
from mailgate.testing.trouble.model import REQUIRED, Kind, Occasion
from mailgate.testing.trouble.places import place, spot, spots
from mailgate.testing.trouble.replies import END, header_end, is_long, is_refusal, lines_of, parted

CONTENTS = ("RETR", "TOP")          # whose replies hold a message
LISTS = ("LIST", "UIDL", "CAPA", *CONTENTS)     # whose replies may have many lines
PRINTABLE = range(0x21, 0x7F)
LISTED_OCTETS = 64 * 1024       # of a reply: of longer ones no list of all places is made
DRAWS = 50                      # for each octet that is wanted


# Anything -----------------------------------------------------------------------------------------


def _insert(occasion: Occasion, reply: bytes) -> bytes:
    every = occasion.setting("every")
    if every and occasion.setting("inside") and occasion.setting("at") is None:
        offsets = spots(occasion, reply)[every - 1::every]
    else:
        at = spot(occasion, reply)
        offsets = [] if at is None else [at]
    pieces, start = [], 0
    for at in offsets:
        pieces += [reply[start:at], occasion.setting("text")]
        start = at
    return b"".join([*pieces, reply[start:]])


def _replace(occasion: Occasion, reply: bytes) -> bytes:
    wanted, put, nth = occasion.setting("find"), occasion.setting("put"), occasion.setting("nth")
    if not nth:
        return bytes(reply.replace(wanted, put))
    pieces = reply.split(wanted)
    if len(pieces) <= nth:
        return reply
    return wanted.join(pieces[:nth]) + put + wanted.join(pieces[nth:])


def _check_replace(settings: Mapping[str, Any]) -> str:
    return "" if settings["find"] else "find: at least one octet is expected"


def _corrupt(occasion: Occasion, reply: bytes) -> bytes:
    changed = bytearray(reply)
    for at in _to_corrupt(occasion, reply):
        changed[at] = occasion.random.choice([octet for octet in PRINTABLE if octet != reply[at]])
    return bytes(changed)


def _to_corrupt(occasion: Occasion, reply: bytes) -> list[int]:
    octets: int = occasion.setting("octets")
    if occasion.setting("at") is not None or occasion.setting("inside"):
        at = spot(occasion, reply)
        return [] if at is None else list(range(at, min(at + octets, len(reply))))
    parts = parted(reply)
    first = len(parts.status) if parts.content else 0
    last = len(reply) - len(parts.end)
    if octets < (last - first) // 4 and last - first > LISTED_OCTETS:
        return _drawn(occasion, reply, range(first, last), octets)
    rest = [at for at in range(first, last) if reply[at] not in b"\r\n"]
    return occasion.random.sample(rest, min(octets, len(rest)))


def _drawn(occasion: Occasion, reply: bytes, places: range, octets: int) -> list[int]:
    """Return offsets of a long reply without listing all that there are; fewer, where most are line ends."""
    found: dict[int, None] = {}
    for _ in range(DRAWS * octets):
        at = occasion.random.choice(places)
        if reply[at] not in b"\r\n":
            found[at] = None
        if len(found) == octets:
            break
    return list(found)


def _truncate(occasion: Occasion, reply: bytes) -> bytes:
    at = spot(occasion, reply)
    if at is None:
        return reply
    kept, end = reply[:at], parted(reply).end
    if not occasion.setting("ends") or not end or at > len(reply) - len(end):
        return kept
    if not kept.endswith(b"\n"):
        kept = kept.removesuffix(b"\r") + b"\r\n"
    return kept + end


# Lines and dots -----------------------------------------------------------------------------------


def _line_ends(occasion: Occasion, reply: bytes) -> bytes:
    end, every, of = occasion.setting("end"), occasion.setting("every"), occasion.setting("of")
    parts = parted(reply)

    def changed(octets: bytes) -> bytes:
        return b"".join([line[:-2] + end if index % every == 0 and line.endswith(b"\r\n") else line
                         for index, line in enumerate(lines_of(octets), 1)])

    if of == "reply":
        return changed(reply)
    return b"".join([changed(part) if name == of else part for name, part in
                     (("status", parts.status), ("content", parts.content), ("terminator", parts.end))])


def _stuffing(occasion: Occasion, reply: bytes) -> bytes:
    parts, how = parted(reply), occasion.setting("how")
    if not parts.end:
        return reply
    lines = lines_of(parts.content)
    if how == "none":
        lines = [line[1:] if line.startswith(b"..") else line for line in lines]
    else:
        lines = [b"." + line if how == "every" or line.startswith(b".") else line for line in lines]
    return parts._replace(content=b"".join(lines)).whole


def _terminator(occasion: Occasion, reply: bytes) -> bytes:
    parts, how = parted(reply), occasion.setting("how")
    if not parts.end:
        return reply
    if how == "early":
        lines = lines_of(parts.content)
        at: int = occasion.setting("line") or len(lines) // 2
        return parts._replace(content=b"".join([*lines[:at], END, *lines[at:]])).whole
    if how == "glued":
        return parts._replace(content=parts.content.removesuffix(b"\r\n")).whole
    return parts._replace(end=TERMINATORS[how]).whole


TERMINATORS = {"missing": b"", "doubled": END + END, "blank_behind": b". \r\n", "blank_before": b" .\r\n",
               "lf": b".\n", "cr": b".\r"}


# Messages -----------------------------------------------------------------------------------------


def _header(occasion: Occasion, reply: bytes) -> bytes:
    if is_refusal(reply) or not is_long(reply):
        return reply
    parts = parted(reply)
    at = header_end(parts.content)
    return parts._replace(content=HEADERS[occasion.setting("how")](
        occasion, parts.content[:at], parts.content[at:])).whole


def _with_first(field: bytes) -> Callable[[Occasion, bytes, bytes], bytes]:
    return lambda occasion, head, rest: field + head + rest


def _with_last(field: bytes) -> Callable[[Occasion, bytes, bytes], bytes]:
    return lambda occasion, head, rest: head + field + rest


def _many(occasion: Occasion, head: bytes, rest: bytes) -> bytes:
    fields = [b"X-Field-%d: value\r\n" % number for number in range(occasion.setting("fields"))]
    return head + b"".join(fields) + rest


def _changing(occasion: Occasion, head: bytes, rest: bytes) -> bytes:
    return head + b"X-Session: %d\r\n" % occasion.session + rest


# how: what is made of the header and of what follows it, the empty line first
HEADERS: Mapping[str, Callable[[Occasion, bytes, bytes], bytes]] = {
    "none": lambda occasion, head, rest: rest or b"\r\n",
    "only": lambda occasion, head, rest: head,
    "unended": lambda occasion, head, rest: head + rest.removeprefix(b"\r\n"),
    "empty_line_first": _with_first(b"\r\n"),
    "folded_first": _with_first(b" folded behind nothing\r\n"),
    "mbox_line": _with_first(b"From mrose@example.org Thu Jan  1 00:00:00 1970\r\n"),
    "colonless": _with_last(b"this line has no colon\r\n"),
    "nameless": _with_last(b": a field without a name\r\n"),
    "nul": _with_last(b"X-Nul: a\0b\r\n"),
    "eight_bit": _with_last(b"X-Eight-Bit: caf\xe9\r\n"),
    "bad_encoded_word": _with_last(b"X-Encoded: =?no-such-charset?Q?=ZZ=?= =?UTF-8?B?////?=\r\n"),
    "twice": lambda occasion, head, rest: head + head + rest,
    "many": _many,
    "changing": _changing,
}

KINDS = (
    Kind("insert", "Puts octets into the reply at a place, or at every nth such place: NUL, 8-bit, lines of "
         "rubbish.", {"text": (values.octets, REQUIRED), **place(), "every": (values.whole(0), 0)},
         rework=_insert),
    Kind("replace", "Says other octets wherever the reply has certain ones, or only the nth time.",
         {"find": (values.octets, REQUIRED), "put": (values.octets, b""), "nth": (values.whole(0), 0)},
         rework=_replace, check=_check_replace),
    Kind("corrupt",
         "Changes so many octets to other printable ones: those at a place, or any of the content but "
         "its line ends, by chance.", {"octets": (values.whole(1, 1 << 28), 1), **place()}, rework=_corrupt),
    Kind("truncate", "Leaves out what stands behind a place, the middle unless told otherwise, up to the "
         "terminator; or (ends = false) that too.", {**place("middle"), "ends": (values.switch, True)}, LISTS,
         rework=_truncate),
    Kind("line_ends",
         "Ends lines, or every nth, otherwise than with CRLF: with a bare LF unless told otherwise.",
         {"end": (values.octets, b"\n"), "every": (values.whole(1), 1),
          "of": (values.choice("reply", "status", "content", "terminator"), "reply")}, rework=_line_ends),
    Kind("stuffing",
         "Byte-stuffs wrongly: `none`, `every` line whether or not it begins with a dot, or `twice`.",
         {"how": (values.choice("none", "every", "twice"), "none")}, LISTS, rework=_stuffing),
    Kind("terminator",
         "Ends a reply of many lines wrongly: the dot alone is missing, doubled, `early` (behind so "
         "many lines of the content, or half of them; the rest follows), `glued` to a last line without its "
         "end, "
         "has a blank beside it, or no CRLF behind it.",
         {"how": (values.choice("early", "glued", *TERMINATORS), "missing"), "line": (values.whole(0), 0)},
         LISTS,
         rework=_terminator),
    Kind("header",
         "Gives a message a header that is broken: `none`, `only` (no body), `unended` (no empty line), "
         "a line before or within it that is no field, NUL or 8-bit in it, all fields `twice`, so many more "
         "of "
         "them, or one that is `changing` from session to session.",
         {"how": (values.choice(*HEADERS), REQUIRED), "fields": (values.whole(1, 1_000_000), 10_000)},
         CONTENTS,
         rework=_header),
)
