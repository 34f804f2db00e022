"""PROXY headers: every cut, what may follow, what is refused, and that nothing else is ever raised."""

from __future__ import annotations

import ipaddress
import struct

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.wire.proxy import BadHeader, Header, crc32c, read_header
from tests.proxied import (
    CRC32C,
    INET6,
    INET_UDP,
    LOCAL,
    NOOP,
    PROXY,
    SIGNATURE,
    TLS,
    TLS_VERSION,
    UNIQUE_ID,
    UNIX,
    UNSPECIFIED,
    addresses,
    binary_header,
    slow_crc32c,
    summed_header,
    text_header,
    tls_vector,
    vector,
)

GOOD = {
    text_header(): ("198.51.100.7", 40110, ""),
    text_header("255.255.255.255", 65535): ("255.255.255.255", 65535, ""),
    text_header("0.0.0.0", 0): ("0.0.0.0", 0, ""),
    text_header("2001:db8::7", 1, "TCP6", "::1"): ("2001:db8::7", 1, ""),
    text_header("2001:DB8:0:0:0:0:0:7", 1, "TCP6", "::1"): ("2001:db8::7", 1, ""),
    text_header("::ffff:198.51.100.7", 1, "TCP6", "::1"): ("198.51.100.7", 1, ""),
    text_header("ffff:" * 7 + "ffff", 65535, "TCP6", "ffff:" * 7 + "ffff"): ("ffff:" * 7 + "ffff", 65535, ""),
    b"PROXY UNKNOWN\r\n": (None, 0, ""),
    b"PROXY UNKNOWN \r\n": (None, 0, ""),
    b"PROXY UNKNOWN 127.0.0.1 whatever \xff\0\r\n": (None, 0, ""),
    b"PROXY UNKNOWN " + b"x" * (107 - 16) + b"\r\n": (None, 0, ""),
    binary_header(addresses()): ("198.51.100.7", 40110, ""),
    binary_header(addresses("2001:db8::7", 0), family=INET6): ("2001:db8::7", 0, ""),
    binary_header(addresses("::ffff:198.51.100.7", 5), family=INET6): ("198.51.100.7", 5, ""),
    binary_header(addresses(), vector(NOOP, bytes(9)) + vector(0xEA, b"vpce")): ("198.51.100.7", 40110, ""),
    binary_header(addresses(), vector(NOOP, bytes(4096 - 12 - 3))): ("198.51.100.7", 40110, ""),
    binary_header(addresses(), tls_vector()): ("198.51.100.7", 40110, "TLSv1.3"),
    binary_header(addresses(), tls_vector(flags=0)): ("198.51.100.7", 40110, ""),
    binary_header(addresses(), vector(TLS, b"\1" + bytes(4))): ("198.51.100.7", 40110, "TLS"),
    summed_header(): ("198.51.100.7", 40110, ""),
    summed_header(tls_vector("TLSv1.2")): ("198.51.100.7", 40110, "TLSv1.2"),
    binary_header(b"/run/socket".ljust(108, b"\0") * 2, family=UNIX): (None, 0, ""),
    # nothing is believed where nobody is told of: neither family nor content matters
    binary_header(command=LOCAL, family=UNSPECIFIED): (None, 0, ""),
    binary_header(addresses("127.0.0.1"), command=LOCAL): (None, 0, ""),
    binary_header(b"junk", command=LOCAL, family=0xFF): (None, 0, ""),
    binary_header(family=UNSPECIFIED): (None, 0, ""),
    binary_header(b"junk", family=UNSPECIFIED): (None, 0, ""),
    binary_header(addresses(), family=INET_UDP): (None, 0, ""),
}

