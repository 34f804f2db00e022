"""The accounts of a merge: those of its main store, with what the other stores have of their mail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailgate.errors import AccountConflict
from mailgate.interfaces import IAccountStore
from mailgate.model import Account
from mailgate.names import fold
from mailgate.stores.merging.parts import Part


@implementer(IAccountStore)
class MergedAccounts:
    """The accounts of `main`. All that is not here it answers itself."""

    def __init__(self, main: Part, others: Sequence[Part]) -> None:
        self._accounts = main.store.accounts
        self._others = others

    def __getattr__(self, name: str) -> Any:
        return getattr(self._accounts, name)

    def add(self, accounts: Sequence[Account], *, adopt: bool = False) -> Deferred[None]:
        return Deferred.fromCoroutine(self._add(accounts, adopt))

    async def _add(self, accounts: Sequence[Account], adopt: bool) -> None:
        adopted = {fold(account.name) for account in accounts} if adopt else set()
        wanted = {fold(key) for account in accounts
                  for key in (account.name, *account.addresses, *account.domains)}
        await self._refuse_maildrops(wanted - adopted)
        await self._accounts.add(accounts, adopt=adopt)

    def add_received(self, name: str, received: str) -> Deferred[None]:
        return Deferred.fromCoroutine(self._add_received(name, received))

    async def _add_received(self, name: str, received: str) -> None:
        await self._refuse_maildrops({fold(received)} - {fold(name)})
        await self._accounts.add_received(name, received)

    async def _refuse_maildrops(self, keys: set[str]) -> None:
        """Raise AccountConflict, where another store has a maildrop by which the new one would be known."""
        if not keys:
            return
        for part in self._others:
            for maildrop in await part.call("maildrops"):
                if fold(maildrop) in keys:
                    raise AccountConflict(f"{maildrop!r} is a maildrop of somebody in store {part.name}")

    def remove(self, name: str) -> Deferred[None]:
        return Deferred.fromCoroutine(self._remove(name))

    async def _remove(self, name: str) -> None:
        """Remove the mail first: what a fault leaves is still an account's, and can be removed again."""
        account = await self._accounts.get(name)
        for part in self._others:
            await part.call("remove", account.name)
        await self._accounts.remove(name)
