"""What the report says of a disk that becomes a virtual one."""

from __future__ import annotations

from pathlib import Path

import pytest

from aipimage.errors import RequestError
from aipimage.vmdk.guest.bootsectors import Chs, bios_heads
from aipimage.vmdk.p2v import p2v_report
from tests.support.tools import require_programs, run
from tests.vmdk.guest import made as disks
from tests.vmdk.guest.made import CODE, MIB, chs, disk_of, ntfs, report, set_geometry
from tests.volumes.tables.made import gpt_pieces, mbr_sector, source_of

DRIVER = "was not looked at"
ACTIVE = "label: dos\nstart=2048, size=16384, type=7, bootable\n"


def windows(path: Path, *options: str, script: str = ACTIVE) -> Path:
    require_programs("sfdisk", "mkntfs", "ntfscp")
    volume = ntfs(path.with_suffix(".ntfs"), ["bootmgr"], *options)
    return disk_of(path, script, {MIB: volume}, CODE)


def test_a_disk_that_fits(tmp_path: Path) -> None:
    path = windows(tmp_path / "d", "-p", "2048", "-H", "255", "-S", "63")
    assert disks.drive_fields(path.read_bytes()[MIB:][:512]) == (63, 255, 2048)
    found = report(path)
    assert found.warnings == ()
    assert len(found.notes) == 2
    assert found.notes[0].startswith("the new machine needs a BIOS, which an appliance says and ")
    assert found.notes[1].startswith("the guest needs a driver for the adapter lsilogic (Linux: mp")
    assert found.notes[1].endswith(DRIVER)
    assert (found.geometry, found.capacity) == ((8, 255, 63), 64 * MIB)


@pytest.mark.parametrize(("hidden", "said"), [("63", "63"), ("0", "0"), ("4096", "4,096")])
def test_hidden_sectors(hidden: str, said: str, tmp_path: Path) -> None:
    found = report(windows(tmp_path / "d", "-p", hidden, "-H", "255", "-S", "63"))
    assert found.warnings == (
        f"partition 1 starts at sector 2,048, and its boot sector says {said} (hidden sectors): its"
        " boot code may not find it",
    )


def test_hidden_sectors_of_what_does_not_start(tmp_path: Path) -> None:
    """A partition that is not active, or a disk that EFI firmware starts: nobody reads them."""
    other = ACTIVE.replace(", bootable", "")
    assert report(windows(tmp_path / "d", "-p", "63", script=other)).warnings == ()


@pytest.mark.parametrize("kind", ["12", "16", "32"])
def test_hidden_sectors_of_fat(kind: str, tmp_path: Path) -> None:
    require_programs("sfdisk", "mkfs.fat")
    size = {"12": 4, "16": 8, "32": 40}[kind] * MIB
    volume = disks.fat(tmp_path / "f", [], size, "-F", kind, "-s", "4" if kind == "12" else "1",
                       "-h", "77", "-g", "16/32")  # fmt: skip
    path = disk_of(tmp_path / "d", ACTIVE.replace("16384", "100000"), {MIB: volume}, CODE)
    hidden, drive = report(path).warnings
    assert "partition 1 starts at sector 2,048, and its boot sector says 77 (hidden" in hidden
    assert "says 16 heads and 32 sectors a track, and the new disk has 255 and 63" in drive


def test_place_in_exfat(tmp_path: Path) -> None:
    require_programs("sfdisk", "mkfs.exfat")
    volume = tmp_path / "x"
    with open(volume, "wb") as file:
        file.truncate(8 * MIB)
    run(["mkfs.exfat", volume])
    (warning,) = report(disk_of(tmp_path / "d", ACTIVE, {MIB: volume}, CODE)).warnings
    assert warning.startswith("partition 1 starts at sector 2,048, and its boot sector says 0 (")


def test_heads_of_another_machine(tmp_path: Path) -> None:
    """240 heads, as some notebooks had: boot code of Windows up to 2003 addresses by them."""
    path = windows(tmp_path / "d", "-p", "2048", "-H", "240", "-S", "63")
    set_geometry(path, 240, 63)
    found = report(path)
    assert found.warnings == (
        "the boot sector of partition 1 says 240 heads and 63 sectors a track, and the new disk has"
        " 255 and 63: boot code that addresses by them, as Windows had it up to 2003 and DOS, will "
        "not start",
    )
    assert found.notes[1] == (
        "the CHS addresses in the partition table are for 240 heads and 63 sectors a track, and the"
        " new disk has 255 and 63: only old systems use them"
    )


