"""What is served at /console: the page and its files, the sign-in, and messages made fit to be shown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET

from mailgate.console.pages import SHARED, File, Files, Ours, SignIn, answer_json, protect, refuse
from mailgate.errors import NoSuchAccount
from mailgate.testing.console.letters import SHOWN_OCTETS, Letter, decoded, fields_of, read_letter, visible
from mailgate.testing.console.markup import FRAME_POLICY, clean, page_of

OWN = Path(__file__).parent / "static"
LISTED = 1000               # messages of a maildrop
HEAD_OCTETS = 16 * 1024     # of a message, in which a list looks for its subject
LINE_CHARACTERS = 200


class Console(Ours):
    """`/console` of one harness. `access` judges who asks (testing/api/access.py)."""

    def __init__(self, harness: Any, access: Any) -> None:
        super().__init__()
        self._page = File(OWN / "index.html")
        self.putChild(b"", self._page)
        self.putChild(b"static", Files(SHARED, OWN))
        self.putChild(b"session", SignIn(access))
        self.putChild(b"mail", Mail(harness, access))

    def render_GET(self, request: Any) -> bytes:
        """Return the page."""
        return self._page.render_GET(request)


class Mail(Ours):
    """`/console/mail/MAILDROP`: its messages as JSON.

    Below it `UNIQUE-ID`, one message; below that `html`, `source` and `part/NUMBER`.
    """

    isLeaf = True

    def __init__(self, harness: Any, access: Any) -> None:
        super().__init__()
        self._harness = harness
        self._access = access

    def render_GET(self, request: Any) -> bytes | int:
        """Return a message, or a part of it."""
        if not self._access.authorized(request):
            return refuse(request, 401, "the token is missing or wrong")
        names = [segment.decode("utf-8", "surrogateescape") for segment in request.postpath]
        Deferred.fromCoroutine(self._answer(request, names)).addErrback(self._failed, request)
        return NOT_DONE_YET

    async def _answer(self, request: Any, names: list[str]) -> None:
        if not names:
            self._send(request, refuse(request, 404, "a maildrop has to be named"))
            return
        if len(names) == 1:
            self._send(request, answer_json(request, {"messages": await self._listed(names[0])}))
            return
        content = await self._find(names[0], names[1])
        self._send(request, refuse(request, 404, "the message is not there any more") if content is None
                   else self._shown(request, content, names[2:]))

    async def _listed(self, maildrop: str) -> list[dict[str, Any]]:
        """Return what a maildrop holds, the first thousand: with more, nobody reads a list."""
        found = []
        contents = self._harness.store.octets_of(maildrop)
        for one in (await self._harness.messages(maildrop))[:LISTED]:
            letter = Letter(fields_of(contents.get(one.unique_id, b"")[:HEAD_OCTETS]))
            found.append({
                "number": one.number, "unique_id": one.unique_id.decode("ascii", "replace"),
                "octets": one.octets, "arrived": one.envelope.arrived_ms / 1000,
                "subject": letter.first("subject")[:LINE_CHARACTERS],
                "from": letter.first("from")[:LINE_CHARACTERS]})
        return found

    async def _find(self, maildrop: str, unique_id: str) -> bytes | None:
        for one in await self._harness.messages(maildrop):
            if one.unique_id == unique_id.encode("utf-8", "surrogateescape"):
                content: bytes = self._harness.store.octets_of(maildrop)[one.unique_id]
                return content
        return None

    def _failed(self, failure: Failure, request: Any) -> None:
        fault = failure.value
        self._send(request, refuse(request, 404, f"there is no such account: {fault}")
                   if isinstance(fault, NoSuchAccount) else
                   refuse(request, 500, f"a bug of the harness: {fault!r}"))

    def _send(self, request: Any, octets: bytes) -> None:
        if not request._disconnected:
            request.write(octets)
            request.finish()

    def _shown(self, request: Any, content: bytes, rest: list[str]) -> bytes:
        if not rest:
            return answer_json(request, told(content))
        if rest == ["source"]:
            return saved(request, "message.eml", content)
        letter = read_letter(content)
        if rest == ["html"] and letter.shown("text/html") is not None:
            # the frame's page stands alone: it may be shown in our page, and nothing else may
            protect(request, Content_Security_Policy=FRAME_POLICY, X_Frame_Options="SAMEORIGIN",
                    Cross_Origin_Opener_Policy="")
            request.setHeader("Content-Type", "text/html; charset=utf-8")
            return page_of(letter)
        if len(rest) == 2 and rest[0] == "part" and rest[1].isdecimal() and int(rest[1]) < len(letter.parts):
            part = letter.parts[int(rest[1])]
            return saved(request, part.name or f"part-{part.number}", part.octets)
        return refuse(request, 404, "the message has no such part")


def told(content: bytes) -> dict[str, Any]:
    """Return a message as the page shows it."""
    letter = read_letter(content)
    text, markup = letter.shown("text/plain"), letter.shown("text/html")
    cleaner = clean(letter) if markup is not None else None
    return {
        **{name: visible(letter.first(name)) for name in ("subject", "from", "to", "date")},
        "headers": [[visible(name), visible(_both(value))] for name, value in letter.fields],
        "text": None if text is None else visible(text.text[:SHOWN_OCTETS]),
        "text_cut": text is not None and len(text.text) > SHOWN_OCTETS,
        "html": markup is not None,
        "left_out": {"remote": cleaner.remote if cleaner else 0, "active": cleaner.active if cleaner else 0},
        "attachments": _attachments(letter),
        "problem": letter.problem,
        "octets": len(content),
        "source": visible(content[:SHOWN_OCTETS].decode("utf-8", "replace")),
        "source_cut": len(content) > SHOWN_OCTETS,
    }


def _both(value: str) -> str:
    """Return a field as it stands, and below it what it means, where that is something else."""
    meaning = decoded(value)
    return value if "=?" not in value or meaning == value else f"{value}\n= {meaning}"


def _attachments(letter: Letter) -> list[dict[str, Any]]:
    return [{"number": part.number, "name": part.name, "type": visible(part.type), "octets": len(part.octets)}
            for part in letter.attachments]


def saved(request: Any, name: str, octets: bytes) -> bytes:
    """Return octets that a browser saves and does not look at."""
    protect(request, Content_Security_Policy="sandbox; default-src 'none'")
    request.setHeader("Content-Type", "application/octet-stream")
    plain = re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)[:80].lstrip(".") or "part"
    request.setHeader("Content-Disposition",
                      f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(_safe(name), safe='')}")
    return octets


def _safe(name: str) -> str:
    """Return a file's name without a path, and without what cannot be seen."""
    return re.sub(r"[/\\\x00-\x1f\x7f\u202a-\u202e\u2066-\u2069]", "_", name)[:120].lstrip(".") or "part"
