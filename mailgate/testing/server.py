"""A mailgate for the test of a mail client: started in a moment, filled, broken on command.

    with Server() as server:
        server.account("mrose", "secret")
        server.maildrop("mrose").add("Subject: one\\n\\nhello\\n")
        server.fault("close", command="RETR", at=100)
        ... # the client that is tested, at server.host and server.port
        assert server.sessions[-1].verbs == ["USER", "PASS", "RETR"]

Everything here may be called from any thread and waits until it is done. The server runs in a thread of its
own, with a reactor of its own, so that it does not matter what event loop the test has.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from mailgate.testing.harness.clock import HarnessClock
from mailgate.testing.harness.core import CA_FILE, Harness
from mailgate.testing.harness.records import SessionRecord
from mailgate.testing.harness.thread import ReactorThread


class Server:
    """One server. See Harness for `settings`, `protocols` and `seed`; `held`: its clock stands still."""

    def __init__(self, *, settings: Mapping[str, Any] | None = None, protocols: Sequence[str] | None = None,
                 seed: int = 0, held: bool = False, now: float | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mailgate-harness-")
        self._thread = ReactorThread.shared()
        self._harness: Harness = self._thread.call(self._make, settings, protocols, seed, held, now)
        self._running = False

    def _make(self, settings: Any, protocols: Any, seed: int, held: bool, now: float | None) -> Harness:
        clock = HarnessClock(self._thread.reactor, held=held, now=now)
        return Harness(clock, Path(self._folder.name), settings=settings, protocols=protocols, seed=seed)

    def start(self) -> Server:
        """Serve."""
        async def begin() -> None:
            await self._harness.start()
            await self._harness.listen(self._thread.reactor)

        self._thread.call(begin)
        self._running = True
        return self

    def stop(self) -> None:
        """End all connections and give up the ports. May be called twice."""
        if self._running:
            self._running = False
            self._thread.call(self._harness.stop)
            self._thread.call(self._harness.clock.stop)
        self._folder.cleanup()

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()

    @property
    def host(self) -> str:
        """The address that all listeners have."""
        return self.address("pop3")[0]

    @property
    def port(self) -> int:
        """The port of POP3."""
        return self.address("pop3")[1]

    def address(self, protocol: str) -> tuple[str, int]:
        """Return host and port of a protocol. Raises: LookupError."""
        return self._harness.listener(protocol).address

    @property
    def ca_file(self) -> str:
        """The file of the authority that a client has to trust, in PEM form."""
        return str(Path(self._folder.name) / CA_FILE)

    @property
    def sessions(self) -> list[SessionRecord]:
        """All sessions, the earliest first."""
        return list(self._harness.records)

    def account(self, name: str, *passwords: str, **more: Any) -> None:
        """Add an account. Raises: AccountConflict."""
        self._thread.call(self._harness.add_account, name, *passwords, **more)
