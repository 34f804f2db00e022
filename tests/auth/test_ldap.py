"""Logins and recipients of a real directory: found, bound, refused; stopped, silent and back again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any
from unittest import SkipTest

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.cred.checkers import ICredentialsChecker, InMemoryUsernamePasswordDatabaseDontUse
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, gatherResults
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from mailgate.auth import ldapchecker, ldapserver
from mailgate.auth.checkers import CheckerChain
from mailgate.auth.credentials import NamedLogin, PasswordLogin
from mailgate.auth.ldapchecker import BindChecker, Naming, SearchChecker
from mailgate.auth.ldapserver import Directory, Reader, Search
from mailgate.auth.ldapwire import Times
from mailgate.auth.remembered import RememberedSuccess
from mailgate.auth.strcred import LdapFactory
from mailgate.directories import Pattern, parse_dn_pattern, parse_filter, parse_server
from mailgate.errors import LoginRefused, StoreUnavailable, TooBusy
from mailgate.interfaces import IMaildropLookup, IUserLookup
from mailgate.testing.certificates import Authority
from tests.directory import PEOPLE, READER, READER_PASSWORD, SUFFIX, Slapd, person

ENTRIES = "".join((
    person("alice", "secret", more="mail: alice@example.org\nmail: a.liddell@example.org\n"),
    person("Bob", "bob's *)(", more="mail: bob@example.org\n"),
    person("müller", "geheim"),
    person("a,b", "secret", rdn="uid=a\\,b"),
    person("twin", "secret"),
    person("twin", "secret", rdn="cn=twin"),
    person("many", "secret", more="uid: more\n"),
    person("locked", "secret", more="pwdAccountLockedTime: 000001010000Z\n"),
    person("reset", "secret", more="pwdReset: TRUE\n"),
    person("hidden", "secret", under=f"ou=hidden,{SUFFIX}"),
))
BY_UID = parse_filter("(&(objectClass=inetOrgPerson)(uid={user}))")
BY_MAIL = parse_filter("(|(uid={user})(mail={login}))")
BY_DN = parse_dn_pattern(f"uid={{user}},{PEOPLE}")
PATIENT = Times(60, 60)     # where an answer comes
SHORT = Times(0.7, 0.7)     # where it is waited for, and none comes
SLAPD: Any = None


def setUpModule() -> None:
    global SLAPD
    try:
        SLAPD = Slapd(ENTRIES)
    except SkipTest as missing:
        SLAPD = missing


def tearDownModule() -> None:
    if isinstance(SLAPD, Slapd):
        SLAPD.remove()


def until(seconds: float = 60.0) -> float:
    return time.monotonic() + seconds


class Now:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Site:
    """What all tests here make of the directory."""

    def setUp(self) -> None:
        if isinstance(SLAPD, SkipTest):
            raise SLAPD
        self.now = Now()

    def directory(self, *urls: str, reader: Reader | None = None, **options: Any) -> Directory:
        made = Directory(tuple(map(parse_server, urls or (SLAPD.ldapi,))), now=self.now, **{
            "ca_file": str(SLAPD.ca_file), "times": PATIENT,
            "reader": reader or Reader(READER, str(SLAPD.password_file)), **options})
        self.addCleanup(made.close)     # type: ignore[attr-defined]
        return made

    def found(self, directory: Directory, name: str = "alice", attribute: str = "uid") -> list[Any]:
        return directory.search(Search(PEOPLE, "subtree", attribute), f"(uid={name})", until())


class SearchTests(Site, SynchronousTestCase):
    def test_found(self) -> None:
        entry, = self.found(self.directory(), attribute="MAIL")
        self.assertEqual((entry.dn, sorted(entry.values)),
                         (f"uid=alice,{PEOPLE}", [b"a.liddell@example.org", b"alice@example.org"]))

    def test_not_one(self) -> None:
        """None; two, or a thousand: the search ends with the second. References elsewhere are none."""
        directory = self.directory()
        self.assertEqual([len(self.found(directory, name)) for name in ("nobody", "twin", "*")], [0, 2, 2])

    def test_aliases_and_referrals(self) -> None:
        """Neither resolved nor followed."""
        directory = self.directory()
        self.assertEqual(self.found(directory, "pointed")[0].dn, f"ou=alias,{PEOPLE}")
        search = Search(f"ou=elsewhere,{PEOPLE}", "subtree", "uid")
        fault = self.assertRaises(StoreUnavailable, directory.search, search, "(uid=alice)", until())
        self.assertIn("referral", str(fault))

    def test_scope(self) -> None:
        directory = self.directory()
        for base, scope, count in ((SUFFIX, "subtree", 1), (SUFFIX, "one-level", 0), (PEOPLE, "one-level", 1),
                                   (PEOPLE, "base", 0), (f"uid=alice,{PEOPLE}", "base", 1)):
            self.assertEqual(len(directory.search(Search(base, scope, "uid"), "(uid=alice)", until())), count)

    def test_no_base(self) -> None:
        """A base that is not there, or not for us, makes nobody unknown."""
        for base in (f"ou=nowhere,{SUFFIX}", f"ou=hidden,{SUFFIX}", "dc=com"):
            self.assertRaises(StoreUnavailable, self.directory().search, Search(base, "subtree", "uid"),
                              "(uid=alice)", until())

    def test_reader(self) -> None:
        """Its password is read for each connection; without the right one nobody is asked again at once."""
        file = SLAPD.folder / "other.secret"
        self.assertRaises(StoreUnavailable, self.found, self.directory(reader=Reader(READER, str(file))))
        file.write_text("wrong")
        directory = self.directory(reader=Reader(READER, str(file)))
        self.assertIn("invalid credentials", str(self.assertRaises(StoreUnavailable, self.found, directory)))
        file.write_text(READER_PASSWORD + "\r\n")
        self.assertIn("none is asked now", str(self.assertRaises(StoreUnavailable, self.found, directory)))
        self.now.seconds += ldapserver.ASIDE_SECONDS
        self.assertEqual(len(self.found(directory)), 1)

    def test_anonymous(self) -> None:
        directory = Directory((parse_server(SLAPD.ldapi),))
        self.addCleanup(directory.close)
        self.assertRaises(StoreUnavailable, self.found, directory)      # our reader sees more


class BindTests(Site, SynchronousTestCase):
    def reason(self, directory: Directory, dn: str, password: bytes) -> str:
        return str(self.assertRaises(LoginRefused, directory.log_in, dn, password, until()).reason)

    def test_log_in(self) -> None:
        directory = self.directory()
        directory.log_in(f"uid=alice,{PEOPLE}", b"secret", until())
        for dn, password in ((f"uid=alice,{PEOPLE}", b"wrong"), (f"uid=nobody,{PEOPLE}", b"secret"),
                             ("nonsense", b"secret"), (f"ou=people,{SUFFIX}", b"secret"),
                             (f"uid=alice,{PEOPLE}", b"secret\0"),
                             (f"uid=x,ou=elsewhere,{PEOPLE}", b"secret")):
            self.assertIn("LDAP: invalid", self.reason(directory, dn, password))
        directory.log_in(f"uid=alice,{PEOPLE}", b"secret", until())

    def test_nobody(self) -> None:
        """What a server would take for a bind of nobody is never sent."""
        for dn, password in ((f"uid=alice,{PEOPLE}", b""), ("", b"secret"), ("", b"")):
            self.assertIn("no DN or no password", self.reason(self.directory(), dn, password))

    def test_policy(self) -> None:
        """Locked, or bound to change the password: refused, the reason for the log."""
        directory = self.directory()
        self.assertIn("locked", self.reason(directory, f"uid=locked,{PEOPLE}", b"secret"))
        self.assertIn("must be changed", self.reason(directory, f"uid=reset,{PEOPLE}", b"secret"))
        self.assertIn("invalid credentials", self.reason(directory, f"uid=reset,{PEOPLE}", b"wrong"))

    def test_searches_are_never_a_users(self) -> None:
        """Whoever has logged in, the next search is the reader's, and sees what he sees."""
        directory = self.directory()
        for _ in range(2):
            self.assertEqual(len(self.found(directory)), 1)
            directory.log_in(f"uid=alice,{PEOPLE}", b"secret", until())
        self.assertEqual(len(directory._open), 2)


