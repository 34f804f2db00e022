"""mailgate.compat.POP3 over real sockets: plain, under TLS, and with a STLS that a subclass adds."""

from __future__ import annotations

import datetime
import poplib
import ssl
import time
from collections.abc import Callable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet import reactor
from twisted.internet.protocol import ServerFactory
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mailgate.compat import POP3
from tests.net.mailboxes import ListMailbox, MailboxRealm, portal_for

LINES = 12_000
LARGE = b"Subject: large\r\n\r\n" + b"".join([b".%d %b\r\n" % (n, b"x" * 2000) for n in range(LINES)])
HELD_OCTETS = 16 << 20      # most that the kernel's buffers take of it, out of 24 MB
WAIT_SECONDS = 30
STILL_SECONDS = 0.2


def certificate() -> bytes:
    """Return a fresh self-signed certificate and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    serial = x509.random_serial_number()
    builder = x509.CertificateBuilder(name, name, key.public_key(), serial, now - day, now + day)
    signed = builder.sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


class SocketTests(TestCase):
    def setUp(self) -> None:
        self.mailbox = ListMailbox([LARGE])
        self.realm = MailboxRealm(self.mailbox)
        self.factory = ServerFactory()
        self.factory.noisy = False      # type: ignore[assignment]

    def listen(self, listen: Callable[..., Any], *options: Any, protocol: Any = POP3) -> int:
        """Serve the protocol class; return the port."""
        def build(address: Any) -> Any:
            server = protocol()
            server.factory, server.portal = self.factory, portal_for(self.realm)
            return server

        self.factory.buildProtocol = build      # type: ignore[method-assign]
        port = listen(0, self.factory, *options, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        number: int = port.getHost().port
        return number

    async def read(self, connect: Callable[[], poplib.POP3]) -> None:
        """Fetch the large message, first holding off, and delete it."""
        def client() -> tuple[int, bytes]:
            pop = connect()
            pop.user("mrose")
            pop.pass_("secret")
            pop._putcmd("RETR 1")       # type: ignore[attr-defined]
            pop._getresp()              # type: ignore[attr-defined]
            ahead = self.stillness()
            lines = []
            while (line := pop.file.readline()) != b".\r\n":        # type: ignore[attr-defined]
                lines.append(line.removeprefix(b"."))
            pop.dele(1)
            pop.quit()
            return ahead, b"".join(lines)

        ahead, message = await deferToThread(client)
        self.assertEqual(message, LARGE)
        self.assertLess(ahead, HELD_OCTETS)
        self.assertEqual(self.mailbox.calls, [("delete", 0), "sync"])
        self.assertEqual(self.realm.logouts, 1)

    def stillness(self) -> int:
        """Return how far the server has read once it reads no further."""
        file, before = self.mailbox.files[0], -1
        while not file.closed and (at := file.tell()) != before:
            before = at
            time.sleep(STILL_SECONDS)
        return len(LARGE) if file.closed else before

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context

    async def test_plain(self) -> None:
        port = self.listen(reactor.listenTCP)
        await self.read(lambda: poplib.POP3("127.0.0.1", port, timeout=WAIT_SECONDS))

    async def test_tls(self) -> None:
        port = self.listen(reactor.listenSSL, PrivateCertificate.loadPEM(certificate()).options())
        await self.read(lambda: poplib.POP3_SSL(
            "127.0.0.1", port, timeout=WAIT_SECONDS, context=self.context()))

    async def test_stls_of_a_subclass(self) -> None:
        options = PrivateCertificate.loadPEM(certificate()).options()

        class Own(POP3):
            AUTH_CMDS = [*POP3.AUTH_CMDS, b"STLS"]

            def listCapabilities(self) -> list[bytes]:
                return [*POP3.listCapabilities(self), b"STLS"]

            def do_STLS(self) -> None:
                self.successResponse("begin TLS")
                self.transport.startTLS(options)

        port = self.listen(reactor.listenTCP, protocol=Own)

        def connect() -> poplib.POP3:
            pop = poplib.POP3("127.0.0.1", port, timeout=WAIT_SECONDS)
            pop.stls(self.context())
            return pop

        await self.read(connect)


