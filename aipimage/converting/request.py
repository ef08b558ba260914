"""What is asked for, checked as far as that can be done before anything is opened; and what comes
back.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from aipimage import checks
from aipimage.checks import Size
from aipimage.io.system.progress import ProgressCallback
from aipimage.io.system.storage import Storage, StrPath

_OF_DISKS = ("subformat", "adapter", "hardware", "cid", "split", "level")
_OF_IMAGES = ("compress", "encrypt", "comment", "split", "include_free")
_OF_APPLIANCES = ("name", "os", "firmware", "cpus", "memory", "networks", "nic", "manifest")


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """Keyword arguments of :func:`aipimage.convert` with the same names, meanings and defaults, as
    one value: ``convert(source, target, options=ConvertOptions(subformat="vmfs"))``.

    They are checked when they are used. :func:`dataclasses.replace` makes others of them.
    """

    format: str | None = None
    disk: int | Sequence[int] | None = None
    password: str | None = field(default=None, repr=False)
    search: Sequence[StrPath] | None = None
    source_format: str | None = None
    allow_outside: bool = False
    subformat: str | None = None
    adapter: str | None = None
    hardware: int | None = None
    cid: int | None = None
    split: Size | None = None
    level: str | None = None
    compress: str | None = None
    encrypt: str | None = None
    comment: str = ""
    include_free: bool = False
    appliance: Mapping[str, Any] | None = None
    overwrite: bool = False
    resume: bool = False
    threads: int | None = None


def checked(options: ConvertOptions) -> ConvertOptions:
    """The options with sizes as numbers; each is of its type and within its bounds.

    Raises:
        OptionTypeError, OptionError: one is not; it is named.
    """
    checks.flags(
        allow_outside=options.allow_outside,
        include_free=options.include_free,
        overwrite=options.overwrite,
        resume=options.resume,
    )
    checks.optional_texts(
        format=options.format,
        subformat=options.subformat,
        source_format=options.source_format,
        adapter=options.adapter,
        level=options.level,
        compress=options.compress,
        encrypt=options.encrypt,
    )
    checks.texts(comment=options.comment)
    checks.secrets(password=options.password)
    return replace(
        options,
        threads=checks.threads(options.threads),
        split=checks.optional_size("split", options.split),
        hardware=checks.optional_whole("hardware", options.hardware),
        cid=checks.optional_whole("cid", options.cid, 0, 0xFFFF_FFFF),
        disk=_disks(options.disk),
        search=checks.paths("search", options.search),
        appliance=_appliance(options.appliance) or None,
    )


def _disks(disk: object) -> int | list[int] | None:
    """A number of a disk, several, or ``None``."""
    if disk is None or not isinstance(disk, Sequence) or isinstance(disk, (str, bytes)):
        return checks.optional_whole("disk", disk)
    return [checks.whole(f"disk[{at}]", each) for at, each in enumerate(disk)]


def _appliance(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options of an appliance, each of its type; those that were given."""
    if options is None:
        return {}
    checks.instance("appliance", options, Mapping, "a dictionary of options, or None")
    found = dict(options)
    for name, value in found.items():
        checks.choice("appliance", name, _OF_APPLIANCES)
        if value is None:
            continue
        if name == "cpus":
            found[name] = checks.whole("cpus", value, 1)
        elif name == "memory":
            found[name] = checks.size("memory", value)
        elif name == "networks":
            found[name] = checks.words("networks", value)
        else:
            checks.texts(**{name: value})
    return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Request:
    """A conversion: where to, in which format, and how; ``options`` are checked."""

    target: StrPath | BinaryIO
    format: str
    options: ConvertOptions
    executor: Executor | None
    progress: ProgressCallback | None
    storage: Storage

    @property
    def path(self) -> str | None:
        """The target's path; ``None`` for a stream."""
        return target_path(self.target)

    @property
    def stream(self) -> BinaryIO:
        """The target, where it is a stream."""
        if isinstance(self.target, (str, os.PathLike)):
            raise RuntimeError(f"internal error: {self.target!r} is not a stream")
        return self.target

    @property
    def disk_options(self) -> dict[str, Any]:
        """Arguments of the writers of virtual disks, as far as they were given."""
        return self._given(_OF_DISKS)

    @property
    def image_options(self) -> dict[str, Any]:
        """Arguments of the writers of images, likewise."""
        return self._given(_OF_IMAGES)

    @property
    def workers(self) -> dict[str, Any]:
        """The arguments that everything takes that works in parallel."""
        return {
            "threads": self.options.threads,
            "executor": self.executor,
            "progress": self.progress,
        }

    def _given(self, names: Sequence[str]) -> dict[str, Any]:
        values = {name: getattr(self.options, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}


def target_path(target: StrPath | BinaryIO) -> str | None:
    """The path of a target; ``None`` for a stream."""
    return os.fspath(target) if isinstance(target, (str, os.PathLike)) else None


@dataclass(frozen=True, slots=True)
class ConvertResult:
    """What was made.

    Attributes:
        source: its path. source_format: ``aiv``, ``vmdk`` or ``raw``.
        target: its path, ``None`` where it went into a stream. format: ``vmdk``, ``raw``, ``aiv``,
            ``ova`` or ``ovf``. subformat: ``createType`` of a virtual disk.
        disks: numbers of the disks of the source that were converted.
        size: bytes of the disks as a machine sees them. data: bytes of data that were written,
            before compression; the rest reads as zeros.
        stored: bytes of the target, without holes. files: paths of all files that were made.
        unreadable: bytes that could not be read, now or when the source was imaged; they are zeros.
        cid: content identity of a virtual disk. digest: image digest of an ``.aiv`` target.
        resumed: whether earlier work was continued. seconds: wall time.
        notes: what else was done. warnings: what the user should look at.
    """

    source: str
    source_format: str
    target: str | None
    format: str
    subformat: str | None
    disks: tuple[int, ...]
    size: int
    data: int
    stored: int
    files: tuple[str, ...]
    unreadable: int
    cid: int | None
    digest: str | None
    resumed: bool
    seconds: float
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
