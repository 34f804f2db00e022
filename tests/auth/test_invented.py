"""Invented salts relate as real ones do: no two spellings of a name tell whether it is anybody's."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailgate.auth.answers import KEPT_SECONDS, Answers
from mailgate.auth.checkers import StoreChecker
from mailgate.auth.hashing import Inline
from mailgate.auth.invented import FAMILIES, common, invented, known_by
from mailgate.auth.kept import SCRAM_ITERATIONS, SCRAM_SALT_OCTETS
from mailgate.auth.passwdfile import PasswdFileChecker
from mailgate.auth.portal import MailgatePortal
from mailgate.auth.realm import MaildropRealm
from mailgate.auth.sasl import ScramQuestion
from mailgate.errors import AccountConflict
from mailgate.model import Account, Habits
from mailgate.names import fold
from tests.auth.staging import fresh_path, store_with

HOSTNAME = "mail.example.org"
DOMAINS = ("one.org", "two.example", HOSTNAME)


def scram(*, iterations: int = 4096, salt_octets: int = 16,
          schemes: Iterable[str] = FAMILIES) -> tuple[str, ...]:
    """Return verifiers of a password that nobody knows: only the salts matter."""
    made = []
    for scheme in schemes:
        parts = (os.urandom(salt_octets), *(os.urandom(FAMILIES[scheme].octets) for _ in range(2)))
        made.append(f"{{{scheme}}}{iterations}," + ",".join(base64.b64encode(one).decode() for one in parts))
    return tuple(made)


class House:
    """Checkers, and what they answer to who only begins an exchange."""

    def __init__(self, accounts: Sequence[Account], *further: Any, secret: bytes = b"secret" * 6) -> None:
        self.clock = Clock()
        self.store = store_with(*accounts)
        checker = StoreChecker(self.store.accounts, Inline())
        checker._secret = secret
        portal = MailgatePortal(MaildropRealm(self.store), [checker, *further])
        self.answers = Answers(portal, self.clock.seconds, HOSTNAME)

    def answer(self, name: str, scheme: str = "SCRAM-SHA-256") -> Any:
        found: list[Any] = []
        question = ScramQuestion(scheme, name.encode("utf-8", "surrogateescape"))
        self.answers.answer(question).addBoth(found.append)
        return found[0]

    def salt(self, name: str, scheme: str = "SCRAM-SHA-256") -> tuple[int, bytes]:
        return self.answer(name, scheme)[:2]

    def kinship(self, names: Sequence[str]) -> list[int]:
        """Return, for each name, the first of the names that is answered the same."""
        salts = [self.salt(name) for name in names]
        return [salts.index(salt) for salt in salts]


# A site and somebody who could be there -------------------------------------------------------


class Habit(NamedTuple):
    """How a site names its accounts: by domain "local" or "whole"; whether it has SDPS hosts, and where."""

    domains: dict[str, str]
    parents: tuple[str, ...]

    def account(self, label: str, kind: str) -> Account:
        """Return an account as this site has them; `kind` is a domain, or "sdps"."""
        if kind == "sdps":
            return Account(label, sdps=True, verifiers=scram(),
                           domains=tuple(f"{label}.{parent}" for parent in self.parents))
        address = f"{label}@{kind}"
        name = label if self.domains[kind] == "local" else address
        return Account(name, verifiers=scram(), addresses=(address,))

    @property
    def kinds(self) -> list[str]:
        return [*self.domains, *(["sdps"] if self.parents else [])]


labels = st.text("abcxyz", min_size=1, max_size=4)
habits = st.builds(
    Habit, st.dictionaries(st.sampled_from(DOMAINS), st.sampled_from(["local", "whole"]), min_size=1),
    st.sampled_from([(), (HOSTNAME,), ("pop.example.net",), (HOSTNAME, "example.net")]))


def spellings(label: str, habit: Habit) -> list[str]:
    """Return what somebody who tries names would try for one label."""
    hosts = [label, *(f"{label}.{parent}" for parent in (*habit.parents, HOSTNAME, "else.where"))]
    found = [label.upper(), f"x@{HOSTNAME}"]
    for host in hosts:
        found += [host, f"x@{host}", f"y+{host}", f"Z@{host.upper()}", f"a@b+{host}", f"a+b@{host}",
                  f"a@b@{host}", f"a+b+{host}", f"@{host}", f"{host}+", f"{host}@"]
    return found + [f"{label}@{domain}" for domain in (*DOMAINS, "else.where")]


@st.composite
def sites(draw: st.DrawFn) -> tuple[Habit, list[Account], Account, list[str]]:
    """A habit, accounts that keep to it (at least one of each kind), one more, and its spellings."""
    habit = draw(habits)
    names = draw(st.lists(labels, min_size=len(habit.kinds) + 1, max_size=9, unique=True))
    label, *others = names
    further = draw(st.lists(st.sampled_from(habit.kinds), min_size=len(names), max_size=len(names)))
    accounts = [habit.account(other, kind) for other, kind in zip(others, habit.kinds + further)]   # noqa: B905
    one = habit.account(label, draw(st.sampled_from(habit.kinds)))
    return habit, accounts, one, spellings(label, habit) + spellings(others[0], habit)


class KinshipTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=150)
    @given(sites())
    def test_spellings_relate_as_if_somebody_was_there(self, site: Any) -> None:
        """Two spellings have one salt in a house without an account iff they have one in a house with it."""
        _, accounts, one, names = site
        without = House(accounts)
        try:
            house = House([*accounts, one])
        except AccountConflict:
            assume(False)
        self.assertEqual(without.kinship(names), house.kinship(names))

    @settings(deadline=None, max_examples=60)
    @given(sites())
    def test_every_real_spelling_is_known_by_the_accounts_name(self, site: Any) -> None:
        """What an account answers to, and what is made of that, is the same account again."""
        _, accounts, one, _ = site
        try:
            house = House([*accounts, one])
        except AccountConflict:
            assume(False)
        usual = self.successResultOf(house.store.accounts.habits(tuple(FAMILIES)))
        spelled = [one.name, *one.addresses, *one.domains]
        if one.sdps:
            spelled += [f"a{mark}{host}" for mark in "@+" for host in (one.name, *one.domains)]
        self.assertEqual({known_by(name, HOSTNAME, usual) for name in spelled}, {fold(one.name)})

    def test_no_two_names_are_alike(self) -> None:
        """Nor are two schemes of one name, known or not."""
        house = House([Account("carol", verifiers=scram(), addresses=(f"carol@{HOSTNAME}",))])
        salts = {house.salt(name, scheme) for name in ("carol", "dave", "erin", "dave@else.where")
                 for scheme in FAMILIES}
        self.assertEqual(len(salts), 8)

    def test_the_other_name_vouches_for_nobody(self) -> None:
        """What is shown for kinship's sake logs nobody in."""
        house = House([Account("shire", sdps=True, verifiers=scram(), domains=(f"shire.{HOSTNAME}",)),
                       Account("carol", verifiers=scram(), addresses=("carol@one.org",))])
        for name in ("carol", "carol@one.org", "x@shire", f"x+shire.{HOSTNAME}"):
            self.assertIsNotNone(house.answer(name).vouch)
        for name in (f"carol@{HOSTNAME}", "x@carol", f"shire@{HOSTNAME}"):
            self.assertIsNone(house.answer(name).vouch)
            self.assertIn(house.salt(name), (house.salt("carol"), house.salt("shire")))

    def test_names_that_cannot_be(self) -> None:
        """Not UTF-8, empty, all marks: answered, and always alike."""
        house = House([])
        for name in ("\udcff", "", "@", "+", "a@", "@b", "x@\udcff", "a\0b", "+" * 200):
            self.assertEqual(house.salt(name), house.salt(name))
            self.assertIsNone(house.answer(name).vouch)


