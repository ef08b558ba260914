"""The public functions that join the layers below.

Each imports what it needs when it is called, so that one of them does not load the modules of all.
For the same reason annotations name public types as ``aipimage.X``: that loads X when they are
resolved, and not before.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO

import aipimage
from aipimage import checks, hints
from aipimage.checks import Size
from aipimage.errors import OptionError, RequestError
from aipimage.io.system.defaults import DEFAULT_CACHE, DEFAULT_FRAME_SHIFT

if TYPE_CHECKING:
    from aipimage.io.creating.options import CreateOptions as ImageOptions
    from aipimage.volumes.options import CreateOptions


def create(
    path: str | os.PathLike[str] | BinaryIO,
    sources: Sequence[aipimage.SourceLike] | aipimage.SourceLike,
    *,
    compress: str = "zstd",
    encrypt: str | None = None,
    password: str | None = None,
    recovery_key: str | None = None,
    split: Size | None = None,
    comment: str = "",
    tags: Mapping[str, str] | None = None,
    created: datetime | None = None,
    rate: Size | None = None,
    threads: int | None = None,
    block_digests: bool = True,
    stop_on_error: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    checkpoint_bytes: Size = 1 << 30,
    checkpoint_seconds: float = 30.0,
    kind: str | None = None,
    parent: str | os.PathLike[str] | None = None,
    changed: aipimage.ChangedLike | Sequence[aipimage.ChangedLike | None] | None = None,
    compare: str = "auto",
    grain: int = 4096,
    search: Sequence[str | os.PathLike[str]] | None = None,
    include_free: bool = False,
    volumes: Sequence[int] | Sequence[Sequence[int] | None] | None = None,
    leave_out_paging: bool = False,
    volumes_in_use: str = "safe",
    frame_size: Size = 1 << DEFAULT_FRAME_SHIFT,
    progress: aipimage.ProgressCallback | None = None,
    options: aipimage.CreateOptions | None = None,
) -> aipimage.CreateResult:
    """Create an image of one or more disks or volumes: a full one, or one of what changed.

    Of volumes whose file systems are known only the used clusters are kept. Where there is any
    doubt about an allocation map (a journal that was not replayed, structures that disagree) the
    whole volume is, and the result's ``warnings`` say why. The image is written as
    ``path.partial`` and gets its name only once it is whole and durable.

    Args:
        path: of the new image, or a binary file object (a pipe, say) that it is written to in one
            pass.
        sources: paths of files or block devices, which are read as they are; seekable binary file
            objects; or :class:`BlockSource` objects, such as what ``aipimage.vmdk.open`` returns.
        compress: ``"none"``, ``"zstd"`` or ``"zstd:LEVEL"``. Frames that do not become smaller are
            stored as they are.
        encrypt: ``"aes-128"``, ``"aes-256"``, ``"authenticate"`` (not encrypted, but tampering is
            found), or ``None``.
        password: needed with ``encrypt``, refused without. recovery_key: a second password, kept
            for emergencies.
        split: bytes of a part at most; the parts are called ``path``, ``path.002``, …
        comment: free text, kept in the metadata. tags: likewise texts by their names, at most 64.
        created: the time that the content is from, with a time zone; now by default.
        rate: bytes a second at most to read from the sources, from the first one on, also while
            they are looked at.
        threads: worker threads; as many as there are processors, or one more, by default.
        block_digests: keep 16 bytes for each 64 KiB of content, so that a later image can be
            compared without this one.
        stop_on_error: fail at the first unreadable sector instead of recording it as unreadable.
        overwrite: replace an existing image, once the new one is whole.
        resume: resume an interrupted creation from its last checkpoint, or begin where there is
            none. Sources, parent, protection, ``split``, ``frame_size``, ``block_digests``, and
            whether there is compression must be the same; the level may differ, and ``comment``
            stays the first one. An image that is whole and only lacks its name is checked and
            named, with a warning. What cannot be resumed is left as it is.
        kind: ``"full"``, ``"incremental"`` or ``"differential"``; full by default, incremental
            with a parent. A full image with a parent stands inside its chain.
        parent: the image that the new one builds on, or a directory: then the newest image there of
            these sources. Where nothing can be compared a full image is made, and the result's
            ``changes`` say why.
        changed: what changed since the parent, as a change tracker knows it: ranges in bytes, a
            bitmap, a tracker's generation, or a file (:mod:`aipimage.tracking`); a list of such
            where there are several sources. Without it, or where a random sample shows that it is
            wrong, everything is compared.
        compare: ``"digests"``: with the block digests in the parent, whose data may then be far
            away; ``"data"``: with the parent's data; ``"auto"``: digests where there are some.
        grain: bytes of a cluster, the smallest change that is kept apart: 512 to 4096.
        search: directories in which the other images of the chain lie, besides the parent's own.
        include_free: keep free clusters too.
        volumes: numbers of the volumes to keep, as the system numbers partitions, from 1; a list of
            such lists, or ``None`` for all, where there are several sources. What lies outside of
            volumes (boot code, the partition table) is kept in any case.
        frame_size: bytes that are compressed together, a power of two from 4096 to 1 MiB: with
            more the image is smaller and made faster, and a small read in it takes longer. An image
            with a parent has its parent's.
        leave_out_paging: leave out the content of pagefile.sys, hiberfil.sys and swapfile.sys.
        volumes_in_use: what is kept of volumes that were not unmounted: ``"safe"``, what a replay
            of their journals may need, and all where they are not understood; ``"best-effort"``,
            of an NTFS volume whose journal is not understood what its map, its files and the
            journal name, which may not be all; ``"whole"``, everything.
        checkpoint_bytes, checkpoint_seconds: write a checkpoint after so many stored bytes or so
            long, whichever is first.
        progress: called about ten times a second with a :class:`Progress`; returning ``False``
            cancels.
        options: all of these but ``progress`` as one value, instead of keywords.

    Raises:
        RequestError, PasswordError, TargetError: the request cannot be carried out; nothing was
            written.
        SourceError: a source cannot be read or shrank. StorageError: the target cannot be written.
        CancelledError: the callback said so.
    """
    from aipimage.io.increment.create import create_image
    from aipimage.volumes.options import CreateOptions

    asked = checks.options(CreateOptions, options, locals())
    several = isinstance(sources, Sequence) and not isinstance(sources, (str, bytes))
    given: list[aipimage.SourceLike] = list(sources) if several else [sources]  # type: ignore[list-item, arg-type]
    return create_image(path, given, _for_io(asked, len(given)), progress)


_OF_VOLUMES = {"include_free", "volumes", "leave_out_paging", "volumes_in_use"}


def _for_io(asked: CreateOptions, sources: int) -> ImageOptions:
    """The options of ``io``, which knows of no volumes; sizes become numbers."""
    from aipimage.io.creating.options import CreateOptions as ImageOptions
    from aipimage.volumes.model import IN_USE_WAYS
    from aipimage.volumes.preparing import Preparation

    checks.flags(include_free=asked.include_free, leave_out_paging=asked.leave_out_paging)
    checks.choice("volumes_in_use", asked.volumes_in_use, IN_USE_WAYS)
    alike = {each.name: getattr(asked, each.name) for each in dataclasses.fields(asked)}
    for name in (*_OF_VOLUMES, "frame_size"):
        del alike[name]
    alike["split"] = checks.optional_size("split", asked.split)
    alike["rate"] = checks.optional_size("rate", asked.rate)
    alike["checkpoint_bytes"] = checks.size("checkpoint_bytes", asked.checkpoint_bytes, 0)
    volumes = _for_each(asked.volumes, sources)
    return ImageOptions(
        **alike,
        frame_shift=_frame_shift(asked.frame_size),
        prepare=Preparation(
            asked.include_free, volumes, asked.leave_out_paging, asked.volumes_in_use
        ),
    )


def _frame_shift(frame_size: Size) -> int:
    size = checks.size("frame_size", frame_size, 4096, 1 << 20)
    if size & (size - 1):
        raise OptionError(
            f"frames of {size} bytes are not possible: pass a power of two, 4096 to 1 MiB"
        )
    return size.bit_length() - 1


def _for_each(volumes: Any, count: int) -> Sequence[Sequence[int] | None] | None:
    """The choice of volumes passed to :func:`create`, as one entry for each source."""
    if volumes is None:
        return None
    if isinstance(volumes, (str, bytes)) or not isinstance(volumes, Sequence):
        raise checks.wrong_type("volumes", volumes, "a list of numbers of volumes, or None")
    numbers = [each for each in volumes if isinstance(each, int)]
    lists = [numbers] if numbers else [each for each in volumes if not isinstance(each, int)]
    for each in lists:
        if each is not None and (isinstance(each, str) or not isinstance(each, Sequence)):
            raise checks.wrong_type("volumes", volumes, "a list of numbers for each source")
        for number in each or ():
            checks.whole("volumes", number)
    if len(lists) != count or (numbers and len(numbers) != len(volumes)):
        raise RequestError("pass the volumes as a list of numbers for each source")
    return lists


def open(
    path: str | os.PathLike[str] | BinaryIO | Sequence[BinaryIO],
    password: str | None = None,
    *,
    expected_digest: str | None = None,
    cache_bytes: Size = DEFAULT_CACHE,
    search: Sequence[str | os.PathLike[str]] | None = None,
    storage: aipimage.Opener | None = None,
) -> aipimage.Image:
    """Open an image, or any part of a split one, for reading. Only its tail and header are read
    now.

    Args:
        path: of the image; or a seekable binary file object with it, or a list of those of all of
            its parts in any order. File objects stay open, and the caller's.
        password: needed for an encrypted or authenticated image, refused for a plain one.
        expected_digest: the image digest that :func:`create` gave, 64 hexadecimal digits; refuses
            every other image.
        cache_bytes: bound of the cache of decoded frames.
        search: directories in which the other images of its chain lie, besides the image's own.
        storage: opens the image, ``path`` being one of its names, and the others of its chain.

    Raises:
        FormatError: not an image. IncompleteError: cut short, still being written, or a part is
            missing.
        PasswordError: missing, not wanted or wrong. IntegrityError: damaged, or not the image
            expected.
        StorageError: it cannot be read.
    """
    from aipimage.io.system.inputs import Input
    from aipimage.volumes.image import open_image

    found = Input("path", path, storage)
    return open_image(
        found.path,
        password,
        storage=found.storage,
        expected_digest=expected_digest,
        cache_bytes=checks.size("cache_bytes", cache_bytes, 0),
        search=search,
    )


def chains(
    search: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    password: str | None = None,
    *,
    storage: aipimage.Opener | None = None,
) -> tuple[aipimage.Chain, ...]:
    """Find all chains in some directories, each up to its newest image, in the order of their ids.

    Args:
        search, storage: as for :func:`find_chain`.
        password: of the chains that are encrypted, and used for those alone; one that it does not
            open is left out where others are opened.

    Raises:
        PasswordError: there are chains, and the password opens none of them.
        LimitError: one has over 4096 images. StorageError: a directory cannot be listed.
    """
    from aipimage.io.system.inputs import folders_of
    from aipimage.volumes.chain import chains_in

    checks.secrets(password=password)
    found, folders = folders_of(search, storage)
    return chains_in(folders, password, found)


def find_chain(
    search: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    chain_id: str | None = None,
    password: str | None = None,
    *,
    storage: aipimage.Opener | None = None,
) -> aipimage.Chain:
    """Find a chain in some directories, up to its newest image.

    Args:
        search: a directory, or several.
        chain_id: 32 hexadecimal digits; may be left out where the directories have one chain only.
        password: of any of its images, where they are encrypted.
        storage: opens the images; ``search`` names folders of it, ``""`` all of it.

    Raises:
        RequestError: there is no such chain, or which one is meant is not clear.
        PasswordError: missing, not wanted or wrong. LimitError: it has over 4096 images.
        StorageError: a directory cannot be listed. And what opening an image raises where none of
            the chain can be opened.
    """
    from aipimage.io.system.inputs import folders_of
    from aipimage.volumes import chain

    checks.optional_texts(chain_id=chain_id)
    checks.secrets(password=password)
    found, folders = folders_of(search, storage)
    return chain.find_chain(folders, chain_id, password, storage=found)


def merge(
    path: str | os.PathLike[str],
    images: Sequence[str | os.PathLike[str] | BinaryIO],
    *,
    password: str | None = None,
    split: Size | None = None,
    overwrite: bool = False,
    resume: bool = True,
    dry_run: bool = False,
    remove: bool = False,
    search: Sequence[str | os.PathLike[str]] | None = None,
    threads: int | None = None,
    progress: aipimage.ProgressCallback | None = None,
    storage: aipimage.Opener | None = None,
) -> aipimage.MergeResult:
    """Make one image of a run of images of a chain, each the parent of the next.

    The new image is the point in time of the last one: a full image, a *synthetic full*, where the
    run begins with one. Images that build on the last one, or on the new one, stay valid. What is
    stored is copied as it is, neither decrypted nor compressed again; only what the last image
    does not need is left out. ``path`` is called ``path.partial`` until it is whole and durable.

    Args:
        images: at least two, in any order; seekable binary file objects with them will do.
        password: of the newest of them; its key slots become those of the new image.
        split: bytes of a part at most.
        overwrite: replace a file ``path``, once the new image is whole.
        resume: resume an interrupted merge of the same images. Unlike :func:`create`, a merge does
            so by default: a sealed note beside the partial file proves which merge it is of, and
            the images that it reads do not change.
        dry_run: only report what would be copied and dropped.
        remove: remove ``images``, newest first, once the new image is durable and was looked at.
        search: directories where other images of the chain lie, besides those of ``images`` and
            ``path``; those that build on an inner image of the run are not to lose its records.
        threads: worker threads. progress: as for :func:`create`.
        storage: opens the images, which are names of it; ``path`` is a file of the system.

    Raises:
        RequestError: the images are not consecutive, another image builds on an inner one of them,
            or with ``remove`` the kept file of an image that was merged before still needs one.
        PasswordError, TargetError: nothing was written.
        IntegrityError, FormatError: an image is damaged; nothing was removed.
        IncompleteError: a part is missing. LimitError: too many segments.
        StorageError: something could not be read or written. CancelledError: the callback said so.
    """
    from aipimage.io.merge.job import merge_images

    return merge_images(
        path, images, password=password, split=split, overwrite=overwrite, resume=resume,
        dry_run=dry_run, remove=remove, search=search, threads=threads, progress=progress,
        storage=storage,
    )  # fmt: skip


def convert(
    source: str | os.PathLike[str] | BinaryIO | Sequence[BinaryIO],
    target: str | os.PathLike[str] | BinaryIO,
    *,
    format: str | None = None,
    disk: int | Sequence[int] | None = None,
    password: str | None = None,
    search: Sequence[str | os.PathLike[str]] | None = None,
    source_format: str | None = None,
    allow_outside: bool = False,
    subformat: str | None = None,
    adapter: str | None = None,
    hardware: int | None = None,
    cid: int | None = None,
    split: Size | None = None,
    level: str | None = None,
    compress: str | None = None,
    encrypt: str | None = None,
    comment: str = "",
    include_free: bool = False,
    appliance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    threads: int | None = None,
    executor: hints.Executor | None = None,
    progress: aipimage.ProgressCallback | None = None,
    storage: aipimage.Opener | None = None,
    options: aipimage.ConvertOptions | None = None,
) -> aipimage.ConvertResult:
    """Convert a point in time of a chain to a virtual disk, a virtual disk to an image, and either
    to plain bytes, in one pass and without a copy in between.

    A file that is written is called ``target.partial`` until it is whole and durable.

    Args:
        source: an ``.aiv`` image, any part or member of a chain; a ``.vmdk``; an ``.ova``, or an
            ``.ovf`` with its disks beside it; or a raw disk. Its name says which it is, never its
            content: what is not called so (or ``.aii``) is raw, whatever it begins with. Or a
            seekable binary file object, or a list of those of all parts of an image; one without
            a name is an image.
        target: a path, a block device (raw only), or a binary file object that is written in one
            pass: raw, ``streamOptimized``, ``.aiv`` or ``.ova``, the last of these in two passes
            over the source.
        format: ``"vmdk"``, ``"raw"``, ``"aiv"``, ``"ova"`` or ``"ovf"``; as the target's name ends
            where not passed (``.raw`` and ``.img`` are raw).
        disk: number of a disk of an image or appliance, from 0. An ``.aiv``, ``.ova`` or ``.ovf``
            takes a list of them, all by default; else it is 0, with a warning if there are others.
        password: of an encrypted ``.aiv``, whether it is the source or the target.
        search: directories where other images of the chain lie, or the parents of a ``.vmdk``,
            besides the source's own.
        source_format: ``"aiv"``, ``"vmdk"``, ``"ova"``, ``"ovf"`` or ``"raw"``, against what the
            name says.
        allow_outside: let a ``.vmdk`` name files outside of its directory and of ``search``.
        subformat: of a VMDK: ``"monolithicSparse"``, the default; ``"monolithicFlat"``,
            ``"twoGbMaxExtentSparse"``, ``"twoGbMaxExtentFlat"``, ``"streamOptimized"``, the default
            for a file object; ``"vmfs"``.
        adapter: ``"lsilogic"`` by default, ``"buslogic"`` or ``"ide"``; in an appliance also
            ``"lsilogicsas"``, ``"pvscsi"`` or ``"sata"``. hardware: version of the virtual
            hardware. cid: content ID of the VMDK, 32 bits; random where not passed.
        split: bytes of an extent of a ``twoGbMaxExtent`` disk at most, or of a part of an ``.aiv``.
        level: of a ``streamOptimized`` disk: ``"fast"``, the default, or ``"dense"``.
        compress, encrypt, comment, include_free: of an ``.aiv``; see :func:`create`.
        appliance: of an ``.ova`` or ``.ovf``: ``name``, ``os``, ``firmware`` (``"bios"``,
            ``"efi"``), ``cpus``, ``memory`` (bytes), ``networks`` (names), ``nic``, ``manifest``
            (``"sha256"``, ``"sha1"``, ``"none"``). What is not passed is seen from the disks, or
            has a sensible default.
        overwrite: replace what is there, once the new target is whole.
        resume: continue an interrupted conversion of the same source where a file has got far
            enough; else begin anew.
        threads: worker threads; as many as there are processors, or one more, by default.
        executor: does the work instead of threads of our own, except for an ``.aiv``.
        storage: opens the source, which is one of its names; the target is a file of the system.
        options: all of these but ``executor``, ``progress`` and ``storage`` as one value, instead
            of keywords.
        progress: called about ten times a second with a :class:`Progress`; returning ``False``
            cancels.

    Returns:
        what was made, what the new machine needs, and what to look at.

    Raises:
        RequestError, PasswordError, TargetError: the request cannot be carried out; nothing was
            written.
        FormatError, IntegrityError, IncompleteError: the source is damaged, or files of it are
            missing. SourceError: it cannot be read. StorageError: the target cannot be written.
        CancelledError: the callback said so.
    """
    from aipimage.converting.convert import convert as converted
    from aipimage.converting.request import ConvertOptions

    asked = checks.options(ConvertOptions, options, locals())
    return converted(source, target, asked, executor=executor, progress=progress, storage=storage)


def survey(source: aipimage.SourceLike) -> aipimage.DiskInfo:
    """Look at a disk, or at a volume without a partition table: what is on it, what is in use.

    Args:
        source: a path of a file or block device, a seekable binary file object, or a
            :class:`BlockSource`. It is only read.

    Raises:
        SourceError, RequestError: it cannot be read. What lies on it is never an error: what cannot
            be trusted counts as in use, and ``warnings`` and the volumes say why.
    """
    from aipimage.io.blocks.sources import open_source
    from aipimage.volumes.diskinfo import disk_info

    opened = open_source(source)
    try:
        return disk_info(opened)
    finally:
        if opened is not source:
            opened.close()
