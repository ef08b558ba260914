"""Chains of realistic disks in memory, and all that must be the same of two images."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from blake3 import blake3

from aipimage.extents import Kind
from aipimage.format import constants as c
from aipimage.io.checking.keyless import verify_keyless
from aipimage.io.increment.create import create_image
from aipimage.io.index.digests import DigestView
from aipimage.io.system.storage import Storage, SystemCalls
from aipimage.volumes.image import Image, open_image
from tests.support.images import options, password_of
from tests.support.memory import MemorySystem
from tests.support.memorychains import at
from tests.support.realistic import SMALL, RealisticDisk, changed, corpus_disk

GROWTH = (0, 2_500_077, -3_100_000, 0, 0)
"""Bytes that the disk of a chain grows from point to point."""


class RealisticChain(NamedTuple):
    """Images ``0.aiv``, ``1.aiv``, … on a disk in memory.

    Attributes:
        files: path to bytes. disks: at each point. places: what was changed before each point.
    """

    files: dict[str, bytes]
    disks: list[RealisticDisk]
    places: list[list[tuple[int, int]]]
    protected: str

    @property
    def password(self) -> str | None:
        """What opens its images."""
        return password_of(self.protected)


def source_of(disk: RealisticDisk) -> Any:
    """What is imaged of a disk: all, or what is in use where it has free space."""
    return disk.used() if disk.free else disk


def chosen(protected: str, **more: Any) -> Any:
    """Options for a realistic disk; parts of 400,000 bytes where it is split."""
    values = dict(SMALL)
    if protected == "split":
        values["split"] = 400_000
    if more.get("parent") is not None:
        values["encrypt"] = None
    return options(protected, **(values | more))


@functools.cache
def chain_of(name: str, points: int, protected: str, sizes: bool = True) -> RealisticChain:
    """A chain of a disk of the corpus; made once, so do not change its disks."""
    system, disks = MemorySystem(), [corpus_disk(name)]
    places: list[list[tuple[int, int]]] = [[]]
    for point in range(1, points):
        later, where = changed(disks[-1], point, GROWTH[point] if sizes else 0)
        disks.append(later)
        places.append(where)
    for point, disk in enumerate(disks):
        more = {"parent": at(f"{point - 1}.aiv"), "changed": places[point]} if point else {}
        create_image(
            at(f"{point}.aiv"), [source_of(disk)], chosen(protected, **more), None, Storage(system)
        )
    return RealisticChain(system.snapshot(), disks, places, protected)


@dataclass(frozen=True)
class Facts:
    """What an image holds, whichever way it came about; equal for equal content.

    Attributes:
        content: a digest for each device. extents: (start, bytes, kind) of each device.
        digests: of all block digests. place: kind, sequence and parent id.
    """

    content: tuple[str, ...]
    extents: tuple[tuple[tuple[int, int, int], ...], ...]
    digests: tuple[bytes, ...]
    place: tuple[Any, ...]


def facts_of(system: SystemCalls, path: str, password: str | None) -> Facts:
    """Open an image, verify it in full, and tell what it holds."""
    with open_image(path, password, storage=Storage(system)) as image:
        found = image.verify(threads=1)
        assert found.ok, found.damage[:3]
        seal = image.seal
        return Facts(
            tuple(_content(device) for device in image.devices),
            tuple(_extents(device) for device in image.devices),
            tuple(_digests(image, number) for number in range(len(image.devices))),
            (seal.kind, seal.sequence, seal.parent_id),
        )


def _content(device: Any) -> str:
    buffer = np.empty(device.size, np.uint8)
    device.read_into(buffer, 0)
    return blake3(buffer.data).hexdigest()


def _extents(device: Any) -> tuple[tuple[int, int, int], ...]:
    return tuple((each.start, each.length, int(each.kind)) for each in device.extents())


def _digests(image: Image, number: int) -> bytes:
    if not image.header.compatible & c.Compatible.BLOCK_DIGESTS:
        return b""
    device = image.seal.devices[number]
    blocks = -(-image.devices[number].size // c.BLOCK)
    view = DigestView(image.records, device.digest_root, blocks, image.header.stripe_shift)
    return blake3(view.read(0, blocks).tobytes()).digest()


def check_disk(system: SystemCalls, path: str, disk: RealisticDisk, password: str | None) -> Facts:
    """The image holds the disk; bad sectors are all that is unreadable."""
    facts = facts_of(system, path, password)
    assert facts.content == (disk.digest(used=bool(disk.free)),), f"{path}: other content"
    for start, length, kind in facts.extents[0]:
        if kind == Kind.UNREADABLE:
            assert any(a <= start and start + length <= a + n for a, n in disk.bad)
    return facts


def check_chain(system: SystemCalls, path: str, password: str | None) -> None:
    """All that an image needs verifies, with keys and without."""
    with open_image(path, password, storage=Storage(system)) as image:
        found = image.verify(chain=True, threads=1)
        assert found.ok, found.damage[:3]
    keyless = verify_keyless(path, chain=True, threads=1, storage=Storage(system))
    assert keyless.ok, keyless.damage[:3]


def check_increment_on(
    system: SystemCalls, path: str, disk: RealisticDisk, protected: str, seed: int = 50
) -> None:
    """Another increment on an image can be made and holds what it should."""
    later, places = changed(disk, seed)
    new = at(f"on-top-{seed}.aiv")
    more = chosen(protected, parent=path, changed=places)
    made = create_image(new, [source_of(later)], more, None, Storage(system))
    assert made.parent_id is not None
    check_disk(system, new, later, password_of(protected))
