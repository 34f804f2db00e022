"""Clients' addresses: which are this machine's own, which count as one client, and how one is written."""

from __future__ import annotations

import functools
import ipaddress
from typing import Union

_IPV6_CLIENT_OCTETS = 8     # a /64: whoever has one address of it has all of them (RFC 6177)

_Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]


def is_loopback(host: str | None) -> bool:
    """Whether a peer is on this machine: a loopback address, or a unix socket (None)."""
    return host is None or host.startswith(("127.", "::ffff:127.")) or host == "::1"


@functools.lru_cache(maxsize=4096)
def client_of(host: str) -> str:
    """Return what counts as one client: an IPv4 address, also one in IPv6's clothes; an IPv6 /64.

    What is no address counts as it is written.
    """
    address = _parsed(host)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((address.packed[:_IPV6_CLIENT_OCTETS].ljust(16, b"\0"), 64)))
    return host if address is None else str(address)


def written(host: str | None) -> str:
    """Return a client's address for a log line: "local" over a unix socket, IPv4 as IPv4, no zone."""
    if host is None:
        return "local"
    address = _parsed(host)
    return "unknown" if address is None else str(address)


def _parsed(host: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped
