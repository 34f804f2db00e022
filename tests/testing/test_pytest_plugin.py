"""The pytest plugin in runs of pytest of its own: fixtures, marker, and the report of a test that fails."""

from __future__ import annotations

import pytest
from twisted.trial.unittest import SynchronousTestCase

# Runs in this process forget what they have loaded. What is loaded here stays, and is loaded once.
from mailgate.testing import memory, running, samples, scenarios, server, showing
from mailgate.testing.harness import smtp

LOADED = memory, samples, scenarios, server, showing, smtp

pytest_plugins = ["pytester"]

CLIENT = '''
import poplib
import pytest

def log_in(server, password="secret"):
    client = poplib.POP3(*server.pop3, timeout=60)
    client.user("mrose")
    client.pass_(password)
    return client
'''

PASSING = CLIENT + '''
import asyncio, unittest
from mailgate.testing import Server

@pytest.mark.parametrize("round", range(3))
def test_each_has_its_own(mailgate, round):
    assert mailgate.sessions == [] and mailgate.account("mrose", "secret").messages == []
    mailgate.maildrop("mrose").add("Subject: one\\n\\nx\\n")
    mailgate.fault("error", command="STAT")
    client = log_in(mailgate)
    client.dele(1)
    client.quit()
    assert mailgate.session.number == 1 and len(mailgate.deleted) == 1

@pytest.mark.mailgate(settings={"pop3": {"apop": True}}, held=True, now=1e9, protocols=["pop3"],
                      accounts={"mrose": "secret"},
                      scenario='messages = ["plain x 3"]\\n[[fault]]\\ndo = "error"\\ncommand = "NOOP"')
class TestMarked:
    def test_marker(self, mailgate):
        client = log_in(mailgate)
        assert b"<" in client.getwelcome() and client.stat()[0] == 3
        with pytest.raises(poplib.error_proto):
            client.noop()
        assert mailgate.clock.held and mailgate.clock.now == 1e9
        assert [one.fault.do for one in mailgate.faults] == ["error"]
        with pytest.raises(LookupError):
            mailgate.lmtp

    @pytest.mark.mailgate(held=False)
    def test_nearest_counts(self, mailgate):
        assert not mailgate.clock.held and mailgate.maildrop("mrose").messages

@pytest.fixture(scope="module")
def shared(mailgate_server_factory):
    server = mailgate_server_factory(seed=7)
    server.account("mrose", "secret")
    return server

def test_factory(mailgate_server_factory, shared, mailgate):
    other = mailgate_server_factory()
    assert len({shared.pop3, other.pop3, mailgate.pop3}) == 3
    log_in(shared).quit()
    assert [len(one.sessions) for one in (shared, other, mailgate)] == [1, 0, 0]

def test_shared_by_a_module(shared):
    assert len(shared.sessions) == 1
    shared.reset()
    assert shared.sessions == []

@pytest.mark.mailgate(accounts={"mrose": "secret"})
class UnittestTests(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def _server(self, mailgate):
        self.server = mailgate

    def test_one(self):
        log_in(self.server).quit()
        self.assertEqual(self.server.session.verbs, ["USER", "PASS", "QUIT"])

    def test_other(self):
        self.assertEqual(self.server.sessions, [])

def test_asyncio(mailgate):
    async def talk():
        reader, writer = await asyncio.open_connection(*mailgate.pop3)
        greeting = await reader.readline()
        writer.close()
        return greeting
    assert asyncio.run(talk()).startswith(b"+OK")
'''

GLOBAL_REACTOR = '''
import pytest
from twisted.internet import defer, endpoints, protocol, reactor
from twisted.trial import unittest

class Greeted(protocol.Protocol):
    def __init__(self):
        self.got = defer.Deferred()

    def dataReceived(self, data):
        self.got.callback(data)
        self.transport.loseConnection()

class ReactorTests(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def _server(self, mailgate):
        self.server = mailgate

    async def test_client_on_the_global_reactor(self):
        endpoint = endpoints.TCP4ClientEndpoint(reactor, *self.server.pop3)
        client = await endpoints.connectProtocol(endpoint, Greeted())
        self.assertTrue((await client.got).startswith(b"+OK"))
        self.assertIsNot(self.server._thread.reactor, reactor)

    async def test_time_beside_it(self):
        waited = defer.Deferred()
        reactor.callLater(0.01, waited.callback, None)
        await waited
        self.assertEqual(self.server.sessions, [])
'''

