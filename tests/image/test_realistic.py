"""Images of disks as people have them, in one go: contents, kinds, verification, an increment."""

from __future__ import annotations

import numpy as np
import pytest

from aipimage.extents import Kind
from aipimage.io.increment.create import create_image
from aipimage.io.system.storage import Storage
from aipimage.volumes.image import Image, open_image
from tests.support.images import PATH, options, password_of
from tests.support.memory import ROOT, MemorySystem
from tests.support.realistic import CORPUS, SMALL, RealisticDisk, changed, corpus_disk


def same(image: Image, disk: RealisticDisk, used: bool) -> None:
    """The image reads as the disk, and says of each kind what the disk knows."""
    device = image.devices[0]
    assert device.size == disk.size
    buffer = np.empty(disk.size, np.uint8)
    device.read_into(buffer, 0)
    assert np.array_equal(buffer, disk.content(used))
    bad = [(at, at + length) for at, length, kind in device.extents() if kind == Kind.UNREADABLE]
    assert all(any(at <= low and high <= at + n for at, n in disk.bad) for low, high in bad)
    assert bool(bad) == bool(disk.bad)
    found = image.verify(threads=2)
    assert found.ok, found.damage[:3]


@pytest.mark.parametrize("name", CORPUS)
@pytest.mark.parametrize("protected", ["zstd", "split"])
def test_disks_and_their_later_states(name: str, protected: str) -> None:
    disk, system = corpus_disk(name), MemorySystem()
    grow = {"some": 3_000_000, "hundreds": -5_000_001}.get(name, 0)
    later, places = changed(disk, 5, grow)
    chosen = SMALL | {"split": 1 << 20} if protected == "split" else SMALL
    used = bool(disk.free)
    first = options(protected, **chosen)
    create_image(PATH, [disk.used() if used else disk], first, None, Storage(system))
    second = options(protected, parent=PATH, changed=places, encrypt=None, **chosen)
    source = later.used() if used else later
    create_image(f"{ROOT}/e.aiv", [source], second, None, Storage(system))
    for path, state in ((PATH, disk), (f"{ROOT}/e.aiv", later)):
        with open_image(path, password_of(protected), storage=Storage(system)) as image:
            same(image, state, used)
