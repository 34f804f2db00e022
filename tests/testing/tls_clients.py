"""Clients of Python that are careful about TLS, or not at all, against one harness."""

from __future__ import annotations

import poplib
import socket
import ssl
import warnings
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailgate.testing.harness.records import SessionRecord
from tests.testing.serving import served

WAIT_SECONDS = 60.0         # a client that waits for longer hangs
SOON_SECONDS = 0.2          # and one that is to see a stall


def drop(client: poplib.POP3) -> None:
    """Close a client's connection, whatever has become of it."""
    try:
        client.close()
    except OSError:
        pass        # its handshake has failed: the socket is gone


class FaultCase(SynchronousTestCase):
    """Clients against one server; what they see, and what it records of them."""

    def setUp(self) -> None:
        """Begin without faults and sessions."""
        self.server = served()

    def trusting(self, **more: Any) -> ssl.SSLContext:
        """Return what a careful client of Python uses."""
        context = ssl.create_default_context(cafile=self.server.ca_file)
        for name, value in more.items():
            setattr(context, name, value)
        return context

    def lax(self, ciphers: str = "ALL:eNULL") -> ssl.SSLContext:
        """Return a context that minds nothing."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
        return context

    def fetch(self, context: ssl.SSLContext | None = None, *, name: str = "localhost", stls: bool = False,
              seconds: float = WAIT_SECONDS) -> bytes:
        """Log in and fetch a message by poplib; return it. Raises: what the client does."""
        context = context or self.trusting()
        if stls:
            client = self.connected(name, seconds)
            try:
                client.stls(context)
            except Exception:
                drop(client)
                raise
        else:
            client = poplib.POP3_SSL(name, self.server.pop3s[1], context=context, timeout=seconds)
        try:
            client.user("mrose")
            client.pass_("secret")
            content = b"\r\n".join(client.retr(1)[1]) + b"\r\n"
            client.quit()
        finally:
            drop(client)
        return content

    def connected(self, name: str = "localhost", seconds: float = WAIT_SECONDS) -> poplib.POP3:
        """Return a client of plain POP3."""
        client = poplib.POP3(name, self.server.pop3[1], timeout=seconds)
        self.addCleanup(drop, client)
        return client

    def secure(self, context: ssl.SSLContext, **more: Any) -> ssl.SSLSocket:
        """Return a socket inside TLS. Raises: what the client does."""
        plain = socket.create_connection(self.server.pop3s, timeout=WAIT_SECONDS)
        self.addCleanup(plain.close)
        secured = context.wrap_socket(plain, server_hostname="localhost", **more)
        self.addCleanup(secured.close)
        return secured

    def notes(self) -> list[str]:
        """Return what the latest session's record tells beside octets."""
        return [event.text for event in self.record().events if event.who == "*"]

    def record(self) -> SessionRecord:
        """Return the latest session, once it has ended."""
        return self.server.session
