"""A checker of bearer tokens, as its section says."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mailgate.auth.hashing import Hashing, Inline
from mailgate.auth.oauth import (
    DEFAULT_ALGORITHMS,
    AskedTokens,
    Expected,
    PublishedTokens,
    SignedTokens,
    TokenChecker,
    Tokens,
    require_packages,
)
from mailgate.auth.published import PublishedKeys, fetch_set
from mailgate.config import CheckerSection, Config
from mailgate.config.values import is_web_address
from mailgate.errors import ConfigurationError, StoreUnavailable
from mailgate.interfaces import IAccountStore


def token_checker(section: CheckerSection, folder: Path, pool: Hashing, reactor: Any,
                  accounts: IAccountStore | None, now: Callable[[], float] = time.time) -> TokenChecker:
    """Return the checker; relative paths start from the folder. `now` tells what has expired.

    Raises: ConfigurationError, each problem with its setting in front.
    """
    expected = Expected(section.issuer, section.audience, section.scope)
    tokens: Tokens
    _require(section)
    if section.introspection is not None:
        tokens = AskedTokens(section.introspection, expected, reactor=reactor,
                             client=_client(section, folder), now=now)
    elif is_published(section):
        tokens = PublishedTokens(
            _published(section, reactor), pool, expected, algorithms=_algorithms(section), now=now)
    else:
        tokens = _signed(section, folder, pool, expected, now)
    return TokenChecker(tokens, accounts, claim=section.claim or "sub")


def key_file_faults(section: CheckerSection, folder: Path) -> list[str]:
    """Return what is wrong with a file of keys, or with the packages that tokens need."""
    try:
        _require(section)
        if section.keys is not None and not is_published(section):
            _signed(section, folder, Inline(), Expected()).keys()
    except ConfigurationError as fault:
        return fault.problems
    except StoreUnavailable as fault:
        return [f"keys: {fault}"]
    return []


async def published_faults(config: Config, reactor: Any) -> list[str]:
    """Return what is wrong with the keys that issuers publish: each set is fetched."""
    faults = []
    for index, section in enumerate(config.checker):
        try:
            if is_published(section):
                _require(section)
                await _published(section, reactor).current()
        except ConfigurationError:
            continue            # told by the other
        except StoreUnavailable as fault:
            faults.append(f"checker[{index}].keys: {fault}")
    return faults


def is_published(section: CheckerSection) -> bool:
    """Return whether the keys of tokens have to be fetched."""
    return is_web_address(section.keys or "")


def _published(section: CheckerSection, reactor: Any) -> PublishedKeys:
    url = section.keys or ""
    return PublishedKeys(url, _algorithms(section), lambda: fetch_set(reactor, url))


def _signed(section: CheckerSection, folder: Path, pool: Hashing, expected: Expected,
            now: Callable[[], float] = time.time) -> SignedTokens:
    return SignedTokens(str(folder / (section.keys or "")), pool, expected, algorithms=_algorithms(section),
                        now=now)


def _algorithms(section: CheckerSection) -> tuple[str, ...]:
    return section.algorithms or DEFAULT_ALGORITHMS


def _require(section: CheckerSection) -> None:
    """Raise ConfigurationError unless the packages are there that the section needs."""
    setting = "keys" if section.introspection is None else "introspection"
    packages = ["treq"] if setting == "introspection" else ["joserfc"]
    if is_published(section):
        packages.append("treq")
    try:
        require_packages(*packages)
    except ConfigurationError as fault:
        raise ConfigurationError([f"{setting}: {words}" for words in fault.problems]) from fault


def _client(section: CheckerSection, folder: Path) -> tuple[str, str] | None:
    if section.client_id is None or section.client_secret_file is None:
        return None
    try:
        secret = (folder / section.client_secret_file).read_text(encoding="utf-8").strip()
    except OSError as fault:
        raise ConfigurationError([f"client_secret_file: {fault.strerror}"]) from fault
    return section.client_id, secret
