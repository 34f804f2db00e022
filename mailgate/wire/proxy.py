"""The header that a proxy puts in front of a connection, so that the server learns who the client is.

Both versions of HAProxy's PROXY protocol (proxy-protocol.txt, sections 2.1 and 2.2): a line of text, or
binary. What is not exactly right is refused: half a truth about a client is worse than none.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple, Union

from mailgate.errors import MailgateError

TEXT_OCTETS = 107           # most of a line, its CRLF counted (section 2.1)
BINARY_OCTETS = 4096        # most behind the fixed part: more than any proxy has to tell

_WORD = b"PROXY "
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED_OCTETS = 16          # signature, version and command, family and transport, length

_LOCAL, _PROXY = 0x20, 0x21                         # version 2 and a command
_INET, _INET6, _UNIX = 0x11, 0x21, 0x31             # families of addresses, over streams
_ADDRESS_OCTETS = {_INET: 12, _INET6: 36, _UNIX: 216}
_FAMILIES, _TRANSPORTS = range(4), range(3)

_CRC32C, _TLS = 0x03, 0x20                          # types of what follows the addresses
_TLS_VERSION = 0x21                                 # and of what stands inside _TLS
_TLS_FLAG = 0x01

Address = Union[IPv4Address, IPv6Address]
_TEXT_FAMILIES: dict[bytes, type[IPv4Address] | type[IPv6Address]] = {
    b"TCP4": IPv4Address, b"TCP6": IPv6Address}


class BadHeader(MailgateError):
    """No PROXY header, or one that is not as it must be."""


class Header(NamedTuple):
    """What a header says of the client."""

    octets: int                 # the header's own length: what follows is the client's
    host: str | None = None     # None: it does not say, as in a proxy's own health checks
    port: int = 0
    tls: str = ""               # the TLS that the client speaks to the proxy; empty: none, as far as it says


def read_header(data: bytes) -> Header | None:
    """Return the header that the octets begin with, or None when it needs more of them.

    Raises: BadHeader, as soon as nothing that follows could make one of them.
    """
    if data[:len(_SIGNATURE)] == _SIGNATURE[:len(data)]:
        return _read_binary(data)
    if data[:len(_WORD)] == _WORD[:len(data)]:
        return _read_text(data)
    raise BadHeader("it does not begin as one")


# Version 1 -------------------------------------------------------------------------------------


def _read_text(data: bytes) -> Header | None:
    end = data.find(b"\n", 0, TEXT_OCTETS)
    if end < 0:
        if len(data) >= TEXT_OCTETS:
            raise BadHeader(f"the line is longer than {TEXT_OCTETS} octets")
        return None
    line = data[len(_WORD):end - 1]
    if data[end - 1:end] != b"\r" or b"\r" in line:
        raise BadHeader("the line does not end in CRLF")
    protocol, *fields = line.split(b" ")
    if protocol == b"UNKNOWN":
        return Header(end + 1)
    kind = _TEXT_FAMILIES.get(protocol)
    if kind is None or len(fields) != 4:
        raise BadHeader("the line is not TCP4 or TCP6 with two addresses and two ports")
    source, _ = [_address(kind, field) for field in fields[:2]]
    port, _ = [_port(field) for field in fields[2:]]
    return Header(end + 1, _host(source), port)


def _address(kind: type[IPv4Address] | type[IPv6Address], field: bytes) -> Address:
    try:
        if b"%" in field:       # a zone means something on the proxy only
            raise ValueError
        return kind(field.decode("ascii"))
    except ValueError:          # UnicodeDecodeError is one
        raise BadHeader("an address is not one of its family") from None


def _port(field: bytes) -> int:
    if not field.isdigit() or len(field) > 5 or (field[:1] == b"0" and field != b"0") or int(field) > 65535:
        raise BadHeader("a port is not a number from 0 to 65535")
    return int(field)


# Version 2 -------------------------------------------------------------------------------------


def _read_binary(data: bytes) -> Header | None:
    if len(data) > 12 and data[12] not in (_LOCAL, _PROXY):
        raise BadHeader(f"an unknown version or command, {data[12]:#04x}")
    if len(data) < _FIXED_OCTETS:
        return None
    command, family, length = struct.unpack_from("!BBH", data, 12)
    if length > BINARY_OCTETS:
        raise BadHeader(f"{length} octets behind the fixed part, of at most {BINARY_OCTETS}")
    end = _FIXED_OCTETS + length
    if len(data) < end:
        return None
    if command == _LOCAL:       # whatever else it says is to be ignored
        return Header(end)
    if family >> 4 not in _FAMILIES or family & 15 not in _TRANSPORTS:
        raise BadHeader(f"an unknown family or transport, {family:#04x}")
    if family not in _ADDRESS_OCTETS:       # unspecified, or datagrams: nothing that can be ours
        return Header(end)
    return _read_client(data[:end], family)


def _read_client(header: bytes, family: int) -> Header:
    told = _FIXED_OCTETS + _ADDRESS_OCTETS[family]
    if len(header) < told:
        raise BadHeader("it is too short for its addresses")
    tls = _read_vectors(header, told)
    if family == _UNIX:         # a socket of the proxy's machine: nobody's address
        return Header(len(header), tls=tls)
    size = 4 if family == _INET else 16
    source = ip_address(header[_FIXED_OCTETS:_FIXED_OCTETS + size])
    port = int.from_bytes(header[told - 4:told - 2], "big")
    return Header(len(header), _host(source), port, tls)


def _read_vectors(header: bytes, start: int) -> str:
    """Check what follows the addresses; return the TLS that it tells of. Each type that counts comes once."""
    tls, checksums = [], 0
    for kind, at, value in _vectors(header, start):
        if kind == _CRC32C:
            checksums += 1
            _check_sum(header, at, value)
        elif kind == _TLS:
            tls.append(_read_tls(value))
    if len(tls) > 1 or checksums > 1:
        raise BadHeader("it says something twice")
    return tls[0] if tls else ""


def _vectors(octets: bytes, start: int) -> Iterator[tuple[int, int, bytes]]:
    """Give type, place and value of each vector (section 2.2)."""
    while start < len(octets):
        if len(octets) - start < 3:
            raise BadHeader("a vector is cut off")
        kind, length = struct.unpack_from("!BH", octets, start)
        start += 3
        if len(octets) - start < length:
            raise BadHeader("a vector is longer than what holds it")
        yield kind, start, octets[start:start + length]
        start += length


def _read_tls(value: bytes) -> str:
    """Return the TLS that the client speaks to the proxy; empty without (section 2.2.6)."""
    if len(value) < 5:
        raise BadHeader("the vector about TLS is too short")
    version = "TLS"
    for kind, _, inner in _vectors(value, 5):
        if kind == _TLS_VERSION:
            version = inner.decode("ascii", "replace")
    return version if value[0] & _TLS_FLAG else ""


def _check_sum(header: bytes, at: int, value: bytes) -> None:
    """Compare the checksum of a header that was made with zeros in its place (section 2.2.3)."""
    if len(value) != 4:
        raise BadHeader("the checksum is not four octets long")
    if crc32c(header[:at] + bytes(4) + header[at + 4:]) != int.from_bytes(value, "big"):
        raise BadHeader("the checksum is wrong")


def _crc_table() -> tuple[int, ...]:
    table = []
    for octet in range(256):
        for _ in range(8):
            octet = octet >> 1 ^ (0x82F63B78 if octet & 1 else 0)
        table.append(octet)
    return tuple(table)


_CRC_TABLE = _crc_table()


def crc32c(octets: bytes) -> int:
    """Return the checksum of RFC 4960, appendix B (Castagnoli's)."""
    crc = 0xFFFFFFFF
    for octet in octets:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ octet) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _host(address: Address) -> str:
    """Return the one spelling of an address: one of IPv4 in IPv6's clothes is IPv4's."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)
