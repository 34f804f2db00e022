"""PROXY headers as a proxy writes them, right and wrong, put together apart from what reads them."""

from __future__ import annotations

import socket
import struct

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
LOCAL, PROXY = 0x20, 0x21
INET, INET_UDP, INET6, UNIX, UNSPECIFIED = 0x11, 0x12, 0x21, 0x31, 0x00
CRC32C, NOOP, UNIQUE_ID, TLS = 0x03, 0x04, 0x05, 0x20
TLS_VERSION, TLS_NAME = 0x21, 0x22
HERE = "192.0.2.1"


def text_header(source: str = "198.51.100.7", port: int = 40110, family: str = "TCP4",
                destination: str = HERE) -> bytes:
    """Return a line of version 1."""
    return f"PROXY {family} {source} {destination} {port} 110\r\n".encode()


def binary_header(addresses: bytes = b"", vectors: bytes = b"", command: int = PROXY,
                  family: int = INET) -> bytes:
    """Return a header of version 2."""
    rest = addresses + vectors
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest)) + rest


def addresses(source: str = "198.51.100.7", port: int = 40110) -> bytes:
    """Return the addresses of a header of version 2, ours being of the same family."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    here = "2001:db8::1" if ":" in source else HERE
    return socket.inet_pton(family, source) + socket.inet_pton(family, here) + struct.pack("!HH", port, 110)


def vector(kind: int, value: bytes) -> bytes:
    """Return one vector of type, length and value."""
    return struct.pack("!BH", kind, len(value)) + value


def tls_vector(version: str = "TLSv1.3", name: str = "mrose", flags: int = 7) -> bytes:
    """Return what is told of the client's TLS."""
    return vector(TLS, struct.pack("!BI", flags, 0) + vector(TLS_VERSION, version.encode())
                  + vector(TLS_NAME, name.encode()))


def slow_crc32c(octets: bytes) -> int:
    """Return the checksum, bit by bit as a division: the polynomial is 0x1EDC6F41."""
    crc = 0xFFFFFFFF
    for octet in octets:
        for bit in range(8):
            low = (crc ^ octet >> bit) & 1
            crc = crc >> 1 ^ (0x82F63B78 if low else 0)
    return crc ^ 0xFFFFFFFF


def summed_header(vectors: bytes = b"", wrong: int = 0) -> bytes:
    """Return a header with its checksum, behind which the vectors stand."""
    whole = binary_header(addresses(), vector(CRC32C, bytes(4)) + vectors)
    at = 16 + len(addresses()) + 3
    return whole[:at] + struct.pack("!I", slow_crc32c(whole) ^ wrong) + whole[at + 4:]
