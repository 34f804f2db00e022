"""App passwords in the embedded store: the schema's step, the price of noting a use, what a check finds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from twisted.trial.unittest import TestCase

from mailgate.model import Account, AppPassword
from mailgate.stores import sqlite_connection, sqlite_database
from mailgate.stores.account_changes import USE_NOTED_MS
from mailgate.stores.sqlite_connection import migrations
from tests.stores.contract_base import StoreHooks
from tests.stores.sqlite_hooks import SqliteHooks
from tests.stores.sqlite_process import connect_by

PHONE = AppPassword("phone", "{SSHA512}x", generated=True)
NOW_SECONDS = 1_700_000_000


class AppPasswordTests(SqliteHooks, StoreHooks, TestCase):
    async def test_accounts_of_the_third_schema(self) -> None:
        """They and their mail stay as they are, without app passwords, and can be given some."""
        all_steps = migrations()
        self.patch(sqlite_connection, "migrations", lambda: all_steps[:3])
        store = await self.make_store()
        self.sql(store, "INSERT INTO account VALUES (1, 'fred', 'Fred', 0, 0, 7, '[\"{PLAIN}f\"]',"
                        " '[\"fred@example.org\"]', '[]')")
        self.sql(store, "INSERT INTO account_key VALUES ('fred', 1, 0, 0, NULL, NULL),"
                        " ('fred@example.org', 1, 1, 0, 'example.org', NULL)")
        self.sql(store, "UPDATE account_version SET last = 7")
        self.sql(store, "INSERT INTO maildrop VALUES (1, 'fred', 'Fred', 1, 3, 1, 2)")
        self.sql(store, "INSERT INTO body VALUES (1, 1, 3, 3, 0, NULL, ?)", b"x\r\n")
        self.sql(store, "INSERT INTO message (maildrop_id, serial, octets, unique_id, body_id, arrived_ms,"
                        " sender, recipient, preamble) VALUES (1, 1, 3, x'31', 1, 0, x'', x'61', x'')")
        await store.stop()
        self.patch(sqlite_connection, "migrations", lambda: all_steps)
        await store.start()
        self.assertEqual(await store.accounts.get("fred"), Account(
            "Fred", verifiers=("{PLAIN}f",), addresses=("fred@example.org",), version=7))
        self.assertEqual(await self.held(store, "fred"), [b"x\r\n"])
        self.assertEqual(await store.accounts.app_passwords("fred"), ())
        await store.accounts.add_app_password("fred", PHONE)
        await store.accounts.add_received("fred", "f@example.org")
        self.assertEqual(len((await store.accounts.find_login("F@example.org")).app_passwords), 1)
        self.assertEqual((await store.accounts.get("fred")).version, 9)
        self.assertEqual(await store.check(), [])

    async def test_a_use_is_noted_once_a_minute(self) -> None:
        """In the login's own transaction, and by no other address; a clock that was set back is no bar."""
        clock = Path(self.temporary_folder(), "clock")
        clock.write_text(str(NOW_SECONDS), "ascii")
        self.patch(sqlite_database, "connect", connect_by(str(clock)))
        store = await self.make_store()
        await self.add_account(store, "fred")
        await store.accounts.add_app_password("fred", PHONE)
        used = replace(await self.admission(store, "fred"), app_password="PHONE", used_from="192.0.2.1")
        statements = await self.trace(store)
        for ago_ms, noted in ((None, True), (10, False), (USE_NOTED_MS - 10, False),
                              (USE_NOTED_MS + 10, True), (-3_600_000, True)):
            if ago_ms is not None:
                self.sql(store, "UPDATE app_password SET last_used_ms = ?", NOW_SECONDS * 1000 - ago_ms)
            [(before,)] = self.sql(store, "SELECT last_used_ms FROM app_password")
            session = await store.open(used)
            [(after,)] = self.sql(store, "SELECT last_used_ms FROM app_password")
            self.assertEqual(after != before, noted, ago_ms)
            await session.release()
        begun = [one for one in statements if one.startswith(("BEGIN", "COMMIT"))]
        self.assertEqual(begun, ["BEGIN IMMEDIATE", "COMMIT"] * 10)     # to open and to release: no more

    async def test_other_logins_pay_nothing(self) -> None:
        """By the account's own password no statement touches app passwords."""
        store = await self.make_store()
        await self.add_account(store, "fred")
        await store.accounts.add_app_password("fred", PHONE)
        statements = await self.trace(store)
        await (await self.login(store, "fred")).release()
        self.assertEqual([one for one in statements if "app_password" in one], [])
        self.assertTrue(any("lease" in one for one in statements))

    async def test_one_look_finds_a_login(self) -> None:
        """App passwords come with the account: one statement of the reader."""
        store = await self.make_store()
        await self.add_account(store, "fred")
        await store.accounts.add_app_password("fred", PHONE)
        statements: list[str] = []
        await store._database.reader.run(
            lambda cursor: cursor.connection.set_trace_callback(statements.append))
        statements.clear()
        found = await store.accounts.find_login("fred")
        self.assertEqual((len(found.app_passwords), len(statements)), (1, 1))

    async def test_what_a_check_finds(self) -> None:
        """An app password that is nobody's."""
        store = await self.make_store()
        self.sql(store, "INSERT INTO app_password (account_id, key, label, verifier, generated, created_ms)"
                        " VALUES (9, 'phone', 'Phone', '{SSHA512}x', 1, 0)")
        self.assertEqual(await store.check(), ["Phone is an app password of no account"])
