"""Bodies as files: whole and synced or not there, private, shared by processes, faults by name."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailgate.errors import StoreFull, StoreUnavailable
from mailgate.interfaces import IBlobReader, IBlobStore, IBlobWriter
from mailgate.stores import files
from mailgate.stores.files import FileBlobStore, os_fault

KEY = "abcdefgh234567abcdefgh2345"
OTHER = "abzzzzzz234567abcdefgh2345"
NOBODY = 65534


class FileBlobTests(SynchronousTestCase):
    """What the store of bodies relies on."""

    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="mailgate-test-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.blobs = FileBlobStore(f"{self.folder}/bodies")
        self.path = f"{self.folder}/bodies/a/b/{KEY}"

    def put(self, key: str, *pieces: bytes) -> None:
        writer = self.blobs.create(key)
        for piece in pieces:
            writer.write(piece)
        writer.finish()

    def names(self) -> list[str]:
        return sorted(name for _, _, names in os.walk(self.folder) for name in names)

    def test_interfaces(self) -> None:
        """Store, writer and reader provide what they say."""
        verifyObject(IBlobStore, self.blobs)
        writer = self.blobs.create(KEY)
        verifyObject(IBlobWriter, writer)
        writer.finish()
        verifyObject(IBlobReader, self.blobs.open(KEY))

    def test_making_a_store_touches_nothing(self) -> None:
        """The folder comes with the first blob; until then there are no keys."""
        self.assertEqual(self.blobs.keys(), [])
        self.assertEqual(os.listdir(self.folder), [])
        self.blobs.remove(KEY)
        self.assertRaises(StoreUnavailable, self.blobs.open, KEY)

    def test_there_and_back(self) -> None:
        """Any octets, written in pieces, read at any offset; fewer only at the end."""
        content = bytes(range(256)) * 1000
        self.put(KEY, content[:1], b"", content[1:100_000], content[100_000:])
        reader = self.blobs.open(KEY)
        for read in (reader.read, reader.read_at_hand):
            self.assertEqual(read(0, 10), content[:10])
            self.assertEqual(read(99_990, 65_536), content[99_990:165_526])
            self.assertEqual(read(255_990, 65_536), content[255_990:])
        self.assertEqual(reader.read(256_000, 1), b"")
        self.assertIsNone(reader.read_at_hand(256_000, 1))
        reader.close()
        reader.close()
        self.assertRaises(StoreUnavailable, reader.read, 0, 1)
        self.assertIsNone(reader.read_at_hand(0, 1))

    def test_an_empty_blob(self) -> None:
        """Is one like any other."""
        self.put(KEY)
        self.assertEqual(self.blobs.open(KEY).read(0, 100), b"")

    def test_nothing_under_its_name_before_the_end(self) -> None:
        """A blob cannot be opened until it is whole; an abandoned one never was."""
        writer = self.blobs.create(KEY)
        writer.write(b"x" * 100_000)
        self.assertRaises(StoreUnavailable, self.blobs.open, KEY)
        self.assertEqual(self.names(), [KEY + ".part"])
        writer.abandon()
        writer.abandon()
        self.assertEqual(self.names(), [])
        self.assertRaises(StoreUnavailable, writer.write, b"x")
        self.assertRaises(StoreUnavailable, writer.finish)

    def test_abandon_after_finish(self) -> None:
        """Takes nothing back."""
        writer = self.blobs.create(KEY)
        writer.finish()
        writer.abandon()
        self.assertEqual(self.names(), [KEY])

    def test_a_key_is_fresh(self) -> None:
        """Two writers of one key are refused: none writes into the other's blob."""
        self.blobs.create(KEY)
        self.assertRaises(StoreUnavailable, self.blobs.create, KEY)

    def test_a_key_is_no_path(self) -> None:
        """Whatever could leave the folder is refused."""
        for key in ("", "short", "../../../etc/passwd", "a/b/cdefgh", "abcdefgh.part", ".abcdefgh", "a" * 101,
                    "abcdefgh\0", "abcdefgh\n", "äbcdefgh"):
            for call in (self.blobs.create, self.blobs.open, self.blobs.remove):
                self.assertRaises(StoreUnavailable, call, key)

    def test_keys(self) -> None:
        """Every blob with its age in seconds, half-written ones too; what is not ours is not named."""
        self.put(KEY, b"x")
        self.blobs.create(OTHER)
        os.utime(self.path, (0, os.stat(self.path).st_mtime - 1000))
        for stranger in ("README", "a/b/.hidden", "a/b/core.1", "a/note"):
            with open(f"{self.folder}/bodies/{stranger}", "w"):
                pass
        (key, age), (other, other_age) = sorted(self.blobs.keys())
        self.assertEqual((key, other), (KEY, OTHER))
        self.assertTrue(1000 <= age < 1100 and 0 <= other_age < 100)

    def test_remove(self) -> None:
        """Whole and half-written ones, twice; who reads it reads on."""
        self.put(KEY, b"content")
        self.blobs.create(OTHER)
        reader = self.blobs.open(KEY)
        for key in (KEY, OTHER, KEY):
            self.blobs.remove(key)
        self.assertEqual((self.names(), self.blobs.keys()), ([], []))
        self.assertEqual(reader.read(0, 100), b"content")

    def test_private(self) -> None:
        """Folders 0700, files 0600, whatever the umask."""
        self.addCleanup(os.umask, os.umask(0))
        self.put(KEY, b"x")
        for path, mode in ((self.path, 0o600), (os.path.dirname(self.path), 0o700),
                           (f"{self.folder}/bodies", 0o700)):
            self.assertEqual(os.stat(path).st_mode & 0o777, mode)

    def test_owner(self) -> None:
        """Kept beside the blobs, whole and synced, before the first of them; the first to come has them."""
        self.assertIsNone(self.blobs.owner())
        self.blobs.belong_to("one")
        self.assertEqual((self.blobs.owner(), os.listdir(self.folder)), (None, []))
        other = FileBlobStore(self.blobs.directory)
        other.belong_to("two")          # nobody's yet
        self.put(KEY, b"x")
        for store in (self.blobs, FileBlobStore(self.blobs.directory)):
            self.assertEqual(store.owner(), "one")
            self.assertRaises(StoreUnavailable, store.belong_to, "two")
            store.belong_to("one")
        self.assertRaises(StoreUnavailable, other.create, OTHER)
        self.assertEqual(self.names(), [files.OWNER_FILE, KEY])
        self.assertEqual(os.stat(f"{self.folder}/bodies/{files.OWNER_FILE}").st_mode & 0o777, 0o600)

    def test_no_owner(self) -> None:
        """Blobs that nothing tells of whose they are, half-written ones too, are nobody's to use."""
        self.blobs.create(KEY)
        for call in (self.blobs.owner, lambda: self.blobs.belong_to("one")):
            self.assertIn(files.OWNER_FILE, str(self.assertRaises(StoreUnavailable, call)))
        self.blobs.remove(KEY)
        self.blobs.belong_to("one")
        self.put(OTHER, b"x")
        self.assertEqual(self.blobs.owner(), "one")

    def test_an_owner_that_cannot_be_read(self) -> None:
        """Is an outage; what is no id of ours is somebody else's."""
        os.makedirs(f"{self.folder}/bodies/{files.OWNER_FILE}")
        self.assertRaises(StoreUnavailable, self.blobs.owner)
        os.rmdir(f"{self.folder}/bodies/{files.OWNER_FILE}")
        with open(f"{self.folder}/bodies/{files.OWNER_FILE}", "wb") as file:
            file.write(b"\xff" * 1_000_000)
        self.assertLess(len(str(self.assertRaises(StoreUnavailable, self.blobs.belong_to, "one"))), 1000)

    def test_order_of_syncs_of_the_owner(self) -> None:
        """What it says, its name, and only then the blob's folders; once a process."""
        calls: list[str] = []
        self.patch(os, "fsync", lambda descriptor: calls.append(
            os.readlink(f"/proc/self/fd/{descriptor}")[len(self.folder):]))
        self.blobs.belong_to("one")
        self.put(KEY, b"x")
        self.assertEqual(calls[0], "")
        self.assertRegex(calls[1], f"^/bodies/{files.OWNER_FILE}")
        self.assertEqual(calls[2:5], ["/bodies", "/bodies", "/bodies/a"])
        self.assertEqual([calls.count(call) for call in ("/bodies", calls[1])], [2, 1])
        calls.clear()
        self.put(OTHER, b"x")
        self.assertEqual(len(calls), 2)

    def test_order_of_syncs(self) -> None:
        """File, rename, folder; each new folder's name before that, and again in no later blob."""
        calls: list[tuple[str, str]] = []

        def fsync(descriptor: int) -> None:
            calls.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")[len(self.folder):]))

        def rename(old: str, new: str) -> None:
            calls.append(("rename", new[len(self.folder):]))
            real_rename(old, new)

        real_rename = os.rename
        self.patch(os, "fsync", fsync)
        self.patch(os, "rename", rename)
        self.put(KEY, b"x")
        first, calls[:] = list(calls), []
        leaf = f"/bodies/a/b/{KEY}"
        ending = [("sync", leaf + ".part"), ("rename", leaf), ("sync", "/bodies/a/b")]
        self.assertEqual(first, [("sync", ""), ("sync", "/bodies"), ("sync", "/bodies/a"), *ending])
        self.put(OTHER, b"x")
        self.assertEqual([kind for kind, _ in calls], ["sync", "rename", "sync"])
        calls.clear()
        FileBlobStore(self.blobs.directory).create("ab" * 10)
        self.assertEqual(len(calls), 3)     # another process may have died between mkdir and sync

    def test_what_the_superuser_writes_is_the_owners(self) -> None:
        """A command run by root leaves bodies that the service can use, and folders that it can write to."""
        if os.geteuid() != 0:
            raise SkipTest("only the superuser can give files away")
        os.chown(self.folder, NOBODY, NOBODY)
        self.blobs.belong_to("one")
        self.put(KEY, b"x")
        made = [self.folder, *(os.path.join(place, name) for place, folders, names in os.walk(self.folder)
                               for name in (*folders, *names))]
        self.assertEqual(len(made), 6)
        for path in made:
            self.assertEqual((os.stat(path).st_uid, os.stat(path).st_gid), (NOBODY, NOBODY), path)

    def test_outages(self) -> None:
        """What stands in the way is an outage, never another exception."""
        with open(self.blobs.directory, "w"):
            pass
        for call in (self.blobs.create, self.blobs.open, self.blobs.remove):
            self.assertRaises(StoreUnavailable, call, KEY)
        self.assertEqual(self.blobs.keys(), [])

    def test_no_space(self) -> None:
        """Is told from other outages, at every step of writing."""
        for step, name in (("write", "write"), ("finish", "fsync"), ("finish", "rename")):
            writer = self.blobs.create(KEY)
            with self.full(name):
                self.assertRaises(StoreFull, getattr(writer, step), *[b"x"] * (step == "write"))
            writer.abandon()
            self.assertEqual(self.names(), [])

    def test_a_new_file_that_cannot_be_given_away(self) -> None:
        """Is neither left nor left open: else every message would cost a descriptor."""
        self.put(OTHER, b"x")
        open_before = len(os.listdir("/proc/self/fd"))
        with self.patched(files, "heir", lambda folder: (NOBODY, NOBODY)), self.full("fchown"):
            self.assertRaises(StoreFull, self.blobs.create, KEY)
        self.assertEqual(len(os.listdir("/proc/self/fd")), open_before)
        self.assertEqual(self.names(), [OTHER])

    def full(self, name: str):
        """Return a context in which a call of the operating system finds no space."""
        def no_space(*args: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        return self.patched(files.os, name, no_space)

    def patched(self, module: object, name: str, value: object):
        """Return a context in which a name of a module means something else."""
        from unittest import mock
        return mock.patch.object(module, name, value)

    def test_faults(self) -> None:
        """Disk and quota full are StoreFull, everything else is StoreUnavailable, and names the file."""
        for number, expected in ((errno.ENOSPC, StoreFull), (errno.EDQUOT, StoreFull),
                                 (errno.EIO, StoreUnavailable), (errno.EACCES, StoreUnavailable)):
            fault = os_fault(OSError(number, "words", "/a/path"))
            self.assertIs(type(fault), expected)
            self.assertIn("/a/path", str(fault))

    def test_a_file_system_that_cannot_tell(self) -> None:
        """Where nothing is known to be at hand a reader goes through a thread."""
        self.put(KEY, b"x")
        reader = self.blobs.open(KEY)
        for number in (errno.EAGAIN, errno.EOPNOTSUPP):
            def refuse(*args: object, number: int = number) -> int:
                raise OSError(number, "not now")

            with self.patched(files.os, "preadv", refuse):
                self.assertIsNone(reader.read_at_hand(0, 1))
        self.patch(files, "NO_WAIT", None)
        self.assertIsNone(reader.read_at_hand(0, 1))