class TransportTests(Site, SynchronousTestCase):
    def fault(self, *urls: str, **options: Any) -> str:
        return str(self.assertRaises(StoreUnavailable, self.found, self.directory(*urls, **options)))

    def test_tls(self) -> None:
        """StartTLS, ldaps, a socket, and in clear on this machine."""
        for url, start_tls in ((SLAPD.ldap, True), (SLAPD.ldap, None), (SLAPD.ldaps, None),
                               (SLAPD.ldapi, None)):
            directory = self.directory(url, start_tls=start_tls)
            self.assertEqual(len(self.found(directory)), 1)
            directory.log_in(f"uid=alice,{PEOPLE}", b"secret", until())

    def test_encrypted(self) -> None:
        """A server may insist on TLS; without it, it is an outage and no wrong password."""
        other = Slapd(person("alice", "secret"), security="security simple_bind=128")
        self.addCleanup(other.remove)
        self.assertIn("confidentiality", self.fault(other.ldap))
        directory = self.directory(other.ldap, start_tls=True, ca_file=str(other.ca_file))
        directory.log_in(f"uid=alice,{PEOPLE}", b"secret", until())
        plain = self.directory(other.ldap)
        self.assertRaises(StoreUnavailable, plain.log_in, f"uid=alice,{PEOPLE}", b"secret", until())

    def test_certificates(self) -> None:
        """Of another authority, for another name: nothing is said to such a server, by StartTLS or ldaps."""
        strange = SLAPD.folder / "strange.pem"
        strange.write_bytes(Authority().pem)
        for url in (SLAPD.ldap, SLAPD.ldaps):
            self.assertRegex(self.fault(url, start_tls=True, ca_file=str(strange)), "TLS: .*certificate")
            self.assertRegex(self.fault(url, start_tls=True, ca_file=None), "TLS: .*certificate")
            other_name = url.replace("127.0.0.1", "localhost")
            self.assertIn("not valid for 'localhost'", self.fault(other_name, start_tls=True))

    def test_authorities(self) -> None:
        """Their file is looked at for each connection; without it nothing is trusted."""
        file = SLAPD.folder / "changing.pem"
        directory = self.directory(SLAPD.ldaps, ca_file=str(file))
        self.assertIn("No such file", str(self.assertRaises(StoreUnavailable, self.found, directory)))
        for content in (b"", b"nonsense", Authority().pem):
            file.write_bytes(content)
            self.assertRaises(StoreUnavailable, self.found, directory)
        file.write_bytes(SLAPD.authority.pem)
        self.assertEqual(len(self.found(directory)), 1)

    def test_wrong_ports(self) -> None:
        self.assertIn("TLS", self.fault(SLAPD.ldap.replace("ldap:", "ldaps:")))
        self.assertIn("closed", self.fault(SLAPD.ldaps.replace("ldaps:", "ldap:")))
        self.assertIn("cannot connect: Connection refused", self.fault("ldap://127.0.0.1:1"))
        self.assertIn("cannot connect: ", self.fault("ldap://no-such-host.invalid"))
        self.assertIn("cannot connect: No such file", self.fault("ldapi://%2Fnowhere"))

    def test_the_next_server(self) -> None:
        """Asked where one cannot be connected with, or is not to be trusted."""
        strange = SLAPD.ldaps.replace("127.0.0.1", "localhost")
        told: list[str] = []
        directory = self.directory("ldap://127.0.0.1:1", strange, SLAPD.ldaps, tell=told.append)
        for _ in range(3):
            self.assertEqual(len(self.found(directory)), 1)
            directory.close()
        self.assertEqual(len(told), 2, told)     # once each


