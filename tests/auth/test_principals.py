"""The checker of Kerberos principals: what it admits, what the store compares again."""

from __future__ import annotations

from typing import Any

from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mailgate.auth.portal import MailgatePortal
from mailgate.auth.principals import IKerberosPrincipal, PrincipalChecker, PrincipalLogin
from mailgate.auth.realm import MaildropRealm
from mailgate.errors import LoginRefused, StaleCredential, StoreUnavailable
from mailgate.interfaces import IMaildrop, IUserLookup
from mailgate.model import Account, Admission
from mailgate.principals import Rules, parse_principal, parse_rule
from mailgate.stores.memory import MemoryStore

REALM = "TEST.EXAMPLE"
OWN = Rules.of_realms([REALM])


@implementer(IUserLookup)
class Lookup:
    """Knows some names, or is down."""

    def __init__(self, *names: str, down: bool = False) -> None:
        self.names = names
        self.down = down

    def knows(self, name: str) -> Deferred[bool]:
        return fail(StoreUnavailable("down")) if self.down else succeed(name.lower() in self.names)


def login(principal: str, username: bytes) -> PrincipalLogin:
    return PrincipalLogin(parse_principal(f"{principal}@{REALM}"), username, "192.0.2.1")


class CheckerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = MemoryStore(clock=Clock())
        self.successResultOf(self.store.start())
        self.successResultOf(self.store.accounts.add([
            Account("alice", addresses=("a.smith@mail.example",)), Account("gone", disabled=True),
            Account("shop", sdps=True, domains=("shop.example",))]))

    def ask(self, principal: str, username: bytes, *, rules: Rules = OWN, lookups: Any = ()) -> Admission:
        checker = PrincipalChecker(rules, self.store.accounts, lookups)
        admission: Admission = self.successResultOf(checker.requestAvatarId(login(principal, username)))
        return admission

    def version(self, name: str) -> int:
        account: Account = self.successResultOf(self.store.accounts.get(name))
        return account.version

    def refused(self, principal: str, username: bytes, **how: Any) -> None:
        checker = PrincipalChecker(how.pop("rules", OWN), how.pop("accounts", self.store.accounts), **how)
        fault = self.failureResultOf(checker.requestAvatarId(login(principal, username)), LoginRefused)
        self.assertIsInstance(fault.value, UnauthorizedLogin)

    def test_credentials(self) -> None:
        """What the portal gets says who, and holds nothing secret."""
        given = login("alice", b"alice")
        self.assertTrue(verifyObject(IKerberosPrincipal, given))
        self.assertEqual(repr(given), f"PrincipalLogin('alice@{REALM}', b'alice', peer='192.0.2.1')")

    def test_account(self) -> None:
        """By any of its names; the admission names the account and its version."""
        version = self.version("alice")
        for name in (b"alice", b"Alice", b"a.smith@mail.example"):
            self.assertEqual(self.ask("alice", name), Admission("alice", None, "alice", version))

    def test_address_of_somebody_else(self) -> None:
        """A principal named as an address's local part is not the address's owner."""
        self.refused("a.smith", b"a.smith@mail.example")
        self.refused("a.smith", b"a.smith")
        self.refused("shop.example", b"shop.example")

    def test_own_name(self) -> None:
        """Who asks by the principal's name, realm and all, gets what the rules name, if they do."""
        self.assertEqual(self.ask("alice", f"alice@{REALM}".encode()).maildrop, "alice")
        rules = Rules([parse_rule(f"{{user}}/shop@{REALM} -> {{user}}@shop"),
                       parse_rule(f"info@{REALM} -> alice"), parse_rule(f"root@{REALM} -> *")])
        version = self.version("shop")
        self.assertEqual(self.ask("bob/shop", f"bob/shop@{REALM}".encode(), rules=rules),
                         Admission("shop", "bob", "shop", version))
        self.assertEqual(self.ask("info", f"info@{REALM}".encode(), rules=rules).maildrop, "alice")
        self.refused("root", f"root@{REALM}".encode(), rules=rules)
        self.refused("alice", f"info@{REALM}".encode(), rules=rules)
        self.refused("alice", f"alice@{REALM.lower()}".encode())

    def test_views(self) -> None:
        """SDPS names need a rule, in any of their spellings."""
        rules = Rules([parse_rule(f"{{user}}@{REALM} -> {{user}}@shop")])
        version = self.version("shop")
        for name in (b"bob@shop", b"bob+shop", b"Bob@SHOP", b"bob@shop.example"):
            self.refused("bob", name)
            self.assertEqual(self.ask("bob", name, rules=rules), Admission("shop", "bob", "shop", version))
            self.refused("eve", name, rules=rules)
        self.refused("shop", b"bob@shop")
        self.assertEqual(self.ask("shop", b"shop"), Admission("shop", None, "shop", version))

    def test_no_account(self) -> None:
        for name in (b"gone", b"nobody", b"", b"\xff", b"a\0b", b"alice\r", b"x" * 1000):
            self.refused("gone", name)
            self.refused("nobody", name)

    def test_other_checkers_users(self) -> None:
        """Users of a passwd-file get theirs, after the store's accounts; a disabled account stays one."""
        users = [Lookup("zoe", "gone", "b@c")]
        self.assertEqual(self.ask("zoe", b"Zoe", lookups=users), Admission("zoe"))
        self.refused("gone", b"gone", lookups=users)
        self.refused("b@c".replace("@", "\\@"), b"b@c", lookups=users)
        self.refused("alice", b"alice", accounts=None, lookups=users)

    def test_outage_is_no_refusal(self) -> None:
        checker = PrincipalChecker(OWN, self.store.accounts, [Lookup(down=True)])
        self.failureResultOf(checker.requestAvatarId(login("zoe", b"zoe")), StoreUnavailable)

    def test_disabled_between_check_and_lease(self) -> None:
        """The store compares the version that was checked; the portal then checks afresh and refuses."""
        admission = self.ask("alice", b"alice")
        table = self.store.accounts
        self.successResultOf(table.set_disabled("alice", True))
        self.failureResultOf(self.store.open(admission), StaleCredential)
        portal = MailgatePortal(MaildropRealm(self.store), [PrincipalChecker(OWN, table)])
        self.failureResultOf(portal.login(login("alice", b"alice"), None, IMaildrop), LoginRefused)
