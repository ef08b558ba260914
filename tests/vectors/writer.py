"""A writer of ``.aiv`` images from docs/format.md alone: frames, tables, maps and block digests."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import groupby

from tests.vectors.primitives import (
    DATA,
    DIGESTS,
    FRAME,
    INDEX,
    LAYER,
    LAYER_LEAF,
    LEAF,
    MAP,
    NONE,
    PAGE,
    UNREADABLE,
    ZERO,
    Extent,
    cut,
    h,
    joined,
)
from tests.vectors.stream import Entry, Recipe, Stream

__all__ = ["Recipe", "Writer"]
BLOCK = 65_536


class Writer(Stream):
    """An image of devices whose content is given, full or with what changed since a parent."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.frames: dict[bytes, list[bytes]] = {self.file_id: []}
        self.pages: list[bytes] = []
        self.stripe, self.open_stripe = 1 << (recipe.stripe_shift - 9), -1
        self.leaves: dict[tuple[int, int], bytes] = {}
        self.digests: list[list[bytes]] = [self.blocks(n) for n in range(len(recipe.devices))]
        """Of all blocks of each device."""
        if recipe.parent is not None:
            self.sequence = recipe.parent.sequence + 1
            self.known = dict(recipe.parent.known)
            if recipe.share:
                self.written = dict(recipe.parent.written)

    def write(self) -> bytes:
        """The whole stream."""
        r = self.recipe
        self.header()
        if r.resume_after is not None:
            # An entry may cover what stands before the first record (section 9.3).
            self.placed.append([self.file_id, 0, len(self.stream), 0])
        described = self.describe()
        for kind in r.strays:
            self.record(kind, b"nothing leads here")
        for number in range(len(r.devices)):
            self.rows.append(self.device(number))
        for number, rows in enumerate(self.rows):
            level, root = self.map(number, rows)
            self.roots.append((level, root, self.digest_root(number) if r.digests else NONE))
        own = [
            self.entry_of(run, len(self.frames[run]), self.table(run))
            for run in reversed(self.runs)
        ]
        self.finish(described, own + self.behind_roots(), [])
        self.known |= {entry.origin: entry for entry in own}
        return bytes(self.stream)

    def behind_roots(self) -> list[Entry]:
        """Section 9.1: all runs of other images whose pages are roots."""
        roots = {ref[:16] for _, *refs in self.roots for ref in refs if any(ref)}
        images = {self.known[origin].holder for origin in roots if origin not in self.runs}
        return [entry for entry in self.known.values() if entry.holder in images]

    # Section 6

    def device(self, number: int) -> list[Extent]:
        """Write the frames of a device; return its extents, neighbours joined."""
        content = self.padded(number)
        if self.recipe.twins:
            for twin in range(number):
                if self.padded(twin) == content:
                    return self.rows[twin]
        states = self.states(number, content)
        size = (1 << self.recipe.frame_shift) // 512
        kept = [sector for sector, state in enumerate(states) if state is None]
        for sectors in self.portions(kept, self.recipe.frame_sectors or size):
            self.enter_stripe(number, sectors[0])
            position = len(self.frames[self.origin]) * size
            self.frame(number, sectors, content)
            for place, sector in enumerate(sectors):
                states[sector] = (1, position + place, DATA, self.origin)
        self.end_stripe(number)
        return joined([state for state in states if state is not None])

    def states(self, number: int, content: bytes) -> list[Extent | None]:
        """The extent of each sector; None for those that a frame of this image must hold."""
        before, old = self.before(number), self.old_content(number)
        marks = {
            sector: kind
            for device, first, count, kind in self.marks()
            for sector in range(first, first + count)
            if device == number
        }
        found: list[Extent | None] = []
        for sector in range(len(content) // 512):
            data = content[512 * sector : 512 * sector + 512]
            if sector in marks:
                found.append((1, 0, marks[sector], b""))
            elif sector < len(before) and data == old[512 * sector : 512 * sector + 512]:
                found.append(before[sector])
            else:
                found.append(None if any(data) else (1, 0, ZERO, b""))
        return found

    def marks(self) -> list[tuple[int, int, int, int]]:
        """Ranges of a kind that content does not tell."""
        r = self.recipe
        return [*r.marked, *([(*r.unreadable, UNREADABLE)] if r.unreadable else [])]

    def before(self, number: int) -> list[Extent]:
        """The extents of the parent, a sector each."""
        parent = self.recipe.parent
        if parent is None or self.recipe.whole or number >= len(parent.rows):
            return []
        return [
            (1, position + place if kind == DATA else 0, kind, origin)
            for length, position, kind, origin in parent.rows[number]
            for place in range(length)
        ]

    def old_content(self, number: int) -> bytes:
        parent = self.recipe.parent
        if parent is None or number >= len(parent.rows):
            return b""
        content = parent.recipe.devices[number]
        return content + bytes(-len(content) % 512)

    def portions(self, kept: list[int], size: int) -> Iterator[list[int]]:
        """The sectors of each frame; with checkpoints none has sectors of two stripes."""
        if self.recipe.resume_after is None:
            stripes = [kept]
        else:
            stripes = [list(group) for _, group in groupby(kept, lambda s: s // self.stripe)]
        for stripe in stripes:
            yield from (stripe[at : at + size] for at in range(0, len(stripe), size))

    def enter_stripe(self, device: int, sector: int) -> None:
        """Before a frame: a new stripe may begin, and a new run."""
        if sector // self.stripe != self.open_stripe:
            self.end_stripe(device)
            self.open_stripe = sector // self.stripe
        if self.recipe.resume_after == sum(map(len, self.frames.values())):
            self.checkpoint(device, sector - sector % self.stripe)
            self.go_on()
            self.frames[self.origin] = []

    def end_stripe(self, device: int) -> None:
        """With checkpoints a leaf of block digests stands after the frames of its stripe."""
        r, stripe, self.open_stripe = self.recipe, self.open_stripe, -1
        if r.resume_after is not None and r.digests and r.parent is None and stripe >= 0:
            leaf = self.digest_leaves(device)[stripe * self.stripe // 128]
            self.leaves[device, stripe * self.stripe // 128] = self.record(DIGESTS, leaf)

    def padded(self, number: int) -> bytes:
        """Whole sectors, without what could not be read."""
        content = self.recipe.devices[number]
        content += bytes(-len(content) % 512)
        for device, first, count, _ in self.marks():
            if device == number:
                behind = content[512 * (first + count) :]
                content = content[: 512 * first] + bytes(512 * count) + behind
        return content

    def frame(self, device: int, sectors: list[int], content: bytes) -> None:
        """Section 6.1."""
        runs: list[list[int]] = []
        for sector in sectors:
            if runs and sum(runs[-1]) == sector:
                runs[-1][1] += 1
            else:
                runs.append([sector, 1])
        extents = b"".join(struct.pack("<QI", device << 48 | s, n) for s, n in runs)
        plain = b"".join(content[512 * s : 512 * s + 512] for s in sectors)
        self.frames[self.origin].append(self.record(FRAME, plain, extents, "frame"))

    def table(self, origin: bytes) -> bytes:
        """Section 6.2."""
        refs = self.frames[origin]
        leaves = []
        for first in range(0, len(refs), 1024):
            some = refs[first : first + 1024]
            leaf = struct.pack("<QII", first, len(some), 0) + b"".join(ref[16:] for ref in some)
            leaves.append((first, self.record(LEAF, leaf, name=f"table {first // 1024}")))
        if not leaves:
            return NONE
        return self.tree(leaves, int(self.recipe.one_leaf_index))

    def tree(self, leaves: list[tuple[int, bytes]], lowest: int = 0) -> bytes:
        """Section 6.3: the root over leaves, at least so many levels of index pages high. A tree
        that is higher than it must be has two entries in all pages but for odd ones.
        """
        most = 512 if not lowest else 2
        level = 0
        while len(leaves) > 1 or level < lowest:
            level += 1
            leaves = [
                self.index(level, leaves[at : at + most]) for at in range(0, len(leaves), most)
            ]
        return leaves[0][1]

    def index(self, level: int, entries: list[tuple[int, bytes]]) -> tuple[int, bytes]:
        """One page, and its lowest key."""
        packed = b"".join(struct.pack("<Q", key) + ref for key, ref in entries)
        plain = struct.pack("<II", level, len(entries)) + packed
        refs = [ref for _, ref in entries]
        return entries[0][0], self.record(INDEX, plain, name=f"index {level}", below=refs)

    # Section 7

    def map(self, device: int, extents: list[Extent]) -> tuple[int, bytes]:
        """Level and reference of the root."""
        sectors = sum(row[0] for row in extents)
        level = 0
        while self.span(level) < sectors:
            level += 1
        self.pages = []
        rows = self.page_rows(device, extents, level, 0, sectors)
        return level, self.page(device, level, 0, sectors, rows)

    def span(self, level: int) -> int:
        """Sectors of a page."""
        return 1 << (self.recipe.stripe_shift + level * self.recipe.fanout_shift - 9)

    def page_rows(
        self, device: int, extents: list[Extent], level: int, first: int, count: int
    ) -> list[Extent]:
        """The list of a page: that of its children, or references to them."""
        if level == 0:
            return cut(extents, first, count)
        found: list[Extent] = []
        for start in range(first, first + count, self.span(level - 1)):
            length = min(self.span(level - 1), first + count - start)
            rows = self.page_rows(device, extents, level - 1, start, length)
            if len(rows) > 16:
                self.pages.append(self.page(device, level - 1, start, length, rows))
                rows = [(length, len(self.pages) - 1, PAGE, b"")]
            found += rows
        return joined(found)

    def page(self, device: int, level: int, first: int, sectors: int, rows: list[Extent]) -> bytes:
        """One page, or one of an earlier image that says the same."""
        refs = [self.pages[row[1]] for row in rows if row[2] == PAGE]
        extents = tuple(row if row[2] != PAGE else (row[0], 0, PAGE, b"") for row in rows)
        key = (device, level, first, sectors, extents, tuple(refs))
        if key not in self.written:
            self.written[key] = self.new_page(device, level, first, sectors, rows, refs)
        return self.written[key]

    def new_page(
        self,
        device: int,
        level: int,
        first: int,
        sectors: int,
        rows: list[Extent],
        refs: list[bytes],
    ) -> bytes:
        origins = sorted({row[3] for row in rows if row[2] == DATA})
        entries = self.recipe.entries(self.page_entries(origins, refs))
        steps, expected = [], 0
        for length, position, kind, _ in rows:
            steps.append((position - expected) % (1 << 64) if kind == DATA else 0)
            expected = position + length if kind == DATA else expected
        head = struct.pack(
            "<QQIIIHHB3s",
            first,
            sectors,
            device,
            len(rows),
            len(refs),
            len(origins),
            len(entries),
            level,
            b"",
        )
        columns = [
            b"".join(struct.pack("<Q", row[0]) for row in rows),
            b"".join(struct.pack("<Q", step) for step in steps),
            b"".join(
                struct.pack("<H", origins.index(row[3]) if row[2] == DATA else 0) for row in rows
            ),
            bytes(row[2] for row in rows),
        ]
        told = [entry.packed() for entry in entries]
        plain = head + b"".join([*origins, *columns, *refs, *told])
        return self.record(MAP, plain, name=f"map {level}", below=refs)

    def page_entries(self, named: list[bytes], refs: list[bytes]) -> list[Entry]:
        """Section 7.1."""
        others = {ref[:16] for ref in refs} - set(self.runs)
        images = {self.known[origin].holder for origin in others}
        found = {each.origin: each for each in self.known.values() if each.holder in images}
        found |= {origin: self.known[origin] for origin in named if origin not in self.runs}
        return [found[origin] for origin in sorted(found)]

    # Section 8

    def blocks(self, device: int) -> list[bytes]:
        """The digest of each block."""
        content = self.padded(device)
        content += bytes(-len(content) % BLOCK)
        blocks = [content[at : at + BLOCK] for at in range(0, len(content), BLOCK)]
        return [h(block)[:16] if any(block) else bytes(16) for block in blocks]

    def digest_leaves(self, device: int) -> dict[int, bytes]:
        """Leaves by the first block."""
        digests, step = self.digests[device], 1 << (self.recipe.stripe_shift - 16)
        leaves = {}
        for first in range(0, len(digests), step):
            leaf = b"".join(digests[first : first + step])
            if any(leaf):
                leaves[first] = struct.pack("<QII", first, len(leaf) // 16, 0) + leaf
        return leaves

    def digest_root(self, device: int) -> bytes:
        """A tree over leaves, or a layer."""
        if self.recipe.layers:
            return self.layer(device)
        leaves = [
            (first, self.leaves.get((device, first)) or self.record(DIGESTS, leaf, name="digests"))
            for first, leaf in self.digest_leaves(device).items()
        ]
        return self.tree(leaves, self.recipe.tree_level) if leaves else NONE

    def layer(self, device: int) -> bytes:
        """Section 8.1."""
        parent = self.recipe.parent
        assert isinstance(parent, Writer)
        base, old, new = parent.roots[device][2], parent.digests[device], self.digests[device]
        limit = min(len(old), len(new))
        below = [*old[:limit], *[bytes(16)] * (len(new) - limit)]
        blocks = [n for n, digest in enumerate(new) if digest != below[n]]
        tree = self.layer_tree(blocks, new) if blocks else NONE
        depth = parent.depth(device) + 1
        plain = base + tree + struct.pack("<QQII", limit, len(blocks), depth, 0)
        return self.record(LAYER, plain, name="layer", below=[base, tree])

    def layer_tree(self, blocks: list[int], digests: list[bytes]) -> bytes:
        """The tree over the leaves of a layer."""
        leaves, most = [], self.recipe.layer_entries
        for at in range(0, len(blocks), most):
            some = blocks[at : at + most]
            leaf = struct.pack("<QII", some[0], len(some), 0)
            leaf += b"".join(struct.pack("<Q", n) for n in some)
            leaf += b"".join(digests[n] for n in some)
            leaves.append((some[0], self.record(LAYER_LEAF, leaf, name="layer leaf")))
        return self.tree(leaves)

    def depth(self, device: int) -> int:
        """Of the layers of a device."""
        parent = self.recipe.parent
        if not self.is_layer(self.roots[device][2]):
            return 0
        assert isinstance(parent, Writer)
        return parent.depth(device) + 1