class KeptTests(Site, SynchronousTestCase):
    def test_kept(self) -> None:
        """For a minute since they were used, and ten since they were made."""
        directory = self.directory()
        self.found(directory)
        first, = directory._open
        for seconds, same in ((59, True), (59, True), (60, False)):
            self.now.seconds += seconds
            self.found(directory)
            self.assertEqual(directory._open == {first}, same)
        first, = directory._open
        for _ in range(11):
            self.now.seconds += 55
            self.found(directory)
        self.assertNotIn(first, directory._open)
        self.assertEqual(len(directory._open), 1)

    def test_restarted(self) -> None:
        """A kept connection that turns out to be dead is replaced, and nobody notices."""
        told: list[str] = []
        directory = self.directory(SLAPD.ldaps, tell=told.append)
        for _ in range(2):
            self.assertEqual(len(self.found(directory)), 1)
            directory.log_in(f"uid=alice,{PEOPLE}", b"secret", until())
            SLAPD.stop()
            SLAPD.start()
        self.assertEqual(told, [])

    def test_stopped(self) -> None:
        """An outage while it is gone, without any wait; told once, and so is that it is back."""
        told: list[str] = []
        directory = self.directory(SLAPD.ldap, tell=told.append)
        self.found(directory)
        SLAPD.stop()
        try:
            for _ in range(3):
                self.assertRaises(StoreUnavailable, self.found, directory)
                self.assertRaises(
                    StoreUnavailable, directory.log_in, f"uid=alice,{PEOPLE}", b"secret", until())
        finally:
            SLAPD.start()
        self.assertEqual(len(self.found(directory)), 1)
        self.assertEqual((len(told), "answers again" in told[1]), (2, True), told)

    def test_silent(self) -> None:
        """A server that stands still costs its time once; then it is not asked for a while."""
        for url in (SLAPD.ldap, SLAPD.ldaps):
            directory, fresh = (self.directory(
                url, start_tls=True if url == SLAPD.ldap else None) for _ in range(2))
            self.found(directory)
            SLAPD.pause()
            try:
                for one in (directory, fresh):
                    one._times = SHORT
                    fault = self.assertRaises(StoreUnavailable, self.found, one)
                    self.assertIn("no answer in time", str(fault))
                    fault = self.assertRaises(StoreUnavailable, self.found, one)
                    self.assertIn("none is asked now", str(fault))
                self.now.seconds += ldapserver.ASIDE_SECONDS
                fault = self.assertRaises(StoreUnavailable, self.found, directory)
                self.assertIn("no answer in time", str(fault))
            finally:
                SLAPD.resume()
            directory._times = PATIENT
            self.now.seconds += ldapserver.ASIDE_SECONDS
            self.assertEqual(len(self.found(directory)), 1)

    def test_another_for_a_silent_one(self) -> None:
        other = Slapd(ENTRIES)
        self.addCleanup(other.remove)
        directory = self.directory(other.ldap, SLAPD.ldap, tell=lambda words: be(PATIENT))

        def be(times: Times) -> None:
            directory._times = times

        self.found(directory)
        other.pause()
        be(SHORT)       # until it has failed
        self.assertEqual(len(self.found(directory)), 1)
        directory.log_in(f"uid=alice,{PEOPLE}", b"secret", until())

    def test_little_time(self) -> None:
        """Who comes late gets no answer, but the server is not blamed for it."""
        directory = self.directory(SLAPD.ldap)
        self.found(directory)
        SLAPD.pause()
        try:
            self.assertRaises(StoreUnavailable, directory.search, Search(PEOPLE, "subtree", "uid"),
                              "(uid=alice)", until(0.2))
        finally:
            SLAPD.resume()
        self.assertEqual(len(self.found(directory)), 1)

    def test_closed(self) -> None:
        """Whoever waits for a silent server is let go at once."""
        directory = self.directory(SLAPD.ldap)
        self.found(directory)
        faults: list[Any] = []

        def ask() -> None:
            try:
                self.found(directory)
            except StoreUnavailable as fault:
                faults.append(fault)

        SLAPD.pause()
        try:
            asking = threading.Thread(target=ask)
            asking.start()
            while directory._kept["reader"]:
                time.sleep(0.001)
            directory.close()
            asking.join(30)
        finally:
            SLAPD.resume()
        self.assertEqual((len(faults), directory._open), (1, set()))


