"""What of a conversation is secret: passwords, digests, tokens, wherever they stand.

A client that is tested does strange things, and what it says may come in any pieces. So a line is judged by
what it looks like, not by whether a server would take it: a password is one however badly it is sent.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable

from mailgate.testing.scripted.notation import escape_shown
from mailgate.wire.shown import shown

Span = tuple[int, int]      # from where to where, in octets

MASK = b"********"
LEAST_OCTETS = 4            # of a secret that is masked wherever it stands: shorter ones are in every line
MOST_OCTETS = 4096          # of such a secret
HEAD_OCTETS = 32            # of a long one, by which it is known where it was cut off
MOST_SECRETS = 200          # of one session
LINE_OCTETS = 16 * 1024     # of a line that are kept to judge it by

# Verbs of POP3 and SMTP. A line that begins with none, and follows a secret one, is taken for more of it.
VERBS = frozenset(b"USER PASS APOP AUTH STLS CAPA STAT LIST UIDL RETR TOP DELE NOOP RSET LAST QUIT *ENV XTND"
                  b" LANG UTF8 HELP RPOP EHLO HELO LHLO MAIL RCPT DATA BDAT STARTTLS VRFY EXPN".split())
_BEGINNINGS = frozenset(verb[:length] for verb in VERBS for length in range(1, len(verb) + 1))
_MECHANISM = re.compile(rb"PLAIN|LOGIN|EXTERNAL|ANONYMOUS|GSSAPI|GSS-SPNEGO|NTLM|(CRAM|DIGEST)-MD5|OTP|S/KEY|"
                        rb"X?OAUTH2?(BEARER)?|OAUTHBEARER|KERBEROS_V[45]|SKEY|SECURID|SRP|"
                        rb"SCRAM-[A-Z0-9-]{1,20}", re.IGNORECASE)
_VERB = re.compile(rb"[^A-Za-z*]*(\*?[A-Za-z0-9]+)")
_PASS = re.compile(rb"[^A-Za-z*]*(?:PASS|RPOP)[ \t]?", re.IGNORECASE)
_AUTH = re.compile(rb"[^A-Za-z*]*AUTH[\s\0]*", re.IGNORECASE)
_APOP = re.compile(rb"[^A-Za-z*]*APOP[\s\0]+(?:[^\s\0]+[\s\0]+(?=[^\s\0])|(?=[0-9A-Fa-f]{32}[\s\0]*\Z))",
                   re.IGNORECASE)
_LOGIN = re.compile(rb"(?:[^A-Za-z*]*|[A-Za-z0-9.]+ )LOGIN[\s\0]+[^\s\0]+[\s\0]+", re.IGNORECASE)
_WORD = re.compile(rb"[^\s\0]+")


class Discretion:
    """Follows one conversation. Give it what both sides say, in order and in any pieces."""

    def __init__(self) -> None:
        self.values: list[bytes] = []       # secrets that are known, the longest first
        self._line = b""                    # of the client's, as far as it has come
        self._line_octets = 0
        self._behind = False                # the line before it was secret
        self._mechanism = b""               # that the latest AUTH named
        self._responses = 0                 # to its challenges
        self._open = False                  # the server waits for a response
        self._asked = False                 # the server's next line says whether it does
        self._answer = b""

    def heard(self, octets: bytes, in_exchange: bool = False) -> tuple[Span, ...]:
        """Take octets of the client's; return what of them is secret.

        `in_exchange`: they are known to answer a challenge.
        """
        spans: list[Span] = []
        at = 0
        for piece in lines_of(octets):
            spans += [(at + start, at + end) for start, end in self._take(piece, in_exchange)]
            at += len(piece)
        return united([*spans, *self.found(octets)])

    def said(self, octets: bytes) -> tuple[Span, ...]:
        """Take octets of the server's; return what of them repeats a secret."""
        if self._asked:
            self._answer += octets[:LINE_OCTETS]
            line, ended, _ = self._answer.partition(b"\n")
            if ended:
                self._asked, self._answer = False, b""
                self._open = line.startswith((b"+ ", b"334")) or line.rstrip(b"\r") == b"+"
        return united(self.found(octets))

    def found(self, octets: bytes) -> list[Span]:
        """Return where secrets that are known stand; of long ones, also the beginning alone."""
        spans = []
        for value in self.values:
            head = value[:HEAD_OCTETS]
            at = octets.find(head)
            while at >= 0:
                end = at + len(value) if octets.startswith(value, at) else at + _agreeing(octets, at, value)
                spans.append((at, end))
                at = octets.find(head, end)
        return spans

    def pending(self, octets: bytes) -> int:
        """Return how many octets at the end may be the beginning of a secret that is known."""
        return max((_overlap(octets, value) for value in self.values), default=0)

    def cut_off(self, octets: bytes) -> int:
        """Return the same where nothing follows: a few octets that happen to be the same are none."""
        length = self.pending(octets)
        return length if length >= LEAST_OCTETS else 0

    def masked(self, octets: bytes) -> bytes:
        """Return octets with every secret masked that is known."""
        return cover(octets, united(self.found(octets)))

    def masked_text(self, text: str) -> str:
        """Return words about the conversation with every secret masked, however it is written there."""
        for value in self.values:
            for form in (value.decode("utf-8", "surrogateescape"), escape_shown(value), shown(value)):
                text = text.replace(form, MASK.decode())
        return text

    def learn(self, value: bytes) -> None:
        """Keep a secret: it is masked wherever it stands, also in base64."""
        for one in (value, base64.b64encode(value)):
            if LEAST_OCTETS <= len(one) <= MOST_OCTETS and one.strip() and one not in self.values and (
                    len(self.values) < MOST_SECRETS):
                self.values.append(one)
        self.values.sort(key=len, reverse=True)

    # Lines ------------------------------------------------------------------------------------

    def _take(self, piece: bytes, in_exchange: bool) -> list[Span]:
        before = self._line_octets
        self._line_octets += len(piece)
        self._line += piece[:max(0, LINE_OCTETS - len(self._line))]
        line = self._line.rstrip(b"\r\n")
        response = (in_exchange or self._open) and line != b"*"
        start = 0 if response else self._start(line)
        if start == 0 and not (response or piece.endswith(b"\n")) and line.upper() in _BEGINNINGS:
            start = None                # it may become a verb; if not, it is known when it is whole
        if piece.endswith(b"\n"):
            self._end_line(line, start)
        if start is None:
            return []
        content = len(piece.rstrip(b"\r\n")) if piece.endswith(b"\n") else len(piece)
        first = max(0, start - before)
        return [(first, content)] if first < content else []

    def _start(self, line: bytes) -> int | None:
        """Return where in a line the secret begins that goes on to its end."""
        at = 0
        for part in line.split(b"\r"):      # some clients end lines so
            start = self._start_of_part(part)
            if start is not None:
                return at + start
            at += len(part) + 1
        return None

    def _start_of_part(self, line: bytes) -> int | None:
        if found := _PASS.match(line):
            return found.end()
        if found := _AUTH.match(line):
            mechanism = _WORD.match(line, found.end())
            if mechanism is None or not _MECHANISM.fullmatch(mechanism[0]):
                return found.end()
            return len(line) - len(line[mechanism.end():].lstrip())
        found = _APOP.match(line) or _LOGIN.match(line)
        if found:
            return found.end()
        if self._behind and line != b"*":
            word = _VERB.match(line)
            if word is None or word[1].upper() not in VERBS:
                return 0
        return None

    def _end_line(self, line: bytes, start: int | None) -> None:
        """Learn from a line that is whole, and be ready for the next."""
        self._line, self._line_octets, self._open = b"", 0, False
        begins = _AUTH.match(line) if start != 0 else None
        if begins:
            word = _WORD.match(line, begins.end())
            self._mechanism = b"" if word is None else word[0].upper()
            self._responses, self._asked, self._behind, self._answer = 0, True, True, b""
            if start is not None and line[start:].strip():
                self._learn_response(line[start:].strip())
        elif start == 0:
            self._asked, self._answer, self._behind = True, b"", True
            self._learn_response(line)
        elif start is not None:
            self._behind = True
            for value in (line[start:], line[start:].strip()):
                self.learn(value)
        elif line != b"*":
            self._behind = False

    def _learn_response(self, response: bytes) -> None:
        self._responses += 1
        if self._mechanism == b"LOGIN" and self._responses == 1:      # a name
            return
        self.learn(response)
        try:
            decoded = base64.b64decode(response, validate=True)
        except (binascii.Error, ValueError):
            return
        for value in _secrets_of(self._mechanism, decoded):
            self.learn(value)


