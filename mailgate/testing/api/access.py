"""Who may speak to a harness over HTTP: who knows its token, and no stranger's web page."""

from __future__ import annotations

from typing import Any

from mailgate.console.access import Access as ConsoleAccess

ADDRESS = "127.0.0.1"
PREFIX = "/api/v1"
COOKIE = b"mailgate_harness"
NAMES = ("127.0.0.1", "localhost", "[::1]")     # under which loopback is spoken to


class Access(ConsoleAccess):
    """Judges requests, more strictly than where a proxy may stand in front.

    `port` is set once it is known.
    """

    def __init__(self, token: str | None = None) -> None:
        super().__init__(token, cookie=COOKIE)

    @property
    def url(self) -> str:
        """Where everything is served, without a slash at its end."""
        return f"http://{ADDRESS}:{self.port}"

    @property
    def base(self) -> str:
        """Where the API begins."""
        return self.url + PREFIX

    def is_our_host(self, request: Any) -> bool:
        """Whether the request names this server; if not, a foreign name leads here (DNS rebinding)."""
        hosts = request.requestHeaders.getRawHeaders(b"host", ())
        return len(hosts) == 1 and hosts[0].decode("latin-1").lower() in {
            f"{name}:{self.port}" for name in NAMES}

    def is_our_page(self, request: Any) -> bool:
        """Whether it comes from a page of this server, or from no page, or somebody follows a link to one."""
        return super().is_our_page(request) or (
            request.method == b"GET" and not request.path.startswith(PREFIX.encode())
            and request.getHeader(b"sec-fetch-mode") == b"navigate"
            and not request.requestHeaders.hasHeader(b"origin"))
