"""Disk images for backup: create, open, verify, restore.

Ten lines that make an image of a disk and read it back::

    import aipimage

    result = aipimage.create("disk.aiv", ["disk.raw"], compress="zstd:1")
    with aipimage.open("disk.aiv", expected_digest=result.digest) as image:
        assert image.verify().ok
        raw = image.devices[0].open()
        raw.seek(510)
        print(raw.read(2).hex(), [extent.kind.name for extent in image.devices[0].extents()])
        image.restore("copy.raw")

All sizes and offsets are bytes unless a name says sectors; a sector is 512 bytes. No function
prints, reads the environment or configures logging. Errors are :class:`AipImageError`;
:mod:`aipimage.errors` draws their tree.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import BinaryIO

from aipimage.errors import (
    AipImageError,
    CancelledError,
    FormatError,
    IncompleteError,
    IntegrityError,
    LimitError,
    MissingExtraError,
    PasswordError,
    RequestError,
    SourceError,
    StorageError,
    TargetError,
    UnsupportedError,
)
from aipimage.extents import Extent, Kind
from aipimage.io.create import CreateOptions, CreateResult, SourceLike, create_image
from aipimage.io.device import Device, DeviceFile
from aipimage.io.image import DEFAULT_CACHE, Image, open_image
from aipimage.io.keyless import verify_keyless
from aipimage.io.passwords import (
    SlotInfo,
    add_password,
    add_recovery_key,
    change_password,
    list_slots,
    remove_password,
)
from aipimage.io.progress import Progress, ProgressCallback
from aipimage.io.restore import RestoreResult
from aipimage.io.sources import BlockSource
from aipimage.io.splitting import CopyResult
from aipimage.io.splitting import join_image as join
from aipimage.io.splitting import split_image as split
from aipimage.io.verify import Damage, VerifyResult
from aipimage.version import __version__

__all__ = [
    "AipImageError",
    "BlockSource",
    "CancelledError",
    "CopyResult",
    "CreateResult",
    "Damage",
    "Device",
    "DeviceFile",
    "Extent",
    "FormatError",
    "Image",
    "IncompleteError",
    "IntegrityError",
    "Kind",
    "LimitError",
    "MissingExtraError",
    "PasswordError",
    "Progress",
    "ProgressCallback",
    "RequestError",
    "RestoreResult",
    "SlotInfo",
    "SourceError",
    "StorageError",
    "TargetError",
    "UnsupportedError",
    "VerifyResult",
    "__version__",
    "add_password",
    "add_recovery_key",
    "change_password",
    "create",
    "join",
    "list_slots",
    "open",
    "remove_password",
    "split",
    "verify_keyless",
]


def create(
    path: str | os.PathLike[str] | BinaryIO,
    sources: Sequence[SourceLike] | SourceLike,
    *,
    compress: str = "zstd",
    encrypt: str | None = None,
    password: str | None = None,
    recovery_key: str | None = None,
    split: int | None = None,
    comment: str = "",
    rate: int | None = None,
    threads: int | None = None,
    block_digests: bool = True,
    stop_on_error: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    checkpoint_bytes: int = 1 << 30,
    checkpoint_seconds: float = 30.0,
    progress: ProgressCallback | None = None,
) -> CreateResult:
    """Create a full image of one or more disks or volumes.

    The image is written as ``path.partial`` and bears its name only once it is whole and durable.

    Args:
        path: of the new image, or a binary file object (a pipe, say) that it is written to in one
            pass.
        sources: paths of files or block devices, seekable binary file objects, or
            :class:`BlockSource` objects.
        compress: ``"none"``, ``"zstd"`` or ``"zstd:LEVEL"``. Frames that do not become smaller are
            stored as they are.
        encrypt: ``"aes-128"``, ``"aes-256"``, ``"authenticate"`` (not encrypted, but tampering is
            found), or ``None``.
        password: needed with ``encrypt``, refused without. recovery_key: a second password, kept
            for emergencies.
        split: bytes of a part at most; the parts are called ``path``, ``path.002``, …
        comment: free text, kept in the metadata.
        rate: bytes a second at most to read from the sources.
        threads: worker threads; as many as there are processors by default.
        block_digests: keep 16 bytes for each 64 KiB of content, so that a later image can be
            compared without this one.
        stop_on_error: fail at the first unreadable sector instead of recording it as unreadable.
        overwrite: replace an existing image, once the new one is whole.
        resume: go on from the last checkpoint of an interrupted creation, when sources and options
            are still the same.
        checkpoint_bytes, checkpoint_seconds: write a checkpoint after so many stored bytes or so
            long, whichever is first.
        progress: called about ten times a second with a :class:`Progress`; returning ``False``
            cancels.

    Raises:
        RequestError, PasswordError, TargetError: the request cannot be carried out; nothing was
            written.
        SourceError: a source cannot be read or shrank. StorageError: the target cannot be written.
        CancelledError: the callback said so.
    """
    options = CreateOptions(
        compress, encrypt, password, recovery_key, split, comment, rate, threads, block_digests,
        stop_on_error, overwrite, resume, checkpoint_bytes, checkpoint_seconds,
    )  # fmt: skip
    several = isinstance(sources, Sequence) and not isinstance(sources, (str, bytes))
    return create_image(path, sources if several else [sources], options, progress)  # type: ignore[list-item, arg-type]


def open(
    path: str | os.PathLike[str],
    password: str | None = None,
    *,
    expected_digest: str | None = None,
    cache_bytes: int = DEFAULT_CACHE,
) -> Image:
    """Open an image, or any part of a split one, for reading. Only its tail and header are read
    now.

    Args:
        password: needed for an encrypted or authenticated image, refused for a plain one.
        expected_digest: the image digest that :func:`create` gave, 64 hexadecimal digits; refuses
            every other image.
        cache_bytes: bound of the cache of decoded frames.

    Raises:
        FormatError: not an image. IncompleteError: cut short, still being written, or a part is
            missing.
        PasswordError: missing, not wanted or wrong. IntegrityError: damaged, or not the image
            expected.
        StorageError: it cannot be read.
    """
    return open_image(path, password, expected_digest=expected_digest, cache_bytes=cache_bytes)
