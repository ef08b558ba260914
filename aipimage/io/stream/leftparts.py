"""Names of parts, and parts of an unfinished image that already have their final names.

Part 1 gets its name last (docs/format.md, section 12). So as long as it is called ``NAME.partial``,
whatever parts of its set have their names belong to the same unfinished image: they are called
``….partial`` again before it is resumed, or removed before it is begun anew.
"""

from __future__ import annotations

from aipimage.errors import AipImageError
from aipimage.format import constants as c
from aipimage.format.parts import decode_part_header
from aipimage.io.system.storage import File, Storage

PARTIAL = ".partial"


def part_path(path: str, number: int) -> str:
    """The name of a part: ``path`` itself, then ``path.002`` and so on."""
    return path if number == 1 else f"{path}.{number:03d}"


def take_back_names(storage: Storage, path: str, first: File) -> None:
    """Call the parts of an unfinished set ``….partial`` again.

    Args:
        path: the final name of part 1. first: its partial file, which the caller has locked.

    Raises:
        TargetError: a part is not ours (:meth:`Storage.open_left`). StorageError: it stays named.
    """
    set_id, number = set_of(first, 1), 2
    while set_id is not None:
        final = part_path(path, number)
        if not storage.exists(final + PARTIAL):
            if not _is_part(storage, final, set_id, number):
                return
            storage.rename(final, final + PARTIAL)
        number += 1


def remove_left_parts(storage: Storage, path: str) -> None:
    """Remove what an unfinished set left but part 1, by which the set is known until then.

    Raises:
        TargetError: another process is writing it, or it is not ours. StorageError: it cannot be
            removed.
    """
    first = storage.open_left(path + PARTIAL)
    if first is None:
        return
    with first:
        first.lock()
        take_back_names(storage, path, first)
        set_id, names = set_of(first, 1), list[str]()
        while set_id is not None:
            name = part_path(path, len(names) + 2) + PARTIAL
            if not _is_part(storage, name, set_id, len(names) + 2, or_nothing=True):
                break
            names.append(name)
        # The last one first: what is left after an interruption is then found again.
        for name in reversed(names):
            storage.remove_left(name)


def _is_part(
    storage: Storage, name: str, set_id: bytes, number: int, or_nothing: bool = False
) -> bool:
    """Whether a file is that part of a set.

    Args:
        or_nothing: a file without a header counts as well, as a power cut leaves it.
    """
    if not storage.exists(name):
        return False
    file = storage.open_left(name)
    if file is None:
        return False
    with file:
        if or_nothing and not file.pread(c.PART_RECORD, 0).strip(b"\0"):
            return True
        return set_of(file, number) == set_id


def set_of(file: File, number: int) -> bytes | None:
    """The set that a file is part ``number`` of; ``None`` where its header does not say so."""
    try:
        header = decode_part_header(file.pread(c.PART_RECORD, 0))
    except AipImageError:
        return None
    return header.set_id if header.number == number else None
