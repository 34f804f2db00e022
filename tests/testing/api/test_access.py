"""Who is let in: the token, the host, the origin; and what requests that are wrong are answered."""

from __future__ import annotations

import json
import socket

from hypothesis import given, settings
from hypothesis import strategies as st

from mailgate.testing.api.dispatch import BODY_OCTETS
from mailgate.testing.api.operations import Operation
from mailgate.testing.api.site import Body
from mailgate.testing.api.table import OPERATIONS
from tests.testing.api.base import PREFIX, ApiCase, Reply, request

WORDS = ("name", "do", "fault", "settings", "held", "seconds", "content", "sample", "passwords", "sdps",
         "unique_id", "command", "at", "code", "pop3", "close", "error")
VALUES = (st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9)
          | st.sampled_from(WORDS))
BODIES = st.recursive(VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
    st.sampled_from(WORDS), inner, max_size=4), max_leaves=8)


class AccessTests(ApiCase):
    def test_token(self) -> None:
        """Every operation is closed without the token, known or not, and so is what there is not."""
        wrong: list[dict[str, str | None]] = [
            {"Authorization": None}, {"Authorization": "Bearer"}, {"Authorization": f"Basic {self.token}"},
            {"Authorization": f"Bearer {self.token[:-1]}"}, {"Authorization": f"Bearer {self.token}x"},
            {"Authorization": None, "Cookie": "mailgate_harness=x"}]
        for headers in wrong:
            reply = self.ask(401, "GET", "/server", headers=headers)
            self.assertEqual(reply.headers["WWW-Authenticate"].split()[0], "Bearer")
            self.assertNotIn(self.token.encode(), reply.octets)
        for method, path in [(one.method, one.path) for one in OPERATIONS] + [
                ("GET", "/events"), ("GET", "/none"), ("OPTIONS", "/server"), ("HEAD", "/server")]:
            self.ask(401, method, path, headers={"Authorization": None})
        self.ask(401, "GET", f"/server?token={self.token}", headers={"Authorization": None})
        self.assertEqual(self.ask(200, "GET", "/sessions").json["count"], 0)

    def test_host(self) -> None:
        """A request that names another host than this is no request to this: DNS rebinding comes so."""
        for host in ("mail.example.org", f"mail.example.org:{self.port}", "127.0.0.1", "127.0.0.1:1",
                     f"127.0.0.1.example.org:{self.port}"):
            self.ask(421, "GET", "/server", headers={"Host": host})
        for host in ("127.0.0.1", "localhost", "LOCALHOST", "[::1]"):
            self.ask(200, "GET", "/server", headers={"Host": f"{host}:{self.port}"})
        for path in ("//", "//none", "//console"):      # what is beside the API, too
            self.assertEqual(request("GET", path, headers={"Host": "evil.example"}).status, 421)

    def test_two_hosts_or_none(self) -> None:
        """Who names two hosts, or none, is refused."""
        line = f"GET {PREFIX}/server HTTP/1.1\r\nAuthorization: Bearer {self.token}\r\nConnection: close\r\n"
        ours = f"Host: 127.0.0.1:{self.port}\r\n"
        for wrong in (ours + "Host: evil.example\r\n", ""):
            self.assertIn(self.raw(line + wrong + "\r\n")[:12], (b"HTTP/1.1 421", b"HTTP/1.1 400"))
        self.assertEqual(self.raw(line + ours + "\r\n")[:12], b"HTTP/1.1 200")

    def raw(self, octets: str) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), 20) as connection:
            connection.sendall(octets.encode())
            return connection.makefile("rb").read()

    def test_origin(self) -> None:
        """A page of another origin is refused, though it has the token; no answer invites one."""
        ours = f"http://127.0.0.1:{self.port}"
        self.ask(200, "GET", "/server", headers={"Origin": ours})
        for origin in ("http://evil.example", "null", ours + "0", "https://127.0.0.1", "http://127.0.0.1",
                       f"http://localhost:{self.port}"):
            reply = self.ask(403, "GET", "/server", headers={"Origin": origin})
            self.assertNotIn("access-control", str(reply.headers).lower())
            self.ask(403, "OPTIONS", "/server", headers={"Origin": origin})
        for site in ("cross-site", "same-site"):
            self.ask(403, "GET", "/server", headers={"Sec-Fetch-Site": site})
            self.ask(403, "GET", "/server", headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"})
        self.ask(200, "GET", "/server", headers={"Sec-Fetch-Site": "same-origin", "Origin": ours})

    def test_answers_cannot_be_used_by_pages(self) -> None:
        """Answers are no scripts, no frames, and are kept by nobody."""
        for path in ("/server", "/none"):
            headers = request("GET", path).headers
            self.assertEqual((headers["X-Content-Type-Options"], headers["Cache-Control"]),
                             ("nosniff", "no-store"))
            self.assertIn("frame-ancestors 'none'", headers["Content-Security-Policy"])


class RequestTests(ApiCase):
    def problem(self, status: int, method: str, path: str, body: object = None,
                headers: dict[str, str | None] | None = None) -> Reply:
        reply = self.ask(status, method, path, body, headers)
        self.assertEqual(reply.headers["Content-Type"], "application/problem+json")
        self.assertEqual(set(reply.json), {"type", "title", "status", "detail", "problems"})
        self.assertEqual(reply.json["status"], status)
        return reply

    def test_paths(self) -> None:
        """What there is not is 404; what cannot be done there 405, and it is told what can."""
        for path in ("/none", "/server/x", "/", "", "/accounts//", "/sessions/1/none"):
            self.problem(404, "GET", path)
        self.problem(404, "GET", "//none")
        self.assertEqual(self.problem(405, "DELETE", "/accounts").headers["Allow"],
                         "GET, POST, HEAD, OPTIONS")
        self.assertEqual(self.problem(405, "PATCH", "/scenario").headers["Allow"],
                         "GET, PUT, DELETE, HEAD, OPTIONS")
        self.assertEqual(self.problem(405, "POST", "/events").headers["Allow"], "GET")

    def test_options_and_head(self) -> None:
        """OPTIONS tells what can be done, HEAD what GET would answer, without it."""
        reply = self.ask(204, "OPTIONS", "/faults")
        self.assertEqual((reply.headers["Allow"], reply.octets), ("GET, POST, DELETE, HEAD, OPTIONS", b""))
        got, head = self.ask(200, "GET", "/accounts"), self.ask(200, "HEAD", "/accounts")
        self.assertEqual((head.octets, head.headers["Content-Length"]), (b"", str(len(got.octets))))
        self.assertEqual(self.ask(404, "HEAD", "/none").octets, b"")

    def test_parameters(self) -> None:
        """A parameter that is unknown or out of range is refused with its place."""
        for written, place in (("limit=0", "limit"), ("limit=1001", "limit"), ("limit=x", "limit"),
                               ("limit=1.5", "limit"), ("wait=ended", "wait"), ("wait=", "wait"),
                               ("timeout=61", "timeout"), ("timeout=NaN", "timeout"),
                               ("secret=true", "secret"), ("secrets=yes", "secrets"),
                               ("secrets=1", "secrets"), ("after=-1", "after")):
            self.assertEqual(self.problem(400, "GET", f"/sessions?{written}").places, [f"query.{place}"],
                             written)
        self.assertEqual(len(self.problem(400, "GET", "/sessions?limit=0&x=1&x=2").places), 3)

    def test_bodies(self) -> None:
        """No JSON is 400; another media type 415; JSON that says the wrong thing 422, with every place."""
        for wrong in (b"", b"{", b"\xff", b"{} x", b'{"name": NaN}', b"[" * 100_000):
            self.problem(400, "POST", "/accounts", wrong)
        for media in (None, "text/plain", "application/x-www-form-urlencoded",
                      "multipart/form-data; boundary=x"):
            reply = self.problem(415, "POST", "/accounts", b'{"name": "mrose"}', {"Content-Type": media})
            self.assertEqual(reply.headers["Accept"], "application/json")
        self.ask(201, "POST", "/accounts", b'{"name": "mrose"}', {
            "Content-Type": "Application/JSON; charset=utf-8"})
        for wrong, places in (
                (b"[]", [""]), (b"null", [""]), (b"{}", ["name"]), (b'{"name": ""}', ["name"]),
                (b'{"name": 1, "adresses": []}', ["name", "adresses"]),
                (b'{"name": "x", "addresses": ["a@b", 1]}', ["addresses[1]"]),
                (b'{"name": "x", "sdps": 1}', ["sdps"])):
            self.assertEqual(self.problem(422, "POST", "/accounts", wrong).places, places)
        self.problem(400, "POST", "/accounts", b'{"name": "\\ud800"}')
        self.assertEqual(self.problem(422, "POST", "/maildrops/x/messages", {}).places, ["content"])
        self.assertEqual(self.problem(422, "POST", "/maildrops/x/messages", {
            "content_base64": "?"}).places, ["content_base64"])
        self.assertEqual(self.problem(422, "POST", "/maildrops/x/messages", {
            "content": "", "unique_id": "a b", "arrived": 1e308, "sender": "a\r\nb"}).places,
            ["unique_id", "arrived", "sender"])

    def test_what_no_account_can_be(self) -> None:
        """Names and addresses that there cannot be are the request's fault, not the harness's."""
        for body in ({"name": "a b\n"}, {"name": "x" * 1000}, {"name": "x", "addresses": ["no address"]},
                     {"name": "\u0000"}, {"name": "../x"}):
            self.problem(409, "POST", "/accounts", body)

    def test_too_much(self) -> None:
        """A body past the limit is 413, where its length is declared; it is not kept."""
        self.problem(413, "POST", "/maildrops/x/messages", bytes(BODY_OCTETS + 1), {
            "Content-Type": "message/rfc822"})

    def test_too_much_in_chunks(self) -> None:
        """As before, where the length was not told."""
        head = (f"POST {PREFIX}/accounts HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nConnection: close\r\n"
                f"Authorization: Bearer {self.token}\r\nContent-Type: application/json\r\n"
                "Transfer-Encoding: chunked\r\n\r\n").encode()
        chunk = b"100000\r\n" + bytes(0x100000) + b"\r\n"
        with socket.create_connection(("127.0.0.1", self.port), 20) as connection:
            connection.sendall(head)
            for _ in range(BODY_OCTETS // 0x100000 + 1):
                connection.sendall(chunk)
            connection.sendall(b"0\r\n\r\n")
            self.assertTrue(connection.recv(100).startswith(b"HTTP/1.1 413 "))

    def test_body_of_a_stranger(self) -> None:
        """Of a request without the token no body is kept, however large it says that it is."""
        kept: list[int] = []
        write = Body.write
        self.patch(Body, "write", lambda body, octets: (write(body, octets), kept.append(
            len(body.getvalue())))[0])
        for authorization, most in ((None, 0), (f"Bearer {self.token}", 1 << 20)):
            reply = request("POST", "/accounts", bytes(1 << 20), headers={"Authorization": authorization})
            self.assertEqual((reply.status, max(kept)), (400 if most else 401, most))

    @settings(deadline=None, max_examples=60)
    @given(st.sampled_from([one for one in OPERATIONS if one.body is not None]), BODIES)
    def test_no_body_is_a_bug(self, operation: Operation, body: object) -> None:
        """Whatever JSON comes, it is carried out or refused: nothing of it breaks the harness."""
        method, path = operation.method, operation.path.replace("{name}", "mrose")
        reply = request(method, path, json.dumps(body).encode())
        self.assertIn(reply.status, (200, 201, 400, 404, 409, 422), (method, path, body, reply))
        if reply.status >= 400:
            self.assertTrue(reply.json["detail"])
