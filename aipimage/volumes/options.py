"""What :func:`aipimage.create` is asked for, as a value that can be kept and used again. ``io`` has
options of its own, which know of no volumes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from aipimage.checks import Size
from aipimage.io.changes.forms import ChangedLike


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """Keyword arguments of :func:`aipimage.create` with the same names, meanings and defaults, as
    one value: ``create(path, sources, options=CreateOptions(compress="zstd:9"))``.

    They are checked when they are used. :func:`dataclasses.replace` makes others of them.
    """

    compress: str = "zstd"
    encrypt: str | None = None
    password: str | None = field(default=None, repr=False)
    recovery_key: str | None = field(default=None, repr=False)
    split: Size | None = None
    comment: str = ""
    tags: Mapping[str, str] | None = None
    created: datetime | None = None
    rate: Size | None = None
    threads: int | None = None
    block_digests: bool = True
    stop_on_error: bool = False
    overwrite: bool = False
    resume: bool = False
    checkpoint_bytes: Size = 1 << 30
    checkpoint_seconds: float = 30.0
    kind: str | None = None
    parent: str | os.PathLike[str] | None = None
    changed: ChangedLike | Sequence[ChangedLike | None] | None = None
    compare: str = "auto"
    grain: int = 4096
    search: Sequence[str | os.PathLike[str]] | None = None
    include_free: bool = False
    volumes: Sequence[int] | Sequence[Sequence[int] | None] | None = None
    leave_out_paging: bool = False
    volumes_in_use: str = "safe"
    frame_size: Size = 1 << 16
