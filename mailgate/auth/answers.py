"""What checkers that hold verifiers answer to mechanisms with a challenge."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.cred.credentials import IUsernameHashedPassword
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mailgate.auth.credentials import DigestLogin, PasswordLogin
from mailgate.auth.invented import common, invented, known_by
from mailgate.auth.kept import CramFamily, ScramFamily
from mailgate.auth.sasl import ScramQuestion
from mailgate.auth.schemes import SCHEMES_FOR, stored_under
from mailgate.errors import MailgateError
from mailgate.interfaces import ISecretSource
from mailgate.model import Habits, ScramSecret

KEPT_SECONDS = 5.0      # how long what every user has is taken for true

log = Logger()


def scram_secret(scheme: str, verifiers: Iterable[str], vouch: object) -> ScramSecret | None:
    """Return what the verifiers hold for a scheme; of several salts the first counts."""
    forms = [family.read(stored) for family, stored in stored_under((scheme,), verifiers)
             if isinstance(family, ScramFamily)]
    if not forms:
        return None
    first = forms[0]
    keys = tuple(one.keys for one in forms if one[:2] == first[:2])
    return ScramSecret(first.iterations, first.salt, keys, vouch)


def digest_matches(credentials: Any, verifiers: Iterable[str]) -> list[bool]:
    """Return which verifiers answer for anybody's IUsernameHashedPassword: CRAM-MD5's or APOP's.

    An outsider's own credentials are asked about passwords alone.
    """
    schemes = SCHEMES_FOR["CRAM-MD5" if isinstance(credentials, DigestLogin) else "APOP"]
    matches = []
    for family, stored in stored_under(schemes, verifiers):
        if isinstance(family, CramFamily):
            matches.append(credentials.checkContexts(family.read(stored)))
        else:
            matches.append(bool(credentials.checkPassword(stored)))
    return matches


class Answers:
    """Asks a portal's checkers what mechanisms must know."""

    def __init__(self, portal: Any, seconds: Callable[[], float], hostname: str = "localhost") -> None:
        self._portal = portal
        self._seconds = seconds
        self._hostname = hostname
        self._habits: Habits | None = None
        self._habits_at = 0.0
        self._own_secret = os.urandom(32)       # where no source has one that lasts
        self._kept: frozenset[str] = frozenset()
        self._asked_at: float | None = None
        self._asking = False

    @property
    def checkers(self) -> list[Any]:
        """The portal's checkers, those of a chain one by one."""
        found: list[Any] = []
        for checker in dict.fromkeys(getattr(self._portal, "checkers", {}).values()):
            found += getattr(checker, "checkers", [checker])
        return found

    @property
    def sources(self) -> list[Any]:
        """Those of them that keep secrets for challenges."""
        return [one for one in self.checkers if ISecretSource.providedBy(one)]

    def answer(self, question: ScramQuestion) -> Deferred[ScramSecret]:
        """Return what is kept for a name, by the first checker that has it; else what is invented.

        Raises, by the Deferred: StoreUnavailable.
        """
        return Deferred.fromCoroutine(self._answer(question))

    async def _answer(self, question: ScramQuestion) -> ScramSecret:
        """Ask every source about the name, and about the name that an account behind it would have.

        Both in any case, for the time shall not tell; and what is known only by the other name is
        shown and vouched for by nobody, as what is invented would be.
        """
        secret = found = kin = None
        name = question.name.decode("utf-8", "surrogateescape")
        habits = await self._usual()
        key = known_by(name, self._hostname, habits)
        for source in self.sources:
            secret = secret or await source.server_secret()
            answer = await source.scram_secret(question.scheme, question.name)
            other = await source.scram_secret(question.scheme, key.encode("utf-8", "surrogateescape"))
            found, kin = found or answer, kin or other
        made_up = invented(secret or self._own_secret, question.scheme, key, habits)
        if found is not None:
            return found
        return made_up if kin is None else kin._replace(vouch=None)

    async def _usual(self) -> Habits:
        """Return what most users have in common, as it was a moment ago."""
        now = self._seconds()
        if self._habits is None or now - self._habits_at >= KEPT_SECONDS:
            self._habits = common([await source.habits() for source in self.sources])
            self._habits_at = now
        return self._habits

    def kept(self) -> frozenset[str]:
        """Return what every user had a moment ago; looked up again, beside, when that is long ago."""
        self.refresh()
        return self._kept

    def refresh(self) -> Deferred[None] | None:
        """Look again, unless that was just done; for whoever wants to wait until it is."""
        now = self._seconds()
        if self._asking or (self._asked_at is not None and now - self._asked_at < KEPT_SECONDS):
            return None
        self._asked_at, self._asking = now, True
        return Deferred.fromCoroutine(self._refresh())

    async def _refresh(self) -> None:
        try:
            self._kept = await kept_by_all(self.checkers)
        except MailgateError as fault:
            log.warn("what users can log in by is not known: {fault}", fault=ascii(str(fault)))
            self._kept = frozenset()
        finally:
            self._asking = False


async def kept_by_all(checkers: Sequence[Any]) -> frozenset[str]:
    """Return what every user of every checker that takes passwords could use."""
    common: frozenset[str] | None = None
    for checker in checkers:
        if ISecretSource.providedBy(checker):
            kinds = await checker.kept()
        elif IUsernameHashedPassword in checker.credentialInterfaces:
            kinds = frozenset({"CRAM-MD5", "APOP"})
        elif takes_passwords(checker):
            kinds = frozenset()
        else:
            continue
        common = kinds if common is None else common & kinds
    return common or frozenset()


def takes_passwords(checker: Any) -> bool:
    """Return whether a checker judges a name and a password in clear."""
    return any(kind.implementedBy(PasswordLogin) for kind in checker.credentialInterfaces)
