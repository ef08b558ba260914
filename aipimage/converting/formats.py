"""What a file is: an ``.aiv`` image, a virtual disk, an appliance, or plain bytes.

The name alone says how a source is read. Content is never asked: a disk could hold the first bytes
of any format, and would then be read as that (hostile-inputs class 37). Only a check, which writes
nothing, may go by content (``kind_of``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from aipimage.errors import AipImageError, RequestError
from aipimage.io.blocks.marks import is_file_or_device, looks_like_image, named_like_image
from aipimage.io.system.storage import DEFAULT, Storage, StrPath

SOURCE_FORMATS = ("aiv", "vmdk", "ova", "ovf", "raw")
TARGET_FORMATS = ("vmdk", "raw", "aiv", "ova", "ovf")
_SUFFIXES = {
    ".vmdk": "vmdk",
    ".raw": "raw",
    ".img": "raw",
    ".aiv": "aiv",
    ".aii": "aiv",
    ".ova": "ova",
    ".ovf": "ovf",
}
_BYTES = re.compile(r"-(flat|f\d{3}|rdmp?|ctk)\.vmdk$", re.IGNORECASE)
_PIECE = re.compile(r"-(s\d{3}|delta|sesparse)\.vmdk$", re.IGNORECASE)
_APPLIANCES = (".ova", ".ovf")
_VIRTUAL = (".vmdk", *_APPLIANCES)
_DISKS = {"vmdk", "ova", "ovf"}
_FOR: Mapping[str, set[str]] = {
    "subformat": {"vmdk"},
    "adapter": _DISKS,
    "hardware": _DISKS,
    "cid": {"vmdk"},
    "split": {"vmdk", "aiv"},
    "level": _DISKS,
    "compress": {"aiv"},
    "encrypt": {"aiv"},
    "comment": {"aiv"},
    "include_free": {"aiv"},
    "appliance": {"ova", "ovf"},
    "resume": {"vmdk", "raw", "aiv"},
}


def format_of_target(target: StrPath | None, given: str | None, storage: Storage) -> str:
    """Return the format that a target is to have: the one given, or what its name ends in.

    Args:
        target: ``None`` for a stream.

    Raises:
        RequestError: neither says it, or there is no such format.
    """
    if given is not None:
        if given not in TARGET_FORMATS:
            raise RequestError(f"unknown format {given!r}: use one of {', '.join(TARGET_FORMATS)}")
        return given
    if target is None:
        raise RequestError("a stream has no name that shows the format; pass it (format=)")
    name = os.fspath(target)
    found = _SUFFIXES.get(os.path.splitext(name)[1].lower())
    if found is not None:
        return found
    if storage.exists(name) and storage.stat(name).is_block_device:
        return "raw"
    raise RequestError(
        f"{name}: its name does not show the format; pass it (format=), or end the name with "
        f"{', '.join(_SUFFIXES)}"
    )


def format_of_source(path: StrPath, given: str | None) -> str:
    """Return how a source is read: as given, or as its name ends; everything else is raw.

    Raises:
        RequestError: the name is that of an extent or a descriptor, which is not a disk; or there
            is no such format.
    """
    if given is not None:
        if given not in SOURCE_FORMATS:
            raise RequestError(
                f"unknown source format {given!r}: use one of {', '.join(SOURCE_FORMATS)}"
            )
        return given
    name = os.path.basename(os.fspath(path))
    if named_like_image(name):
        return "aiv"
    if holds_bytes(name):
        raise extent_error(path)
    suffix = os.path.splitext(name)[1].lower()
    return suffix[1:] if suffix in _VIRTUAL else "raw"


def kind_of(path: StrPath, *, by_content: bool = False, storage: Storage = DEFAULT) -> str | None:
    """Return what ``info`` and ``verify`` take a file for: ``vmdk``, ``ova``, ``ovf``, ``aiv``, or
    ``raw`` for everything else.

    Args:
        by_content: what begins like a virtual disk is one, whatever its name; and the mark of an
            image counts more than the name of a virtual disk.

    Returns:
        ``None`` where there is neither a regular file nor a block device.
    """
    if not is_file_or_device(path, storage):
        return None
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    if suffix in _APPLIANCES:
        return suffix[1:]
    is_disk = suffix == ".vmdk" and not holds_bytes(path)
    if is_disk and not by_content:
        return "vmdk"
    if looks_like_image(path, storage):
        return "aiv"
    return "vmdk" if is_disk or (by_content and _begins_like_disk(path, storage)) else "raw"


def _begins_like_disk(path: StrPath, storage: Storage) -> bool:
    # Most files are known by their names, and need not wait for the readers of virtual disks.
    from aipimage.vmdk.descriptortext import HEAD
    from aipimage.vmdk.opening import begins_like_vmdk

    try:
        with storage.open_read(path) as file:
            return begins_like_vmdk(file.pread(HEAD, 0))
    except AipImageError:
        return False


def holds_bytes(path: StrPath) -> bool:
    """Whether a name is one of extents that hold a disk's bytes as they are. They could begin like
    a descriptor, so they are never opened as a virtual disk.
    """
    return _BYTES.search(os.fspath(path)) is not None


def may_be_virtual(path: StrPath) -> bool:
    """Whether a name ends as those of virtual disks, of their extents and of appliances do."""
    return os.fspath(path).lower().endswith(_VIRTUAL)


def is_piece(path: StrPath) -> bool:
    """Whether a name is one that extents of a virtual disk mostly have; it may be a disk's own."""
    return _PIECE.search(os.fspath(path)) is not None


def extent_error(path: StrPath) -> RequestError:
    """The error for a file that is only an extent of a virtual disk."""
    return RequestError(
        f"{os.fspath(path)}: is an extent of a virtual disk; use the .vmdk file with the "
        "descriptor instead, or take its bytes as they are (source_format='raw')"
    )


def check_options(format: str, options: object) -> None:
    """Refuse options that the target's format does not have, rather than ignore them.

    Args:
        options: has them as attributes; those that are ``None``, empty or false were not given.
    """
    for name, having in _FOR.items():
        value = getattr(options, name)
        if value is None or value is False or value == "" or format in having:
            continue
        option = name.replace("_", "-")
        formats = " or ".join(sorted(having))
        raise RequestError(f"{option} belongs to a target of format {formats}, not {format}")
