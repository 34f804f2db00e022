"""One running service that the tests of a module share, and what every client needs with it.

    house = House(hosts={"xyz": ("one", "two")})
    setUpModule, tearDownModule = house.open, house.close

Each test takes accounts of its own, so that no test meets another's mail or locks.
"""

from __future__ import annotations

import poplib
import shutil
import smtplib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.interop.talk import CLIENT_SECONDS, PASSWORD, Raw, Session
from tests.services import HOSTNAME, Service, Site


class House:
    """A site with `accounts` ordinary accounts that `account` hands out, and its service while open."""

    site: Site
    service: Service

    def __init__(self, *, accounts: int = 20, hosts: Mapping[str, Sequence[str]] | None = None,
                 store: str = "", limits: str = "", further: str = "", delay_seconds: float = 0) -> None:
        self._accounts = [f"user{number}" for number in range(accounts)]
        self._unused = list(self._accounts)
        self._hosts = dict(hosts or {})
        self._sections: dict[str, Any] = {"store": store, "limits": limits, "further": further}
        self._delay_seconds = delay_seconds
        self._furnish: Callable[[], object] = lambda: None

    def open(self) -> None:
        """Make the site, start the service, and furnish the house."""
        try:
            self._open()
            self._furnish()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mailgate-interop-"))
        self.site = Site(self.folder, accounts=dict.fromkeys(self._accounts, PASSWORD), hosts=self._hosts,
                         **self._sections)
        if self._delay_seconds:
            text = self.site.file.read_text()
            self.site.file.write_text(text.replace(
                "failure_delay_seconds = 0\n", f"failure_delay_seconds = {self._delay_seconds}\n"))
        self.service = self.site.start()

    def close(self) -> None:
        """End the service and remove everything."""
        if hasattr(self, "service"):
            self.service.end()
        shutil.rmtree(self.folder)

    def furnished(self, furnish: Callable[[], object]) -> Callable[[], object]:
        """Take what `open` has to do once the service runs, as a decorator."""
        self._furnish = furnish
        return furnish

    def account(self) -> str:
        """Return the name of an account that no test has used."""
        return self._unused.pop(0)

    @property
    def port(self) -> int:
        return self.service.pop3_port

    # Mail comes in --------------------------------------------------------------------------

    def lmtp(self, message: bytes, *recipients: str, sender: str = "sender@example.org") -> None:
        """Deliver a message by LMTP to all recipients. A name without @ is an ordinary account."""
        if message.endswith(b"\n"):     # the last line end is the one before the final dot
            message = message.removesuffix(b"\n").removesuffix(b"\r") + b"\r\n"
        with smtplib.LMTP("127.0.0.1", self.service.lmtp_port, timeout=CLIENT_SECONDS,
                          local_hostname="relay.example.org") as client:
            client.ehlo_or_helo_if_needed()
            assert client.mail(sender)[0] == 250
            for recipient in recipients:
                reply = client.rcpt(address_of(recipient))
                assert reply[0] == 250, reply
            replies = [client.data(message), *(client.getreply() for _ in recipients[1:])]
            assert [code for code, _ in replies] == [250] * len(recipients), replies

    # Mail goes out --------------------------------------------------------------------------

    def connect(self) -> poplib.POP3:
        """Return a client that has been greeted."""
        return poplib.POP3("127.0.0.1", self.port, timeout=CLIENT_SECONDS)

    def login(self, name: str, password: str = PASSWORD) -> Session:
        """Return a client that has logged in; a context that quits."""
        return Session(self.port, name, password)

    def octets(self, name: str, password: str = PASSWORD) -> dict[bytes, bytes]:
        """Return all messages of a maildrop as they are fetched, by unique-id, in order."""
        with self.login(name, password) as client:
            ids = client.unique_ids()
            return dict(zip(ids, (client.content(number) for number in range(1, len(ids) + 1)), strict=True))

    def held(self, name: str) -> int:
        """Return how many messages a maildrop holds, asked behind the service's back."""
        return len(self.site.succeed("maildrop", "list", name).splitlines())

    def talk(self) -> Raw:
        """Return a bare connection that has been greeted."""
        return Raw(self.port)


def address_of(name: str) -> str:
    """Return an ordinary account's address; an address as it is."""
    return name if "@" in name else f"{name}@{HOSTNAME}"
