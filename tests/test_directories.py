"""Servers, DNs and filters as an operator writes them, and names in them: values and nothing more."""

from __future__ import annotations

import ldap.dn
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate import directories
from mailgate.directories import (
    Pattern,
    Server,
    compared_attributes,
    escaped,
    parse_dn,
    parse_dn_pattern,
    parse_filter,
    parse_login,
    parse_server,
    prepared,
)

NAMES = st.one_of(st.text(max_size=30), st.text(alphabet="*()\\\0,+=\"<>;# {}login@é", max_size=12))


class PatternTests(SynchronousTestCase):
    def test_filters(self) -> None:
        for text, places, attributes in (
                ("(uid={login})", {"login"}, ("uid",)),
                ("(&(objectClass=person)(|(uid={user})(mail={user}@{domain})(UID={login})))",
                 {"login", "user", "domain"}, ("UID", "mail")),
                ("(&(uid={user})(memberOf:1.2.840.113556.1.4.1941:=cn=mail\\2cx,dc=a)(!(age>=3))(x=*)(cn=a*b))",
                 {"user"}, ("uid",)),
                ("(&(&)(|)(1.2.3;lang-de=ä{login}))", {"login"}, ("1.2.3;lang-de",))):
            pattern = parse_filter(text)
            self.assertEqual((pattern.places, compared_attributes(pattern)), (places, attributes), text)

    def test_no_filters(self) -> None:
        """Nor where a name would match more than itself, or would have to be escaped in two ways."""
        for text in ("uid={login}", "(uid={login}", "(uid={login}))", "(uid={login})(a=b)", "({login}=x)",
                     "(uid={login}*)", "(uid>={login})", "(uid~={login})", "(uid:={login})", "(uid=x)",
                     "(uid={domain})", "(uid={name})", "(!(a=b)(uid={login}))", "(uid=\\{login})",
                     "(uid=\\2{login})", "(member=uid={user},ou=people)", "({login})", "", "()",
                     "(&(uid={login})", "(uid=a\0{login})", "(&" * 5000):
            self.assertRaises(ValueError, parse_filter, text)

    def test_dns(self) -> None:
        for text in ("uid={login},ou=people,dc=example,dc=org", "uid={user}+cn=x, dc=a", "1.2.3={login}",
                     "cn=Smith\\, {user},dc=x"):
            self.assertEqual(parse_dn_pattern(text), Pattern(text))
        for text in ("dc=a", "{login}=x,dc=a", "uid={login},", "uid={login},people", "uid=a\\{login}",
                     "{login}", "uid={user},ou=a=b", "uid={x},dc=a", "uid={login},dc=\0"):
            self.assertRaises(ValueError, parse_dn_pattern, text)
        self.assertEqual(parse_dn("cn=a b\\2c,dc=x"), "cn=a b\\2c,dc=x")
        self.assertRaises(ValueError, parse_dn, "people")

    def test_servers(self) -> None:
        for text, server, local in (
                ("ldap://ldap.example.org", Server("ldap", "ldap.example.org", 389), False),
                ("ldaps://10.0.0.1:1636/", Server("ldaps", "10.0.0.1", 1636), False),
                ("ldap://[::1]:390", Server("ldap", "::1", 390), True),
                ("ldap://localhost", Server("ldap", "localhost", 389), True),
                ("ldap://127.9.9.9", Server("ldap", "127.9.9.9", 389), True),
                ("ldap://localhost.example.org", Server("ldap", "localhost.example.org", 389), False),
                ("ldapi://%2Frun%2fsla%20pd", Server("ldapi", "/run/sla pd", 0), True)):
            self.assertEqual((parse_server(text), parse_server(text).is_local), (server, local))
        self.assertEqual([str(parse_server(text)) for text in ("ldap://[::1]", "ldapi://%2Fa", "ldaps://h:1")],
                         ["ldap://[::1]:389", "ldapi:/a", "ldaps://h:1"])
        for text in ("", "h", "http://h", "ldap://", "ldap://h/dc=x", "ldap://h:0", "ldap://h:65536",
                     "ldap://a b", "ldap://h1,h2", "ldap://h ldap://i", "ldap://u@h", "ldap://[zz]", "ldap://[1]",
                     "ldapi://run", "ldapi://", "ldapi://%2Fa%00b", "ldapi:///run/x", "ldapi://%2F%ff",
                     "ldapi://" + "%2F" * 5000 + "!"):
            self.assertRaises(ValueError, parse_server, text)

    def test_logins(self) -> None:
        self.assertEqual(parse_login("a@b@c", "d"), ("a@b@c", "a@b", "c"))
        self.assertEqual(parse_login("a", "d"), ("a", "a", "d"))


class InjectionTests(SynchronousTestCase):
    @given(NAMES)
    @settings(deadline=None, max_examples=300)
    def test_filters(self, name: str) -> None:
        """Filled in, a filter has the parts that it had, and the value is the name, octet for octet."""
        pattern = parse_filter("(&(objectClass=person)(uid={login}))")
        filled = pattern.filled(parse_login(name))
        self.assertTrue(filled.startswith("(&(objectClass=person)(uid=") and filled.endswith("))"))
        value = filled[len("(&(objectClass=person)(uid="):-2]
        self.assertFalse(set(value) & set("()*\0"))
        self.assertEqual(_octets(value), name.encode())
        self.assertEqual(directories._filter_end(filled, 0), len(filled))

    @given(NAMES.filter(bool))
    @settings(deadline=None, max_examples=300)
    def test_dns(self, name: str) -> None:
        """libldap reads a DN of the RDNs that it had, and the name as a value."""
        filled = parse_dn_pattern("uid={login},dc=org").filled(parse_login(name))
        if "\0" in name:        # libldap's reader of DNs ends there; the octet itself is never written
            self.assertNotIn("\0", filled)
            return
        self.assertEqual([[(part[0], part[1]) for part in rdn] for rdn in ldap.dn.str2dn(filled)],
                         [[("uid", name)], [("dc", "org")]])

    @given(st.text(max_size=20))
    @settings(deadline=None, max_examples=300)
    def test_spelling(self, name: str) -> None:
        """A spelling of a spelling is the same one."""
        self.assertEqual(prepared(prepared(name)), prepared(name))

    def test_spellings(self) -> None:
        for spelling in ("straße", "STRASSE", "ＳＴＲＡＳＳＥ", "stra\u00adsse", "str\u200basse"):
            self.assertEqual(prepared(spelling), "strasse")
        self.assertEqual(prepared("MÜLLER"), prepared("mu\u0308ller"))
        self.assertNotEqual(prepared("muller"), prepared("müller"))

    def test_escaped(self) -> None:
        self.assertEqual(escaped("a-b_c.d@E9"), "a-b_c.d@E9")
        self.assertEqual(escaped("*)(\\\0 é#"), "\\2a\\29\\28\\5c\\00\\20\\c3\\a9\\23")


def _octets(value: str) -> bytes:
    """Read a value of a filter (RFC 4515 section 3)."""
    found, at = bytearray(), 0
    while at < len(value):
        if value[at] == "\\":
            found.append(int(value[at + 1:at + 3], 16))
            at += 3
        else:
            found += value[at].encode()
            at += 1
    return bytes(found)
