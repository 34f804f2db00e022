"""Clients' addresses: whose is whose, and how they are written."""

from __future__ import annotations

import ipaddress

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.net.addresses import client_of, is_loopback, written


class AddressTests(SynchronousTestCase):
    def test_one_client(self) -> None:
        """An IPv4 address, in IPv6's clothes or not; all of an IPv6 /64; and nobody else."""
        for one, other, same in (
                ("192.0.2.1", "::ffff:192.0.2.1", True), ("192.0.2.1", "192.0.2.2", False),
                ("2001:db8::1", "2001:db8::ffff:1", True), ("2001:db8::1", "2001:db8:0:1::1", False),
                ("fe80::1%eth0", "fe80::2%eth1", True), ("not an address", "nor this", False)):
            self.assertEqual(client_of(one) == client_of(other), same, (one, other))

    @settings(deadline=None)
    @given(st.ip_addresses(v=6), st.integers(0, (1 << 64) - 1))
    def test_a_whole_64(self, address: ipaddress.IPv6Address, suffix: int) -> None:
        """Whatever the last eight octets are. (IPv4's clothes are another matter.)"""
        neighbour = ipaddress.IPv6Address(int(address) >> 64 << 64 | suffix)
        if address.ipv4_mapped is None and neighbour.ipv4_mapped is None:
            self.assertEqual(client_of(str(address)), client_of(str(neighbour)))

    def test_written(self) -> None:
        """As a filter and a firewall take it; where there is none, it looks like none."""
        told = {"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:DB8:0::1": "2001:db8::1",
                "fe80::1%eth0": "fe80::1", "x\n192.0.2.1": "unknown", None: "local"}
        self.assertEqual({host: written(host) for host in told}, told)

    def test_this_machine(self) -> None:
        own = (None, "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1")
        others = ("192.0.2.1", "::ffff:192.0.2.1", "::2", "1270.0.0.1", "localhost.example")
        self.assertEqual([is_loopback(host) for host in (*own, *others)], [True] * 5 + [False] * 5)
