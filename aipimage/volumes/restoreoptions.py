"""What :meth:`aipimage.Image.restore` is asked for, as a value that can be kept and used again."""

from __future__ import annotations

import os
from dataclasses import dataclass

from aipimage.checks import Size


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """Keyword arguments of :meth:`aipimage.Image.restore` with the same names, meanings and
    defaults, as one value; see :class:`aipimage.CreateOptions`.
    """

    device: int = 0
    force: bool = False
    set_size: bool = False
    size: Size | None = None
    new_ids: bool = False
    boot_code: bool = False
    signature: bool = False
    scratch: str | os.PathLike[str] | None = None
    threads: int | None = None
