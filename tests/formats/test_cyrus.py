"""`cyrus.index` of all versions; the one of Debian's Cyrus is read in tests/peers."""

from __future__ import annotations

import io
import struct

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailgate.formats.cyrus import BadIndex, Record, read_header, read_records

# version: octets of header and record
SIZES = {6: (76, 60), 7: (76, 72), 8: (92, 80), 9: (96, 80), 10: (96, 88), 12: (128, 96), 13: (128, 104),
         14: (160, 104), 15: (160, 104), 16: (160, 112), 17: (160, 112), 18: (160, 112), 19: (160, 112),
         20: (192, 144)}
EXPUNGED, UNLINKED, SEEN = 1 << 31, 1 << 30, 1 << 4


def index(version: int, records: list[tuple[int, int, int]], options: int = 1) -> bytes:
    """Return an index; a record is UID, seconds, flags."""
    start, octets = SIZES[version]
    header = bytearray(start)
    struct.pack_into(">6L", header, 0, 1, 0, version, start, octets, len(records))
    struct.pack_into(">L", header, 92 if version == 20 else 44, 1700000000)
    struct.pack_into(">L", header, 64 if version > 18 else 60, options)
    made = [bytes(header)]
    for uid, seconds, flags in records:
        record = bytearray(octets)
        struct.pack_into(">L", record, 0, uid)
        if version == 20:
            struct.pack_into(">Q", record, 8, seconds * 10**9 + 5)
            struct.pack_into(">L", record, 36, flags)
        else:
            struct.pack_into(">L", record, 4, seconds)
            struct.pack_into(">L", record, 32, flags)
        made.append(bytes(record))
    return b"".join(made)


def read(octets: bytes) -> tuple[int, bool, list[Record]]:
    file = io.BytesIO(octets)
    header = read_header(file)
    return header.uid_validity, header.old_ids, list(read_records(file, header))


class IndexTests(SynchronousTestCase):
    def test_versions(self) -> None:
        """Expunged messages are told by their flags since version 12; before they had no record."""
        for version in SIZES:
            flags = EXPUNGED if version >= 12 else 0
            known = [(1, 1000, SEEN), (3, 2000, flags), (4, 3000, flags and UNLINKED), (9, 4000, 0)]
            kept = [Record(uid, seconds) for uid, seconds, gone in known if gone & (EXPUNGED | UNLINKED) == 0]
            self.assertEqual(read(index(version, known)), (1700000000, False, kept), version)
            self.assertEqual(len(kept), 2 if version >= 12 else 4)
            self.assertEqual(read(index(version, [], options=0)), (1700000000, True, []))

    def test_many(self) -> None:
        """More than are read at a time."""
        known = [(uid, uid, 0) for uid in range(1, 2502)]
        self.assertEqual([record.uid for record in read(index(17, known))[2]], list(range(1, 2502)))

    def test_broken(self) -> None:
        whole = index(17, [(1, 1, 0), (2, 2, 0)])
        for octets in (b"", whole[:23], whole[:100], whole[:-1], whole[:160], index(17, [])[:-1],
                       whole[:8] + struct.pack(">L", 11) + whole[12:],
                       whole[:8] + struct.pack(">L", 21) + whole[12:],
                       whole[:12] + struct.pack(">L", 1 << 31) + whole[16:],
                       whole[:16] + struct.pack(">L", 0) + whole[20:]):
            with self.assertRaises(BadIndex):
                read(octets)

    @settings(deadline=None)
    @given(st.integers(0, 40).flatmap(lambda at: st.tuples(st.just(at), st.binary(min_size=1, max_size=8))))
    def test_damaged(self, change: tuple[int, bytes]) -> None:
        """Whatever stands there, it is read or refused."""
        at, octets = change
        whole = index(17, [(1, 1, 0), (2, 2, 0)])
        try:
            records = read(whole[:at] + octets + whole[at + len(octets):])[2]
        except BadIndex:
            return
        self.assertLessEqual(len(records), 4)
