"""The server that a test of a client starts: filled, read, reset, and apart from all others."""

from __future__ import annotations

import asyncio
import contextlib
import poplib
import shutil
import smtplib
import socket
import tempfile
import threading
import warnings
from datetime import datetime, timezone
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.trial.unittest import SynchronousTestCase

from mailgate.errors import AccountConflict, ConfigurationError
from mailgate.testing import Scenario, Server, ServerProblem, TooLate
from mailgate.testing.harness.settings import plan

SERVERS = 50
SECONDS = 60.0      # of any client here, if something is wrong
GONE: Any = (poplib.error_proto, OSError)       # what poplib raises when the connection has ended


def log_in(server: Server, name: str = "mrose", password: str = "secret") -> poplib.POP3:
    client = poplib.POP3(*server.pop3, timeout=SECONDS)
    client.user(name)
    client.pass_(password)
    return client


class Serving(SynchronousTestCase):
    """One server for each test."""

    def setUp(self) -> None:
        self.server = self.made()

    def made(self, **more: object) -> Server:
        server = Server(**more).start()       # type: ignore[arg-type]
        self.addCleanup(server.stop)
        return server


class MailTests(Serving):
    """What a maildrop is filled with is what a client gets."""

    def test_ways_to_add(self) -> None:
        """Octets, text, a message of Python's, and a file; all of them fetched as they are."""
        letter = EmailMessage()
        letter["Subject"] = "three"
        letter.set_content("dear\n.\n")
        path = Path(tempfile.mkdtemp()) / "four.eml"
        path.write_bytes(b"Subject: four\r\n\r\nx\r\n")
        maildrop = self.server.account("mrose", "secret")
        ids = [maildrop.add(b"Subject: one\r\n\r\n.dot\r\n"), maildrop.add("Subject: two\n\ngrüße\n"),
               maildrop.add(letter), maildrop.add(path, unique_id="chosen")]
        client = log_in(self.server)
        self.assertEqual([line.decode().split()[1] for line in client.uidl()[1]], ids)
        self.assertEqual(ids[3], "chosen")
        self.assertEqual(client.retr(1)[1], [b"Subject: one", b"", b".dot"])
        self.assertEqual(client.retr(2)[1], [b"Subject: two", b"", "grüße".encode()])
        self.assertEqual(client.retr(3)[1][-2:], [b"dear", b"."])
        self.assertEqual(client.retr(4)[1], [b"Subject: four", b"", b"x"])
        client.quit()

    def test_messages(self) -> None:
        """Numbers, sizes, unique-ids, envelope, time and content of what is there."""
        maildrop = self.server.account("mrose", "secret")
        day = datetime(2026, 3, 1, tzinfo=timezone.utc)
        ids = maildrop.add_all(["Subject: a\n\n1\n", "Subject: b\n\n22\n"], sender="ada@example.org",
                               arrived=day)
        found = maildrop.messages
        self.assertEqual([one.number for one in found], [1, 2])
        self.assertEqual([one.unique_id for one in found], ids)
        self.assertEqual([one.octets for one in found], [len(one.content) for one in found])
        self.assertEqual(found[1].content, b"Subject: b\r\n\r\n22\r\n")
        self.assertEqual(found[1].email["subject"], "b")
        self.assertEqual({(one.sender, one.recipient, one.arrived) for one in found},
                         {("ada@example.org", "mrose@mail.example.org", day.timestamp())})
        maildrop.remove(ids[0])
        self.assertEqual([(one.number, one.unique_id) for one in maildrop.messages], [(1, ids[1])])
        maildrop.clear()
        self.assertEqual(maildrop.messages, [])

    def test_host(self) -> None:
        """An SDPS host's users see their part, by the recipient of the envelope."""
        maildrop = self.server.host("demon", "secret")
        for user in ("ada", "bob", "ada"):
            maildrop.add(f"Subject: to {user}\n\nx\n", recipient=f"{user}@demon.mail.example.org")
        client = log_in(self.server, "ada@demon")
        self.assertEqual(client.stat()[0], 2)
        client.quit()

    def test_delivery(self) -> None:
        """What comes by LMTP and SMTP is there, and a test waits for it without sleeping."""
        maildrop = self.server.account("mrose", "secret")
        for kind, address in ((smtplib.LMTP, self.server.lmtp), (smtplib.SMTP, self.server.smtp)):
            with kind(*address) as client:
                client.sendmail("ada@example.org", ["mrose@mail.example.org"], "Subject: x\r\n\r\nx\r\n")
        found = self.server.wait_for(lambda: maildrop.messages)
        self.assertEqual([one.sender for one in found], ["ada@example.org"] * 2)
        self.server.idle()

    def test_wait_for_mail_of_another_thread(self) -> None:
        """Who waits is woken by a message that comes while he does."""
        maildrop = self.server.account("mrose", "secret")
        asked = threading.Event()

        def condition() -> bool:
            asked.set()
            return len(maildrop) == 1

        def deliver() -> None:
            asked.wait(SECONDS)
            maildrop.add("Subject: late\n\nx\n")

        thread = threading.Thread(target=deliver)
        thread.start()
        self.assertTrue(self.server.wait_for(condition, SECONDS))
        thread.join()


    def test_waiting_is_idle(self) -> None:
        """A condition is asked when something has happened, and not all the time."""
        maildrop, asked = self.server.account("mrose", "secret"), []

        def condition() -> bool:
            asked.append(len(maildrop.messages))
            return False

        self.assertRaises(TooLate, self.server.wait_for, condition, 0.1)
        self.assertIn(asked, ([0, 0], [0]))     # at once, and when the time is over; it may be over by then


