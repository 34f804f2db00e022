"""LMTP replies (RFC 5321 section 4.2), with enhanced status codes (RFC 2034).

Refusals come from the one table of `mailgate.wire.faults`. Nothing that a client said is in a reply.
"""

from __future__ import annotations

from collections.abc import Sequence

from mailgate.wire.faults import answer_for

OK = b"250 2.0.0 ok\r\n"
SENDER_OK = b"250 2.1.0 sender ok\r\n"
RECIPIENT_OK = b"250 2.1.5 recipient ok\r\n"
BEGIN_TLS = b"220 2.0.0 begin TLS\r\n"
GO_AHEAD = b"354 end with a line that is one dot\r\n"
CANNOT_VERIFY = b"252 2.0.0 not verified; try RCPT\r\n"
HELP = b"214 2.0.0 see RFC 2033\r\n"
BYE = b"221 2.0.0 bye\r\n"

# Those that end the conversation.
TOO_MANY_ERRORS = b"421 4.7.0 too many errors\r\n"
IDLE_TOO_LONG = b"421 4.4.2 idle for too long\r\n"
STOPPING = b"421 4.3.2 service is stopping\r\n"


def greeting(hostname: str) -> bytes:
    """Return what a connection begins with (RFC 2033 section 4.2)."""
    return b"220 %b LMTP mailgate\r\n" % hostname.encode("ascii", "replace")


def welcome(hostname: str, extensions: Sequence[bytes]) -> bytes:
    """Return the answer to LHLO: our name, then an extension a line (RFC 5321 section 4.1.1.1)."""
    lines = [hostname.encode("ascii", "replace"), *extensions]
    return b"".join([b"250-%b\r\n" % line for line in lines[:-1]]) + b"250 %b\r\n" % lines[-1]


def refusal(fault: BaseException) -> bytes:
    """Return the one line that answers a fault."""
    answer = answer_for(fault)
    return b"%b %b\r\n" % (answer.lmtp, answer.words)


def stored(delivery_id: str) -> bytes:
    """Return the answer for a recipient whose copy is durable."""
    return b"250 2.0.0 stored, id %b\r\n" % delivery_id.encode("ascii", "replace")


def chunk_taken(octets: int) -> bytes:
    """Return the answer to a BDAT that is not the last (RFC 3030 section 2)."""
    return b"250 2.0.0 %d octets taken\r\n" % octets
