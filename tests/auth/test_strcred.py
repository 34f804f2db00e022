"""`--auth mailgate-passwd:FILE` of twistd's services."""

from __future__ import annotations

import io
import os
import subprocess
import sys

from twisted.cred.credentials import IUsernamePassword
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

from mailgate.auth.credentials import PasswordLogin
from mailgate.auth.ldapchecker import BindChecker, SearchChecker
from mailgate.auth.ldapserver import Search
from mailgate.auth.passwdfile import PasswdFileChecker
from mailgate.directories import Server
from tests.auth.staging import Counted, cheap, fresh_path


class Options(usage.Options, AuthOptionMixin):
    """A service's options."""

    supportedInterfaces = (IUsernamePassword,)
    authOutput = io.StringIO()


class Auth(SynchronousTestCase):
    """The plugin as strcred finds it."""

    def file(self) -> str:
        path = str(fresh_path(self))
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"alice:{cheap(b'open sesame')}\n")
        return path

    def test_factory(self) -> None:
        """Found by its name, among all plugins."""
        factory = findCheckerFactory("mailgate-passwd")
        verifyObject(ICheckerFactory, factory)
        verifyObject(IPlugin, factory)

    def test_help(self) -> None:
        """`--help-auth` lists it, `--help-auth-type` explains it."""
        for arguments in (["--help-auth"], ["--help-auth-type", "mailgate-passwd"]):
            options = Options()
            options.authOutput = io.StringIO()
            self.assertRaises(SystemExit, options.parseOptions, arguments)
            self.assertIn("mailgate-passwd", options.authOutput.getvalue())
            self.assertNotIn("not supported", options.authOutput.getvalue())

    def test_checker(self) -> None:
        """Made of the option; its path survives a change of folder."""
        path = os.path.relpath(self.file())
        options = Options()
        options.parseOptions(["--auth", f"mailgate-passwd:{path}"])
        checker, = options["credCheckers"]
        self.assertIsInstance(checker, PasswdFileChecker)
        self.assertEqual(os.path.abspath(path), checker.file.path)
        checker.pool = Counted()
        login = checker.requestAvatarId(PasswordLogin(b"alice", b"open sesame"))
        self.assertEqual(b"alice", self.successResultOf(login))

    def test_no_file(self) -> None:
        """Said at the start, not at the first login."""
        for argument in ("", "/nonexistent/passwd", "/"):
            self.assertRaises(InvalidAuthArgumentString, makeChecker, f"mailgate-passwd:{argument}")

    def test_directory(self) -> None:
        """`mailgate-ldap:` and an LDAP URL. Nobody is asked before the first login."""
        found = makeChecker("mailgate-ldap:ldaps://h/ou=a%20b,dc=x?uid?one?(mail=*%3f)")
        self.assertIsInstance(found, SearchChecker)
        self.assertEqual((found.pattern.text, found.search),
                         ("(&(mail=*?)(uid={login}))", Search("ou=a b,dc=x", "one-level", "uid")))
        self.assertEqual(found.directory.servers, (Server("ldaps", "h", 636),))
        least = makeChecker("mailgate-ldap:ldap://h:1/dc=x?cn")
        self.assertEqual((least.pattern.text, least.search.scope),
                         ("(&(objectClass=*)(cn={login}))", "subtree"))
        template = makeChecker("mailgate-ldap:ldapi://%2Frun%2Fx/uid={user},dc=x")
        self.assertEqual((type(template), template.pattern.text), (BindChecker, "uid={user},dc=x"))

    def test_no_directory(self) -> None:
        for argument in ("", "ldap://h", "ldap://h/dc=x", "http://h/dc=x?uid", "ldap://h/dc=x?uid,cn",
                         "ldap://h/dc=x?uid?deep", "ldap://h/dc=x?uid?sub?uid=x", "ldap://h/x?uid",
                         "ldap://h/dc=x?uid?sub??ext", "ldap://h/uid={login},dc=x?uid", "ldap://h/{login}",
                         "ldap://h/dc=x?uid?sub?(cn={login})", "ldap://h/dc=%ff?uid", "ldapi:///dc=x?uid"):
            self.assertRaises(InvalidAuthArgumentString, makeChecker, f"mailgate-ldap:{argument}")

    def test_light(self) -> None:
        """twistd loads every plugin for its help: this one brings no hashing, store or reactor along."""
        program = ("import sys; from twisted.plugins import mailgate_auth_plugin; "
                   "print([name for name in sys.modules if name.startswith(('passlib', 'argon2', 'sqlite3',"
                   " 'mailgate.stores', 'ldap', 'twisted.internet.reactor', 'twisted.mail'))])")
        listed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        self.assertEqual("[]", listed.stdout.strip())