class FormTests(SynchronousTestCase):
    def test_counts_and_lengths_as_most_have_them(self) -> None:
        """Verifiers that came from another server have its iterations and its octets of salt."""
        theirs = [Account(f"u{n}", verifiers=scram(iterations=5000, salt_octets=12)) for n in range(3)]
        ours = [Account(f"v{n}", verifiers=scram()) for n in range(2)]
        house = House([*ours, *theirs])
        for scheme in FAMILIES:
            iterations, salt = house.salt("nobody", scheme)
            self.assertEqual((iterations, len(salt)), (5000, 12))

    def test_where_nobody_has_any(self) -> None:
        iterations, salt = House([]).salt("nobody")
        self.assertEqual((iterations, len(salt)), (SCRAM_ITERATIONS, SCRAM_SALT_OCTETS))

    def test_no_absurd_forms(self) -> None:
        """A malformed verifier that is most accounts' makes no answer that a client would refuse."""
        for usual in ((1, 16), (10 ** 12, 16), (5000, 10 ** 6)):
            made = invented(b"x", "SCRAM-SHA-1", "nobody", Habits(scram={"SCRAM-SHA-1": usual}))
            self.assertIn(made.iterations, (SCRAM_ITERATIONS, 5000))
            self.assertLessEqual(len(made.salt), 64)

    def test_a_passwd_file_beside_the_store(self) -> None:
        """Its users are known by their whole names; theirs and the store's habits count together."""
        path = fresh_path(self)
        verifier = scram(iterations=6000, schemes=["SCRAM-SHA-256"])[0]
        path.write_text(f"ann@three.org:{verifier}\nbea:{verifier}\n")
        file = PasswdFileChecker(str(path), Inline())
        house = House([Account("carol", verifiers=scram(), addresses=("carol@one.org",)),
                       Account("shire", sdps=True, verifiers=scram(), domains=(f"shire.{HOSTNAME}",))], file)
        self.assertNotEqual(house.salt("x@three.org"), house.salt("y@three.org"))
        self.assertEqual(house.salt("x@four.org"), house.salt("y@four.org"))
        self.assertEqual(house.salt("bea"), house.salt(f"bea@{HOSTNAME}"))
        self.assertEqual(house.salt("zoe"), house.salt(f"zoe@{HOSTNAME}"))
        habits = self.successResultOf(file.habits())
        self.assertEqual((habits.by_address, habits.scram), ({"three.org"}, {"SCRAM-SHA-256": (6000, 16)}))

    def test_common(self) -> None:
        """The first one's word counts."""
        both = common([Habits(frozenset({"a"}), frozenset({"b"}), scram={"x": (1, 2)}),
                       Habits(frozenset({"b", "c"}), frozenset({"a", "d"}), True, frozenset({"p"}),
                              {"x": (3, 4), "y": (5, 6)})])
        self.assertEqual(both, Habits(frozenset({"a", "c"}), frozenset({"b", "d"}), True, frozenset({"p"}),
                                      {"x": (1, 2), "y": (5, 6)}))
        self.assertEqual(common([]), Habits())

    def test_looked_at_once_in_a_while(self) -> None:
        """All accounts only after a change, and not with every client."""
        house = House([Account("carol", verifiers=scram(), addresses=("carol@one.org",))])
        asked: list[object] = []
        habits = house.store.accounts.habits
        self.patch(house.store.accounts, "habits", lambda *rest: asked.append(rest) or habits(*rest))
        for _ in range(3):
            house.salt("nobody")
            house.clock.advance(KEPT_SECONDS)
        self.assertEqual(len(asked), 1)
        self.successResultOf(house.store.accounts.add([Account("dan@six.org", addresses=("dan@six.org",))]))
        self.assertNotEqual(house.salt("zoe"), house.salt("zoe@six.org"))
        self.assertEqual(len(asked), 2)
