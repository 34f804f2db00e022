"""Configuration of bodies in a bucket: addresses, what goes together, and the store that comes of it."""

from __future__ import annotations

import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailgate.assembly.store import make_blobs
from mailgate.config.buckets import BucketAddress, parse_bucket
from mailgate.errors import ConfigurationError
from mailgate.stores.s3 import Bucket, S3BlobStore
from tests.test_config import FOLDER, LEAST, parse, problems_of

SECRET = "wJalrXUtnFEMI"
BODIES = "s3://mail-bodies/production/eu?endpoint=https://s3.example.net:9000&region=eu-central-1"


def store_problems(*lines: str) -> list[str]:
    return problems_of(LEAST + "[store]\n" + "\n".join(lines))


class AddressTests(SynchronousTestCase):
    """What is behind `s3:`."""

    def test_all_that_can_be_said(self) -> None:
        for address, expected in {
            "//bucket": ("bucket", "", None, None, False),
            "//bucket/": ("bucket", "", None, None, False),
            "//my.bucket-2/a/b_c/=d.e/": ("my.bucket-2", "a/b_c/=d.e", None, None, False),
            "//bucket/p?region=x-1": ("bucket", "p", None, "x-1", False),
            "//bucket?endpoint=http://127.0.0.1:8080": ("bucket", "", "http://127.0.0.1:8080", None, False),
            "//bucket?style=virtual&endpoint=https://h/s3": ("bucket", "", "https://h/s3", None, True),
            "//bucket?style=path&endpoint=https%3A%2F%2Fh": ("bucket", "", "https://h", None, False),
        }.items():
            self.assertEqual(parse_bucket(address), BucketAddress(*expected))

    def test_mistakes(self) -> None:
        """Each is told at its path, in words that name it."""
        for address, words in {
            "s3:bucket/prefix": "is expected",
            "s3:///prefix": "is not a bucket's name",
            "s3://Bucket": "is not a bucket's name",
            "s3://ab": "is not a bucket's name",
            "s3://a..b": "is not a bucket's name",
            "s3://-bucket": "is not a bucket's name",
            "s3://192.0.2.1": "is not a bucket's name",
            "s3://bucket:80/x": "is not a bucket's name",
            "s3://bucket/a//b": "is not a prefix",
            "s3://bucket/../b": "is not a prefix",
            "s3://bucket/a b": "is not a prefix",
            "s3://bucket/a#b": "is expected",
            "s3://bucket?endpiont=http://h": "behind the ?: 'endpiont'; known: endpoint, region, style",
            "s3://bucket?region=a&region=b": "region stands in it twice",
            "s3://bucket?region=": "region is empty",
            "s3://bucket?region=a b": "is not a region's name",
            "s3://bucket?style=other": "unknown style: 'other'; known: path, virtual",
            "s3://bucket?endpoint=h:80": "endpoint is not http",
            "s3://bucket?endpoint=ftp://h": "endpoint is not http",
            "s3://bucket?endpoint=http://h:99999": "endpoint is not http",
            "s3://bucket?endpoint=http://": "endpoint is not http",
            "s4://bucket": "known: file:PATH, s3://...",
        }.items():
            [problem] = store_problems(f'bodies = "{address}"')
            self.assertTrue(problem.startswith("store.bodies: "), problem)
            self.assertIn(words, problem)

    def test_keys_in_an_address(self) -> None:
        """They are refused, and not repeated."""
        for address in (f"s3://AKIA:{SECRET}@bucket/x", f"s3://bucket?endpoint=https://AKIA:{SECRET}@h"):
            [problem] = store_problems(f'bodies = "{address}"')
            self.assertIn("s3_credentials", problem)
            self.assertNotIn(SECRET, problem)


class SectionTests(SynchronousTestCase):
    """[store] and [stores.NAME]."""

    def config(self, *lines: str) -> Any:
        return parse((LEAST + "[store]\n" + "\n".join(lines)).encode(), folder=FOLDER)

    def test_the_store_that_comes_of_it(self) -> None:
        """Paths are the folder's; nothing is opened."""
        config = self.config(f'bodies = "{BODIES}"', 's3_credentials = "s3.credentials"',
                             's3_ca_file = "/etc/ca.pem"')
        blobs = make_blobs(config.store, config.folder)
        assert isinstance(blobs, S3BlobStore)
        self.assertEqual(blobs.bucket, Bucket(
            "mail-bodies", "production/eu", "https://s3.example.net:9000", "eu-central-1", False,
            str(FOLDER / "s3.credentials"), "/etc/ca.pem"))
        self.assertIsNone(config.bodies_path)

    def test_settings_of_a_bucket_without_one(self) -> None:
        for setting in ("s3_credentials", "s3_ca_file"):
            [problem] = store_problems(f'{setting} = "x"')
            self.assertEqual(problem, f'store.{setting}: has no meaning without bodies = "s3://..."')

    def test_two_stores_in_one_place(self) -> None:
        """Bucket and prefix are the place, however they are written."""
        further = ['[stores.far]', 'metadata = "sqlite:far.db"',
                   'bodies = "s3://bucket/p/?endpoint=http://h&region=b"']
        [problem] = store_problems('bodies = "s3://bucket/p?region=a&endpoint=http://h"', *further)
        self.assertIn("stores.far.bodies: ", problem)
        self.assertEqual(store_problems('bodies = "s3://bucket/q?endpoint=http://h"', *further), [])

    def test_without_the_driver(self) -> None:
        """Nobody needs it who has no bucket; who has one is told how to get it."""
        config = self.config(f'bodies = "{BODIES}"')
        for name in [name for name in sys.modules if name.split(".")[0] == "obstore"]:
            self.patch_module(name, None)
        self.patch_module("obstore", None)
        self.patch_module("mailgate.stores.s3", ...)
        with self.assertRaises(ConfigurationError) as caught:
            make_blobs(config.store, config.folder)
        self.assertIn("pip install 'mailgate[s3]'", str(caught.exception))

    def patch_module(self, name: str, value: Any) -> None:
        """Have an import of a module fail (None), or load it anew (...), until the test is over."""
        kept = sys.modules.pop(name, None)
        if value is not ...:
            sys.modules[name] = value

        def put_back() -> None:
            sys.modules.pop(name, None)
            if kept is not None:
                sys.modules[name] = kept

        self.addCleanup(put_back)
