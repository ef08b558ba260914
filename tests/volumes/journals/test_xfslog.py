"""Logs of XFS that are good, cut off, damaged and hostile."""

from __future__ import annotations

import struct

import pytest

from aipimage.volumes.journals.xfslog import transactions as module
from aipimage.volumes.view import LayoutError
from tests.volumes.journals.builtlog import (
    BB,
    BLOCK,
    BLOCKS,
    CONTINUE,
    INODE,
    UUID,
    WAS_CONTINUED,
    Built,
    buffer,
    cancel,
    intent,
    operation,
    transaction,
)
from tests.volumes.xfs.built import crc32c

CHUNK = 128


def chunk(fill: int) -> bytes:
    return bytes([fill]) * CHUNK


def refused(built: Built) -> str:
    with pytest.raises(LayoutError) as caught:
        built.replay()
    return str(caught.value)


def at(built: Built, offset: int, length: int = CHUNK) -> bytes:
    return bytes(built.replay()[0].read(offset, length))


def test_changes_of_buffers() -> None:
    """Chunks that lie together are one region; nothing else of the buffer changes."""
    built = Built(volume={40 * BB: b"\x11" * 1024})
    built.record(transaction(1, [buffer(40, 2, {0: chunk(1), 1: chunk(2), 5: chunk(3)})]))
    wanted = b"\x01" * 128 + b"\x02" * 128 + b"\x11" * 384 + b"\x03" * 128 + b"\x11" * 256
    assert at(built, 40 * BB, 1024) == wanted
    assert built.replay()[1].places.tolist() == [[40 * BB, 1024]]
    assert built.replay()[1].transactions == 1


def test_a_run_in_several_regions() -> None:
    built = Built()
    item = buffer(40, 1, {0: chunk(1), 1: chunk(2), 2: chunk(3)})
    head = bytearray(item[0])
    struct.pack_into("<H", head, 2, 3)
    built.record(transaction(1, [[bytes(head), item[1][:256], item[1][256:]]]))
    assert at(built, 40 * BB, 384) == item[1]


def test_transactions_in_pieces() -> None:
    """Header and regions go on in the next record, and another transaction lies between."""
    first = transaction(1, [buffer(40, 1, {0: chunk(1)})])
    other = transaction(2, [buffer(50, 1, {0: chunk(2)})])
    header, region = first[1][12:], first[3][12:]
    built = Built()
    built.record([first[0], operation(1, header[:6], CONTINUE), *other[:3]])
    built.record([operation(1, header[6:], WAS_CONTINUED | 0x10), first[2], *other[3:]])
    built.record([operation(1, region[:50], CONTINUE)])
    built.record([operation(1, region[50:90], WAS_CONTINUED | CONTINUE)])
    built.record([operation(1, region[90:], WAS_CONTINUED | 0x10), first[4]])
    found = built.transactions()
    assert [each.lsn for each in found] == [built.lsn(0), built.lsn(0)]
    assert at(built, 40 * BB) == chunk(1)
    assert at(built, 50 * BB) == chunk(2)


def test_class_50_transactions_that_were_not_committed() -> None:
    """They never happened; and what began before the tail is not known."""
    built = Built()
    built.record(transaction(1, [buffer(40, 1, {0: chunk(1)})])[:-1])
    built.record(transaction(2, [buffer(41, 1, {0: chunk(2)})]))
    built.record(transaction(3, [buffer(42, 1, {0: chunk(3)})])[2:])
    assert [at(built, block * BB) for block in (40, 41, 42)] == [bytes(128), chunk(2), bytes(128)]


def test_freed_buffers() -> None:
    """What was logged before a buffer was freed does not count, as often as it was freed."""
    built = Built(volume={40 * BB: b"data" * 128})
    built.record(transaction(1, [buffer(40, 1, {0: chunk(1)})]))
    built.record(transaction(2, [cancel(40, 1)]))
    built.record(transaction(3, [buffer(40, 1, {1: chunk(2)})]))
    built.record(transaction(4, [cancel(40, 1), buffer(40, 1, {2: chunk(3)})]))
    built.record(transaction(5, [buffer(40, 1, {3: chunk(4)})]))
    assert at(built, 40 * BB, 512) == b"data" * 96 + chunk(4)
    built = Built().record(transaction(1, [buffer(40, 1, {0: chunk(1)}), cancel(40, 1)]))
    assert len(built.replay()[1].places) == 0
    # Of another length it is another buffer.
    built = Built().record(transaction(1, [cancel(40, 2), buffer(40, 1, {0: chunk(1)})]))
    assert at(built, 40 * BB) == chunk(1)


