"""Builds small chains with the library, to be frozen beside the vectors of single images.

``python -m tests.vectors.build_chains DIRECTORY`` writes an archive for each chain, and its header
beside it. Ids, times and randomness are fixed.
"""

from __future__ import annotations

import hashlib
import io
import platform
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from aipimage.io.creating import heading
from aipimage.io.creating.options import CreateOptions
from aipimage.io.increment.create import create_image
from aipimage.io.merge.job import merge_images
from aipimage.io.records.keys import Argon2Parameters
from tests.support.deterministic import deterministic
from tests.vectors.kit import WHOLE, Vector

PASSWORD = "vector"
CHEAP = Argon2Parameters(memory=8192, passes=1, lanes=1)
ABOUT = (
    "A full image, a differential one, a merged increment and an increment, as the library writes "
    "them: {}."
)
CHAINS = {"plain": None, "aes-256": "aes-256", "authenticate": "authenticate"}


def states() -> Iterator[tuple[bytes, list[tuple[int, int]]]]:
    """(the disk, what changed) of five points in time; it grows once, and once it shrinks."""
    rng = random.Random(20)
    disk = bytearray(rng.randbytes(20_000) + bytes(150_000) + b"chain " * 5_000 + b"end")
    yield bytes(disk), []
    for number in range(1, 5):
        changed = []
        for _ in range(3):
            at, length = rng.randrange(len(disk) - 5_000), rng.randrange(1, 5_000)
            disk[at : at + length] = rng.randbytes(length) if rng.random() < 0.7 else bytes(length)
            changed.append((at, length))
        if number == 2:
            disk += b"grown" * 3_000
        if number == 4:
            del disk[-9_001:]
            changed = [each for each in changed if sum(each) <= len(disk)]
        yield bytes(disk), changed


class Disk(io.BytesIO):
    """A source with a name, and nothing of the machine in its fingerprint."""

    name = "disk.raw"


def build(directory: Path, encrypt: str | None) -> dict[str, str]:
    """A full image, a differential one, increments by tracker and by digests, and a merged one;
    return the SHA-256 of the disk in each file.
    """
    contents: dict[str, str] = {}
    password = PASSWORD if encrypt else None
    for number, (disk, changed) in enumerate(states()):
        name = f"{number}.aiv"
        kind = ("full", "differential", "incremental")[min(number, 2)]
        options = CreateOptions(
            compress="zstd:3",
            encrypt=None if number else encrypt,
            password=password,
            kind=kind,
            parent=str(directory / f"{number - 1}.aiv") if number else None,
            threads=1,
            changed=changed if number % 2 else None,
            grain=512 if number == 3 else 4096,
            argon2=CHEAP,
        )
        create_image(str(directory / name), [Disk(disk)], options)
        contents[name] = hashlib.sha256(disk).hexdigest()
    run = [str(directory / f"{number}.aiv") for number in (2, 3)]
    merge_images(str(directory / "2-to-3.aiv"), run, password=password, remove=True, threads=1)
    contents["2-to-3.aiv"] = contents["3.aiv"]
    del contents["2.aiv"], contents["3.aiv"]
    return contents


def vectors() -> Iterator[Vector]:
    """All of them."""
    for number, (name, encrypt) in enumerate(CHAINS.items()):
        with (
            tempfile.TemporaryDirectory() as scratch,
            deterministic(seed=100 + number),
            mock.patch.object(platform, "node", return_value="host"),
            mock.patch.object(heading, "__version__", "1"),
        ):
            directory = Path(scratch)
            found = build(directory, encrypt)
            files = {file: (directory / file).read_bytes() for file in found}
        whole = {"verify": WHOLE, "keyless": WHOLE, "chain": WHOLE}
        says = {
            "about": ABOUT.format(encrypt or "without a suite"),
            "section": "9.4",
            "password": PASSWORD if encrypt else None,
            "images": {file: {"devices": [digest], **whole} for file, digest in found.items()},
        }
        yield Vector(f"chain-{name}", files, says)


def main(target: Path) -> None:
    """Build all of them."""
    target.mkdir(parents=True, exist_ok=True)
    for vector in vectors():
        vector.write(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
