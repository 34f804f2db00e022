"""What is said about the messages, and is not so: sizes, numbers, unique-ids, which there are."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any

from mailgate.testing.trouble import values
from mailgate.testing.trouble.model import REQUIRED, Kind, Occasion, Seen
from mailgate.testing.trouble.replies import END, is_refusal, parted, rows_of

EXTRA_OCTETS = 1000         # of a message that LIST shows and that is not there
LIST_ROWS = ("LIST", "UIDL")

_COUNTS = re.compile(rb"\+OK (\d+) (\d+)")
_ONE = re.compile(rb"\+OK (\d+) ([^\r\n]*)")
_ANNOUNCED = re.compile(rb"\+OK (\d+) octets")


def _chosen(occasion: Occasion, number: int) -> bool:
    numbers = occasion.setting("numbers")
    return not numbers or number in numbers


def _reworked_rows(reply: bytes, row: Callable[[int, bytes], bytes | None]) -> bytes:
    """Return a listing with each row's rest as `row` says; None leaves the row out."""
    parts = parted(reply)
    lines = []
    for number, rest in rows_of(parts.content):
        new = row(number, rest)
        if new is not None:
            lines.append(b"%d %b\r\n" % (number, new))
    return parts._replace(content=b"".join(lines)).whole


# Sizes --------------------------------------------------------------------------------------------


def _size(occasion: Occasion, number: int, octets: int) -> int:
    """Return the octets that are said instead of those of a message (number 0: of all)."""
    if not _chosen(occasion, number):
        return octets
    exact, way = occasion.setting("exact"), occasion.setting("way")
    if exact is not None:
        octets = exact
    elif way and number:
        content = occasion.around.content(number)
        octets = {"lf": octets - content.count(b"\r\n"), "stuffed": len(content) or octets, "zero": 0,
                  "header": _head_octets(content)}[way]
    elif way == "zero":
        octets = 0
    return max(0, int(octets * occasion.setting("factor")) + occasion.setting("add"))


def _head_octets(content: bytes) -> int:
    head, blank, _ = content.partition(b"\r\n\r\n")
    return len(head) + len(blank)


def _sizes(occasion: Occasion, reply: bytes) -> bytes:
    of = occasion.setting("of")
    if is_refusal(reply):
        return reply
    if occasion.verb == "STAT" and "stat" in of:
        return _COUNTS.sub(lambda found: b"+OK %b %d" % (found[1], _total(occasion, int(found[2]))), reply,
                           count=1)
    if occasion.verb == "RETR" and "retr" in of:
        words = occasion.argument.split()
        number = int(words[0]) if words and words[0].isdigit() else 0
        return _ANNOUNCED.sub(
            lambda found: b"+OK %d octets" % _size(occasion, number, int(found[1])), reply, count=1)
    if occasion.verb != "LIST":
        return reply
    if occasion.argument.strip():
        return reply if "line" not in of else _ONE.sub(
            lambda found: b"+OK %b %b" % (found[1], _other_size(occasion, int(found[1]), found[2])), reply,
                                                       count=1)
    return reply if "list" not in of else _reworked_rows(
        reply, lambda number, rest: _other_size(occasion, number, rest))


def _total(occasion: Occasion, octets: int) -> int:
    if occasion.setting("of") == ("stat",) and not occasion.setting("numbers") and (
            occasion.setting("way") in ("", "zero")):
        return _size(occasion, 0, octets)
    there = [one for one in occasion.around.listing() if not one.marked]
    return sum([_size(occasion, one.number, one.octets) for one in there])


def _other_size(occasion: Occasion, number: int, rest: bytes) -> bytes:
    octets, blank, words = rest.partition(b" ")
    return b"%d" % _size(occasion, number, int(octets)) + blank + words if octets.isdigit() else rest


def _check_sizes(settings: Mapping[str, Any]) -> str:
    if settings["exact"] is not None and settings["way"]:
        return "way: not together with exact"
    said = settings["add"] or settings["factor"] != 1 or settings["exact"] is not None or settings["way"]
    return "" if said else "add: one of add, factor, exact and way is expected"


def _count(occasion: Occasion, reply: bytes) -> bytes:
    def other(found: re.Match[bytes]) -> bytes:
        number = int(found[1]) if occasion.setting("exact") is None else occasion.setting("exact")
        return b"+OK %d %b" % (max(0, number + occasion.setting("add")), found[2])

    return _COUNTS.sub(other, reply, count=1)


