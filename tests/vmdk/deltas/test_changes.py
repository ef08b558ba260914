"""What changed between two members of a chain, and incremental images made of it."""

from __future__ import annotations

import itertools
import textwrap
from pathlib import Path

import numpy as np
import pytest

import aipimage
from aipimage.errors import RequestError
from aipimage.ranges import ByteRanges
from aipimage.vmdk import deltas
from aipimage.vmdk.deltas import changed_between
from aipimage.vmdk.opening import open_vmdk
from aipimage.vmdk.pieces import State
from tests.support.tools import require_programs, run
from tests.support.virtual.esx import Grains, disk
from tests.vmdk.deltas.test_chains import MIXES, chain


def mask(ranges: ByteRanges, size: int) -> np.ndarray:
    """One element a byte; the ranges must be in order and apart."""
    found = np.zeros(size, bool)
    last = -1
    for offset, length in ranges.tolist():
        assert offset > last
        found[offset : offset + length] = True
        last = offset + length
    assert last <= size
    return found


@pytest.mark.parametrize("kinds", MIXES, ids="-".join)
def test_all_that_differs_is_in_the_set(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    """Between every two members; and nothing is, that no delta between them has."""
    paths, contents = chain(tmp_path, kinds, 5_000)
    for new in range(len(paths)):
        for old in range(new + 1):
            with open_vmdk(paths[new]) as newer, open_vmdk(paths[old]) as older:
                found = mask(changed_between(newer, older), newer.size)
                own = np.zeros(newer.size, bool)
                for member in newer.members[: new - old]:
                    for rows in member.pieces(0, member.size):
                        for start, length, state in rows.tolist():
                            own[start : start + length] |= state != State.ABSENT
            differ = np.frombuffer(contents[new], np.uint8) != np.frombuffer(
                contents[old], np.uint8
            )
            assert not (differ & ~found).any()
            assert (found == own).all()


@pytest.mark.parametrize("kinds", MIXES, ids="-".join)
def test_incremental_images_of_a_chain(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    """A full image of the base, an incremental one of each delta, all restored equal."""
    paths, contents = chain(tmp_path, kinds, 40_000)
    image = tmp_path / "0.aiv"
    with open_vmdk(paths[0]) as base:
        aipimage.create(image, [base])
    for number, path in enumerate(paths[1:], 1):
        parent, image = image, tmp_path / f"{number}.aiv"
        with open_vmdk(path) as newer, open_vmdk(paths[number - 1]) as older:
            changed = changed_between(newer, older)
            bound = int(changed[:, 1].sum()) + (64 << 10)
            done = aipimage.create(image, [newer], parent=parent, changed=changed)
        assert not done.warnings
        with aipimage.open(image) as opened, opened.devices[0].open() as device:
            assert opened.kind == "incremental"
            assert device.read() == contents[number]
        assert image.stat().st_size < bound
    with aipimage.open(image) as opened:
        opened.restore(tmp_path / "raw")
    assert (tmp_path / "raw").read_bytes() == contents[-1]


def test_the_documented_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines in the docstring of ``aipimage.vmdk.deltas``, as they stand there."""
    base = disk(tmp_path / "base.vmdk", "flat", 1000, Grains(512, {3: b"a" * 512}), 1)
    grains = Grains(512, {7: b"b" * 512})
    disk(tmp_path / "disk-000001.vmdk", "cowd", 1000, grains, 2, 1, base.name)
    monkeypatch.chdir(tmp_path)
    assert deltas.__doc__ is not None
    lines = deltas.__doc__.split("::\n", 1)[1]
    exec(compile(textwrap.dedent(lines), "example", "exec"), {})
    with aipimage.open("tuesday.aiv") as image, image.devices[0].open() as device:
        assert image.kind == "incremental"
        assert device.read() == grains.onto(bytearray(1536) + b"a" * 512 + bytearray(996 * 512))


def test_an_incremental_image_over_several_deltas_of_qemu(tmp_path: Path) -> None:
    require_programs("qemu-img", "qemu-io")
    names = ["base.vmdk", "d1.vmdk", "d2.vmdk"]
    run(["qemu-img", "create", "-q", "-f", "vmdk", names[0], "64M"], cwd=tmp_path)
    run(["qemu-io", "-f", "vmdk", "-c", "write -P 7 0 20M", names[0]], cwd=tmp_path)
    with open_vmdk(tmp_path / names[0]) as base:
        aipimage.create(tmp_path / "full.aiv", [base])
    for parent, child in itertools.pairwise(names):
        run(
            ["qemu-img", "create", "-q", "-f", "vmdk", "-b", parent, "-F", "vmdk", child],
            cwd=tmp_path,
        )
        writes = ["-c", "write -P 9 1M 200k", "-c", f"write -P {len(child)} 40M 64k"]
        run(["qemu-io", "-f", "vmdk", *writes, child], cwd=tmp_path)
    with open_vmdk(tmp_path / "d2.vmdk") as newer, open_vmdk(tmp_path / "base.vmdk") as older:
        changed = changed_between(newer, older)
        assert int(changed[:, 1].sum()) == 256 * 1024 + 64 * 1024
        image = tmp_path / "inc.aiv"
        aipimage.create(image, [newer], parent=tmp_path / "full.aiv", changed=changed)
    with aipimage.open(image) as opened:
        opened.restore(tmp_path / "restored")
    run(["qemu-img", "compare", "-f", "raw", "-F", "vmdk", tmp_path / "restored",
         tmp_path / "d2.vmdk"])  # fmt: skip


def test_the_same_member_has_no_changes(tmp_path: Path) -> None:
    paths, _ = chain(tmp_path, ("flat", "cowd"), 1000)
    (tmp_path / "link").symlink_to(paths[1].parent)
    with open_vmdk(paths[1]) as one, open_vmdk(tmp_path / "link" / paths[1].name) as same:
        assert changed_between(one, same).shape == (0, 2)


def test_what_is_no_ancestor_is_refused(tmp_path: Path) -> None:
    paths, _ = chain(tmp_path, ("hosted", "cowd", "cowd"), 1000)
    side = disk(tmp_path / "side.vmdk", "cowd", 1000, Grains(512), 0x55, 0x1000, "disk.vmdk")
    with open_vmdk(paths[2]) as newer, open_vmdk(paths[1]) as older, open_vmdk(side) as branch:
        with pytest.raises(RequestError, match="is not in the chain of"):
            changed_between(older, newer)
        with pytest.raises(RequestError, match="is not in the chain of"):
            changed_between(newer, branch)


def test_an_ancestor_without_its_own_parents_is_refused(tmp_path: Path) -> None:
    """Its content is then another one than what the deltas were made upon."""
    paths, _ = chain(tmp_path, ("hosted", "cowd", "cowd"), 1000)
    with (
        open_vmdk(paths[2]) as newer,
        open_vmdk(paths[1], parents=False) as older,
        pytest.raises(RequestError, match="its chain differs from the one"),
    ):
        changed_between(newer, older)


def test_many_ranges_are_widened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of 100 ranges: a wider set, of fewer, and still all that changed."""
    grains = Grains(512, dict.fromkeys(range(0, 9001, 2), b"x" * 512))
    base = disk(tmp_path / "base.vmdk", "cowd", 9001, Grains(512), 1)
    delta = disk(tmp_path / "delta.vmdk", "cowd", 9001, grains, 2, 1, base.name)
    with open_vmdk(delta) as newer, open_vmdk(base) as older:
        exact = changed_between(newer, older)
        assert len(exact) == 4501
        scattered = Grains(512, dict.fromkeys(range(7, 9001, 40), b"y" * 512))
        above = disk(tmp_path / "above.vmdk", "cowd", 9001, scattered, 3, 2, delta.name)
        monkeypatch.setattr("aipimage.vmdk.deltas.RANGES_MAX", 100)
        with open_vmdk(above) as newest:
            wide = changed_between(newest, newer)
        assert len(wide) <= 100
        wanted = np.zeros(newer.size, bool)
        for number in scattered.data:
            wanted[number * 512 : (number + 1) * 512] = True
        found = mask(wide, newer.size)
        assert not (wanted & ~found).any()
