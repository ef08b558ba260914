"""Whether a file that cannot be opened is a damaged image, or none at all."""

from __future__ import annotations

import os
import re

from aipimage import FormatError, IntegrityError, UnsupportedError


def looks_like_image(path: str) -> bool:
    """See :func:`aipimage.io.blocks.marks.looks_like_image`, which is loaded by this call: a help
    page needs no library.
    """
    from aipimage.io.blocks import marks

    return marks.looks_like_image(path)


def is_damage(path: str, error: Exception) -> bool:
    """Whether an error is about damage to an image, not about a request or a newer format."""
    if isinstance(error, UnsupportedError) or not isinstance(error, (FormatError, IntegrityError)):
        return False
    return looks_like_image(path)


def first_file(path: str) -> str:
    """Return ``path``, or where it is not there but parts of it are, the first of these.

    The library then says which parts are missing, instead of that there is no such file.
    """
    if os.path.lexists(path):
        return path
    directory, base = os.path.split(path)
    part = re.compile(re.escape(base) + r"\.\d{3,5}")
    try:
        parts = sorted(name for name in os.listdir(directory or ".") if part.fullmatch(name))
    except OSError:
        return path
    found = [os.path.join(directory, name) for name in parts]
    return next((name for name in found if looks_like_image(name)), path)
