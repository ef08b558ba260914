"""Making appliances: the two functions that ``aipimage.vmdk.ovf`` offers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import BinaryIO

from aipimage.errors import RequestError
from aipimage.io.blocks.sources import BlockSource
from aipimage.io.reading.device import Device
from aipimage.io.system.notices import with_notices
from aipimage.io.system.progress import ProgressCallback
from aipimage.io.system.storage import DEFAULT, Storage, StrPath
from aipimage.vmdk.guest.info import UNKNOWN, GuestSystem
from aipimage.vmdk.ovf.defaults import seen
from aipimage.vmdk.ovf.folder import pack_folder
from aipimage.vmdk.ovf.hardware import MIB, NAME_MAX, Appliance, appliance, file_stem
from aipimage.vmdk.ovf.manifest import verified_algorithm
from aipimage.vmdk.ovf.ova import pack_file, pack_stream
from aipimage.vmdk.ovf.packing import DiskJob, DiskResult, OvaResult, verified_cids, verified_job
from aipimage.vmdk.ovf.tar import OCTAL_MAX

DEFAULT_MEMORY = 4096 * MIB
DEFAULT_NETWORKS = ("VM Network",)
"""What VMware calls the first network of a host; importers ask which of theirs it is to be."""


@with_notices
def write_ova(
    target: StrPath | BinaryIO, disks: Sequence[BlockSource | Device], *, name: str | None = None,
    cpus: int = 2, memory: int = DEFAULT_MEMORY, networks: Sequence[str] = DEFAULT_NETWORKS,
    nic: str = "E1000", controller: str = "lsilogic", firmware: str | None = None,
    guest: str | GuestSystem | None = None, manifest: str = "sha256", hardware: int = 11,
    level: str = "fast", cids: Sequence[int] | None = None, mtime: int = 0,
    overwrite: bool = False, threads: int | None = None, executor: Executor | None = None,
    progress: ProgressCallback | None = None, storage: Storage = DEFAULT,
) -> OvaResult:  # fmt: skip
    """Write a virtual appliance with all of some disks as one file.

    A path is written in one pass and without a temporary copy, as ``NAME.partial`` until it is
    whole. Anything with ``write``, a pipe or an open file, is never read or sought in, and so costs
    two passes over the disks, the first of which finds out the sizes and digests that stand in
    front (compressing twice gives the same bytes). Both give the same file for the same ``cids``
    and ``name``.

    Args:
        target: the ``.ova`` file, or where its bytes go.
        disks: disks of an image, or any block sources; the first is the one to start from. Sources
            stay open.
        name: of the virtual machine; the file's where not given. cpus: virtual processors, 1 to
            128. memory: bytes, a multiple of 4 MiB.
        networks: one network adapter for each name; none where empty. nic: their kind: ``E1000``,
            ``E1000e``, ``VmxNet3``, ``PCNet32``.
        controller: of the disks: ``lsilogic``, ``lsilogicsas``, ``buslogic``, ``pvscsi`` (up to 60
            disks each), ``sata`` (120), ``ide`` (4).
        firmware: ``bios`` or ``efi``; guest: see ``guests.GUESTS``. Where they are not given, what
            the disks show.
        manifest: ``sha256``, ``sha1`` (for importers before 2015) or ``none``.
        hardware: version of the virtual hardware: an older one is taken by more importers.
        level: of compression, ``fast`` or ``dense``. cids: a content identity for each disk.
        mtime: seconds since 1970 that the files in the OVA have; always the same where not given.
        overwrite: replace an existing file, though never an image.

    Raises:
        RequestError: something that is asked for is not possible. TargetError: the target is there
            already, in use or an image.
        SourceError, IntegrityError: a disk cannot be read, has lost data, or changed between the
            two passes. StorageError: the target cannot be written.
        CancelledError: the callback said so. Nothing that looks whole is left in any case.
    """
    given = name if name is not None else _stem_of(target)
    machine, warnings = _machine(
        given, None, disks, cpus, memory, networks, nic, controller, firmware, guest, hardware
    )
    _verified_mtime(mtime)
    job = _job(machine, disks, cids, manifest, level, threads, executor)
    if isinstance(target, (str, os.PathLike)):
        path, size, packed = pack_file(job, target, mtime, overwrite, storage, progress)
        return _result(job, path, size, packed, warnings)
    size, packed = pack_stream(job, target, mtime, progress)
    return _result(job, None, size, packed, warnings)


@with_notices
def write_ovf(
    path: StrPath, disks: Sequence[BlockSource | Device], *, name: str | None = None,
    cpus: int = 2, memory: int = DEFAULT_MEMORY, networks: Sequence[str] = DEFAULT_NETWORKS,
    nic: str = "E1000", controller: str = "lsilogic", firmware: str | None = None,
    guest: str | GuestSystem | None = None, manifest: str = "sha256", hardware: int = 11,
    level: str = "fast", cids: Sequence[int] | None = None, overwrite: bool = False,
    threads: int | None = None, executor: Executor | None = None,
    progress: ProgressCallback | None = None, storage: Storage = DEFAULT,
) -> OvaResult:  # fmt: skip
    """Write a virtual appliance as a descriptor, ``path``, with the disks and the manifest beside
    it; arguments and errors as for :func:`write_ova`.

    The disks are called after the descriptor, ``NAME-disk1.vmdk`` and so on; all files get their
    names only when all are whole, the descriptor last.
    """
    where = storage.resolve(path)
    stem = _stem_of(where)
    if not where.lower().endswith(".ovf"):
        raise RequestError(f"{where}: the descriptor of an appliance ends in .ovf; name it so")
    machine, warnings = _machine(
        stem if name is None else name, file_stem(stem), disks, cpus, memory, networks, nic,
        controller, firmware, guest, hardware,
    )  # fmt: skip
    job = _job(machine, disks, cids, manifest, level, threads, executor)
    done, size, packed = pack_folder(job, where, overwrite, storage, progress)
    return _result(job, done, size, packed, warnings)


def _stem_of(target: StrPath | BinaryIO) -> str:
    """What an appliance is called unless asked for otherwise: the file's name without its end."""
    if not isinstance(target, (str, os.PathLike)):
        return "appliance"
    name = os.path.splitext(os.path.basename(os.fspath(target)))[0]
    return "".join(each if each.isprintable() else "_" for each in name)[:NAME_MAX] or "appliance"


