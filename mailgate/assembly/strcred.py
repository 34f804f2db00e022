"""`--auth` of twistd's services: checkers that are made of settings. See `mailgate.auth.strcred` too.

Read for every `twistd --help`: what a checker needs is loaded when one is asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.strcred import ICheckerFactory, InvalidAuthArgumentString
from twisted.internet.defer import Deferred
from twisted.plugin import IPlugin
from zope.interface import implementer

from mailgate.auth.credentials import INamedLogin, ITokenLogin
from mailgate.errors import ConfigurationError

_STORE_HELP = """\
Checks names and passwords against the accounts of a mailgate store. The argument
is mailgate's configuration file; of what stands in it the store alone counts.
A user of an SDPS host is answered as user@host.
"""

_PAM_HELP = """\
Checks names and passwords of this system's users by PAM, without opening a
session. The argument is the name of a file in /etc/pam.d (mailgate, if left
out), and options, each behind a comma:

    minimum_uid=1000    users below it are refused
    groups=mail+staff   of which one has to be the user's
    processes=4         in which passwords are checked at the same time
    timeout_seconds=20  for one check
"""

_OAUTH_HELP = """\
Checks bearer tokens, for services that take them: twistd mailgate. The argument is
the JWK set in a file by which tokens are judged, or keys= and the https:// address
at which the issuer publishes it, or the https:// address at which the issuer is
asked about tokens, and options, each behind a comma (a comma in a value is written
%2C, a percent sign %25):

    issuer=URL, audience=NAME   what has to stand in the token; needed with keys
    scope=WORD                  what it has to permit
    claim=sub                   which claim is the user's name
    algorithms=RS256+ES256      of signatures that are taken
    client_id=NAME, client_secret_file=FILE     who asks the issuer
