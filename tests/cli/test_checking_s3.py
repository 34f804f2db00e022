"""`mailgate check` where bodies lie in a bucket: it is tried, and what is wrong is told at its setting."""

from __future__ import annotations

from mailgate.cli import checking
from mailgate.stores.s3 import S3BlobStore
from tests.cli.base import CONFIGURATION, CommandCase
from tests.engines.swift import swift
from tests.stores.s3_hooks import credentials_file, new_bucket


class BucketTests(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(checking, "_store", lambda config: ([], []))
        self.cluster, self.bucket = swift(), new_bucket()

    def configure(self, section: str = "store", name: str | None = None, query: str = "",
                  credentials: str | None = None) -> None:
        address = (f"s3://{name or self.bucket.name}/{self.bucket.prefix}?endpoint={self.cluster.endpoint}"
                   f"{query}")
        merge = '[store]\nmerge = ["store", "far"]\n' if section != "store" else ""
        self.file.write_text(CONFIGURATION + merge + f'''
            [{section}]
            metadata = "sqlite:{section}.db"
            bodies = "{address}"
            s3_credentials = "{credentials or self.bucket.credentials_file}"
        ''')

    def test_all_is_well(self) -> None:
        """Also where nothing is yet; and nothing is left in the bucket."""
        self.configure()
        self.assertIn("all is well", self.succeed("check"))
        self.assertEqual([name for name in self.cluster.names(self.bucket.name)
                          if name.startswith(self.bucket.prefix + "/")], [])

    def test_what_is_wrong_where(self) -> None:
        """Bucket, region, keys: of [store] and of any [stores.NAME] that is merged with it."""
        wrong = credentials_file(self.cluster, secret="not-this-one")
        for section in ("store", "stores.far"):
            for changes, words in (({"name": "no-such-bucket"}, "there is no such bucket"),
                                   ({"query": "&region=eu-west-1"}, "the region is wrong"),
                                   ({"credentials": wrong}, "the secret key is wrong"),
                                   ({"credentials": "none.credentials"}, "No such file or directory: ")):
                self.configure(section, **changes)
                told = self.refused(78, "check")
                self.assertIn(f"{section}.bodies: s3://", told)
                self.assertIn(words, told)
                self.assertNotIn("not-this-one", told)

    def test_bodies_of_a_database_that_is_missing(self) -> None:
        """It is not begun anew beside them."""
        blobs = S3BlobStore(self.bucket)
        blobs.belong_to("one")
        blobs.create("0" * 26).abandon()
        self.configure()
        told = self.refused(78, "check")
        self.assertIn("store.metadata: there is no ", told)
        self.assertIn(f"and its bodies are in s3://{self.bucket.name}/{self.bucket.prefix}", told)
