"""The WebSocket: everything as it happens, to those who may see it."""

from __future__ import annotations

import base64
import json
import socket
from functools import partial
from typing import Any

from twisted.logger import formatEvent, globalLogPublisher

from mailgate.testing.api.schemas import SCHEMAS
from tests.needs import unavailable
from tests.testing.api.base import PREFIX, ApiCase, request

try:
    import wsproto
    from wsproto.events import AcceptConnection, CloseConnection, RejectConnection, Request, TextMessage
except ImportError:
    wsproto = None      # type: ignore[assignment]


class Watcher:
    """One who watches: a WebSocket of his own over a plain socket."""

    def __init__(self, port: int, target: str, headers: dict[str, str]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 60)
        self._connection = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self._events: list[Any] = []
        self._text = ""
        self.send(Request(host=f"127.0.0.1:{port}", target=PREFIX + target, extra_headers=[
            (name.encode(), value.encode()) for name, value in headers.items()]))

    def send(self, event: Any) -> None:
        self.socket.sendall(self._connection.send(event))

    def next_event(self) -> Any:
        while not self._events:
            octets = self.socket.recv(65536)
            self._connection.receive_data(octets or None)
            self._events += self._connection.events()
        return self._events.pop(0)

    def next(self) -> dict[str, Any]:
        """Return the next notice."""
        while True:
            event = self.next_event()
            assert isinstance(event, TextMessage), event
            self._text += event.data
            if event.message_finished:
                text, self._text = self._text, ""
                found: dict[str, Any] = json.loads(text)
                return found

    def until(self, kind: str) -> list[dict[str, Any]]:
        """Return notices up to the first of a kind."""
        found = [self.next()]
        while found[-1]["type"] != kind:
            found.append(self.next())
        return found


