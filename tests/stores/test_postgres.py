"""The store over PostgreSQL: the contracts, unchanged, over a real server and files."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from tests.stores.contract_accounts import AccountStoreContract
from tests.stores.contract_app_passwords import AccountChangeContract, AppPasswordContract
from tests.stores.contract_base import MIME
from tests.stores.contract_folders import FolderContract
from tests.stores.contract_maildrops import MaildropStoreContract
from tests.stores.contract_moving import MovingContract
from tests.stores.postgres_hooks import PostgresHooks


class MaildropTests(PostgresHooks, MaildropStoreContract, TestCase):
    """The contract of maildrops."""


class SmallInlineTests(PostgresHooks, MaildropStoreContract, TestCase):
    """The contract of maildrops, with every body but the smallest in a file."""

    def new_store(self, url: str, folder: str, **options: object):
        return super().new_store(url, folder, inline_octets=len(MIME), **options)


class FolderTests(PostgresHooks, FolderContract, TestCase):
    """The contract of folders and flags."""


class MovingTests(PostgresHooks, MovingContract, TestCase):
    """The contract of what a move from another store needs."""


class AccountTests(PostgresHooks, AccountStoreContract, TestCase):
    """The contract of accounts."""


class AppPasswordTests(PostgresHooks, AppPasswordContract, TestCase):
    """The contract of accounts: app passwords."""


class AccountChangeTests(PostgresHooks, AccountChangeContract, TestCase):
    """The contract of accounts: what they answer to, changed."""