def agf(lsn: int, uuid: bytes = UUID) -> bytearray:
    sector = bytearray(b"\x33" * 512)
    sector[:4], sector[64:80] = b"XAGF", uuid
    struct.pack_into(">Q", sector, 208, lsn)
    return sector


def test_what_is_newer_stays() -> None:
    """By its number and UUID; of two changes with one number both count."""
    for lsn, uuid, is_replayed in (
        (0, UUID, True), (1 << 32, UUID, True), (9 << 32, UUID, False),
        (9 << 32, bytes(16), True), ((1 << 64) - 1, UUID, True),
    ):  # fmt: skip
        built = Built(volume={2 * BB: bytes(agf(lsn, uuid))})
        built.record(transaction(1, [buffer(2, 1, {3: chunk(1)})]))
        assert (at(built, 2 * BB + 3 * CHUNK) == chunk(1)) is is_replayed
    built = Built(volume={2 * BB: bytes(agf(5))})
    first, second = (
        transaction(number, [buffer(2, 1, {number + 1: chunk(number)})]) for number in (1, 2)
    )
    built.record([*first, *second])
    found = at(built, 2 * BB, 512)
    assert found[256:] == chunk(1) + chunk(2)
    assert struct.unpack_from(">Q", found, 208)[0] == built.lsn()
    assert struct.unpack_from("<I", found, 216)[0] == crc32c(found[:216] + bytes(4) + found[220:])


@pytest.mark.parametrize("start", [3, 240, 252])
@pytest.mark.parametrize("size", [32 << 10, 64 << 10])
def test_records_of_several_headers_over_the_end(start: int, size: int) -> None:
    """A record of more than 32 KiB, wherever the ring ends in it."""
    built = Built(start=start, size=size)
    items = [buffer(100 + number, 1, {0: chunk(number), 2: chunk(7)}) for number in range(100)]
    built.record(transaction(1, items))
    built.record(transaction(2, [buffer(100, 1, {3: chunk(9)})]))
    for number in range(100):
        assert at(built, (100 + number) * BB, 128) == chunk(number)
    assert at(built, 100 * BB + 384) == chunk(9)


@pytest.mark.parametrize("inside", [0, 40, 512, 700, 1500])
def test_class_50_a_last_record_that_is_torn(inside: int) -> None:
    """It ends the log; further back than 8 records it is damage."""
    built = Built()
    for number in range(12):
        item = buffer(100 + number, 4, {index: chunk(number + 1) for index in range(16)})
        built.record(transaction(number, [item]))
    for back, count in ((1, 11), (5, 7), (8, 4)):
        torn = Built(ring=bytearray())
        torn.ring[:] = built.ring
        place = built.records[-back] * BB + inside
        torn.ring[place : place + 4] = bytes(value ^ 0xFF for value in torn.ring[place : place + 4])
        if inside in (0, 512):
            # A block of another turn is where the head is looked for first.
            torn.ring[place : place + 4] = struct.pack(">I", built.cycle - 1)
        assert len(torn.transactions()) == count
    place = built.records[1] * BB + inside
    built.ring[place : place + 4] = bytes(value ^ 0xFF for value in built.ring[place : place + 4])
    assert "damaged" in refused(built)


def test_class_50_records_of_other_kinds() -> None:
    ops = transaction(1, [buffer(40, 1, {0: chunk(1)})])
    for fields, wanted in (
        ({"x12c": 2}, "machine of another kind"), ({"x8": 0}, "version"), ({"x8": 4}, "version"),
        ({"x140": 1 << 30}, "no record|damaged|version"), ({"xc": 0}, "no record|damaged"),
        ({"xc": 1 << 31}, "no record|damaged"), ({"x18": 9}, "tail of its log|damaged"),
        ({"x1c": 9}, "tail of its log|damaged"), ({"x1c": 1 << 30}, "a tail|damaged"),
        ({"x130": 5}, "damaged"), ({"x14": 3}, "damaged"),
    ):  # fmt: skip
        found = refused(Built().record(ops, **fields))
        assert any(part in found for part in wanted.split("|")), (fields, found)


