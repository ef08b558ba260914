"""A volume as it will be with some bytes changed: looked at before anything is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from aipimage.io.blocks.sources import BlockSource
from aipimage.volumes.filesystems.registry import probe_volume
from aipimage.volumes.model import SurveyOptions, Volume
from aipimage.volumes.patches import Patch
from aipimage.volumes.view import LayoutError, VolumeView

if TYPE_CHECKING:
    from typing_extensions import Buffer


class PatchedSource:
    """The first ``size`` bytes of a volume with patches over them; see
    :class:`aipimage.io.blocks.sources.BlockSource`.
    """

    def __init__(
        self, source: BlockSource, volume: Volume, size: int, patches: Sequence[Patch]
    ) -> None:
        self._source, self._start, self._patches = source, volume.start, patches
        self.size, self.sector_size = min(size, volume.size), source.sector_size
        self.name = source.name

    def read_into(self, buffer: Buffer, offset: int) -> None:
        """See ``BlockSource.read_into``."""
        view = memoryview(buffer).cast("B")
        self._source.read_into(view, self._start + offset)
        for at, data in self._patches:
            low, high = max(at, offset), min(at + len(data), offset + len(view))
            if low < high:
                view[low - offset : high - offset] = data[low - at : high - at]

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """See ``BlockSource.data_ranges``: where patches lie there is data in any case."""
        for at, length in self._source.data_ranges(
            self._start + start, self._start + min(end, self.size)
        ):
            yield at - self._start, length

    def fingerprint(self) -> dict[str, int | str]:
        """That of the source below."""
        return self._source.fingerprint()

    def close(self) -> None:
        """Do nothing: the source is the caller's."""


def verify_patched(
    source: BlockSource, volume: Volume, size: int, patches: Sequence[Patch]
) -> None:
    """Check that a volume whose header is changed is still one of its kind, whose map is trusted.

    Raises:
        LayoutError: it is not.
    """
    patched = PatchedSource(source, volume, size, patches)
    found, _, why = probe_volume(VolumeView(patched, 0, patched.size, 0), SurveyOptions())
    if volume.filesystem is None or found is None or found.kind != volume.filesystem.kind:
        raise LayoutError("it would no longer be what it is")
    if why is not None:
        raise LayoutError(f"it would not be whole: {why}")
