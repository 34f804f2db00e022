"""`--auth` of the store's accounts, of PAM and of tokens: as plugins, and in services that log people in."""

from __future__ import annotations

import base64
import contextlib
import io
import os
import poplib
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from twisted.cred.credentials import IUsernamePassword, UsernamePassword
from twisted.cred.strcred import (
    AuthOptionMixin,
    ICheckerFactory,
    InvalidAuthArgumentString,
    findCheckerFactory,
    makeChecker,
)
from twisted.plugin import IPlugin
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailgate.auth.credentials import ITokenLogin
from mailgate.auth.oauth import AskedTokens, PublishedTokens, SignedTokens
from mailgate.auth.pam import PamChecker
from mailgate.auth.pam_children import Settings
from tests.auth.tokens import AUDIENCE, ISSUER, Issuer
from tests.pam_system import PASSWORD, System
from tests.services import BIN, WAIT_SECONDS, Site, wait_for

SECRET = PASSWORD.decode()
TYPES = ("mailgate-store", "mailgate-pam", "mailgate-oauth")
PORT = re.compile(r"IRCFactory starting on (\d+)\n")


class Options(usage.Options, AuthOptionMixin):
    """A service's options."""

    supportedInterfaces = (IUsernamePassword, ITokenLogin)
    authOutput = io.StringIO()


class Plugins(SynchronousTestCase):
    def folder(self) -> Path:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        return Path(temporary.name)

    def test_factories(self) -> None:
        """Found by their names, listed by `--help-auth`, explained by `--help-auth-type`."""
        for name in TYPES:
            factory = findCheckerFactory(name)
            verifyObject(ICheckerFactory, factory)
            verifyObject(IPlugin, factory)
            for arguments in (["--help-auth"], ["--help-auth-type", name]):
                options = Options()
                options.authOutput = io.StringIO()
                self.assertRaises(SystemExit, options.parseOptions, arguments)
                self.assertIn(name, options.authOutput.getvalue())

    def test_only_where_tokens_are_taken(self) -> None:
        """A service of passwords has no use for tokens, and says so."""
        class Passwords(Options):
            supportedInterfaces = (IUsernamePassword,)

        keys = self.folder() / "keys"
        Issuer().write(keys)
        argument = f"mailgate-oauth:{keys},issuer=x,audience=y"
        self.assertRaises(usage.UsageError, Passwords().parseOptions, ["--auth", argument])
        Options().parseOptions(["--auth", argument])

    def test_bad_arguments(self) -> None:
        """Said at the start, with the option."""
        keys = self.folder() / "keys"
        keys.write_text("{}")
        (keys.parent / "bad.toml").write_text("hostname = 1\n")
        for argument, words in {
            "mailgate-store:": "cannot be read",
            "mailgate-store:/nonexistent.toml": "cannot be read",
            f"mailgate-store:{keys.parent}/bad.toml": "hostname: ",
            "mailgate-pam:../shadow": "is not a name of letters",
            "mailgate-pam:other": "is not the name of a service of its own",
            "mailgate-pam:mailgate,minimum_uid=-1": "minimum_uid: '-1' is not a number",
            "mailgate-pam:mailgate,processes=65": "processes: 65 is not between",
            "mailgate-pam:mailgate,groups=": "groups: the string is empty",
            "mailgate-pam:mailgate,colour=red": "unknown option 'colour=red'; known: minimum_uid",
            "mailgate-pam:mailgate,minimum_uid=1,minimum_uid=2": "given twice",
            "mailgate-oauth:": "is missing",
            f"mailgate-oauth:{keys}": "issuer is missing; audience is missing",
            "mailgate-oauth:/nonexistent,issuer=x,audience=y": "is not a file",
            "mailgate-oauth:http://issuer.example.org/": "is no https:// address",
            "mailgate-oauth:https://issuer.example.org/,algorithms=RS256": "has no meaning without",
            "mailgate-oauth:https://issuer.example.org/,client_id=x": "goes with",
            "mailgate-oauth:keys=https://issuer.example.org/": "issuer is missing; audience is missing",
            "mailgate-oauth:keys=jwks.json,issuer=x,audience=y": "is no https:// address",
            f"mailgate-oauth:{keys},issuer=x,audience=y,algorithms=HS256": "unknown: \"HS256\"",
        }.items():
            fault = self.assertRaises(InvalidAuthArgumentString, makeChecker, argument)
            self.assertIn(words, str(fault), argument)

    def test_pam(self) -> None:
        checker = makeChecker("mailgate-pam:ftp,minimum_uid=500,groups=a+b%2Cc,processes=2,timeout_seconds=5")
        assert isinstance(checker, PamChecker)
        self.assertEqual(Settings("ftp", 500, ("a", "b,c"), 5.0), checker.settings)
        self.assertEqual(Settings("mailgate", 1000), makeChecker("mailgate-pam").settings)

    def test_tokens(self) -> None:
        """Of a file, whose path survives a change of folder, published, or asked about."""
        folder = self.folder()
        Issuer().write(folder / "jwks.json")
        (folder / "secret").write_text("s3cret\n")
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder)
        signed = makeChecker("mailgate-oauth:jwks.json,issuer=a%2Cb,audience=mailgate,claim=email")
        asked = makeChecker("mailgate-oauth:https://i.example.org/ask?x=1,client_id=m,client_secret_file=secret")
        published = makeChecker("mailgate-oauth:keys=https://i.example.org/jwks.json,issuer=a,audience=b")
        os.chdir("/")
        assert isinstance(published._tokens, PublishedTokens)
        self.assertEqual("https://i.example.org/jwks.json", published._tokens._keys._url)
        assert isinstance(signed._tokens, SignedTokens) and isinstance(asked._tokens, AskedTokens)
        self.assertEqual(2, len(signed._tokens.keys().keys))
        self.assertEqual(("a,b", "email"), (signed._tokens._expected.issuer, signed._claim))
        self.assertEqual(("https://i.example.org/ask?x=1", ("m", "s3cret")),
                         (asked._tokens._url, asked._tokens._client))

    def test_light(self) -> None:
        """twistd loads every plugin for its help: these bring no hashing, store or reactor along."""
        program = ("import sys; from twisted.plugins import mailgate_auth_plugin; "
                   "print([name for name in sys.modules if name.startswith(('passlib', 'argon2', 'sqlite3',"
                   " 'mailgate.stores', 'mailgate.config', 'twisted.internet.reactor'))])")
        listed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        self.assertEqual("[]", listed.stdout.strip())