def test_class_42_operations_that_run_out_of_their_record() -> None:
    ops = transaction(1, [buffer(40, 1, {0: chunk(1)})])
    assert "damaged" in refused(Built().record(ops, count=99))
    long = bytearray(ops[2])
    struct.pack_into(">I", long, 4, 1 << 31)
    assert "damaged" in refused(Built().record([*ops[:2], bytes(long)]))
    assert "something unknown" in refused(Built().record([operation(1, client=5)]))
    assert "unknown flags" in refused(Built().record([ops[0], operation(1, flags=0x40)]))
    assert "unknown flags" in refused(Built().record([ops[0], ops[0]]))


def test_class_42_items_that_are_damaged() -> None:
    """Counts of regions, sizes of maps, chunks past the end, blocks that are not there."""

    def with_item(*regions: bytes) -> str:
        return refused(Built().record(transaction(1, [regions])))

    good = buffer(40, 1, {0: chunk(1)})
    head = struct.Struct("<HHHHqI")
    assert "impossible size" in with_item(b"\x3c\x12\0\0" + good[0][4:], good[1])
    assert "impossible size" in with_item(b"\x3c\x12\xff\xff" + good[0][4:], good[1])
    assert "impossible size" in with_item(b"\x3c")
    assert "damaged" in with_item(b"\x3c\x12\x09\0" + good[0][4:], good[1])
    assert "damaged" in with_item(b"\x3c\x12\x01\0")
    for fields in (
        (0x123C, 2, 0, 0, 40, 1), (0x123C, 2, 0, 1, -5, 1), (0x123C, 2, 0, 129, 40, 1),
        (0x123C, 2, 0, 1, 40, 9), (0x123C, 2, 0, 1, 40, 1 << 30), (0x123C, 2, 0, 1, 1 << 40, 1),
        (0x123C, 2, 0, 1, 2 * BLOCKS, 1),
    ):  # fmt: skip
        found = with_item(head.pack(*fields) + b"\x01\0\0\0", chunk(1))
        assert "damaged" in found or "not there" in found
    assert "damaged" in with_item(head.pack(0x123C, 2, 0, 1, 40, 1) + b"\x10\0\0\0", chunk(1))
    assert "damaged" in with_item(head.pack(0x123C, 2, 0, 1, 40, 1) + b"\x03\0\0\0", chunk(1))
    assert "damaged" in with_item(head.pack(0x123C, 2, 0, 1, 40, 1) + b"\x01\0\0\0", b"x" * 100)
    for kind in (0x1235, 0x1238, 0x124A, 0x124F, 0xFFFF):
        assert f"not known ({kind:#x})" in with_item(struct.pack("<HHIQ", kind, 1, 0, 0))


