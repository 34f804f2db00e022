"""Test a mail client with Python's own unittest and poplib: `python -m unittest test_client.py`"""

import json
import os
import poplib
import ssl
import subprocess
import unittest
import urllib.request


class Harness:
    """A mailgate of this test alone. It ends with the test, however the test ends."""

    def __init__(self, *options):
        self.process = subprocess.Popen(["mailgate", "harness", *options], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        self.about = json.loads(self.process.stdout.readline())     # ports, ca_file, api, token ...

    def ask(self, method, path, body=None):
        """Ask the API; return what it answers."""
        request = urllib.request.Request(
            self.about["api"] + path, None if body is None else json.dumps(body).encode(), method=method,
            headers={"Authorization": f"Bearer {self.about['token']}", "Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.loads(response.read() or "null")

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


def fetch_mail(host, port, ca_file, user, password):
    """The client that is tested: fetch all mail, and delete what was fetched."""
    client = poplib.POP3(host, port, timeout=10)
    client.stls(ssl.create_default_context(cafile=ca_file))
    client.user(user)
    client.pass_(password)
    fetched = []
    for number in range(1, client.stat()[0] + 1):
        try:
            fetched.append(b"\n".join(client.retr(number)[1]))
        except poplib.error_proto:
            if "BROKEN_CLIENT" not in os.environ:
                continue        # try again the next time
        client.dele(number)
    client.quit()
    return fetched


class ClientTests(unittest.TestCase):
    def setUp(self):
        self.harness = Harness("--account", "mrose:secret")
        self.addCleanup(self.harness.close)

    def test_message_that_cannot_be_fetched_stays(self):
        ids = [self.harness.ask("POST", "/maildrops/mrose/messages", {
            "content": f"Subject: {subject}\n\nhello\n"})["unique_id"] for subject in ("one", "two")]
        self.harness.ask("POST", "/faults", {"do": "error", "command": "RETR 1", "code": "SYS/TEMP"})

        about = self.harness.about
        fetched = fetch_mail("localhost", about["ports"]["pop3"], about["ca_file"], "mrose", "secret")

        self.assertEqual(fetched, [b"Subject: two\n\nhello"])
        session = self.harness.ask("GET", "/sessions/latest?wait=ended")
        self.assertTrue(session["tls"])
        self.assertEqual(session["end"], "QUIT")
        self.assertEqual(session["deleted"], [ids[1]])


if __name__ == "__main__":
    unittest.main()
