"""What a hostile image must lead to: one clear error, by every way that reads it."""

from __future__ import annotations

import struct
import time
import tracemalloc
from collections.abc import Mapping
from typing import Any

import pytest

from aipimage.errors import AipImageError
from aipimage.io.system.storage import Storage
from aipimage.volumes.image import open_image
from tests.safety.test_fields import keys_of
from tests.support.forge import Forger, put
from tests.support.images import MIB, PATH, image_files, mixed, password_of, read_all, sparse
from tests.support.memory import MemorySystem
from tests.support.soon import SOON

CONTENTS = [mixed(20_000), sparse(2 * MIB, 49_152)]


def forger_of(name: str, **changes: Any) -> Forger:
    data = image_files(name, CONTENTS, **changes)[PATH]
    return Forger(data, keys_of(name, data))


def use(files: Mapping[str, bytes], name: str = "plain", path: str = PATH) -> bool:
    """Open, read all, verify; return whether the verification found nothing."""
    with open_image(path, password_of(name), storage=Storage(MemorySystem(files))) as image:
        read_all(image)
        return image.verify(threads=1).ok


def refused(
    data: bytes | Mapping[str, bytes],
    error: type[AipImageError],
    match: str = "",
    name: str = "plain",
    path: str = PATH,
) -> None:
    """Refused with one typed error, within 2 s and 256 MiB."""
    files = {PATH: data} if isinstance(data, bytes) else data
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(error, match=match or None) as caught:
            use(files, name, path)
        assert time.process_time() - began < SOON
        assert tracemalloc.get_traced_memory()[1] < 256 << 20
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)


def seal_field(offset: int, layout: str, *values: int) -> bytes:
    forger = forger_of("plain")
    return forger.forge(len(forger.records) - 1, put(offset, struct.pack(layout, *values)))