BAD = {
    # another protocol, from the first octet that tells
    b"Q": "begin", b"PROXX": "begin", b"proxy TCP4": "begin", b"PROXY\t": "begin", b"\r\n\r\nQ": "begin",
    b"\x16\x03\x01": "begin", b"\r\n\r\n\0\r\nQUIT\r": "begin", b" PROXY TCP4": "begin",
    # the line
    b"PROXY TCP4 198.51.100.7 192.0.2.1 40110 110\n": "CRLF",
    b"PROXY TCP4 198.51.100.7 192.0.2.1 40110 110\r\r\n": "CRLF",
    b"PROXY UNKNOWN\n": "CRLF",
    b"PROXY UNKNOWN\nQUIT\r\n": "CRLF",
    b"PROXY UNKNOWN \rQUIT\r\n": "CRLF",
    b"PROXY \n": "CRLF",
    b"PROXY UNKNOWN " + b"x" * (108 - 16) + b"\r\n": "longer",
    b"PROXY TCP4 " + b"1" * 96: "longer",
    b"PROXY \r\n": "two addresses",
    b"PROXY  TCP4 198.51.100.7 192.0.2.1 1 2\r\n": "two addresses",
    b"PROXY TCP4  198.51.100.7 192.0.2.1 1 2\r\n": "two addresses",
    b"PROXY TCP4 198.51.100.7 192.0.2.1 1 2 \r\n": "two addresses",
    b"PROXY TCP4 198.51.100.7 192.0.2.1 1\r\n": "two addresses",
    b"PROXY TCP4\t198.51.100.7 192.0.2.1 1 2\r\n": "two addresses",
    b"PROXY tcp4 198.51.100.7 192.0.2.1 1 2\r\n": "two addresses",
    b"PROXY UDP4 198.51.100.7 192.0.2.1 1 2\r\n": "two addresses",
    b"PROXY UNKNOWNS\r\n": "two addresses",
    text_header("198.51.100.07"): "address", text_header("198.51.100"): "address",
    text_header("198.51.100.256"): "address", text_header("198.51.100.7\0"): "address",
    text_header("198.51.100.\xb2"): "address", text_header("0x7f.0.0.1"): "address",
    text_header("2001:db8::7"): "address", text_header("localhost"): "address",
    text_header("198.51.100.7", destination="2001:db8::7"): "address",
    text_header("198.51.100.7", destination=""): "address",
    text_header("198.51.100.7", 1, "TCP6", "::1"): "address",
    text_header("2001:db8::7::", 1, "TCP6", "::1"): "address",
    text_header("2001:db8::00007", 1, "TCP6", "::1"): "address",
    text_header("fe80::7%eth0", 1, "TCP6", "::1"): "address",
    text_header("[2001:db8::7]", 1, "TCP6", "::1"): "address",
    **{text_header().replace(b"40110", port): "port"
       for port in (b"040110", b"00", b"65536", b"99999", b"-1", b"+1", b"1e3", b"", b"0x1", b"\xc2\xb2",
                    b"1_0")},
    text_header().replace(b" 110\r", b" 0110\r"): "port",
    # the binary one
    SIGNATURE + b"\x11": "version", SIGNATURE + b"\x31": "version", SIGNATURE + b"\x22": "command",
    SIGNATURE + b"\x00": "version",
    binary_header(addresses(), family=0x41): "family", binary_header(addresses(), family=0x13): "family",
    binary_header(addresses()[:-1]): "too short", binary_header(b""): "too short",
    binary_header(addresses(), family=INET6): "too short",
    binary_header(bytes(215), family=UNIX): "too short",
    SIGNATURE + struct.pack("!BBH", PROXY, 0x11, 4097): "4097 octets",
    SIGNATURE + struct.pack("!BBH", LOCAL, 0, 65535): "65535 octets",
    binary_header(addresses(), b"\4"): "cut off", binary_header(addresses(), b"\4\0"): "cut off",
    binary_header(addresses(), b"\4\0\1"): "longer",
    binary_header(addresses(), vector(NOOP, b"") + b"\4\1\0"): "longer",
    binary_header(addresses(), vector(TLS, b"\1\0\0\0")): "TLS is too short",
    binary_header(addresses(), vector(TLS, b"\1" + bytes(4) + b"\x21\0\7TLS")): "longer",
    binary_header(addresses(), vector(TLS, b"\1" + bytes(4) + b"\x21")): "cut off",
    binary_header(addresses(), tls_vector() + tls_vector(flags=0)): "twice",
    binary_header(addresses(), vector(CRC32C, bytes(3))): "four octets",
    binary_header(addresses(), vector(CRC32C, b"")): "four octets",
    summed_header(wrong=1): "checksum is wrong",
    summed_header(vector(CRC32C, bytes(4))): "checksum is wrong",
}


def expected(header: bytes) -> Header:
    return Header(len(header), *GOOD[header])


