"""Who may speak to a console: who knows its token, and no stranger's web page.

Every program of a machine, and every page in its browsers, can send requests to what listens there. The
token keeps programs out; pages are known by the Host, Origin and Sec-Fetch-Site that the browser writes.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

TOKEN_OCTETS = 32
COOKIE = b"mailgate_console"


class Access:
    """Judges requests. `port` is set once it is known.

    A cookie belongs to a host and not to a port: each server of a machine has a name for its own. It is
    not the token, which it cannot be turned into. `names`: host names by which browsers may come, beside
    `localhost` and any address: a page of elsewhere whose name was made to lead here (DNS rebinding) comes
    by a name.
    """

    def __init__(self, token: str | None = None, *, names: Sequence[str] = (), cookie: bytes = COOKIE
                 ) -> None:
        self.token = token or secrets.token_urlsafe(TOKEN_OCTETS)
        self.port = 0
        self._names = {"localhost", *(name.lower() for name in names)}
        self._cookie = cookie

    @property
    def cookie_name(self) -> bytes:
        """The cookie that this server sets."""
        return self._cookie + b"_%d" % self.port

    @property
    def _cookie_value(self) -> bytes:
        return hmac.new(self.token.encode(), b"cookie", "sha256").hexdigest().encode()

    def give_cookie(self, request: Any) -> None:
        """Let the browser that asked in from now on; it has shown the token."""
        request.addCookie(self.cookie_name, self._cookie_value, path=b"/", httpOnly=True,
                          sameSite=b"strict", secure=request.isSecure())

    def take_cookie(self, request: Any) -> None:
        """Let the browser forget it."""
        request.addCookie(self.cookie_name, b"", path=b"/", max_age=b"0", httpOnly=True, sameSite=b"strict")

    def is_token(self, word: bytes) -> bool:
        """Whether this is the token; takes as long whichever octet is wrong."""
        return hmac.compare_digest(word, self.token.encode())

    def authorized(self, request: Any) -> bool:
        """Whether a request shows the token: `Authorization: Bearer TOKEN`, or the cookie."""
        for value in request.requestHeaders.getRawHeaders(b"authorization", ()):
            scheme, _, word = value.partition(b" ")
            if scheme.lower() == b"bearer" and self.is_token(word.strip()):
                return True
        cookie = request.getCookie(self.cookie_name)
        return cookie is not None and hmac.compare_digest(cookie, self._cookie_value)

    def is_our_host(self, request: Any) -> bool:
        """Whether the request names this server, by an address or a name that it is known by."""
        hosts = request.requestHeaders.getRawHeaders(b"host", ())
        return len(hosts) == 1 and self._is_ours(hosts[0].decode("latin-1").lower())

    def _is_ours(self, host: str) -> bool:
        bare = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        if bare in self._names:
            return True
        try:
            ip_address(bare.removeprefix("[").removesuffix("]"))
        except ValueError:
            return False
        return True

    def is_our_page(self, request: Any) -> bool:
        """Whether it comes from a page of this server, or from no page."""
        headers = request.requestHeaders
        if any(one not in (b"same-origin", b"none") for one in headers.getRawHeaders(b"sec-fetch-site", ())):
            return False
        host = headers.getRawHeaders(b"host", (b"",))[0].decode("latin-1").lower()
        return all(origin.decode("latin-1").lower() in (f"http://{host}", f"https://{host}")
                   for origin in headers.getRawHeaders(b"origin", ()))
