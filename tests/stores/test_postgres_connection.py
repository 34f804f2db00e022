"""Connections to PostgreSQL: what they are told, the schema, databases that are not ours, and secrets."""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Thread

import psycopg
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailgate.assembly.store import make_store
from mailgate.config import load
from mailgate.errors import ConfigurationError, MailgateError, StoreFull, StoreUnavailable
from mailgate.stores.postgres_address import shown
from mailgate.stores.postgres_connection import Limits, connect, migrations, prepare, settings_of
from mailgate.stores.postgres_faults import fault_of, is_conflict, is_lost, is_undone
from tests.engines import postgres
from tests.stores.contract_base import MIME, StoreHooks
from tests.stores.postgres_hooks import PostgresHooks

LARGE = b"Subject: large\r\n\r\n" + b"0123456789abcd\r\n" * 20_000
LIMITS = Limits.of(60)


class AddressTests(SynchronousTestCase):
    """Addresses, and what is made of them."""

    def test_no_password_is_shown(self) -> None:
        """Wherever libpq lets it be written."""
        for url, expected in (
                ("postgresql://u:secret@h1,h2:5433/mail", "postgresql://u@h1,h2:5433/mail"),
                ("postgres://u:se%40cret@[::1]/m?sslmode=require", "postgres://u@[::1]/m?sslmode=require"),
                ("postgresql://h/m?user=u&password=secret", "postgresql://h/m?user=u"),
                ("postgresql:///m?sslpassword=secret&host=/run", "postgresql:///m?host=/run"),
                ("postgresql://u:secret@[h/m", "postgresql:..."),
                ("postgresql://u:se/cret@h/m", "postgresql:...")):
            self.assertEqual(shown(url), expected)

    def test_a_bad_address_repeats_no_password(self) -> None:
        """Whatever libpq says of it."""
        for url in ("postgresql://u:secret@h/mail?nonsense=1", "postgresql://u:sec%zzret@h/mail"):
            fault = self.assertRaises(StoreUnavailable, connect_with, url)
            self.assertNotIn("sec", str(fault))
            self.assertNotIn("ret@", str(fault))

    def test_settings(self) -> None:
        """Ours are defaults; what the address says stands, and its options come behind ours."""
        plain = settings_of("postgresql://u@h1,h2/mail", LIMITS)
        self.assertEqual((plain["host"], plain["target_session_attrs"], plain["client_encoding"]),
                         ("h1,h2", "read-write", "UTF8"))
        self.assertIn("-c idle_in_transaction_session_timeout=15000", plain["options"])
        own = settings_of("postgresql://u@h/mail?connect_timeout=3&target_session_attrs=any&"
                          "options=-c%20lock_timeout%3D1", LIMITS)
        self.assertEqual((own["connect_timeout"], own["target_session_attrs"]), ("3", "any"))
        self.assertTrue(own["options"].endswith(" -c lock_timeout=1"), own["options"])
        self.assertNotIn("options", settings_of("postgresql://u@h/mail", None))

    def test_limits(self) -> None:
        """Whoever waits for a lock waits for longer than a stopped process may hold it."""
        for seconds in (1, 2, 60, 86_400):
            limits = Limits.of(seconds)
            self.assertTrue(0 < limits.idle < limits.lock < limits.statement, limits)
            self.assertTrue(limits.idle < seconds * 1000)


def connect_with(url: str) -> psycopg.Connection:
    return connect(settings_of(url, LIMITS))


