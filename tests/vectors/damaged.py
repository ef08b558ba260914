"""Vectors of whole images that something happened to, and of sets of parts that are not whole."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tests.vectors.good import SMALL
from tests.vectors.kit import DAMAGED, PASSWORD, Vector, read_as, refused, written
from tests.vectors.primitives import h, in_parts, noise
from tests.vectors.writer import Writer


def damaged() -> Iterator[Vector]:
    """All of them."""
    yield from _flipped()
    yield from _swapped()
    yield from _spare()
    yield from _part_sets()


def _flipped() -> Iterator[Vector]:
    data = bytes(written("damaged", SMALL).stream)
    frame = data.index(noise(64, "e"))
    for name, about, changed, error, on in (
        ("class-01-cut", "The last byte is missing.", data[:-1], "IncompleteError", "open"),
        ("class-01-trailing", "A byte after the end.", data + b"\0", "IncompleteError", "open"),
        ("empty", "A file without a byte.", b"", "FormatError", "open"),
        ("no-image", "A file of text.", b"This is no image. " * 300, "FormatError", "open"),
        ("one-bit", "One bit of a frame flipped.", flipped(data, frame), "IntegrityError", "read"),
    ):
        yield refused(name, "2", about, {"": changed}, error, on, keyless=DAMAGED)


def flipped(data: bytes, *places: int) -> bytes:
    """One bit flipped at each place."""
    new = bytearray(data)
    for place in places:
        new[place] ^= 1
    return bytes(new)


def _swapped() -> Iterator[Vector]:
    data = bytes(written("swapped", SMALL, suite=2).stream)
    first = data.index(b"AIVR\x01")
    length = struct.unpack_from("<I", data, first + 8)[0] + 56
    a, b = data[first : first + length], data[first + length : first + 2 * length]
    swapped = data[:first] + b + a + data[first + 2 * length :]
    yield refused(
        "class-27-swapped",
        "5",
        "Two frames of a sealed image that changed places.",
        {"": swapped},
        "IntegrityError",
        "read",
        password=PASSWORD,
    )


def places(writer: Writer) -> dict[str, tuple[int, int, int]]:
    """Of what is kept twice: original, copy, length (section 10.1)."""
    data = bytes(writer.stream)
    names = ["core", "description", "result", "segments", "seal"]
    lengths = {name: len(writer.spare[name]) for name in names if name in writer.spare}
    at = len(data) - 4608 - sum(lengths.values())
    found = {}
    for name, length in lengths.items():
        found[name] = (data.index(writer.spare[name]), at, length)
        at += length
    return found | {"trailer": (len(data) - 256, len(data) - 4608, 256)}


LOST_WITH_BOTH = {
    "core": ("IntegrityError", "open"),
    "description": ("IntegrityError", "verify"),
    "result": ("IntegrityError", "verify"),
    "segments": ("IntegrityError", "open"),
    "seal": ("IntegrityError", "open"),
    "trailer": ("IntegrityError", "open"),
}


def _spare() -> Iterator[Vector]:
    """Section 10.1: originals, copies, both."""
    writer = written("spare", SMALL, resume_after=1)
    data = bytes(writer.stream)
    for name, (original, copy, length) in places(writer).items():
        middle = length // 2
        for what, place in ((name, original), (f"copy-of-{name}", copy)):
            about = f"One bit of the {what.replace('-', ' ')} flipped; the other one is whole."
            yield read_as(
                f"spare-{what}",
                "10.1",
                about,
                writer,
                verify=DAMAGED,
                keyless=DAMAGED,
                files={"": flipped(data, place + middle)},
            )
        error, on = LOST_WITH_BOTH[name]
        yield refused(
            f"spare-both-{name}",
            "10.1",
            f"One bit of the {name} and one of its copy.",
            {"": flipped(data, original + middle, copy + middle)},
            error,
            on,
            keyless=DAMAGED,
            devices=SMALL if on == "verify" else None,
        )
    core, trailer = places(writer)["core"], places(writer)["trailer"]
    yield read_as(
        "spare-core-and-trailer",
        "10.1",
        "Header and trailer damaged, copies whole.",
        writer,
        files={"": flipped(data, core[0] + 60, trailer[0] + 60)},
        verify=DAMAGED,
        keyless=DAMAGED,
    )
    yield read_as(
        "spare-gap",
        "10.1",
        "A byte of the zeros before the copies is not zero.",
        writer,
        files={"": flipped(data, core[1] - 100)},
        verify=DAMAGED,
        keyless=DAMAGED,
    )


def _part_sets() -> Iterator[Vector]:
    """Section 12."""
    writer = written("parts", SMALL)
    data = bytes(writer.stream)
    whole = named(in_parts(data, writer.file_id, 3000))
    foreign = in_parts(data, h(b"foreign")[:16], 3000)
    last = max(whole)
    short = in_parts(data, writer.file_id, 3000)[:-1]
    across = named(in_parts(data, writer.file_id, 9000, 200))
    gap = in_parts(data[:3000] + data[3001:], writer.file_id, 3000)
    cases: list[tuple[str, str, dict[str, bytes], str]] = [
        ("class-20-missing", "The second part is missing.",
            {k: v for k, v in whole.items() if k != ".002"}, "IncompleteError"),
        ("class-20-doubled", "The second part is there twice.",
            {**whole, ".009": whole[".002"]}, "FormatError"),
        ("class-20-foreign", "The second part is of another set.",
            {**whole, ".002": foreign[1]}, "FormatError"),
        ("part-is-none", "A file with a part's name is not a part.",
            {**whole, ".009": b"no part at all " * 20}, "FormatError"),
        ("last-part-missing", "The last part is missing.", named(short), "IncompleteError"),
        ("part-footer", "One bit of a part's footer flipped.",
            {**whole, ".002": flipped(whole[".002"], -50)}, "IntegrityError"),
        ("part-header", "One bit of a part's header flipped.",
            {**whole, ".002": flipped(whole[".002"], 90)}, "IntegrityError"),
        ("part-cut", "A part that was cut short.",
            {**whole, last: whole[last][:-300]}, "IncompleteError"),
        ("header-across-parts", "A header core that reaches beyond the first part.", across,
            "FormatError"),
        ("parts-of-a-shorter-stream", "Parts whose pieces lack a byte of the stream.",
            named(gap), "IncompleteError"),
    ]  # fmt: skip
    for name, about, files, error in cases:
        yield refused(name, "12", about, files, error, "open", keyless=DAMAGED)


def named(parts: list[bytes]) -> dict[str, bytes]:
    """By suffix."""
    return {"" if n == 1 else f".{n:03d}": part for n, part in enumerate(parts, 1)}
