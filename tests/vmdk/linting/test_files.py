"""The checker on files that other programs and our own writers made, and on damaged ones."""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aipimage.errors import AipImageError, CancelledError, RequestError, StorageError
from aipimage.io.blocks.sources import open_source
from aipimage.io.system.storage import Storage, SystemCalls
from aipimage.vmdk.lint import lint
from aipimage.vmdk.model import SUBFORMATS
from aipimage.vmdk.writing.job import write_vmdk
from tests.cli.running import done, invoke
from tests.support.faults import FaultySystemCalls, each_fault
from tests.support.tools import require_programs, run
from tests.support.virtual import extents as build
from tests.support.virtual.extents import SECTOR, Disk, Plain, Stream
from tests.support.virtual.memory import FOLDER, in_memory

SIZE = 48 << 20


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sparse disk with some data that compresses and some that does not."""
    path = tmp_path_factory.mktemp("raw") / "disk.raw"
    rng = random.Random(5)
    with path.open("wb") as file:
        file.truncate(SIZE)
        for mib in range(0, 48, 5):
            file.seek((mib << 20) + 4096)
            file.write(rng.randbytes(90_000) + b"text " * 20_000)
    return path


def found(path: Path) -> dict[str, str]:
    """Code -> severity of what is found."""
    return {finding.code: finding.severity for finding in lint(path).findings}


@pytest.mark.parametrize("adapter", ["lsilogic", "ide"])
@pytest.mark.parametrize("subformat", SUBFORMATS)
@pytest.mark.parametrize("size", [1 << 20, 15 * SECTOR, SIZE])
def test_our_writers_files_have_no_findings(
    subformat: str, adapter: str, size: int, raw: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source.raw"
    source.write_bytes(raw.read_bytes()[:size])
    path = tmp_path / "disk.vmdk"
    result = write_vmdk(path, open_source(source), subformat=subformat, adapter=adapter)
    checked = lint(path)
    assert checked.findings == ()
    if "lat" not in subformat and subformat != "vmfs":
        assert checked.grains == result.grains > 0
    assert sorted(checked.files) == sorted(result.files)


QEMU = {
    "monolithicSparse": {},
    "monolithicFlat": {},
    "twoGbMaxExtentSparse": {"descriptor-in-extent": "note"},
    "twoGbMaxExtentFlat": {},
    "streamOptimized": {"eos-missing": "error"},
}
RESIDUE = "descriptor-after-end"
"""qemu writes a new random CID over the first one without leading zeros: where it has fewer digits,
the end of the old text stays behind that of the new one.
"""


@pytest.mark.parametrize("subformat", QEMU)
def test_files_of_qemu(subformat: str, raw: Path, tmp_path: Path) -> None:
    require_programs("qemu-img")
    path = tmp_path / "disk.vmdk"
    run(["qemu-img", "convert", "-O", "vmdk", "-o", f"subformat={subformat}", raw, path])
    codes = found(path)
    if RESIDUE in codes:
        text = path.read_bytes()[: 1 << 20]
        cid = text[text.index(b"\nCID=") + 5 :].partition(b"\n")[0]
        assert len(cid) < 8
        assert codes.pop(RESIDUE) == "warning"
    assert codes == QEMU[subformat]


def test_a_chain_of_qemu(raw: Path, tmp_path: Path) -> None:
    """A delta finds its parent, and with ``chain`` that is checked, too."""
    require_programs("qemu-img")
    base, delta = tmp_path / "base.vmdk", tmp_path / "delta.vmdk"
    run(["qemu-img", "convert", "-O", "vmdk", raw, base])
    run(["qemu-img", "create", "-f", "vmdk", "-b", base, "-F", "vmdk", delta])
    assert set(found(delta)) <= {"parent-hint-outside"}
    with base.open("r+b") as file:
        file.seek(72)
        file.write(b"\1")
    assert "header-unclean" not in found(delta)
    assert "header-unclean" in {each.code for each in lint(delta, chain=True).findings}
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    base.rename(moved / "base.vmdk")
    assert found(delta)["parent-missing"] == "error"
    assert "parent-missing" not in {each.code for each in lint(delta, search=[moved]).findings}


# Damage


def harmless(text: bytes, at: int, bit: int) -> bool:
    """Whether a flip at a byte of the descriptor's text may pass: in a comment, in values that
    nothing else tells, or from one spelling of a value to another.
    """
    start = text.rfind(b"\n", 0, at) + 1
    line = text[start : text.find(b"\n", at)]
    if line.startswith(b"#") or not line:
        return True
    free = (
        b"encoding",
        b"RW ",
        b"version",
        b"ddb.adapterType",
        b"ddb.longContentID",
        b"ddb.virtualHWVersion",
        b"ddb.toolsVersion",
        b"ddb.geometry",
    )
    value = at - start > line.find(b"=")
    return (line.startswith(free) and (value or line.startswith(b"RW "))) or bit == 5


def metadata(built: Stream, data: bytearray) -> list[int]:
    """The bytes of a stream that are no compressed data."""
    heads = [range(place * SECTOR, place * SECTOR + 12) for place in built.places.values()]
    front, back = range(build.OVERHEAD * SECTOR), range(built.table_marker * SECTOR, len(data))
    return [*front, *itertools.chain(*heads), *back]


def flips(count: int | None) -> None:
    """Flip one bit of a stream's metadata at a time; without ``count`` every one."""
    built = Stream()
    data = built.build()
    text = bytes(data[SECTOR : data.index(b"\0", SECTOR)])
    places = [(at, bit) for at in metadata(built, data) for bit in range(8)]
    rng = random.Random(9)
    end = SECTOR + len(text)
    important = [each for each in places if each[0] < end or each[0] > build.OVERHEAD * SECTOR]
    some = places if count is None else rng.sample(important, count) + rng.sample(places, count)
    with ThreadPoolExecutor(1) as pool:
        for at, bit in some:
            data[at] ^= 1 << bit
            storage, _ = in_memory({"a.vmdk": bytes(data)})
            result = lint(f"{FOLDER}/a.vmdk", executor=pool, storage=storage)
            data[at] ^= 1 << bit
            inside = SECTOR <= at <= end
            assert result.findings or (inside and harmless(text, at - SECTOR, bit)), (at, bit)


