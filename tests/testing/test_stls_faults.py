"""STLS that goes wrong on command, and what surrounds it."""

from __future__ import annotations

import poplib
import socket
import ssl
import subprocess

from tests.needs import needs
from tests.testing.tls_clients import WAIT_SECONDS, FaultCase


class UpgradeTests(FaultCase):
    """STLS and what surrounds it."""

    def test_refused(self) -> None:
        """Announced, and refused."""
        with self.server.fault("stls", how="refused"):
            refused = self.assertRaises(poplib.error_proto, self.fetch, stls=True)
        self.assertEqual(refused.args, (b"-ERR command not known",))
        self.assertIn(b"\r\nSTLS\r\n", self.record().said("S"))

    def test_hidden(self) -> None:
        """Not announced, so that clients do not ask; who does all the same is inside TLS."""
        with self.server.fault("stls", how="hidden"):
            refused = self.assertRaises(poplib.error_proto, self.fetch, stls=True)
            self.assertEqual(refused.args, ("-ERR STLS not supported by server",))
            self.assertNotIn(b"\r\nSTLS\r\n", self.record().said("S"))
            client = socket.create_connection(self.server.pop3, timeout=WAIT_SECONDS)
            self.addCleanup(client.close)
            client.recv(100)
            client.sendall(b"STLS\r\n")
            self.assertTrue(client.recv(100).startswith(b"+OK"))
            self.trusting().wrap_socket(client, server_hostname="localhost").close()

    def test_stripped(self) -> None:
        """Who insists on TLS gives up with no word of a password; curl ends with 64."""
        curl = needs("curl")
        with self.server.fault("stls", how="stripped"):
            fetched = subprocess.run(
                [curl, "-sS", "--ssl-reqd", "--cacert", self.server.ca_file, "-u", "mrose:secret",
                 f"pop3://localhost:{self.server.pop3[1]}/1"], capture_output=True, check=False,
                timeout=WAIT_SECONDS, text=True)
            self.assertEqual(fetched.returncode, 64, fetched.stderr)
            record = self.record()
            self.assertFalse({"USER", "PASS", "AUTH"} & set(record.verbs), record.verbs)
            client = self.connected()
            self.assertNotIn("STLS", client.capa())
            self.assertRaises(poplib.error_proto, client._shortcmd, "STLS")     # type: ignore[attr-defined]

    def test_injected(self) -> None:
        """Replies that come in clear behind +OK, in one segment with it; the handshake is a good one."""
        client = socket.create_connection(self.server.pop3, timeout=WAIT_SECONDS)
        self.addCleanup(client.close)
        client.recv(100)
        with self.server.fault("stls", how="injected", octets="+OK one\r\n+OK two\r\n"):
            client.sendall(b"STLS\r\n")
            self.assertEqual(client.recv(1000), b"+OK begin TLS\r\n+OK one\r\n+OK two\r\n")
            secured = self.trusting().wrap_socket(client, server_hostname="localhost")
            secured.sendall(b"USER mrose\r\n")
            self.assertEqual(secured.recv(100), b"+OK send the password\r\n")
            secured.close()
        event = next(event for event in self.record().events if b"+OK one" in event.octets)
        self.assertEqual((event.tls, event.faults), (False, ("stls",)))

    def test_injected_into_poplib(self) -> None:
        """poplib forgets what came in clear: the answer to USER is the one from inside TLS."""
        with self.server.fault("stls", how="injected", octets="+OK i am the server\r\n"):
            client = self.connected()
            client.stls(self.trusting(check_hostname=False))
            self.assertEqual(client.user("mrose"), b"+OK send the password")
            client.quit()

    def test_plaintext(self) -> None:
        """+OK, and then no TLS: the handshake is taken for commands."""
        with self.server.fault("stls", how="plaintext"):
            refused = self.assertRaises(ssl.SSLError, self.fetch, stls=True)
        self.assertIn(refused.reason, ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"))
        self.assertFalse(self.record().tls)

    def test_other_capabilities_inside(self) -> None:
        """What CAPA says may depend on TLS; and USER be refused before it."""
        self.server.fault("capabilities", tls=False, hide="USER")
        self.server.fault("error", tls=False, command="USER", text="not in clear")
        self.server.fault("capabilities", tls=True, add="X-INSIDE")
        client = self.connected()
        self.assertNotIn("USER", client.capa())
        self.assertRaises(poplib.error_proto, client.user, "mrose")
        client.stls(self.trusting(check_hostname=False))
        self.assertTrue({"USER", "X-INSIDE"} <= set(client.capa()))
        self.assertTrue(client.user("mrose").startswith(b"+OK"))
        client.quit()
