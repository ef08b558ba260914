"""Which errors say that stored bytes are damaged, and which say something else."""

from __future__ import annotations

from aipimage.errors import AipImageError, CancelledError, ClosedError, StorageError
from aipimage.io.system.storage import MEDIUM_ERRORS


def damage_text(error: AipImageError) -> str:
    """Return the text of an error that reports stored bytes as damaged.

    Every other error is raised again: the image was closed, the user cancelled, or the system
    could not read. Where the medium itself cannot deliver the bytes, they count as damaged.
    """
    if isinstance(error, (ClosedError, CancelledError)):
        raise error
    if isinstance(error, StorageError) and error.errno not in MEDIUM_ERRORS:
        raise error
    return str(error)
