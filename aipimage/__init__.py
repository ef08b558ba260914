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

from typing import TYPE_CHECKING, Any

from aipimage.version import __version__

if TYPE_CHECKING:
    from aipimage.converting.request import ConvertOptions, ConvertResult
    from aipimage.surface import (
        AipImageError,
        BlockSource,
        CancelledError,
        Chain,
        ChainMember,
        ChangedBitmap,
        ChangedLike,
        Changes,
        ClosedError,
        CopyResult,
        CreateOptions,
        CreateResult,
        Damage,
        Device,
        DeviceChanges,
        DeviceFile,
        DiskInfo,
        Extent,
        FileObjects,
        FormatError,
        FunctionOpener,
        Image,
        IncompleteError,
        IntegrityError,
        Kind,
        LimitError,
        MemberResult,
        MergeResult,
        MissingExtraError,
        Opener,
        OptionError,
        OptionTypeError,
        PartitionChange,
        PasswordError,
        Progress,
        ProgressCallback,
        RandomAccess,
        RepairResult,
        RequestError,
        RestoreOptions,
        RestoreResult,
        SlotInfo,
        SourceError,
        SourceLike,
        StorageError,
        StrPath,
        TargetError,
        UnreadableRangeError,
        UnsupportedError,
        VerifyResult,
        VolumeInfo,
        add_password,
        add_recovery_key,
        chains,
        change_password,
        convert,
        create,
        find_chain,
        join,
        list_slots,
        merge,
        open,
        remove_password,
        repair,
        split,
        survey,
        verify_keyless,
    )

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

_PACKAGES = (
    "_core", "checks", "cli", "errors", "extents", "format", "io", "retention", "surface",
    "testing", "tracking", "version", "vmdk", "volumes",
)  # fmt: skip
"""Modules of the package: asking for one loads it alone, because others may be loading."""


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Load a public name when it is first asked for: a command that only says its version needs
        neither numpy nor a cipher.
        """
        import importlib

        if name in _PACKAGES:
            return importlib.import_module(f"aipimage.{name}")
        # What is not public may be a module of the package that is about to be imported: `from
        # aipimage import checks` asks here first, and must not load everything that needs it.
        if name not in __all__:
            raise AttributeError(f"module 'aipimage' has no attribute {name!r}")
        if name in ("ConvertOptions", "ConvertResult"):
            value = getattr(importlib.import_module("aipimage.converting.request"), name)
        else:
            try:
                value = getattr(importlib.import_module("aipimage.surface"), name)
            except AttributeError:
                raise AttributeError(f"module 'aipimage' has no attribute {name!r}") from None
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
