"""Targets of LDAP: how a directory is named, what a name becomes in a filter and a DN, and its messages."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from mailgate.auth.apppasswords import plain_form
from mailgate.auth.ldapmessages import Messages
from mailgate.directories import (
    Pattern,
    compared_attributes,
    escaped,
    parse_attribute,
    parse_dn,
    parse_dn_pattern,
    parse_filter,
    parse_login,
    parse_server,
    prepared,
)
from tests.fuzz.target import Target, chance, hold, pieces, same

FILTER = parse_filter("(&(objectClass=person)(|(uid={login})(mail={user}@x)))")
DN = parse_dn_pattern("uid={user},ou={domain},dc=example,dc=org")
ITEMS = re.compile(r"\([^()]*\)")


def check_directory(data: bytes) -> None:
    """Settings: refused with a reason, or good for any name."""
    text = data.decode("utf-8", "replace")
    readers: list[Callable[[str], Any]] = [parse_server, parse_filter, parse_dn_pattern, parse_dn,
                                           parse_attribute]
    for read in readers:
        try:
            found = read(text)
        except ValueError:
            continue
        if isinstance(found, Pattern):
            compared_attributes(found)
            filled = found.filled(parse_login("a)(uid=*@b,dc=c", "d"))
            same(len(ITEMS.findall(filled)), len(ITEMS.findall(text)), "items of a filter")
        if read is parse_server:
            same(parse_server(text), found)
            hold("\0" not in found.host and 0 <= found.port < 65536, found)


def check_filled(data: bytes) -> None:
    """No name is more than a value of what it stands in."""
    for text in (data.decode("utf-8", "replace"), data.decode("latin-1")):
        name = parse_login(text, "default")
        same(f"{name.user}@{name.domain}" if "@" in text else name.login, text)
        hold(re.fullmatch(r"(?:[A-Za-z0-9@._-]|\\[0-9a-f]{2})*", escaped(text)), escaped(text))
        filled = FILTER.filled(name)
        same((filled.count("("), filled.count(")"), filled.count("*"), filled.count("=")), (5, 5, 0, 3),
             "parts")
        dn = DN.filled(name)
        same((dn.count(","), dn.count("="), dn.count("+")), (3, 4, 0), "parts of the DN")
        same(prepared(prepared(text)), prepared(text), "prepared twice")
    plain = plain_form(data)
    hold(plain is None or re.fullmatch(rb"[a-z]{30}", plain), plain)


def _messages(parts: list[bytes]) -> tuple[bytes, bool]:
    messages, whole = Messages(), b""
    for part in parts:
        try:
            whole += messages.feed(part)
        except ValueError:
            return whole, True
    return whole, False


def check_messages(data: bytes) -> None:
    """What comes out whole is the beginning of what came, and does not hang on how it was cut."""
    whole, over = _messages([data])
    hold(data.startswith(whole), "other octets")
    cut, cut_over = _messages(pieces(data, chance(data)))
    same(cut_over, over, "over")
    hold(cut.startswith(whole),
         "less in pieces")       # a fault takes those before it in the same piece along
    same(_messages([cut])[0], cut, "read again")


ENTRY = bytes.fromhex("301a0201016415040463 6e3d61300d300b040375696431040402 6161".replace(" ", ""))
RESULT = bytes.fromhex("300c02010165070a010004000400")

TARGETS = {
    "directory": Target(check_directory, (
        b"ldaps://ldap.example.org:636/", b"ldapi://%2Frun%2Fldapi", b"ldap://[::1]", b"(uid={login})",
        b"(&(objectClass=person)(|(uid={user})(!(mail=x*))))", b"uid={user},ou=people,dc=example,dc=org",
        b"mail"),
        (b"(", b")", b"&", b"|", b"!", b"{login}", b"{user}", b"{x}", b"\\28", b"*", b"=", b",", b"+",
         b"%2F", b":", b"(&" * 2000,
         b":=", b"[", b"]")),
    "directory-name": Target(check_filled,
                             (b"mrose", b"a@b@c", b"*)(uid=*))(|(uid=*", b"x,dc=y+z=\\",
                              "ﬁ\u00ad\u0345".encode()),
                             (b"*", b"(", b")", b"\\", b"\0", b",", b"+", b"=", b"@", b"#", b" ",
                              b"{login}", b"\xcd\x85")),
    "ldap-messages": Target(check_messages, (ENTRY + RESULT, RESULT[:7] + RESULT, ENTRY * 3),
                            (b"\x30\x84\xff\xff\xff\xff", b"\x30\x80", b"\x02\x01\x01", b"\x0a\x01\0",
                             b"\x04\0", b"\x31", b"\x30\x0c")),
}
