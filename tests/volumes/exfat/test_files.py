"""What files and directories of an exFAT volume claim is compared with its bitmap."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from aipimage.volumes.filesystems.exfat import PARSER, walk
from aipimage.volumes.view import LayoutError
from tests.support.sources import SparseSource
from tests.support.surveyed import surveyed, used_of
from tests.volumes.exfat.built import END, ExfatVolume
from tests.volumes.exfat.checked import (
    CHAINED,
    CONTIGUOUS,
    FILE,
    file_set,
    refused,
    stream_entry,
    used,
    with_files,
)


def test_what_files_lie_in_is_used() -> None:
    """Clusters that follow each other, and those that the FAT leads to."""
    plain = (2, 3, 4, 5, 6, 7, 100, 101, 102)
    volume = with_files(file_set(CONTIGUOUS), file_set(CHAINED), used=plain)
    assert used(volume) == list(plain)
    for gone in (6, 7, 100, 101, 102):
        bits = tuple(number for number in plain if number != gone)
        refused(volume.but(used=bits), "the bitmap calls free what files lie in")


def test_files_without_clusters_claim_none() -> None:
    plain = (2, 3, 4, 5)
    for stream in (stream_entry(0, 0), stream_entry(0, 0, 3), stream_entry(100, 1500, 0)):
        assert used(with_files(file_set(stream), used=plain)) == list(plain)
    for nowhere in (1, 202, 1 << 31):
        stream = stream_entry(nowhere, 100)
        assert used(with_files(file_set(stream), used=plain)) == list(plain)
    deleted = bytes(
        byte & 0x7F if at % 32 == 0 else byte for at, byte in enumerate(file_set(CONTIGUOUS))
    )
    assert used(with_files(deleted, used=plain)) == list(plain)


def test_files_of_directories_are_looked_at() -> None:
    """The directory's own clusters, and those of the files in it and in one below."""
    plain = (2, 3, 4, 5, 8, 9, 100, 101, 102)
    volume = with_files(file_set(stream_entry(8, 512, 3), directory=True), used=plain)
    first = file_set(stream_entry(9, 512, 3), directory=True)
    second = file_set(CONTIGUOUS)

    def filled(one: ExfatVolume) -> SparseSource:
        data = bytearray(one.head_bytes()) + bytes(512)
        for cluster, entries in ((8, first), (9, second)):
            at = one.heap * 512 + (cluster - 2) * 512
            data[at : at + len(entries)] = entries
        return SparseSource(one.size, {0: bytes(data)})

    found = used_of(surveyed(PARSER, filled(volume))[1])
    assert (np.flatnonzero(found) + 2).tolist() == list(plain)
    for gone in (8, 9, 101):
        bits = tuple(number for number in plain if number != gone)
        with pytest.raises(LayoutError, match="calls free what files lie in"):
            surveyed(PARSER, filled(volume.but(used=bits)))


@pytest.mark.parametrize(
    ("entries", "claimed"),
    [
        (file_set(stream_entry(200, 1025, 3)), {200, 201}),
        (file_set(stream_entry(100, 1 << 40, 3)), set(range(100, 202))),
        (file_set(stream_entry(6, 5000)), {6, 7}),
        (file_set(stream_entry(8, 5000)), {8, 9}),
        (file_set(stream_entry(4, 1024), directory=True), {4, 5}),
    ],
    ids=["ends behind the last cluster", "too long", "a chain that ends", "a loop", "a circle"],
)
def test_what_can_be_found_of_a_damaged_file_is_compared(entries: bytes, claimed: set[int]) -> None:
    """A damaged file is no doubt about the bitmap as long as they agree."""
    chains = (END, END, 5, END, 7, END, 9, 8)
    everything = (2, 3, 4, 5, *sorted(claimed - {4, 5}))
    volume = with_files(entries, chains=chains, used=everything)
    assert used(volume) == list(everything)
    for gone in claimed - {4, 5}:
        bits = tuple(number for number in everything if number != gone)
        refused(volume.but(used=bits), "calls free what files lie in")


def test_an_entry_of_an_unknown_kind() -> None:
    refused(with_files(file_set(CONTIGUOUS, kind=0x86)), "entry of the kind 0x86")


def test_vendors_may_have_clusters_too() -> None:
    vendor = struct.pack("<BB18xIQ", 0xE1, 1, 6, 700)
    plain = (2, 3, 4, 5, 6, 7)
    assert used(with_files(FILE + vendor, used=plain)) == list(plain)
    refused(with_files(FILE + vendor, used=plain[:-1]), "calls free what files lie in")


def test_the_walk_has_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    sets = [file_set(stream_entry(20 + at, 512, 3), directory=True) for at in range(5)]
    volume = with_files(*sets, used=tuple(range(2, 60)))
    assert surveyed(PARSER, volume.source())[1].free.total
    monkeypatch.setattr(walk, "DIRECTORIES_MAX", 4 * 512)
    refused(volume, "directories are larger than can be compared")
    monkeypatch.undo()
    monkeypatch.setattr(walk, "RUNS_MAX", 4)
    refused(volume, "in more pieces than can be compared")
