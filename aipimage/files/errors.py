"""What can be wrong with the files of a volume; the errors of reading the source stay as they are.

::

    AipImageError
    ├── RequestError
    │   └── NoFileError           there is no such file, or it is of another kind
    └── FormatError
        ├── UnsupportedError
        │   └── UnreadableFileError   encrypted, or of a kind that is not known here
        └── DamagedVolumeError    a structure of the file system contradicts itself
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aipimage.errors import FormatError, RequestError, UnsupportedError
from aipimage.volumes.view import LayoutError


class NoFileError(RequestError):
    """There is no file of that name or identity, or it is of another kind than was asked for."""


class DamagedVolumeError(FormatError):
    """A structure of the file system is damaged: what it would lead to is not known."""


class UnreadableFileError(UnsupportedError):
    """The content of a file cannot be read here; nothing is wrong with it.

    Attributes:
        cause: ``"encrypted"``, ``"file system"`` (it cannot be read yet), ``"feature"`` or
            ``"special"`` (a device, pipe or socket has no content).
    """

    def __init__(self, message: str, cause: str) -> None:
        super().__init__(message)
        self.cause = cause


@contextmanager
def layout_errors() -> Iterator[None]:
    """Turn what the readers of structures raise into the public error."""
    try:
        yield
    except LayoutError as error:
        raise DamagedVolumeError(f"damaged: {error}") from error