"""


class _Factory:
    """What the factories share."""

    authType = ""

    def generateChecker(self, argstring: str) -> Any:
        """Return the checker. Opens nothing yet. Raises: InvalidAuthArgumentString."""
        try:
            return self._make(argstring.strip())
        except ConfigurationError as fault:
            words = "; ".join(fault.problems)
        except ValueError as fault:
            words = str(fault)
        raise InvalidAuthArgumentString(f"{self.authType}: {words}")

    def _make(self, argument: str) -> Any:
        raise NotImplementedError


@implementer(IPlugin, ICheckerFactory)
class StoreFactory(_Factory):
    """`mailgate-store:FILE`"""

    authType = "mailgate-store"
    authHelp = _STORE_HELP
    argStringFormat = "Location of a mailgate.toml."
    credentialInterfaces = (IUsernamePassword,)

    def _make(self, argument: str) -> Any:
        from mailgate.config import load

        return StoredAccounts(load(os.path.abspath(argument)))


@implementer(ICredentialsChecker)
class StoredAccounts:
    """The accounts of a configured store, for realms of any kind; the store is opened at the first login.

    It answers with the account's name, as octets. A success is not remembered: what keeps that safe
    happens as a maildrop is opened.
    """

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, config: Any) -> None:
        self._config = config
        self._portal: Any = None
        self._checker: Any = None

    def requestAvatarId(self, credentials: Any) -> Any:
        """Raises, by the Deferred: LoginRefused; TooBusy; StoreUnavailable."""
        return Deferred.fromCoroutine(self._check(credentials))

    async def _check(self, credentials: Any) -> bytes:
        if self._portal is None:
            self._furnish()
        await self._portal.start()
        admission = await self._checker.requestAvatarId(credentials)
        name = admission.maildrop if admission.view is None else f"{admission.view}@{admission.maildrop}"
        return str(name).encode("utf-8")

    def _furnish(self) -> None:
        from twisted.internet import reactor  # not before there is a login: twistd chooses it

        from mailgate.assembly.store import make_store
        from mailgate.auth.checkers import StoreChecker
        from mailgate.auth.hashing import HashPool
        from mailgate.auth.portal import MailgatePortal
        from mailgate.auth.realm import MaildropRealm
        from mailgate.compat.configured import ConfiguredPortal

        store = make_store(self._config, reactor)
        pool = HashPool(reactor, threads=self._config.limits.hash_threads)  # type: ignore[arg-type]
        self._checker = StoreChecker(store.accounts, pool)
        self._portal = ConfiguredPortal(MailgatePortal(MaildropRealm(store)), store, pool, reactor)


@implementer(IPlugin, ICheckerFactory)
class PamFactory(_Factory):
    """`mailgate-pam:SERVICE,OPTION=VALUE...`"""

    authType = "mailgate-pam"
    authHelp = _PAM_HELP
    argStringFormat = "A service of PAM, and options: mailgate,minimum_uid=1000"
    credentialInterfaces = (IUsernamePassword, INamedLogin)

    def _make(self, argument: str) -> Any:
        from mailgate.assembly.pam import pam_checker
        from mailgate.config import CheckerSection, values

        service, options = _options(argument, {
            "minimum_uid": lambda text: values.whole(0, 4_294_967_293)(_number(text)),
            "groups": lambda text: values.array_of(values.text)(text.split("+")),
            "processes": lambda text: values.whole(1, 64)(_number(text)),
            "timeout_seconds": lambda text: values.seconds(1, 300)(_number(text))})
        return pam_checker(CheckerSection(
            kind="pam", service=values.pam_service(service) if service else None, **options))


@implementer(IPlugin, ICheckerFactory)
class OAuthFactory(_Factory):
    """`mailgate-oauth:FILE-OR-ADDRESS,OPTION=VALUE...`"""

    authType = "mailgate-oauth"
    authHelp = _OAUTH_HELP
    argStringFormat = "A file of keys or an address to ask, and options: jwks.json,issuer=URL,audience=NAME"
    credentialInterfaces = (ITokenLogin,)

    def _make(self, argument: str) -> Any:
        from twisted.internet import reactor  # twistd has chosen it: this option comes behind its own

        from mailgate.assembly.tokens import token_checker
        from mailgate.auth.hashing import default_pool
        from mailgate.config import CheckerSection, values
        from mailgate.config.checks import oauth_contradictions

        where, options = _options(argument, {
            **dict.fromkeys(("issuer", "audience", "scope", "claim", "client_id"), values.text),
            "algorithms": lambda text: values.words_of(*values.TOKEN_ALGORITHMS)(text.split("+")),
            "client_secret_file": lambda text: os.path.abspath(values.path(text))})
        if not where:
            raise ValueError("a file of keys, or an address to ask, is missing")
        keys, introspection = None, None
        if where.startswith("keys="):
            keys = values.web_address(where.removeprefix("keys="))
        elif values.is_web_address(where):
            introspection = values.web_address(where)
        else:
            keys = os.path.abspath(where)
        section = CheckerSection(kind="oauth", keys=keys, introspection=introspection, **options)
        problems = [" ".join((*map(str, one.where), one.words)) for one in oauth_contradictions(section, ())]
        if problems:
            raise ConfigurationError(problems)
        if keys is not None and not values.is_web_address(keys) and not os.path.isfile(keys):
            raise ValueError(f"{keys!r} is not a file")
        return token_checker(section, Path("/"), default_pool(reactor), reactor, None)


def _options(argument: str, readers: Mapping[str, Callable[[str], Any]]) -> tuple[str, dict[str, Any]]:
    """Return what stands in front of the first comma, and the options behind it. Raises: ValueError."""
    first, *rest = argument.split(",")
    options: dict[str, Any] = {}
    for part in rest:
        name, equals, value = part.strip().partition("=")
        if name not in readers or not equals:
            raise ValueError(f"unknown option {part.strip()!r}; known: {', '.join(readers)}")
        if name in options:
            raise ValueError(f"{name} is given twice")
        try:
            options[name] = readers[name](unquote(value, errors="strict"))
        except ValueError as fault:
            raise ValueError(f"{name}: {fault}") from fault
    return unquote(first.strip(), errors="strict"), options


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"{text!r} is not a number")
    return int(text)
