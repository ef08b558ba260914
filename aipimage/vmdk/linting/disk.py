"""A virtual disk: its descriptor, the files of its extents, and its parents."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Sequence

from aipimage.errors import AipImageError, FormatError, IncompleteError, RequestError, StorageError
from aipimage.io.system.storage import StrPath
from aipimage.vmdk.descriptor import NO_PARENT, TEXT_MAX, Descriptor, ExtentLine
from aipimage.vmdk.descriptortext import HEAD, decoded_name, looks_like_descriptor, other_spellings
from aipimage.vmdk.layout import COWD_MAGIC, SECTOR, SESPARSE_MAGIC, SPARSE_MAGIC, SparseHeader
from aipimage.vmdk.linting.cowd import check_cowd
from aipimage.vmdk.linting.findings import CheckedFile
from aipimage.vmdk.linting.hosted import check_hosted
from aipimage.vmdk.linting.job import LintJob
from aipimage.vmdk.linting.meaning import check_meaning, is_device
from aipimage.vmdk.linting.sesparse import check_sesparse
from aipimage.vmdk.linting.text import Described, check_text
from aipimage.vmdk.parents import Member, find_chain
from aipimage.vmdk.textcodes import codec_named

_SESPARSE = SESPARSE_MAGIC.to_bytes(8, "little")
_SETTING = re.compile(rb"(?im)^[ \t]*createType[ \t]*=")
_SPARSE = {"SPARSE": SPARSE_MAGIC, "VMFSSPARSE": COWD_MAGIC, "SESPARSE": _SESPARSE}
_FLAT = ("FLAT", "VMFS")


def check_disk(job: LintJob, path: StrPath, search: Sequence[StrPath]) -> tuple[Member, ...]:
    """Check the disk that a file is; return its parents, as far as they were found."""
    checked = job.open(path)
    with checked.file:
        head = checked.read(0, HEAD)
        if head[:4] == SPARSE_MAGIC:
            found = _check_monolithic(job, checked)
        elif head[:4] == COWD_MAGIC or head[:8] == _SESPARSE:
            _check_alone(job, checked, head)
            return ()
        elif looks_like_descriptor(head) or _SETTING.search(checked.read(0, 1 << 16)):
            found = check_text(checked, checked.read(0, TEXT_MAX + 1), 0)
            check_meaning(checked, found, 0)
            _Extents(job, checked, found).check()
            job.advance(checked.size)
        else:
            checked.add("not-vmdk", "neither a descriptor nor an extent of a VMDK begins here", 0)
            return ()
        return _check_parents(job, checked, found, search) if found is not None else ()


def _check_monolithic(job: LintJob, checked: CheckedFile) -> Described | None:
    """A sparse extent that should have a descriptor inside of it."""
    described: list[Described] = []

    def embedded(header: SparseHeader) -> tuple[int | None, str]:
        start, size = header.descriptor_offset * SECTOR, header.descriptor_size * SECTOR
        data = checked.read(start, min(size, TEXT_MAX + 1)) if 0 < start < checked.size else b""
        if not data:
            if not start and not size:
                checked.add("extent-alone", "an extent alone; check its disk's descriptor")
            return None, ""
        found = check_text(checked, data, start)
        check_meaning(checked, found, start)
        described.append(found)
        return found.sectors if len(found.lines) == 1 else None, found.create_type

    check_hosted(job, checked, embedded=embedded)
    return described[0] if described else None


def _check_alone(job: LintJob, checked: CheckedFile, head: bytes) -> None:
    checked.add("extent-alone", "an extent alone; check its disk's descriptor")
    (check_cowd if head[:4] == COWD_MAGIC else check_sesparse)(job, checked)


class _Extents:
    """The files that a descriptor names."""

    def __init__(self, job: LintJob, checked: CheckedFile, found: Described) -> None:
        self._job, self._checked, self._found = job, checked, found
        self._folder = os.path.dirname(checked.path)
        self._flats: dict[str, list[tuple[int, int, int]]] = {}
        self._sparse: set[str] = set()

    def check(self) -> None:
        """Check every line's file; devices are never opened."""
        if is_device(self._found):
            return
        for line, at in self._found.lines:
            if line.name and (line.kind in _FLAT or line.kind in _SPARSE):
                path = self._inside(line, at)
                if path is not None:
                    self._extent(line, at, path)
        for path, ranges in self._flats.items():
            self._check_flat(path, ranges)

    def _inside(self, line: ExtentLine, at: int) -> str | None:
        """The path of a line's file, if it lies in the folder itself (hostile-inputs 36)."""
        codec = codec_named(self._found.settings.get("encoding", "UTF-8"))
        read = decoded_name(line.name, codec)
        name = re.sub(r"^(?:\./+)+(?=.)", "", read.replace("\\", "/"))
        drive = re.match("[A-Za-z]:", name)
        if drive or name.startswith("/") or os.pardir in name.split("/"):
            self._outside(line, at)
            return None
        names = (name, *other_spellings(line.name, read, codec))
        try:
            path = self._first_there([each for each in names if "/" not in each] or [name])
            top = self._job.storage.resolve(self._folder or os.curdir)
            own = os.path.dirname(self._job.storage.resolve(self._checked.path))
            real = self._job.storage.resolve(path)
        except (StorageError, RequestError):
            self._checked.add("extent-unreadable", f"the path {line.name[:80]!r} is impossible", at)
            return None
        if "/" not in name and os.path.dirname(real) in (top, own):
            return path
        if real.startswith(top.rstrip(os.sep) + os.sep):
            self._checked.add(
                "extent-subfolder",
                f"{line.name[:80]!r} is not in the descriptor's own folder and is not followed",
                at,
            )
        else:
            self._outside(line, at)
        return None

    def _first_there(self, names: Sequence[str]) -> str:
        """The path of a file: of its spellings the first that is there, or the first."""
        paths = [os.path.join(self._folder, each) for each in names]
        if len(paths) == 1:
            return paths[0]
        return next((each for each in paths if self._job.storage.exists(each)), paths[0])

    def _outside(self, line: ExtentLine, at: int) -> None:
        self._checked.add(
            "extent-outside", f"{line.name[:80]!r} leads out of the folder and is not followed", at
        )

    def _extent(self, line: ExtentLine, at: int, path: str) -> None:
        try:
            if not self._job.storage.exists(path):
                self._checked.add("extent-missing", f"{line.name[:80]!r} is not there", at)
                return
            opened = self._job.open(path)
        except (StorageError, RequestError) as error:
            self._checked.add("extent-unreadable", str(error), at)
            return
        with opened.file:
            if line.kind in _FLAT:
                self._flat(opened, line, at, path)
            else:
                self._sparse_file(opened, line, at, path)
            self._job.reporter.again()

    def _flat(self, opened: CheckedFile, line: ExtentLine, at: int, path: str) -> None:
        real = self._job.storage.resolve(path)
        start = line.offset or 0
        end = start + line.sectors
        if end * SECTOR > opened.size:
            opened.add(
                "flat-short", f"{opened.size} bytes; its line needs {end * SECTOR}", opened.size
            )
        self._flats.setdefault(real, []).append((start, end, at))
        self._job.advance(opened.size)

    def _check_flat(self, path: str, ranges: list[tuple[int, int, int]]) -> None:
        ranges.sort()
        for (_, end, _), (start, _, at) in itertools.pairwise(ranges):
            if start < end:
                self._checked.add(
                    "extent-shared",
                    f"two lines name sector {start} of {os.path.basename(path)!r}",
                    at,
                )
        size = self._job.storage.stat(path).size
        end = max(end for _, end, _ in ranges) * SECTOR
        if size > end:
            self._checked.add(
                "flat-long",
                f"{os.path.basename(path)!r} has {size} bytes, its lines {end}",
                ranges[0][2],
            )

    def _sparse_file(self, opened: CheckedFile, line: ExtentLine, at: int, path: str) -> None:
        real = self._job.storage.resolve(path)
        if real in self._sparse:
            self._checked.add("extent-shared", f"two lines name {line.name[:80]!r}", at)
            return
        self._sparse.add(real)
        head = opened.read(0, 8)
        if not head.startswith(_SPARSE[line.kind]):
            opened.add("extent-kind", f"its line says {line.kind}, and it is none", 0)
        elif line.kind == "SPARSE":
            create_type = self._found.create_type
            check_hosted(self._job, opened, sectors=line.sectors, create_type=create_type)
        elif line.kind == "VMFSSPARSE":
            check_cowd(self._job, opened, line.sectors)
        else:
            check_sesparse(self._job, opened, line.sectors)


