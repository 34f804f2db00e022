"""How an LDAP directory is named: servers, and patterns of filters and DNs with places for a login name.

The configuration judges these texts, the checker fills them in. What is filled in is escaped octet by
octet, so that no name can be more than a value (RFC 4515 section 3, RFC 4514 section 2.4).
"""

from __future__ import annotations

import re
import unicodedata
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import unquote

from mailgate.names import fold

SCHEMES = {"ldap": 389, "ldaps": 636, "ldapi": 0}       # and their ports
PLACES = ("login", "user", "domain")
MAX_FILTER_DEPTH = 100

_URL = re.compile(r"(ldaps?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::([0-9]{1,5}))?/?")
_SOCKET = re.compile(r"ldapi://((?:[A-Za-z0-9_.~-]|%[0-9A-Fa-f]{2})+)/?")
_PLACE = re.compile(r"\{([A-Za-z_]\w*)\}")
_ATTRIBUTE = r"(?:[A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)+)"
_ITEM = re.compile(rf"\(({_ATTRIBUTE}(?:;[A-Za-z0-9-]+)*)?((?::dn)?(?::{_ATTRIBUTE})?:=|[~<>]?=)"
                   r"((?:[^()\\\0]|\\[0-9A-Fa-f]{2})*)\)")
_RDN = rf'{_ATTRIBUTE}=(?:[^\\,+"<>;=\0]|\\[,+"<>;=# \\]|\\[0-9A-Fa-f]{{2}})+'
_DN = re.compile(rf"{_RDN}(?:[,+] *{_RDN})*")
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@._-")
_MAPPED_TO_NOTHING = re.compile(
    "[\u00ad\u034f\u1806\u180b-\u180e\u200b-\u200f\u2060-\u2064\ufe00-\ufe0f\ufeff]")


class Server(NamedTuple):
    """Where a directory is reached."""

    scheme: str     # ldap, ldaps, ldapi
    host: str       # for ldapi the path of the socket
    port: int

    @property
    def is_local(self) -> bool:
        """Whether what is said there never leaves this machine."""
        if self.scheme == "ldapi" or self.host.lower() == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        if self.scheme == "ldapi":
            return f"ldapi:{self.host}"
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def parse_server(text: str) -> Server:
    """Return the server of an LDAP URL without a DN (RFC 4516). Raises: ValueError."""
    if found := _URL.fullmatch(text):
        scheme, host, port = found.groups()
        server = Server(scheme, host.strip("[]"), int(port or SCHEMES[scheme]))
        if host.startswith("["):
            ip_address(server.host)
        if not 0 < server.port < 65536:
            raise ValueError(f"port {server.port} is not between 1 and 65535")
        return server
    if found := _SOCKET.fullmatch(text):
        path = unquote(found[1], errors="strict")
        if not path.startswith("/") or "\0" in path:
            raise ValueError("the path of the socket is not absolute")
        return Server("ldapi", path, 0)
    raise ValueError("not ldap://HOST[:PORT], ldaps://HOST[:PORT] or ldapi://%2Fpath")


class LoginName(NamedTuple):
    """A login name or an address, and its parts. Without an `@` the domain is the default one."""

    login: str
    user: str
    domain: str


def parse_login(login: str, default_domain: str = "") -> LoginName:
    """Cut a login name at its last `@`."""
    user, mark, domain = login.rpartition("@")
    return LoginName(login, user, domain) if mark else LoginName(login, login, default_domain)


def escaped(value: str) -> str:
    """Return a value as it may stand in a filter and in a DN alike: every unusual octet as a hex pair.

    What is let through is listed, not what is kept out. Raises: UnicodeEncodeError.
    """
    return "".join(chr(octet) if octet in _PLAIN else f"\\{octet:02x}" for octet in value.encode("utf-8"))


class Pattern:
    """A text with places, {login}, {user} or {domain}. `filled` puts a name there, and nothing but values."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._pieces = _PLACE.split(text)       # text, place, text, place ... text
        self.places = frozenset(self._pieces[1::2])

    def filled(self, name: LoginName) -> str:
        """Return the text for a name."""
        values = name._asdict()
        return "".join(escaped(values[piece]) if index % 2 else piece
                       for index, piece in enumerate(self._pieces))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"


def parse_filter(text: str) -> Pattern:
    """Return the pattern of a filter (RFC 4515) that a name can stand in. Raises: ValueError."""
    if _filter_end(text, 0) != len(text):
        raise ValueError("something follows the filter's last parenthesis")
    for _, kind, value in _ITEM.findall(text):
        if _PLACE.search(value) and (kind != "=" or "*" in value):
            raise ValueError("a name is compared by = and without *, so that it stands for itself alone")
        if _PLACE.search(value) and "=" in value:       # it would need to be escaped as in a DN first
            raise ValueError("a name cannot stand within a DN in a filter")
    return _with_a_name(text)


def parse_dn_pattern(text: str) -> Pattern:
    """Return the pattern of a DN that a name can stand in. Raises: ValueError."""
    return _with_a_name(parse_dn(text))


def parse_dn(text: str) -> str:
    """Return a DN as it is, if it is one (RFC 4514). Raises: ValueError."""
    if not _DN.fullmatch(text):
        raise ValueError("not a distinguished name such as uid=mailgate,ou=services,dc=example,dc=org")
    return text


def parse_attribute(text: str) -> str:
    """Return an attribute's name, if it is one. Raises: ValueError."""
    if not re.fullmatch(_ATTRIBUTE, text):
        raise ValueError("not the name of an attribute")
    return text


def compared_attributes(pattern: Pattern) -> tuple[str, ...]:
    """Return the attributes that a filter compares a name with, each once."""
    found = [attribute for attribute, _, value in _ITEM.findall(pattern.text) if _PLACE.search(value)]
    return tuple({one.lower(): one for one in found}.values())


def _filter_end(text: str, at: int, depth: int = 1) -> int:
    """Return where the filter that begins at an index ends."""
    if depth > MAX_FILTER_DEPTH:
        raise ValueError("filters within filters without end")
    if text[at:at + 1] != "(":
        raise ValueError("a filter and each of its parts stand in parentheses")
    kind = text[at + 1:at + 2]
    if kind not in ("&", "|", "!"):
        if not (item := _ITEM.match(text, at)):
            raise ValueError(f"not (attribute=value): {text[at:at + 40]}")
        return item.end()
    at, parts = at + 2, 0
    while text[at:at + 1] == "(":
        at, parts = _filter_end(text, at, depth + 1), parts + 1
    if text[at:at + 1] != ")" or (kind == "!" and parts != 1):
        raise ValueError("a parenthesis is not closed")
    return at + 1


def _with_a_name(text: str) -> Pattern:
    pattern = Pattern(text)
    if strange := sorted(pattern.places - set(PLACES)):
        raise ValueError(f"unknown: {{{strange[0]}}}; known: " + ", ".join(f"{{{one}}}" for one in PLACES))
    if not pattern.places & {"login", "user"}:
        raise ValueError("{login} or {user} is missing: everybody would be the same")
    return pattern


def prepared(name: str) -> str:
    """Return the one spelling of all that a directory takes for the same value (RFC 4518 section 2).

    Letters of all scripts in lower case, compatibility forms and invisible characters resolved.
    """
    for _ in range(2):      # the first round may bring up letters for the second
        name = unicodedata.normalize("NFKC", _MAPPED_TO_NOTHING.sub("", name).casefold())
    return fold(name)
