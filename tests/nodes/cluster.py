"""Three services, one store: PostgreSQL with a synchronous replica, bodies in Swift."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tests.crash.dialogue import Pop3
from tests.crash.ledger import Copy, Ledger, token_of
from tests.engines.postgres import Server
from tests.engines.slow import Relay
from tests.engines.swift import REGION, swift
from tests.services import Service, Site

NODES = 3
LEASE_SECONDS = 2
INLINE_OCTETS = 4096

T = TypeVar("T")


class Cluster:
    """Services over one store; `relayed`: the primary is reached over a relay that can be made slow."""

    def __init__(self, accounts: Sequence[str], *, relayed: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mailgate-nodes-"))
        self.swift = swift()
        self.primary = Server().create()
        self.replica = Server().copy_of(self.primary, synchronous=True)
        self.relay = Relay(("127.0.0.1", self.primary.port)) if relayed else None
        database = self.primary.create_database()
        url = self.primary.url(database, self.replica)
        if self.relay is not None:
            url = url.replace(f":{self.primary.port}", f":{self.relay.address[1]}")
        credentials = self.folder / "credentials"
        credentials.write_text(f"[default]\naws_access_key_id = {self.swift.access_key}\n"
                               f"aws_secret_access_key = {self.swift.secret_key}\n")
        self.site = Site(
            self.folder / "site", accounts=dict.fromkeys(accounts, "secret"), metadata=url,
            bodies=f"s3://{self.swift.make_bucket()}/mail?endpoint={self.swift.endpoint}&region={REGION}",
            store=f'lease_seconds = {LEASE_SECONDS}\ninline_octets = {INLINE_OCTETS}\n'
                  f's3_credentials = "{credentials}"')
        self.accounts = list(accounts)
        self.nodes: list[Service] = []
        with ThreadPoolExecutor(NODES) as pool:
            self.nodes = [starting.result() for starting in [pool.submit(self.site.start)
                                                             for _ in range(NODES)]]

    def close(self) -> None:
        """End everything."""
        for node in self.nodes:
            node.end()
        if self.relay is not None:
            self.relay.end()
        self.replica.destroy()
        self.primary.destroy()
        shutil.rmtree(self.folder)

    def contents(self, node: Service, account: str) -> list[bytes]:
        """Return every message of a maildrop as a POP3 client reads it; nobody else may be in."""
        with Pop3(node.pop3_port) as client:
            messages = [client.retrieve(number) for number in range(1, client.enter(account) + 1)]
            assert client.ask(b"QUIT").startswith(b"+OK")
        return messages

    def settle(self, ledger: Ledger, node: Service) -> dict[str, int]:
        """Compare all maildrops with what clients were told; return how many messages each holds."""
        found = {account: self.contents(node, account) for account in self.accounts}
        ledger.settle(found)
        return {account: len(messages) for account, messages in found.items()}


def copies_of(account: str, messages: Sequence[bytes]) -> list[Copy]:
    """Return what a ledger knows these messages by."""
    return [Copy(account, token_of(message)) for message in messages]


def at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Run some functions in threads of their own; return what they return, or raise what the first raises."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [call.result() for call in [pool.submit(one) for one in calls]]
