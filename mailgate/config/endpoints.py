"""Endpoint descriptions: parsed as Twisted will, without listening, and compared for collisions."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from mailgate.config.values import BadValue, text

_ARGUMENT = re.compile(r"((?:[^:=\\]|\\.)*)(?:=((?:[^:\\]|\\.)*))?(:|\Z)", re.DOTALL)
_SYSTEMD_DOMAINS = ("INET", "INET6", "UNIX")


class Parts(NamedTuple):
    """A description cut at its colons: kind, positional arguments, named arguments."""

    kind: str
    positional: tuple[str, ...]
    named: dict[str, str]

    def argument(self, position: int, name: str, default: str = "") -> str:
        """Return an argument given by position or by name."""
        if position < len(self.positional):
            return self.positional[position]
        return self.named.get(name, default)


def split_endpoint(description: str) -> Parts:
    """Cut a description as Twisted does: `:` between arguments, `=` after a name, `\\` quotes."""
    positional: list[str] = []
    named: dict[str, str] = {}
    at, more = 0, True
    while more:
        found = _ARGUMENT.match(description, at)
        if found is None:
            raise BadValue("it ends in a lone backslash")
        first, value, end = found.groups()
        if value is None:
            positional.append(_unquoted(first))
        else:
            named[_unquoted(first)] = _unquoted(value)
        at, more = found.end(), bool(end)
    return Parts(positional[0] if positional else "", tuple(positional[1:]), named)


def _unquoted(piece: str) -> str:
    return re.sub(r"\\(.)", r"\1", piece, flags=re.DOTALL)


def endpoint(value: Any) -> str:
    """Read an endpoint description (`tcp:110`, `unix:/run/lmtp:mode=660`, `systemd:...`)."""
    description = text(value)
    parts = split_endpoint(description)
    if parts.kind == "systemd":     # which sockets there are shows only under systemd
        _check_systemd(parts)
    else:
        _parse(description)
    if parts.kind in ("tcp", "tcp6"):
        _check_port(parts.argument(0, "port"))
    return description


def _parse(description: str) -> None:
    # Imported here because it costs a tenth of a second, which `mailgate --help` need not pay.
    from twisted.internet import endpoints

    parser: Callable[..., object] = endpoints.serverFromString
    try:
        parser(None, description)       # the reactor is only kept, for `listen`
    except Exception as fault:      # parsers are plugins and raise what they like; all of it is told
        raise BadValue(f'"{description}" is not a server endpoint: {_said(fault, description)}') from fault


def _said(fault: Exception, description: str) -> str:
    kind = description.partition(":")[0]
    if str(fault).startswith("Unknown endpoint type"):
        return f"unknown kind '{kind}'"
    if isinstance(fault, TypeError):        # a parser's own signature: its words name functions of Twisted
        return f"an argument of {kind}: is missing, unknown or one too many"
    if str(fault).startswith("invalid literal for int"):
        return f"{str(fault).rpartition(': ')[2]} is not a number"
    return str(fault) or type(fault).__name__


def _check_systemd(parts: Parts) -> None:
    unknown = set(parts.named) - {"domain", "index", "name"}
    if unknown or len(parts.positional) > 3:
        raise BadValue(
            f"systemd: takes domain, and index or name, not {', '.join(sorted(unknown)) or 'more'}")
    if (domain := parts.argument(0, "domain")) not in _SYSTEMD_DOMAINS:
        raise BadValue(f'systemd: needs domain={"|".join(_SYSTEMD_DOMAINS)}, not "{domain}"')
    index, name = parts.argument(1, "index"), parts.argument(2, "name")
    if bool(index) == bool(name) or (index and not index.isdecimal()):
        raise BadValue("systemd: needs either index=NUMBER or name=NAME")


def _check_port(port: str) -> None:
    if not 0 <= int(port) <= 65535:
        raise BadValue(f"port {port} is not between 0 and 65535")


def collide(one: str, other: str) -> bool:
    """Return whether two descriptions want the same address, so that only one of them could listen."""
    mine, theirs = _occupied(split_endpoint(one)), _occupied(split_endpoint(other))
    if mine[:2] != theirs[:2] or mine[:2] in (("tcp", "0"), ("tcp6", "0")):
        return False
    return mine[2] == theirs[2] or "" in (mine[2], theirs[2])


def _occupied(parts: Parts) -> tuple[str, str, str]:
    """Return kind, port or path, and interface, which is empty for all of them."""
    if parts.kind in ("tcp", "tcp6"):
        interface = parts.argument(1 if parts.kind == "tcp" else 2, "interface")
        everywhere = interface in ("0.0.0.0", "::")
        return parts.kind, str(int(parts.argument(0, "port"))), "" if everywhere else interface
    if parts.kind == "unix":
        return parts.kind, parts.argument(0, "address"), ""
    return parts.kind, repr((parts.positional, sorted(parts.named.items()))), ""


def absolute_endpoint(description: str, folder: Path) -> str:
    """Return the description with a unix socket's relative path put under `folder`."""
    parts = split_endpoint(description)
    address = parts.argument(0, "address")
    if parts.kind != "unix" or not address or address.startswith("/"):
        return description
    options = [f"{name}={_quoted(value)}" for name, value in parts.named.items() if name != "address"]
    given = [_quoted(value) for value in parts.positional[1:]]
    return ":".join(["unix", _quoted(str(folder / address)), *given, *options])


def _quoted(value: str) -> str:
    return re.sub(r"([\\:=])", r"\\\1", value)
