"""Interrupted creations of realistic disks: what they leave, cut anywhere, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from blake3 import blake3

from aipimage.format import constants as c
from aipimage.io.blocks.sources import BlockSource
from aipimage.io.creating.options import CreateOptions
from aipimage.io.creating.results import CreateResult
from aipimage.io.increment.create import create_image
from aipimage.io.index.digests import DigestView
from aipimage.io.system.storage import Storage, SystemCalls
from aipimage.volumes.image import Image, open_image
from tests.support.images import CHEAP, PASSWORD, PATH
from tests.support.memory import MemorySystem
from tests.support.realistic import SMALL, RealisticDisk

PARTIAL = PATH + ".partial"
PROTECTED: dict[str, dict[str, Any]] = {
    "plain": {"compress": "zstd:1"},
    "aes": {"compress": "zstd:1", "encrypt": "aes-256", "password": PASSWORD},
    "gmac": {"compress": "none", "encrypt": "authenticate", "password": PASSWORD},
}


class StoppedError(BaseException):
    """What a test stops a creation with."""


class Facts(NamedTuple):
    """What an image says of its devices: content, extents with their kinds, block digests."""

    contents: list[bytes]
    extents: list[list[tuple[int, int, str]]]
    digests: list[bytes]


def chosen(name: str = "plain", **changes: Any) -> CreateOptions:
    """Options for realistic disks, with cheap keys."""
    values = {**SMALL, "threads": 1, "argon2": CHEAP, **PROTECTED[name], **changes}
    return CreateOptions(**values)


def run(
    system: SystemCalls, sources: Sequence[BlockSource], options: CreateOptions, path: str = PATH
) -> CreateResult:
    """Create."""
    return create_image(path, list(sources), options, None, Storage(system))


def stop_at(disks: Sequence[RealisticDisk], reads: int) -> None:
    """Let the disks' n-th read from now on raise; no number of reads does with -1."""
    left = reads

    def count(offset: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise StoppedError

    for disk in disks:
        disk.on_read = None if reads < 0 else count


def interrupted(
    system: SystemCalls,
    disks: Sequence[RealisticDisk],
    options: CreateOptions,
    reads: int,
    path: str = PATH,
    used: bool = False,
) -> bool:
    """Create until the n-th read; return whether it was interrupted."""
    stop_at(disks, reads)
    try:
        run(system, given(disks, used), options, path)
    except StoppedError:
        return True
    finally:
        stop_at(disks, -1)
    return False


def given(disks: Sequence[RealisticDisk], used: bool) -> list[BlockSource]:
    """The disks as sources, ``used`` without their free space."""
    return [disk.used() if used else disk for disk in disks]


def reads_of(
    base: MemorySystem,
    disks: Sequence[RealisticDisk],
    options: CreateOptions,
    path: str = PATH,
    used: bool = False,
) -> int:
    """How many reads a creation takes."""
    count = 0

    def note(offset: int) -> None:
        nonlocal count
        count += 1

    for disk in disks:
        disk.on_read = note
    run(MemorySystem(base.snapshot()), given(disks, used), options, path)
    stop_at(disks, -1)
    return count


def facts_of(system: SystemCalls, password: str | None = None, path: str = PATH) -> Facts:
    """Read everything, after a full verification that must find nothing."""
    with open_image(path, password, storage=Storage(system)) as image:
        verified = image.verify(threads=1)
        assert verified.ok, verified.damage[:3]
        return Facts(
            [bytes(device.open().readall()) for device in image.devices],
            [
                [(each.start, each.length, each.kind.name) for each in device.extents()]
                for device in image.devices
            ],
            [_digests_of(image, index) for index in range(len(image.devices))],
        )


def _digests_of(image: Image, index: int) -> bytes:
    device = image.devices[index]
    blocks = -(-device.size // c.BLOCK)
    shift = image.header.stripe_shift
    view = DigestView(image.records, device.entry.digest_root, blocks, shift)
    return view.read(0, blocks).tobytes()


def digests_by_content(content: bytes) -> bytes:
    """The block digests of a device as docs/format.md, section 8, has them."""
    content += bytes(-len(content) % c.BLOCK)
    blocks = [content[at : at + c.BLOCK] for at in range(0, len(content), c.BLOCK)]
    return b"".join(blake3(each).digest(16) if any(each) else bytes(16) for each in blocks)


def records_of(files: Mapping[str, bytes], start: int) -> list[tuple[int, int, int]]:
    """(offset, end, type) of each record of a partial image, from stream offset ``start`` on."""
    stream = stream_of(files)
    found, at = [], start
    while stream[at : at + 4] == b"AIVR":
        end = at + 56 + int.from_bytes(stream[at + 8 : at + 12], "little")
        if end > len(stream):
            break
        found.append((at, end, stream[at + 4]))
        at = end
    return found


def start_of(files: Mapping[str, bytes]) -> int:
    """Where the records begin: behind the core and the key areas."""
    stream = stream_of(files)
    return int.from_bytes(stream[12:16], "little") + stream[77] * 4096


def parts_of(files: Mapping[str, bytes]) -> list[str]:
    """The partial files of an image, in order."""
    names = [name for name in files if name.startswith(PATH) and name.endswith(".partial")]
    return sorted(names, key=lambda name: (name != PARTIAL, name))


def stream_of(files: Mapping[str, bytes]) -> bytes:
    """What lies in the partial files, without the frames of parts."""
    names = parts_of(files)
    if files[names[0]][:8] != b"AIVPART1":
        return files[names[0]]
    pieces = []
    for name in names:
        ends = 128 if name != names[-1] else 0
        pieces.append(files[name][128 : len(files[name]) - ends])
    return b"".join(pieces)


def with_stream(files: Mapping[str, bytes], stream: bytes) -> dict[str, bytes]:
    """The files with another stream in them; of parts the rest of those behind is removed."""
    names = parts_of(files)
    other = {name: data for name, data in files.items() if name not in names}
    if files[names[0]][:8] != b"AIVPART1":
        return {**other, names[0]: stream}
    for name in names:
        room = len(files[names[0]]) - 256
        piece, stream = stream[:room], stream[room:]
        if not piece:
            break
        # A part that is full has its footer.
        footer = files[name][-128:] if len(piece) == room and name != names[-1] else b""
        other[name] = files[name][:128] + piece + footer
    return other


def cuts_of(files: Mapping[str, bytes], step: int = 1) -> Iterator[int]:
    """Stream offsets: each end of a record and places within it; all around checkpoints."""
    for index, (at, end, kind) in enumerate(records_of(files, start_of(files))):
        if kind in (7, 8):
            yield from (at, at + 1, at + 40, end - 1, end, end + 1)
        elif index % step == 0:
            yield from (at, at + 39, (at + end) // 2, end - 1)
