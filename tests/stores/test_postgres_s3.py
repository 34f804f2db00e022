"""The contract of maildrops over PostgreSQL and a bucket, as many nodes use it."""

from __future__ import annotations

from twisted.trial.unittest import TestCase

from tests.stores.contract_maildrops import MaildropStoreContract
from tests.stores.postgres_hooks import PostgresHooks
from tests.stores.s3_hooks import S3Hooks


class MaildropTests(S3Hooks, PostgresHooks, MaildropStoreContract, TestCase):
    """The contract of maildrops, with every body but the small ones in the bucket."""

    def new_store(self, url: str, folder: str, **options: object):
        return super().new_store(url, folder, **{"inline_octets": 16_384, **options})
