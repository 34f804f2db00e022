"""The checker of an LDAP directory, as a configuration says."""

from __future__ import annotations

from typing import Any

from mailgate.config import CheckerSection, Config
from mailgate.config.directory import (
    ANSWER_SECONDS,
    CONNECT_SECONDS,
    TIMEOUT_SECONDS,
    maildrop_attribute,
)
from mailgate.errors import ConfigurationError


def ldap_checker(config: Config, section: CheckerSection, reactor: Any, remembered: Any) -> Any:
    """Return the checker of a section. Raises: ConfigurationError, without python-ldap."""
    _require_python_ldap()
    from mailgate.auth.ldapchecker import CONNECTIONS, BindChecker, Naming, SearchChecker

    directory = _directory(config, section)
    naming = Naming(config.hostname, section.domains)
    options: dict[str, Any] = {
        "connections": section.connections or CONNECTIONS, "reactor": reactor, "remembered": remembered,
        "timeout_seconds": section.timeout_seconds or TIMEOUT_SECONDS}
    search = _search(section)
    if search is None:
        assert section.user_dn is not None, "the configuration was checked"
        return BindChecker(directory, section.user_dn, naming, **options)
    assert section.search_filter is not None, "the configuration was checked"
    return SearchChecker(directory, search, section.search_filter, naming, mail_pattern=section.mail_filter,
                         **options)


def ldap_faults(config: Config, section: CheckerSection) -> list[str]:
    """Return what keeps each server from being used, each with its setting. Asks them: blocks."""
    try:
        _require_python_ldap()
    except ConfigurationError as fault:
        return [f": {words}" for words in fault.problems]
    found = _directory(config, section).faults(_search(section), section.timeout_seconds or TIMEOUT_SECONDS)
    return [f".{setting}: {words}" for setting, words in found]


def ldap_warnings(section: CheckerSection) -> list[str]:
    """Return what is allowed and dangerous."""
    if section.starttls is not False:
        return []
    return [f"{url}: passwords go there in clear" for url in section.urls or ()
            if url.scheme == "ldap" and not url.is_local]


def _directory(config: Config, section: CheckerSection) -> Any:
    from mailgate.auth.ldapserver import Directory, Reader
    from mailgate.auth.ldapwire import Times

    def path(setting: str | None) -> str | None:
        return None if setting is None else str(config.folder / setting)

    secret = path(section.bind_password_file)
    reader = Reader(section.bind_dn, secret) if section.bind_dn is not None and secret is not None else None
    return Directory(
        section.urls or (), start_tls=section.starttls, ca_file=path(section.ca_file), reader=reader,
        times=Times(section.connect_seconds or CONNECT_SECONDS, section.answer_seconds or ANSWER_SECONDS))


def _search(section: CheckerSection) -> Any:
    from mailgate.auth.ldapserver import Search

    if section.search_base is None:
        return None
    attribute = maildrop_attribute(section)
    assert attribute is not None, "the configuration was checked"
    return Search(section.search_base, section.search_scope or "subtree", attribute)


def _require_python_ldap() -> None:
    try:
        __import__("ldap")
    except ImportError as fault:
        raise ConfigurationError(["needs the package python-ldap: pip install 'mailgate[ldap]'"]) from fault
