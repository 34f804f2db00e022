"""Refused logins on connections: when they leave, where they count, and what the log says of each."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.logger import eventAsText, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mailgate.errors import MaildropInUse, StoreUnavailable
from mailgate.model import Account
from mailgate.net.crowd import Crowd
from mailgate.net.pop3 import POP3Factory
from mailgate.pop3.policy import Limits, Policy
from mailgate.testing.peers import LOOPBACK, Address, Peer
from tests.auth.sasl.test_scram import Client
from tests.pop3.maildrops import PASSWORDS, Realm, Users, portal_of
from tests.pop3.sasl_house import KEPT, USER, SaslHouse, coded

REFUSED = b"-ERR [AUTH] login refused\r\n"
TOO_MANY = b"-ERR [SYS/TEMP] too many logins of this user at a time\r\n"
SECONDS = [2, 4, 8, 16, 30, 30]     # of one refusal after the other, with the default settings


def at(host: str) -> Address:
    return IPv6Address("TCP", host, 40110) if ":" in host else IPv4Address("TCP", host, 40110)


FAR, FARTHER = at("203.0.113.7"), at("198.51.100.9")


class Door:
    """Two listeners of one service, with shared limits; the names are mrose and xyz."""

    def __init__(self, *, per_address: int | None = None, per_user: int | None = None, **limits: Any) -> None:
        self.clock = Clock()
        self.realm = Realm([])
        self.users = Users(PASSWORDS)
        policy = Policy(plaintext_login=True, hostname=b"mail.example.org", limits=replace(
            Limits(failed_logins=100), **limits))
        crowd = Crowd(per_address=per_address, per_user=per_user, seconds=self.clock.seconds)
        first = POP3Factory(portal_of(self.realm, self.users), policy=policy, clock=self.clock, crowd=crowd)
        second = POP3Factory(portal_of(self.realm, self.users), policy=policy, clock=self.clock, crowd=crowd,
                             attempts=first.attempts)
        self.factories = [first, second]
        self.crowd = crowd

    def connect(self, address: Address = FAR, listener: int = 0) -> Peer:
        """Return a peer that was greeted."""
        peer = Peer(self.factories[listener], clock=self.clock, address=address)
        peer.received.clear()
        return peer

    def begin(self, name: str, password: str = "wrong", address: Address = FAR, listener: int = 0) -> Peer:
        """Return a peer that has just said who it is."""
        peer = self.connect(address, listener)
        response = coded("\0".join(("", name, password)).encode())
        peer.say(f"AUTH PLAIN {response}\r\n".encode())
        return peer

    def seconds(self, peer: Peer) -> float:
        """Return how long an answer takes from now on, to the eighth, and let it come."""
        passed = 0.0
        while not peer.received:
            self.clock.advance(0.125)       # no rounding: the clock stays exact
            peer.settle()
            passed += 0.125
            assert passed < 1000
        return passed

    def refuse(self, name: str, address: Address = FAR, **more: Any) -> float:
        """Have a login refused on a connection of its own; return how long that took."""
        peer = self.begin(name, address=address, **more)
        seconds = self.seconds(peer)
        assert peer.received == REFUSED, bytes(peer.received)
        peer.vanish()
        return seconds

    def admits(self, name: str, password: str, address: Address = FAR) -> bool:
        """Whether a right password is taken at once."""
        peer = self.begin(name, password, address)
        taken = peer.received.startswith(b"+OK")
        peer.vanish()
        return taken


class DelayTests(SynchronousTestCase):
    def test_growing(self) -> None:
        """One user from one address: later each time, on every listener, whatever the spelling."""
        door = Door()
        spellings = ["mrose", "MRose", "mrose@MAIL.example.org", "mrose", "mrose", "mrose"]
        self.assertEqual([door.refuse(name, listener=number % 2) for number, name in enumerate(spellings)],
                         SECONDS)

    def test_right_passwords_never_wait(self) -> None:
        """Neither the user's own, from there or elsewhere, nor anybody else's."""
        door = Door()
        for number in range(100):
            door.refuse("mrose")
            door.refuse(f"name{number}")
        for name, password in (("mrose", "secret"), ("xyz", "slot one")):
            for address in (FAR, FARTHER):
                self.assertTrue(door.admits(name, password, address))

    def test_of_others(self) -> None:
        """Another address begins anew; many names from one address are slowed, too."""
        door = Door()
        for _ in range(5):
            door.refuse("mrose")
        self.assertEqual(door.refuse("mrose", FARTHER), 2)
        slowed = [door.refuse(f"name{number}", FARTHER) for number in range(30)]
        self.assertEqual((slowed[0], slowed[-1]), (2, 18))

    def test_forgotten(self) -> None:
        """Half of it in ten minutes."""
        door = Door()
        for _ in range(6):
            door.refuse("mrose")
        door.clock.advance(600)
        self.assertLess(door.refuse("mrose"), 30)
        door.clock.advance(7200)
        self.assertEqual(door.refuse("mrose"), 2)

    def test_one_beat_whatever_was_wrong(self) -> None:
        """Unknown, wrong and disabled are delayed alike, first and later, however long the check takes."""
        accounts = (USER, Account("gone", verifiers=KEPT, addresses=("gone@example.org",), disabled=True))
        times: dict[str, list[float]] = {}
        for name, password in (("user", "wrong"), ("nobody", "wrong"), ("gone", "pencil")):
            house = SaslHouse(accounts, policy=Policy(plaintext_login=True, limits=Limits(failed_logins=100)))
            times[name] = []
            peer = house.connect(FAR)
            for _ in range(6):
                peer.received.clear()
                peer.say(f"USER {name}\r\nPASS {password}\r\n".encode())
                peer.received.clear()
                before = house.clock.seconds()
                while not peer.received:
                    house.clock.advance(0.5)
                    peer.settle()
                self.assertEqual(peer.received, REFUSED)
                times[name].append(house.clock.seconds() - before)
        self.assertEqual(times, dict.fromkeys(times, SECONDS))

    def test_slow_checks(self) -> None:
        """A check that outlasts its time is answered on the next beat; how many was fixed before."""
        door = Door()
        door.refuse("mrose")
        door.users.checking.shut()
        slow = door.begin("mrose")          # has four seconds
        door.clock.advance(4.5)
        door.users.checking.open()
        self.assertEqual(door.seconds(slow), 1.5)

    def test_the_order_of_checks_tells_nothing(self) -> None:
        """Of two attempts at once the first waits shorter, also if its check ends last."""
        door = Door()
        door.users.checking.shut()
        first, second = door.begin("mrose"), door.begin("mrose")
        waiting, door.users.checking.waiting = door.users.checking.waiting, []
        for passing, outcome in reversed(waiting):
            passing.callback(outcome())
        door.users.checking.open()
        self.assertEqual((door.seconds(first), door.seconds(second)), (2, 2.0))

    def test_this_machine(self) -> None:
        """Loopback and unix sockets wait one beat, always."""
        door = Door(per_address=1, per_user=1)
        for address in (LOOPBACK, at("::1"), UNIXAddress(None)):
            self.assertEqual([door.refuse("mrose", address) for _ in range(10)], [2] * 10)
        open_at_once = [door.begin("mrose", "secret", LOOPBACK) for _ in range(20)]
        self.assertTrue(all(peer.received.startswith(b"+OK") for peer in open_at_once))

    def test_no_delay(self) -> None:
        """With 0 nobody waits, however often he fails; and nothing is remembered or kept."""
        door = Door(per_user=1, failure_delay_seconds=0.0)
        self.assertEqual([door.refuse("mrose") for _ in range(20)], [0] * 20)
        self.assertEqual(door.crowd._places, {})

    def test_settings(self) -> None:
        door = Door(failure_delay_seconds=1.0, failure_growth=3.0, failure_delay_most_seconds=20.0)
        self.assertEqual([door.refuse("mrose") for _ in range(5)], [1, 3, 9, 20, 20])

    def test_faults_are_not_held_against_anybody(self) -> None:
        """A store that is down, a maildrop in use: answered at once, and no failure."""
        door = Door(per_user=1)
        for fault in (StoreUnavailable("down"), MaildropInUse("busy")):
            door.realm.opening.fault = fault
            for _ in range(10):
                peer = door.begin("mrose", "secret")
                self.assertTrue(peer.received.startswith((b"-ERR [SYS/TEMP]", b"-ERR [IN-USE]")))
        door.realm.opening.fault = None
        self.assertEqual(door.refuse("mrose"), 2)
        self.flushLoggedErrors()


class PlaceTests(SynchronousTestCase):
    def test_too_many_of_a_user(self) -> None:
        """One too many is told so once and closed, its password unseen; the others go on."""
        door = Door(per_user=3)
        sessions = [door.begin("mrose", "secret") for _ in range(3)]
        judged = len(door.users.attempts)
        one_more = door.begin("MROSE", "secret")
        self.assertEqual((bytes(one_more.received), one_more.closed), (TOO_MANY, True))
        self.assertEqual(len(door.users.attempts), judged)
        self.assertTrue(door.admits("mrose", "secret", FARTHER))
        self.assertTrue(door.admits("xyz", "slot one"))
        sessions[0].say(b"QUIT\r\n")
        self.assertTrue(door.admits("mrose", "secret"))
        sessions[1].vanish()
        self.assertTrue(door.admits("mrose", "secret"))
        for peer in sessions:
            peer.vanish()
        self.assertEqual((door.crowd._places, door.crowd.count), ({}, 0))

    def test_the_answer_is_the_same_for_unknown_names(self) -> None:
        door = Door(per_user=1)
        door.begin("nobody")
        self.assertEqual(bytes(door.begin("nobody").received), TOO_MANY)

    def test_hanging_up_buys_no_time(self) -> None:
        """Refused logins keep their places until their time, whether their clients wait or not."""
        door = Door(per_address=6, per_user=3)
        for _ in range(3):      # due after 2, 4 and 8 seconds
            door.begin("mrose").vanish()
        self.assertEqual(bytes(door.begin("mrose").received), TOO_MANY)
        others = [door.connect() for _ in range(3)]
        self.assertEqual(bytes(Peer(door.factories[0], clock=door.clock, address=FAR).received),
                         b"-ERR [SYS/TEMP] too many connections\r\n")
        door.clock.advance(2.0)
        self.assertTrue(door.admits("mrose", "secret"))
        door.clock.advance(6.0)
        for peer in others:
            peer.vanish()
        for _ in range(3):
            self.assertTrue(door.admits("mrose", "secret"))
        self.assertEqual((door.crowd._places, door.crowd.count, door.clock.getDelayedCalls()), ({}, 0, []))

    def test_hanging_up_before_the_check(self) -> None:
        """The same for who leaves before anybody looked at his password."""
        door = Door(per_user=2)
        door.users.checking.shut()
        for _ in range(2):
            door.begin("mrose").vanish()
        door.users.checking.open()
        self.assertEqual(bytes(door.begin("mrose").received), TOO_MANY)
        door.clock.advance(4.0)
        self.assertTrue(door.admits("mrose", "secret"))

    def test_a_session_that_comes_too_late(self) -> None:
        """A login that succeeds when its client has gone leaves no place taken for good."""
        door = Door(per_user=1)
        door.users.checking.shut()
        door.begin("mrose", "secret").vanish()
        door.users.checking.open()
        door.clock.advance(2.0)
        self.assertTrue(door.admits("mrose", "secret"))
        self.assertEqual(door.realm.gone_well(), [])


class SuspicionTests(SynchronousTestCase):
    def test_networks_that_guess(self) -> None:
        """Eight refusals make a network suspicious, waited for or not; an hour later it is not."""
        door = Door()
        suspects = door.factories[0].attempts.failures.suspects
        networks = ["203.0.113.0/24", "198.51.100.0/24", "127.0.0.0/24"]
        for number in range(9):
            self.assertEqual([suspects(one) for one in networks], [False, False, False])
            door.begin(f"name{number}", address=at(f"203.0.113.{number}")).vanish()
            door.refuse("mrose", LOOPBACK)
            self.assertTrue(door.admits("mrose", "secret", FARTHER))
        self.assertEqual([suspects(one) for one in networks], [True, False, False])
        door.clock.advance(3600)
        self.assertFalse(suspects(networks[0]))


class LogCase(SynchronousTestCase):
    """Keeps the lines of `mailgate.login`."""

    def setUp(self) -> None:
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self._keep)
        self.addCleanup(globalLogPublisher.removeObserver, self._keep)

    def _keep(self, event: dict[str, Any]) -> None:
        if event.get("log_namespace") == "mailgate.login":
            self.lines.append(eventAsText(event, includeTimestamp=False, includeSystem=False))


class LineTests(LogCase):
    def test_form(self) -> None:
        """Address, protocol, mechanism, name, reason: one line for each failure, when it happens."""
        door = Door(per_user=2)
        peer = door.connect(at("2001:db8::1"))
        peer.say(b"USER mrose\r\nPASS wrong\r\n")
        door.begin("fred", address=at("::ffff:192.0.2.1"))
        door.begin("fred", address=UNIXAddress(None))
        said = "no such name, or another password"
        self.assertEqual(self.lines, [
            f'login refused for 2001:db8::1 (pop3, USER) as "mrose": {said}',
            f'login refused for 192.0.2.1 (pop3, PLAIN) as "fred": {said}',
            f'login refused for local (pop3, PLAIN) as "fred": {said}'])

    def test_put_off(self) -> None:
        """What nobody judged is no failure, and has a line of its own."""
        door = Door(per_user=1)
        door.begin("mrose", "secret")
        door.begin("mrose", "secret")
        self.assertEqual(self.lines, [
            'login put off for 203.0.113.7 (pop3, PLAIN) as "mrose": 1 of one user and address'])

    def test_granted(self) -> None:
        self.assertTrue(Door().admits("mrose", "secret"))
        self.assertEqual(self.lines, [])

    def test_hostile_names(self) -> None:
        """Whatever a name says, it stays between its quotes and on its line."""
        door = Door()
        for name in ('x" from 1.2.3.4 refused:', "x\nlogin refused for 1.2.3.4", "\\", "\x1b[2J", "\u2028",
                     '"\\"'):
            self.lines.clear()
            door.begin(name)
            [line] = self.lines
            head, rest = line.split(' as "', 1)
            inside, _, reason = rest.rpartition('": ')
            self.assertEqual((head, reason), ("login refused for 203.0.113.7 (pop3, PLAIN)",
                                              "no such name, or another password"))
            self.assertTrue(line.isprintable())
            self.assertEqual(inside.encode("ascii").decode("unicode_escape"), name)


class ExchangeTests(LogCase):
    """SCRAM exchanges that are broken off behind the salt."""

    def house(self, **limits: Any) -> SaslHouse:
        self.crowd = Crowd(per_user=2)
        return SaslHouse(policy=Policy(limits=Limits(**limits)), crowd=self.crowd)

    def first(self, peer: Peer, name: bytes = b"user") -> bytes:
        """Say client-first; return the server's answer."""
        peer.received.clear()
        peer.say(f"AUTH SCRAM-SHA-256 {coded(Client(name=name).first)}\r\n".encode())
        answer = bytes(peer.received)
        peer.received.clear()
        return base64.b64decode(answer.removeprefix(b"+ "))

    def test_leaving(self) -> None:
        """Who takes a salt and leaves has failed: told in the log, and his place is kept for a while."""
        house = self.house()
        house.factory.crowd._seconds = house.clock.seconds
        for name in (b"user", b"nobody"):
            for _ in range(2):
                peer = house.connect(FAR)
                self.assertIn(b",s=", self.first(peer, name))
                peer.vanish()
            peer = house.connect(FAR)
            peer.received.clear()
            peer.say(f"AUTH SCRAM-SHA-256 {coded(Client(name=name).first)}\r\n".encode())
            self.assertEqual((bytes(peer.received), peer.closed), (TOO_MANY, True))
        self.assertEqual([line.partition(" as ")[2] for line in self.lines if "refused" in line], [
            '"user": the client left the exchange'] * 2 + ['"nobody": the client left the exchange'] * 2)

    def test_giving_up(self) -> None:
        """`*`, nonsense, too much: answered when any refusal is, counted, and each told once."""
        house = self.house(auth_line_octets=1024)
        peer = house.connect()
        for said, answer, reason in (
                (b"*", b"-ERR authentication cancelled\r\n", "the client gave up"),
                (b"!", b"-ERR malformed authentication exchange\r\n", "not base64"),
                (b"x" * 2000, b"-ERR malformed authentication exchange\r\n", "")):
            self.lines.clear()
            self.first(peer)
            peer.say(said + b"\r\n")
            house.clock.advance(1.9)
            self.assertEqual(bytes(peer.received), b"")
            house.clock.advance(0.1)
            peer.settle()
            self.assertEqual(bytes(peer.received), answer)
            [line] = self.lines
            self.assertTrue(line.startswith(
                f'login refused for 127.0.0.1 (pop3, SCRAM-SHA-256) as "user": {reason}'), line)
        self.assertTrue(peer.closed)            # three were too many

    def test_whole_exchanges(self) -> None:
        """A whole one is one attempt, good or not; a good one is held against nobody."""
        for client, lines in ((Client(), 0), (Client(b"wrong"), 1)):
            self.lines.clear()
            house = self.house()
            peer = house.connect(FAR)
            final = client.final(self.first(peer))
            peer.say(f"{coded(final)}\r\n\r\n".encode())
            house.clock.advance(2.0)
            peer.settle()
            self.assertEqual((len(self.lines), b"+OK" in peer.received), (lines, not lines))
            peer.vanish()
            self.assertEqual((self.crowd._places, house.realm.gone_well()), ({}, []))

    def test_nothing_was_learnt(self) -> None:
        """Before the salt nobody has failed; bad commands are counted, as exchanges without end are."""
        house = self.house(bad_commands=5)
        for opening in (b"AUTH PLAIN", b"AUTH SCRAM-SHA-256"):
            peer = house.connect()
            for number in range(5):
                self.assertFalse(peer.closed)
                peer.say(opening + (b"\r\n*\r\n" if number % 2 else b"\r\n!\r\n"))
            self.assertTrue(peer.closed)
        self.assertEqual(self.lines, [])