class TLSTests(Serving):
    """A client can trust it, whichever way TLS begins."""

    def test_trusted(self) -> None:
        """STLS and POP3S, names and addresses, with the authority's file and no reactor installed."""
        self.server.account("mrose", "secret")
        context = self.server.ssl_context()
        for host in ("localhost", "127.0.0.1"):
            client = poplib.POP3(host, self.server.pop3[1], timeout=SECONDS)
            client.stls(context)
            client.user("mrose")
            client.pass_("secret")
            client.quit()
            inside = poplib.POP3_SSL(host, self.server.pop3s[1], context=context, timeout=SECONDS)
            inside.user("mrose")
            inside.pass_("secret")
            inside.quit()
        self.assertEqual([one.tls for one in self.server.sessions], [True] * 4)
        self.assertTrue(Path(self.server.ca_file).read_text().startswith("-----BEGIN CERTIFICATE-----"))

    def test_url(self) -> None:
        """The address as curl takes it, whatever is in a password."""
        host, port = self.server.pop3s
        self.assertEqual(self.server.url("pop3s", "mrose", "a@b/c"), f"pop3s://mrose:a%40b%2Fc@{host}:{port}")
        self.assertEqual(self.server.url(), "pop3://{}:{}".format(*self.server.pop3))


class SessionTests(Serving):
    """What clients did, read while they do it and afterwards."""

    def setUp(self) -> None:
        super().setUp()
        self.ids = self.server.account("mrose", "secret").add_all(["Subject: a\n\n1\n", "Subject: b\n\n2\n"])

    def test_whole_session(self) -> None:
        """Commands with replies, logins, what was fetched and what was deleted."""
        client = log_in(self.server)
        client.retr(2)
        client.dele(1)
        client.quit()
        session = self.server.session
        self.assertEqual(session.verbs, ["USER", "PASS", "RETR", "DELE", "QUIT"])
        self.assertEqual([one.argument for one in session.commands], [b"mrose", b"secret", b"2", b"1", b""])
        self.assertTrue(all(one.succeeded for one in session.commands))
        self.assertEqual((session.end, session.user, session.protocol), ("QUIT", "mrose", "pop3"))
        self.assertEqual(self.server.retrieved, [self.ids[1]])
        self.assertEqual(self.server.deleted, [self.ids[0]])
        self.assertEqual([(one.name, one.succeeded) for one in self.server.logins], [("mrose", True)])

    def test_what_was_sent_is_seen(self) -> None:
        """A client that sends and waits for nothing has been read when sessions are looked at."""
        for round in range(20):
            with socket.create_connection(self.server.pop3) as client:
                client.sendall(b"CAPA\r\nUSER nobody\r\nPASS wrong\r\n")
                session = self.server.sessions[-1]
                self.assertEqual((session.number, session.verbs), (round + 1, ["CAPA", "USER", "PASS"]))
                self.assertTrue(session.open)
        self.assertEqual(self.server.session.end, "the client hung up")
        self.assertEqual({one.succeeded for one in self.server.logins}, {False})

    def test_snapshot(self) -> None:
        """A session that was read does not change while the test looks at it."""
        client = log_in(self.server)
        before = self.server.sessions[-1]
        client.noop()
        self.assertEqual(before.verbs, ["USER", "PASS"])
        self.assertEqual(self.server.sessions[-1].verbs, ["USER", "PASS", "NOOP"])
        client.close()

    def test_too_late(self) -> None:
        """What does not come true fails the test, with what was waited for and what there was."""
        client = log_in(self.server)
        fault = self.assertRaises(
            TooLate, self.server.wait_for, lambda: self.server.deleted == ["never"], 0.05)
        self.assertIn("never", str(fault))
        self.assertIn("1 (pop3): USER PASS, still open", str(fault))
        self.assertRaises(TooLate, self.server.idle, 0.05)
        client.quit()
        self.server.idle()

    def test_transcript(self) -> None:
        """Who said what; the password is masked unless it is asked for."""
        log_in(self.server).quit()
        self.assertIn("C: USER mrose", self.server.transcript())
        self.assertNotIn("secret", self.server.transcript())
        self.assertIn("C: PASS secret", self.server.transcript(secrets=True))

    def test_from_asyncio(self) -> None:
        """In a program on asyncio: what waits goes to a thread, and the client is the program's own."""
        async def talk() -> list[str]:
            reader, writer = await asyncio.open_connection(*self.server.pop3)
            await reader.readline()
            writer.write(b"QUIT\r\n")
            await reader.read()
            writer.close()
            session = await asyncio.to_thread(lambda: self.server.session)
            return session.verbs

        self.assertEqual(asyncio.run(talk()), ["QUIT"])


