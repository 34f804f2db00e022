"""Readers of single settings: each takes what TOML gave and returns the value, or says what is wrong.

A reader raises `BadValue` with words for an operator; where in the file it stands is added by
`mailgate.config.reading`. TOML's types are taken at their word: "1" is no number, true is no 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, NamedTuple

from mailgate import directories
from mailgate.formats.paths import parse_pattern
from mailgate.formats.uniqueids import parse_format
from mailgate.principals import Rule, parse_principal, parse_rule

_HOST_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"{_HOST_LABEL}(?:\.{_HOST_LABEL})*")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

VERSION_CHARACTERS = 63
GREETING_OCTETS = 500   # with "+OK " and CRLF it fits the 512 octets of RFC 2449 section 4

PROTOCOLS = ("pop3", "pop3s", "kpop", "lmtp")
LATER_PROTOCOLS = ("pop2", "pop4", "imap", "smtp", "submission")


MECHANISMS = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-1", "GSSAPI", "EXTERNAL",
              "OAUTHBEARER", "XOAUTH2", "CRAM-MD5", "PLAIN", "LOGIN")


TOKEN_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")


class BadValue(ValueError):
    """A setting whose value cannot be; the text says what can."""


class Location(NamedTuple):
    """Where a part of the store lives: `scheme:path`, the path as written."""

    scheme: str
    path: str


def _shown(value: object) -> str:
    """Return a value as an operator wrote it, near enough."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    return "a table" if isinstance(value, dict) else "an array" if isinstance(value, list) else str(value)


def switch(value: Any) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise BadValue(f"true or false is expected, not {_shown(value)}")
    return value


def text(value: Any) -> str:
    """Read a string that is not empty."""
    if not isinstance(value, str):
        raise BadValue(f"a string is expected, not {_shown(value)}")
    if not value:
        raise BadValue("the string is empty")
    return value


def whole(least: int, most: int) -> Callable[[Any], int]:
    """Make a reader of whole numbers between two bounds."""
    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadValue(f"a whole number is expected, not {_shown(value)}")
        if not least <= value <= most:
            raise BadValue(f"{value} is not between {least} and {most}")
        return value
    return read


def seconds(least: float, most: float) -> Callable[[Any], float]:
    """Make a reader of durations in seconds, fractions allowed."""
    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise BadValue(f"a number of seconds is expected, not {_shown(value)}")
        if not least <= value <= most:      # a NaN is in no range
            raise BadValue(f"{value} is not between {least:g} and {most:g}")
        return float(value)
    return read


def factor(least: float, most: float) -> Callable[[Any], float]:
    """Make a reader of numbers by which something is multiplied, fractions allowed."""
    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise BadValue(f"a number is expected, not {_shown(value)}")
        if not least <= value <= most:
            raise BadValue(f"{value} is not between {least:g} and {most:g}")
        return float(value)
    return read


def host_name(value: Any) -> str:
    """Read a host's name (RFC 1123 section 2.1)."""
    name = text(value)
    if not _HOST_NAME.fullmatch(name) or len(name) > 255:
        raise BadValue(f"{_shown(name)} is not a host name")
    return name


def certificate_name(value: Any) -> str:
    """Read a host's name as a client asks for it, or `*.` and a domain; in lower case."""
    name = text(value)
    host_name(name.removeprefix("*."))
    return name.lower()


def word(value: Any) -> str:
    """Read a name that other settings refer to."""
    name = text(value)
    if not _WORD.fullmatch(name):
        raise BadValue(f"{_shown(name)} is not a name of letters, digits and . _ -")
    return name


def recipient(value: Any) -> str:
    """Read an account's name or an address."""
    path = text(value)
    if not path or not path.isprintable() or " " in path:
        raise BadValue(f"{_shown(path)} is neither an account's name nor an address")
    return path


def words(value: Any) -> tuple[str, ...]:
    """Read an array of names, each only once."""
    if not isinstance(value, list):
        raise BadValue(f"an array of names is expected, not {_shown(value)}")
    if not value:
        raise BadValue("the array is empty")
    names = tuple(word(name) for name in value)
    if len(set(names)) != len(names):
        raise BadValue("a name stands in it twice")
    return names


