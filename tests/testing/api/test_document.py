"""The OpenAPI document: it is one, every path of it is there, and real answers are as it says."""

from __future__ import annotations

import re
import smtplib
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailgate.cli.harness import harness
from mailgate.testing.api.openapi import REFUSALS
from mailgate.testing.api.schemas import SCHEMAS, WHEN
from mailgate.testing.api.table import OPERATIONS
from mailgate.testing.trouble import reading
from tests.needs import unavailable
from tests.running import ROOT
from tests.testing.api.base import ApiCase, Reply

try:
    from jsonschema import Draft202012Validator
    from openapi_spec_validator import validate
except ImportError:
    validate = None     # type: ignore[assignment]

MESSAGE = "Subject: 1\n\nhello\n"
# one request that succeeds for each operation, in this order: (method, path, body, media type)
WALK: tuple[tuple[str, str, Any, str], ...] = (
    ("GET", "/openapi.json", None, ""),
    ("GET", "/server", None, ""),
    ("POST", "/accounts", {"name": "mrose", "password": "secret"}, ""),
    ("GET", "/accounts", None, ""),
    ("POST", "/maildrops/mrose/messages", {"content": MESSAGE, "unique_id": "one", "arrived": 1e9}, ""),
    ("POST", "/maildrops/mrose/messages?unique_id=two", MESSAGE.encode(), "message/rfc822"),
    ("POST", "/maildrops/mrose/samples", {"sample": "dots"}, ""),
    ("GET", "/samples", None, ""),
    ("GET", "/maildrops", None, ""),
    ("GET", "/maildrops/mrose/messages?limit=1", None, ""),
    ("GET", "/maildrops/mrose/messages/one", None, ""),
    ("DELETE", "/maildrops/mrose/messages/one", None, ""),
    ("GET", "/kinds", None, ""),
    ("POST", "/faults", {"do": "error", "command": "DELE", "session": 7, "code": "IN-USE"}, ""),
    ("GET", "/faults", None, ""),
    ("GET", "/faults/1", None, ""),
    ("DELETE", "/faults/1", None, ""),
    ("GET", "/scenarios", None, ""),
    ("GET", "/scenarios/{scenario}", None, ""),
    ("PUT", "/scenario", {"name": "mine", "fault": [{"do": "error", "command": "TOP", "session": [8]}]}, ""),
    ("PUT", "/scenario", b'[[fault]]\ndo = "error"\ncommand = "TOP"\n', "application/toml"),
    ("GET", "/scenario", None, ""),
    ("LOGIN", "", None, ""),        # clients come and go
    ("GET", "/sessions", None, ""),
    ("GET", "/sessions/latest?wait=ended", None, ""),
    ("GET", "/sessions/1/events", None, ""),
    ("GET", "/sessions/1/transcript", None, ""),
    ("GET", "/deliveries", None, ""),
    ("GET", "/deliveries/latest?wait=ended", None, ""),
    ("GET", "/deliveries/1/events", None, ""),
    ("GET", "/deliveries/1/transcript", None, ""),
    ("GET", "/clock", None, ""),
    ("PUT", "/clock", {"held": True}, ""),
    ("POST", "/clock/advance", {"seconds": 1}, ""),
    ("DELETE", "/scenario", None, ""),
    ("DELETE", "/faults", None, ""),
    ("DELETE", "/maildrops/mrose/messages", None, ""),
    ("DELETE", "/accounts/mrose", None, ""),
    ("POST", "/reset", None, ""),
)
# requests that are refused, and how
REFUSED: tuple[tuple[int, str, str, Any], ...] = (
    (400, "GET", "/sessions?limit=0", None), (404, "GET", "/faults/9", None),
    (404, "DELETE", "/accounts/none", None), (409, "POST", "/accounts", {"name": "there"}),
    (422, "POST", "/faults", {"do": "none"}), (415, "PUT", "/clock", b"held"),
)


