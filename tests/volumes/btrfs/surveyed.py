"""What the parser finds in a volume built by hand."""

from __future__ import annotations

from collections.abc import Callable

from aipimage.volumes.filesystems.btrfs import PARSER
from aipimage.volumes.model import Allocation, SurveyOptions
from aipimage.volumes.view import VolumeView
from tests.volumes.btrfs.built import Chunk, Pieces, Volume


def survey(source: Pieces, budget: int = 1 << 20) -> Allocation:
    """The allocation map."""
    view = VolumeView(source, 0, source.size, budget)
    found = PARSER.probe(view)
    assert found is not None
    assert PARSER.allocation is not None
    return PARSER.allocation(view, found, SurveyOptions())


Change = Callable[[Volume], None]


def chunk(name: str, **values: object) -> Change:
    """Change a chunk's item in the chunk tree only."""

    def change(volume: Volume) -> None:
        items = volume.nodes["chunk"].items
        at = next(
            i for i, (key, _) in enumerate(items) if key[1:] == (228, volume.chunks[name].start)
        )
        changed = Chunk(**{**vars(volume.chunks[name]), **values})
        items[at] = ((256, 228, changed.start), changed.item())

    return change
