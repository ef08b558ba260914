"""What an increment writes and costs, and what a read opens, in chains of any length
(docs/format.md, section 7.1).
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

import aipimage
from aipimage.io.creating.options import CreateOptions
from aipimage.io.increment.create import create_image
from aipimage.io.system.storage import Storage
from aipimage.volumes.image import open_image
from tests.support.counting import CountingSystem

CLUSTER = 4096
CLUSTERS = 16


class Cost(NamedTuple):
    """Of one increment of one cluster, and of opening it and reading all of its disk's start."""

    opened: int
    reads: int
    bytes_read: int
    written: int
    first_read_opens: int
    first_read_reads: int


class Growing:
    """A chain of a small disk; each increment changes one cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rng = folder, random.Random(11)
        self.disk = bytearray(self.rng.randbytes(CLUSTER * CLUSTERS))
        self.source = folder / "disk.raw"
        self.system = CountingSystem()
        self.storage = Storage(self.system)
        self.count = 0
        self.source.write_bytes(self.disk)
        create_image(str(self.path(0)), [str(self.source)], CreateOptions(), storage=self.storage)

    def path(self, number: int) -> Path:
        return self.folder / f"{number:05}.aiv"

    def grow(self, to: int) -> None:
        """Make increments until there are so many images."""
        while self.count < to - 1:
            self.add()

    def add(self) -> int:
        """One more increment; return the bytes of its file."""
        at = self.rng.randrange(CLUSTERS) * CLUSTER
        self.disk[at : at + CLUSTER] = self.rng.randbytes(CLUSTER)
        self.source.write_bytes(self.disk)
        self.count += 1
        parent = str(self.path(self.count - 1))
        options = CreateOptions(parent=parent, changed=[(at, CLUSTER)])
        made = create_image(
            str(self.path(self.count)), [str(self.source)], options, storage=self.storage
        )
        assert made.kind == "incremental"
        assert not made.warnings
        return made.stored

    def cost(self) -> Cost:
        """Of the next increment, and of reading from it."""
        self.system.forget()
        written = self.add()
        opened = len(self.system.opened)
        reads, bytes_read = self.system.reads, self.system.bytes_read
        assert not self.system.listed
        self.system.forget()
        with open_image(self.path(self.count), storage=self.storage) as image:
            buffer = bytearray(CLUSTER)
            image.devices[0].open().readinto_at(buffer, 0)
            assert buffer == self.disk[:CLUSTER]
        assert not self.system.listed
        return Cost(
            opened, reads, bytes_read, written, len(set(self.system.opened)), self.system.reads
        )

    def check(self) -> None:
        """The newest image reads as the disk is, and its chain verifies."""
        with open_image(self.path(self.count), storage=self.storage) as image:
            assert image.devices[0].open().readall() == self.disk


def compared(growing: Growing, length: int) -> None:
    growing.grow(10)
    short = growing.cost()
    growing.grow(length - 1)
    long = growing.cost()
    growing.check()
    assert long.written <= CLUSTER + (64 << 10)
    assert long.written <= short.written + (4 << 10)
    # How many layers of digests there are, and where the cluster lies, varies a little.
    assert long.opened <= short.opened + 8
    assert long.reads <= short.reads + 40
    assert long.bytes_read <= 2 * short.bytes_read + (1 << 20)
    assert long.first_read_opens <= 2
    assert long.first_read_reads <= short.first_read_reads + 4


def test_costs_do_not_grow_with_the_chain(tmp_path: Path) -> None:
    growing = Growing(tmp_path)
    compared(growing, 120)
    with aipimage.open(growing.path(growing.count)) as image:
        assert image.verify(chain=True).ok


@pytest.mark.long
@pytest.mark.parametrize("length", [1000, 4000])
def test_costs_do_not_grow_with_a_very_long_chain(tmp_path: Path, length: int) -> None:
    compared(Growing(tmp_path), length)


def test_a_read_opens_only_what_it_needs(tmp_path: Path) -> None:
    """All data lies in one older image: that and the newest one are opened, by their names."""
    source, rng = tmp_path / "disk.raw", random.Random(3)
    disk = bytearray(1 << 20)
    source.write_bytes(disk)
    aipimage.create(tmp_path / "0.aiv", source)
    disk[:] = rng.randbytes(len(disk))
    source.write_bytes(disk)
    aipimage.create(tmp_path / "1.aiv", source, parent=tmp_path / "0.aiv")
    for number in range(2, 40):
        aipimage.create(
            tmp_path / f"{number}.aiv", source, parent=tmp_path / f"{number - 1}.aiv", changed=[]
        )
    system = CountingSystem()
    with open_image(tmp_path / "39.aiv", storage=Storage(system)) as image:
        assert image.devices[0].open().readall() == disk
    assert set(system.opened) == {"39.aiv", "1.aiv"}
    assert len(system.opened) == 2
    assert not system.listed


def test_names_are_only_hints(tmp_path: Path) -> None:
    """Files that were renamed are found by their ids; one that took a name is not believed."""
    growing = Growing(tmp_path)
    growing.grow(6)
    last = growing.path(5)
    for number in range(5):
        growing.path(number).rename(tmp_path / f"moved-{number}.aiv")
    growing.check()
    # Every name belongs to another image of the chain now, and one to a foreign file.
    for number in range(5):
        shutil.copy(tmp_path / f"moved-{(number + 1) % 5}.aiv", growing.path(number))
    growing.check()
    for number in range(5):
        growing.path(number).write_bytes(b"not an image" * 1000)
    growing.check()
    other = tmp_path / "other"
    other.mkdir()
    foreign = Growing(other)
    for number in range(5):
        shutil.copy(foreign.path(0), growing.path(number))
    growing.check()
    with aipimage.open(last) as image:
        assert image.verify(chain=True).ok


def test_names_that_lead_elsewhere_are_ignored(tmp_path: Path) -> None:
    """A hint never leaves the directories that the reader was given."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    system = CountingSystem()
    growing = Growing(inside)
    growing.grow(3)
    growing.path(0).rename(outside / "secret.aiv")
    for name in ("../outside/secret.aiv", "/etc/hostname", "..", "a\0b"):
        system.forget()
        with open_image(growing.path(2), storage=Storage(system)) as image:
            for entry in image.origins.entries():
                image.foreign.hint(entry.origin, entry._replace(name=name.encode()).file_name)
            with pytest.raises(aipimage.IncompleteError):
                image.devices[0].open().readall()
        assert {"secret.aiv", "hostname"}.isdisjoint(system.opened)


def test_an_increment_on_a_merged_and_on_a_repaired_image(tmp_path: Path) -> None:
    """What pages of older images say of origins stays right, whoever holds them now."""
    growing = Growing(tmp_path)
    growing.grow(12)
    chosen = [growing.path(number) for number in range(2, 10)]
    aipimage.merge(tmp_path / "merged.aiv", chosen, remove=True)
    growing.check()
    growing.grow(16)
    growing.check()
    last = growing.path(15)
    aipimage.repair(last, tmp_path / "repaired.aiv")
    last.unlink()
    (tmp_path / "repaired.aiv").rename(last)
    growing.check()
    growing.grow(20)
    growing.check()
    with aipimage.open(growing.path(19)) as image:
        assert image.verify(chain=True).ok
