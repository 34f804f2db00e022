"""POP3 replies: one line, or many with their terminator (RFC 1939 section 3)."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from mailgate.model import Envelope, ScanListing
from mailgate.wire.faults import answer_for

END = b".\r\n"
_CONTROLS = bytes([*range(0x20), 0x7F])


def refusal(fault: BaseException) -> bytes:
    """Return the one `-ERR` line that answers a fault."""
    answer = answer_for(fault)
    return b"-ERR %b%b\r\n" % (answer.pop3, answer.words)


def commit_refusal(fault: BaseException) -> bytes:
    """Return the answer to a QUIT that removed nothing (RFC 1939 section 6)."""
    return b"-ERR %bsome deleted messages not removed\r\n" % answer_for(fault).pop3


def lines(status: bytes, rows: Iterable[bytes]) -> bytes:
    """Return a multi-line reply; no row of ours begins with a dot."""
    return b"+OK %b\r\n%b.\r\n" % (status, b"".join([row + b"\r\n" for row in rows]))


def scan_listing(listing: ScanListing, marked: Collection[int], octets: int) -> bytes:
    """Return the answer to LIST; `octets` are those of the unmarked messages.

    The one without marks is rendered once for all sessions that share the listing.
    """
    if not marked:
        return _kept(listing, "LIST", octets)
    rows = [b"%d %d\r\n" % (number, size) for number, size in enumerate(listing.sizes, 1)
            if number not in marked]
    return b"+OK %d messages (%d octets)\r\n%b.\r\n" % (len(rows), octets, b"".join(rows))


def unique_ids(listing: ScanListing, marked: Collection[int]) -> bytes:
    """Return the answer to UIDL."""
    if not marked:
        return _kept(listing, "UIDL", 0)
    return b"+OK unique-ids follow\r\n%b.\r\n" % b"".join(
        [b"%d %b\r\n" % (index + 1, listing.unique_id(index)) for index in range(len(listing))
         if index + 1 not in marked])


def _kept(listing: ScanListing, what: str, octets: int) -> bytes:
    reply = listing.rendered.get(what)
    if reply is None:
        if what == "LIST":
            reply = b"+OK %d messages (%d octets)\r\n%b.\r\n" % (len(listing), octets, b"".join(
                [b"%d %d\r\n" % row for row in enumerate(listing.sizes, 1)]))
        else:
            reply = b"+OK unique-ids follow\r\n%b.\r\n" % b"".join(
                [b"%d %b\r\n" % row for row in enumerate(listing.unique_ids(), 1)])
        listing.rendered[what] = reply
    return reply


def envelope(shown: Envelope) -> bytes:
    """Return the answer to `*ENV`: exactly four data lines, none of them beginning with a dot.

    The recipient's domain and local part, the sender (an empty line for the null sender), the
    recipient; fetchmail and getmail read the last two by position. Octets that would break the
    lines are left out, a leading dot (no legal address has one) too: fetchmail does not unstuff here.
    """
    local, _, domain = shown.recipient.rpartition(b"@")
    rows = [_safe(row) for row in (domain, local, shown.sender, shown.recipient)]
    return b"+OK envelope follows\r\n%b\r\n%b\r\n%b\r\n%b\r\n.\r\n" % tuple(rows)


def _safe(row: bytes) -> bytes:
    return row.translate(None, _CONTROLS).lstrip(b".")
