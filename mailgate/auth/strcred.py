"""mailgate's checkers for `--auth` of twistd's services (`twisted.cred.strcred`)."""

from __future__ import annotations

import os
from typing import Any

from twisted.cred.credentials import IUsernamePassword
from twisted.cred.strcred import ICheckerFactory, InvalidAuthArgumentString
from twisted.plugin import IPlugin
from zope.interface import implementer

_HELP = """\
Checks names and passwords against a passwd-file in Dovecot's form, one user a
line: user:{SCHEME}hash, and further fields that are not used here. Schemes are
ARGON2ID, BLF-CRYPT, SHA512-CRYPT, SSHA512, PBKDF2 and others; a hash without a
scheme is one of crypt(3). The file is read again when it changes.
"""


@implementer(IPlugin, ICheckerFactory)
class PasswdFileFactory:
    """`mailgate-passwd:FILE`"""

    authType = "mailgate-passwd"
    authHelp = _HELP
    argStringFormat = "Location of a passwd-file in Dovecot's form."
    credentialInterfaces = (IUsernamePassword,)

    def generateChecker(self, argstring: str) -> Any:
        """Return a PasswdFileChecker, which makes its own pool. Raises: InvalidAuthArgumentString."""
        from mailgate.auth.passwdfile import PasswdFileChecker

        path = os.path.abspath(argstring.strip())   # twistd changes folders as it goes into the background
        if not os.path.isfile(path):
            raise InvalidAuthArgumentString(f"{self.authType}: {path!r} is not a file")
        return PasswdFileChecker(path)
