"""Make the vectors anew: ``python -m tests.vectors.build_vectors DIRECTORY``.

Each vector is an image, or the parts of one, and ``NAME.json`` beside it, which states what must
happen: ``password``, and either ``devices`` (SHA-256 of the content of each) or ``error`` (the name
of the error type) with ``on``: "open", "read" or "verify".

The frozen files are never made again for a version of the format that was released; a new version
gets new vectors.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import zstandard
from blake3 import blake3

from tests.vectors.writer import Change, Recipe, Writer, h, in_parts

PASSWORD = "pässword"
MIB = 1 << 20


@dataclass
class Vector:
    """Files by suffix, and what is said of them."""

    name: str
    files: dict[str, bytes]
    says: dict[str, Any] = field(default_factory=dict)

    def write(self, directory: Path) -> None:
        """Write files and sidecar."""
        for suffix, data in self.files.items():
            (directory / f"{self.name}.aiv{suffix}").write_bytes(data)
        names = [f"{self.name}.aiv{suffix}" for suffix in self.files]
        text = json.dumps({**self.says, "files": names}, indent=1)
        (directory / f"{self.name}.json").write_text(text + "\n")


def noise(length: int, seed: str) -> bytes:
    """Bytes that do not compress."""
    return blake3(seed.encode()).digest(length)


def contents() -> list[bytes]:
    """A small device, one of an odd size with many extents, and one of several stripes."""
    small = noise(4096, "a") + bytes(4096) + b"text " * 200
    striped = bytearray(MIB + 30 * 1024 + 77)
    for n in range(20):
        striped[n * 1024 : n * 1024 + 512] = noise(512, f"b{n}")
        striped[MIB + n * 1024 : MIB + n * 1024 + 512] = noise(512, f"c{n}")
    far = bytearray(3 * MIB)
    far[2 * MIB : 2 * MIB + 600] = noise(600, "d")
    return [small, bytes(striped), bytes(far)]


def good() -> Iterator[Vector]:
    """Images that every reader of version 1.0 must read."""
    kinds: dict[str, dict[str, Any]] = {
        "plain": {},
        "zstd": {"zstd": True},
        "aes-256": {"suite": 2, "zstd": True},
        "aes-128": {"suite": 1},
        "authenticated": {"suite": 3, "zstd": True},
        "digests": {"digests": True},
        "resumed": {"digests": True, "resume_after": 5, "zstd": True},
        "resumed-aes-256": {"suite": 2, "resume_after": 5},
        "unreadable": {"unreadable": (0, 0, 8)},
    }
    for name, arguments in kinds.items():
        devices = contents()
        if name == "unreadable":
            devices[0] = bytes(4096) + devices[0][4096:]
        yield _stated(name, devices, arguments, {"": _write(name, devices, arguments).stream})
    devices, arguments = contents(), {"suite": 2, "zstd": True}
    writer = _write("split", devices, arguments)
    parts = in_parts(bytes(writer.stream), writer.file_id, 16_000)
    suffixes = ["", *(f".{number:03d}" for number in range(2, len(parts) + 1))]
    yield _stated("split", devices, arguments, dict(zip(suffixes, parts, strict=True)))


def _write(name: str, devices: list[bytes], arguments: dict[str, Any]) -> Writer:
    password = PASSWORD if arguments.get("suite") else None
    writer = Writer(Recipe(devices, password=password, seed=name, **arguments))
    writer.write()
    return writer


def _stated(
    name: str, devices: list[bytes], arguments: dict[str, Any], files: dict[str, Any]
) -> Vector:
    says = {
        "password": PASSWORD if arguments.get("suite") else None,
        "devices": [sha256(content).hexdigest() for content in devices],
    }
    return Vector(f"good-{name}", {suffix: bytes(data) for suffix, data in files.items()}, says)


# Hostile ones


def put(at: int, layout: str, *values: int) -> Change:
    """Overwrite a field."""

    def change(data: bytes) -> bytes:
        new, place = struct.pack("<" + layout, *values), at % len(data)
        return data[:place] + new + data[place + len(new) :]

    return change


SMALL = [noise(1024, "e"), noise(1024, "f")]
SEAL_DEVICE, SEAL_ORIGIN = 264, 264 + 2 * 192

# Name: (error, where, what is changed, arguments of the recipe).
FORGED: dict[str, tuple[str, str, dict[str, Change], dict[str, Any]]] = {
    "class-02-offset-wraps": ("LimitError", "open",
        {"seal": put(SEAL_DEVICE + 64 + 16, "Q", (1 << 64) - 8)}, {}),
    "class-03-zero-frame-size": ("LimitError", "open", {"core": put(73, "B", 0)}, {}),
    "class-03-zero-fanout": ("LimitError", "open", {"core": put(75, "B", 0)}, {}),
    "class-03-empty-device": ("LimitError", "open", {"seal": put(SEAL_DEVICE, "Q", 0)}, {}),
    "class-04-devices": ("LimitError", "open", {"seal": put(90, "H", 65_535)}, {}),
    "class-04-extents": ("FormatError", "read", {"map 0": put(20, "I", 0xFFFF_FFFF)}, {}),
    "class-04-frames": ("LimitError", "open", {"seal": put(SEAL_ORIGIN + 32, "Q", 1 << 60)}, {}),
    "class-05-segments-overlap": ("FormatError", "open",
        {"segments": lambda d: d[:32] + d[72:80] + d[40:72] + d[72:]},
        {"resume_after": 1}),
    "class-06-record-at-the-header": ("LimitError", "open",
        {"seal": put(SEAL_DEVICE + 64 + 16, "Q", 0)}, {}),
    "class-06-record-past-the-end": ("FormatError", "read",
        {"seal": put(SEAL_DEVICE + 64 + 16, "Q", 1 << 40)}, {}),
    "class-08-frames-descend": ("FormatError", "read",
        {"table": lambda d: d[:16] + d[64:112] + d[16:64] + d[112:]}, {}),
    "class-09-petabyte": ("FormatError", "open", {"seal": put(SEAL_DEVICE, "Q", 1 << 50)}, {}),
    "class-10-version": ("UnsupportedError", "open", {"core": put(8, "H", 2)}, {}),
    "class-10-feature": ("UnsupportedError", "open", {"core": put(16, "Q", 1 << 40)}, {}),
    "class-10-digest": ("UnsupportedError", "open", {"core": put(76, "B", 2)}, {}),
    "class-10-reserved": ("FormatError", "open", {"core": put(84, "I", 1)}, {}),
    "class-10-map-kind": ("FormatError", "read", {"map 0": put(-1, "B", 6)}, {}),
    "class-25-memory": ("LimitError", "open",
        {"key area": put(32 + 4, "I", 1 << 31)}, {"suite": 2}),
    "class-25-passes": ("LimitError", "open",
        {"key area": put(32 + 8, "I", 1 << 20)}, {"suite": 2}),
    "class-26-commitment": ("PasswordError", "open",
        {"key area": put(32 + 64, "B", 0)}, {"suite": 2}),
    "class-28-header-mac": ("IntegrityError", "open", {"mac": put(0, "Q", 0)}, {"suite": 2}),
    "metadata-is-deep": ("FormatError", "verify",
        {"description": lambda d: b'{"a":' + b"[" * 40 + b"]" * 40 + b"}"}, {}),
    "trailer-of-another-file": ("FormatError", "open", {"trailer": put(152, "Q", 1)}, {}),
}  # fmt: skip


def hostile() -> Iterator[Vector]:
    """Images that every reader must refuse, and where."""
    for name, (error, where, changes, arguments) in FORGED.items():
        data = bytes(_write(name, SMALL, {**arguments, "changes": changes}).stream)
        yield _refused(name, {"": data}, error, where, arguments)
    yield from _bombs()
    yield from _damaged()
    yield from _part_sets()


def _refused(
    name: str, files: dict[str, bytes], error: str, where: str, arguments: dict[str, Any]
) -> Vector:
    password = PASSWORD if arguments.get("suite") else None
    return Vector(f"hostile-{name}", files, {"password": password, "error": error, "on": where})


def _bombs() -> Iterator[Vector]:
    """Zstandard frames that lie or ask for too much."""
    zeros = [bytes(512) + b"\1" * 3584, bytes(100)]
    payloads = {
        "class-11-bomb": zstandard.compress(bytes(64 * MIB)),
        "class-12-size": zstandard.ZstdCompressor(write_content_size=False).compress(b"\1" * 3584),
        "class-13-window": b"\x28\xb5\x2f\xfd\x80\xa8" + struct.pack("<I", 3584) + b"\x03\x70\0\1",
        "class-14-two-frames": zstandard.compress(b"\1" * 1792) * 2,
        "class-14-skippable": struct.pack("<III", 0x184D2A50, 4, 0)
        + zstandard.compress(b"\1" * 3584),
        "class-15-dictionary": b"\x28\xb5\x2f\xfd\x61\x07"
        + struct.pack("<H", 3584 - 256)
        + b"\1\0\0",
    }
    for name, payload in payloads.items():
        changes = {"frame payload": lambda _, payload=payload: payload}
        writer = _write(name, zeros, {"zstd": True, "changes": changes})
        yield _refused(name, {"": bytes(writer.stream)}, "IntegrityError", "read", {})


def _damaged() -> Iterator[Vector]:
    """Whole images that something happened to."""
    data = bytes(_write("damaged", SMALL, {}).stream)
    frame = data.index(noise(64, "e"))
    flipped = data[:frame] + bytes([data[frame] ^ 1]) + data[frame + 1 :]
    yield _refused("class-01-cut", {"": data[:-1]}, "IncompleteError", "open", {})
    yield _refused("class-01-trailing", {"": data + b"\0"}, "IncompleteError", "open", {})
    yield _refused("one-bit", {"": flipped}, "IntegrityError", "read", {})
    sealed = {"suite": 2}
    data = bytes(_write("swapped", SMALL, sealed).stream)
    first = data.index(b"AIVR\x01")
    length = struct.unpack_from("<I", data, first + 8)[0] + 56
    a, b = data[first : first + length], data[first + length : first + 2 * length]
    swapped = data[:first] + b + a + data[first + 2 * length :]
    yield _refused("class-27-swapped", {"": swapped}, "IntegrityError", "read", sealed)


def _part_sets() -> Iterator[Vector]:
    """Sets of parts that are not whole."""
    writer = _write("parts", SMALL, {})
    data = bytes(writer.stream)
    parts = in_parts(data, writer.file_id, 3000)
    whole = {"" if n == 1 else f".{n:03d}": part for n, part in enumerate(parts, 1)}
    missing = {suffix: part for suffix, part in whole.items() if suffix != ".002"}
    yield _refused("class-20-missing", missing, "IncompleteError", "open", {})
    doubled = {**whole, ".009": whole[".002"]}
    yield _refused("class-20-doubled", doubled, "FormatError", "open", {})
    foreign = in_parts(data, h(b"foreign")[:16], 3000)
    yield _refused("class-20-foreign", {**whole, ".002": foreign[1]}, "FormatError", "open", {})


def build(directory: Path) -> None:
    """Write all vectors."""
    directory.mkdir(parents=True, exist_ok=True)
    for vector in (*good(), *hostile()):
        vector.write(directory)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