def array_of(read_one: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    """Make a reader of arrays, each of whose values another reader takes."""
    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise BadValue(f"an array is expected, not {_shown(value)}")
        return tuple(read_one(one) for one in value)
    return read


def service_principal(value: Any) -> str:
    """Read a service's principal with its realm, such as pop/mail.example.org@EXAMPLE.ORG."""
    name = text(value)
    try:
        principal = parse_principal(name)
    except ValueError as fault:
        raise BadValue(f"{_shown(name)}: {fault}") from fault
    if len(principal.components) != 2:
        raise BadValue(f"{_shown(name)} is not SERVICE/HOST@REALM")
    return name


def realm(value: Any) -> str:
    """Read the name of a Kerberos realm."""
    name = text(value)
    if not name.isprintable() or set(name) & set(" @/\\{}*"):
        raise BadValue(f"{_shown(name)} is not a realm")
    return name


def principal_rule(value: Any) -> Rule:
    """Read a rule from principals to maildrops: `{name}@EXAMPLE.ORG -> {name}`."""
    rule = text(value)
    try:
        return parse_rule(rule)
    except ValueError as fault:
        raise BadValue(f"{_shown(rule)}: {fault}") from fault


def application_version(value: Any) -> str:
    """Read the application version that a KPOP client says in its sendauth exchange."""
    version = text(value)
    if not version.isascii() or not version.isprintable() or len(version) > VERSION_CHARACTERS:
        raise BadValue(f"{_shown(version)} is not printable ASCII of at most {VERSION_CHARACTERS} characters")
    return version


def words_of(*known: str) -> Callable[[Any], tuple[str, ...]]:
    """Make a reader of arrays of fixed words, in any case; the array may be empty."""
    def read(value: Any) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise BadValue(f"an array of words is expected, not {_shown(value)}")
        by_key = {one.lower(): one for one in known}
        names = []
        for one in value:
            name = by_key.get(text(one).lower())
            if name is None:
                raise BadValue(f"unknown: {_shown(one)}; known: {', '.join(known)}")
            if name in names:
                raise BadValue(f"{_shown(one)} stands in it twice")
            names.append(name)
        return tuple(names)
    return read


def one_of(*known: str) -> Callable[[Any], str]:
    """Make a reader of fixed words."""
    def read(value: Any) -> str:
        if (name := text(value)) not in known:
            raise BadValue(f"unknown: {_shown(name)}; known: {', '.join(known)}")
        return name
    return read


def protocol(value: Any) -> str:
    """Read what a listener speaks."""
    name = text(value)
    if name in LATER_PROTOCOLS:
        raise BadValue(f"{_shown(name)} is not in this version; known: {', '.join(PROTOCOLS)}")
    return one_of(*PROTOCOLS)(name)


def location(*known: str, later: tuple[str, ...] = (),
             urls: Mapping[str, Callable[[str], object]] | None = None) -> Callable[[Any], Location]:
    """Make a reader of `scheme:path`; `urls`: further schemes, and what judges what is behind their colon."""
    def read(value: Any) -> Location:
        scheme, colon, path = text(value).partition(":")
        choices = ", ".join([*(f"{name}:PATH" for name in known), *(f"{name}://..." for name in urls or {})])
        if colon and scheme in (urls or {}):
            try:
                (urls or {})[scheme](path)
            except ValueError as fault:
                raise BadValue(str(fault)) from fault
            return Location(scheme, path)
        if colon and scheme in later:
            raise BadValue(f"{scheme}: is not in this version; known: {choices}")
        if not colon or scheme not in known:
            raise BadValue(f"unknown scheme in {_shown(value)}; known: {choices}")
        if not path or "\0" in path:
            raise BadValue(f"a path is missing after {scheme}:")
        return Location(scheme, path)
    return read


def spools(*known: str) -> Callable[[Any], Location]:
    """Make a reader of `scheme:path` where the path has a maildrop's name in it."""
    def read(value: Any) -> Location:
        found = location(*known)(value)
        try:
            parse_pattern(found.path)
        except ValueError as fault:
            raise BadValue(f"{_shown(value)}: {fault}") from fault
        return found
    return read


def field_name(value: Any) -> str:
    """Read the name of a header field (RFC 5322 section 2.2)."""
    name = text(value)
    if not re.fullmatch(r"[!-9;-~]{1,76}", name):
        raise BadValue(f"{_shown(name)} is not the name of a header field")
    return name


def pam_service(value: Any) -> str:
    """Read the name of a PAM service: a file of /etc/pam.d. PAM itself folds it to lower case."""
    name = word(value)
    if name != name.lower() or name == "other":
        raise BadValue(f"{_shown(name)} is not the name of a service of its own, in lower case")
    return name


def path(value: Any) -> str:
    """Read a path, relative to the file's folder or absolute."""
    if "\0" in text(value):
        raise BadValue("a path holds no NUL")
    return str(value)


def trusted(value: Any) -> str | IPv4Network | IPv6Network:
    """Read who is trusted: an address, a network, or "unix" for all unix sockets."""
    name = text(value)
    if name == "unix":
        return name
    try:
        network = ip_network(name)
    except ValueError as fault:
        if "host bits" in str(fault):
            raise BadValue(f"{_shown(name)} has bits behind its prefix: the network is "
                           f"{ip_network(name, strict=False)}") from fault
        raise BadValue(f'{_shown(name)} is no network, no address, and not "unix"') from fault
    if "%" in name:
        raise BadValue(f"{_shown(name)} names an interface, which is not looked at")
    if not network.prefixlen:
        raise BadValue(f"{_shown(name)} is everybody: whoever comes could claim any address")
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise BadValue(f"{_shown(name)} is of IPv4: it is written as such")
    return network


def parsed_by(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    """Make a reader of strings that a parser takes, of what it makes of them."""
    def read(value: Any) -> Any:
        given = text(value)
        try:
            return parse(given)
        except ValueError as fault:
            raise BadValue(f"{_shown(given)}: {fault}") from fault
    return read


directory_server = parsed_by(directories.parse_server)
directory_filter = parsed_by(directories.parse_filter)
directory_name = parsed_by(directories.parse_dn)
directory_name_pattern = parsed_by(directories.parse_dn_pattern)
directory_attribute = parsed_by(directories.parse_attribute)
unique_ids = parsed_by(parse_format)


def web_address(value: Any) -> str:
    """Read the URL of a service: https, or http on this machine."""
    url = text(value)
    if not re.fullmatch(r"(https://[^\s/]+|http://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?)(/\S*)?", url):
        raise BadValue(f"{_shown(url)} is no https:// address (http:// is good on this machine only)")
    return url


def is_web_address(where: str) -> bool:
    """Return whether a setting that may be a path or a URL is a URL."""
    return where.lower().startswith(("https:", "http:"))


def path_or_web_address(value: Any) -> str:
    """Read a path, or the URL of a service."""
    return web_address(value) if is_web_address(text(value)) else path(value)


def greeting(value: Any) -> str:
    """Read the words after +OK that a POP3 client meets first."""
    words = text(value)
    if not words.isascii() or not words.isprintable():
        raise BadValue("a greeting is printable ASCII")
    if len(words) > GREETING_OCTETS:
        raise BadValue(f"a greeting has at most {GREETING_OCTETS} octets")
    if "<" in words:
        raise BadValue("clients would take <...> for an APOP timestamp (RFC 1939 section 7)")
    if words.startswith("["):
        raise BadValue("clients would take [...] for a response code (RFC 2449 section 8)")
    return words


def announced_expiry(value: Any) -> int | str | bool:
    """Read `[pop3] expire`: days, "NEVER", or false to announce nothing."""
    if value is False or value == "NEVER":
        return "NEVER" if value else False
    if isinstance(value, (bool, str)):
        raise BadValue(f'a number of days, "NEVER" or false is expected, not {_shown(value)}')
    return whole(1, 36500)(value)