def _check_count(settings: Mapping[str, Any]) -> str:
    return "" if settings["add"] or settings["exact"] is not None else "add: one of add and exact is expected"


# Unique-ids ---------------------------------------------------------------------------------------


def _unique_ids(occasion: Occasion, reply: bytes) -> bytes:
    if is_refusal(reply):
        return reply

    def row(number: int, rest: bytes) -> bytes | None:
        return UIDS[occasion.setting("how")](occasion, number, rest) if _chosen(occasion, number) else rest

    if not occasion.argument.strip():
        return _reworked_rows(reply, row)
    found = _ONE.match(reply)
    if found is None:
        return reply
    new = row(int(found[1]), found[2])
    return b"-ERR no unique-id\r\n" if new is None else b"+OK %b %b\r\n" % (found[1], new)


def _changed(occasion: Occasion, number: int, unique_id: bytes) -> bytes:
    return hashlib.sha256(b"%d %b" % (occasion.session, unique_id)).hexdigest()[:20].encode()


def _duplicate(occasion: Occasion, number: int, unique_id: bytes) -> bytes:
    """That of the first message that is not among the chosen; where all are, of the first."""
    listing, numbers = occasion.around.listing(), occasion.setting("numbers")
    others = [one for one in listing if one.number not in numbers] or listing
    return others[0].unique_id if others else unique_id


def _rotated(occasion: Occasion, number: int, unique_id: bytes) -> bytes:
    listing = occasion.around.listing()
    return listing[(number - 1 + occasion.session) % len(listing)].unique_id if listing else unique_id


def _long(occasion: Occasion, number: int, unique_id: bytes) -> bytes:
    octets: int = occasion.setting("octets")
    return unique_id.ljust(octets, b"x")[:octets]


UIDS: Mapping[str, Callable[[Occasion, int, bytes], bytes | None]] = {
    "changed": _changed,
    "duplicate": _duplicate,
    "rotated": _rotated,
    "numbers": lambda occasion, number, unique_id: b"%d" % number,
    "long": _long,
    "blanks": lambda occasion, number, unique_id: unique_id[:2] + b" " + unique_id[2:],
    "control": lambda occasion, number, unique_id: unique_id[:2] + b"\x07" + unique_id[2:],
    "eight_bit": lambda occasion, number, unique_id: unique_id[:2] + b"\xe4" + unique_id[2:],
    "empty": lambda occasion, number, unique_id: b"",
    "missing": lambda occasion, number, unique_id: None,
}


# Which there are ----------------------------------------------------------------------------------


def _listing(occasion: Occasion, reply: bytes) -> bytes:
    if is_refusal(reply) and not (occasion.setting("deleted") and occasion.argument.strip()):
        return reply
    if occasion.argument.strip():
        return _one_of(occasion, reply)
    parts = parted(reply)
    if not parts.end:
        return reply
    rows = rows_of(parts.content)
    if occasion.setting("deleted"):
        there = {number for number, _ in rows}
        rows = sorted(rows + [(one.number, _about(occasion, one)) for one in occasion.around.listing()
                              if one.marked and one.number not in there])
    rows = [row for row in rows if row[0] not in occasion.setting("omit")]
    rows = [row for row in rows for _ in range(2 if row[0] in occasion.setting("double") else 1)]
    last = max([len(occasion.around.listing()), *[number for number, _ in rows]], default=0)
    rows += [(number, _about(occasion, Seen(number, EXTRA_OCTETS, b"extra-%d" % number)))
             for number in range(last + 1, last + 1 + occasion.setting("extra"))]
    rows = _ordered(occasion, rows)
    first, step = occasion.setting("first"), occasion.setting("step")
    ahead, behind = occasion.setting("ahead"), occasion.setting("behind")
    return parts.status + b"".join(
        [b"%b%d %b%b\r\n" % (ahead, first + (number - 1) * step, rest, behind) for number,
         rest in rows]) + END


