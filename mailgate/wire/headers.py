"""Header fields at the border: those a delivery puts in front, and those it takes from the message.

What a client said goes into a field only through `field_text`, so that it can add no line.
"""

from __future__ import annotations

import datetime
import re
from email.utils import format_datetime

from mailgate.model import Envelope

# C0 controls and DEL; a blank where they stood keeps words apart.
_CONTROLS = bytes([*range(0x20), 0x7F])
_TO_BLANKS = bytes.maketrans(_CONTROLS, b" " * len(_CONTROLS))
_C1_TO_BLANKS = dict.fromkeys(range(0x80, 0xA0), " ")     # a terminal takes them for escape sequences


def field_text(octets: bytes) -> bytes:
    """Return what may stand in a header field: no control characters, and beyond ASCII only UTF-8."""
    if not octets.isascii():
        octets = octets.decode("utf-8", "replace").translate(_C1_TO_BLANKS).encode()
    return octets.translate(_TO_BLANKS)


def preamble(envelope: Envelope) -> bytes:
    """Return the header lines of one recipient's copy: Return-Path and Delivered-To.

    An Envelope's addresses carry no angle brackets; the null sender gives `<>` (RFC 5321 section
    4.4). Addresses beyond ASCII stand as they are (RFC 6531 section 3.7.3).
    """
    return b"Return-Path: <%b>\r\nDelivered-To: %b\r\n" % (
        field_text(envelope.sender), field_text(envelope.recipient))


def received_line(*, hostname: str, protocol: str, delivery_id: str, arrived_ms: int,
                  helo: bytes | None = None, peer: str | None = None,
                  recipient: bytes | None = None) -> bytes:
    """Return the Received field of this delivery, folded, CRLF-ended (RFC 5321 section 4.4).

    `helo` is the name the client gave itself, `peer` the IP address it has; a delivery that came by
    no connection has neither. `recipient` (no brackets) is given when it is the only one, as more
    would tell recipients of each other (section 7.2); it is left out where it needs UTF-8 and
    `protocol` does not say so (RFC 6531 section 3.7.3). `arrived_ms`: milliseconds since 1970, UTC.
    """
    clauses = []
    if helo is not None:
        source = b"from " + (field_text(helo) if helo.isascii() else b"unknown")
        clauses.append(source + b" (%b)" % _literal(peer) if peer else source)
    clauses.append(f"by {hostname} with {protocol} id {delivery_id}".encode("ascii", "replace"))
    if recipient is not None and (recipient.isascii() or protocol.startswith("UTF8")):
        clauses.append(b"for <%b>" % field_text(recipient))
    arrived = datetime.datetime.fromtimestamp(arrived_ms // 1000, datetime.timezone.utc)
    return b"Received: %b; %b\r\n" % (b"\r\n\t".join(clauses), format_datetime(arrived).encode())


def _literal(peer: str) -> bytes:
    """Return an IP address as an address literal (RFC 5321 section 4.1.3)."""
    address = field_text(peer.encode("ascii", "replace"))
    return b"[IPv6:%b]" % address if b":" in address else b"[%b]" % address


# What matters in a header as it comes: its end, and the two fields' names. Each begins with the
# line end before it, so that a scan goes at the speed of the regular expression's literal.
_EVENT = re.compile(rb"\n(?:(\r?\n)|(received:)|(return-path:))", re.IGNORECASE)
_FIELD_END = re.compile(rb"\n(?=[^ \t])")
_LONGEST = len(b"\nreturn-path:")


class IncomingHeader:
    """Pass a message that comes in pieces, and drop every Return-Path field of its header.

    The delivered message then has exactly the one that we put in front (RFC 5321 section 4.4). Also
    counts the Received fields, by which a loop shows. The body passes untouched.
    """

    __slots__ = ("received_fields", "_held", "_in_head", "_dropping")

    def __init__(self) -> None:
        self.received_fields = 0
        self._in_head = True
        self._dropping = False  # inside of a Return-Path field
        # A line end that was passed already, and what may be the beginning of an event after it.
        self._held = b"\n"

    def feed(self, data: bytes) -> bytes:
        """Return what passes of the next piece; up to 12 octets of a header are held back."""
        if not self._in_head:
            return data
        text = self._held + data
        start = len(self._held[:1])     # of what was neither passed nor dropped yet
        at = 0
        kept: list[bytes] = []
        while True:
            if self._dropping:
                end = _FIELD_END.search(text, at)
                if end is None:
                    self._held = b"\n" if text.endswith(b"\n") else b""
                    return b"".join(kept)
                self._dropping = False
                at, start = end.start(), end.end()
            event = _EVENT.search(text, at)
            if event is None:
                break
            at = event.end()
            if event[2]:
                self.received_fields += 1
            elif event[3]:
                kept.append(text[start:event.start() + 1])
                self._dropping = True
            else:
                self._in_head = False
                self._held = b""
                return b"".join([*kept, text[start:]])
        return b"".join([*kept, self._hold(text, start, at)])

    def finish(self) -> bytes:
        """Return what was held back, when the message has ended."""
        held, self._held = self._held, b""
        return held[1:]

    def _hold(self, text: bytes, start: int, at: int) -> bytes:
        """Pass text from `start`, but not a last line that is too short to be known for what it is."""
        last = text.rfind(b"\n", at)
        if last < 0 or len(text) - last >= _LONGEST:
            self._held = b""
            return text[start:]
        self._held = text[last:]
        return text[start:last + 1]
