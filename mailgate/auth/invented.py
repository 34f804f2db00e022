"""What SCRAM is answered for names that are nobody's: nothing in it may tell them from somebody's.

An account has one salt under all the names that it answers to, and so has an account that there is not.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from mailgate.auth import kept
from mailgate.auth.kept import ScramFamily
from mailgate.errors import AccountConflict
from mailgate.model import Habits, ScramKeys, ScramSecret
from mailgate.names import check_domain, fold

FAMILIES: dict[str, ScramFamily] = {"SCRAM-SHA-256": kept.SCRAM_SHA_256, "SCRAM-SHA-1": kept.SCRAM_SHA_1}
MOST_SALT_OCTETS = 64       # of an invented one


def invented(secret: bytes, scheme: str, key: str, habits: Habits = Habits()) -> ScramSecret:
    """Return an answer for a key (`known_by`) that has none: the same at each time, and good for no proof."""
    family = FAMILIES[scheme]
    iterations, salt_octets = habits.scram.get(scheme, (kept.SCRAM_ITERATIONS, kept.SCRAM_SALT_OCTETS))
    name = f"{scheme}:{key}".encode("utf-8", "surrogateescape")
    if not kept.LEAST_SCRAM_ITERATIONS <= iterations <= kept.MOST_SCRAM_ITERATIONS:
        iterations = kept.SCRAM_ITERATIONS
    salt = hmac.digest(secret, b"salt:" + name, "sha512")[:min(salt_octets, MOST_SALT_OCTETS)]
    keys = hashlib.blake2b(secret + name, digest_size=2 * family.octets).digest()
    return ScramSecret(iterations, salt, (ScramKeys(keys[:family.octets], keys[family.octets:]),))


def known_by(login: str, hostname: str, habits: Habits) -> str:
    """Return the key of the name that the account behind a login name has, if it is named as most are.

    Who is there is not looked at. `local@domain` is an account's that is named by its local part, or
    by all of it, as is the habit of that domain; NAME@hostname is NAME's where there is no other
    habit. `user@host` and `user+host` are the SDPS host's where there are any.
    """
    key = fold(login)
    local, _, domain = key.rpartition("@")
    if local and domain in habits.by_address:
        return key
    if local and domain and (domain in habits.by_local_part or domain == fold(hostname)):
        key = local
    return _host_of(key, habits) if habits.sdps else key


def _host_of(key: str, habits: Habits) -> str:
    """Return the SDPS host that a key is the name, a domain or a user's login of, if it is any host's."""
    for separator in "@+":
        user, _, host = key.rpartition(separator)
        if user and _can_be_host(host):
            key = host
            break
    name, _, parent = key.partition(".")
    while parent and parent not in habits.host_parents:
        label, _, parent = parent.partition(".")
        name = f"{name}.{label}"
    return name if parent else key


def _can_be_host(name: str) -> bool:
    try:
        check_domain(name)
    except AccountConflict:
        return False
    return True


def common(all_habits: Iterable[Habits]) -> Habits:
    """Return the habits of several checkers' users together; where they differ, the first one's."""
    every = list(all_habits)
    local_part: set[str] = set()
    address: set[str] = set()
    scram: dict[str, tuple[int, int]] = {}
    for habits in every:
        local_part |= habits.by_local_part - address
        address |= habits.by_address - local_part
        scram = {**habits.scram, **scram}
    return Habits(frozenset(local_part), frozenset(address), any(one.sdps for one in every),
                  frozenset().union(*(one.host_parents for one in every)), scram)