def _agreeing(octets: bytes, at: int, value: bytes) -> int:
    """Return how many octets from a place on are those of a secret's beginning."""
    length = min(len(value), len(octets) - at)
    while not octets.startswith(value[:length], at):
        length -= 1
    return length


def _overlap(octets: bytes, value: bytes) -> int:
    """Return how many octets at the end are the beginning of a value, but not all of it."""
    at = octets.find(value[:1], max(0, len(octets) - len(value) + 1))
    while at >= 0 and not value.startswith(octets[at:]):
        at = octets.find(value[:1], at + 1)
    return len(octets) - at if at >= 0 else 0


def _secrets_of(mechanism: bytes, decoded: bytes) -> Iterable[bytes]:
    if mechanism == b"PLAIN":
        return [decoded, *decoded.split(b"\0")[2:]]
    if mechanism == b"CRAM-MD5":
        return [decoded.rpartition(b" ")[2]]
    if b"OAUTH" in mechanism:
        return [decoded, *re.findall(rb"(?i)bearer ([^\x01]+)", decoded)]
    return [decoded]


def lines_of(octets: bytes) -> list[bytes]:
    """Return the lines of octets with their ends; the last may have none."""
    return re.findall(rb"[^\n]*\n|[^\n]+\Z", octets)


def united(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Return spans in order, those that touch as one."""
    result: list[Span] = []
    for start, end in sorted(spans):
        if start >= end:
            continue
        if result and start <= result[-1][1]:
            result[-1] = result[-1][0], max(end, result[-1][1])
        else:
            result.append((start, end))
    return tuple(result)


def cover(octets: bytes, spans: Iterable[Span], mask: bytes = MASK) -> bytes:
    """Return octets with a mask in place of every span."""
    parts, at = [], 0
    for start, end in spans:
        parts += [octets[at:start], mask]
        at = end
    return b"".join([*parts, octets[at:]])
