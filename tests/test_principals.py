"""Kerberos principals as text, and the rules that say which maildrops they open."""

from __future__ import annotations

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.names import fold
from mailgate.principals import Principal, Rules, parse_principal, parse_rule

REALM = "TEST.EXAMPLE"
ANY_TEXT = st.text(min_size=1, max_size=12)
COMPONENTS = st.lists(st.one_of(ANY_TEXT, st.sampled_from(["alice", "admin", "u", "shop"])), min_size=1,
                      max_size=3).map(tuple)
PRINCIPALS = st.builds(Principal, COMPONENTS, st.one_of(st.just(REALM), ANY_TEXT))
PLAIN = st.text("abcdefghijklmnopqrstuvwxyz0123456789._-\u00e4", min_size=1, max_size=10)


def rules(*texts: str) -> Rules:
    return Rules(parse_rule(text) for text in texts)


def who(text: str) -> Principal:
    return parse_principal(text if "@" in text else f"{text}@{REALM}")


class PrincipalTests(SynchronousTestCase):
    def test_parsed(self) -> None:
        self.assertEqual(who("pop/mail.example.org"), (("pop", "mail.example.org"), REALM))
        self.assertEqual(parse_principal("a\\/b\\@c\\\\/d@R"), (("a/b@c\\", "d"), "R"))

    def test_refused(self) -> None:
        for text in ("", "alice", "@R", "alice@", "a//b@R", "/a@R", "a@b@c", "a@R/b", "a@R\\"):
            self.assertRaises(ValueError, parse_principal, text)

    @settings(deadline=None, max_examples=200)
    @given(PRINCIPALS)
    def test_there_and_back(self, principal: Principal) -> None:
        """What is written down is read as the same principal; no two are written alike."""
        self.assertEqual(parse_principal(str(principal)), principal)


class DefaultRuleTests(SynchronousTestCase):
    rules = Rules.of_realms([REALM, "OTHER.EXAMPLE"])

    def test_own_maildrop(self) -> None:
        for name in ("alice", "bob.smith", "o'neil", "j\u00fcrgen"):
            self.assertTrue(self.rules.permit(who(name), name))
        self.assertTrue(self.rules.permit(who("alice@OTHER.EXAMPLE"), "alice"))

    def test_case(self) -> None:
        """Maildrops are one in any case; principals are not: Alice@R is somebody else."""
        self.assertTrue(self.rules.permit(who("alice"), "Alice"))
        for maildrop in ("alice", "Alice", "ALICE"):
            self.assertFalse(self.rules.permit(who("Alice"), maildrop))

    def test_nobody_elses(self) -> None:
        for principal in ("bob", "alice/admin", "admin/alice", "alice/alice", "alice@STRANGE.EXAMPLE",
                          "alice@test.example", "alice@TEST.EXAMPL"):
            self.assertFalse(self.rules.permit(who(principal), "alice"), principal)

    def test_no_views_and_no_addresses(self) -> None:
        """A component that looks like an address or an SDPS name opens nothing by the default rule."""
        self.assertFalse(self.rules.permit(who("shop"), "shop", "bob"))
        for component in ("bob@shop", "bob+shop", "bob/x", "a b", "a:b", "a\nb", "a\\b", "\u00a0"):
            principal = Principal((component,), REALM)
            self.assertFalse(self.rules.permit(principal, component), component)
            self.assertFalse(self.rules.permit(principal, "shop", "bob"), component)

    @settings(deadline=None, max_examples=300)
    @given(PRINCIPALS, st.one_of(ANY_TEXT, PLAIN), st.one_of(st.none(), PLAIN))
    def test_only_equal_names(self, principal: Principal, maildrop: str, view: str | None) -> None:
        """Whatever is permitted is one component of a listed realm and a whole maildrop of equal name."""
        if self.rules.permit(principal, maildrop, view):
            self.assertEqual((principal.components, view), ((fold(maildrop),), None))
            self.assertIn(principal.realm, (REALM, "OTHER.EXAMPLE"))

    @settings(deadline=None, max_examples=200)
    @given(PLAIN, st.lists(ANY_TEXT, min_size=1, max_size=2))
    def test_instances_open_nothing(self, name: str, instance: list[str]) -> None:
        """u/admin@R never opens u."""
        self.assertTrue(self.rules.permit(Principal((name,), REALM), name))
        self.assertFalse(self.rules.permit(Principal((name, *instance), REALM), name))