def test_flipped_bits_of_metadata_are_found() -> None:
    flips(700)


@pytest.mark.long
def test_every_flipped_bit_of_metadata_is_found() -> None:
    flips(None)


def test_flipped_bits_of_compressed_data_are_found(tmp_path: Path) -> None:
    """The streams' own checksums see to that."""
    built = Stream()
    data = built.build()
    rng = random.Random(3)
    for _ in range(60):
        damaged = bytearray(data)
        at = built.places[rng.choice((1, 5))] * SECTOR + 12 + rng.randrange(20_000)
        damaged[at] ^= 1 << rng.randrange(8)
        path = tmp_path / "a.vmdk"
        path.write_bytes(damaged)
        assert not lint(path).ok, at
        assert lint(path, deep=False).ok


def test_class_36_no_file_outside_of_the_folder_is_opened(tmp_path: Path) -> None:
    """By a path that leads out, an absolute one, and a link."""
    outside = tmp_path / "outside.bin"
    outside.write_bytes(bytes(2048 * SECTOR))
    folder = tmp_path / "disk"
    folder.mkdir()
    (folder / "link.vmdk").symlink_to(outside)
    for name in ("../outside.bin", str(outside), "link.vmdk", "..\\outside.bin", "C:\\a.bin"):
        text = build.descriptor("monolithicFlat", [f'RW 2048 FLAT "{name}" 0'])
        path = build.flat(text).write(folder)
        result = lint(path)
        assert {each.code for each in result.findings} == {"extent-outside"}, name
        assert result.files == (str(path),)


def test_class_38_numbers_that_would_not_fit(tmp_path: Path) -> None:
    """Every field of the header at its largest: a finding, and neither memory nor time."""
    for name, (_, form) in build.HEADER.items():
        if form in "IQ":
            largest = (1 << (32 if form == "I" else 64)) - 1
            path = build.plain(**{name: largest}).write(tmp_path)
            assert found(path), name
            data = Stream().build()
            build.set_header(data, **{name: largest})
            path.write_bytes(data)
            assert name == "gd" or found(path), name


def test_class_39_geometry_is_arithmetic_only(tmp_path: Path) -> None:
    text = build.descriptor(
        "monolithicFlat",
        ['RW 2048 FLAT "a-flat.vmdk" 0'],
        ddb__geometry__cylinders="9" * 10,
        ddb__geometry__heads="255",
    )
    assert set(found(build.flat(text).write(tmp_path))) == {"geometry-too-large"}


def test_class_40_descriptors_and_markers_without_end(tmp_path: Path) -> None:
    """More extents than there may be; a stream that is one grain marker after the other."""
    lines = ["RW 1 ZERO"] * 70_000
    path = build.flat(build.descriptor("custom", lines)).write(tmp_path)
    assert "descriptor-too-long" in found(path)
    data = Stream().build()[: build.OVERHEAD * SECTOR]
    path.write_bytes(data + build.stored(128, b"\1") * 5000)
    result = lint(path)
    assert {"grain-order", "grain-inflate", "eos-missing"} <= {f.code for f in result.findings}
    assert len(result.findings) < 20


# Large disks


def test_a_disk_of_3_tib_takes_seconds(tmp_path: Path) -> None:
    """Tables of 50 million entries, one in 64 full of grains, which are holes of the file."""
    made = Plain(tables=98_304, capacity=98_304 * 512 * build.GRAIN, entries={})
    path = tmp_path / "a.vmdk"
    text = build.descriptor(
        "monolithicSparse", [f'RW {made.capacity} SPARSE "a.vmdk"'], sectors=65_535 * 1008
    )
    path.write_bytes(made.build(text=text))
    with path.open("r+b") as file:
        for number, first in enumerate(range(0, made.tables, 64)):
            place = made.overhead + number * 512 * build.GRAIN
            row = struct.pack("<512I", *range(place, place + 512 * build.GRAIN, build.GRAIN))
            for table in (made.rgt, made.gt):
                file.seek((table + 4 * first) * SECTOR)
                file.write(row)
        file.truncate((made.overhead + made.tables * 8 * build.GRAIN) * SECTOR)
    result = lint(path)
    assert result.findings == ()
    assert result.grains == made.tables * 8
    assert result.seconds < 60


