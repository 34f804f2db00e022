"""What all replies of a run have in common: judged when everything else is done."""

from __future__ import annotations

from mailgate.conformance.findings import Level, Table, expect, skip
from mailgate.conformance.visit import Visit

TABLE = Table("full")
MUST, SHOULD, ADVICE = Level.MUST, Level.SHOULD, Level.ADVICE
SECTION = "RFC 1939 section 3"
CODES = {b"LOGIN-DELAY", b"IN-USE", b"SYS", b"AUTH", b"UTF8", b"REFERRAL"}


def _never(v: Visit, kind: str, words: str) -> None:
    if not v.observed.replies:
        skip("there was no reply")
    seen = v.observed.seen.get(kind, [])
    expect(not seen, f"{words}: {'; '.join(seen)}")
    v.remark = f"{v.observed.replies} replies"


@TABLE.add("RFC1939-3-INDICATOR", MUST, SECTION,
           "Every reply begins with +OK or -ERR, in capitals", last=True,
           profile="basic")
def indicators(v: Visit) -> None:
    """All status lines of the run are looked at; challenges of AUTH are none."""
    _never(v, "indicator", "it does not")


@TABLE.add("RFC1939-3-CRLF", MUST, SECTION, "Every status line ends with CRLF", last=True, profile="basic")
def ends(v: Visit) -> None:
    """All status lines of the run are looked at."""
    _never(v, "end", "a bare LF ends")


@TABLE.add("RFC1939-3-LENGTH", MUST, SECTION, "No status line is longer than 512 octets", last=True)
def lengths(v: Visit) -> None:
    """All status lines of the run are looked at."""
    _never(v, "length", "longer")


@TABLE.add("RFC1939-3-CHARACTERS", SHOULD, "RFC 1939 section 3, RFC 6856 section 3.2",
           "Status lines are printable ASCII", last=True)
def characters(v: Visit) -> None:
    """All status lines of the run are looked at, also those that answer control characters."""
    _never(v, "characters", "others stand in")


@TABLE.add("RFC1957-TEXT", ADVICE, "RFC 1957", "Every status line has text behind the indicator", last=True)
def texts(v: Visit) -> None:
    """All status lines of the run are looked at: some old clients fail without."""
    _never(v, "bare", "none")


@TABLE.add("RFC2449-6.4-CODES-1", MUST, "RFC 2449 section 6.4",
           "With RESP-CODES, text that begins with [ is a code",
           last=True, profile="extensions")
def codes(v: Visit) -> None:
    """All status lines of the run are looked at. Skipped where RESP-CODES is not announced."""
    v.needs("RESP-CODES")
    _never(v, "code", "it is none")
    v.remark = b" ".join(sorted(v.observed.codes)).decode("latin-1")


@TABLE.add("RFC2449-6.4-CODES-2", ADVICE, "RFC 2449 section 8",
           "Response codes are registered ones", last=True,
           profile="extensions")
def known_codes(v: Visit) -> None:
    """All codes of the run are looked at."""
    strange = [code for code in v.observed.codes if code.split(b"/")[0] not in CODES
               and not code.startswith(b"X-")]
    expect(not strange, b" ".join(sorted(strange)).decode("latin-1"))


@TABLE.add("RFC2449-6.4-CODES-3", ADVICE, "RFC 2449 section 6.4",
           "Where codes are sent, RESP-CODES is announced",
           last=True, profile="extensions")
def announced_codes(v: Visit) -> None:
    """The codes of the run, and CAPA."""
    seen = b" ".join(sorted(v.observed.codes)).decode("latin-1")
    expect(not seen or v.met.has("RESP-CODES"), seen)