class GoodHeaderTests(SynchronousTestCase):
    """What a proxy may say."""

    def test_whole(self) -> None:
        """A whole header is read, and nothing behind it."""
        for header in GOOD:
            self.assertEqual(expected(header), read_header(header), header)
            for rest in (b"QUIT\r\n", b"\r\n", b"\0", header, bytes(9000)):
                self.assertEqual(expected(header), read_header(header + rest), header)

    def test_every_cut(self) -> None:
        """No part of one is a header or a fault: more is needed, down to nothing at all."""
        for header in GOOD:
            for end in range(len(header)):
                self.assertIsNone(read_header(header[:end]), (header, end))

    def test_longest(self) -> None:
        """A line may have 107 octets, what stands behind the fixed part 4096."""
        self.assertEqual(107, max(len(header) for header in GOOD if header[:1] == b"P"))
        self.assertEqual(4112, max(map(len, GOOD)))

    @given(st.ip_addresses(), st.integers(0, 65535), st.binary(max_size=30))
    @settings(deadline=None)
    def test_any_client(self, client: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int,
                        rest: bytes) -> None:
        """Both versions tell of the same client."""
        six = client.version == 6
        text = text_header(str(client), port, f"TCP{client.version}", "::" if six else "0.0.0.0")
        binary = binary_header(addresses(str(client), port), family=INET6 if six else 0x11)
        mapped = client.ipv4_mapped if isinstance(client, ipaddress.IPv6Address) else None
        for header in (text, binary):
            self.assertEqual(Header(len(header), str(mapped or client), port), read_header(header + rest))


class BadHeaderTests(SynchronousTestCase):
    """What is refused."""

    def test_each(self) -> None:
        """Each is refused whatever follows, with words that say why."""
        for header, words in BAD.items():
            for rest in (b"", b"\r\n", bytes(5000)):
                with self.assertRaises(BadHeader, msg=repr(header)) as caught:
                    read_header(header + rest)
                self.assertIn(words, str(caught.exception), header)

    def test_no_octet_is_forgiven_later(self) -> None:
        """A refusal may come before the last octet; what was refused is never a header with more of it."""
        for header in BAD:
            for end in range(len(header)):
                try:
                    self.assertIsNone(read_header(header[:end]), (header, end))
                except BadHeader:
                    break

    def test_checksum_guards_everything(self) -> None:
        """With a checksum, no octet of the whole header can be another."""
        good = summed_header(tls_vector() + vector(UNIQUE_ID, b"id"))
        for place in range(len(good)):
            for flipped in (1, 0x80):
                bad = good[:place] + bytes([good[place] ^ flipped]) + good[place + 1:]
                try:
                    read = read_header(bad)
                except BadHeader:
                    continue
                # only one that says nothing of a client, or that has lost its checksum, is left
                whole = 16 + 12 + 3
                self.assertTrue(read is None or read.host is None or place in range(whole - 3, whole), place)

    def test_checksum(self) -> None:
        """Castagnoli's checksum of the nine digits is known."""
        self.assertEqual(0xE3069283, crc32c(b"123456789"))
        self.assertEqual(0, crc32c(b""))
        self.assertEqual(slow_crc32c(bytes(range(256))), crc32c(bytes(range(256))))


PIECES = st.sampled_from([
    b"PROXY ", b"TCP4 ", b"TCP6 ", b"UNKNOWN", b" ", b"1.2.3.4", b"::1", b"0", b"65535", b"\r", b"\n",
    b"\r\n", SIGNATURE, SIGNATURE[:5], b"\x20", b"\x21\x11\0\x0c", b"\x21\x31\0\xff", b"\0\1",
    vector(TLS_VERSION, b"TLSv1"), addresses(), tls_vector(),
    vector(CRC32C, bytes(4))]) | st.binary(max_size=6)


class AnyOctetsTests(SynchronousTestCase):
    """Free input."""

    @given(st.lists(PIECES, max_size=12).map(b"".join))
    @settings(deadline=None, max_examples=400)
    def test_nothing_else_is_raised(self, octets: bytes) -> None:
        """A header, a need for more, or BadHeader; and each cut tells the same or less."""
        def read(data: bytes) -> Header | str | None:
            try:
                return read_header(data)
            except BadHeader:
                return "bad"

        before: Header | str | None = None
        for end in range(len(octets) + 1):
            now = read(octets[:end])
            if before is not None:
                self.assertEqual(before, now, octets[:end])
            elif isinstance(now, Header):
                self.assertEqual(end, now.octets)
            before = now