class FaultTests(Serving):
    """Faults are switched on and off, and a scenario is made."""

    def setUp(self) -> None:
        super().setUp()
        self.server.account("mrose", "secret").add("Subject: one\n\nhello\n")

    def test_on_and_off(self) -> None:
        """A fault acts until it is removed, and knows how often it did."""
        fault = self.server.fault("error", command="STAT", code="SYS/TEMP")
        client = log_in(self.server)
        self.assertRaises(poplib.error_proto, client.stat)
        self.assertRaises(poplib.error_proto, client.stat)
        self.assertEqual([one.fault.do for one in self.server.faults], ["error"])
        fault.remove()
        fault.remove()
        self.assertEqual(client.stat()[0], 1)
        self.assertEqual((fault.acted, fault.on, self.server.faults), (2, False, []))
        client.quit()

    def test_while(self) -> None:
        """As a context manager it ends with what is done inside."""
        client = log_in(self.server)
        with self.server.fault("error", command="NOOP") as fault:
            self.assertRaises(poplib.error_proto, client.noop)
        client.noop()
        client.quit()
        self.assertEqual(fault.acted, 1)

    def test_handle_of_a_former_scenario(self) -> None:
        """A fault that a scenario has replaced is off, and its handle touches no other."""
        former = self.server.fault("error", command="NOOP")
        self.server.scenario('[[fault]]\ndo = "error"\ncommand = "STAT"\n')
        former.remove()
        self.assertEqual([one.fault.command for one in self.server.faults], ["STAT"])
        self.assertFalse(former.on)

    def test_wrong_words(self) -> None:
        """A fault that cannot be understood says where, with what is near."""
        fault = self.assertRaises(ConfigurationError, self.server.fault, "close", ocurrence=1)
        self.assertIn("fault.ocurrence: unknown; did you mean occurrence?", str(fault))
        self.assertRaises(LookupError, self.server.scenario, "no-such-scenario")

    def test_settings_of_a_scenario(self) -> None:
        """A scenario changes settings behind the same ports, for new connections, and they go with it."""
        port, client = self.server.pop3, log_in(self.server)
        self.server.scenario(Scenario("short", settings={
            "limits": {"bad_commands": 1}, "pop3": {"apop": True},
            "listen": [{"protocol": "pop3", "greeting": "hm"}]}))
        self.assertEqual(self.server.pop3, port)
        client.noop()
        client.quit()
        other = poplib.POP3(*port, timeout=SECONDS)
        self.assertRegex(other.getwelcome(), rb"^\+OK hm <.*>$")
        self.assertRaises(poplib.error_proto, other._shortcmd, "FOO")
        self.assertRaises(GONE, other._shortcmd, "FOO")
        self.server.clear_faults()
        self.assertNotIn(b"<", poplib.POP3(*port, timeout=SECONDS).getwelcome())

    def test_settings_that_need_another_harness(self) -> None:
        """What cannot change behind open ports is refused, each with its path, and nothing has changed."""
        fault = self.assertRaises(ConfigurationError, self.server.scenario, Scenario("wrong", settings={
            "hostname": "other.example.org", "store": {"lease_seconds": 60, "quota_octets": 1},
            "listen": [{"protocol": "kpop"}, {"protocol": "pop3", "endpoint": "tcp:110"}]}))
        fixed = "the harness has to be started with it"
        self.assertEqual([fault.problems[0], fault.problems[1], fault.problems[3]], [
            f"settings.hostname: {fixed}", f"settings.store.quota_octets: {fixed}",
            f"settings.listen[1].endpoint: {fixed}"])
        self.assertIn("settings.listen[0].protocol: none of those that are served", fault.problems[2])
        fault = self.assertRaises(ConfigurationError, self.server.scenario,
                                  Scenario("wrong", settings={"limits": {"bad_comands": 1}}))
        self.assertIn("settings.limits.bad_comands", str(fault))
        log_in(self.server).quit()

    def test_messages_of_a_scenario(self) -> None:
        """The samples that a scenario needs are put where they are wanted."""
        self.server.account("ada", "secret")
        self.server.scenario(Scenario("full", messages=("dots", "plain x 3")), maildrops=["ada"])
        self.assertEqual(len(self.server.maildrop("ada")), 4)


