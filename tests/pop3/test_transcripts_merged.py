"""A maildrop merged from two stores, as a client sees it: one numbering, honest answers when one fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailgate.auth.credentials import INamedLogin
from mailgate.auth.realm import MaildropRealm
from mailgate.errors import LeaseLost, StoreUnavailable
from mailgate.model import Admission, Envelope, Placement
from mailgate.names import fold
from mailgate.net.pop3 import POP3Factory
from mailgate.stores.memory import MemoryStore
from mailgate.stores.merging.store import MergedStore, Source
from mailgate.testing.transcript import Stage, converse
from mailgate.wire.headers import preamble
from tests.pop3.maildrops import Users
from tests.pop3.staging import QUICK
from tests.stores.breakable import Breakable

DEMON = replace(QUICK, sdps=True)
PASSWORD = {b"xyz": [b"secret"], b"fred@xyz": [b"secret"]}
MAIL = [("finchley", "fred", b"one\r\n"), ("docklands", "jim", b"two\r\n"), ("finchley", "jim", b"three\r\n"),
        ("docklands", "fred", b"four\r\n")]


class Views(Users):
    """Users whose names may be those of a host's users."""

    def requestAvatarId(self, credentials: INamedLogin) -> Deferred[Admission]:
        def admitted(name: bytes) -> Admission:
            user, _, host = name.decode().rpartition("@")
            return Admission(host, user or None)

        return super().requestAvatarId(credentials).addCallback(admitted)


class Punts:
    """Two stores, Finchley and Docklands, with four messages for two users of host xyz."""

    def __init__(self, clock: Clock, optional: bool = False) -> None:
        self.stores = {name: Breakable(MemoryStore(clock=clock)) for name in ("finchley", "docklands")}
        first, second = (Source(name, store) for name, store in self.stores.items())
        self.merged = MergedStore(first, [first, second._replace(optional=optional)], clock=clock)
        assert self.merged.start().called
        for number, (store, user, text) in enumerate(MAIL, 1):
            delivery = self.stores[store].deliver()
            delivery.write(text)
            envelope = Envelope(b"a@example.org", f"{user}@xyz.demon.co.uk".encode(), number)
            delivery.commit([Placement("xyz", fold(user), envelope, preamble(envelope),
                                       b"%d" % number)])

    def breaks(self, store: str, method: str, fault: Exception) -> Callable[[], None]:
        """Return what makes a store fail."""
        def happen() -> None:
            self.stores[store].faults[method] = fault

        return happen

    def mends(self) -> None:
        """Make all good again."""
        for store in self.stores.values():
            store.faults.clear()

    def left(self) -> list[bytes]:
        """Return the unique-ids of what is there, store by store, when nobody has it open."""
        found = []
        for store in self.stores.values():
            opening = store.store.open(Admission("xyz", judged=True))
            assert opening.called
            drop = opening.result
            found += [drop.listing.unique_id(index) for index in range(len(drop.listing))]
            drop.release()
        return found


