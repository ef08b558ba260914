"""Opening a virtual disk: a descriptor with its extents, or a single file that holds both; and
what a delta stands on, as ``parents`` finds it.
"""

from __future__ import annotations

from collections.abc import Sequence

from aipimage import checks
from aipimage.errors import FormatError, IncompleteError, LimitError
from aipimage.io.system.storage import DEFAULT, File, Storage, StrPath, chosen
from aipimage.vmdk.assembling import open_extents
from aipimage.vmdk.descriptor import NO_PARENT, TEXT_MAX, Descriptor, ExtentLine, parse_descriptor
from aipimage.vmdk.descriptortext import HEAD, looks_like_descriptor
from aipimage.vmdk.extents.cowd import open_cowd, read_cowd_header
from aipimage.vmdk.extents.files import source_errors
from aipimage.vmdk.extents.header import embedded_descriptor
from aipimage.vmdk.extents.hosted import open_hosted
from aipimage.vmdk.layout import COWD_MAGIC, SECTOR, SESPARSE_MAGIC, SPARSE_MAGIC
from aipimage.vmdk.member import DiskMember
from aipimage.vmdk.parents import Member, find_chain
from aipimage.vmdk.source import VmdkSource

_NO_CID = 0xFFFF_FFFE
"""What new disks have before their first write."""


def open_vmdk(
    path: StrPath,
    *,
    search: StrPath | Sequence[StrPath] | None = None,
    allow_outside: bool = False,
    parents: bool = True,
    storage: Storage | None = None,
) -> VmdkSource:
    """Open a virtual disk as a block source.

    Args:
        path: the descriptor, or a disk in a single file. search: directories in which the parents
            of a delta may lie, beside its own folder. allow_outside: let a descriptor name files
            outside of its folder, and devices; only for descriptors from a source you trust.
        parents: open what a delta stands on; without it, what the delta does not have is zeros.

    Raises:
        FormatError: it is not a virtual disk, or is damaged. IncompleteError: an extent or a
            parent is missing or cut short. UnsupportedError: a raw device, or a version not known
            here.
        LimitError: a number over a limit. RequestError: an extent outside of the folder.
        SourceError: a file cannot be read.
    """
    path, storage = checks.path("path", path), chosen(storage)
    checks.flags(allow_outside=allow_outside, parents=parents)
    folders = checks.paths("search", search)
    with source_errors():
        disk = open_member(path, allow_outside=allow_outside, storage=storage)
        parent = None
        try:
            if parents and disk.descriptor.parent_cid != NO_PARENT:
                parent = find_parent(
                    disk.descriptor, path, folders, storage, allow_outside=allow_outside
                )
            return VmdkSource(disk, parent, storage)
        except BaseException:
            if parent is not None:
                parent.close()
            disk.close()
            raise


def find_parent(
    descriptor: Descriptor,
    path: StrPath,
    search: Sequence[StrPath] = (),
    storage: Storage = DEFAULT,
    *,
    allow_outside: bool = False,
) -> VmdkSource:
    """Open the parent of the disk at ``path``, which has ``descriptor``, and all its parents, the
    base first.

    Raises:
        The errors of :func:`aipimage.vmdk.parents.find_chain` and of ``open_vmdk``.
    """
    chain = find_chain(
        path, descriptor, search=search, allow_outside=allow_outside, storage=storage
    )
    found: VmdkSource | None = None
    try:
        for member in reversed(chain[1:]):
            found = _stacked(_opened(member, storage, allow_outside), found, storage)
    except BaseException:
        if found is not None:
            found.close()
        raise
    if found is None:
        raise RuntimeError(f"internal error: {path} has no parent")
    return found


def _stacked(disk: DiskMember, parent: VmdkSource | None, storage: Storage) -> VmdkSource:
    """A disk on its parent; closed where they do not fit together."""
    try:
        return VmdkSource(disk, parent, storage)
    except BaseException:
        disk.close()
        raise


def _opened(member: Member, storage: Storage, outside: bool) -> DiskMember:
    """Open a member; its file may have been replaced since it was found (class 22)."""
    disk = open_member(member.path, allow_outside=outside, storage=storage)
    now, then = disk.descriptor, member.descriptor
    if (now.cid, now.parent_cid) != (then.cid, then.parent_cid):
        disk.close()
        raise FormatError(f"{member.path}: was changed while the chain was opened; try again")
    return disk