def test_class_45_transactions_that_never_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not committed takes memory: no more than a bound."""
    monkeypatch.setattr(module, "PENDING_MAX", 20_000)
    first = transaction(1, [buffer(40, 1, {0: chunk(1)})])
    built = Built().record(first[:-1])
    for _ in range(8):
        built.record([operation(1, bytes(4000), WAS_CONTINUED | CONTINUE)])
    assert "larger than can be looked at" in refused(built)


def test_class_50_announced_and_not_done() -> None:
    """The blocks of each intent without its end; others are forgotten."""
    built = Built()
    built.record(
        transaction(
            1,
            [
                intent(0x1236, 5, [(300, 4), (512 + 7, 1)]), intent(0x1240, 5, [(310, 2)]),
                intent(0x1242, 6, [(320, 3)]), intent(0x1244, 7, [(330, 1)]),
                intent(0x1246, 8), intent(0x1248, 9), intent(0x1236, 10, [(340, 1)]),
            ],
        )
    )  # fmt: skip
    built.record(transaction(2, [intent(0x1241, 5), intent(0x1237, 10, [(340, 1)])]))
    pending = built.replay()[1].pending
    assert sorted(pending) == [(300, 4), (320, 3), (330, 1), (519, 1)]
    short = intent(0x1236, 5, [(300, 4)])
    assert "damaged" in refused(Built().record(transaction(1, [[short[0][:-4]]])))


def log_core(**values: int) -> bytearray:
    """An inode as it is in memory, each number another one."""
    core = bytearray(176)
    for index in range(0, 176, 8):
        struct.pack_into("<Q", core, index, 0x0102030405060708 + index * 0x0101)
    struct.pack_into("<HHBB", core, 0, 0x494E, 0o100644, 3, 2)
    core[82], core[83] = 20, 2
    struct.pack_into("<Q", core, 120, values.get("flags2", 0))
    core[160:176] = UUID
    return core


def is_sealed(inode: bytes) -> bool:
    """Whether the checksum of an inode is right."""
    wanted = crc32c(inode[:100] + bytes(4) + inode[104:])
    return bool(struct.unpack_from("<I", inode, 100)[0] == wanted)


def inode_item(fields: int, core: bytes, *forks: bytes, offset: int = 0) -> list[bytes]:
    head = struct.pack(
        "<HHIHHIQ16sqii", 0x123B, 2 + len(forks), fields, 0, 0, 0, 99, b"\5\6\7\x08" + bytes(12),
        60, 4, offset,
    )  # fmt: skip
    return [head, bytes(core), *forks]


def on_disk(lsn: int = 0) -> dict[int, bytes]:
    """A cluster of four inodes."""
    inode = bytearray(INODE)
    inode[:2], inode[4] = b"IN", 3
    struct.pack_into(">I", inode, 96, 0xABCDEF01)
    struct.pack_into(">Q", inode, 112, lsn)
    return {60 * BB: bytes(inode) * 4}


@pytest.mark.parametrize("flags2", [0, 8, 16, 24])
def test_inodes(flags2: int) -> None:
    """Every number turned round; times and counts by the inode's flags; forks at their places."""
    core = log_core(flags2=flags2)
    data, attribute = b"d" * 48, b"a" * 24
    built = Built(volume=on_disk())
    built.record(transaction(1, [inode_item(1 | 4 | 0x40, core, data, attribute, offset=512)]))
    found = at(built, 60 * BB + 512, INODE)
    for place, kind in (
        (2, "H"), (8, "I"), (12, "I"), (16, "I"), (20, "H"), (22, "H"), (56, "Q"), (64, "Q"),
        (72, "I"), (76, "I"), (80, "H"), (90, "H"), (92, "I"), (104, "Q"), (120, "Q"), (128, "I"),
        (152, "Q"),
    ):  # fmt: skip
        wanted = struct.unpack_from(f"<{kind}", core, place)
        assert struct.unpack_from(f">{kind}", found, place) == wanted, place
    for place in (32, 40, 48, 144):
        form = "Q" if flags2 & 8 else "II"
        assert struct.unpack_from(f">{form}", found, place) == struct.unpack_from(
            f"<{form}", core, place
        )
    big = struct.unpack_from("<Q", core, 24)[0] if flags2 & 16 else 0
    assert struct.unpack_from(">Q", found, 24)[0] == big
    assert found[:2] + found[4:6] + found[82:84] == b"IN\x03\x02\x14\x02"
    assert struct.unpack_from(">I", found, 96)[0] == 0xABCDEF01
    assert struct.unpack_from(">Q", found, 112)[0] == built.lsn()
    assert found[160:176] == UUID
    assert found[176:224] == data
    assert found[336:360] == attribute
    assert is_sealed(found)


def test_inodes_with_trees_and_devices() -> None:
    """The root of a tree of extents loses its header, and its pointers move."""
    root = struct.pack(">4sHH", b"BMA3", 1, 2).ljust(72, b"\0")
    room = 3
    root += struct.pack(">QQ", 11, 12).ljust(8 * room, b"\xee")
    root += struct.pack(">QQ", 21, 22).ljust(8 * room, b"\xee")
    built = Built(volume=on_disk())
    built.record(transaction(1, [inode_item(1 | 8, log_core(), root)]))
    found = at(built, 60 * BB, INODE)
    most = (160 - 4) // 16
    wanted = struct.pack(">HHQQ", 1, 2, 11, 12).ljust(4 + 8 * most, b"\0")
    wanted += struct.pack(">QQ", 21, 22)
    assert found[176 : 176 + len(wanted)] == wanted
    built = Built(volume=on_disk()).record(transaction(1, [inode_item(1 | 32, log_core())]))
    assert at(built, 60 * BB + 176, 4) == b"\x08\7\6\5"


def test_inodes_that_stay() -> None:
    """Newer ones, and those of a cluster that was freed."""
    item = inode_item(1, log_core())
    for lsn, is_replayed in ((3 << 32 | 20, True), (3 << 32 | 21, False), (2**64 - 1, True)):
        built = Built(volume=on_disk(lsn)).record(transaction(1, [item]))
        assert (struct.unpack(">H", at(built, 60 * BB + 2, 2)) == (0o100644,)) is is_replayed
    built = Built(volume=on_disk()).record(transaction(1, [item, cancel(60, 4)]))
    assert at(built, 60 * BB + 2, 2) == bytes(2)