def _machine(
    name: str,
    stem: str | None,
    disks: Sequence[BlockSource | Device],
    cpus: int,
    memory: int,
    networks: Sequence[str],
    nic: str,
    controller: str,
    firmware: str | None,
    guest: str | GuestSystem | None,
    hardware: int,
) -> tuple[Appliance, tuple[str, ...]]:
    """Check all that is asked for; then look at the disks for what is not. Returns warnings too."""
    machine = appliance(
        name,
        len(disks),
        stem=stem,
        cpus=cpus,
        memory=memory,
        networks=networks,
        nic=nic,
        controller=controller,
        firmware="bios" if firmware is None else firmware,
        guest=UNKNOWN if guest is None else guest,
        hardware=hardware,
    )
    if firmware is not None and guest is not None:
        return machine, ()
    found = seen(disks)
    if firmware is None:
        machine = replace(machine, firmware=found.firmware)
    if guest is None:
        machine = replace(machine, guest=found.system)
    return machine, found.warnings


def _job(
    machine: Appliance,
    disks: Sequence[BlockSource | Device],
    cids: Sequence[int] | None,
    manifest: str,
    level: str,
    threads: int | None,
    executor: Executor | None,
) -> DiskJob:
    identities, algorithm = verified_cids(cids, len(disks)), verified_algorithm(manifest)
    return verified_job(
        DiskJob(machine, tuple(disks), identities, algorithm, level, threads, executor)
    )


def _result(
    job: DiskJob,
    path: str | None,
    size: int,
    disks: tuple[DiskResult, ...],
    warnings: tuple[str, ...],
) -> OvaResult:
    """What is returned; what there is to say of a disk names it."""
    texts = [f"{disk.name}: {text}" for disk in disks for text in disk.warnings]
    return OvaResult(path, size, disks, job.machine, (*warnings, *texts))


def _verified_mtime(mtime: int) -> int:
    if not 0 <= mtime <= OCTAL_MAX:
        raise RequestError(f"{mtime}: a time in an OVA is 0 to {OCTAL_MAX} seconds since 1970")
    return mtime
