"""One server with its API for all tests of this folder, begun anew for each; and a plain client."""

from __future__ import annotations

import atexit
import http.client
import json
import poplib
from functools import cache
from typing import Any, NamedTuple

from twisted.trial.unittest import SynchronousTestCase

from mailgate.testing import Server

PREFIX = "/api/v1"


class Reply(NamedTuple):
    """What was answered."""

    status: int
    headers: http.client.HTTPMessage
    octets: bytes

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.octets)

    @property
    def places(self) -> list[str]:
        """Where there are problems."""
        return [one["path"] for one in self.json["problems"]]


@cache
def served() -> tuple[Server, str, int]:
    """Return the server, its token and the API's port."""
    server = Server(protocols=("pop3", "lmtp")).start()
    atexit.register(server.stop)
    url, token = server.serve_api()
    return server, token, int(url.split(":")[2].split("/")[0])


def request(method: str, path: str, body: Any = None, *, headers: dict[str, str | None] | None = None,
            seconds: float = 60) -> Reply:
    """Ask the API. `path` is below the prefix; a body is written as JSON, unless it is octets."""
    _, token, port = served()
    sent: dict[str, str | None] = {"Authorization": f"Bearer {token}"}
    if body is not None:
        sent["Content-Type"] = "application/json"
    sent.update(headers or {})
    octets = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request(method, path if path.startswith("//") else PREFIX + path, octets,
                           {name: value for name, value in sent.items() if value is not None})
        response = connection.getresponse()
        return Reply(response.status, response.headers, response.read())
    finally:
        connection.close()


class ApiCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.server, self.token, self.port = served()
        self.server.reset()

    def ask(self, status: int, method: str, path: str, body: Any = None,
            headers: dict[str, str | None] | None = None) -> Reply:
        """Ask, and hold the answer's status to what is expected."""
        reply = request(method, path, body, headers=headers)
        self.assertEqual(reply.status, status, reply)
        return reply

    def client(self, name: str = "mrose", password: str = "secret") -> poplib.POP3:
        """Return a client that has logged in."""
        client = poplib.POP3(*self.server.pop3, timeout=60)
        self.addCleanup(client.close)
        client.user(name)
        client.pass_(password)
        return client

    def filled(self, messages: int = 1) -> None:
        """Have an account with messages."""
        maildrop = self.server.account("mrose", "secret")
        for number in range(1, messages + 1):
            maildrop.add(f"Subject: {number}\n\nhello\n")