class Everybody(Site, TestCase):
    """What checkers answer, in threads of their own."""

    def checker(self, *urls: str, pattern: Pattern = BY_UID, attribute: str = "uid", naming: Any = None,
                mail: Pattern | None = None, times: Times | None = None, **options: Any) -> SearchChecker:
        directory = self.directory(*urls, **({"times": times} if times else {}))
        search = Search(SUFFIX, "subtree", attribute)
        checker = SearchChecker(directory, search, pattern, naming or Naming("mail.example.org"),
                                mail_pattern=mail, reactor=reactor, **options)
        self.addCleanup(checker.stop)
        return checker

    def binder(self, pattern: Pattern = BY_DN, **options: Any) -> BindChecker:
        checker = BindChecker(self.directory(), pattern, Naming("mail.example.org"), reactor=reactor,
                              **options)
        self.addCleanup(checker.stop)
        return checker

    async def outcome(self, checker: Any, name: str | bytes, password: str | bytes = "secret") -> Any:
        """Return the maildrop, or the class of the fault."""
        name, password = (one.encode() if isinstance(one, str) else one for one in (name, password))
        try:
            return (await checker.requestAvatarId(PasswordLogin(name, password))).decode()
        except (LoginRefused, StoreUnavailable, TooBusy) as fault:
            return next(kind for kind in (LoginRefused, TooBusy, StoreUnavailable) if isinstance(fault, kind))

    async def outcomes(self, checker: Any, names: Iterable[Any]) -> list[Any]:
        return [await self.outcome(checker, *((one,) if isinstance(one, (str, bytes)) else one))
                for one in names]


