"""The configuration: what is read, and that nothing wrong goes unsaid."""

from __future__ import annotations

from pathlib import Path

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.config import Config, load, parse
from mailgate.config.endpoints import absolute_endpoint, collide, split_endpoint
from mailgate.errors import ConfigurationError
from mailgate.pop3.policy import Limits
from mailgate.testing.certificates import Authority

FOLDER = Path("/srv/mail")
LEAST = """
hostname = "mail.example.org"
[[listen]]
protocol = "pop3"
endpoint = "tcp:1110:interface=127.0.0.1"
"""

TEN_MISTAKES = """
hostname = "mail example"
colour = "blue"
[store]
metadata = "mysql:mail.db"
lease_seconds = "60"
[[listen]]
protocol = "pop5"
endpoint = "tcp:1110:interface=127.0.0.1"
[[listen]]
protocol = "pop3"
endpoint = "tcp:eleven"
plaintext_login = "no"
[[listen]]
protocol = "lmtp"
endpoint = "tcp:1110"
[[checker]]
kind = "passwd-file"
[limits]
failure_delay_seconds = -1
"""


def problems_of(text: str) -> list[str]:
    """Return what is wrong with a configuration."""
    try:
        parse(text.encode(), folder=FOLDER)
    except ConfigurationError as fault:
        return fault.problems
    return []


def paths_of(text: str) -> set[str]:
    return {problem.partition(": ")[0] for problem in problems_of(text)}


class ReadTests(SynchronousTestCase):
    """A good file becomes sections."""

    def read(self, text: str) -> Config:
        return parse(text.encode(), folder=FOLDER)

    def test_least(self) -> None:
        """What is left out has its documented default, and one checker stands for the store."""
        config = self.read(LEAST)
        self.assertEqual(config.hostname, "mail.example.org")
        self.assertEqual(config.metadata_path, FOLDER / "mail.db")
        self.assertEqual(config.bodies_path, FOLDER / "bodies")
        self.assertEqual(config.store.lease_seconds, 60)
        self.assertIsNone(config.store.quota_octets)
        self.assertIsNone(config.listen[0].plaintext_login)
        self.assertEqual([one.name for one in config.checkers_of(config.listen[0])], ["store"])

    def test_defaults_agree_with_the_engine(self) -> None:
        """The limits that the protocol room has are those of the file, with the same defaults."""
        limits = self.read(LEAST).limits
        engine = Limits()
        for name in ("line_octets", "auth_line_octets", "backlog_octets", "bad_commands", "failed_logins",
                     "idle_seconds", "login_seconds", "progress_seconds", "failure_delay_seconds"):
            self.assertEqual(getattr(limits, name), getattr(engine, name), name)

    def test_everything(self) -> None:
        """Every kind of setting arrives as written."""
        config = self.read("""
            hostname = "mail.example.org"
            [store]
            metadata = "sqlite:/var/lib/mailgate/mail.db"
            bodies = "file:large"
            quota_octets = 1000000
            retention_days = 30
            [[listen]]
            protocol = "pop3"
            endpoint = "tcp:110"
            plaintext_login = false
            checkers = ["old", "store"]
            greeting = "pop3.demon.example ready"
            [[listen]]
            protocol = "lmtp"
            endpoint = "unix:run/lmtp:mode=660"
            [[checker]]
            kind = "store"
            [[checker]]
            name = "old"
            kind = "passwd-file"
            path = "passwd"
            [limits]
            failure_delay_seconds = 0
            idle_seconds = 900.5
            [pop3]
            expire = 30
            login_delay_seconds = 60
            last = true
            sdps = false
        """)
        self.assertEqual(config.metadata_path, Path("/var/lib/mailgate/mail.db"))
        self.assertEqual(config.bodies_path, FOLDER / "large")
        self.assertEqual(config.store.quota_octets, 1_000_000)
        self.assertEqual(config.expire_words, b"30")
        pop3, lmtp = config.listen
        self.assertIs(pop3.plaintext_login, False)
        self.assertEqual(pop3.greeting, "pop3.demon.example ready")
        self.assertEqual([one.name for one in config.checkers_of(pop3)], ["old", "store"])
        self.assertEqual([one.name for one in config.checkers_of(lmtp)], ["store", "old"])
        self.assertEqual(config.passwd_path(config.checkers_of(pop3)[0]), FOLDER / "passwd")
        self.assertEqual(config.endpoint_of(lmtp), "unix:/srv/mail/run/lmtp:mode=660")
        self.assertEqual((config.limits.failure_delay_seconds, config.limits.idle_seconds), (0.0, 900.5))
        self.assertEqual(config.pop3.login_delay_seconds, 60)
        self.assertEqual((config.pop3.last, config.pop3.sdps), (True, False))

    def test_expiry_is_what_is_enforced(self) -> None:
        """EXPIRE follows the retention; it can be kept silent, not invented (RFC 2449 section 6.7)."""
        self.assertEqual(self.read(LEAST).expire_words, b"NEVER")
        self.assertEqual(self.read(LEAST + "[store]\nretention_days = 7\n").expire_words, b"7")
        self.assertIsNone(self.read(LEAST + "[pop3]\nexpire = false\n").expire_words)
        self.assertEqual(self.read(LEAST + '[pop3]\nexpire = "NEVER"\n').expire_words, b"NEVER")

    def test_sections_are_frozen(self) -> None:
        """Nothing changes a configuration once it is read."""
        config = self.read(LEAST)
        with self.assertRaises(attrs.exceptions.FrozenInstanceError):
            config.store.lease_seconds = 1


