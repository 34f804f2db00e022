"""Pages and their files, with headers that let a browser do nothing but what they are for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.web.error import UnsupportedMethod
from twisted.web.resource import Resource

TYPES: Mapping[str, str] = {
    ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
# Nothing is loaded from elsewhere, no script or style stands in a page, nobody frames it.
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
          "img-src 'self' data:; frame-src 'self'; base-uri 'none'; form-action 'self'; "
          "frame-ancestors 'none'")
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-DNS-Prefetch-Control": "off",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
SHARED = Path(__file__).parent / "static"


def protect(request: Any, **others: str) -> None:
    """Give a response the headers; `others` replace some, named with `_` for `-`."""
    changed = {name.replace("_", "-").lower(): value for name, value in others.items()}
    for name, value in HEADERS.items():
        value = changed.get(name.lower(), value)
        if value:
            request.setHeader(name, value)


def answer_json(request: Any, value: object, code: int = 200) -> bytes:
    """Answer with JSON."""
    protect(request)
    request.setResponseCode(code)
    request.setHeader("Content-Type", "application/json")
    return json.dumps(value).encode()


def refuse(request: Any, code: int, words: str) -> bytes:
    """Answer with an error, told as the API of the harness tells its own."""
    return answer_json(request, {"status": code, "detail": words}, code)


class Ours(Resource):
    """Something whose refusals are ours as well: Twisted's own pages carry none of the headers."""

    def getChild(self, path: bytes, request: Any) -> Resource:
        """Return what is at a path where nothing was put."""
        return Nothing()

    def render(self, request: Any) -> Any:
        """Answer a request. To HEAD without a body, which Twisted would log."""
        try:
            answer = super().render(request)
        except UnsupportedMethod as fault:
            request.setHeader("Allow", b", ".join(fault.allowedMethods))
            return refuse(request, 405, "this cannot be done here")
        if request.method == b"HEAD" and isinstance(answer, bytes):
            request.setHeader("Content-Length", str(len(answer)))
            return b""
        return answer


class Nothing(Resource):
    """There is no such thing, and nothing below it."""

    isLeaf = True

    def render(self, request: Any) -> bytes:
        """Say so."""
        answer = refuse(request, 404, "there is no such page")
        return b"" if request.method == b"HEAD" else answer


class File(Ours):
    """One file, read when it is made."""

    isLeaf = True

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._octets = path.read_bytes()
        self._type = TYPES[path.suffix]

    def render_GET(self, request: Any) -> bytes:
        """Return the file."""
        protect(request)
        request.setHeader("Content-Type", self._type)
        return self._octets


class Files(Ours):
    """All files of some folders that a browser may have."""

    def __init__(self, *folders: Path) -> None:
        super().__init__()
        for folder in folders:
            for path in sorted(folder.iterdir()):
                if path.suffix in TYPES and path.suffix != ".html":
                    self.putChild(path.name.encode(), File(path))


class SignIn(Ours):
    """Where a browser shows the token, and gets a cookie for it; DELETE lets the cookie go."""

    isLeaf = True

    def __init__(self, access: Any) -> None:
        super().__init__()
        self._access = access

    def render_POST(self, request: Any) -> bytes:
        """Take a token by `Authorization: Bearer`."""
        if not (self._access.is_our_host(request) and self._access.is_our_page(request)):
            return refuse(request, 403, "this comes from elsewhere")
        if not self._access.authorized(request):
            return refuse(request, 401, "this is not the token")
        self._access.give_cookie(request)
        return answer_json(request, {})

    def render_DELETE(self, request: Any) -> bytes:
        """Sign out."""
        if not (self._access.is_our_host(request) and self._access.is_our_page(request)):
            return refuse(request, 403, "this comes from elsewhere")
        self._access.take_cookie(request)
        return answer_json(request, {})
