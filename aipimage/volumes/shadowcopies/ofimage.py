"""The shadow copies of a volume of an image."""

from __future__ import annotations

from typing import BinaryIO, cast

from aipimage.errors import UnsupportedError
from aipimage.io.blocks.sources import open_source
from aipimage.io.reading.device import DeviceFile
from aipimage.volumes.shadowcopies.copies import ShadowCopy, read_shadow_copies
from aipimage.volumes.view import LayoutError, VolumeView


def opened_copies(file: DeviceFile, name: str) -> tuple[ShadowCopy, ...]:
    """Return the shadow copies of a volume, the oldest first.

    Args:
        file: over the volume. name: of it, for messages.

    Raises:
        UnsupportedError: they are not understood.
    """
    source = open_source(cast(BinaryIO, file))
    try:
        found = read_shadow_copies(VolumeView(source, 0, source.size))
    except LayoutError as error:
        raise UnsupportedError(
            f"{name}: its shadow copies cannot be read: {error}; restore it to Windows to use them"
        ) from error
    return found.copies if found else ()