@pytest.mark.parametrize(
    ("heads", "track", "adapter", "expected"),
    [
        (255, 63, "lsilogic", None),
        (255, 63, "ide", "255 heads and 63"),
        (16, 63, "ide", None),
        (16, 63, "buslogic", "16 heads and 63"),
        (64, 32, "lsilogic", "64 heads and 32"),
        (128, 63, "lsilogic", "128 heads and 63"),
    ],
)
def test_addresses_in_the_table(
    heads: int, track: int, adapter: str, expected: str | None, tmp_path: Path
) -> None:
    """A small IDE disk keeps its 16 heads; a BIOS makes more of them only of larger ones."""
    code = CODE.ljust(440, b"\0") + bytes(6)
    rows = [(0x80, 6, 2048, 70_000), (0, 0x83, 80_000, 20_000)]
    sector = disks.with_geometry(mbr_sector(rows, code=code), heads, track)
    found = p2v_report(source_of(64 * MIB, {0: sector}), adapter=adapter)
    said = [note for note in found.notes if "CHS" in note]
    assert bool(said) == (expected is not None)
    if expected is not None:
        assert f"are for {expected} sectors a track" in said[0]
        assert said[0].endswith("a FAT partition of it is addressed by them")


def test_addresses_that_say_nothing(tmp_path: Path) -> None:
    """None at all, the largest, and some that fit no geometry."""
    sector = mbr_sector([(0x80, 7, 2048, 70_000)], code=CODE)
    assert not [n for n in p2v_report(source_of(64 * MIB, {0: sector})).notes if "CHS" in n]
    odd = bytearray(disks.with_geometry(sector, 255, 63))
    odd[447] ^= 5
    assert not [n for n in p2v_report(source_of(64 * MIB, {0: bytes(odd)})).notes if "CHS" in n]


def test_chs_twins() -> None:
    for heads in (16, 240, 255):
        for lba in (0, 62, 63, 2048, 1_000_000):
            stored = chs(lba, heads, 63)
            found = Chs.decode(stored)
            assert found is not None
            assert found.lba(heads, 63) == lba
    assert Chs.decode(b"\xfe\xff\xff") is None
    assert Chs.decode(bytes(3)) is None
    assert Chs(1, 200, 1).lba(16, 63) is None


def test_heads_that_a_bios_presents() -> None:
    track = 63 * 1024
    assert bios_heads(16 * track, "ide") == {16}
    assert bios_heads(16 * track + 1, "ide") == {16, 32}
    assert bios_heads(128 * track, "ide") == {16, 128}
    assert bios_heads(128 * track + 1, "ide") == {16, 255}
    assert bios_heads(5, "lsilogic") == bios_heads(1 << 40, "buslogic") == {255}


def test_sectors_of_4096_bytes_are_refused() -> None:
    """Also where a file does not tell its sector size, but its table does."""
    size = 64 * MIB
    table, plain = (gpt_pieces(size, {1: (256, 1000)}, each) for each in (4096, 512))
    for pieces, sector_size in ((table, 512), (table, 4096), (plain, 4096), ({}, 4096)):
        with pytest.raises(RequestError, match=r"has 4,096-byte sectors; .* convert it to raw"):
            p2v_report(source_of(size, pieces, sector_size))
    assert p2v_report(source_of(size, plain)).info.sector_size == 512


def test_end_of_a_gpt() -> None:
    """The backup is no longer at the end of a disk that was made larger."""
    size = 8 * MIB + 512
    source = source_of(size, gpt_pieces(size, {1: (256, 1000)}))
    found = p2v_report(source)
    assert found.capacity == 9 * MIB
    assert "the backup of its GPT is not at its end" in found.notes[1]
    same = p2v_report(source, capacity=size)
    assert (same.capacity, len(same.notes)) == (size, len(found.notes) - 1)
    assert not [note for note in p2v_report(source_of(size, {})).notes if "GPT" in note]


def test_what_else_may_keep_it_from_starting(tmp_path: Path) -> None:
    volume = bytearray(512)
    volume[:11] = b"\xeb\x58\x90-FVE-FS-"
    volume[510:] = b"\x55\xaa"
    rows = [(0x80, 7, 2048, 4096), (0, 0x42, 8192, 4096)]
    source = source_of(8 * MIB, {0: mbr_sector(rows, code=CODE), MIB: bytes(volume)})
    found = p2v_report(source)
    assert found.info.family == "windows"
    assert found.warnings == (
        "it is encrypted by BitLocker: a new machine asks for the recovery key",
        "it is a Windows dynamic disk: its volumes may need other disks of the machine too",
    )


def test_windows_on_a_gpt_with_a_bios(tmp_path: Path) -> None:
    require_programs("sfdisk", "mkntfs", "ntfscp")
    volume = ntfs(tmp_path / "v", ["bootmgr"])
    script = f'label: gpt\nstart=2048, type={disks.BASIC}, attrs="LegacyBIOSBootable"\n'
    path = disk_of(tmp_path / "d", script, {MIB: volume})
    with open(path, "r+b") as file:
        file.write(CODE)
    found = report(path)
    assert found.info.firmware == "bios"
    assert "Windows does not start from a GPT with a BIOS" in found.warnings


def test_adapters() -> None:
    source = source_of(MIB, {})
    for adapter, driver in (("ide", "ata_piix"), ("buslogic", "only up to 2003")):
        assert driver in p2v_report(source, adapter=adapter).notes[-1]
    last = p2v_report(source, adapter="lsilogic", controller="pvscsi").notes[-1]
    assert "vmw_pvscsi" in last
    assert "adapter nvme, loaded" in p2v_report(source, controller="nvme").notes[-1]
    assert p2v_report(source).notes[0] == "a machine will not start from this disk alone"
