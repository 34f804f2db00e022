"""Bodies in a bucket, what only they have: faults by name, keys, requests counted, a device that is lost."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

import obstore
from twisted.trial.unittest import SynchronousTestCase

from mailgate.errors import StoreFull, StoreUnavailable
from mailgate.interfaces import IBlobReader
from mailgate.stores import s3, s3_credentials
from mailgate.stores.s3 import MOST_AHEAD_OCTETS, PART_OCTETS, Bucket, S3BlobStore
from mailgate.stores.s3_credentials import read_credentials
from tests.engines.slow import Relay
from tests.engines.swift import DEVICES, Swift, swift
from tests.stores.s3_hooks import credentials_file, new_bucket

KEY = "abcdefgh234567abcdefgh2345"
SECRET = "a-secret-that-is-wrong"
PIECE_OCTETS = 65536
FAR_FUTURE = "2099-01-01T00:00:00.000Z"


def put(blobs: S3BlobStore, key: str, content: bytes) -> None:
    writer = blobs.create(key)
    writer.write(content)
    writer.finish()


class FaultTests(SynchronousTestCase):
    """What goes wrong is told in words for an operator, and is an outage: never a message that is gone."""

    def told(self, bucket: Bucket, kind: type[StoreUnavailable] = StoreUnavailable) -> list[str]:
        """See that everything that can be asked for fails, and return the words without where it was."""
        words = []
        for call in (lambda blobs: blobs.owner(), lambda blobs: blobs.keys(), lambda blobs: blobs.open(KEY),
                     lambda blobs: blobs.remove(KEY), lambda blobs: blobs.try_out(),
                     lambda blobs: blobs.belong_to("one"), lambda blobs: put(blobs, KEY, b"x"),
                     lambda blobs: put(blobs, KEY, bytes(PART_OCTETS + 1))):
            fault = self.assertRaises(kind, call, S3BlobStore(bucket))
            self.assertIs(type(fault), kind)
            text = str(fault)
            self.assertTrue(text.startswith(f"s3://{bucket.name}/{bucket.prefix}"), text)
            self.assertFalse("\n" in text or SECRET in text or swift().secret_key in text, text)
            words.append(text.split(": ", 1)[1])
        return words

    def test_what_a_bucket_says(self) -> None:
        """No such bucket, a wrong secret, a stranger's key, another region."""
        cluster, bucket = swift(), new_bucket()
        for changes, expected in (
                ({"name": "no-such-bucket"}, "there is no such bucket (404 NoSuchBucket)"),
                ({"credentials_file": credentials_file(cluster, secret=SECRET)},
                 "the secret key is wrong, or the access key not known there (403 SignatureDoesNotMatch)"),
                ({"credentials_file": credentials_file(cluster, cluster.stranger)},
                 "these credentials may not do this (403 AccessDenied)"),
                ({"region": "eu-west-1"},
                 "the region is wrong (400 AuthorizationHeaderMalformed); it says us-east-1")):
            for words in self.told(bucket._replace(**changes)):
                self.assertEqual(words, expected)

    def test_who_does_not_answer(self) -> None:
        """No connection, a host that nobody knows, one that never answers: each within its time."""
        too_long = f"http://{'x' * 64}.invalid"      # a label: no resolver is asked, which could be slow
        self.patch(s3, "RETRIES", 1)
        self.patch(s3, "REQUEST_SECONDS", 0.3)
        relay = Relay(("127.0.0.1", 9))
        self.addCleanup(relay.end)
        relay.freeze()
        for endpoint, expected in (("http://127.0.0.1:9", "no connection"),
                                   (f"http://127.0.0.1:{relay.address[1]}", ""),
                                   (too_long, "its host is not known")):
            since = time.monotonic()
            for words in self.told(new_bucket(endpoint=endpoint)):
                self.assertIn(expected, words)
            self.assertLess(time.monotonic() - since, 30)

    def test_a_bucket_that_stops_answering(self) -> None:
        """A request ends in its time; the next one works as soon as the bucket does."""
        with self.relayed() as (relay, bucket):
            put(S3BlobStore(bucket), KEY, b"there")
            self.patch(s3, "RETRIES", 0)
            self.patch(s3, "REQUEST_SECONDS", 0.3)
            blobs = S3BlobStore(bucket)
            relay.freeze()
            fault = self.assertRaises(StoreUnavailable, blobs.open, KEY)
            self.assertIn("no answer in time", str(fault))
            relay.thaw()
            self.assertEqual(self.opened_in_time(blobs).read(0, 10), b"there")

    def opened_in_time(self, blobs: S3BlobStore) -> IBlobReader:
        """Open a blob, by an attempt that a busy machine answers in time."""
        for _ in range(100):
            try:
                return blobs.open(KEY)
            except StoreUnavailable as fault:
                self.assertIn("no answer in time", str(fault))
        return blobs.open(KEY)

    def test_a_connection_that_breaks(self) -> None:
        """It is tried again, and nobody notices."""
        with self.relayed() as (relay, bucket):
            blobs = S3BlobStore(bucket)
            put(blobs, KEY, b"there")
            for _ in range(3):
                relay.cut()
                self.assertEqual(blobs.open(KEY).read(0, 10), b"there")

    @contextmanager
    def relayed(self) -> Iterator[tuple[Relay, Bucket]]:
        host, port = swift().endpoint.removeprefix("http://").split(":")
        relay = Relay((host, int(port)))
        try:
            yield relay, new_bucket(endpoint=f"http://127.0.0.1:{relay.address[1]}")
        finally:
            relay.end()

    def test_a_bucket_that_is_full(self) -> None:
        """Quota and disk: told from other outages, by the code or by the status alone."""
        self.patch(s3, "RETRIES", 0)
        for status, code in ((507, "XMinioStorageFull"), (403, "QuotaExceeded"), (507, ""),
                             (413, "EntityTooLarge")):
            with answering(status, code) as endpoint:
                for words in self.told(new_bucket(endpoint=endpoint), StoreFull):
                    self.assertIn("no space is left there", words)

    def test_other_answers(self) -> None:
        """What is not known here is told with status and code, and nothing else that the server said."""
        self.patch(s3, "RETRIES", 0)
        for status, code, expected in (
                (418, "TeaPot", "an error of the service (418 TeaPot)"),
                (503, "SlowDown", "it is asked too often"), (403, "RequestTimeTooSkewed", "clocks"),
                (400, "ExpiredToken", "expired"), (403, "", "these credentials may not do this (403)"),
                (500, "", "an error of the service (500)")):
            with answering(status, code) as endpoint:
                for words in self.told(new_bucket(endpoint=endpoint)):
                    self.assertIn(expected, words)


