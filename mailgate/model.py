"""Frozen values that pass between layers. They hold no behaviour beyond what they derive."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

INBOX = "INBOX"                     # the folder that every maildrop has; POP3 shows it
FLAGS = "DFPRST"                    # draft, flagged, passed on, replied to, seen, trashed: as in Maildir
MOST_APP_PASSWORDS = 64             # of one account
MOST_CHOSEN_APP_PASSWORDS = 4       # their hashes are slow, and a wrong password is held against each of them


class Envelope(NamedTuple):
    """What SMTP knew of one copy of a message (RFC 5321 section 2.3.1); `*ENV` shows it."""

    sender: bytes       # reverse-path without angle brackets; empty for the null sender
    recipient: bytes    # forward-path as given in RCPT, without angle brackets
    arrived_ms: int     # milliseconds since 1970, UTC


class Placement(NamedTuple):
    """One recipient's copy of a delivery: where it goes and what is its own.

    `preamble` is the header lines in front of the shared body, CRLF-ended and never beginning with a
    dot. The rest is given by an import: `identity` tells a message of the old server from all others
    there (left out, `unique_id` does), and `unique_id` is the id that the old server gave it.
    `account` is what the recipient's Target said: if it is not so any more, the copy is for nobody.
    """

    maildrop: str               # name of the maildrop (an account's name)
    user: str | None            # key of the envelope recipient's local part: the SDPS view
    envelope: Envelope
    preamble: bytes = b""
    unique_id: bytes | None = None
    identity: bytes | None = None
    account: bool | None = None     # the maildrop is an account's of the store; no account's; not said
    folder: str = INBOX         # made, if the maildrop has none such
    flags: str = ""             # letters of FLAGS, in that order


class Listed(NamedTuple):
    """One message of a maildrop's folder: a line of `mailgate maildrop list`."""

    number: int         # 1..n
    octets: int         # CRLF line ends, before byte-stuffing, preamble counted
    unique_id: bytes
    envelope: Envelope
    user: str | None = None     # key of the envelope recipient's local part: the SDPS view that shows it
    flags: str = ""             # letters of FLAGS, in that order


class SpoolMessage(NamedTuple):
    """A message that lies in a file of other programs."""

    name: bytes             # what it is known by for as long as it is there, and never another one
    octets: int             # CRLF line ends, before byte-stuffing
    unique_id: bytes
    envelope: Envelope
    flags: str = ""         # letters of FLAGS, in that order


class Note(NamedTuple):
    """What a store knows of a message in a file of other programs, better than the file can tell."""

    unique_id: bytes | None = None
    envelope: Envelope | None = None    # then `user` is known, too
    user: str | None = None             # key of the envelope recipient's local part


class ScanListing:
    """The messages of one maildrop view as one login found them; shared by sessions, never changed.

    Arrays are indexed 0..n-1 where the wire counts 1..n. 100,000 messages take about 4 MB.
    """

    __slots__ = ("sizes", "octets", "rendered", "answers", "_unique_ids", "_starts")

    def __init__(self, sizes: array[int], unique_ids: list[bytes]) -> None:
        self.sizes = sizes              # array('Q'): octets of each message
        self.octets = sum(sizes)
        self.rendered: dict[str, bytes] = {}   # replies kept by the protocol rooms, by their own keys
        self.answers: dict[bytes, bytes] = {}  # short ones of theirs, by the line that is answered
        self._unique_ids = b" ".join(unique_ids)
        self._starts = array("I", accumulate([len(one) + 1 for one in unique_ids], initial=0))

    def __len__(self) -> int:
        return len(self.sizes)

    def unique_id(self, index: int) -> bytes:
        """Return the unique-id of a message, 1 to 70 octets of 0x21-0x7E (RFC 1939 section 7)."""
        return self._unique_ids[self._starts[index]:self._starts[index + 1] - 1]

    def unique_ids(self) -> list[bytes]:
        """Return all unique-ids, in order."""
        return self._unique_ids.split(b" ") if self.sizes else []


EMPTY_LISTING = ScanListing(array("Q"), [])


@dataclass(frozen=True)
class Account:
    """An account of the store: how it proves itself and what it answers to."""

    name: str
    sdps: bool = False                      # an SDPS host: user@host, user+host, several passwords
    verifiers: tuple[str, ...] = field(default=(), repr=False)   # {SCHEME}hash, tried in order
    addresses: tuple[str, ...] = ()         # ordinary accounts: what they receive
    domains: tuple[str, ...] = ()           # SDPS hosts: every local part of these
    disabled: bool = False
    version: int = 0                        # credential version: grows with every change of the above, and
                                            # of app passwords
    last_login_ms: int | None = None        # milliseconds since 1970, UTC


@dataclass(frozen=True)
class AppPassword:
    """A password beside the account's own, for one program or device; revoked by its label."""

    label: str
    verifier: str = field(repr=False)       # {SCHEME}hash
    generated: bool = False                 # drawn at random: so hard to guess that a fast hash will do
    created_ms: int = 0                     # milliseconds since 1970, UTC
    last_used_ms: int | None = None         # the same, to a minute; None: never
    last_used_from: str | None = None       # address of the client's host, if there was one


@dataclass(frozen=True)
class Login:
    """A login name that was found: the account, and the SDPS user whose view was asked for."""

    account: Account
    view: str | None = None                 # None: the whole maildrop
    app_passwords: tuple[AppPassword, ...] = ()     # of the account, by label


@dataclass(frozen=True)
class Admission:
    """What a checker vouches for, and the store verifies again while it takes the lease.

    Without `account` it is a user whom only another checker knows: never one of the store's. `judged`:
    another store, which has the accounts, admitted him; what accounts this one has does not count.
    """

    maildrop: str
    view: str | None = None
    account: str | None = None              # name of the store's account, if it is one
    version: int | None = None              # credential version that was checked
    login_delay_seconds: int = 0            # least time between two logins to this view; 0: none
    app_password: str | None = None         # label of the app password that it was
    used_from: str | None = None            # address of the client's host, to be noted with its use
    judged: bool = False


@dataclass(frozen=True)
class Target:
    """Where a recipient's mail goes."""

    maildrop: str
    user: str | None = None                 # key of the local part
    account: bool | None = None             # it is an account's of the store; no account's; not said


class ScramKeys(NamedTuple):
    """What is kept of one password for SCRAM: StoredKey and ServerKey (RFC 5802 section 3)."""

    stored: bytes
    server: bytes

    def __repr__(self) -> str:
        return "ScramKeys(...)"


class ScramSecret(NamedTuple):
    """What a SCRAM exchange must know of a login name.

    `vouch` goes back to whoever gave the secret, once one of the keys is proven; None refuses every
    proof: the name is unknown (and all of this invented), or its account disabled.
    """

    iterations: int
    salt: bytes
    keys: tuple[ScramKeys, ...]
    vouch: object = None


@dataclass(frozen=True)
class Habits:
    """What most users of a checker have in common; what is invented for unknown names is made after it.

    Domains are keys (`names.fold`).
    """

    by_local_part: frozenset[str] = frozenset()     # whose users are named by their address's local part
    by_address: frozenset[str] = frozenset()        # whose users are named by all of it, or otherwise
    sdps: bool = False                              # there are SDPS hosts
    host_parents: frozenset[str] = frozenset()      # P, where an SDPS host N has the domain N.P
    scram: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # by scheme: iterations, salt octets
