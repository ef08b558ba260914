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

from aipimage.version import __version__

# Type checkers take it as true. The module `typing` would be the slowest part of this one.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from aipimage.converting.request import ConvertOptions, ConvertResult
    from aipimage.errors import (
        AipImageError,
        CancelledError,
        ClosedError,
        FormatError,
        IncompleteError,
        IntegrityError,
        LimitError,
        MissingExtraError,
        OptionError,
        OptionTypeError,
        PasswordError,
        RequestError,
        SourceError,
        StorageError,
        TargetError,
        UnsupportedError,
    )
    from aipimage.extents import Extent, Kind
    from aipimage.io.blocks.sources import BlockSource, UnreadableRangeError
    from aipimage.io.chain.chain import ChainMember
    from aipimage.io.changes.forms import ChangedBitmap, ChangedLike, Changes
    from aipimage.io.checking.keyless import verify_keyless
    from aipimage.io.checking.results import Damage, MemberResult, VerifyResult
    from aipimage.io.creating.options import SourceLike
    from aipimage.io.creating.results import CreateResult, DeviceChanges
    from aipimage.io.creating.splitting import CopyResult
    from aipimage.io.creating.splitting import join_image as join
    from aipimage.io.creating.splitting import split_image as split
    from aipimage.io.merge.job import MergeResult
    from aipimage.io.reading.device import Device, DeviceFile
    from aipimage.io.reading.results import PartitionChange, RestoreResult
    from aipimage.io.repair import RepairResult
    from aipimage.io.repair import repair_image as repair
    from aipimage.io.stream.passwords import (
        SlotInfo,
        add_password,
        add_recovery_key,
        change_password,
        list_slots,
        remove_password,
    )
    from aipimage.io.system.openers import FileObjects, FunctionOpener, Opener, RandomAccess
    from aipimage.io.system.progress import Progress, ProgressCallback
    from aipimage.io.system.storage import StrPath
    from aipimage.surface import chains, convert, create, find_chain, merge, open, survey
    from aipimage.volumes.chain import Chain
    from aipimage.volumes.described import VolumeInfo
    from aipimage.volumes.diskinfo import DiskInfo
    from aipimage.volumes.image import Image
    from aipimage.volumes.options import CreateOptions
    from aipimage.volumes.restoreoptions import RestoreOptions

__all__ = [
    "AipImageError",
    "BlockSource",
    "CancelledError",
    "Chain",
    "ChainMember",
    "ChangedBitmap",
    "ChangedLike",
    "Changes",
    "ClosedError",
    "ConvertOptions",
    "ConvertResult",
    "CopyResult",
    "CreateOptions",
    "CreateResult",
    "Damage",
    "Device",
    "DeviceChanges",
    "DeviceFile",
    "DiskInfo",
    "Extent",
    "FileObjects",
    "FormatError",
    "FunctionOpener",
    "Image",
    "IncompleteError",
    "IntegrityError",
    "Kind",
    "LimitError",
    "MemberResult",
    "MergeResult",
    "MissingExtraError",
    "Opener",
    "OptionError",
    "OptionTypeError",
    "PartitionChange",
    "PasswordError",
    "Progress",
    "ProgressCallback",
    "RandomAccess",
    "RepairResult",
    "RequestError",
    "RestoreOptions",
    "RestoreResult",
    "SlotInfo",
    "SourceError",
    "SourceLike",
    "StorageError",
    "StrPath",
    "TargetError",
    "UnreadableRangeError",
    "UnsupportedError",
    "VerifyResult",
    "VolumeInfo",
    "__version__",
    "add_password",
    "add_recovery_key",
    "chains",
    "change_password",
    "convert",
    "create",
    "find_chain",
    "join",
    "list_slots",
    "merge",
    "open",
    "remove_password",
    "repair",
    "split",
    "survey",
    "verify_keyless",
]

_HOMES = {
    "AipImageError": "errors",
    "BlockSource": "io.blocks.sources",
    "CancelledError": "errors",
    "Chain": "volumes.chain",
    "ChainMember": "io.chain.chain",
    "ChangedBitmap": "io.changes.forms",
    "ChangedLike": "io.changes.forms",
    "Changes": "io.changes.forms",
    "ClosedError": "errors",
    "ConvertOptions": "converting.request",
    "ConvertResult": "converting.request",
    "CopyResult": "io.creating.splitting",
    "CreateOptions": "volumes.options",
    "CreateResult": "io.creating.results",
    "Damage": "io.checking.results",
    "Device": "io.reading.device",
    "DeviceChanges": "io.creating.results",
    "DeviceFile": "io.reading.device",
    "DiskInfo": "volumes.diskinfo",
    "Extent": "extents",
    "FileObjects": "io.system.openers",
    "FormatError": "errors",
    "FunctionOpener": "io.system.openers",
    "Image": "volumes.image",
    "IncompleteError": "errors",
    "IntegrityError": "errors",
    "Kind": "extents",
    "LimitError": "errors",
    "MemberResult": "io.checking.results",
    "MergeResult": "io.merge.job",
    "MissingExtraError": "errors",
    "Opener": "io.system.openers",
    "OptionError": "errors",
    "OptionTypeError": "errors",
    "PartitionChange": "io.reading.results",
    "PasswordError": "errors",
    "Progress": "io.system.progress",
    "ProgressCallback": "io.system.progress",
    "RandomAccess": "io.system.openers",
    "RepairResult": "io.repair",
    "RequestError": "errors",
    "RestoreOptions": "volumes.restoreoptions",
    "RestoreResult": "io.reading.results",
    "SlotInfo": "io.stream.passwords",
    "SourceError": "errors",
    "SourceLike": "io.creating.options",
    "StorageError": "errors",
    "StrPath": "io.system.storage",
    "TargetError": "errors",
    "UnreadableRangeError": "io.blocks.sources",
    "UnsupportedError": "errors",
    "VerifyResult": "io.checking.results",
    "VolumeInfo": "volumes.described",
    "add_password": "io.stream.passwords",
    "add_recovery_key": "io.stream.passwords",
    "chains": "surface",
    "change_password": "io.stream.passwords",
    "convert": "surface",
    "create": "surface",
    "find_chain": "surface",
    "join": "io.creating.splitting:join_image",
    "list_slots": "io.stream.passwords",
    "merge": "surface",
    "open": "surface",
    "remove_password": "io.stream.passwords",
    "repair": "io.repair:repair_image",
    "split": "io.creating.splitting:split_image",
    "survey": "surface",
    "verify_keyless": "io.checking.keyless",
}
"""The module of each public name, and what it is called there where that is another name."""

_PACKAGES = (
    "_core", "checks", "cli", "errors", "extents", "files", "format", "hints", "io", "retention",
    "surface", "testing", "tracking", "version", "vmdk", "volumes",
)  # fmt: skip
"""Modules of the package: asking for one loads it alone, because others may be loading."""


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Load a public name when it is first asked for, and nothing that others need: a command
        that only says its version needs neither numpy nor a cipher.
        """
        import importlib

        if name in _PACKAGES:
            return importlib.import_module(f"aipimage.{name}")
        # What is not public may be a module of the package that is about to be imported: `from
        # aipimage import checks` asks here first, and must not load everything that needs it.
        if name not in _HOMES:
            raise AttributeError(f"module 'aipimage' has no attribute {name!r}")
        module, _, there = _HOMES[name].partition(":")
        value = getattr(importlib.import_module(f"aipimage.{module}"), there or name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
