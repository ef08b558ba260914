"""What a merge copies: the records that the last image of the run leads to (docs/format.md, section
9.5).

Nothing that members outside of the run hold is looked at: what an older image wrote leads to older
records only. Frames are found by the map and by the tables; no frame is read here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from aipimage.errors import FormatError, IntegrityError, LimitError
from aipimage.extents import ExtentArray, Kind
from aipimage.format import constants as c
from aipimage.format.constants import ImageKind, RecordType
from aipimage.format.gates import verified_limit
from aipimage.format.layers import decode_layer
from aipimage.format.metadata import decode_metadata
from aipimage.format.origins import OriginEntry
from aipimage.format.record import NO_REFERENCE, Reference, record_length
from aipimage.format.seal import Seal
from aipimage.format.tables import FrameEntries, decode_index
from aipimage.io.index.devicemap import DeviceMap, LoadedPage
from aipimage.io.index.digesttree import record_type
from aipimage.io.index.origins import Origins
from aipimage.io.index.trees import FrameTable, LeafCache
from aipimage.io.merge.ranges import U64, CopyRanges, FrameSet, bridge_to
from aipimage.io.merge.run import MergeRun, RunMember

SEGMENTS_AIM = c.SEGMENTS_MAX // 2
"""Segments down to which gaps are bridged. Half of the limit: what lies in different segments of a
member cannot be bridged, so that later merges of the merged image need room.
"""
_OWN_SEGMENTS = 1024
"""Room for own records, and those of interrupted runs."""


@dataclass(slots=True)
class MergePlan:
    """What is copied.

    Attributes:
        ranges: of the stream of each member, in the order of the members.
        replaced: of the new seal, with one line of each for the description.
        bridged: whether records that are not needed are copied, to have fewer segments.
        frames: that are copied. frames_held: that the members hold.
    """

    ranges: list[CopyRanges]
    replaced: list[Reference] = field(default_factory=list)
    merged: list[dict[str, str]] = field(default_factory=list)
    bridged: bool = False
    frames: int = 0
    frames_held: int = 0

    @property
    def length(self) -> int:
        """Bytes that are copied."""
        return sum(ranges.length for ranges in self.ranges)


def make_plan(run: MergeRun, seal: Seal, tick: Callable[[], object]) -> MergePlan:
    """Find all that the new image needs.

    Args:
        seal: of the last member. tick: called now and then, so that the merge can be cancelled.

    Raises:
        FormatError, IntegrityError: a page is damaged, or contradicts another one.
        LimitError: the new image would have too many segments.
    """
    planner = _Planner(run, seal, tick)
    with run.naming():
        planner.keep_seals()
        planner.keep_maps()
        planner.keep_digests()
        planner.keep_frames()
        planner.count_frames()
        return planner.finish()


class _Planner:
    def __init__(self, run: MergeRun, seal: Seal, tick: Callable[[], object]) -> None:
        self._run, self._seal, self._tick = run, seal, tick
        self._records = run.records
        self._ranges = {member.path: CopyRanges(member.segments) for member in run.members}
        self.plan = MergePlan([self._ranges[member.path] for member in run.members])
        self._origins = Origins(seal.origins)
        self._live = _LiveFrames(run, self._origins)

    def _keep(self, ref: Reference) -> bool:
        """Copy a record; whether a member holds it."""
        member = self._run.holder(ref.origin)
        if member is None:
            return False
        start = member.held.locate(ref.origin, ref.offset, ref.record_length)
        self._ranges[member.path].add(start, start + ref.record_length)
        return True

    def _is_held(self, ref: Reference) -> bool:
        """Whether a member holds a record."""
        return self._run.holder(ref.origin) is not None

    # Seals

    def keep_seals(self) -> None:
        """The seals of all images that the new one stands for, with their metadata."""
        for member in self._run.members:
            for ref in (*member.replaced, member.seal):
                seal = self._run.read_seal(ref)
                self._keep(ref)
                for each in (seal.description, seal.result):
                    if self._is_whole(each):
                        self._keep(each)
                self.plan.replaced.append(ref)
                self.plan.merged.append(self._line(seal))
                self._tick()
        # The oldest are of no more use: no child of theirs is outside of the run.
        del self.plan.replaced[: -c.REPLACED_MAX]

    def _is_whole(self, ref: Reference) -> bool:
        """Whether a metadata record can be copied: nothing that a reader needs is in one."""
        with contextlib.suppress(FormatError, IntegrityError):
            self._records.fetch(ref, RecordType.METADATA)
            return True
        return False

    def _line(self, seal: Seal) -> dict[str, str]:
        created = None
        # What an image says of itself is not needed to merge it.
        with contextlib.suppress(FormatError, IntegrityError):
            plain = self._records.fetch(seal.description, RecordType.METADATA).plain
            created = decode_metadata(plain).get("created")
        return {
            "image_id": seal.image_id.hex(),
            "kind": ImageKind(seal.kind).name.lower(),
            "created": created[:64] if isinstance(created, str) else "",
        }

    # Maps

    def keep_maps(self) -> None:
        """All map pages that members hold; what they say of frames is noted."""
        seal, header = self._seal, self._run.last.header
        for index, entry in enumerate(seal.devices):
            if self._keep(entry.map_root):
                pages = DeviceMap(self._records, header, entry, index, self._origins)
                for page in _pages(pages, self._keep):
                    self._live.add(page.extents[page.extents["kind"] == Kind.DATA])
                    self._tick()

    # Trees

    def keep_digests(self) -> None:
        """Layers, index pages and leaves of the block digests (section 8)."""
        for device in self._seal.devices:
            root, above = device.digest_root, c.LAYERS_MAX + 1
            while root != NO_REFERENCE and self._keep(root):
                if record_type(self._records, root) != RecordType.DIGEST_LAYER:
                    self._keep_below(root, RecordType.DIGEST_LEAF)
                    break
                layer = decode_layer(self._records.fetch(root, RecordType.DIGEST_LAYER).plain)
                if layer.depth >= above:
                    raise FormatError("the depths of block digest layers do not descend by one")
                self._keep_tree(layer.tree, RecordType.LAYER_LEAF)
                root, above = layer.base, layer.depth

    def _keep_tree(self, root: Reference, leaf: RecordType) -> None:
        if root != NO_REFERENCE and self._keep(root):
            self._keep_below(root, leaf)

    def _keep_below(self, root: Reference, leaf: RecordType) -> None:
        """Index pages and leaves below a root; leaves are not read."""
        if record_type(self._records, root) == leaf:
            return
        stack: list[tuple[int, int | None, Reference]] = [(c.INDEX_LEVELS + 1, None, root)]
        while stack:
            above, key, ref = stack.pop()
            level, entries = decode_index(self._records.fetch(ref, RecordType.INDEX).plain)
            if level >= above or (key is not None and level != above - 1):
                raise FormatError("the levels of an index do not descend")
            if key is not None and entries[0].key != key:
                raise FormatError("an index page does not begin with the key that leads to it")
            for entry in entries:
                if self._keep(entry.ref) and level > 1:
                    stack.append((level, entry.key, entry.ref))
            self._tick()

    # Frames

    def keep_frames(self) -> None:
        """The frames that are named, and the tables of all origins that pages or the seal have
        entries of: a child takes pages over with their entries.
        """
        leaves = LeafCache()
        for index, origin in enumerate(self._origins.entries()):
            frames = self._live.frames.get(index)
            if frames is not None:
                self._keep_named(_table(self._run, origin, leaves), frames)
            if self._run.kind == ImageKind.FULL and index in self._live.foreign:
                raise FormatError(
                    f"its map leads to origin {origin.origin.hex()}, which no image of the run "
                    "holds, although the first one is full"
                )
            self._keep_tree(origin.table_root, RecordType.TABLE_LEAF)

    def _keep_named(self, table: FrameTable, frames: FrameSet) -> None:
        member = self._run.holder(table.origin)
        assert member is not None
        placed = _Places(member, table.origin)
        ranges = self._ranges[member.path]
        for leaf in range(table.leaf_count()):
            first = leaf * c.LEAF_FRAMES
            rows = frames.rows(first, min(c.LEAF_FRAMES, table.frame_count - first))
            if len(rows):
                entries = table.leaf(leaf)[rows]
                starts, here = placed.locate(entries)
                if not here.all():
                    raise IntegrityError("its map leads to a frame that an earlier merge left out")
                ranges.add_many(starts, starts + entries["record_length"].astype(np.uint64))
                self.plan.frames += len(rows)
                self._tick()

    def count_frames(self) -> None:
        """How many frames the members hold, those that nothing needs among them."""
        leaves = LeafCache()
        for member in self._run.members:
            for origin in self._told_of(member):
                if not member.replaced:
                    self.plan.frames_held += origin.frame_count
                    continue
                placed = _Places(member, origin.origin)
                table = _table(self._run, origin, leaves)
                for leaf in range(table.leaf_count()):
                    self.plan.frames_held += int(placed.locate(table.leaf(leaf))[1].sum())
                    self._tick()

    def _told_of(self, member: RunMember) -> list[OriginEntry]:
        """The origins of which a member holds frames; one that was merged has them in its map.
        Pages outside of the run are older, and name none of them.
        """
        origins = Origins(member.origins)
        if member.replaced:
            seal = self._run.read_seal(member.seal)
            for index, entry in enumerate(seal.devices):
                if self._is_held(entry.map_root):
                    pages = DeviceMap(self._records, member.header, entry, index, origins)
                    for _ in _pages(pages, self._is_held):
                        self._tick()
        held = [each for each in origins.entries() if member.held.holds(each.origin)]
        return [each for each in held if each.frame_count]

    def finish(self) -> MergePlan:
        """Bound the number of segments."""
        plan = self.plan
        plan.bridged = bridge_to(plan.ranges, SEGMENTS_AIM)
        count = sum(len(ranges) for ranges in plan.ranges)
        if count > c.SEGMENTS_MAX - _OWN_SEGMENTS:
            raise LimitError(
                f"the merged image would be in {count} segments, over the limit; merge fewer "
                "images at once"
            )
        return plan


def _pages(pages: DeviceMap, taken: Callable[[Reference], bool]) -> Iterator[LoadedPage]:
    """Yield the root of a map, and of the pages below those that are ``taken``."""
    yield (root := pages.root())
    # A page a level; a list of all that are still to be read would grow with the map.
    stack = [_below(root, taken)]
    while stack:
        found = next(stack[-1], None)
        if found is None:
            stack.pop()
            continue
        yield (page := pages.child(*found))
        stack.append(_below(page, taken))


def _below(
    page: LoadedPage, taken: Callable[[Reference], bool]
) -> Iterator[tuple[LoadedPage, int]]:
    return ((page, row) for row, ref in page.refs.items() if taken(ref))


class _LiveFrames:
    """Which frames the maps name, by the number of their origin.

    Attributes:
        foreign: origins that are named and that no member holds.
    """

    def __init__(self, run: MergeRun, origins: Origins) -> None:
        self._run, self._origins = run, origins
        self._size = np.uint64(run.last.header.frame_sectors)
        self.frames: dict[int, FrameSet] = {}
        self.foreign: set[int] = set()

    def add(self, data: ExtentArray) -> None:
        """Note the extents of one page, all of data."""
        for index in np.unique(data["origin"]).tolist():
            rows = data[data["origin"] == index]
            first = (rows["position"] // self._size).astype(np.int64)
            last = ((rows["position"] + rows["length"] - np.uint64(1)) // self._size).astype(
                np.int64
            )
            entry = self._origins.entry(index)
            if self._run.holder(entry.origin) is None:
                self.foreign.add(index)
                continue
            if last.max() >= entry.frame_count:
                raise FormatError("the map points past the last frame")
            if index not in self.frames:
                self.frames[index] = FrameSet(self._verified_frames(entry))
            self.frames[index].add(first, last)

    def _verified_frames(self, entry: OriginEntry) -> int:
        """A table names at most 1024 frames with each of its records, which some file has."""
        member = self._run.holder(entry.table_root.origin) or self._run.holder(entry.origin)
        assert member is not None
        most = c.LEAF_FRAMES * (member.stream.size // record_length(1))
        return verified_limit(entry.frame_count, most, "number of frames of an origin")


class _Places:
    """Where the frames of an origin lie in the stream of the member that holds them."""

    def __init__(self, member: RunMember, origin: bytes) -> None:
        mine = sorted(each for each in member.segments if each.origin == origin)
        self._from = np.array([each.origin_start for each in mine], np.uint64)
        self._length = np.array([each.length for each in mine], np.uint64)
        self._to = np.array([each.stream_start for each in mine], np.uint64)

    def locate(self, entries: FrameEntries) -> tuple[U64, npt.NDArray[np.bool_]]:
        """Return the stream offset of each frame, and whether the member has it at all."""
        offset = entries["offset"].astype(np.uint64)
        index = np.searchsorted(self._from, offset, "right").astype(np.int64) - 1
        inside = offset - self._from[index]
        here = (index >= 0) & (inside + entries["record_length"] <= self._length[index])
        return self._to[index] + inside, here


def _table(run: MergeRun, origin: OriginEntry, leaves: LeafCache) -> FrameTable:
    size = run.last.header.frame_size
    return FrameTable(
        run.records, origin.origin, origin.table_root, origin.frame_count, size, leaves
    )