def open_member(
    path: StrPath, *, allow_outside: bool = False, storage: Storage = DEFAULT
) -> DiskMember:
    """Open one disk without its parents; errors as ``open_vmdk``, and ``StorageError``.

    The first bytes say what a file is; this holds for the file that was asked for alone. What a
    descriptor calls flat is never looked at in this way (hostile-inputs class 37).
    """
    file = storage.open_read(path)
    try:
        head = file.pread(HEAD, 0)
        if head[:4] == SPARSE_MAGIC:
            return _hosted_disk(file)
        if head[:4] == COWD_MAGIC:
            return _cowd_disk(file)
        descriptor = _descriptor_of(file, head)
    except BaseException:
        file.close()
        raise
    file.close()
    return open_extents(file.name, descriptor, storage, allow_outside)


def begins_like_vmdk(head: bytes) -> bool:
    """Whether a file's first bytes are those of a descriptor or of a sparse extent."""
    is_extent = head[:4] in (SPARSE_MAGIC, COWD_MAGIC)
    is_se = int.from_bytes(head[:8], "little") == SESPARSE_MAGIC
    return is_extent or is_se or looks_like_descriptor(head)


def _descriptor_of(file: File, head: bytes) -> Descriptor:
    if looks_like_descriptor(head):
        size = file.size()
        if size > TEXT_MAX:
            raise LimitError(
                f"{file.name}: begins like a descriptor and has {size} bytes; a descriptor has "
                f"{TEXT_MAX} at most: if it is a raw disk, read it as one"
            )
        return parse_descriptor(file.pread(size, 0), file.name)
    if int.from_bytes(head[:8], "little") == SESPARSE_MAGIC:
        raise FormatError(
            f"{file.name}: is the extent of a seSparse disk; open the descriptor, the small .vmdk "
            "file that names it"
        )
    if not head:
        raise FormatError(f"{file.name}: is empty (0 bytes); get it again from where it came")
    raise FormatError(
        f"{file.name}: is not a virtual disk; if it holds the data of a flat disk, open the "
        "descriptor beside it, or read it as a raw disk"
    )


def _hosted_disk(file: File) -> DiskMember:
    """A disk in one hosted sparse extent: monolithicSparse, streamOptimized.

    The capacity of its header counts, as in qemu, whatever its descriptor says. The name in its
    extent line is ignored: files get renamed.
    """
    extent = open_hosted(file, None)
    descriptor = embedded_descriptor(extent.file, extent.header)
    if len(descriptor.extents) > 1:
        raise FormatError(
            f"{file.name}: its descriptor names {len(descriptor.extents)} extents, but a disk in a "
            "single file has one; open the descriptor of the whole disk"
        )
    warnings = [*extent.warnings, *descriptor.warnings]
    if descriptor.sectors * SECTOR != extent.size:
        warnings.append(
            f"{file.name}: its descriptor says {descriptor.sectors} sectors, its header "
            f"{extent.size // SECTOR}; the header counts"
        )
    return DiskMember(file.name, descriptor, [extent], [file.name], warnings)


def _cowd_disk(file: File) -> DiskMember:
    """A COWD extent alone: a thin disk of old ESX, which qemu opens so too; or half of a delta,
    which is refused where its header says so.
    """
    header = read_cowd_header(file)
    if header.is_child:
        parent = header.parent.decode("utf-8", "replace")[:200]
        below = f" on {parent!r}" if parent else ""
        raise IncompleteError(
            f"{file.name}: is the extent of a delta{below}, not a disk without its parent; open "
            "the descriptor, the small .vmdk file that names the extent"
        )
    extent = open_cowd(file, None)
    line = ExtentLine("RW", extent.size // SECTOR, "VMFSSPARSE", file.name)
    descriptor = Descriptor(_NO_CID, "vmfsSparse", (line,))
    warning = (
        f"{file.name}: is an extent without its descriptor; if it is part of a delta, what its "
        "parent has reads as zeros"
    )
    return DiskMember(file.name, descriptor, [extent], [file.name], [warning])