class EventTests(ApiCase):
    def setUp(self) -> None:
        super().setUp()
        if wsproto is None:
            unavailable("missing: wsproto; install with: pip install -e '.[test]'")

    def watch(self, target: str = "/events", headers: dict[str, str] | None = None) -> Watcher:
        watcher = Watcher(self.port, target, {"Authorization": f"Bearer {self.token}"} if headers is None
                          else headers)
        self.addCleanup(watcher.socket.close)
        return watcher

    def opened(self, target: str = "/events", headers: dict[str, str] | None = None) -> Watcher:
        watcher = self.watch(target, headers)
        self.assertIsInstance(watcher.next_event(), AcceptConnection)
        return watcher

    def test_conversation_as_it_happens(self) -> None:
        """Beginning, everything that is said, end; secrets masked; in the shapes that the document has."""
        self.filled()
        watcher = self.opened()
        self.client().quit()
        notices = watcher.until("end")
        self.assertEqual([one["type"] for one in (notices[0], notices[-1])], ["begin", "end"])
        events = [one for one in notices if one["type"] == "event"]
        self.assertEqual([one["index"] for one in events], list(range(len(events))))
        said = b"".join(base64.b64decode(one["event"]["octets"]) for one in events
                        if one["event"]["who"] == "C")
        self.assertEqual(said, b"USER mrose\r\nPASS ********\r\nQUIT\r\n")
        self.assertEqual(notices[-1]["session"]["end"], "QUIT")
        self.assertEqual(notices[-1]["session"], self.ask(200, "GET", "/sessions/1").json)
        self.judge(notices)

    def judge(self, notices: list[dict[str, Any]]) -> None:
        from jsonschema import Draft202012Validator

        schema = {**SCHEMAS["Notice"], "components": {"schemas": SCHEMAS}}
        for notice in notices:
            self.assertEqual([one.message for one in Draft202012Validator(schema).iter_errors(notice)], [])

    def test_secret_in_pieces(self) -> None:
        """A secret in pieces is masked though they are told as they come; not for who asks for secrets."""
        harness = self.server._harness

        def say(who: str, *pieces: bytes) -> None:
            for piece in pieces:
                self.server._call(lambda octets=piece: harness.records.note(record, who, octets))

        record = self.server._call(lambda: harness.records.begin("pop3"))
        say("C", b"PASS sesame\r\n")
        say("S", b"-ERR not ses")
        watcher, open_watcher = self.opened(), self.opened("/events?secrets=true")
        say("S", b"am", b"e\r\n")
        self.server._call(lambda: harness.records.end(record, "QUIT"))
        for one, wanted in ((watcher, ["-ERR not ********", "********", "********\\r\\n"]),
                            (open_watcher, ["am", "e\\r\\n"])):
            notices = [one for one in one.until("end") if one["type"] == "event"]
            self.assertEqual([one["event"]["shown"] for one in notices], wanted)

    def test_past_first(self) -> None:
        """Who asks for it is told first what happened before; with secrets, if he asks for them."""
        self.filled()
        self.client().quit()
        self.ask(200, "GET", "/sessions/1?wait=ended")
        notices = self.opened("/events?replay=true&secrets=true").until("end")
        shown = [one["event"]["shown"] for one in notices if one["type"] == "event"]
        self.assertIn("PASS secret\\r\\n", shown)

    def test_changes(self) -> None:
        """What others change over the API is told by its path, and mail that comes otherwise."""
        watcher = self.opened()
        self.ask(201, "POST", "/accounts", {"name": "mrose"})
        self.ask(422, "POST", "/faults", {"do": "none"})
        self.ask(200, "GET", "/faults")
        self.ask(204, "POST", "/reset")
        changes = watcher.until("changed")
        while changes[-1]["what"] != "/reset":
            changes += watcher.until("changed")
        self.assertEqual([one["what"] for one in changes if one["what"] != "/maildrops"],
                         ["/accounts", "/reset"])
        self.judge(changes)
        self.server.account("mrose")
        watcher = self.opened()
        self.server.maildrop("mrose").add("Subject: x\n\n")
        self.assertEqual(watcher.next(), {"type": "changed", "what": "/maildrops"})

    def test_leave_taken(self) -> None:
        """Who has said goodbye is told nothing more, though the connection is still there; nobody minds."""
        web = self.server._web
        assert web is not None
        for tell in (partial(web._events.changed, "/late"), web._events.stop):
            watcher = self.opened()
            [stream] = self.server._call(lambda: list(web._events._streams))
            stream._transport.transport.loseConnection = lambda: None   # as where octets still wait to leave
            watcher.send(CloseConnection(1000))
            self.assertIsInstance(watcher.next_event(), CloseConnection)
            self.server._call(tell)
            self.assertEqual(self.server._call(lambda: list(web._events._streams)), [])

    def test_who_may(self) -> None:
        """By token in a header or the address, and from no other origin."""
        self.opened(f"/events?token={self.token}", {}).socket.close()
        for headers in ({}, {"Authorization": "Bearer x"}, {"Cookie": "mailgate_harness=x"}):
            rejected = self.watch(headers=headers).next_event()
            self.assertEqual((type(rejected), rejected.status_code), (RejectConnection, 401))
        rejected = self.watch(headers={"Authorization": f"Bearer {self.token}",
                                       "Origin": "http://evil.example"}).next_event()
        self.assertEqual((type(rejected), rejected.status_code), (RejectConnection, 403))

    def test_no_websocket(self) -> None:
        """A plain GET is told what is expected, and whoever misspells a parameter."""
        self.assertEqual(self.ask(426, "GET", "/events").headers["Upgrade"], "websocket")
        self.assertEqual(self.ask(400, "GET", "/events?secrets=yes&reply=true").places,
                         ["query.secrets", "query.reply"])

    def test_bad_handshake(self) -> None:
        """One that is no WebSocket's is told so; nothing of it is logged: the token may be in its address."""
        logged: list[str] = []
        self.addCleanup(globalLogPublisher.removeObserver, observer := lambda event: logged.append(
            str(formatEvent(event))))
        globalLogPublisher.addObserver(observer)
        for version in ({"Sec-WebSocket-Version": "8"}, {}):
            reply = self.ask(400, "GET", f"/events?token={self.token}", headers={
                "Authorization": None, "Connection": "Upgrade", "Upgrade": "websocket",
                "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", **version})
            self.assertNotIn(self.token, str(reply.json))
        self.assertNotIn(self.token, "\n".join(logged))
        self.assertEqual(self.server.problems, [])

    def test_nothing_to_say(self) -> None:
        """Who speaks to the server is cut off."""
        watcher = self.opened()
        watcher.send(TextMessage("hello"))
        closed = watcher.next_event()
        self.assertEqual((type(closed), closed.code), (CloseConnection, 1008))

    def test_who_does_not_read(self) -> None:
        """Who does not read is cut off once too much waits for him; the harness goes on."""
        self.patch_backlog(20)
        self.filled()
        lazy = self.watch()
        lazy.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        big = "Subject: big\n\n" + ("x" * 78 + "\n") * 12_000
        self.server.maildrop("mrose").add(big)
        client = self.client()
        for _ in range(12):
            client.retr(2)
        client.quit()
        self.assertEqual(self.watchers(), 0)
        self.assertEqual(self.ask(200, "GET", "/sessions/1?wait=ended").json["end"], "QUIT")
        self.assertEqual(self.server.problems, [])

    def watchers(self) -> int:
        return len(self.server._web._events._streams)

    def patch_backlog(self, notices: int) -> None:
        from mailgate.testing.api import events

        self.patch(events, "BACKLOG", notices)

    def test_none_is_kept(self) -> None:
        """Who goes is forgotten."""
        watcher = self.opened()
        self.assertEqual(self.watchers(), 1)
        watcher.socket.close()
        self.server.wait_for(lambda: request("GET", "/server") and not self.watchers())
