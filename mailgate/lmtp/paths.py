"""Read the paths of MAIL and RCPT (RFC 5321 section 4.1.2, RFC 6531 section 3.3).

More liberal than the grammar where mail would be lost for no gain: dots may stand anywhere in a
local part (whole providers gave out such addresses), a domain may hold underscores, and nothing but
the command line bounds a length.
"""

from __future__ import annotations

import ipaddress
import re

from mailgate.errors import BadAddress

_DOTTED = rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\x80-\xff-]+"
_QUOTED = rb'"(?:[\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\x20-\x7e])*"'
_LABEL = rb"(?!-)[A-Za-z0-9_\x80-\xff-]+(?<!-)"
_DOMAIN = rb"%b(?:\.%b)*" % (_LABEL, _LABEL)
_LITERAL = rb"\[(?P<literal>[!-?A-Z^-~]+)\]"
_ROUTE = rb"(?:@%b(?:,@%b)*:)?" % (_DOMAIN, _DOMAIN)
_MAILBOX = rb"(?:%b|%b)@(?:%b|%b)" % (_DOTTED, _QUOTED, _DOMAIN, _LITERAL)

_PATH = re.compile(rb" *<(?:%b(?P<mailbox>%b)|(?P<bare>%b))?>" % (_ROUTE, _MAILBOX, _DOTTED))
_GENERAL_LITERAL = re.compile(rb"[A-Za-z0-9-]*[A-Za-z0-9]:[!-?A-Z^-~]+")


def read_reverse_path(text: bytes) -> tuple[bytes, bytes]:
    """Return the sender that `text` begins with, and the text after it. Empty: the null sender.

    The source route is left out (RFC 5321 appendix C), all else stays as it was given.
    Raises: BadAddress.
    """
    found, rest = _read(text)
    if found["bare"] is not None:
        raise BadAddress("a reverse-path needs a domain")
    return found["mailbox"] or b"", rest


def read_forward_path(text: bytes) -> tuple[bytes, bytes]:
    """Return the recipient that `text` begins with, and the text after it.

    It may lack a domain: `Postmaster` always may (RFC 5321 section 4.1.1.3), and local delivery
    knows account names; whether anybody has such a name is the router's to say.
    Raises: BadAddress.
    """
    found, rest = _read(text)
    path = found["mailbox"] or found["bare"]
    if not path:
        raise BadAddress("a forward-path cannot be empty")
    return path, rest


def path_key(path: bytes) -> bytes:
    """Return the form in which two paths are the same: local part as it is, domain in lower case."""
    local, mark, domain = path.rpartition(b"@")
    return local + mark + domain.lower() if mark else path


def _read(text: bytes) -> tuple[re.Match[bytes], bytes]:
    found = _PATH.match(text)
    if found is None:
        raise BadAddress("no path in angle brackets")
    rest = text[found.end():]
    if rest and not rest.startswith(b" "):
        raise BadAddress("no blank after the path")
    if not found[0].isascii():
        try:
            found[0].decode()
        except UnicodeDecodeError:
            raise BadAddress("neither ASCII nor UTF-8") from None
    if found["literal"] is not None:
        _check_literal(found["literal"])
    return found, rest


def _check_literal(literal: bytes) -> None:
    """Raise BadAddress unless it is the inside of an address literal (RFC 5321 section 4.1.3)."""
    text = literal.decode("ascii")
    try:
        if text[:5].upper() == "IPV6:":
            if "%" in text:
                raise ValueError("a scope means nothing to others")
            ipaddress.IPv6Address(text[5:])
        elif not _GENERAL_LITERAL.fullmatch(literal):
            ipaddress.IPv4Address(text)
    except ValueError:
        raise BadAddress("not an address literal") from None
