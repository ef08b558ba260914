"""The note of a disk of several files that are about to get their names.

The extents get theirs before the file that opens the disk. Where that ends early, ``NAME.partial``
is still there, and this note beside it says which of the named files belong to it: they are called
``….partial`` again by the next run, which resumes or begins anew.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from typing import Any

from aipimage.errors import StorageError, TargetError
from aipimage.io.changes.wholefile import sync_directory_of, write_whole
from aipimage.io.stream.outstream import PARTIAL
from aipimage.io.system.storage import FileInfo, Storage

NAMES = ".names"
_WHAT = "aipimage vmdk names 1"
_LIMIT = 16 << 20


def note_names(storage: Storage, path: str, extents: Sequence[str]) -> None:
    """Write the note, durably; the extents are whole and durable and still ``….partial``."""
    marks = {os.path.basename(name): _mark(storage.stat(name + PARTIAL)) for name in extents}
    data = json.dumps({"what": _WHAT, "extents": marks}).encode()
    note = path + PARTIAL + NAMES
    write_whole(storage, note, [data], replace=True).close()
    sync_directory_of(storage, note)


def take_back_names(storage: Storage, path: str) -> None:
    """Call the extents ``….partial`` again that an interrupted run named; all others stay.

    Raises:
        TargetError: another process is writing the disk, or a file is not ours. StorageError: an
            extent cannot be renamed.
    """
    text = storage.left_text(path + PARTIAL + NAMES, _LIMIT)
    first = storage.open_left(path + PARTIAL) if text is not None else None
    if text is None or first is None:
        return
    with first:
        if storage.exists(path):
            return  # It is complete, and the note only left over.
        first.lock()
        for name, mark in _marks(text).items():
            final = os.path.join(os.path.dirname(path), os.path.basename(name))
            if storage.exists(final + PARTIAL) or not storage.exists(final):
                continue
            extent = storage.open_left(final)
            if extent is None:
                continue
            with extent:
                same = _mark(extent.info()) == mark
            if same:
                storage.rename(final, final + PARTIAL)


def remove_note(storage: Storage, path: str) -> None:
    """Remove the note, and one that was not finished.

    Raises:
        StorageError: it cannot be removed.
    """
    storage.remove(path + PARTIAL + NAMES, missing_ok=True)
    with contextlib.suppress(StorageError, TargetError):
        storage.remove_left(path + PARTIAL + NAMES + PARTIAL)


def _mark(info: FileInfo) -> list[int]:
    """What a renaming leaves as it is, and what another file hardly has."""
    return [info.size, info.mtime_ns]


def _marks(text: str) -> dict[str, Any]:
    """The marks by name; none where the note is not whole."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(values, dict) or values.get("what") != _WHAT:
        return {}
    marks = values.get("extents")
    return marks if isinstance(marks, dict) else {}
