"""Hostile images, one test a class of hostile inputs: a typed refusal, soon, within bounds."""

from __future__ import annotations

import time

import pytest

from aipimage.errors import AipImageError, FormatError, LimitError, UnsupportedError
from aipimage.format.constants import RecordType
from aipimage.io.system.storage import Storage
from aipimage.volumes.image import open_image
from tests.safety.refusals import CONTENTS, forger_of, refused, seal_field, use
from tests.support.forge import Change, put
from tests.support.images import PASSWORD, PATH, image_files, read_all
from tests.support.memory import MemorySystem
from tests.support.soon import SOON


def test_class_02_addresses_wrap_around() -> None:
    for offset in ((1 << 64) - 64, (1 << 63) - 1, (1 << 63) - 200):
        refused(seal_field(264 + 64 + 16, "<Q", offset), FormatError)


def test_class_03_zero_sizes() -> None:
    forger = forger_of("plain")
    for offset in (73, 74, 75):
        refused(forger.forge(None, put(0, b"\x89"), core=put(offset, b"\0")), LimitError)
    refused(seal_field(264, "<Q", 0), LimitError)
    refused(seal_field(264 + 8, "<I", 0), FormatError)


def test_class_04_huge_counts() -> None:
    for offset, layout, value in ((90, "<H", 65_535), (92, "<H", 65_535), (94, "<H", 65_535)):
        refused(seal_field(offset, layout, value), FormatError)
    forger = forger_of("plain")
    index = forger.indexes(RecordType.MAP)[0]
    for offset in (20, 24):
        refused(forger.forge(index, put(offset, b"\xff" * 4)), FormatError)


def test_class_04_a_seal_that_claims_more_frames_than_there_are_atoms() -> None:
    """The verification of an endless frame table ends."""
    origins_at = 264 + 2 * 192
    data = seal_field(origins_at + 32, "<Q", (1 << 52) - 8)
    with open_image(PATH, storage=Storage(MemorySystem({PATH: data}))) as image:
        began = time.process_time()
        assert not image.verify(threads=1).ok
        assert time.process_time() - began < SOON


def test_class_05_two_devices_share_one_map() -> None:
    forger = forger_of("plain")
    seal = len(forger.records) - 1

    def alias(plain: bytes) -> bytes:
        return plain[: 456 + 64] + plain[264 + 64 : 264 + 128] + plain[456 + 128 :]

    refused(forger.forge(seal, alias), FormatError)


def test_class_06_a_record_that_points_at_the_header_at_itself_and_past_the_end() -> None:
    forger = forger_of("plain")
    seal = forger.records[-1].offset
    for offset in (0, 184, seal, len(forger.data) - 256, len(forger.data), 1 << 40):
        refused(seal_field(264 + 64 + 16, "<Q", offset), AipImageError)


def test_class_07_a_failed_open_leaves_nothing_behind() -> None:
    """After a refusal the same storage opens the whole image, and no file stays open."""
    whole = image_files("split", CONTENTS)
    for path in whole:
        system = MemorySystem({**whole, path: whole[path][:-1]})
        for _ in range(3):
            with pytest.raises(AipImageError):
                open_image(PATH, PASSWORD, storage=Storage(system))
            assert system.open_descriptors == 0
        system.files[path] = bytearray(whole[path])
        with open_image(PATH, PASSWORD, storage=Storage(system)) as image:
            assert read_all(image) == CONTENTS
        assert system.open_descriptors == 0


def test_class_08_duplicate_and_unsorted_index_entries() -> None:
    forger = forger_of("plain")
    index = forger.indexes(RecordType.INDEX)[0]
    first, second = slice(8, 80), slice(80, 152)
    changes: list[Change] = [
        lambda plain: plain[:8] + plain[second] + plain[first] + plain[152:],
        lambda plain: plain[:8] + plain[first] + plain[first] + plain[152:],
    ]
    for change in changes:
        assert not use({PATH: forger.forge(index, change)})


def test_class_09_a_tiny_file_that_declares_a_petabyte() -> None:
    """Reading any place of it is refused soon, and so is listing its extents."""
    data = seal_field(264, "<Q", 1 << 50)
    refused(data, FormatError)


@pytest.mark.parametrize(
    ("offset", "value"), [(8, 2), (12, 1 << 31), (16, 16), (16, 1 << 40), (72, 9), (76, 2)]
)
def test_class_10_unknown_version_flag_suite_digest(offset: int, value: int) -> None:
    forger = forger_of("plain")
    width = {8: 2, 12: 4, 16: 8}.get(offset, 1)
    change = put(offset, value.to_bytes(width, "little"))
    data = forger.forge(None, change, core=change)
    refused(data, LimitError if offset == 12 else UnsupportedError)