FAILING = CLIENT + '''
from mailgate.testing import MemoryServer, Server

def test_call(mailgate):
    mailgate.account("mrose", "secret")
    log_in(mailgate)
    assert mailgate.sessions[-1].verbs == ["QUIT"]

def test_nobody_came(mailgate):
    assert 0

@pytest.fixture
def prepared(mailgate):
    with pytest.raises(poplib.error_proto):
        log_in(mailgate, "in-setup")
    raise RuntimeError("no luck")

def test_setup(prepared):
    pass

def test_by_hand():
    with Server() as server:
        server.account("mrose", "secret")
        log_in(server).noop()
        assert 0

def test_in_memory():
    server = MemoryServer()
    server.talk("pop3").say(b"CAPA\\r\\n")
    assert 0

@pytest.fixture(scope="module")
def shared(mailgate_server_factory):
    server = mailgate_server_factory()
    server.account("mrose", "secret")
    return server

def test_a_good_one(shared):
    log_in(shared).quit()
    shared.session      # has ended: nothing of it happens in the next test

def test_only_its_own(shared):
    client = log_in(shared)
    client.stat()
    assert 0

def test_without_a_server():
    assert 0

def test_two(mailgate, mailgate_server_factory):
    other = mailgate_server_factory()
    for server in (mailgate, other):
        poplib.POP3(*server.pop3).quit()
    assert 0
'''


class Runs(SynchronousTestCase):
    """Each test runs pytest."""

    @pytest.fixture(autouse=True)
    def _pytester(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester

    def setUp(self) -> None:
        # servers of other tests of this process may run, and what was wrong in them is none of these reports'
        self.patch(running, "servers", [])

    def run_tests(self, text: str, *arguments: str) -> pytest.RunResult:
        self.pytester.makepyfile(text)
        return self.pytester.runpytest_inprocess("-p", "no:cacheprovider", "--strict-markers", *arguments)

    def parts(self, result: pytest.RunResult) -> dict[str, str]:
        """Return what is reported of each test that failed, by its name."""
        found: dict[str, str] = {}
        name = ""
        for line in result.stdout.lines:
            if line.startswith("____") and "test_" in line:
                name = line.strip("_ ").rpartition(" ")[2]
            elif line.startswith("===="):
                name = ""
            if name:
                found[name] = found.get(name, "") + line + "\n"
        return found


class FixtureTests(Runs):
    """Servers for tests, whatever kind of tests."""

    def test_fixtures(self) -> None:
        """Functions, classes, unittest's, asyncio; a marker; a server that tests share."""
        self.run_tests(PASSING).assert_outcomes(passed=10)

    def test_wrong_marker(self) -> None:
        """A marker that says what there is not is refused, with what there is."""
        result = self.run_tests("import pytest\n@pytest.mark.mailgate(setings={})\ndef test(mailgate): pass\n"
                                "@pytest.mark.mailgate('x')\ndef test_other(mailgate): pass\n")
        result.assert_outcomes(errors=2)
        result.stdout.fnmatch_lines(["*takes settings, protocols, seed, *, and not setings*"])

    def test_told(self) -> None:
        """Fixtures and marker are in pytest's own lists."""
        result = self.run_tests("", "--fixtures", "--markers")
        self.assertIn("@pytest.mark.mailgate(settings=", result.stdout.str())


class ReportTests(Runs):
    """What was said stands in the report of a test that fails."""

    def test_reports(self) -> None:
        """Each has its own sessions and no others, as C: and S: lines, passwords masked."""
        result = self.run_tests(FAILING)
        result.assert_outcomes(passed=1, failed=7, errors=1)
        parts = self.parts(result)
        self.assertIn("C: USER mrose", parts["test_call"])
        self.assertNotIn("secret\n", parts["test_call"])
        self.assertIn("C: PASS ********", parts["test_call"])
        self.assertIn("no client has connected", parts["test_nobody_came"])
        self.assertIn("S: -ERR", parts["test_setup"])
        self.assertNotIn("PASS in-setup", parts["test_setup"])
        self.assertIn("C: NOOP", parts["test_by_hand"])
        self.assertIn("C: CAPA", parts["test_in_memory"])
        self.assertIn("session 2", parts["test_only_its_own"])
        self.assertIn("C: STAT", parts["test_only_its_own"])
        self.assertNotIn("session 1", parts["test_only_its_own"])
        self.assertNotIn("mailgate", parts["test_without_a_server"])
        for number in (1, 2):
            self.assertIn(f"mailgate, server {number} ", parts["test_two"])

    def test_secrets(self) -> None:
        """Passwords are shown to who asks for them."""
        result = self.run_tests(FAILING, "--mailgate-secrets", "-k", "test_call")
        self.assertIn("C: PASS secret", self.parts(result)["test_call"])

    def test_in_another_process(self) -> None:
        """Transcripts come from the processes of pytest-xdist, too; a test there runs the global reactor.

        It has its client on that reactor, beside the server's own.
        """
        result = self.run_tests(FAILING + GLOBAL_REACTOR, "-n", "1", "-k",
                                "test_by_hand or test_nobody_came or ReactorTests")
        result.assert_outcomes(passed=2, failed=2)
        self.assertIn("C: NOOP", self.parts(result)["test_by_hand"])