class StockServices(SynchronousTestCase):
    """`twistd words`, Twisted's own, and `twistd mailgate`, in processes of their own."""

    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)

    @contextlib.contextmanager
    def chat(self, auth: str, prefix: Sequence[str] = ()) -> Iterator[int]:
        """Give the port of an IRC service; what it prints is in `self.log`."""
        self.log = self.folder / "words.log"
        with open(self.log, "wb") as output:
            process = subprocess.Popen(
                [*prefix, str(BIN / "twistd"), "-n", "--pidfile=", "words", "--irc-port",
                 "tcp:0:interface=127.0.0.1", "--auth", auth],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=self.folder)
        try:
            wait_for(lambda: PORT.search(self.log.read_text()) or process.poll() is not None, "the service")
            found = PORT.search(self.log.read_text())
            assert found is not None, self.log.read_text()
            yield int(found[1])
            process.terminate()
            self.assertEqual(-15, process.wait(WAIT_SECONDS), self.log.read_text())
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()

    def log_in(self, port: int, name: str, password: str) -> bool:
        """Return whether the service welcomes a user, as IRC does with 001 (RFC 2812 section 5.1)."""
        with socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as client:
            client.sendall(f"PASS :{password}\r\nNICK {name}\r\n".encode())
            said = b""
            while b" 001 " not in said and b"Login failed" not in said:
                piece = client.recv(4096)
                self.assertNotEqual(b"", piece, said)
                said += piece
            return b" 001 " in said

    def test_store(self) -> None:
        """The accounts of a store, its SDPS users, nobody who is disabled; mailgate itself may run beside."""
        site = Site(self.folder / "site", accounts={"mrose": "secret", "gone": "secret"},
                    hosts={"shire": ["one"]})
        site.succeed("account", "disable", "gone")
        with self.chat(f"mailgate-store:{site.file}") as port:
            self.assertEqual([True, False, False, False, True], [self.log_in(port, *login) for login in (
                ("mrose", "secret"), ("mrose", "wrong"), ("gone", "secret"), ("nobody", "x"),
                ("fred@shire", "one"))])
            service = site.start()
            self.addCleanup(service.end)
            client = poplib.POP3("127.0.0.1", service.pop3_port, timeout=WAIT_SECONDS)
            client.user("mrose")
            client.pass_("secret")
            client.quit()
        self.assertNotIn("Traceback", self.log.read_text())

    def test_passwd_file(self) -> None:
        """Dovecot's users, locked ones apart."""
        (self.folder / "users").write_text("alice:{PLAIN}open sesame\nlocked:!{PLAIN}open sesame\n")
        with self.chat(f"mailgate-passwd:{self.folder}/users") as port:
            self.assertEqual([True, False, False], [self.log_in(port, *login) for login in (
                ("alice", SECRET), ("alice", "wrong"), ("locked", SECRET))])

    def test_pam(self) -> None:
        """The users of a system; its processes end with the service."""
        system = System(self.folder / "system")
        system.service("words", "auth required pam_unix.so\naccount required pam_unix.so\n")
        with self.chat("mailgate-pam:words,groups=mail-users", system.inside) as port:
            self.assertEqual([True, False, False, False], [self.log_in(port, *login) for login in (
                ("member", SECRET), ("member", "wrong"), ("alice", SECRET), ("root", "x"))])
        self.assertNotIn("Traceback", self.log.read_text())

    def test_tokens(self) -> None:
        """`twistd mailgate --auth` takes a token by XOAUTH2, and opens the maildrop of its name."""
        issuer = Issuer()
        issuer.write(self.folder / "jwks.json")
        site = _WithAuth(self.folder / "site")
        site.auth = f"mailgate-oauth:{self.folder}/jwks.json,issuer={ISSUER},audience={AUDIENCE}"
        service = site.start()
        self.addCleanup(service.end)
        for token, expected in ((issuer.token("carol"), "+OK"),
                                (issuer.token("carol", aud="other"), "-ERR [AUTH]")):
            client = poplib.POP3("127.0.0.1", service.pop3_port, timeout=WAIT_SECONDS)
            self.assertIn("XOAUTH2", client.capa()["SASL"])
            response = base64.b64encode(b"user=carol\x01auth=Bearer " + token + b"\x01\x01").decode()
            try:
                client._putcmd("AUTH XOAUTH2")      # type: ignore[attr-defined]
                client._getresp()                   # type: ignore[attr-defined]
                client._putcmd(response)            # type: ignore[attr-defined]
                said = client._getresp()            # type: ignore[attr-defined]
                if said.startswith(b"+ "):          # what is wrong, in JSON; an empty line says: read
                    client._putcmd("")              # type: ignore[attr-defined]
                    said = client._getresp()        # type: ignore[attr-defined]
            except poplib.error_proto as refusal:
                said = refusal.args[0]
            self.assertTrue(said.decode().startswith(expected), said)
            client.close()


class _WithAuth(Site):
    auth: Any = ""

    def service_command(self) -> list[str]:
        return [*super().service_command(), "--auth", self.auth]


class InProcess(SynchronousTestCase):
    def test_nothing_is_opened(self) -> None:
        """Before the first login: twistd forks after the options were read."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "mailgate.toml")
            file.write_text('hostname = "a"\n[[listen]]\nprotocol = "pop3"\nendpoint = "tcp:1110"\n')
            checker = makeChecker(f"mailgate-store:{file}")
            self.assertIsNone(checker._portal)
            self.assertEqual(["mailgate.toml"], os.listdir(folder))
        refused: list[Any] = []
        makeChecker("mailgate-pam").requestAvatarId(UsernamePassword("", "x")).addErrback(refused.append)
        self.assertEqual("no name that a user could have", refused[0].value.reason)