class MergedTranscripts(SynchronousTestCase):
    def converse(self, script: str, *, left: list[bytes] | None = None, name: str = "xyz", login: bool = True,
                 optional: bool = False,
                 events: Callable[[Punts], dict[str, Callable[[], object]]] | None = None) -> None:
        def set_stage(clock: Clock) -> Stage:
            punts = Punts(clock, optional)
            factory = POP3Factory(Portal(MaildropRealm(punts.merged), [Views(PASSWORD)]), policy=DEMON,
                                  clock=clock)

            def done() -> None:
                punts.mends()
                self.assertEqual(punts.left(), left or [b"1", b"3", b"2", b"4"])
                assert punts.merged.stop().called

            return Stage(factory, events(punts) if events else {}, done=done)

        start = f"""
            S: +OK *
            C: USER {name}
            S: +OK *
            C: PASS secret
            """
        converse(set_stage, start + ("S: +OK *\n" if login else "") + script)

    def test_one_maildrop(self) -> None:
        """Numbers run over both punts, every command reaches the one that it is for."""
        self.converse("""
            C: STAT
            S: +OK 4 285
            C: UIDL
            S: +OK *
            S: 1 1
            S: 2 3
            S: 3 docklands:2
            S: 4 docklands:4
            S: .
            C: RETR 4
            S: +OK *
            S: Return-Path: <a@example.org>
            S: Delivered-To: fred@xyz.demon.co.uk
            S: four
            S: .
            C: TOP 2 0
            S: +OK *
            S: Return-Path: <a@example.org>
            S: Delivered-To: jim@xyz.demon.co.uk
            S: three
            S: .
            C: *ENV 3
            S: +OK *
            S: xyz.demon.co.uk
            S: jim
            S: a@example.org
            S: jim@xyz.demon.co.uk
            S: .
            C: DELE 2
            S: +OK *
            C: DELE 3
            S: +OK *
            C: LIST
            S: +OK *
            S: 1 71
            S: 4 72
            S: .
            C: RETR 5
            S: -ERR *
            C: QUIT
            S: +OK *
            """, left=[b"1", b"4"])

    def test_a_users_view(self) -> None:
        """The mail of one user, wherever it waits; the ids are those of the host's own view."""
        self.converse("""
            C: UIDL
            S: +OK *
            S: 1 1
            S: 2 docklands:4
            S: .
            C: DELE 2
            S: +OK *
            C: QUIT
            S: +OK *
            """, name="fred@xyz", left=[b"1", b"3", b"2"])

    def test_one_of_two_stores_down_at_login(self) -> None:
        """S12: a temporary failure, no partial maildrop; and it works again when the store is back."""
        for store in ("finchley", "docklands"):
            def events(punts: Punts, store: str = store) -> dict[str, Callable[[], object]]:
                punts.breaks(store, "open", StoreUnavailable("the line to it is cut"))()
                return {"back": punts.mends}

            self.converse("""
                S: -ERR [SYS/TEMP] *
                E: back
                C: USER xyz
                S: +OK *
                C: PASS secret
                S: +OK *
                C: STAT
                S: +OK 4 285
                C: QUIT
                S: +OK *
                """, login=False, events=events)
            self.flushLoggedErrors(StoreUnavailable)

    def test_a_store_that_is_optional(self) -> None:
        """Configured to be skipped, the other's mail can be fetched; what is not there is not touched."""
        def events(punts: Punts) -> dict[str, Callable[[], object]]:
            punts.breaks("docklands", "open", StoreUnavailable("the line to it is cut"))()
            return {}

        self.converse("""
            C: STAT
            S: +OK 2 143
            C: DELE 1
            S: +OK *
            C: QUIT
            S: +OK *
            """, events=events, optional=True, left=[b"3", b"2", b"4"])

    def test_quit_that_one_store_refuses(self) -> None:
        """The answer is that some are left; what the other removed is gone."""
        self.converse("""
            C: DELE 1
            S: +OK *
            C: DELE 4
            S: +OK *
            E: cut
            C: QUIT
            S: -ERR [SYS/TEMP] some deleted messages not removed
            """, left=[b"3", b"2", b"4"], events=lambda punts: {
                "cut": punts.breaks("docklands", "drop.commit", StoreUnavailable("cut"))})
        self.flushLoggedErrors(StoreUnavailable)

    def test_quit_that_the_first_store_refuses(self) -> None:
        """Then nothing is removed anywhere."""
        self.converse("""
            C: DELE 1
            S: +OK *
            C: DELE 4
            S: +OK *
            E: late
            C: QUIT
            S: -ERR [SYS/TEMP] some deleted messages not removed
            """, events=lambda punts: {"late": punts.breaks("finchley", "drop.commit", LeaseLost("late"))})
        self.flushLoggedErrors(LeaseLost)

    def test_a_store_that_goes_down_in_a_session(self) -> None:
        """Its messages cannot be had for now, the other's can; deleting works where it can."""
        self.converse("""
            E: cut
            C: RETR 3
            S: -ERR [SYS/TEMP] *
            C: RETR 1
            S: +OK *
            S: Return-Path: <a@example.org>
            S: Delivered-To: fred@xyz.demon.co.uk
            S: one
            S: .
            C: LIST 3
            S: +OK 3 70
            C: DELE 1
            S: +OK *
            C: QUIT
            S: +OK *
            """, left=[b"3", b"2", b"4"], events=lambda punts: {
                "cut": punts.breaks("docklands", "drop.fetch", StoreUnavailable("cut"))})
        self.flushLoggedErrors(StoreUnavailable)
