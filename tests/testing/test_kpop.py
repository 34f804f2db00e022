"""KPOP in the harness: a KDC of the test's own, MIT's krb5_sendauth for a client, and faults behind it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from mailgate.testing import Server, kdc
from tests.kerberos import Realm

MESSAGE = b"Subject: one\r\n\r\nhello\r\n"
ROOT = Path(__file__).parent.parent.parent

_open = contextlib.ExitStack()
realm: Realm
server: Server
caches: dict[str, str]


def setUpModule() -> None:
    """Start a KDC, and one server that takes its tickets."""
    global realm, server, caches
    folder = Path(_open.enter_context(tempfile.TemporaryDirectory()))
    realm = _open.enter_context(Realm(folder / "realm"))
    _open.enter_context(realm.environment())
    realm.add("alice", "bob", "imap/localhost")
    caches = {name: str(realm.log_in(name)) for name in ("alice", "bob")}
    server = _open.enter_context(Server(settings=realm.settings(versions=["KPOPV0.9"])))


def tearDownModule() -> None:
    _open.close()


class KpopTests(SynchronousTestCase):
    def setUp(self) -> None:
        server.reset()
        self.maildrop = server.account("alice", "secret")

    def sendauth(self, *say: str, user: str = "alice", service: str = kdc.SERVICE,
                 version: str = "KPOPV1.0") -> Any:
        """Run MIT's krb5_sendauth as a user, then say lines; return what came back."""
        return realm.client({"do": "sendauth", "port": server.kpop[1], "server": service, "say": say,
                             "version": version, "mutual": True}, KRB5CCNAME=caches[user])

    def test_session(self) -> None:
        """The ticket opens the maildrop, whatever the password; the record has the POP3 behind it."""
        unique_id = self.maildrop.add(MESSAGE)
        found = self.sendauth("USER alice", "PASS anything", "DELE 1", "QUIT")
        self.assertEqual(found["code"], 0, found)
        self.assertEqual(found["lines"], [
            "+OK mailgate ready", "+OK send the password", "+OK maildrop has 1 messages (23 octets)",
            "+OK marked as deleted", "+OK goodbye"])
        session = server.session
        self.assertEqual((session.protocol, session.verbs, session.user, session.deleted, session.end),
                         ("kpop", ["USER", "PASS", "DELE", "QUIT"], "alice", [unique_id], "QUIT"))
        self.assertEqual([one.succeeded for one in session.logins], [True])
        self.assertIn("* ticket of alice@TEST.EXAMPLE", server.transcript())
        self.assertNotIn("anything", server.transcript())

    def test_refused(self) -> None:
        """Another's maildrop, and a ticket for another service."""
        server.account("bob")
        self.assertEqual(self.sendauth("USER bob", "PASS x")["lines"][2], "-ERR [AUTH] login refused")
        self.assertEqual([one[::2] for one in server.logins], [("bob", False)])
        self.assertNotEqual(self.sendauth(service="imap/localhost")["code"], 0)
        self.assertEqual(server.session.verbs, [])

    def test_versions(self) -> None:
        """Application versions of old clients, as the settings say."""
        self.assertEqual(self.sendauth(version="KPOPV0.9")["lines"], ["+OK mailgate ready"])
        self.assertNotEqual(self.sendauth(version="KPOPV0.8")["code"], 0)

    def test_faults(self) -> None:
        """They act behind the exchange: at the greeting and at each command, and are counted from there."""
        self.maildrop.add(MESSAGE)
        server.fault("error", command="PASS", code="IN-USE", text="busy", occurrence=1)
        server.fault("close", command="RETR", at=6)
        said = ["USER alice", "PASS x", "USER alice", "PASS x", "RETR 1"]
        self.assertEqual(self.sendauth(*said)["lines"][2:], [
            "-ERR [IN-USE] busy", "+OK send the password", "+OK maildrop has 1 messages (23 octets)",
            "+OK 23"])
        self.assertIn("by fault close", server.session.end)
        server.clear_faults()
        server.fault("close", command="greeting", at=3)
        self.assertEqual(self.sendauth()["lines"], ["+OK"])
        server.clear_faults()
        server.fault("answer", command="greeting", text="-ERR come back later", protocol="kpop")
        self.assertEqual(self.sendauth()["lines"], ["-ERR come back later"])


class RealmTests(SynchronousTestCase):
    def test_without_programs(self) -> None:
        """What is missing is told, with what would install it; nothing is left behind."""
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(kdc, "_path", lambda: folder):
            self.assertEqual(kdc.missing(), list(kdc.PROGRAMS))
            with self.assertRaisesRegex(kdc.NoKerberos, r"krb5kdc.*apt-get install krb5-kdc"):
                kdc.Realm(Path(folder) / "realm")
            self.assertEqual(os.listdir(folder), [])

    def test_failures(self) -> None:
        with self.assertRaisesRegex(kdc.KerberosFailed, "kinit"):
            realm.log_in("nobody")
        with self.assertRaisesRegex(kdc.KerberosFailed, "already exists"):
            realm.add("alice")

    def test_settings(self) -> None:
        """Rules may be told; asked for twice, the service is added once."""
        table = realm.settings("pop/other", rules=["{name}@TEST.EXAMPLE -> {name}"])["kerberos"]
        self.assertEqual(table, realm.settings("pop/other", rules=table["rules"])["kerberos"])
        self.assertEqual(table["service"], "pop/other@TEST.EXAMPLE")
        self.assertTrue(Path(table["keytab"]).is_file())

    def test_environment(self) -> None:
        """Of this process, and put back."""
        before = dict(os.environ)
        with realm.environment():
            self.assertEqual(os.environ["KRB5_CONFIG"], str(realm.folder / "krb5.conf"))
        self.assertEqual(dict(os.environ), before)


class FixtureTests(SynchronousTestCase):
    def test_for_pytest(self) -> None:
        """`mailgate_kdc` is a realm for a run of tests, in their environment."""
        test = ("import os\n"
                "from mailgate.testing import Server\n"
                "def test_realm(mailgate_kdc):\n"
                "    mailgate_kdc.add('alice')\n"
                "    assert os.environ['KRB5_CONFIG'].startswith(str(mailgate_kdc.folder))\n"
                "    with Server(settings=mailgate_kdc.settings()) as server:\n"
                "        assert server.kpop[1] > 0\n"
                "        assert mailgate_kdc.log_in('alice').is_file()\n")
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "test_it.py").write_text(test)
            ran = subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *(
                [] if _is_installed() else ["-p", "mailgate.testing.pytest_plugin"]), folder],
                capture_output=True, text=True, cwd=folder, timeout=120, check=False,
                env={**os.environ, "PYTHONPATH": str(ROOT)})
        self.assertIn("1 passed", ran.stdout, ran.stderr)


def _is_installed() -> bool:
    """Whether pytest finds the plugin by itself here."""
    from importlib.metadata import entry_points

    return any(one.value == "mailgate.testing.pytest_plugin" for one in entry_points(group="pytest11"))
