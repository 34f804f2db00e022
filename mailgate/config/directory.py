"""What settings of an LDAP checker have to do with one another."""

from __future__ import annotations

from collections.abc import Iterator

from mailgate.config.problems import KeyPath, Problem
from mailgate.config.sections import CheckerSection
from mailgate.directories import compared_attributes

# Seconds, where they are left out.
CONNECT_SECONDS, ANSWER_SECONDS, TIMEOUT_SECONDS = 3.0, 5.0, 15.0

OF_SEARCH = ("search_scope", "search_filter", "maildrop_attribute", "mail_filter", "bind_dn",
             "bind_password_file")


def maildrop_attribute(one: CheckerSection) -> str | None:
    """Return the attribute that names the maildrop; left out, it is the one that the filter compares."""
    compared = compared_attributes(one.search_filter) if one.search_filter is not None else ()
    return one.maildrop_attribute or (compared[0] if len(compared) == 1 else None)


def ldap_contradictions(one: CheckerSection, where: KeyPath) -> Iterator[Problem]:
    """Give what contradicts, of a [[checker]] of any kind."""
    if one.kind != "ldap":
        for name in CheckerSection.OF_LDAP:
            if one.kind and getattr(one, name) is not None and name not in CheckerSection.OF_PAM:
                yield Problem((*where, name), f"has no meaning for {one.kind}")
        return
    if one.path is not None:
        yield Problem((*where, "path"), "has no meaning for ldap: `urls` says where the directory is")
    yield from _transport(one, where)
    yield from _finding(one, where)
    times = one.connect_seconds or CONNECT_SECONDS, one.answer_seconds or ANSWER_SECONDS
    if (one.timeout_seconds or TIMEOUT_SECONDS) <= max(times):
        yield Problem((*where, "timeout_seconds"),
                      f"{one.timeout_seconds or TIMEOUT_SECONDS:g} is not more than `connect_seconds` and "
                      "`answer_seconds`: another server would never be asked")


def _transport(one: CheckerSection, where: KeyPath) -> Iterator[Problem]:
    if not one.urls:
        yield Problem((*where, "urls"), "is missing" if one.urls is None else "the array is empty")
        return
    if len(set(one.urls)) != len(one.urls):
        yield Problem((*where, "urls"), "a server stands in it twice")
    plain = [url for url in one.urls if url.scheme == "ldap"]
    if one.starttls is not None and not plain:
        yield Problem((*where, "starttls"), "has a meaning for ldap:// only")
    protected = [url for url in plain if (not url.is_local if one.starttls is None else one.starttls)]
    if one.ca_file is not None and not protected and not any(url.scheme == "ldaps" for url in one.urls):
        yield Problem((*where, "ca_file"), "has no meaning where no TLS is spoken")


def _finding(one: CheckerSection, where: KeyPath) -> Iterator[Problem]:
    if (one.user_dn is None) == (one.search_base is None):
        yield Problem((*where, "search_base"), "either this is needed or `user_dn`, and not both")
    elif one.user_dn is not None:
        for name in OF_SEARCH:
            if getattr(one, name) is not None:
                yield Problem((*where, name), "has no meaning with `user_dn`: nothing is searched for")
    elif one.search_filter is None:
        yield Problem((*where, "search_filter"), "is missing")
    elif maildrop_attribute(one) is None:
        yield Problem((*where, "maildrop_attribute"),
                      "is missing: `search_filter` compares the name with more than one attribute")
    if (one.bind_dn is None) != (one.bind_password_file is None):
        yield Problem((*where, "bind_dn"), "goes with `bind_password_file`")
    if one.domains == ():
        yield Problem((*where, "domains"), "the array is empty")