class LifeTests(SynchronousTestCase):
    """Start, reset, stop, whatever clients are doing."""

    def test_reset(self) -> None:
        """As when it was started: nobody, nothing, no faults, session 1, the clock back; the ports stay."""
        with Server(held=True, now=1e9) as server:
            ports = server.pop3, server.pop3s, server.lmtp, server.smtp
            first = server.account("mrose", "secret").add("Subject: one\n\nx\n")
            client = log_in(server)
            server.fault("stall", command="NOOP")
            server.clock.advance(7200)
            server.scenario(Scenario("s", settings={"pop3": {"apop": True}}))
            server.reset()
            self.assertRaises(GONE, client.noop)
            self.assertEqual((server.sessions, server.faults, server.clock.now, server.clock.held),
                             ([], [], 1e9, True))
            self.assertEqual((server.pop3, server.pop3s, server.lmtp, server.smtp), ports)
            self.assertRaises(poplib.error_proto, log_in, server)
            self.assertEqual(server.account("mrose", "secret").add("Subject: one\n\nx\n"), first)
            log_in(server).quit()
            self.assertEqual([one.number for one in server.sessions], [1, 2])

    def test_stop_with_clients(self) -> None:
        """Connections that are open, stalled or in TLS end, the ports are free, and all can be read on."""
        server = Server().start()
        server.account("mrose", "secret")
        server.fault("stall", command="STAT")
        host, port = server.pop3
        clients = [log_in(server), socket.create_connection((host, port)),
                   poplib.POP3_SSL(*server.pop3s, context=server.ssl_context())]
        stalled = clients[0]
        stalled._putcmd("STAT")
        self.assertEqual(server.sessions[0].verbs, ["USER", "PASS", "STAT"])
        folder = Path(server.ca_file).parent
        server.stop()
        server.stop()
        self.assertRaises(ConnectionRefusedError, socket.create_connection, (host, port))
        self.assertFalse(folder.exists())
        self.assertEqual([one.open for one in server.sessions], [False] * 3)
        self.assertIn("C: STAT", server.transcript())
        for client in clients:
            client.close()
        self.assertRaises(RuntimeError, server.start)

    def test_wrong_settings(self) -> None:
        """All that is wrong is raised where the server is made, each with its path; no file is left."""
        folder = Path(tempfile.mkdtemp())
        self.patch(tempfile, "tempdir", str(folder))    # where others make nothing meanwhile
        fault = self.assertRaises(ConfigurationError, Server, settings={
            "pop3": {"apop": 1}, "limit": {}, "listen": [{"protocol": "smtp"}, {"protocol": "pop33"}]})
        told = "\n".join(fault.problems)
        for words in ("pop3.apop: ", "limit: unknown", "listen[1].protocol: "):
            self.assertIn(words, told)
        self.assertEqual(list(folder.iterdir()), [])

    def test_kpop_where_there_is_a_key(self) -> None:
        """With Kerberos configured KPOP is served besides; a row of its own may say otherwise."""
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        kerberos = {"keytab": "a.keytab", "service": "pop/mail.example.org@EXAMPLE.ORG"}
        self.assertEqual(plan({"kerberos": kerberos}, folder).protocols,
                         ("pop3", "pop3s", "lmtp", "smtp", "kpop"))
        self.assertEqual(plan({"kerberos": kerberos, "listen": [{"protocol": "pop3"}]}, folder).protocols,
                         ("pop3",))

    def test_port_in_use(self) -> None:
        """An address that cannot be had is told by the start, and none of the others is kept."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = other.getsockname()[1]
            server = Server(settings={"listen": [
                {"protocol": "pop3"}, {"protocol": "lmtp", "endpoint": f"tcp:{taken}:interface=127.0.0.1"}]})
            fault = self.assertRaises(CannotListenError, server.start)
            self.assertIn(str(taken), str(fault))
            self.assertRaises(LookupError, server.address, "pop3")
            server.stop()

    def test_faults_are_raised_in_the_callers_thread(self) -> None:
        """What goes wrong inside is raised where it was asked for."""
        with Server() as server:
            server.account("mrose", "secret")
            self.assertRaises(AccountConflict, server.account, "mrose", "other")
            self.assertRaises(LookupError, server.address, "kpop")
            self.assertRaises(ValueError, server.clock.advance, -1)

    def test_not_from_inside(self) -> None:
        """A call in the server's own thread says so at once, for it would wait for itself."""
        with Server() as server:
            fault = self.assertRaises(RuntimeError, server._call, lambda: server.sessions)
            self.assertIn("would wait for itself", str(fault))

    def test_problems_surface(self) -> None:
        """A bug of the server is not lost in a thread: it is told, shown and warned of."""
        server = Server().start()
        server.account("mrose", "secret")

        def broken(*_: object, **more: object) -> None:
            raise ZeroDivisionError("a bug")

        client = poplib.POP3(*server.pop3, timeout=SECONDS)
        server._harness.trouble.meeting = broken      # type: ignore[method-assign]
        self.assertRaises(GONE, client.noop)
        self.assertIn("ZeroDivisionError: a bug", server.problems[0])
        self.assertIn("# in the server: ", server.report())     # which waits for what comes with the end
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), len(server.problems))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("ignore")     # what is collected of other tests meanwhile, too
            warnings.simplefilter("always", ServerProblem)
            server.stop()
        self.assertIn("ZeroDivisionError: a bug", str(told[0].message))
        with Server() as other:
            self.assertEqual(other.problems, [])


