"""Settings of an LDAP checker: what goes together, and what does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailgate.auth import ldapchecker, ldapserver, ldapwire
from mailgate.config import CheckerSection, directory, parse
from mailgate.directories import PLACES
from mailgate.errors import ConfigurationError

HEAD = 'hostname = "mail.example.org"\n[[listen]]\nprotocol = "pop3"\nendpoint = "tcp:110"\n[[checker]]\n'
SEARCH = {"kind": '"ldap"', "urls": '["ldaps://a"]', "search_base": '"dc=x"',
          "search_filter": '"(uid={user})"'}
TEMPLATE = {"kind": '"ldap"', "urls": '["ldap://a"]', "user_dn": '"uid={user},dc=x"'}


def read(base: dict[str, str], **more: str | None) -> CheckerSection:
    lines = {**base, **more}
    text = HEAD + "".join(f"{name} = {value}\n" for name, value in lines.items() if value is not None)
    return parse(text.encode(), folder=Path("/etc/mailgate")).checkers[0]


class SettingTests(SynchronousTestCase):
    def problems(self, base: dict[str, str], **more: str | None) -> list[str]:
        return list(self.assertRaises(ConfigurationError, read, base, **more).problems)

    def only(self, setting: str, words: str, base: dict[str, str], **more: str | None) -> None:
        problem, = self.problems(base, **more)
        self.assertTrue(problem.startswith(f"checker[0].{setting}"), problem)
        self.assertIn(words, problem)

    def test_good(self) -> None:
        self.assertEqual(directory.maildrop_attribute(read(SEARCH)), "uid")
        read(TEMPLATE, domains='["example.org"]', connections="2")
        read(SEARCH, urls='["ldaps://a", "ldap://b", "ldapi://%2Fx"]', starttls="false", ca_file='"ca.pem"')
        read(SEARCH, bind_dn='"cn=m,dc=x"', bind_password_file='"s"', mail_filter='"(mail={login})"',
             maildrop_attribute='"cn"', search_scope='"one-level"')
        read(SEARCH, timeout_seconds="5.5", connect_seconds="1", answer_seconds="5")

    def test_of_this_kind_only(self) -> None:
        """None of its settings is passed over with another kind, nor theirs with this one."""
        values: dict[str, Any] = {
            "urls": '["ldap://a"]', "starttls": "true", "user_dn": '"uid={user},dc=x"',
            "search_base": '"dc=x"', "search_scope": '"base"', "search_filter": '"(uid={user})"',
            "maildrop_attribute": '"uid"',
            "mail_filter": '"(uid={user})"', "bind_dn": '"dc=x"', "domains": '["a"]', "connections": "1",
            "connect_seconds": "1", "answer_seconds": "1", "timeout_seconds": "9"}
        for name in CheckerSection.OF_LDAP:
            self.only(name, "has no meaning for store", {"kind": '"store"'},
                      **{name: values.get(name, '"x"')})
        for name in ("path", "keys", "service"):
            self.only(name, "has no meaning for ldap", SEARCH, **{name: '"x"'})

    def test_transport(self) -> None:
        self.only("urls", "is missing", SEARCH, urls=None)
        self.only("urls", "empty", SEARCH, urls="[]")
        self.only("urls", "twice", SEARCH, urls='["ldaps://a", "ldaps://a:636"]')
        self.only("urls", '"ldap://a/dc=x": not ldap://HOST', SEARCH, urls='["ldap://a/dc=x"]')
        self.only("starttls", "ldap:// only", SEARCH, starttls="true")
        self.only("ca_file", "no TLS", TEMPLATE, ca_file='"ca"', starttls="false")
        self.only("ca_file", "no TLS", TEMPLATE, ca_file='"ca"', urls='["ldap://localhost", "ldapi://%2Fx"]')
        read(TEMPLATE, ca_file='"ca"', urls='["ldap://localhost"]', starttls="true")

    def test_finding(self) -> None:
        self.only("search_base", "either", {"kind": '"ldap"', "urls": '["ldaps://a"]'})
        self.only("search_base", "either", SEARCH, user_dn='"uid={user},dc=x"')
        self.only("search_filter", "is missing", SEARCH, search_filter=None)
        self.only("search_filter", "parentheses", SEARCH, search_filter='"uid={user}"')
        self.only("maildrop_attribute", "more than one", SEARCH,
                  search_filter='"(|(uid={user})(mail={login}))"')
        self.only("maildrop_attribute", "attribute", SEARCH, maildrop_attribute='"a b"')
        self.only("bind_dn", "goes with", SEARCH, bind_dn='"cn=m,dc=x"')
        self.only("bind_dn", "goes with", SEARCH, bind_password_file='"x"')
        self.assertIn("checker[0].user_dn", self.problems(TEMPLATE, user_dn='"uid=root,dc=x"')[0])
        self.only("domains", "empty", SEARCH, domains="[]")
        for name in directory.OF_SEARCH[:4]:
            value = {"search_scope": '"base"', "maildrop_attribute": '"cn"'}.get(name, '"(uid={user})"')
            self.only(name, "has no meaning with `user_dn`", TEMPLATE, **{name: value})

    def test_times(self) -> None:
        """All servers have to have a chance within the time of one check."""
        self.only("timeout_seconds", "5 is not more", SEARCH, timeout_seconds="5")
        self.only("timeout_seconds", "15 is not more", SEARCH, connect_seconds="20")

    def test_all_at_once(self) -> None:
        found = self.problems(SEARCH, urls="[]", search_filter='"x"', domains="[]", path='"x"', keys='"x"')
        self.assertEqual(sorted(one.partition(":")[0].removeprefix("checker[0].") for one in found),
                         ["domains", "keys", "path", "search_filter", "urls"])

    def test_words_and_defaults_are_those_of_the_program(self) -> None:
        for scope in ldapserver.SCOPES:
            read(SEARCH, search_scope=f'"{scope}"')
        self.assertEqual(ldapwire.Times(), (directory.CONNECT_SECONDS, directory.ANSWER_SECONDS))
        self.assertEqual(ldapchecker.TIMEOUT_SECONDS, directory.TIMEOUT_SECONDS)
        self.assertEqual(PLACES, ("login", "user", "domain"))