class LoginTests(Everybody):
    async def test_search(self) -> None:
        """In any spelling that the directory takes for it; the maildrop is named by the entry."""
        checker = self.checker()
        verifyObject(ICredentialsChecker, checker)
        verifyObject(IMaildropLookup, checker)
        self.assertEqual(
            await self.outcomes(checker, ("alice", "ALICE", "ａlice", "alice@mail.example.org",
                                          ("bob", "bob's *)("), ("MÜLLER", "geheim"),
                                          ("mu\u0308ller", "geheim"), "a,b", "twin", "many", "nobody",
                                          "hidden", "pointed", "locked", "reset", ("alice", "wrong"),
                                          ("alice", ""), ("alice", "secret\0"), ("alice", "\0"), "",
                                          "alice@example.org", "alice@", ("alice", "x" * 5000))),
            ["alice"] * 4 + ["Bob", "müller", "müller", "a,b"] + [LoginRefused] * 15)

    async def test_attribute(self) -> None:
        """Another one names the maildrop: it must have one value."""
        self.assertEqual(await self.outcomes(self.checker(attribute="mail"), (
            ("bob", "bob's *)("), "alice", ("müller", "geheim"))),
            ["bob@example.org", LoginRefused, LoginRefused])

    async def test_names(self) -> None:
        """What is searched for where a name has a domain."""
        by_mail = self.checker(pattern=BY_MAIL)
        names = ("alice", "alice@example.org", "A.Liddell@EXAMPLE.org")
        self.assertEqual(await self.outcomes(by_mail, names), ["alice"] * 3)
        domains = self.checker(naming=Naming("x", ("example.org", "Example.net")))
        self.assertEqual(
            await self.outcomes(domains, ("alice", "alice@EXAMPLE.org", "alice@example.net", "alice@x")),
            ["alice"] * 3 + [LoginRefused])
        composed = self.checker(pattern=parse_filter("(mail={user}@{domain})"), naming=Naming("example.org"))
        self.assertEqual(await self.outcomes(composed, ("alice", "alice@example.org", "alice@x")),
                         ["alice", "alice", LoginRefused])

    async def test_template(self) -> None:
        checker = self.binder()
        self.assertFalse(IUserLookup.providedBy(checker))
        self.assertEqual(
            await self.outcomes(checker, ("alice", "ALICE", "alice@mail.example.org",
                                          ("müller", "geheim"), "a,b", "many",
                                          "nobody", "hidden", "twin", ("alice", "wrong"), ("alice", ""),
                                          "alice@example.org", "locked", "reset")),
            ["alice"] * 3 + ["müller", "a,b", "many"] + [LoginRefused] * 2 + ["twin"]
            + [LoginRefused] * 5)

    async def test_look_alikes(self) -> None:
        """Equal here, and maybe not to the directory: nobody opens what may be another entry's maildrop."""
        alike = ("bob\u00ad", "bob\u200b", "straße", "dave\ufe00")
        SLAPD.modify("".join(
            person(uid, f"of {uid}").replace("\nobjectClass", "\nchangetype: add\nobjectClass", 1)
            for uid in (*alike, "strasse", "dave")))
        own = [(uid, f"of {uid}") for uid in alike]
        self.assertEqual(await self.outcomes(self.binder(), (
            *own, ("strasse", "of strasse"), ("dave", "of dave"), ("bob", "bob's *)("),
            ("ａlice", "secret"), ("MÜLLER", "geheim"), ("mu\u0308ller", "geheim"))),
            [LoginRefused] * len(own) + ["strasse", "dave", "bob"] + [LoginRefused] * 3)

    async def test_injection(self) -> None:
        """No name is anything but a name, whatever stands in it."""
        names = ("*", "al*", "a*ce", "alice)(uid=*", "*)(|(uid=*", "alice)(objectClass=*", "\\61lice", "\\2a",
                 "alice\0", b"alice\xff", b"\xff", "alice,ou=people", "alice,ou=people,dc=example,dc=org",
                 "alice+cn=alice", "#04", "uid=alice", "\\", "alice\\", '"alice"', "alice;", "<alice>",
                 "{login}", "{user}", "(uid=alice)", "alice\r\n", "alice\n", "/alice", "a\\,b", "a\\2cb")
        several = parse_filter("(|(uid={login})(cn={user})(mail={login}))")
        for checker in (self.checker(pattern=parse_filter("(uid={login})")), self.checker(pattern=several),
                        self.binder()):
            found = dict(zip(names, await self.outcomes(checker, names), strict=True))
            self.assertEqual({name: one for name, one in found.items() if one is not LoginRefused}, {})

    async def test_named(self) -> None:
        """A name that was proven outside: what a search finds, and nothing where none is made."""
        checker = self.checker()
        self.assertEqual(await checker.requestAvatarId(NamedLogin(b"alice", "certificate")), b"alice")
        for name in (b"nobody", b"twin", b"*"):
            await self.assertFailure(checker.requestAvatarId(NamedLogin(name, "certificate")), LoginRefused)
        self.assertNotIn(NamedLogin, BindChecker.credentialInterfaces)

    async def test_alike(self) -> None:
        """Unknown, wrong, locked: one fault with one text; only the log's reason differs."""
        checker, texts, reasons = self.checker(), set(), set()
        for name, password in (("nobody", "x"), ("alice", "x"), ("locked", "secret"), ("twin", "secret")):
            fault = await self.assertFailure(
                checker.requestAvatarId(PasswordLogin(name.encode(), password.encode())), LoginRefused)
            texts.add((type(fault), str(fault)))
            reasons.add(fault.reason)
        self.assertEqual((len(texts), len(reasons)), (1, 4), reasons)

    async def test_remembered(self) -> None:
        """A right password, by that very spelling; nothing that was wrong, and nothing of another checker."""
        remembered: Any = RememberedSuccess(reactor, 300)
        checker, other = (self.checker(remembered=remembered) for _ in range(2))
        self.assertEqual(await self.outcomes(checker, ("alice", ("bob", "wrong"))), ["alice", LoginRefused])
        SLAPD.stop()
        try:
            logins = ("alice", "ALICE", ("alice", "wrong"), ("bob", "wrong"))
            self.assertEqual(await self.outcomes(checker, logins), ["alice"] + [StoreUnavailable] * 3)
            self.assertEqual(await self.outcome(other, "alice"), StoreUnavailable)
        finally:
            SLAPD.start()