# What the caller sees


def test_errors_are_typed(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"none\.vmdk"):
        lint(tmp_path / "none.vmdk")
    with pytest.raises(RequestError, match="directory"):
        lint(tmp_path)
    (tmp_path / "empty.vmdk").write_bytes(b"")
    assert set(found(tmp_path / "empty.vmdk")) == {"not-vmdk"}


def test_progress_and_cancelling(tmp_path: Path) -> None:
    path = build.split().write(tmp_path)
    seen: list[tuple[int, int]] = []
    lint(path, progress=lambda now: seen.append((now.done, now.total)))
    assert 0 < seen[-1][0] <= seen[-1][1] == sum(each.stat().st_size for each in tmp_path.iterdir())
    with pytest.raises(CancelledError):
        lint(build.stream().write(tmp_path), progress=lambda _: False)


@pytest.mark.parametrize("disk", [build.split, build.stream, build.sesparse])
def test_failing_calls_are_typed(disk: Callable[[], Disk], tmp_path: Path) -> None:
    """Whichever call fails: an error of the library, or an extent that cannot be opened."""
    path = disk().write(tmp_path)

    def scenario(system: SystemCalls) -> None:
        lint(path, storage=Storage(system))

    count = 0
    for fault in each_fault(scenario):
        try:
            result = lint(path, storage=Storage(FaultySystemCalls(fault)))
        except AipImageError:
            count += 1
        else:
            assert {each.code for each in result.findings} <= {"extent-unreadable"}, fault
    assert count > 3


# The command


def test_verify_tells_what_was_found(tmp_path: Path) -> None:
    good = build.stream().write(tmp_path)
    assert "a.vmdk: whole (1 file, 2 grains" in done("verify", good).out
    values = done("verify", good, "--json").json
    assert values["ok"]
    assert values["mode"] == "vmdk"
    assert values["findings"] == []
    assert values["grains"] == 2
    good.write_bytes(good.read_bytes()[:-SECTOR])
    ran = invoke("verify", good)
    assert ran.code == 3
    assert "FAULTY, 1 error" in ran.out
    assert "[eos-missing]" in ran.out
    ran = invoke("verify", good, "--json")
    assert ran.code == 3
    assert [each["code"] for each in ran.json["findings"]] == ["eos-missing"]


def test_verify_warns_and_ends_well(tmp_path: Path) -> None:
    ran = done("verify", build.plain(unclean=1).write(tmp_path))
    assert "whole, 1 warning" in ran.out
    assert "[header-unclean]" in ran.out


def test_verify_knows_a_virtual_disk_by_its_name_or_magic(tmp_path: Path) -> None:
    named = tmp_path / "nothing.vmdk"
    named.write_bytes(bytes(4096))
    assert invoke("verify", named, "--json").json["findings"][0]["code"] == "not-vmdk"
    other = build.stream().write(tmp_path).rename(tmp_path / "disk.bin")
    assert done("verify", other, "--json").json["grains"] == 2
    extent = Plain(embedded=False).build()
    (tmp_path / "a-s001.vmdk").write_bytes(extent)
    ran = invoke("verify", tmp_path / "a-s001.vmdk")
    assert ran.code == 3
    assert "[extent-alone]" in ran.out


@pytest.mark.parametrize(
    "option", [("--keyless",), ("--sample", "5"), ("--digest", "0" * 64), ("--password-env", "X")]
)
def test_verify_refuses_what_is_for_images(option: tuple[str, ...], tmp_path: Path) -> None:
    path = build.stream().write(tmp_path)
    ran = invoke("verify", *option, path)
    assert ran.code == 2
    assert "virtual disk" in ran.err


def test_verify_of_a_chain_checks_the_parents(tmp_path: Path) -> None:
    parent = build.plain(unclean=1).first
    (tmp_path / "parent.vmdk").write_bytes(parent)
    lines = ['RW 2048 SPARSE "a.vmdk"']
    text = build.descriptor(
        "monolithicSparse",
        lines,
        CID="00000009",
        parentCID=f"{build.CID:08x}",
        ddb__longContentID="00000009" * 4,
        parentFileNameHint='"parent.vmdk"',
    )
    path = build.plain_text(text).write(tmp_path)
    assert done("verify", path, "--json").json["findings"] == []
    found_in = done("verify", "--chain", path, "--json").json["findings"]
    assert [each["code"] for each in found_in] == ["header-unclean"]
    assert found_in[0]["path"].endswith("parent.vmdk")
