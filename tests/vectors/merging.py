"""Merged images: docs/format.md, section 9.5."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain as joined

from tests.vectors.primitives import DATA, FRAME, NONE
from tests.vectors.stream import Entry, Recipe, Stream
from tests.vectors.writer import Writer


class Merger(Stream):
    """One image that stands for a run of images, oldest first; ``recipe`` has seed, file, changes.

    Args:
        stopped_after: the merge is interrupted after so many records of the others.
    """

    def __init__(self, recipe: Recipe, run: list[Writer], stopped_after: int | None = None) -> None:
        first, self.run, self.stopped_after = run[0], run, stopped_after
        last = run[-1]
        recipe.devices, recipe.suite = last.recipe.devices, last.recipe.suite
        recipe.password, recipe.zstd = last.recipe.password, last.recipe.zstd
        recipe.digests, recipe.layers = last.recipe.digests, last.recipe.layers
        recipe.parent, recipe.kind = first.recipe.parent, first.recipe.kind
        super().__init__(recipe)
        self.chain_id, self.chain_key = first.chain_id, first.chain_key
        self.sequence, self.rows, self.roots = last.sequence, last.rows, last.roots
        self.digests, self.last = last.digests, last

    def features(self) -> tuple[int, int]:
        """All that the images have."""
        incompatible, compatible = super().features()
        return incompatible | 4, compatible | (self.stopped_after is not None) << 1

    def write(self) -> bytes:
        """The whole stream."""
        self.header()
        described = self.describe() if self.stopped_after is None else NONE
        for place, (ref, record) in enumerate(self.copied()):
            if place == self.stopped_after:
                self.go_on()
                described = self.describe()
            self.append(ref[:16], int.from_bytes(ref[16:24], "little"), record)
            self.own[ref] = record
        own = [self.entry_of(run, 0, NONE) for run in reversed(self.runs)][:1]
        self.finish(described, own + self.entries(), [each.seal_ref for each in self.run])
        self.known = {each.origin: each for each in self.last.known.values()}
        return bytes(self.stream)

    def entries(self) -> list[Entry]:
        """Those of the last image."""
        last = self.last
        return [*(last.known[run] for run in reversed(last.runs)), *last.behind_roots()]

    def copied(self) -> list[tuple[bytes, bytes]]:
        """References and records, in the order in which they were written."""
        kept = self.reachable()
        found = [
            (ref, record) for each in self.run for ref, record in each.own.items() if ref in kept
        ]
        return self.recipe.copied(found)

    def reachable(self) -> set[bytes]:
        """All that section 9.5 says."""
        below: dict[bytes, list[bytes]] = {}
        for each in self.run:
            below |= each.below
        roots = [ref for _, *refs in self.last.roots for ref in refs]
        roots += [entry.table_root for entry in self.last.known.values()]
        roots += list(joined.from_iterable([each.seal_ref, *each.seal_parts] for each in self.run))
        found: set[bytes] = set()
        while roots:
            ref = roots.pop()
            if any(ref) and ref not in found:
                found.add(ref)
                roots += below.get(ref, [])
        return found | set(self.named_frames())

    def named_frames(self) -> Iterable[bytes]:
        """Frames that the last image's map names."""
        size = (1 << self.last.recipe.frame_shift) // 512
        frames = {origin: refs for each in self.run for origin, refs in each.frames.items()}
        for length, position, kind, origin in joined.from_iterable(self.rows):
            if kind == DATA and origin in frames:
                for number in range(position // size, (position + length - 1) // size + 1):
                    yield frames[origin][number]


def without_frames(found: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """A merge that leaves out the first frame, which the map names."""
    first = next(ref for ref, record in found if record[4] == FRAME)
    return [each for each in found if each[0] != first]