class PluginTests(Everybody):
    async def test_dn(self) -> None:
        """`--auth mailgate-ldap:` with a DN, against this directory."""
        checker = LdapFactory().generateChecker(f"{SLAPD.ldapi}/uid={{login}},{PEOPLE}")
        self.addCleanup(checker.stop)
        self.assertEqual(await self.outcomes(checker, ("alice", ("alice", "wrong"), "*")),
                         ["alice", LoginRefused, LoginRefused])

    async def test_search(self) -> None:
        """With an attribute: a directory that shows nobody anything is an outage, and no refusal."""
        checker = LdapFactory().generateChecker(f"{SLAPD.ldapi}/{PEOPLE}?uid")
        self.addCleanup(checker.stop)
        self.assertEqual(await self.outcome(checker, "alice"), StoreUnavailable)


class RecipientTests(Everybody):
    async def test_recipients(self) -> None:
        """By the filter for mail where there is one: any address of an entry leads to its maildrop."""
        checker = self.checker(mail=BY_MAIL)
        for name, maildrop in (("alice", "alice"), ("a.liddell@example.org", "alice"),
                               ("BOB@example.org", "Bob"), ("nobody@example.org", None), ("alice*", None),
                               ("*", None), ("locked", "locked"), ("x\udcff", None)):
            self.assertEqual(await checker.maildrop_of(name), maildrop)
            self.assertEqual(await checker.knows(name), maildrop is not None)
        plain = self.checker()
        self.assertEqual([await plain.maildrop_of(name) for name in (
            "alice@mail.example.org", "alice@example.org", "a.liddell")], ["alice", None, None])

    async def test_not_one(self) -> None:
        """Mail that could be two entries', or could go to two maildrops, waits; it is never sent back."""
        await self.assertFailure(self.checker().maildrop_of("twin"), StoreUnavailable)
        await self.assertFailure(self.checker().maildrop_of("many"), StoreUnavailable)
        self.assertIsNone(await self.checker(attribute="mail").maildrop_of("locked"))

    async def test_outage(self) -> None:
        checker = self.checker(SLAPD.ldap)
        SLAPD.stop()
        try:
            await self.assertFailure(checker.knows("alice"), StoreUnavailable)
        finally:
            SLAPD.start()
        self.assertTrue(await checker.knows("alice"))


