"""A listener that starts one program for each connection, with the connection as its input and output."""

from __future__ import annotations

import poplib
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

PATIENCE_SECONDS = 60


class Inetd:
    """Serves `command` on a port of loopback from `with` on to its end. Its errors go to a file."""

    def __init__(self, command: Sequence[str | Path], errors: Path, *,
                 environment: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
        self._command = [str(word) for word in command]
        self._errors = errors
        self._environment = environment
        self._cwd = cwd
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._children: list[subprocess.Popen[bytes]] = []
        self.port = self._listener.getsockname()[1]

    def __enter__(self) -> Inetd:
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        for child in self._children:
            try:
                child.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:     # shut down
                return
            with connection, open(self._errors, "ab") as errors:
                self._children.append(subprocess.Popen(
                    self._command, stdin=connection, stdout=connection, stderr=errors,
                    env=None if self._environment is None else dict(self._environment), cwd=self._cwd))


def talk(port: int, login: tuple[str, str] | None = None, *, delete: Sequence[int] = ()) -> list[str]:
    """Hold one session with a POP3 server; return what UIDL answers, in order. A login may not be needed."""
    client = poplib.POP3("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    try:
        if login is not None:
            client.user(login[0])
            client.pass_(login[1])
        lines = [line.decode("latin-1").split(" ", 1) for line in client.uidl()[1]]
        assert [int(number) for number, _ in lines] == list(range(1, len(lines) + 1)), lines
        for number in delete:
            client.dele(number)
        client.quit()
    finally:
        client.close()
    return [unique_id for _, unique_id in lines]
