"""Checkpoints of a disk that is being written: a small file beside it, replaced in one step.

What a checkpoint says was made durable before. It names the source, its state and all options, so
that nothing else is ever continued; whatever cannot be right in it is an error, never a guess.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from typing import Any

from aipimage.errors import FormatError, RequestError, StorageError
from aipimage.io.stream.outstream import PARTIAL
from aipimage.io.system.storage import Storage
from aipimage.vmdk.writing.files import NEW, DiskFiles
from aipimage.vmdk.writing.plan import Identity
from aipimage.vmdk.writing.tables import verified_number

_WHAT = "aipimage vmdk checkpoint 1"
_LIMIT = 256 << 20
"""Bytes of a checkpoint at most: the directory of a stream of 1 PiB, as text."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint: ``next_grain`` is where reading continues, ``disk`` the writer's own values."""

    identity: Identity
    next_grain: int
    unreadable: int
    grains: int
    disk: dict[str, Any]


class Checkpoints:
    """Writes a checkpoint after so many bytes or so many seconds.

    Args:
        request: what is converted, and how; only the same is continued.

    Attributes:
        written: whether there is one that a later run can continue from.
    """

    def __init__(
        self,
        storage: Storage,
        files: DiskFiles,
        request: dict[str, Any],
        every_bytes: int,
        every_seconds: float,
    ) -> None:
        self._storage, self._files, self._request = storage, files, request
        self._every_bytes, self._every_seconds = every_bytes, every_seconds
        self._position, self._time = 0, time.monotonic()
        self.written = False

    def is_due(self, position: int) -> bool:
        """Whether it is time for the next one, with ``position`` bytes written."""
        return (
            position - self._position >= self._every_bytes
            or time.monotonic() - self._time >= self._every_seconds
        )

    def write(self, saved: Saved, position: int) -> None:
        """Replace the checkpoint; everything that it names must be durable."""
        values = {
            "what": _WHAT,
            "request": self._request,
            "cid": saved.identity.cid,
            "content_id": saved.identity.content_id,
            "next_grain": saved.next_grain,
            "unreadable": saved.unreadable,
            "grains": saved.grains,
            "disk": saved.disk,
        }
        try:
            self._replace(json.dumps(values).encode())
        except BaseException:
            with contextlib.suppress(StorageError):
                self._storage.remove(self._files.state_path + NEW, missing_ok=True)
            raise
        self.written = True
        self._position, self._time = position, time.monotonic()

    def _replace(self, data: bytes) -> None:
        path = self._files.state_path
        self._storage.remove(path + NEW, missing_ok=True)
        with self._storage.create(path + NEW) as file:
            file.pwrite(data, 0)
            self._files.sync(file)
        self._storage.rename(path + NEW, path)
        self._files.sync_names()

    def read(self, grains: int) -> Saved | None:
        """Return the checkpoint of an earlier run; ``None`` where there is none.

        Raises:
            RequestError: it is of another source or of other options, or cannot be understood.
        """
        path = self._files.state_path
        # Without a partial file the disk was completed, and the checkpoint only left over.
        text = self._storage.left_text(path, _LIMIT)
        if text is None or not self._storage.exists(self._files.path + PARTIAL):
            return None
        try:
            values = json.loads(text)
            saved = _verified(values, grains)
        except (ValueError, RecursionError, FormatError) as error:
            raise unusable(path, str(error)) from error
        wanted = json.loads(json.dumps(self._request))
        if values.get("request") != wanted:
            raise RequestError(
                f"{path}: was begun from another source, another state of it, or with other "
                "options; use the same, or write without resuming"
            )
        self.written = True
        return saved


def unusable(path: str, reason: str) -> RequestError:
    """The error for a checkpoint that nothing can be continued from."""
    return RequestError(
        f"{path}: cannot be resumed from: {reason}; remove it, or write without resuming"
    )


def _verified(values: object, grains: int) -> Saved:
    if not isinstance(values, dict) or values.get("what") != _WHAT:
        raise FormatError("it is not a checkpoint of this release")
    disk = values.get("disk")
    content_id = values.get("content_id")
    if not isinstance(disk, dict) or not isinstance(content_id, str):
        raise FormatError("it is incomplete")
    cid = verified_number(values, "cid", 0, 0xFFFF_FFFD)
    if len(content_id) != 32 or not content_id.isalnum() or not content_id.endswith(f"{cid:08x}"):
        raise FormatError("its content_id is not possible")
    return Saved(
        Identity(cid, content_id),
        verified_number(values, "next_grain", 0, grains),
        verified_number(values, "unreadable", 0, 1 << 63),
        verified_number(values, "grains", 0, grains),
        disk,
    )