class RuleTests(SynchronousTestCase):
    def test_literal(self) -> None:
        shared = rules(f"alice@{REALM} -> Info", f"bob/mail@{REALM} -> info")
        for principal, permitted in (("alice", True), ("bob/mail", True), ("bob", False), ("carol", False)):
            self.assertIs(shared.permit(who(principal), "info"), permitted)
        self.assertFalse(shared.permit(who("alice"), "alice"))      # the default rule is not added

    def test_instances_where_a_rule_says_so(self) -> None:
        opened = rules(f"{{name}}/mail@{REALM} -> {{name}}")
        self.assertTrue(opened.permit(who("alice/mail"), "alice"))
        for principal in ("alice/admin", "alice", "bob/mail", "alice/mail/x"):
            self.assertFalse(opened.permit(who(principal), "alice"), principal)

    def test_sdps_views(self) -> None:
        """user@host, for a rule's own users or for whom a component names."""
        views = rules(f"{{user}}/{{host}}@{REALM} -> {{user}}@{{host}}", f"shop@{REALM} -> *@shop",
                      f"shop@{REALM} -> shop")
        self.assertTrue(views.permit(who("bob/shop"), "shop", "bob"))
        self.assertFalse(views.permit(who("bob/shop"), "shop", "eve"))
        self.assertFalse(views.permit(who("bob/shop"), "shop"))
        self.assertFalse(views.permit(who("bob/shop"), "bob"))
        for view in (None, "bob", "eve.smith"):
            self.assertTrue(views.permit(who("shop"), "shop", view))
        self.assertFalse(views.permit(who("shop"), "shops", "bob"))

    def test_star_stops_at_the_host(self) -> None:
        every = rules(f"root/admin@{REALM} -> *")
        self.assertTrue(every.permit(who("root/admin"), "anybody"))
        self.assertFalse(every.permit(who("root/admin"), "shop", "bob"))

    def test_own(self) -> None:
        """The maildrop of a principal that names none: the first that a rule opens to it by name."""
        self.assertEqual(Rules.of_realms([REALM]).own(who("alice")), "alice")
        self.assertIsNone(Rules.of_realms([REALM]).own(who("alice/admin")))
        some = rules(f"root@{REALM} -> *", f"{{name}}@{REALM} -> {{name}}", f"carol@{REALM} -> Info",
                     f"{{name}}/shop@{REALM} -> {{name}}@shop", f"shop/admin@{REALM} -> *@shop")
        for principal, own in (("root", "root"), ("carol", "carol"), ("bob/shop", "bob@shop"),
                               ("shop/admin", None), ("bob/other", None), ("a b", None)):
            self.assertEqual(some.own(Principal(tuple(principal.split("/")), REALM)), own, principal)

    @settings(deadline=None, max_examples=200)
    @given(PRINCIPALS)
    def test_own_is_permitted(self, principal: Principal) -> None:
        """What a rule names it also opens; unless its name has capitals, which no key of a maildrop has."""
        some = rules(f"{{name}}@{REALM} -> {{name}}", f"{{a}}/{{b}}@{REALM} -> x.{{a}}.{{b}}")
        own = some.own(principal)
        if own is not None and own == fold(own):
            self.assertTrue(some.permit(principal, own))

    def test_ill_formed(self) -> None:
        for text in ("", "alice@R", "-> a", "alice -> a", "alice@R ->", "{a}@R -> {b}", "{a}/{a}@R -> {a}",
                     "x{a}@R -> {a}", "*@R -> a", "a@{r} -> a", "a@* -> a", "{a}@R -> {a", "a@R -> b c",
                     "{A}@R -> {A}", "a@R -> {a}}"):
            self.assertRaises(ValueError, parse_rule, text)

    @settings(deadline=None, max_examples=200)
    @given(PLAIN, PLAIN, PRINCIPALS, ANY_TEXT)
    def test_rules_open_what_they_say(self, name: str, host: str, other: Principal, maildrop: str) -> None:
        """A literal rule opens one maildrop to one principal, whatever characters are in their names."""
        assume(name != host)
        only = rules(f"{Principal((name, host), REALM)} -> {name}")
        self.assertTrue(only.permit(Principal((name, host), REALM), name))
        if only.permit(other, maildrop):
            self.assertEqual((other, fold(maildrop)), (Principal((name, host), REALM), name))
