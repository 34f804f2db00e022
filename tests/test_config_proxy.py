"""`proxy_from` and `proxy_tls`: who is trusted with the client's address."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailgate.config import ListenSection, parse
from mailgate.errors import ConfigurationError
from mailgate.testing.certificates import Authority

FOLDER = Path("/srv/mail")
TEXT = """
hostname = "mail.example.org"
[tls]
certificate = "cert.pem"
key = "key.pem"
[[listen]]
protocol = "lmtp"
endpoint = "unix:lmtp"
[[listen]]
protocol = "{protocol}"
endpoint = "{endpoint}"
{lines}
"""


def read(lines: str, protocol: str = "pop3", endpoint: str = "tcp:1110") -> ListenSection:
    """Return the second listener of a configuration."""
    text = TEXT.format(lines=lines, protocol=protocol, endpoint=endpoint)
    return parse(text.encode(), folder=FOLDER).listen[1]


class ProxyTests(SynchronousTestCase):
    def problem(self, lines: str, **listener: str) -> str:
        """Return the one thing that is wrong."""
        with self.assertRaises(ConfigurationError, msg=lines) as caught:
            read(lines, **listener)
        [problem] = caught.exception.problems
        return problem

    def test_networks(self) -> None:
        """Addresses, networks and unix sockets."""
        listener = read('proxy_from = ["10.0.0.0/8", "192.0.2.7", "::1", "2001:db8::/32", "unix"]')
        self.assertEqual(listener.proxy_from, (
            ip_network("10.0.0.0/8"), ip_network("192.0.2.7/32"), ip_network("::1/128"),
            ip_network("2001:db8::/32"), "unix"))
        self.assertEqual((read("").proxy_from, read("").proxy_tls), (None, None))
        self.assertIs(read('proxy_from = ["unix"]\nproxy_tls = true').proxy_tls, True)
        for protocol in ("pop3s", "lmtp"):
            self.assertTrue(read('proxy_from = ["::1"]', protocol).proxy_from)

    def test_bad_networks(self) -> None:
        """Each is told with its place; what trusts everybody, or could never match, is refused too."""
        for value, words in {
            '["10.0.0.1/8"]': "the network is 10.0.0.0/8",
            '["2001:db8::1/32"]': "the network is 2001:db8::/32",
            '["10.0.0.0/33"]': "no network", '["10.0.0"]': "no network", '["10.0.0.01"]': "no network",
            '["balancer.example.org"]': "no network", '["unix:/run/x"]': "no network", '["*"]': "no network",
            '["fe80::1%eth0"]': "an interface", '["10.0.0.0/8, ::1"]': "no network",
            '["0.0.0.0/0"]': "everybody", '["10.0.0.0/8", "::/0"]': "everybody",
            '["::ffff:10.0.0.0/104"]': "is of IPv4",
            '[""]': "empty", "[]": "the array is empty", '"10.0.0.0/8"': "an array", "[10]": "a string",
            "true": "an array",
        }.items():
            problem = self.problem(f"proxy_from = {value}")
            self.assertTrue(problem.startswith("listen[1].proxy_from: "), problem)
            self.assertIn(words, problem)

    def test_contradictions(self) -> None:
        """What would not be done, or not safely."""
        where = "listen[1].proxy_"
        self.assertIn(where + "tls: has no meaning without", self.problem("proxy_tls = true"))
        self.assertIn(where + "tls: true or false", self.problem('proxy_from = ["::1"]\nproxy_tls = "yes"'))
        self.assertIn(where + "tls: has no meaning where", self.problem(
            'proxy_from = ["::1"]\nproxy_tls = true', protocol="pop3s"))
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        Authority().issue("mail.example.org").write(folder, "all.pem", "all.pem")
        self.assertIn(where + "from: does not go with ssl:", self.problem(
            'proxy_from = ["::1"]', endpoint=f"ssl:1995:privateKey={folder}/all.pem"))
        for lines in ("", 'proxy_from = ["::1"]'):
            self.assertIn("listen[1].endpoint: haproxy: cannot serve here", self.problem(
                lines, endpoint="haproxy:tcp:1110"))