class ProblemTests(SynchronousTestCase):
    """A bad file is told in full."""

    def test_ten_mistakes(self) -> None:
        """Ten mistakes of different kinds are reported at once, each with its path."""
        problems = problems_of(TEN_MISTAKES)
        self.assertEqual({problem.partition(": ")[0] for problem in problems}, {
            "hostname", "colour", "store.metadata", "store.lease_seconds", "listen[0].protocol",
            "listen[1].endpoint", "listen[1].plaintext_login", "listen[2].endpoint", "checker[0].path",
            "limits.failure_delay_seconds"})
        self.assertEqual(len(problems), 10)

    def test_syntax(self) -> None:
        """A file that is no TOML names its line; one that is no UTF-8 too."""
        self.assertEqual(problems_of('hostname = "a"\nlisten = [[\n')[0][:7], "line 3:")
        self.assertEqual(problems_of('hostname = "a"\nlisten == 3\n')[0][:7], "line 2,")
        with self.assertRaises(ConfigurationError) as caught:
            parse(b'hostname = "a"\n# caf\xe9\n', folder=FOLDER)
        self.assertEqual(caught.exception.problems, ["line 2: not UTF-8"])
        self.assertIn("ValueError", problems_of("listen = " + "9" * 5000)[0])
        self.assertIn("RecursionError", problems_of("listen = " + "[" * 5000)[0])

    def test_missing_file(self) -> None:
        with self.assertRaises(ConfigurationError) as caught:
            load(self.mktemp())
        self.assertEqual(caught.exception.problems, ["cannot be read: No such file or directory"])

    def test_empty_file(self) -> None:
        """What must be there is named."""
        self.assertEqual(paths_of(""), {"hostname", "listen"})

    def test_settings_of_later_versions(self) -> None:
        """What this version cannot do is said, not silently left undone."""
        problems = problems_of(LEAST + """
            [[listen]]
            protocol = "pop2"
            endpoint = "tcp:109"
        """)
        later = {problem.partition(": ")[0] for problem in problems if "not in this version" in problem}
        self.assertEqual(later, {"listen[1].protocol"})
        self.assertEqual(len(problems), len(later))

    def test_databases_of_a_server(self) -> None:
        """libpq's addresses are taken as they are; what is none is said without the password in it."""
        for address in ("postgresql://mail@h1,h2:5433/mail", "postgres://h1/mail?sslmode=verify-full",
                        "postgresql:///mail?service=mail", "postgresql://u:se%23cret@[::1]:5432/m"):
            config = parse((LEAST + f'[store]\nmetadata = "{address}"').encode(), folder=FOLDER)
            self.assertEqual(":".join(config.store.metadata), address)
            self.assertIsNone(config.metadata_path)
        for address in ("postgresql:mail", "postgresql:", "postgresql://u:secret@h/m#x",
                        "postgres://u:secret@h /m", "postgresql://u:secret@[h/m",
                        "postgresql://u@h/m?password=secret&x"):
            problem, = problems_of(LEAST + f'[store]\nmetadata = "{address}"')
            self.assertTrue(problem.startswith("store.metadata: "), problem)
            self.assertNotIn("secret", problem)

    def test_two_stores_in_one_database(self) -> None:
        """They are told apart by what a password has no part in."""
        one, other = "postgresql://u:secret@h1,h2/mail", "postgres://h1,h2/mail?password=p"
        text = '[store]\nmetadata = "{}"\n[stores.old]\nmetadata = "{}"\nbodies = "file:other"'
        problem, = problems_of(LEAST + text.format(one, other))
        self.assertIn("is the database of [store] already", problem)
        self.assertNotIn("secret", problem)
        self.assertEqual(problems_of(LEAST + text.format(one, "postgresql://h1,h2/old")), [])

    def test_wrong_types_everywhere(self) -> None:
        """A value of the wrong TOML type is a problem at its own path, and never a traceback."""
        cases = {
            "hostname = 5": "hostname",
            "store = 5": "store",
            "listen = 5": "listen",
            "listen = [5]": "listen[0]",
            "checker = {kind = 'store'}": "checker",
            "limits = []": "limits",
            "pop3 = true": "pop3",
            "store = {bodies = []}": "store.bodies",
            "store = {lease_seconds = true}": "store.lease_seconds",
            "store = {lease_seconds = 1.5}": "store.lease_seconds",
            "store = {retention_days = 0}": "store.retention_days",
            "limits = {idle_seconds = nan}": "limits.idle_seconds",
            "limits = {idle_seconds = '600'}": "limits.idle_seconds",
            "limits = {line_octets = 100}": "limits.line_octets",
            "pop3 = {expire = true}": "pop3.expire",
            "pop3 = {expire = 'SOON'}": "pop3.expire",
            "pop3 = {last = 1}": "pop3.last",
            "listen = [{protocol = 'pop3', endpoint = 'tcp:1', checkers = 'store'}]": "listen[0].checkers",
            "listen = [{protocol = 'pop3', endpoint = 'tcp:1', checkers = []}]": "listen[0].checkers",
            "listen = [{protocol = 'pop3', endpoint = 'tcp:1', greeting = 'a <b@c>'}]": "listen[0].greeting",
            "listen = [{protocol = 'pop3', endpoint = 'tcp:1', greeting = '\u00e9'}]": "listen[0].greeting",
            "listen = [{protocol = 'pop3', endpoint = 'tcp:70000'}]": "listen[0].endpoint",
            "listen = [{protocol = 'pop3', endpoint = 'tcp'}]": "listen[0].endpoint",
            "listen = [{protocol = 'pop3', endpoint = 'tcp:1:frob=2'}]": "listen[0].endpoint",
            "listen = [{protocol = 'pop3', endpoint = 'ssl:995:privateKey=/nowhere'}]": "listen[0].endpoint",
            "listen = [{protocol = 'pop3', endpoint = 'systemd:domain=INET'}]": "listen[0].endpoint",
            "listen = [{protocol = 'pop3', endpoint = 'a\\\\'}]": "listen[0].endpoint",
            "checker = [{kind = 'radius'}]": "checker[0].kind",
            "checker = [{kind = 'store', path = 'x'}]": "checker[0].path",
            "checker = [{kind = 'store'}, {kind = 'store'}]": "checker[1].name",
        }
        for text, path in cases.items():
            self.assertIn(path, paths_of(text), text)

    def test_contradictions(self) -> None:
        """Settings that are good by themselves may exclude one another."""
        self.assertEqual(paths_of(LEAST + "[pop3]\nexpire = 30\n"), {"pop3.expire"})
        retained = LEAST + "[store]\nretention_days = 31\n"
        self.assertEqual(paths_of(retained + "[pop3]\nexpire = 30\n"), {"pop3.expire"})
        self.assertEqual(paths_of(retained + '[pop3]\nexpire = "NEVER"\n'), {"pop3.expire"})
        self.assertEqual(paths_of(LEAST + 'checkers = ["nobody"]\n'), {"listen[0].checkers"})
        self.assertEqual(paths_of(LEAST + LEAST.partition("\n[[")[1] + "listen]]\nprotocol = 'lmtp'\n"
                                  "endpoint = 'tcp:2400'\nplaintext_login = true\ngreeting = 'x'\n"),
                         {"listen[1].plaintext_login", "listen[1].greeting"})

    def test_near_names(self) -> None:
        """A slip of the pen is told with what was probably meant."""
        self.assertEqual(problems_of(LEAST + "[limits]\nidle_second = 3\n"),
                         ["limits.idle_second: unknown setting; did you mean idle_seconds?"])

    def test_long_socket_path(self) -> None:
        """A unix socket's path is bounded once its folder stands before it."""
        text = LEAST.replace("tcp:1110:interface=127.0.0.1", "unix:" + "x" * 100)
        self.assertEqual(paths_of(text), {"listen[0].endpoint"})

    @settings(deadline=None, max_examples=200)
    @given(st.recursive(
        st.one_of(st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
        max_leaves=6),
        st.sampled_from(["hostname", "store", "listen", "checker", "limits", "pop3", "other"]))
    def test_any_value(self, value: object, key: str) -> None:
        """Whatever stands behind a key, the answer is a configuration or a list of problems."""
        from mailgate.config.checks import contradictions
        from mailgate.config.reading import _section
        told: list = []
        config = _section(Config, {key: value}, (), told)
        told += contradictions(config)
        self.assertIsInstance(config, Config)
        self.assertTrue(told, "no hostname and no listener at least")


TLS = """
[tls]
certificate = "cert.pem"
key = "key.pem"
"""


class TlsTests(SynchronousTestCase):
    """[tls], and what listeners make of it."""

    def test_everything(self) -> None:
        config = parse((LEAST + """
            tls_profile = "legacy"
            client_certificates = "require"
            client_ca = "/etc/ssl/clients.pem"
            [[listen]]
            protocol = "pop3s"
            endpoint = "tcp:995"
            [[listen]]
            protocol = "lmtp"
            endpoint = "tcp:2424"
            tls_profile = "modern"
            [tls]
            certificate = "cert.pem"
            key = "/etc/ssl/key.pem"
            watch_seconds = 5
            [tls.sni."Pop.Example.NET"]
            certificate = "net.pem"
            key = "net.key"
            [tls.sni."*.example.com"]
            certificate = "com.pem"
            key = "com.key"
        """).encode(), folder=FOLDER)
        tls = config.tls
        assert tls is not None
        self.assertEqual((tls.certificate, tls.key, tls.watch_seconds), ("cert.pem", "/etc/ssl/key.pem", 5.0))
        self.assertEqual({name: (one.certificate, one.key) for name, one in tls.sni.items()}, {
            "pop.example.net": ("net.pem", "net.key"), "*.example.com": ("com.pem", "com.key")})
        first, second, third = config.listen
        self.assertEqual((first.tls_profile, first.client_certificates, first.client_ca),
                         ("legacy", "require", "/etc/ssl/clients.pem"))
        self.assertEqual((second.tls_profile, second.client_certificates, second.client_ca), (None,) * 3)
        self.assertEqual(third.tls_profile, "modern")

    def test_left_out(self) -> None:
        """Without [tls] there is no TLS."""
        self.assertIsNone(parse(LEAST.encode(), folder=FOLDER).tls)

    def test_mistakes(self) -> None:
        """Each at its own path; a name with dots is quoted as the file quotes it."""
        self.assertEqual(set(problems_of(LEAST + """
            tls_profile = "secure"
            client_certificates = true
            [tls]
            certificate = 5
            sertificate = "x"
            watch_seconds = 0
            [tls.sni."mail.example.org"]
            certificate = ""
            [tls.sni."no name"]
            certificate = "x"
            key = "y"
            colour = "blue"
            [tls.sni]
            other = 5
        """)), {
            'listen[0].tls_profile: unknown: "secure"; known: modern, intermediate, legacy',
            "listen[0].client_certificates: a string is expected, not true",
            "tls.certificate: a string is expected, not 5",
            "tls.sertificate: unknown setting; did you mean certificate?",
            "tls.key: is missing",
            "tls.watch_seconds: 0 is not between 1 and 86400",
            'tls.sni."mail.example.org".certificate: the string is empty',
            'tls.sni."mail.example.org".key: is missing',
            'tls.sni."no name": "no name" is not a host name',
            'tls.sni."no name".colour: unknown setting',
            "tls.sni.other: a table is expected",
        })
        self.assertEqual(problems_of(LEAST + "[tls]\ncertificate = 'a'\nkey = 'b'\nsni = 5\n"),
                         ["tls.sni: a table is expected"])
        self.assertEqual(problems_of("tls = 5\n" + LEAST), ["tls: a table is expected"])
        self.assertEqual(problems_of(LEAST + TLS + "[tls.sni.A]\ncertificate = 'a'\nkey = 'b'\n"
                                     "[tls.sni.a]\ncertificate = 'a'\nkey = 'b'\n"),
                         ["tls.sni.a: stands there twice"])

    def test_contradictions(self) -> None:
        """What listeners ask for, and [tls] or another setting does not give."""
        settings = 'tls_profile = "modern"\nclient_certificates = "no"\nclient_ca = "x"\n'
        self.assertEqual(problems_of(LEAST.replace('"pop3"', '"pop3s"') + settings), [
            "listen[0].protocol: pop3s needs a certificate: [tls]",
            "listen[0].tls_profile: has no meaning without [tls]",
            "listen[0].client_certificates: has no meaning without [tls]",
            "listen[0].client_ca: has no meaning without [tls]"])
        self.assertEqual(problems_of(LEAST + settings + TLS), [
            'listen[0].client_ca: has no meaning unless client_certificates is "request" or "require"'])
        self.assertEqual(problems_of(LEAST + 'client_certificates = "request"\n' + TLS),
                         ["listen[0].client_ca: is missing"])

    def test_tls_in_tls(self) -> None:
        """An endpoint of Twisted's that speaks TLS is not for pop3s."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        Authority().issue("mail.example.org").write(folder, "all.pem", "all.pem")
        text = (LEAST + TLS).replace("tcp:1110:interface=127.0.0.1", f"ssl:995:privateKey={folder}/all.pem")
        self.assertEqual(problems_of(text), [])
        self.assertEqual(problems_of(text.replace('"pop3"', '"pop3s"')),
                         ["listen[0].endpoint: pop3s brings its own TLS: tcp: is what it needs"])


class EndpointTests(SynchronousTestCase):
    """Descriptions are cut as Twisted cuts them."""

    def test_collisions(self) -> None:
        """Two listeners want the same address, with or without naming the interface."""
        self.assertTrue(collide("tcp:1110", "tcp:1110:interface=127.0.0.1"))
        self.assertTrue(collide("tcp:port=1110:interface=127.0.0.1", "tcp:1110:127.0.0.1"))
        self.assertTrue(collide("unix:/a", "unix:address=/a:mode=600"))
        self.assertTrue(collide("systemd:domain=INET:index=0", "systemd:index=0:domain=INET"))
        self.assertFalse(collide("tcp:1110:interface=127.0.0.2", "tcp:1110:interface=127.0.0.1"))
        self.assertFalse(collide("tcp:0", "tcp:0"))
        self.assertFalse(collide("tcp:1110", "tcp6:1110"))
        self.assertFalse(collide("systemd:domain=INET:index=0", "systemd:domain=INET:index=1"))

    def test_absolute(self) -> None:
        """Only a relative unix socket is moved, and its odd characters stay quoted."""
        self.assertEqual(absolute_endpoint("unix:lmtp", Path("/a:b")), "unix:/a\\:b/lmtp")
        self.assertEqual(absolute_endpoint("unix:/run/lmtp", FOLDER), "unix:/run/lmtp")
        self.assertEqual(absolute_endpoint("unix:address=x\\:y:mode=660", FOLDER),
                         "unix:/srv/mail/x\\:y:mode=660")
        self.assertEqual(absolute_endpoint("tcp:110", FOLDER), "tcp:110")

    @settings(deadline=None, max_examples=100)
    @given(st.text(alphabet="ab:=\\/\n", min_size=1, max_size=12).filter(
        lambda text: (len(text) - len(text.rstrip("\\"))) % 2 == 0))
    def test_cut_like_twisted(self, text: str) -> None:
        """The parts are those that Twisted's own parser sees."""
        from twisted.internet import endpoints
        positional, named = endpoints._parse(text)
        parts = split_endpoint(text)
        self.assertEqual(([parts.kind, *parts.positional], parts.named), (positional or [""], named))
