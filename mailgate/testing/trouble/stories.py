"""What goes on over several sessions: windows onto a maildrop, mail that goes once fetched, new mail."""

from __future__ import annotations

import re

from mailgate.testing.trouble import values
from mailgate.testing.trouble.model import REQUIRED, Kind, Occasion
from mailgate.testing.trouble.replies import is_refusal, parted, rows_of

_COUNTS = re.compile(rb"\+OK (\d+) (\d+)")


def _window(occasion: Occasion, reply: bytes) -> bytes:
    shown: int = occasion.setting("messages")
    if is_refusal(reply):
        return reply
    seen = [one for one in occasion.around.listing() if one.number <= shown and not one.marked]
    if occasion.verb == "STAT":
        octets = sum([one.octets for one in seen])
        return _COUNTS.sub(b"+OK %d %d" % (len(seen), octets), reply, count=1)
    if word := occasion.argument.strip():
        return b"-ERR no such message\r\n" if word.isdigit() and int(word) > shown else reply
    parts = parted(reply)
    rows = [b"%d %b\r\n" % row for row in rows_of(parts.content) if row[0] <= shown]
    return parts._replace(status=b"+OK\r\n", content=b"".join(rows)).whole


def _fetched(occasion: Occasion) -> None:
    occasion.around.mark(occasion.around.retrieved())


def _arrival(occasion: Occasion) -> None:
    occasion.around.deliver(occasion.setting("text"))


KINDS = (
    Kind("window", "STAT, LIST and UIDL show the first so many messages of the maildrop, as if there were no"
         " others.", {"messages": (values.whole(0), REQUIRED)}, ("STAT", "LIST", "UIDL"), rework=_window),
    Kind("fetched", "QUIT removes what the session has fetched with RETR, whether or not DELE was said.", {},
         ("QUIT",), before=_fetched),
    Kind("arrival", "New mail comes into the user's maildrop before the command is carried out; the session"
         " does not see it.", {"text": (values.octets, REQUIRED)}, ("QUIT",), before=_arrival),
)
