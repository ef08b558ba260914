"""The keys of a chain by a password of any of its images (docs/format.md, section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence

from aipimage.errors import AipImageError, PasswordError
from aipimage.format.keyarea import Slot
from aipimage.io.reading.image import open_reader
from aipimage.io.reading.members import Candidate, MemberFiles
from aipimage.io.records.keys import ChainKeys
from aipimage.io.stream.instream import open_stream
from aipimage.io.stream.opening import read_header, read_key_area

_TRIED_MAX = 16
"""Key areas that differ and are tried: deriving a key takes a tenth of a second on purpose."""


def chain_keys(
    files: MemberFiles, candidates: Sequence[Candidate], password: str | None
) -> ChainKeys | None:
    """Return the keys that all images of a chain share, from the first of ``candidates`` that
    ``password`` opens; ``None`` for a plain chain.

    The passwords of one image may have been changed and those of others not, so that each key area
    that differs from those before is tried.

    Raises:
        PasswordError: none is opened by it. And what opening raises where no image can be opened.
    """
    refused: PasswordError | None = None
    damaged: AipImageError | None = None
    tried: set[tuple[Slot | None, ...]] = set()
    for candidate in candidates:
        try:
            slots = _slots(files, candidate)
            if slots in tried or len(tried) >= _TRIED_MAX:
                continue
            with open_reader(candidate.path, password, files=files, storage=files.storage) as image:
                return image.keys
        except PasswordError as error:
            refused = refused or error
            tried.add(slots)
        except AipImageError as error:
            damaged = damaged or error
    raise refused or damaged or RuntimeError("internal error: a chain without images")


def _slots(files: MemberFiles, candidate: Candidate) -> tuple[Slot | None, ...]:
    with open_stream(files.storage, candidate.path) as stream:
        header = read_header(stream)
        return read_key_area(stream, header)[0].slots if header.suite else ()
