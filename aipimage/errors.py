"""Every error that bad input, a bad environment or a wrong request can cause.

::

    AipImageError
    ├── RequestError              what was asked for cannot be done as asked
    │   ├── PasswordError         none, one too many, or not the right one (or tampered with)
    │   ├── TargetError           a target is mounted, too small, not empty or already there
    │   ├── ClosedError           an image, a disk or a file was closed; a ValueError too
    │   ├── OptionError           an argument makes no sense; a ValueError too
    │   └── OptionTypeError       an argument has a wrong type; a TypeError too
    ├── FormatError               the bytes are not a valid image
    │   ├── UnsupportedError      a newer version or a feature this release does not know
    │   ├── LimitError            a number is over a limit of docs/format.md, section 15
    │   └── IncompleteError       cut short, still being written, or a part is missing
    ├── IntegrityError            stored bytes differ from what was sealed
    ├── SourceError               a source cannot be read, or changed its size meanwhile
    ├── StorageError              the file system or the device failed; ``errno`` says how
    ├── CancelledError            the progress callback asked to stop
    └── MissingExtraError         an optional package is not installed; the message names it

Every message names the file, the thing and what to do. A broken invariant of this library is never
one of these: it is a ``RuntimeError`` that begins with "internal error".
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TypeVar

_Error = TypeVar("_Error", bound="AipImageError")


class AipImageError(Exception):
    """Root of all errors that this library raises on purpose."""


class RequestError(AipImageError):
    """What was asked for cannot be done as asked; nothing was written."""


class OptionError(RequestError, ValueError):
    """An argument has a value that makes no sense; the message names it and what is accepted."""


class OptionTypeError(RequestError, TypeError):
    """An argument has a wrong type; the message names it and what is accepted."""


class PasswordError(RequestError):
    """The password is missing, not wanted, or wrong.

    A wrong password and a tampered key slot look alike on purpose (docs/format.md, section 4.3).

    Attributes:
        reason: ``"missing"``, ``"unwanted"`` (the image is not protected), ``"wrong"``, or
            ``"unusable"``: it cannot be a password, because it is empty, for instance.
    """

    def __init__(self, message: str, reason: str = "wrong") -> None:
        super().__init__(message)
        self.reason = reason


class TargetError(RequestError):
    """The target is mounted, too small, not empty, or already there."""


class ClosedError(RequestError, ValueError):
    """An image, a disk or a file was used after it was closed.

    It is a ``ValueError`` too, as for every file of :mod:`io`.
    """


class FormatError(AipImageError):
    """The bytes are not a valid image."""


class UnsupportedError(FormatError):
    """The image needs a version or a feature that this release does not know."""


class LimitError(FormatError):
    """A number in the file is over a limit of docs/format.md, section 15."""


class IncompleteError(FormatError):
    """The image is cut short, still being written, or one of its parts is missing."""


class IntegrityError(AipImageError):
    """Stored bytes differ from what was sealed: damage or tampering.

    Attributes:
        path: of the image that was read, ``None`` where no device was read.
        device: its number. offset, length: the bytes of the device that cannot be read because
            of it, as far as the read met them; ``None`` likewise.
    """

    path: str | None = None
    device: int | None = None
    offset: int | None = None
    length: int | None = None


class SourceError(AipImageError):
    """A source cannot be read, or it changed its size while it was read.

    Attributes:
        errno: the system's error number, or ``None`` where there is none.
    """

    def __init__(self, message: str, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno


class StorageError(AipImageError):
    """The file system or the device failed.

    Attributes:
        errno: the system's error number, or ``None`` where there is none (a short write).
    """

    def __init__(self, message: str, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno

    @classmethod
    def from_os_error(cls, action: str, path: str, error: OSError) -> StorageError:
        """Build the one-line error for a failed system call."""
        reason = error.strerror or (os.strerror(error.errno) if error.errno else str(error))
        return cls(f"{path}: cannot {action}: {reason}", error.errno)


class CancelledError(AipImageError):
    """The progress callback asked to stop; nothing half-valid was left."""


class MissingExtraError(AipImageError):
    """An optional package is not installed; the message names the extra to install."""


def reworded(error: _Error, message: str) -> _Error:
    """A copy of an error with another message; its ``errno`` is kept."""
    new = copy.copy(error)
    new.args = (message, *error.args[1:])
    return new


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Put the name of a file in front of the message of every error that does not name it yet.

    The error stays the same object: its type, its ``errno`` and where it was raised are kept.
    """
    try:
        yield
    except AipImageError as error:
        name = os.fspath(path)
        if not _names(str(error), name):
            error.args = (f"{name}: {error}", *error.args[1:])
        raise


def naming_if(path: str) -> Callable[[], AbstractContextManager[None]]:
    """:func:`naming` with a file for every use, or nothing where ``path`` is empty."""
    return partial(naming, path) if path else nullcontext


def _names(message: str, name: str) -> bool:
    """Whether a message names a file, one of its parts, or what it is called while it is written.

    A name may be as short as a word of the message, so that its surroundings are looked at.
    """
    pattern = rf"(?:^|\s){re.escape(name)}(?:\.\d{{3,5}}|\.partial)*(?::| and )"
    return re.search(pattern, message) is not None
