"""Several stores as one: the contracts."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from tests.stores.contract_accounts import AccountStoreContract
from tests.stores.contract_app_passwords import AccountChangeContract, AppPasswordContract
from tests.stores.contract_delivery import DeliveryContract
from tests.stores.contract_fences import FenceContract
from tests.stores.contract_folders import FolderContract
from tests.stores.contract_leases import LeaseContract
from tests.stores.contract_maildrops import MaildropStoreContract
from tests.stores.contract_moving import MovingContract
from tests.stores.merged_hooks import MemoryMergeHooks, SqliteMergeHooks


class MemoryMaildropTests(MemoryMergeHooks, MaildropStoreContract, TestCase):
    """The contract of maildrops, where the first part has the accounts."""


class SqliteMaildropTests(SqliteMergeHooks, LeaseContract, DeliveryContract, FenceContract, TestCase):
    """Leases, deliveries and fences over files, where a store that shows no mail has the accounts."""


class FolderTests(MemoryMergeHooks, FolderContract, TestCase):
    """The contract of folders."""


class MovingTests(MemoryMergeHooks, MovingContract, TestCase):
    """The contract of what a move from another store needs."""


class AccountTests(MemoryMergeHooks, AccountStoreContract, TestCase):
    """The contract of accounts."""


class AppPasswordTests(MemoryMergeHooks, AppPasswordContract, TestCase):
    """The contract of accounts: app passwords."""


class AccountChangeTests(MemoryMergeHooks, AccountChangeContract, TestCase):
    """The contract of accounts: what they answer to, changed."""
