"""mailgate's checkers for `--auth` of twistd's services (`twisted.cred.strcred`)."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import unquote

from twisted.cred.credentials import IUsernamePassword
from twisted.cred.strcred import ICheckerFactory, InvalidAuthArgumentString
from twisted.plugin import IPlugin
from zope.interface import implementer

from mailgate.directories import (
    compared_attributes,
    parse_attribute,
    parse_dn,
    parse_dn_pattern,
    parse_filter,
    parse_server,
)

_SCOPES = {"": "subtree", "sub": "subtree", "one": "one-level", "base": "base"}

_HELP = """\
Checks names and passwords against a passwd-file in Dovecot's form, one user a
line: user:{SCHEME}hash, and further fields that are not used here. Schemes are
ARGON2ID, BLF-CRYPT, SHA512-CRYPT, SSHA512, PBKDF2 and others; a hash without a
scheme is one of crypt(3). The file is read again when it changes.
"""

_LDAP_HELP = """\
Checks names and passwords by binding to an LDAP directory. The argument is an
LDAP URL (RFC 4516) with a base and an attribute, perhaps a scope (sub, one or
base; left out: sub) and a filter; space and ? in it are written %20 and %3f:

    ldaps://ldap.example.org/ou=people,dc=example,dc=org?uid?sub?(mail=*)

searches for the one entry whose attribute is the name and binds as it; that
attribute is the user's name. A DN with {login} in it binds without a search:

    ldaps://ldap.example.org/uid={login},ou=people,dc=example,dc=org

ldap:// speaks StartTLS, unless the server is this machine; ldapi://%2Fpath is
a socket. Certificates are judged by the system's authorities.
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


@implementer(IPlugin, ICheckerFactory)
class LdapFactory:
    """`mailgate-ldap:URL`"""

    authType = "mailgate-ldap"
    authHelp = _LDAP_HELP
    argStringFormat = "An LDAP URL: ldaps://HOST/BASE?ATTRIBUTE, or ldaps://HOST/DN-WITH-{login}."
    credentialInterfaces = (IUsernamePassword,)

    def generateChecker(self, argstring: str) -> Any:
        """Return a BindChecker or SearchChecker. Connects with nobody. Raises: InvalidAuthArgumentString."""
        try:
            return _ldap_checker(argstring.strip())
        except ImportError:
            words = "needs the package python-ldap: pip install 'mailgate[ldap]'"
        except ValueError as fault:
            words = str(fault)
        raise InvalidAuthArgumentString(f"{self.authType}: {words}")


def _ldap_checker(url: str) -> Any:
    """Return the checker of an LDAP URL. Raises: ValueError."""
    from mailgate.auth.ldapchecker import BindChecker, SearchChecker
    from mailgate.auth.ldapserver import Directory, Search

    scheme, _, rest = url.partition("://")
    host, _, rest = rest.partition("/")
    name, attribute, scope, *more = [unquote(part, errors="strict") for part in (rest + "???").split("?")]
    condition = more[0] or "(objectClass=*)"
    if any(more[1:]) or scope not in _SCOPES:
        raise ValueError("behind the base come an attribute, a scope (sub, one or base) and a filter")
    directory = Directory((parse_server(f"{scheme}://{host}"),))
    if "{" in name:
        if attribute:
            raise ValueError("a DN with a place for the name has no attribute behind it")
        return BindChecker(directory, parse_dn_pattern(name))
    pattern = parse_filter(f"(&{condition}({parse_attribute(attribute)}={{login}}))")
    if len(compared_attributes(pattern)) > 1:
        raise ValueError("the name is compared with the attribute alone")
    return SearchChecker(directory, Search(parse_dn(name), _SCOPES[scope], attribute), pattern)