@pytest.mark.parametrize(
    "item",
    [
        inode_item(1, b"IN" + log_core()[2:]), inode_item(1, log_core()[:100]),
        inode_item(1 | 4, log_core()), inode_item(1 | 4, log_core(), b"x" * 164),
        inode_item(1 | 0x40, log_core(), b"x" * 200), inode_item(1, log_core(), offset=1600),
        inode_item(1 | 8, log_core(), b"x" * 71), inode_item(1 | 8, log_core(), b"\xff" * 100),
        [inode_item(1, log_core())[0][:52], bytes(log_core())],
        inode_item(1, log_core()[:82] + b"\xff" + log_core()[83:]),
    ],
)  # fmt: skip
def test_class_42_inodes_that_are_damaged(item: list[bytes]) -> None:
    found = refused(Built(volume=on_disk()).record(transaction(1, [item])))
    assert "damaged" in found or "larger than its place" in found


def test_an_inode_that_is_not_there() -> None:
    item = inode_item(1, log_core())
    assert "not there" in refused(Built().record(transaction(1, [item])))


def test_lists_of_unlinked_inodes() -> None:
    """Of a buffer of inodes only where that list goes on is taken, with the inode's checksum."""
    built = Built(volume=on_disk())
    built.record(transaction(1, [buffer(60, 4, {0: chunk(7), 4: chunk(8)}, flags=1 | 8 << 11)]))
    found = at(built, 60 * BB, 4 * INODE)
    plain = on_disk()[60 * BB]
    for number, fill in ((0, 7), (1, 8)):
        inode = found[number * INODE : (number + 1) * INODE]
        assert inode[96:100] == bytes([fill]) * 4
        assert inode[:96] == plain[:96]
        assert inode[104:] == plain[104:INODE]
        assert is_sealed(inode)
    assert found[2 * INODE :] == plain[2 * INODE :]


def new_inodes(*fields: int) -> list[bytes]:
    return [struct.pack("<HH", 0x123F, 1) + struct.pack(">6I", *fields)]


def test_new_inodes() -> None:
    built = Built(volume={(512 + 300) * BLOCK: b"\xff" * 16 * BLOCK})
    built.record(transaction(1, [new_inodes(1, 300, 32, INODE, 16, 77)]))
    for number in (0, 1, 31):
        inode = at(built, (512 + 300) * BLOCK + number * INODE, INODE)
        assert inode[:6] == b"IN\0\0\x03\0"
        assert struct.unpack_from(">II", inode, 92) == (77, 0xFFFFFFFF)
        assert struct.unpack_from(">Q", inode, 152)[0] == (1 << 10) + 600 + number
        assert inode[160:176] == UUID
        assert is_sealed(inode)
    built.record(transaction(2, [cancel((512 + 300) * 2 + 4, 4)]))
    assert at(built, (512 + 300) * BLOCK, 512) == b"\xff" * 512
    for fields in (
        (1, 399, 32, INODE, 16, 7), (9, 300, 32, INODE, 16, 7), (0, 300, 31, INODE, 16, 7),
        (0, 300, 64, 256, 16, 7), (0, 300, 1 << 31, INODE, 1 << 30, 7),
    ):  # fmt: skip
        assert "damaged" in refused(Built().record(transaction(1, [new_inodes(*fields)])))


def test_quotas() -> None:
    def item(data: bytes, offset: int = 136) -> list[bytes]:
        return [struct.pack("<HHIqiI", 0x123D, 2, 5, 70, 1, offset), data]

    built = Built().record(transaction(1, [item(b"q" * 104)]))
    found = at(built, 70 * BB + 136, 136)
    assert found[:104] == b"q" * 104
    assert struct.unpack_from("<I", found, 108)[0] == crc32c(found[:108] + bytes(4) + found[112:])
    assert "damaged" in refused(Built().record(transaction(1, [item(b"q" * 137)])))
    assert "damaged" in refused(Built().record(transaction(1, [item(b"q" * 104, 400)])))


def test_class_50_logs_without_a_beginning() -> None:
    """Empty, of one turn alone, with blocks of any turn."""
    built = Built()
    assert "no record" in refused(built)
    built.ring[-512:-508] = struct.pack(">I", 77)
    assert "ends with 77" in refused(built)
    built.ring[:] = bytes(len(built.ring))
    assert "empty" in refused(built)
    zeroed = Built(cycle=1, start=20).record(transaction(1, [buffer(40, 1, {0: chunk(1)})]))
    assert at(zeroed, 40 * BB) == chunk(1)