class ManyServersTests(SynchronousTestCase):
    """Fifty in one process, each with clients in threads of their own."""

    def test_apart(self) -> None:
        """Accounts, mail, faults, clocks and sessions of one are nobody else's."""
        with contextlib.ExitStack() as stack:
            servers = [stack.enter_context(Server(held=True, now=1e9)) for _ in range(SERVERS)]
            self.assertEqual(len({server.pop3 for server in servers}), SERVERS)
            for index, server in enumerate(servers):
                server.account("mrose", f"secret{index}").add_all(
                    [f"Subject: {index}.{number}\n\nx\n" for number in range(index % 3 + 1)])
                server.clock.advance(index)
                if index % 2:
                    server.fault("error", command="NOOP", text=f"fault of {index}")
            outcomes: list[str] = [""] * SERVERS
            threads = [threading.Thread(target=self.use, args=(servers, outcomes, index))
                       for index in range(SERVERS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(outcomes, ["as expected"] * SERVERS)
            for index, server in enumerate(servers):
                self.assertEqual([one.succeeded for one in server.logins], [False, True])
                self.assertEqual(server.clock.now, 1e9 + index)
                self.assertEqual(len(server.deleted), 1)
                self.assertEqual(len(server.maildrop("mrose")), index % 3)

    def use(self, servers: list[Server], outcomes: list[str], index: int) -> None:
        """Be the clients of one server."""
        server = servers[index]
        try:
            with contextlib.suppress(poplib.error_proto):
                log_in(server, password=f"secret{(index + 1) % SERVERS}")
            client = log_in(server, password=f"secret{index}")
            subjects = [client.retr(number + 1)[1][0].decode() for number in range(client.stat()[0])]
            told = ""
            try:
                client.noop()
            except poplib.error_proto as fault:
                told = fault.args[0].decode()
            client.dele(1)
            client.quit()
            wanted = ([f"Subject: {index}.{number}" for number in range(index % 3 + 1)],
                      f"-ERR fault of {index}" if index % 2 else "")
            outcomes[index] = "as expected" if (subjects, told) == wanted else f"{subjects}, {told}"
        except Exception as fault:
            outcomes[index] = repr(fault)
