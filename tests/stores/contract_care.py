"""Contract: admissions verified, what a maildrop holds, removal, expiry, sweeping, findings."""

from __future__ import annotations

from dataclasses import replace

from mailgate.errors import LoginTooSoon, MaildropInUse, StaleCredential
from mailgate.model import Admission, Listed
from tests.stores.contract_base import MIME, StoreHooks, unique_ids

DAY = 86400
LARGE = b"Subject: large\r\n\r\n" + b".large line\r\n" * 20_000


class CareContract(StoreHooks):
    """What the service and the operator's commands ask of a store."""

    # Admissions ---------------------------------------------------------------------------------

    async def test_an_account_that_is_as_it_was_checked(self) -> None:
        """Its maildrop opens, a view too, in every process, and the login is remembered."""
        store = await self.make_store()
        other = await self.make_second(store)
        before = await self.add_account(store, "xyz", sdps=True, domains=("xyz.example.org",))
        self.assertIsNone(before.last_login_ms)
        for view in (None, "fred"):
            admission = await self.admission(store, "xyz", view)
            await (await other.open(admission)).release()
        after = await store.accounts.get("xyz")
        self.assertEqual((after.version, after.verifiers), (before.version, before.verifiers))
        self.assertIsInstance(after.last_login_ms, int)
        self.assertLess(abs(after.last_login_ms - self.now_ms()), 60_000)

    async def test_every_change_makes_an_admission_stale(self) -> None:
        """Changed password, disabled, enabled again, removed, and added again under the old name."""
        store = await self.make_store()
        accounts = (await self.make_second(store)).accounts
        account = await self.add_account(store, "mrose", addresses=("mrose@example.org",))
        stale = [await self.admission(store, "mrose")]
        await accounts.set_verifiers("mrose", ["{PLAIN}other"])
        stale.append(await self.admission(store, "mrose"))
        await accounts.set_disabled("mrose", True)
        stale.append(await self.admission(store, "mrose"))
        await accounts.set_disabled("mrose", False)
        stale.append(await self.admission(store, "mrose"))
        await accounts.remove("mrose")
        stale.append(Admission("nobody", None, "nobody", 1))
        for admission in stale:
            await self.fault(StaleCredential, store.open(admission))
        await accounts.add([account])
        for admission in stale:
            await self.fault(StaleCredential, store.open(admission))
        await (await store.open(await self.admission(store, "mrose"))).release()

    async def test_a_disabled_account_does_not_open(self) -> None:
        """Not even with the version that it has while it is disabled."""
        store = await self.make_store()
        await self.add_account(store, "mrose", addresses=("mrose@example.org",))
        await store.accounts.set_disabled("mrose", True)
        await self.fault(StaleCredential, store.open(await self.admission(store, "mrose")))

    async def test_a_stale_admission_learns_nothing_and_holds_nothing(self) -> None:
        """It is refused as stale also while the maildrop is in use, and leaves no lease."""
        store = await self.make_store()
        await self.add_account(store, "mrose", addresses=("mrose@example.org",))
        stale = await self.admission(store, "mrose")
        await store.accounts.set_verifiers("mrose", ["{PLAIN}new"])
        session = await store.open(await self.admission(store, "mrose"))
        await self.fault(StaleCredential, store.open(stale))
        await session.release()
        await self.fault(StaleCredential, store.open(stale))
        await (await store.open(await self.admission(store, "mrose"))).release()

    async def test_login_delay(self) -> None:
        """The second login to a view in so short a time is refused, over processes, view by view."""
        store = await self.make_store()
        other = await self.make_second(store)
        patient = Admission("xyz", "fred", login_delay_seconds=3600)
        await (await store.open(patient)).release()
        for where in (store, other, store):
            await self.fault(LoginTooSoon, where.open(patient))
        for view in ("jim", None):
            await (await other.open(replace(patient, view=view))).release()
            await self.fault(LoginTooSoon, store.open(replace(patient, view=view)))
        await (await store.open(replace(patient, maildrop="other"))).release()
        await (await store.open(replace(patient, login_delay_seconds=0))).release()

    async def test_a_login_that_came_too_soon_holds_nothing(self) -> None:
        """It leaves no lease behind."""
        store = await self.make_store()
        patient = Admission("mrose", login_delay_seconds=3600)
        await (await store.open(patient)).commit([])
        await self.fault(LoginTooSoon, store.open(patient))
        session = await self.login(store, "mrose")
        await self.fault((LoginTooSoon, MaildropInUse), store.open(patient))
        await session.release()

    # scan -----------------------------------------------------------------------------------------

    async def test_scan_lists_what_is_there(self) -> None:
        """Number, octets, unique-id, envelope, view, of every view, while a session is open, too."""
        store = await self.make_store()
        places = [self.placement("xyz", user, sender=sender, preamble=b"a: b\r\n" * number)
                  for number, (user, sender) in enumerate([("fred", b""), ("jim", b"A@b"), (None, b"c@d")])]
        await self.deliver(store, MIME, *places)
        session = await self.login(store, "xyz")
        ids = unique_ids(session.listing)
        expected = [Listed(index + 1, len(MIME) + 6 * index, ids[index], place.envelope, place.user)
                    for index, place in enumerate(places)]
        other = await self.make_second(store)
        for where, name in ((store, "xyz"), (other, "xyz"), (other, "XYZ")):
            self.assertEqual(await where.scan(name), expected)
        await session.commit([1])
        self.assertEqual(await store.scan("xyz"), [
            one._replace(number=number) for number, one in enumerate(expected[1:], 1)])

    async def test_scan_of_an_unknown_maildrop(self) -> None:
        """It is empty, and does not come into being by it."""
        store = await self.make_store()
        self.assertEqual(await store.scan("nobody"), [])

    async def test_maildrops_are_known_by_the_key_of_their_name(self) -> None:
        """Deliveries and logins under any case of ASCII letters meet; other letters are as they are."""
        store = await self.make_store()
        for name in ("mrose", "MROSE", "Mrose"):
            await self.put(store, name, MIME)
        await self.put(store, "ÄNNE", b"upper\r\n")
        await self.put(store, "änne", b"lower\r\n")
        self.assertEqual(len(await self.held(store, "mRosE")), 3)
        self.assertEqual(await self.held(store, "Änne"), [b"upper\r\n"])
        self.assertEqual(await self.held(store, "änne"), [b"lower\r\n"])

    async def test_names_are_data(self) -> None:
        """A name means nothing but itself: no path, no pattern, no piece of a statement."""
        store = await self.make_store()
        names = ["..", "%", "_", "a'b", 'a"b', "a;b", "*", "mrose%", "-x", "日本", "a" * 248]
        for name in names:
            await self.put(store, name, name.encode() + b"\r\n", user=name)
        for name in names:
            self.assertEqual(await self.held(store, name), [name.encode() + b"\r\n"])
            self.assertEqual(await self.held(store, name, name), [name.encode() + b"\r\n"])
            self.assertEqual(await self.held(store, name, "fred"), [])

    # remove ---------------------------------------------------------------------------------------

    async def test_remove_takes_a_maildrop_with_all_it_holds(self) -> None:
        """Every view of it, under any case, and no other maildrop's copy; an unknown one is no error."""
        store = await self.make_store()
        for body in (MIME, LARGE):
            await self.deliver(store, body, self.placement("xyz", "fred"), self.placement("mrose"))
        await store.remove("XYZ")
        await store.remove("xyz")
        await store.remove("nobody")
        self.assertEqual(await store.scan("xyz"), [])
        await store.sweep(0)
        self.assertTrue(await self.held(store, "mrose") == [MIME, LARGE])
        await self.put(store, "xyz", b"new\r\n", user="jim")
        self.assertEqual(await self.held(store, "xyz"), [b"new\r\n"])

    async def test_remove_waits_for_sessions(self) -> None:
        """A session of the whole or of any view, in any process, keeps the maildrop."""
        store = await self.make_store()
        other = await self.make_second(store)
        await self.put(store, "xyz", MIME, user="fred")
        for view in (None, "fred", "jim"):
            session = await self.login(other, "xyz", view)
            await self.fault(MaildropInUse, store.remove("xyz"))
            await session.release()
        self.assertEqual(await self.held(store, "xyz"), [MIME])
        await self.login(other, "xyz")
        await self.expire_holder(other)
        await store.remove("xyz")
        self.assertEqual(await store.scan("xyz"), [])

    async def test_a_stale_session_spares_what_came_after_a_removal(self) -> None:
        """Its numbers mean nothing in the maildrop that came into being under the same name."""
        store = await self.make_store()
        other = await self.make_second(store)
        await self.put(store, "mrose", MIME, MIME)
        stale = await self.login(store, "mrose")
        await self.expire_holder(store)
        await other.remove("mrose")
        await self.put(other, "mrose", b"1\r\n", b"2\r\n")
        await self.assertFailure(stale.commit([1, 2]), Exception)
        self.assertEqual(await self.held(other, "mrose"), [b"1\r\n", b"2\r\n"])

    # expire ---------------------------------------------------------------------------------------

    async def test_expire_removes_what_is_old(self) -> None:
        """By the time of arrival, in every maildrop; returns how many."""
        store = await self.make_store()
        for name, days in (("ann", 31), ("ann", 29), ("bob", 40), ("xyz", 0)):
            await self.put(store, name, b"%d\r\n" % days, user="fred", age_seconds=days * DAY)
        self.assertEqual(await store.expire(30 * DAY), 2)
        self.assertEqual(await store.expire(30 * DAY), 0)
        self.assertEqual([await self.held(store, name) for name in ("ann", "bob", "xyz")],
                         [[b"29\r\n"], [], [b"0\r\n"]])

    async def test_expire_spares_what_a_session_holds(self) -> None:
        """In any process, whole or by view; the others' goes, and it goes when the session has ended."""
        store = await self.make_store()
        other = await self.make_second(store)
        for name, user in (("ann", "jim"), ("bob", None), ("xyz", "fred")):
            await self.put(store, name, b"old\r\n", user=user, age_seconds=40 * DAY)
        sessions = [await self.login(other, "ann"), await self.login(store, "xyz", "fred")]
        self.assertEqual(await store.expire(30 * DAY), 1)
        for session in sessions:
            self.assertEqual(await self.texts(session), [b"old\r\n"])
            await session.release()
        self.assertEqual([len(await store.scan(name)) for name in ("ann", "bob", "xyz")], [1, 0, 1])
        self.assertEqual(await other.expire(30 * DAY), 2)

    async def test_expire_does_not_spare_for_the_dead(self) -> None:
        """A lease that ran out holds nothing; its session removes nothing of what is left."""
        store = await self.make_store()
        other = await self.make_second(store)
        await self.put(store, "ann", b"old\r\n", age_seconds=40 * DAY)
        await self.put(store, "ann", b"new\r\n")
        stale = await self.login(store, "ann")
        await self.expire_holder(store)
        self.assertEqual(await other.expire(30 * DAY), 1)
        await self.assertFailure(stale.commit([1, 2]), Exception)
        self.assertEqual(await self.held(other, "ann"), [b"new\r\n"])

    # sweep, check ---------------------------------------------------------------------------------

    async def test_sweep_leaves_what_is_in_use(self) -> None:
        """Bodies that a row names stay, whatever was swept; when nothing is left over it returns 0."""
        store = await self.make_store()
        other = await self.make_second(store)
        self.assertEqual(await store.sweep(0), 0)
        await self.put(store, "ann", MIME, LARGE, LARGE)
        self.assertEqual(await store.sweep(0), 0)
        await (await self.login(store, "ann")).commit([1, 2])
        self.assertLessEqual(await other.sweep(0), 1)
        self.assertEqual(await store.sweep(0), 0)
        self.assertTrue(await self.held(other, "ann") == [LARGE])
        self.assertEqual(await store.check(), [])

    async def test_check_of_a_sound_store(self) -> None:
        """An empty store and a used one have no findings."""
        store = await self.make_store()
        self.assertEqual(await store.check(), [])
        await self.add_account(store, "ann", addresses=("ann@example.org",))
        await self.put(store, "ann", MIME, LARGE)
        await self.login(store, "ann")
        self.assertEqual(await (await self.make_second(store)).check(), [])