class SchemaTests(PostgresHooks, StoreHooks, TestCase):
    """How a database becomes a store's, and when it does not."""

    async def test_many_processes_find_an_empty_database(self) -> None:
        """One fills it, the others wait; all go on."""
        url = self.fresh_database()
        faults: list[Exception] = []

        def work() -> None:
            try:
                with connect_with(url) as connection:
                    prepare(connection, may_create=lambda: True)
            except Exception as fault:
                faults.append(fault)

        threads = [Thread(target=work) for _ in range(6)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        self.assertEqual(faults, [])
        with connect_with(url) as connection:
            self.assertEqual(connection.execute("SELECT version FROM mailgate_schema").fetchall(),
                             [(len(migrations()),)])
            self.assertEqual(len(connection.execute("SELECT id FROM store").fetchall()), 1)

    async def test_an_empty_database(self) -> None:
        """Is no store unless it is asked for, and never where there are bodies already."""
        url, folder = self.fresh_database(), self.temporary_folder()
        fault = await self.fault(StoreUnavailable, self.new_store(url, folder, create=False).start())
        self.assertIn("the database is empty", str(fault))
        store = await self.started(url, folder)
        await self.put(store, "mrose", LARGE)
        await store.stop()
        await (await self.started(url, folder, create=False)).stop()
        fault = await self.fault(StoreUnavailable, self.new_store(self.fresh_database(), folder).start())
        self.assertIn("its bodies are there", str(fault))
        other = await self.make_store()
        await other.stop()
        fault = await self.fault(StoreUnavailable, self.new_store(other.url, folder).start())
        self.assertIn("another store", str(fault))

    async def test_databases_that_are_not_ours(self) -> None:
        """Another program's, and one of a later version."""
        url = self.fresh_database()
        with connect_with(url) as connection:
            connection.execute("CREATE TABLE account (name TEXT)")
        fault = await self.fault(StoreUnavailable, self.new_store(url, self.temporary_folder()).start())
        self.assertIn("another program's", str(fault))
        store = await self.make_store()
        await store.stop()
        self.sql(store, "UPDATE mailgate_schema SET version = version + 1")
        fault = await self.fault(StoreUnavailable, self.new_store(store.url, store.folder).start())
        self.assertIn("this program knows up to", str(fault))

    async def test_no_server(self) -> None:
        """A store whose server is not there does not start, and says which it is; later it does."""
        port = postgres.free_port()
        store = self.new_store(f"postgresql://u:secret@127.0.0.1:{port}/mail", self.temporary_folder())
        fault = await self.fault(StoreUnavailable, store.start())
        self.assertIn(str(port), str(fault))
        self.assertNotIn("secret", f"{fault} {fault.__cause__} {store._database!r}")

    async def test_a_wrong_password(self) -> None:
        """Is refused by the server; neither of the two shows."""
        server, url = postgres.primary(), self.fresh_database()
        name = url.rpartition("/")[2]
        server.sql("DROP ROLE IF EXISTS guarded")
        server.sql("CREATE ROLE guarded LOGIN PASSWORD 'right secret'")
        server.sql(f"ALTER DATABASE {name} OWNER TO guarded")
        self.addCleanup(server.sql, "DROP ROLE guarded")
        self.addCleanup(server.drop_database, name)
        wrong = self.new_store(server.url(name, user="guarded:wrong%20secret"), self.temporary_folder())
        fault = await self.fault(StoreUnavailable, wrong.start())
        self.assertIn("password authentication failed", str(fault))
        self.assertNotIn("secret", f"{fault} {fault.__cause__}")
        store = await self.started(server.url(name, user="guarded:right%20secret"), self.temporary_folder())
        await self.put(store, "mrose", MIME)
        await store.stop()


class FaultTests(PostgresHooks, StoreHooks, TestCase):
    """What the driver's errors mean."""

    def test_kinds(self) -> None:
        """Conflicts are tried again, lost connections opened again, full disks named; rows are not quoted."""
        errors = psycopg.errors
        self.assertTrue(is_conflict(errors.SerializationFailure()) and is_conflict(errors.UniqueViolation()))
        self.assertFalse(is_conflict(errors.QueryCanceled()))
        self.assertTrue(is_lost(psycopg.OperationalError("the connection is closed")))
        self.assertTrue(is_lost(errors.AdminShutdown()) and is_lost(errors.ReadOnlySqlTransaction()))
        self.assertFalse(is_lost(errors.DiskFull()) or is_lost(errors.SyntaxError()))
        self.assertFalse(is_undone(psycopg.OperationalError("gone")))
        self.assertIsInstance(fault_of(errors.DiskFull()), StoreFull)
        given = StoreUnavailable("as it is")
        self.assertIs(fault_of(given), given)

    async def test_what_a_server_quotes_is_not_told(self) -> None:
        """The row that broke a rule may hold a verifier."""
        store = await self.make_store()
        asked = store._database.writer.run(lambda cursor: cursor.execute(
            "INSERT INTO account (key, name, verifiers) VALUES ('a', 'a', '{PLAIN}secret')"))
        fault = await self.fault(MailgateError, asked)
        self.assertIn("null value", str(fault))
        self.assertNotIn("secret", str(fault))


class DriverTests(PostgresHooks, StoreHooks, TestCase):
    """The configuration's part."""

    def config(self, url: str):
        folder = self.temporary_folder()
        with open(f"{folder}/mailgate.toml", "w") as file:
            file.write(f'hostname = "h.example"\n[store]\nmetadata = "{url}"\n[[listen]]\n'
                       'protocol = "lmtp"\nendpoint = "tcp:0:interface=127.0.0.1"\n')
        return load(Path(folder, "mailgate.toml"))

    def test_a_missing_driver(self) -> None:
        """Is said with the command that installs it, and only where it is needed."""
        config = self.config("postgresql://u:secret@h/mail")
        for name in [name for name in sys.modules if name.startswith("mailgate.stores.postgres")]:
            self.patch_module(name)
        self.patch_module("psycopg", None)
        fault = self.assertRaises(ConfigurationError, make_store, config, None)
        self.assertIn("pip install 'mailgate[postgresql]'", str(fault))
        self.assertNotIn("secret", str(fault))

    def patch_module(self, name: str, *stand_in: None) -> None:
        known = sys.modules.pop(name)
        self.addCleanup(sys.modules.__setitem__, name, known)
        if stand_in:
            sys.modules[name] = stand_in[0]

    async def test_a_configured_store(self) -> None:
        """The file's address and settings are the store's."""
        from twisted.internet import reactor

        config = self.config(self.fresh_database())
        await self.fault(StoreUnavailable, make_store(config, reactor).start())
        store = make_store(config, reactor, create=True)
        await store.start()
        self.addCleanup(store.stop)
        await self.put(store, "mrose", MIME)
        self.assertEqual(await self.held(store, "mrose"), [MIME])