@contextmanager
def answering(status: int, code: str) -> Iterator[str]:
    """Give the address of a service that answers everything with one error, and repeats what it was sent."""
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            said = f"<StringToSign>{self.headers.get('authorization')} {SECRET}</StringToSign>"
            body = f"<Error><Code>{code}</Code><Message>{SECRET}</Message>{said}</Error>".encode()
            self.send_response(status)
            self.send_header("content-length", str(0 if self.command == "HEAD" else len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class CredentialsTests(SynchronousTestCase):
    """The file of keys."""

    def file(self, text: str | bytes) -> str:
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(text if isinstance(text, bytes) else text.encode())
        return path

    def test_what_is_in_it(self) -> None:
        """[default], else the only section; a token if there is one; anything else besides."""
        for text, expected in {
            "[default]\naws_access_key_id = A\naws_secret_access_key=b/%c+=\n": ("A", "b/%c+=", None),
            "[x]\naws_secret_access_key: s\nAWS_ACCESS_KEY_ID = A\nregion = r\n": ("A", "s", None),
            "# words\n[a]\nb = c\n[default]\naws_access_key_id=A\naws_secret_access_key=s\n"
            "aws_session_token = t=\n": ("A", "s", "t="),
        }.items():
            self.assertEqual(read_credentials(self.file(text)), expected)

    def test_what_is_wrong_with_it(self) -> None:
        """Missing, of another form, without a key: the file is named, and nothing in it."""
        for text, words in ((None, "No such file"), (f"{SECRET}\n", "is no file of credentials"),
                            (f"[a]\n{SECRET}\n[a]\n", "is no file"), (b"[\xff]\n", "is no file"),
                            (f"[default]\naws_secret_access_key = {SECRET}\n", "has no aws_access_key_id"),
                            ("[default]\naws_access_key_id = A\naws_secret_access_key =\n",
                             "has no aws_secret_access_key in [default]"),
                            (f"[a]\naws_access_key_id = {SECRET}\n[b]\n", "in [default]"),
                            ("", "in [default]")):
            path = self.mktemp() if text is None else self.file(text)
            told = str(self.assertRaises(StoreUnavailable, read_credentials, path))
            self.assertTrue(words in told and path in told and SECRET not in told, told)
            blobs = S3BlobStore(new_bucket(credentials_file=path))
            told = str(self.assertRaises(StoreUnavailable, blobs.owner))
            self.assertTrue(words in told and path in told and SECRET not in told, told)

    def test_keys_that_are_changed(self) -> None:
        """They are taken up while the store is in use, within the time that is said."""
        self.patch(s3_credentials, "READ_AGAIN_SECONDS", 0)
        cluster = swift()
        wrong, right = (Path(credentials_file(cluster, secret=secret)).read_text()
                        for secret in (SECRET, None))
        path = self.file(right)
        blobs = S3BlobStore(new_bucket(credentials_file=path))
        put(blobs, KEY, b"x")
        for text, works in ((wrong, False), (right, True)):
            Path(path).write_text(text)
            if works:
                self.assertEqual(blobs.open(KEY).read(0, 1), b"x")
            else:
                self.assertRaises(StoreUnavailable, blobs.open, KEY)

    def test_keys_in_the_environment(self) -> None:
        """Without a file they are where Amazon's tools look for them, too."""
        cluster, bucket = swift(), new_bucket(credentials_file=None)
        for name, value in (("AWS_ACCESS_KEY_ID", cluster.access_key),
                            ("AWS_SECRET_ACCESS_KEY", cluster.secret_key)):
            self.patch(os, "environ", {**os.environ, name: value})
            os.putenv(name, value)
            self.addCleanup(os.unsetenv, name)
        blobs = S3BlobStore(bucket)
        put(blobs, KEY, b"x")
        self.assertEqual(blobs.open(KEY).read(0, 1), b"x")


class RequestTests(SynchronousTestCase):
    """What a blob costs, and what is left of it."""

    def setUp(self) -> None:
        host, port = swift().endpoint.removeprefix("http://").split(":")
        self.relay = Relay((host, int(port)))
        self.addCleanup(self.relay.end)
        self.blobs = S3BlobStore(new_bucket(endpoint=f"http://127.0.0.1:{self.relay.address[1]}"))

    def asked(self, call: Any, *args: Any) -> int:
        """Return how many requests a call makes."""
        self.relay.forget()
        call(*args)
        return self.relay.asked

    def test_a_small_blob(self) -> None:
        """One request to write it, one to read it, one to remove it."""
        self.assertEqual(self.asked(put, self.blobs, KEY, b"x" * 4000), 1)
        self.assertEqual(self.asked(lambda: self.blobs.open(KEY).read(0, 4000)), 1)
        self.assertEqual(self.asked(self.blobs.remove, KEY), 1)

    def test_reading_in_order(self) -> None:
        """Ranges grow to a mebibyte; reading elsewhere takes no more than is asked for, or 64 KiB."""
        content = Random(1).randbytes(4 << 20)
        put(self.blobs, KEY, content)
        reader = self.blobs.open(KEY)

        def read(offset: int, end: int) -> None:
            for at in range(offset, end, PIECE_OCTETS):
                self.assertTrue(reader.read(at, PIECE_OCTETS) == content[at:at + PIECE_OCTETS])

        self.assertEqual(self.asked(read, 0, 5 * PIECE_OCTETS), 1)      # 64 KiB came with its opening
        self.assertEqual(self.asked(read, 5 * PIECE_OCTETS, 5 * PIECE_OCTETS + MOST_AHEAD_OCTETS), 1)
        self.assertEqual(self.asked(read, 5 * PIECE_OCTETS + MOST_AHEAD_OCTETS, 4 << 20), 3)
        self.assertEqual(self.asked(read, 0, PIECE_OCTETS), 1)
        self.assertTrue(len(reader._piece) == PIECE_OCTETS)
        self.assertEqual(self.asked(reader.read, 1 << 20, 2 << 20), 1)

    def test_parts_that_are_given_up(self) -> None:
        """Nothing stays of them in the bucket: they cost no space."""
        cluster, bucket = swift(), swift().make_bucket()
        blobs = S3BlobStore(new_bucket(name=bucket))
        writer = blobs.create(KEY)
        for _ in range(3):
            writer.write(bytes(PART_OCTETS))
        self.assertEqual(len(cluster.uploads(bucket)), 1)
        writer.abandon()
        self.assertEqual((cluster.uploads(bucket), cluster.names(bucket)), ([], []))

    def test_an_end_that_is_not_known(self) -> None:
        """A blob whose last answer was lost is removed when it is given up, if it is there at all."""
        direct = S3BlobStore(self.blobs.bucket._replace(endpoint=swift().endpoint))
        writer = self.blobs.create(KEY)
        writer.write(b"x")

        def lost_answer(*args: Any, **options: Any) -> None:
            real_put(*args, **options)
            raise OSError("the answer was lost")

        real_put = obstore.put
        self.patch(obstore, "put", lost_answer)
        self.assertRaises(StoreUnavailable, writer.finish)
        self.assertEqual(direct.open(KEY).read(0, 1), b"x")
        writer.abandon()
        self.assertRaises(StoreUnavailable, direct.open, KEY)

    def test_trying_it_out(self) -> None:
        """Leaves nothing, and does not make the bucket anybody's."""
        self.blobs.try_out()
        self.assertEqual(list(obstore.list(self.blobs._open())), [])

    def test_the_clock_is_the_buckets(self) -> None:
        """Ages do not go by the time here, which may be wrong."""
        put(self.blobs, KEY, b"x")
        self.patch(time, "time", lambda: 4e9)
        [(key, age)] = self.blobs.keys()
        self.assertTrue(key == KEY and age < 60)


class DeviceTests(SynchronousTestCase):
    """A device of the cluster is lost in the middle of the work."""

    def setUp(self) -> None:
        self.cluster: Swift = swift()
        self.blobs = S3BlobStore(new_bucket(name=self.cluster.make_bucket()))   # it is out of step afterwards
        self.addCleanup(lambda: [self.cluster.give_back(device) for device in DEVICES])

    def test_reads_and_writes_go_on(self) -> None:
        """Whichever device it is; what was written meanwhile is there when it is back."""
        contents = {f"{number:026x}": Random(number).randbytes(200_000) for number in range(12)}
        self.blobs.belong_to("one")
        for key in list(contents)[:4]:
            put(self.blobs, key, contents[key])
        reader = self.blobs.open(f"{0:026x}")
        for number, device in enumerate(DEVICES):
            self.cluster.take_away(device)
            self.assertEqual(self.blobs.owner(), "one")
            offset = (number + 1) * 40_000
            self.assertEqual(reader.read(offset, 100), contents[f"{0:026x}"][offset:offset + 100])
            for key in list(contents)[4 + 2 * number:6 + 2 * number]:
                put(self.blobs, key, contents[key])
            for key in list(contents)[:6 + 2 * number]:
                self.assertTrue(self.blobs.open(key).read(0, 200_000) == contents[key], (device, key))
            self.cluster.give_back(device)

    def test_when_too_many_are_lost(self) -> None:
        """It is an outage; what was there is there again with them."""
        put(self.blobs, KEY, b"there")
        for device in DEVICES:
            self.cluster.take_away(device)
        blobs = S3BlobStore(self.blobs.bucket)
        for call in (lambda: blobs.open(KEY), blobs.keys, blobs.owner, lambda: put(blobs, "x" * 26, b"x")):
            self.assertRaises(StoreUnavailable, call)
        for device in DEVICES:
            self.cluster.give_back(device)
        self.assertEqual(blobs.open(KEY).read(0, 10), b"there")
