"""Which maildrop a recipient's mail goes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailgate.auth.known import known_maildrop
from mailgate.errors import AccountConflict, BadAddress, NoSuchAccount, NoSuchDomain, NoSuchRecipient
from mailgate.interfaces import IAccountStore, IRouter, IUserLookup
from mailgate.model import Target
from mailgate.names import check_name, fold, split_address, unquoted


@implementer(IRouter)
class Router:
    """Routes to the store's accounts first, then to names that only a checker knows.

    `hostname` is the domain of recipients without one. `lookups` are asked in order, for a name in
    the form `local@domain`, and in the domain of the hostname for the bare local part. `postmaster`
    is who receives what is sent to a postmaster that nobody is (RFC 5321 section 4.5.1): a path.
    """

    def __init__(self, accounts: IAccountStore, hostname: str, lookups: Sequence[IUserLookup] = (),
                 postmaster: str | None = None) -> None:
        self._accounts = accounts
        self._hostname = hostname
        self._lookups = tuple(lookups)
        self._postmaster = postmaster

    def route(self, path: bytes) -> Deferred[Target]:
        """See IRouter. The target's user is always set: the key of the local part, unquoted.

        Without a domain the path means `local@hostname` (`<Postmaster>` too, RFC 5321 section
        4.1.1.3), else the account of that very name.
        """
        return Deferred.fromCoroutine(self._route(path))

    async def _route(self, path: bytes) -> Target:
        try:
            address = path.decode("utf-8")
        except UnicodeDecodeError:
            raise NoSuchRecipient(f"{path!r} is not UTF-8") from None
        local, domain = split_address(address)
        local = unquoted(local)
        if not local:
            raise BadAddress(f"{address!r} has an empty local part")
        try:
            return replace(await self._maildrop(local, domain), user=fold(local))
        except NoSuchDomain:
            raise
        except NoSuchRecipient:
            if self._postmaster is None or fold(local) != "postmaster":
                raise
            return replace(await self._maildrop(*split_address(self._postmaster)), user="postmaster")

    async def _maildrop(self, local: str, domain: str) -> Target:
        """Return the maildrop, whoever its user is. Raises: NoSuchRecipient, NoSuchDomain."""
        try:
            return await self._accounts.find_recipient(f"{local}@{domain or self._hostname}")
        except NoSuchRecipient as fault:
            unknown = fault
        if not domain:
            try:
                return Target((await self._accounts.get(local)).name, account=True)
            except NoSuchAccount:
                pass
        ours = fold(domain or self._hostname) == fold(self._hostname)
        for name in (f"{local}@{domain or self._hostname}", *([local] if ours else [])):
            maildrop = await self._known(name)
            if maildrop is not None:
                return Target(maildrop, account=False)
        if ours and isinstance(unknown, NoSuchDomain):
            raise NoSuchRecipient(f"{local!r} at {self._hostname}")     # the domain is ours in any case
        raise unknown

    async def _known(self, name: str) -> str | None:
        """Return the maildrop of a name that a lookup knows, if it can be one's and is no account's.

        Mail for a user of another checker never goes to the account that has his name or his maildrop's.
        Raises: StoreUnavailable, if a lookup cannot say and no other knows the name.
        """
        try:
            check_name(name, sdps=False)
        except AccountConflict:
            return None
        maildrop = await known_maildrop(self._lookups, name)
        if maildrop is None:
            return None
        for one in {fold(name), maildrop}:
            login = await self._accounts.find_login(one)
            if login is not None and login.view is None:    # a view is only one way to read it
                return None
        return maildrop