def _one_of(occasion: Occasion, reply: bytes) -> bytes:
    word = occasion.argument.split()[0]
    number = int(word) if word.isdigit() else 0
    if number in occasion.setting("omit"):
        return b"-ERR no such message\r\n"
    if is_refusal(reply):
        for one in occasion.around.listing():
            if one.marked and one.number == number:
                return b"+OK %d %b\r\n" % (number, _about(occasion, one))
        return reply
    return _ONE.sub(lambda found: b"+OK %b%b %b%b" % (
        occasion.setting("ahead"), found[1], found[2], occasion.setting("behind")), reply, count=1)


def _about(occasion: Occasion, one: Seen) -> bytes:
    return one.unique_id if occasion.verb == "UIDL" else b"%d" % one.octets


def _ordered(occasion: Occasion, rows: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    order = occasion.setting("order")
    if order == "reverse":
        return rows[::-1]
    if order == "random":
        return occasion.random.sample(rows, len(rows))
    return rows[1:] + rows[:1] if order == "rotated" else rows


def _check_listing(settings: Mapping[str, Any]) -> str:
    plain = {name: default for name, (_, default) in LISTING.items()}
    return "" if settings != plain else "order: at least one setting is expected"


def _before_expunge(occasion: Occasion) -> None:
    if occasion.setting("when") == "before":
        _expunge(occasion)


def _after_expunge(occasion: Occasion, reply: bytes) -> bytes:
    if occasion.setting("when") == "after":
        _expunge(occasion)
    return reply


def _expunge(occasion: Occasion) -> None:
    words = occasion.argument.split()
    own = [int(words[0])] if words and words[0].isdigit() else []
    for number in occasion.setting("numbers") or own:
        occasion.around.remove_message(number)


LISTING: Mapping[str, tuple[Callable[[Any], Any], Any]] = {
    "order": (values.choice("", "reverse", "random", "rotated"), ""), "omit": (values.numbers, ()),
    "double": (values.numbers, ()), "extra": (values.whole(0, 1_000_000), 0),
    "deleted": (values.switch, False), "first": (values.whole(0), 1), "step": (values.whole(1), 1),
    "ahead": (values.octets, b""), "behind": (values.octets, b"")}
_OF = values.several(values.choice("list", "line", "stat", "retr"), "places where sizes are said")

KINDS = (
    Kind("sizes",
         "Says wrong sizes, of the messages in `numbers` or of all: in LIST (`list`; of one message: "
         "`line`), in STAT and in the first line of RETR, or only where `of` says. A size is `exact`, or "
         "counted "
         "in a wrong `way` (lf: with bare line ends; stuffed: as it leaves; header: that alone; zero), then "
         "multiplied by `factor` and increased by `add`. STAT says their sum; of = \"stat\" alone changes "
         "the sum.",
         {"of": (_OF, ("list", "line", "stat", "retr")), "numbers": (values.numbers, ()),
          "add": (values.signed, 0), "factor": (values.ratio, 1.0), "exact": (values.whole(0), None),
          "way": (values.choice("", "lf", "stuffed", "header", "zero"), "")}, ("LIST", "STAT", "RETR"),
         rework=_sizes, check=_check_sizes),
    Kind("count", "STAT says a wrong number of messages.",
         {"add": (values.signed, 0), "exact": (values.whole(0), None)}, ("STAT",), rework=_count,
         check=_check_count),
    Kind("uids",
         "Gives messages other unique-ids: `changed` in each session, `duplicate` of another's, `rotated` "
         "among the messages from session to session, their `numbers`, illegal ones (long, blanks, control, "
         "eight_bit, empty), or none (missing). UIDL and UIDL n say the same.",
         {"how": (values.choice(*UIDS), REQUIRED), "numbers": (values.numbers, ()),
          "octets": (values.whole(1, 1 << 20), 200)}, ("UIDL",), rework=_unique_ids),
    Kind("listing",
         "LIST and UIDL show messages in another order, omit some, show some twice, or some that are "
         "not there (`extra`), or `deleted` ones; number them from `first` on in steps of `step`; with "
         "octets "
         "ahead of and behind what each line says.", LISTING, LIST_ROWS, rework=_listing,
         check=_check_listing),
    Kind("expunge",
         "Removes messages from the store while the session sees them, before or after the command is "
         "carried out: those in `numbers`, or the one that the command names.",
         {"numbers": (values.numbers, ()), "when": (values.choice("before", "after"), "before")},
         ("RETR", "TOP", "DELE"), before=_before_expunge, rework=_after_expunge),
)