def _check_parents(
    job: LintJob, checked: CheckedFile, found: Described, search: Sequence[StrPath]
) -> tuple[Member, ...]:
    """Look for the parents by the reader's rules: opening the disk follows them."""
    hint = found.settings.get("parentfilenamehint")
    if found.parent_cid == NO_PARENT or (found.parent_cid == found.cid and hint is None):
        return ()
    at = found.places.get("parentfilenamehint", found.places.get("parentcid"))
    if hint is not None and (
        re.match(r"[A-Za-z]:|[/\\]", hint) or ".." in re.split(r"[/\\]", hint)
    ):
        checked.add("parent-hint-outside", f"{hint[:80]!r} is looked for by its last name only", at)
    lines = tuple(line for line, _ in found.lines)
    encoding = found.settings.get("encoding", "UTF-8")
    descriptor = Descriptor(
        found.cid or 0, found.create_type, lines, found.parent_cid, hint, encoding
    )
    try:
        return find_chain(checked.path, descriptor, search=search, storage=job.storage)[1:]
    except (IncompleteError, RequestError) as error:
        checked.add("parent-missing", _without(error, checked.path), at)
    except FormatError as error:
        checked.add("parent-mismatch", _without(error, checked.path), at)
    return ()


def _without(error: AipImageError, path: str) -> str:
    return str(error).removeprefix(f"{path}: ")
