"""What became of the mail: rules that judge a client's run, and nothing else does.

An original is compared with what the client stored by the octets of its body, line ends set equal and the
last one left out; what a client adds to a header is its own business, unless it is a reply of the server's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

# findings, the worst first; the table's words
LOST = "lost"               # removed from the server by the client, and not whole in its mailbox
INJECTED = "injected"       # spoke in clear where TLS was required, or took what was injected before TLS
TRUSTED = "trusted"         # logged in inside TLS, or by a timestamp, that it should have refused
HANG = "hang"               # sat longer than its own limit allows, or than anyone would wait
ENDLESS = "endless"         # was still talking when the time for a poll was up
CRASH = "crash"             # ended by a signal, or by an exception that nobody meant
TORN = "torn"               # stored a part of a message as a message
STRANGE = "strange"         # stored what no message was
DOUBLED = "doubled"         # stored a message twice
ALTERED = "altered"         # stored a message with other octets
MISSED = "missed"           # never fetched what lay on the server all the time, also when all was well again
KEPT = "kept"               # left on the server for good what it should have deleted
RECOVERED = "recovered"     # had everything once the trouble was over, after a poll that failed
UNHARMED = "unharmed"       # had everything, and no poll failed
NOT_MET = "not met"         # does nothing that the scenario's faults could meet

BAD = (LOST, INJECTED, TRUSTED, HANG, ENDLESS, CRASH, TORN, STRANGE, DOUBLED, ALTERED, MISSED, KEPT)
MARK = b"injected by the lab"       # what scenarios say that inject: a client that reports it has believed it
SECRETS = ("USER", "PASS", "APOP", "AUTH")


@dataclass
class Poll:
    """One run of the client's program."""

    code: int
    seconds: float
    output: str                 # the end of what it printed
    ended: str = ""             # HANG or ENDLESS, where it was ended by us
    failed: bool = False        # its exit code says that something went wrong


@dataclass
class Original:
    """A message as it lay on the server."""

    unique_id: str
    content: bytes
    left: bool = True           # it is still there, after all


@dataclass
class Outcome:
    """All that is known of a run."""

    originals: Sequence[Original]
    stored: Sequence[bytes]
    polls: Sequence[Poll]
    removed: frozenset[str]                 # unique-ids that the client removed
    deletes: bool = True                    # the client was told to delete what it has
    met: bool = True                        # the scenario's faults met something, or it has none
    altered: bool = False                   # by the server: content that differs is not the client's doing
    secure: bool = False                    # TLS was required of the client
    said_in_clear: Sequence[str] = ()       # verbs, in sessions of such a client
    trusting_logins: int = 0                # sessions with a login behind bad TLS or a bad timestamp
    stored_after: Sequence[int] = ()        # how many messages were stored after each poll
    notes: dict[str, list[str]] = field(default_factory=dict)


def judge(outcome: Outcome) -> list[str]:
    """Return the findings, the worst first; NOT_MET, RECOVERED or UNHARMED alone where there is none."""
    found = {poll.ended for poll in outcome.polls if poll.ended}
    found |= {CRASH for poll in outcome.polls if _crashed(poll)}
    found |= _judge_mail(outcome) - ({ALTERED} if outcome.altered else set())
    if outcome.secure and set(outcome.said_in_clear) & set(SECRETS):
        found.add(INJECTED)
    if any(MARK.decode() in poll.output for poll in outcome.polls):
        found.add(INJECTED)
    if outcome.trusting_logins:
        found.add(TRUSTED)
    bad = [word for word in BAD if word in found]
    if bad:
        return bad
    if not outcome.met:
        return [NOT_MET]
    return [RECOVERED if any(poll.failed for poll in outcome.polls) else UNHARMED]


def _crashed(poll: Poll) -> bool:
    words = ("Traceback (most recent call last)", "Unhandled exception follows")
    return not poll.ended and (poll.code < 0 or poll.code > 128 or any(one in poll.output for one in words))


def _judge_mail(outcome: Outcome) -> set[str]:
    found: set[str] = set()
    copies = {one.unique_id: [0, 0, 0] for one in outcome.originals}      # whole, altered, torn
    for content in outcome.stored:
        owner, how = _owner(content, outcome.originals)
        if owner is None:
            found.add(STRANGE)
            outcome.notes.setdefault(STRANGE, []).append(repr(content[:80]))
        else:
            copies[owner.unique_id][how] += 1
    for one in outcome.originals:
        whole, altered, torn = copies[one.unique_id]
        words = set()
        if torn:
            words.add(TORN)
        if altered:
            words.add(ALTERED)
        if whole + altered > 1:
            words.add(DOUBLED)
        if not whole and not altered:
            if one.unique_id in outcome.removed:
                words.add(LOST)
            elif one.left and not torn:
                words.add(MISSED)
        elif outcome.deletes and one.left:
            words.add(KEPT)
        for word in words:
            outcome.notes.setdefault(word, []).append(name_of(one.content) or one.unique_id)
        found |= words
    return found


# Which message is it ------------------------------------------------------------------------------

WHOLE, CHANGED, PART = range(3)
_NAME = re.compile(rb"(?mi)^(?:Message-ID: <|Subject: (?:\S+ )?)([a-z0-9-]+)[. ](\d+)(?:@samples|\r?$)")


def name_of(content: bytes) -> str | None:
    """Return "SAMPLE NUMBER" of a message of ours, as its header tells it, else None."""
    found = _NAME.search(content[:4000])
    return None if found is None else f"{found[1].decode()} {int(found[2])}"


def _owner(content: bytes, originals: Sequence[Original]) -> tuple[Original | None, int]:
    """Return which original was stored, and how: WHOLE, CHANGED, PART."""
    name = name_of(content)
    named = [one for one in originals if name is not None and name_of(one.content) == name]
    text = body_of(content)
    for one in named or originals:
        if text == body_of(one.content) and (named or len(text) > 1):
            return one, CHANGED if _has_reply(content) else WHOLE
    if not named:
        if len(content) > 40:
            for one in originals:
                if plain(content) in plain(one.content):
                    return one, PART
        return None, PART
    whole = body_of(named[0].content)
    return named[0], PART if len(text) < len(whole) and whole.startswith(text[:-1]) else CHANGED


def _has_reply(content: bytes) -> bool:
    """Whether a line of the header is a status line: no field of ours looks so."""
    return re.search(rb"(?m)^(?:\+OK|-ERR)", plain(content).partition(b"\n\n")[0]) is not None


def body_of(content: bytes) -> bytes:
    """Return a message's body as it is compared."""
    return plain(content).partition(b"\n\n")[2].rstrip(b"\n")


def plain(content: bytes) -> bytes:
    """Return a message with LF line ends."""
    return content.replace(b"\r\n", b"\n")
