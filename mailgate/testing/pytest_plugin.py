"""For pytest: servers as fixtures, and what was said to them in the report of a test that fails.

    def test_fetches_everything(mailgate):
        mailgate.account("mrose", "secret").add("Subject: one\\n\\nhello\\n")
        fetch(*mailgate.pop3, "mrose", "secret")
        assert mailgate.sessions[-1].verbs == ["USER", "PASS", "STAT", "RETR", "QUIT"]

    @pytest.mark.mailgate(accounts={"mrose": "secret"}, scenario="lost-before-quit", held=True)
    def test_survives(mailgate): ...

Loaded in every run where mailgate is installed: no server and no Twisted before a test wants one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from mailgate.testing import running

if TYPE_CHECKING:
    from mailgate.testing.kdc import Realm
    from mailgate.testing.server import Server

MARK = "mailgate"
SECRETS = "--mailgate-secrets"
TO_START = ("settings", "protocols", "seed", "held", "now")     # what the marker says, in Server's words
TO_ARRANGE = ("accounts", "scenario")                           # and what is done once it runs
SECTION = "mailgate"

_before = pytest.StashKey["dict[Any, Any]"]()       # of each server that ran before: what was said by then

Factory = Callable[..., "Server"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options."""
    group = parser.getgroup("mailgate", "mailgate: a mail server for tests of clients")
    group.addoption(SECRETS, action="store_true", default=False, dest="mailgate_secrets",
                    help="show passwords in the transcripts of tests that fail")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    words = ", ".join(f"{name}=" for name in (*TO_START, *TO_ARRANGE))
    config.addinivalue_line("markers", f"{MARK}({words}): how the fixture `mailgate` is started")


# Servers ------------------------------------------------------------------------------------------


@pytest.fixture
def mailgate(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of this test's own: empty, on free ports of 127.0.0.1, as the marker `mailgate` says."""
    from mailgate.testing import Server

    wanted = _wanted(request.node)
    accounts, scenario = [wanted.pop(name, None) for name in TO_ARRANGE]
    with Server(**wanted) as server:
        for name, password in (accounts or {}).items():
            server.account(name, password)
        if scenario is not None:
            server.scenario(scenario, maildrops=list(accounts or {}))
        yield server


@pytest.fixture(scope="session")
def mailgate_server_factory() -> Iterator[Factory]:
    """Call it for a server, which runs; what it takes is what Server takes. All end with the run of tests.

    For several in one test, or for one that the tests of a module share: `reset` it between them.
    """
    from mailgate.testing import Server

    made: list[Server] = []

    def make(**more: Any) -> Server:
        server = Server(**more).start()
        made.append(server)
        return server

    yield make
    for server in reversed(made):
        server.stop()


@pytest.fixture(scope="session")
def mailgate_kdc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Realm]:
    """A Kerberos realm with a KDC on loopback (testing/kdc.py), in whose environment the tests go on.

    `mailgate_server_factory(settings=mailgate_kdc.settings())` takes its tickets, by KPOP. The test is
    skipped where MIT's programs are not there.
    """
    from mailgate.testing import kdc

    try:
        realm = kdc.Realm(tmp_path_factory.mktemp("mailgate-kdc") / "realm")
    except kdc.NoKerberos as fault:
        pytest.skip(str(fault))
    with realm, realm.environment():
        yield realm


def _wanted(node: Any) -> dict[str, Any]:
    """Return what the markers of a test say, the nearest before all others."""
    wanted: dict[str, Any] = {}
    for mark in reversed(list(node.iter_markers(MARK))):
        wrong = [name for name in mark.kwargs if name not in (*TO_START, *TO_ARRANGE)]
        if mark.args or wrong:
            raise pytest.UsageError(f"@pytest.mark.{MARK} takes {', '.join((*TO_START, *TO_ARRANGE))},"
                                    f" each with its name, and not {', '.join(wrong) or repr(mark.args[0])}")
        wanted.update(mark.kwargs)
    return wanted


# Reports ------------------------------------------------------------------------------------------


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Keep the servers that a test starts, until it is told how it went."""
    item.stash[_before] = {server: server.mark() for server in running.servers}
    outer = running.watch()
    yield
    running.put_back(outer)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Add to the report of what failed what was said to servers meanwhile."""
    outcome = yield
    report = outcome.get_result()
    if report.failed and _before in item.stash:
        secrets = bool(item.config.getoption("mailgate_secrets"))
        report.sections.extend(_sections(item.stash[_before], secrets))


def _sections(before: dict[Any, Any], secrets: bool) -> list[tuple[str, str]]:
    """Return title and text of each server's part of a report."""
    servers = dict.fromkeys([*running.servers, *(running.started or ())])
    told = [text for server in servers if (text := _told(server, before.get(server), secrets))]
    if len(told) == 1:
        return [(SECTION, told[0])]
    return [(f"{SECTION}, server {number}", text) for number, text in enumerate(told, 1)]


def _told(server: Any, since: Any, secrets: bool) -> str:
    """Return what was said to a server in this test.

    That it cannot be had must not hide why the test failed.
    """
    try:
        text: str = server.report(since, secrets=secrets)
    except Exception as fault:
        return f"what was said cannot be had: {fault!r}"
    return text