class DocumentTests(ApiCase):
    def setUp(self) -> None:
        super().setUp()
        if validate is None:
            unavailable("missing: openapi-spec-validator; install with: pip install -e '.[test]'")
        self.document = self.ask(200, "GET", "/openapi.json").json

    def test_is_openapi(self) -> None:
        """The document is sound by OpenAPI 3.1, and each of its schemas by JSON Schema."""
        validate(self.document)
        for schema in SCHEMAS.values():
            Draft202012Validator.check_schema(schema)

    def test_whole_document_is_answered(self) -> None:
        """Each operation of the document is carried out, and its real answer is as the document says."""
        walked: set[tuple[str, str]] = set()
        for method, path, body, media in WALK:
            if method == "LOGIN":
                client = self.client()
                client.retr(1)
                client.quit()
                with smtplib.LMTP(*self.server.lmtp, timeout=20) as sender:
                    sender.noop()
                continue
            path = path.replace("{scenario}", self.a_scenario())
            template, operation = self.operation(method, path)
            walked.add((method, template))
            success = next(int(status) for status in operation["responses"] if status < "300")
            reply = self.ask(success, method, path, body, {"Content-Type": media} if media else None)
            self.judge(operation, reply, f"{method} {path}")
        there = {(method.upper(), path) for path, methods in self.document["paths"].items()
                 for method in methods}
        self.assertEqual(there - walked, {("GET", "/events")})      # of which test_events.py tells

    def test_refusals(self) -> None:
        """Refusals are as the document says, too."""
        self.server.account("there", "secret")
        for status, method, path, body in REFUSED:
            media: dict[str, str | None] = {"Content-Type": "text/plain"} if isinstance(body, bytes) else {}
            reply = self.ask(status, method, path, body, {**media})
            self.judge(self.operation(method, path)[1], reply, f"{method} {path}")
        seen = {int(status) for methods in self.document["paths"].values() for one in methods.values()
                for status in one["responses"] if int(status) >= 400} - {426, 501}
        self.assertEqual(seen, set(REFUSALS))

    def a_scenario(self) -> str:
        found = self.ask(200, "GET", "/scenarios").json["scenarios"]
        if not found:
            unavailable("there is no scenario in the library")
        return str(found[0]["name"])

    def operation(self, method: str, path: str) -> tuple[str, Any]:
        """Return the operation of the document that a request means."""
        bare = path.partition("?")[0]
        for template, methods in self.document["paths"].items():
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), bare) and method.lower() in methods:
                return template, methods[method.lower()]
        raise self.failureException(f"the document has no {method} {path}")

    def judge(self, operation: Any, reply: Reply, where: str) -> None:
        """Hold an answer to the document."""
        said = operation["responses"][str(reply.status)]
        if "$ref" in said:
            said = self.document["components"]["responses"][said["$ref"].rpartition("/")[2]]
        if "content" not in said:
            self.assertEqual(reply.octets, b"", where)
            return
        media = reply.headers["Content-Type"].partition(";")[0]
        self.assertIn(media, said["content"], where)
        if not media.endswith("json"):
            return
        schema = {**said["content"][media]["schema"], "components": self.document["components"]}
        problems = [f"{list(one.absolute_path)}: {one.message}"
                    for one in Draft202012Validator(schema).iter_errors(reply.json)]
        self.assertEqual(problems, [], where)


class TableTests(SynchronousTestCase):
    def test_all_that_a_fault_is_asked(self) -> None:
        """The schema has every word that says when a fault acts."""
        self.assertEqual(set(WHEN), set(reading.WHEN))

    def test_manual(self) -> None:
        """The manual's table has every operation, in the document's words, all options and refusals."""
        text = " ".join((ROOT / "docs" / "testing" / "http-api.rst").read_text(encoding="utf-8").split())
        rows = [f"* - ``{one.method} {one.path[1:]}`` - {one.told} " for one in OPERATIONS]
        self.assertEqual([row for row in rows if row not in text], [])
        self.assertEqual(text.count("* - ``GET ") + text.count("* - ``P") + text.count("* - ``DELETE "),
                         len(rows) + 1)
        options = [option for parameter in harness.params for option in parameter.opts]
        self.assertEqual([one for one in options if f"``{one}" not in text and one != "--verbose"], [])
        self.assertEqual([status for status in REFUSALS if f"{status}" not in text], [])
