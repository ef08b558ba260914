"""Chains in memory: images of some devices that change from point to point."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from typing import Any
from unittest import mock

from aipimage.io.creating.results import CreateResult
from aipimage.io.increment.create import create_image
from aipimage.io.merge.job import MergeResult, merge_images
from aipimage.io.records.records import RecordReader
from aipimage.io.records.walk import walk_records
from aipimage.io.system.storage import Storage, SystemCalls
from aipimage.volumes.image import open_image
from tests.support.images import options, password_of, read_all
from tests.support.memory import ROOT, MemorySystem

SIZE = 700_000
Contents = list[bytes]


def path_of(name: object) -> str:
    """The path of an image on the disk in memory."""
    return f"{ROOT}/{name}.aiv"


def contents_over_time(points: int, seed: int = 0) -> list[Contents]:
    """Two devices at each point in time: bytes change, become zeros, and one grows and shrinks.

    The second device changes as a whole each time, so that all of its older frames are dead.
    """
    chance = random.Random(seed)
    data = bytearray(chance.randbytes(SIZE // 2) + b"some text " * (SIZE // 20))
    found = []
    for point in range(points):
        found.append([bytes(data), chance.randbytes(9000)])
        for _ in range(4):
            at, length = chance.randrange(SIZE - 20_000), chance.randrange(1, 20_000)
            data[at : at + length] = chance.choice((chance.randbytes, bytes))(length)
        if point == 2:
            data += chance.randbytes(100_000)
        elif point == 4:
            del data[-60_000:]
    return found


class Series:
    """A chain that is made step by step.

    Attributes:
        contents: of each image, by its name. results: likewise.
    """

    def __init__(self, protection: str = "zstd", system: MemorySystem | None = None) -> None:
        self.system = system or MemorySystem()
        self.protection, self.password = protection, password_of(protection)
        self.contents: dict[str, Contents] = {}
        self.results: dict[str, CreateResult] = {}

    def add(
        self,
        name: object,
        contents: Contents,
        parent: object = None,
        kind: str = "incremental",
        **changes: Any,
    ) -> CreateResult:
        """Make an image; the first one needs no parent."""
        chosen: dict[str, Any] = dict(changes)
        if parent is not None:
            chosen |= {"parent": path_of(parent), "kind": kind, "encrypt": None}
        made = create_image(
            path_of(name),
            [io.BytesIO(content) for content in contents],
            options(self.protection, **chosen),
            None,
            Storage(self.system),
        )
        self.contents[str(name)], self.results[str(name)] = contents, made
        return made

    def merge(self, out: object, names: Sequence[object], **more: Any) -> MergeResult:
        """Merge images by their names."""
        more.setdefault("password", self.password)
        return merge_images(
            path_of(out),
            [path_of(name) for name in names],
            storage=more.pop("storage", None) or Storage(self.system),
            **more,
        )

    def check(
        self, name: object, contents: Contents | None = None, system: SystemCalls | None = None
    ) -> None:
        """An image reads as it must, and a full verification finds nothing."""
        storage = Storage(system or self.system)
        with open_image(path_of(name), self.password, storage=storage) as image:
            assert read_all(image) == (contents or self.contents[str(name)])
            found = image.verify(threads=1)
            assert found.ok, found.damage[:3]


def series(points: int, protection: str = "zstd", seed: int = 0) -> Series:
    """A full image ``0`` and its increments ``1``, ``2``, …"""
    made = Series(protection)
    for point, contents in enumerate(contents_over_time(points, seed)):
        made.add(point, contents, None if point == 0 else point - 1)
    return made


def copy_of(made: Series) -> Series:
    """The same images on another disk."""
    other = Series(made.protection, MemorySystem(made.system.snapshot()))
    other.contents, other.results = dict(made.contents), dict(made.results)
    return other


def records_of(system: SystemCalls, name: object, password: str | None) -> dict[Any, bytes]:
    """All records of an image: (origin, type, number) to bytes."""
    with open_image(path_of(name), password, storage=Storage(system)) as image:
        end = image.trailer.records_end
        walk = walk_records(image.stream, image.header.records_start, end, image.records.tag)
        found: dict[Any, bytes] = {}
        for records in walk:
            for each in records:
                key = (each.header.origin, each.header.type, each.header.number)
                assert key not in found
                found[key] = bytes(each.data)
        return found


def frames_named(system: SystemCalls, name: object, password: str | None) -> set[tuple[bytes, int]]:
    """(origin, number) of all frames that the maps of an image name, found sector by sector."""
    with open_image(path_of(name), password, storage=Storage(system)) as image:
        size = image.header.frame_sectors
        return {
            (image.origins.entry(piece.origin).origin, position // size)
            for device in image.devices
            for piece in device.map.pieces(0, device.entry.sectors)
            if piece.kind == 2
            for position in range(piece.position, piece.position + piece.length)
        }


def no_frame_opened() -> Any:
    """A patch under which opening a frame fails, encrypted or not."""
    real = RecordReader.open

    def refuse(self: RecordReader, data: memoryview, ref: Any, kind: int) -> Any:
        assert data[4] != 1, "a frame was opened"
        return real(self, data, ref, kind)  # type: ignore[arg-type]

    return mock.patch.object(RecordReader, "open", refuse)
