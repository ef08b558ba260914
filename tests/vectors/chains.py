"""Vectors of chains, good and hostile, by the readable writer: docs/format.md, section 9.4."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tests.vectors.damaged import flipped
from tests.vectors.good import MIB
from tests.vectors.kit import DAMAGED, PASSWORD, WHOLE, Vector, contents, written
from tests.vectors.merging import Merger, without_frames
from tests.vectors.primitives import flip, noise, put
from tests.vectors.stream import DIFFERENTIAL, INCREMENTAL, Entry, Recipe, Stream
from tests.vectors.writer import Writer

Says = dict[str, Any]
FRAME_TYPE, MAP_TYPE = 1, 4


def disk(*changes: tuple[int, bytes]) -> bytes:
    """Two stripes: one of many extents, whose page stands for itself, and one of few."""
    content = bytearray(MIB + 6000)
    for n in range(20):
        content[n * 1024 : n * 1024 + 512] = bytes([n + 1, 7]) * 256
    content[MIB : MIB + 4096] = noise(4096, "second stripe")
    for at, data in changes:
        content[at : at + len(data)] = data
    return bytes(content)


FIRST = (MIB + 512, noise(1024, "first change"))
SECOND = (2048, noise(512, "second change"))
THIRD = (MIB + 512, noise(512, "third change"))
DISKS = [disk(), disk(FIRST), disk(FIRST, SECOND), disk(FIRST, SECOND, THIRD)]


def link(name: str, number: int, parent: Stream | None, **arguments: Any) -> Writer:
    """An image of a chain: a full one, or what changed since its parent."""
    arguments.setdefault("file", b"%d.aiv" % number)
    arguments.setdefault("kind", 1 if parent is None else INCREMENTAL)
    devices = [arguments.pop("disk", DISKS[number])]
    more = {"zstd": True, "share": parent is not None, "parent": parent}
    return written(f"{name}/{number}", devices, **{**more, **arguments})


def line(name: str, length: int, **arguments: Any) -> list[Writer]:
    """Images, each the parent of the next."""
    found: list[Writer] = []
    for number in range(length):
        found.append(link(name, number, found[-1] if found else None, **arguments))
    return found


def merged(name: str, run: list[Writer], **arguments: Any) -> Merger:
    """A merge, written."""
    stopped = arguments.pop("stopped_after", None)
    merger = Merger(
        Recipe([], seed=f"{name}/merged", file=b"merged.aiv", **arguments), run, stopped
    )
    merger.write()
    return merger


def files(*images: Stream) -> dict[str, bytes]:
    """By the names that they say they have."""
    return {image.recipe.file.decode(): bytes(image.stream) for image in images}


def reads(image: Stream, **other: Any) -> Says:
    """An image that reads as it was, and verifies."""
    whole = {"verify": WHOLE, "keyless": WHOLE, "chain": WHOLE}
    return {"devices": contents(image.recipe.devices), **whole, **other}


def fails(error: str, on: str = "read", **other: Any) -> Says:
    """An image whose own records are whole, and that cannot be read."""
    return {"error": error, "on": on, "keyless": WHOLE, "chain": DAMAGED, **other}


def vector(
    name: str,
    section: str,
    about: str,
    found: dict[str, bytes],
    images: dict[str, Says],
    password: str | None = None,
) -> Vector:
    """One chain."""
    says = {"about": about, "section": section, "password": password, "images": images}
    return Vector(f"chain-{name}", found, says)


def chains() -> Iterator[Vector]:
    """All of them."""
    yield from _good()
    yield from _merges()
    yield from _names()
    yield from _members()
    yield from _entries()
    yield from _records()


def _good() -> Iterator[Vector]:
    three = line("increments", 3)
    yield vector(
        "increments",
        "7.1",
        "Increments whose maps have pages of earlier images.",
        files(*three),
        {f"{n}.aiv": reads(each) for n, each in enumerate(three)},
    )
    sealed = line("increments-sealed", 3, suite=2)
    yield vector(
        "increments-sealed",
        "4.4",
        "The same with a suite: one password opens all.",
        files(*sealed),
        {"2.aiv": reads(sealed[2])},
        PASSWORD,
    )
    first = link("differential", 0, None)
    second = link("differential", 1, first, kind=DIFFERENTIAL)
    yield vector(
        "differential",
        "9.4",
        "A differential image.",
        files(first, second),
        {"1.aiv": reads(second)},
    )
    full = link("full-inside", 1, line("full-inside", 1)[0], kind=1, share=False, whole=True)
    yield vector(
        "full-inside",
        "9.4",
        "A full image with a parent, which is missing.",
        files(full),
        {"1.aiv": reads(full, chain=WHOLE)},
    )
    yield _layers()
    first = link("resumed-increment", 0, None)
    second = link("resumed-increment", 1, first, resume_after=1, share=True, frame_sectors=1)
    third = link("resumed-increment", 2, second)
    yield vector(
        "resumed-increment",
        "11",
        "An increment that was resumed, and one above it.",
        files(first, second, third),
        {"1.aiv": reads(second), "2.aiv": reads(third)},
    )


def _layers() -> Vector:
    """The device shrinks, and grows again."""
    block = 65_536
    content = b"".join(bytes([n + 1]) * 512 + bytes(block - 512) for n in range(6))
    grown = content[: 2 * block] + bytes(2 * block) + content[:block]
    first = link("layers", 0, None, disk=content, digests=True)
    rest = {"digests": True, "layers": True}
    second = link("layers", 1, first, disk=content[: 2 * block], **rest)
    third = link("layers", 2, second, disk=grown, **rest)
    images = [first, second, third]
    return vector(
        "layers-cut",
        "8.1",
        "Layers of block digests: one has no entries and only cuts, "
        "because the device became shorter, and one above it where it grew again.",
        files(*images),
        {f"{n}.aiv": reads(each) for n, each in enumerate(images)},
    )


def _merges() -> Iterator[Vector]:
    four = line("merged", 4)
    found = merged("merged", four[1:3])
    yield vector(
        "merged",
        "9.5",
        "A merged image with a dropped frame, and the child of the last image that it stands for.",
        files(four[0], found, four[3]),
        {"merged.aiv": reads(four[2]), "3.aiv": reads(four[3])},
    )
    sealed = line("merged-full", 4, suite=2)
    found = merged("merged-full", sealed[:3])
    yield vector(
        "merged-full",
        "9.5",
        "A merged image that begins with a full one and has a suite.",
        files(found, sealed[3]),
        {"merged.aiv": reads(sealed[2]), "3.aiv": reads(sealed[3])},
        PASSWORD,
    )
    found = merged("merge-interrupted", four[1:3], stopped_after=2)
    yield vector(
        "merge-interrupted",
        "9.5",
        "A merge that was interrupted and continued.",
        files(four[0], found, four[3]),
        {"merged.aiv": reads(four[2]), "3.aiv": reads(four[3])},
    )
    damaged = bytes(four[2].stream)
    frame = damaged.index(b"AIVR" + bytes([FRAME_TYPE]))
    both = {
        **files(four[0], four[1], merged("merged", four[1:3]), four[3]),
        "2.aiv": flipped(damaged, frame + 60),
    }
    yield vector(
        "merged-beside-damaged",
        "16",
        "A record is damaged in one file and whole in the "
        "merge that also holds it: a reader may look there.",
        both,
        {"3.aiv": {"verify": WHOLE, "keyless": WHOLE}},
    )
    found = merged("dropped-and-named", four[1:3], copied=without_frames)
    yield vector(
        "dropped-and-named",
        "9.5",
        "A merged image whose map leads to a dropped frame.",
        files(four[0], found),
        {"merged.aiv": fails("FormatError", verify=DAMAGED)},
    )
    found = merged("merged-without-page", four[1:3], copied=_without_pages)
    yield vector(
        "merged-without-page",
        "16",
        "A merged image without a page that its map names.",
        files(four[0], found),
        {"merged.aiv": fails("FormatError", verify=DAMAGED)},
    )


def _without_pages(found: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [each for each in found if each[1][4] != MAP_TYPE]


def _names() -> Iterator[Vector]:
    """Hints of names (section 7.1)."""
    for name, about, hint in (
        ("up", "leads into another directory", b"../0.aiv"),
        ("dots", "is a directory", b".."),
        ("zero", "has a zero byte", b"0.aiv\0"),
        ("text", "is not UTF-8", b"\xff.aiv"),
        ("backslash", "has a backslash", b"..\\0.aiv"),
        ("stale", "is that of no file", b"gone.aiv"),
        ("own", "is that of another image", b"1.aiv"),
    ):
        first = link("hint", 0, None, file=hint)
        second = link("hint", 1, first)
        found = {"0.aiv": bytes(first.stream), "1.aiv": bytes(second.stream)}
        yield vector(
            f"hint-{name}",
            "7.1",
            f"The hint of a file's name {about}: it is ignored.",
            found,
            {"1.aiv": reads(second)},
        )


def _members() -> Iterator[Vector]:
    """What files of the chain there are (section 9.4)."""
    first, second, third = line("members", 3)
    other = link("members", 0, None, disk=disk((0, b"exchanged")))
    lost = fails("IncompleteError", verify=WHOLE)
    yield vector(
        "missing", "9.4", "The full image is missing.", files(second, third), {"2.aiv": lost}
    )
    yield vector(
        "missing-middle",
        "9.4",
        "An image in the middle is missing.",
        files(first, third),
        {"2.aiv": lost},
    )
    yield vector(
        "exchanged",
        "9.4",
        "The full image was exchanged for another one of the same id.",
        files(other, second, third),
        {"2.aiv": fails("IntegrityError")},
    )
    yield vector(
        "doubled",
        "9.4",
        "Two files of one image id and different image digests: a reader must not choose.",
        {**files(first, second), "another.aiv": bytes(other.stream)},
        {"1.aiv": {"error": "IntegrityError", "on": "verify", "verify": WHOLE, "chain": DAMAGED}},
    )
    yield vector(
        "copies",
        "9.4",
        "Two files of one image: they are copies, and either may be used.",
        {**files(first, second), "copy.aiv": bytes(first.stream)},
        {"1.aiv": reads(second)},
    )
    yield vector(
        "rolled-back",
        "9.4",
        "An image is there under its name as it was before its "
        "increment was made: an earlier image of the chain.",
        {**files(first, third), "1.aiv": bytes(first.stream)},
        {"2.aiv": lost},
    )
    foreign = link("members-foreign", 0, None)
    yield vector(
        "foreign",
        "9.4",
        "An image of another chain under the name of the parent.",
        files(foreign, second),
        {"1.aiv": fails("IncompleteError")},
    )
    broken = {**files(first, second), "0.aiv": flipped(bytes(first.stream), _frame(first) + 60)}
    yield vector(
        "damaged-parent",
        "16",
        "A frame of the parent is damaged.",
        broken,
        {"1.aiv": fails("IntegrityError")},
    )
    yield from _links(first)
    yield from _strangers()


def _frame(image: Stream) -> int:
    return bytes(image.stream).index(b"AIVR" + bytes([FRAME_TYPE]))


def _links(first: Writer) -> Iterator[Vector]:
    """What the seals say of parents."""
    cases = {
        "parent-digest": ("The seal names another digest of the parent.", flip(48)),
        "parent-sequence": (
            "The seal names another sequence of the parent.",
            lambda d: put(84, "I", 3)(put(80, "I", 4)(d)),
        ),
        "parent-kind": ("The seal names another kind of the parent.", put(89, "B", 2)),
    }
    for name, (about, change) in cases.items():
        image = link("members", 1, first, changes={"seal": change})
        yield vector(
            name,
            "9.4",
            about,
            files(first, image),
            {"1.aiv": reads(image, chain=DAMAGED) | {"error": "IntegrityError", "on": "verify"}},
        )
    own = link("members", 1, first)
    image = link("members", 1, first, changes={"seal": lambda d: d[:32] + d[:16] + d[48:]})
    assert own.origin == image.origin
    yield vector(
        "parent-of-itself",
        "9.4",
        "An image that names itself as its parent.",
        files(first, image),
        {"1.aiv": {"error": "FormatError", "on": "open"}},
    )
    upper = link("members", 2, own)
    circle = link("members", 1, first, changes={"seal": lambda d: d[:32] + upper.origin + d[48:]})
    upper = link("members", 2, circle)
    yield vector(
        "circle",
        "9.4",
        "Two images, each of which names the other as its parent.",
        files(first, circle, upper),
        {"2.aiv": reads(upper, chain=DAMAGED) | {"error": "FormatError", "on": "verify"}},
    )


def _strangers() -> Iterator[Vector]:
    """A parent that cannot be one."""
    small, large = link("shifts", 0, None), link("shifts", 0, None, frame_shift=13)
    image = link("shifts", 1, small)
    yield vector(
        "other-shifts",
        "3",
        "The parent has another frame size than its child.",
        files(large, image),
        {"1.aiv": fails("FormatError")},
    )
    plain, sealed = link("suites", 0, None), link("suites", 0, None, suite=1)
    image = link("suites", 1, plain, suite=2)
    yield vector(
        "other-suite",
        "4.1",
        "The parent has another suite than its child.",
        files(sealed, image),
        {"1.aiv": fails("PasswordError")},
        PASSWORD,
    )
    yield vector(
        "parent-without-suite",
        "4.1",
        "The parent has no suite, and its child has one.",
        files(plain, image),
        {"1.aiv": fails("PasswordError")},
        PASSWORD,
    )
    first = link("keys", 0, None, suite=2)
    image = link("keys", 1, first, suite=2)
    other = Writer(
        Recipe(DISKS[:1], seed="keys/0", zstd=True, suite=2, password=PASSWORD, file=b"0.aiv")
    )
    other.chain_key = noise(32, "another key")
    other.write()
    yield vector(
        "other-key",
        "4.1",
        "The parent has another chain key than its child.",
        files(other, image),
        {"1.aiv": fails("PasswordError")},
        PASSWORD,
    )


def _entries() -> Iterator[Vector]:
    """Origin entries of pages (section 7.1)."""
    first = link("entries", 0, None)
    cases: dict[str, tuple[str, Any, Says]] = {
        "entry-missing": (
            "A page without the entry of a page of another image.",
            lambda entries: [],
            fails("FormatError", verify=DAMAGED),
        ),
        "entry-frame-count": (
            "A page with another number of frames than the table has.",
            lambda entries: [each._replace(frame_count=each.frame_count + 1) for each in entries],
            fails("FormatError", verify=DAMAGED),
        ),
        "entry-table": (
            "A page with another root of an origin's table.",
            lambda entries: [_other_table(each) for each in entries],
            fails("IntegrityError", verify=DAMAGED),
        ),
        "entry-twice": (
            "A page with two entries of one origin.",
            lambda entries: [*entries, *entries],
            fails("FormatError", verify=DAMAGED),
        ),
    }
    for name, (about, change, says) in cases.items():
        image = link("entries", 1, first, entries=change)
        yield vector(name, "7.1", about, files(first, image), {"1.aiv": says})
    yield from _entries_of_three()


def _other_table(entry: Entry) -> Entry:
    return entry._replace(table_root=flip(40)(entry.table_root))


def _entries_of_three() -> Iterator[Vector]:
    """Pages that name more than one other image."""
    cases: dict[str, tuple[str, Any, Says]] = {
        "entries-descend": (
            "Entries of a page that do not ascend.",
            lambda entries: entries[::-1],
            fails("FormatError", verify=DAMAGED),
        ),
        "entry-holder": (
            "Two pages that name different holders of an origin.",
            _lying_once(),
            fails("FormatError", verify=DAMAGED),
        ),
    }
    before = disk(FIRST, (4096, noise(512, "before")))
    after = disk(FIRST, (4096, noise(512, "before")), SECOND)
    for name, (about, change, says) in cases.items():
        first = link(name, 0, None)
        second = link(name, 1, first, disk=before)
        third = link(name, 2, second, disk=after, entries=change)
        yield vector(name, "7.1", about, files(first, second, third), {"2.aiv": says})


def _lying_once() -> Callable[[list[Entry]], list[Entry]]:
    """The first page that is written names the holder of one image as that of the other."""
    left = [True]

    def change(entries: list[Entry]) -> list[Entry]:
        if not left or not left.pop():
            return entries
        return [entries[0], entries[1]._replace(holder=entries[0].holder)]

    return change


def _records() -> Iterator[Vector]:
    """What an increment's own records say."""
    first = link("layer", 0, None, digests=True)
    for name, about, changes in (
        (
            "layer-depth",
            "A layer of another depth than its base asks for.",
            {"layer": put(144, "I", 2)},
        ),
        ("layer-limit", "A layer whose limit is beyond the device.", {"layer": put(128, "Q", 99)}),
        (
            "layer-entries",
            "A layer with another number of digests than it says.",
            {"layer": put(136, "Q", 3)},
        ),
        (
            "layer-leaf-descends",
            "Block numbers of a layer leaf that do not ascend.",
            {"layer leaf": put(0, "Q", 1)},
        ),
        (
            "layer-digest",
            "A digest of a layer that is not that of the content.",
            {"layer leaf": flip(-1)},
        ),
    ):
        image = link("layer", 1, first, digests=True, layers=True, changes=changes)
        says = {
            "error": "IntegrityError" if name == "layer-digest" else "FormatError",
            "on": "verify",
            **reads(image, chain=DAMAGED, verify=DAMAGED),
        }
        yield vector(name, "8.1", about, files(first, image), {"1.aiv": says})