class StallTests(Everybody):
    async def test_others_go_on(self) -> None:
        """While a server stands still its users wait, others do not; then it is not asked for a while."""
        checker = self.checker(SLAPD.ldap)
        chain = CheckerChain([checker, InMemoryUsernamePasswordDatabaseDontUse(carol=b"rose")])
        SLAPD.pause()
        checker.directory._times = SHORT
        try:
            with capturedLogs() as events:
                self.assertEqual(await self.outcome(chain, "carol", "rose"), "carol")
            self.assertEqual(await self.outcome(chain, "alice"), StoreUnavailable)
            await self.assertFailure(checker.knows("alice"), StoreUnavailable)
        finally:
            SLAPD.resume()
            checker.directory._times = PATIENT
        self.assertTrue(any("no answer in time" in str(event.get("words")) for event in events))
        self.now.seconds += ldapserver.ASIDE_SECONDS
        self.assertEqual(await self.outcome(chain, "alice"), "alice")

    async def test_bounded(self) -> None:
        """Threads, connections and those who wait for them; nobody waits longer than a check may take."""
        self.patch(ldapchecker, "WAITING", 5)
        checker = self.checker(SLAPD.ldap, connections=2, timeout_seconds=60.0)
        self.assertEqual(await self.outcome(checker, "alice"), "alice")
        SLAPD.pause()
        checker._timeout_seconds = 1.0
        try:
            before = time.monotonic()
            logins = [self.outcome(checker, f"user{number}") for number in range(20)]
            got = await gatherResults([_started(one) for one in logins])
            self.assertLess(time.monotonic() - before, 30)
        finally:
            SLAPD.resume()
            checker._timeout_seconds = 60.0
        self.assertEqual((got.count(TooBusy), got.count(StoreUnavailable)), (13, 7), got)
        self.assertLessEqual(len(checker.directory._open), 4)
        self.assertEqual(await self.outcome(checker, "alice"), "alice")

    async def test_crowd(self) -> None:
        """More logins than connections are all answered."""
        checker = self.checker(SLAPD.ldaps, connections=3, remembered=RememberedSuccess(reactor, 0))
        self.assertEqual(await gatherResults([_started(self.outcome(checker, "alice")) for _ in range(40)]),
                         ["alice"] * 40)
        self.assertLessEqual(len(checker.directory._open), 6)

    async def test_mail_beside_logins(self) -> None:
        """Recipients have a thread of their own: logins that wait do not hold up mail."""
        checker = self.checker(SLAPD.ldap, connections=1)
        entered, go_on = threading.Event(), threading.Event()

        def held(*args: Any) -> None:
            entered.set()
            go_on.wait(60)

        self.patch(checker, "_judge", held)
        waiting = checker.requestAvatarId(PasswordLogin(b"alice", b"secret"))
        waiting.addErrback(lambda failure: None)
        try:
            self.assertTrue(await checker.knows("alice"))
        finally:
            go_on.set()
        waiting.cancel()
        await waiting

    async def test_client_gone(self) -> None:
        """A login whose client has gone is dropped; the next one finds the checker as it was."""
        checker = self.checker(connections=1)
        login = checker.requestAvatarId(PasswordLogin(b"alice", b"secret"))
        login.cancel()
        await self.assertFailure(login, CancelledError)
        self.assertEqual(await self.outcome(checker, "alice"), "alice")

    async def test_stopped(self) -> None:
        """It begins anew with the next question, and leaves no connection behind."""
        checker = self.checker()
        for _ in range(2):
            self.assertEqual(await self.outcome(checker, "alice"), "alice")
            await checker.stop()
            self.assertEqual(checker.directory._open, set())


class SpellingTests(Everybody):
    def test_no_name_is_another(self) -> None:
        """Whatever is asked for with alice's password, nothing but alice's maildrop is opened."""
        directory = self.directory()
        search = Search(SUFFIX, "subtree", "uid")
        checkers: list[BindChecker] = [
            SearchChecker(directory, search, parse_filter(text))
            for text in ("(uid={login})", "(|(uid={user})(cn={login}))")]
        checkers.append(BindChecker(directory, BY_DN))

        @given(st.one_of(st.text(alphabet="alice*()\\,+=#;\0ａ\u00adİ ", max_size=8), st.text(max_size=8)))
        @settings(deadline=None, max_examples=150)
        def attempt(login: str) -> None:
            for checker in checkers:
                try:
                    name = checker._name(login.encode(), checker.pattern)
                    self.assertEqual(checker._judge(name, b"secret", until()), "alice")
                except LoginRefused:
                    pass

        attempt()


def _started(coroutine: Any) -> Any:
    from twisted.internet.defer import Deferred

    return Deferred.fromCoroutine(coroutine)
