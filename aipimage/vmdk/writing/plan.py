"""What a virtual disk will consist of: extents, their files, and the descriptor; pure functions.

Source: VMware "Virtual Disk Format 5.0" technical note, sections "The Descriptor File" and "Hosted
Sparse Extents"; what it leaves open is as importers want it.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

from aipimage.errors import RequestError
from aipimage.io.system import entropy
from aipimage.vmdk.descriptor import EXTENTS_MAX, NO_PARENT, Descriptor, ExtentLine
from aipimage.vmdk.feed import GRAIN_BYTES
from aipimage.vmdk.geometry import geometry_of
from aipimage.vmdk.layout import SECTOR
from aipimage.vmdk.model import ADAPTERS, SUBFORMATS

DEFAULT_HARDWARE = 11
"""``ddb.virtualHWVersion``: that of ESXi 6.0 and Workstation 11, which all later ones take."""
_HARDWARE = range(3, 100)
SPLIT_SECTORS = 4_192_256
"""Sectors of an extent of a ``twoGbMaxExtent`` disk, 2047 MiB (the note, "The Extents")."""
EXPORT_UNIT = 1 << 20
TOOLS_VERSION = "2147483647"
_SPARSE = ("monolithicSparse", "twoGbMaxExtentSparse", "streamOptimized")
_SPLIT = ("twoGbMaxExtentSparse", "twoGbMaxExtentFlat")
SPARSE_MAX = 1 << 50
"""Bytes of a sparse disk at most, 1 PiB: what qemu opens, too."""


@dataclass(frozen=True, slots=True)
class DiskOptions:
    """How a disk is to be written; see :func:`aipimage.vmdk.writing.job.write_vmdk`."""

    subformat: str = "monolithicSparse"
    adapter: str = "lsilogic"
    hardware: int = DEFAULT_HARDWARE
    cid: int | None = None
    split: int | None = None
    level: str = "fast"


@dataclass(frozen=True, slots=True)
class Identity:
    """``CID``, and ``ddb.longContentID`` as hexadecimal digits, the last eight of which are the
    CID.
    """

    cid: int
    content_id: str


@dataclass(frozen=True, slots=True)
class ExtentPlan:
    """An extent: its line in the descriptor, and the first grain of the disk that it holds."""

    line: ExtentLine
    first: int

    @property
    def sectors(self) -> int:
        """Its size."""
        return self.line.sectors


@dataclass(frozen=True, slots=True)
class DiskPlan:
    """A disk that will be written.

    Attributes:
        name: file name of the disk. subformat: ``createType``. capacity: bytes of the disk.
        extents: in order. descriptor: the whole of it. identity: its content's.
        warnings: what was done to the source's size.
    """

    name: str
    subformat: str
    capacity: int
    extents: tuple[ExtentPlan, ...]
    descriptor: Descriptor
    identity: Identity
    warnings: tuple[str, ...]

    @property
    def is_monolithic(self) -> bool:
        """Whether the descriptor lies in the one file of the disk."""
        return self.subformat in ("monolithicSparse", "streamOptimized")

    @property
    def is_sparse(self) -> bool:
        """Whether extents have grain tables."""
        return self.subformat in _SPARSE


def new_identity(cid: int | None) -> Identity:
    """Return the identity of a CID, always the same, or a new one.

    Raises:
        RequestError: the CID cannot be that of a disk.
    """
    if cid is not None:
        if not 0 <= cid < NO_PARENT - 1:
            raise RequestError(f"a CID of {cid:#x} is not possible; use one from 0 to 0xfffffffd")
        rest = hashlib.sha256(b"aipimage CID %08x" % cid).digest()[:12]
        return Identity(cid, f"{rest.hex()}{cid:08x}")
    cid = NO_PARENT
    # "ffffffff" means no parent, and "fffffffe" that nothing was written yet.
    while cid >= NO_PARENT - 1:
        cid = int.from_bytes(entropy.random_bytes(4), "big")
    return Identity(cid, f"{entropy.random_bytes(12).hex()}{cid:08x}")


def plan_disk(
    name: str, source: str, size: int, sector_size: int, options: DiskOptions, identity: Identity
) -> DiskPlan:
    """Return what a disk of ``size`` bytes will consist of.

    Args:
        name: file name of the disk. source: for messages. sector_size: of the source, bytes.

    Raises:
        RequestError: it is not possible as asked.
    """
    check_options(options)
    _check_name(name)
    _check_source(source, size, sector_size)
    capacity, warnings = _capacity(source, size, options.subformat)
    extents = _extents(name, capacity, options)
    ddb = _disk_database(capacity // SECTOR, options, identity)
    lines = tuple(extent.line for extent in extents)
    descriptor = Descriptor(identity.cid, options.subformat, lines, ddb=ddb)
    return DiskPlan(name, options.subformat, capacity, extents, descriptor, identity, warnings)


def check_options(options: DiskOptions) -> None:
    """Refuse options that no disk can have; ``RequestError``."""
    if options.subformat not in SUBFORMATS:
        raise RequestError(
            f"unknown sub-format {options.subformat!r}: use one of {', '.join(SUBFORMATS)}"
        )
    if options.adapter not in ADAPTERS:
        raise RequestError(
            f"unknown adapter {options.adapter!r}: use one of {', '.join(ADAPTERS)}; other "
            "controllers are chosen in the virtual machine's settings"
        )
    if options.hardware not in _HARDWARE:
        raise RequestError(
            f"hardware version {options.hardware} is not possible; use 3 to {_HARDWARE[-1]}"
        )
    if options.split is None:
        return
    if options.subformat not in _SPLIT:
        raise RequestError(
            f"a {options.subformat} disk cannot be split; use twoGbMaxExtentSparse or "
            "twoGbMaxExtentFlat"
        )
    if options.split < 1 or options.split % GRAIN_BYTES:
        raise RequestError(
            f"extents of {options.split} bytes are not possible; use a multiple of {GRAIN_BYTES}"
        )


def _check_name(name: str) -> None:
    """A descriptor has no way to write a quote or a line end in a name."""
    if not name.isprintable() or '"' in name:
        raise RequestError(
            f"{name!r}: a descriptor cannot name such a file; use a name without quotes and "
            "control characters"
        )


def _check_source(source: str, size: int, sector_size: int) -> None:
    if size <= 0 or size % SECTOR:
        raise RequestError(
            f"{source}: has {size} bytes; a virtual disk consists of whole sectors of {SECTOR} "
            "bytes"
        )
    if sector_size != SECTOR:
        raise RequestError(
            f"{source}: a disk with sectors of {sector_size} bytes; its partitions would not be "
            "found on a virtual disk, whose sectors have 512 bytes: restore it to a disk of its "
            "own kind, or image its volumes one by one"
        )


def _capacity(source: str, size: int, subformat: str) -> tuple[int, tuple[str, ...]]:
    """Capacity in bytes, and what there is to say: the note wants whole grains of sparse disks, and
    some importers hang at less than a MiB. Flat disks are as large as the source.
    """
    if subformat not in _SPARSE:
        return size, ()
    unit = EXPORT_UNIT if subformat == "streamOptimized" else GRAIN_BYTES
    capacity = -(-size // unit) * unit
    if capacity > SPARSE_MAX:
        raise RequestError(
            f"{source}: has {size} bytes; a {subformat} disk has at most {SPARSE_MAX}: use a flat "
            "one"
        )
    if capacity == size:
        return size, ()
    return capacity, (
        f"the disk is {capacity - size} bytes larger than its source, filled with zeros, because "
        f"a {subformat} disk must be a multiple of {unit} bytes",
    )


def _extents(name: str, capacity: int, options: DiskOptions) -> tuple[ExtentPlan, ...]:
    stem = name[:-5] if name.lower().endswith(".vmdk") else name
    sectors = capacity // SECTOR
    if options.subformat in ("monolithicSparse", "streamOptimized"):
        return (ExtentPlan(ExtentLine("RW", sectors, "SPARSE", name), 0),)
    if options.subformat in ("monolithicFlat", "vmfs"):
        kind, offset = ("FLAT", 0) if options.subformat == "monolithicFlat" else ("VMFS", None)
        return (ExtentPlan(ExtentLine("RW", sectors, kind, f"{stem}-flat.vmdk", offset), 0),)
    part = SPLIT_SECTORS if options.split is None else options.split // SECTOR
    count = -(-sectors // part)
    if count > EXTENTS_MAX:
        raise RequestError(
            f"{name}: would have {count} extents, over the limit of {EXTENTS_MAX}; split it into "
            "larger ones"
        )
    kind, letter, offset = (
        ("FLAT", "f", 0) if options.subformat == "twoGbMaxExtentFlat" else ("SPARSE", "s", None)
    )
    return tuple(
        ExtentPlan(
            ExtentLine(
                "RW",
                min(part, sectors - at * part),
                kind,
                f"{stem}-{letter}{at + 1:03d}.vmdk",
                offset,
            ),
            at * part * SECTOR // GRAIN_BYTES,
        )
        for at in range(count)
    )


def _disk_database(sectors: int, options: DiskOptions, identity: Identity) -> dict[str, str]:
    geometry = geometry_of(sectors, options.adapter)
    return {
        "virtualHWVersion": str(options.hardware),
        "geometry.cylinders": str(geometry.cylinders),
        "geometry.heads": str(geometry.heads),
        "geometry.sectors": str(geometry.sectors),
        "adapterType": options.adapter,
        "longContentID": identity.content_id,
        "toolsVersion": TOOLS_VERSION,
    }


def base_name(path: str) -> str:
    """The file name of a path; ``RequestError`` where it has none."""
    name = os.path.basename(path)
    if not name:
        raise RequestError(f"{path}: is a directory; pass a file name")
    return name
