"""Disks that are not what they say: nothing but a report, or an error of ours, in bounded work."""

from __future__ import annotations

import itertools

import pytest

from aipimage.errors import SourceError
from aipimage.vmdk.guest import contents, examine
from aipimage.vmdk.guest.fatnames import CHAIN_MAX, DIRECTORY_MAX, FatNames
from aipimage.vmdk.p2v import p2v_report
from aipimage.volumes.filesystems.fat.layout import decode_boot_sector
from aipimage.volumes.view import VolumeView
from tests.fuzz.mutate import mutants
from tests.support.sources import SparseSource
from tests.vmdk.guest import fuzz as fuzzing
from tests.volumes.fat import efi
from tests.volumes.fat.built import END, fat32
from tests.volumes.tables.made import mbr_sector, source_of

MIB = 1 << 20


def test_the_seeds_are_understood() -> None:
    """Else mutants of them would test little."""
    tables, fats, ntfs = fuzzing.seeds()[:3], fuzzing.seeds()[3:5], fuzzing.seeds()[5]
    assert [examine(fuzzing.disk(seed)).scheme for seed in tables] == ["mbr", "gpt", "gpt"]
    for seed in fats:
        info = examine(fuzzing.disk(seed))
        assert info.efi
        assert "partition 1 has \\EFI\\a longer name!, \\EFI\\boot, though" in info.firmware_reason
        assert info.architecture == "x86-64"
    assert examine(fuzzing.disk(ntfs)).volumes[1].filesystem == "ntfs"
    assert examine(fuzzing.disk(ntfs)).family == "windows"


@pytest.mark.parametrize("seed", range(3))
def test_mutants(seed: int) -> None:
    for data in itertools.islice(mutants(fuzzing.seeds(), seed), 300):
        fuzzing.target(data)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 110))
def test_many_mutants(seed: int) -> None:
    for data in itertools.islice(mutants(fuzzing.seeds(), seed), 20_000):
        fuzzing.target(data)


def test_a_directory_that_comes_back_to_itself() -> None:
    """Its chain of clusters is a ring: reading ends all the same."""
    volume = fat32(entries=(2, END[32], END[32]), root=efi.entry(b"EFI        ", 3) * 16)
    source = volume.source()
    view = VolumeView(source, 0, source.size)
    names = FatNames(view, decode_boot_sector(source.content(0, 512)))
    found = names.of()
    assert found is not None
    assert len(found) == CHAIN_MAX * 16 <= DIRECTORY_MAX // 32
    assert source.bytes_read < 2 * DIRECTORY_MAX


@pytest.mark.parametrize("cluster", [0, 1, 302, 0x0FFF_FFFF, 0xFFFF_FFFF])
def test_a_directory_outside_of_the_volume(cluster: int) -> None:
    volume = fat32(root=efi.entry(b"EFI        ", cluster))
    source = volume.source()
    view = VolumeView(source, 0, source.size)
    assert FatNames(view, decode_boot_sector(source.content(0, 512))).of("EFI") == []


def test_names_do_not_reach_a_terminal() -> None:
    """Escape sequences in a name are no letters."""
    rows = efi.long_entry("\x1b[2J\n\u202e", 0x41) + efi.entry(b"X          ", 5)
    volume = fat32(entries=(END[32],) * 3, root=efi.entry(b"EFI        ", 3))
    source = volume.source()
    source.pieces[0] = source.pieces[0].ljust(volume.data_start + 1024, b"\0")
    at = volume.data_start + 512
    source.pieces[0] = source.pieces[0][:at] + rows
    reason = examine(source).firmware_reason
    assert reason.isprintable()
    assert "\\EFI\\?[2j??" in reason


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 4096])
def test_tiny_sources(size: int) -> None:
    for byte in (b"\0", b"\xff", b"\x55"):
        info = examine(source_of(size, {0: byte * size} if size else {}))
        assert (info.firmware, info.family, info.starts) == (None, None, False)


def test_sectors_that_cannot_be_read() -> None:
    """At any place: what they would have said is not known, and that is all."""
    seed = fuzzing.seeds()[3]
    for bad, matters in ((0, True), (MIB, True), (MIB + 512, True), (2 * MIB, False)):
        source = fuzzing.disk(seed)
        source.bad = ((bad, 512),)
        assert examine(source).efi is not matters
        assert p2v_report(source).notes


def test_a_source_that_fails() -> None:
    """That is no property of the disk, and the caller must know."""

    class Failing(SparseSource):
        def read_into(self, buffer: object, offset: int) -> None:
            raise SourceError("gone")

    with pytest.raises(SourceError, match="gone"):
        examine(Failing(MIB, {}))


@pytest.mark.parametrize("name", ["_efi_names", "_windows_names"])
def test_a_mistake_of_ours_stops_no_conversion(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("ours")

    monkeypatch.setattr(contents, name, broken)
    info = examine(fuzzing.disk(fuzzing.seeds()[3]))
    assert info.volumes[0].filesystem == "fat12"
    assert not info.efi


def test_more_partitions_than_are_looked_into() -> None:
    """Each look costs some hundred KiB, so that their number has a bound too."""
    rows = {0: mbr_sector([(0, 0x0F, 1, 4000)])}
    for number in range(300):
        link = (0, 5, 4 * number + 4, 3)
        rows[(1 + 4 * number) * 512] = mbr_sector([(0, 0x83, 1, 2), link])
    source = source_of(4 * MIB, rows)
    assert len(examine(source).volumes) == 128
