"""The origins that an image names, by number, as they become known (docs/format.md, section 7.1).

No file lists all of them: pages of the map say what they lead to. The reader of one reports it
here, and numbers stand for ids in arrays of extents.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from aipimage.errors import FormatError, LimitError
from aipimage.format import constants as c
from aipimage.format.origins import OriginEntry, encode_name
from aipimage.format.record import NO_REFERENCE, Reference

Column = npt.NDArray[np.uint16]
Hint = Callable[[bytes, str], object]


class Origins(Mapping[bytes, int]):
    """Id to number, in the order in which the origins became known; safe for threads.

    Args:
        entries: that are known from the beginning, of a seal.
        hint: called with (origin, name) for every file name that an entry has.
    """

    def __init__(self, entries: Iterable[OriginEntry] = (), hint: Hint | None = None) -> None:
        self._entries: list[OriginEntry] = []
        self._numbers: dict[bytes, int] = {}
        self._runs: dict[bytes, list[OriginEntry]] = {}
        self._hint, self._lock = hint, threading.Lock()
        self.learn(entries)

    def __getitem__(self, origin: bytes) -> int:
        return self._numbers[origin]

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[bytes]:
        return iter(list(self._numbers))

    def learn(self, entries: Iterable[OriginEntry]) -> None:
        """Add the entries of a page or a seal.

        Raises:
            FormatError: an entry differs from an earlier one of its origin. LimitError: there are
                more than numbers.
        """
        for entry in entries:
            known = self.known(entry.origin)
            if known is None:
                known = self._add(entry)
            if known.sealed != entry.sealed:
                raise FormatError(
                    f"origin {entry.origin.hex()} has two entries in the image that differ"
                )
            if self._hint is not None and entry.name:
                self._hint(entry.origin, entry.file_name)
                self._hint(entry.table_root.origin, entry.file_name)

    def _add(self, entry: OriginEntry) -> OriginEntry:
        with self._lock:
            if entry.origin not in self._numbers:
                if len(self._entries) >= c.NAMED_MAX:
                    raise LimitError(f"the image names over {c.NAMED_MAX} origins")
                self._entries.append(entry)
                self._runs.setdefault(entry.holder, []).append(entry)
                # Last, because it is looked up without the lock.
                self._numbers[entry.origin] = len(self._entries) - 1
            return self._entries[self._numbers[entry.origin]]

    def known(self, origin: bytes) -> OriginEntry | None:
        """The entry of an origin, ``None`` where it is not known yet."""
        number = self._numbers.get(origin)
        return None if number is None else self._entries[number]

    def entry(self, number: int) -> OriginEntry:
        """The entry of a number."""
        return self._entries[number]

    def entries(self) -> list[OriginEntry]:
        """All that are known by now."""
        return list(self._entries)

    def runs_of(self, origin: bytes) -> tuple[OriginEntry, ...]:
        """All known runs of the image that an origin is a run of."""
        entry = self.known(origin)
        return tuple(self._runs.get(entry.holder, ())) if entry is not None else ()


class Renumbering:
    """Numbers of one image's origins as others; the origins may become more meanwhile.

    Args:
        number: returns the new number of an origin.
    """

    def __init__(self, origins: Origins, number: Callable[[bytes], int]) -> None:
        self._origins, self._number = origins, number
        self._table = np.empty(0, np.uint16)

    def __call__(self, column: Column) -> Column:
        """Return the column ``origin`` of some extents of data in the new numbers."""
        if len(column) and int(column.max()) >= len(self._table):
            entries = self._origins.entries()[len(self._table) :]
            more = np.array([self._number(each.origin) for each in entries], np.uint16)
            self._table = np.concatenate([self._table, more])
        found: Column = self._table[column]
        return found


class NamedOrigins:
    """What extents of an image that is being written name by number: its own runs, then others.

    Attributes:
        image_id: of the image, which is its last run, and number 0.
    """

    def __init__(self, image_id: bytes) -> None:
        self.image_id = image_id
        self._own = [image_id]
        self._others = Origins()
        self._name_of: Callable[[OriginEntry], str] = lambda entry: entry.file_name

    def add_run(self, origin: bytes) -> None:
        """Add an earlier run of the image, before :meth:`inherit`."""
        self._own.append(origin)

    def inherit(self, others: Origins, name_of: Callable[[OriginEntry], str]) -> None:
        """Let the origins of the parent be named; ``name_of`` returns the file that has one now."""
        self._others, self._name_of = others, name_of

    def number(self, origin: bytes) -> int:
        """The number of an own run, or of an origin that the parent is known to name.

        Raises:
            LimitError: there are more than numbers.
        """
        if origin in self._own:
            return self._own.index(origin)
        number = len(self._own) + self._others[origin]
        if number >= c.NAMED_MAX:
            raise LimitError(f"the new image would name over {c.NAMED_MAX} origins")
        return number

    def id_of(self, number: int) -> bytes:
        """The origin of a number."""
        own = len(self._own)
        return self._own[number] if number < own else self._others.entry(number - own).origin

    def listed(
        self, named: Iterable[bytes], referred: Iterable[Reference]
    ) -> tuple[OriginEntry, ...]:
        """The entries of a page of this image, ascending (section 7.1).

        Args:
            named: origins of its data. referred: the references to the pages below it.
        """
        found = {entry.origin: entry for entry in self.reached_from(referred)}
        for origin in named:
            if origin not in self._own:
                found[origin] = self._others.entry(self._others[origin])
        return tuple(self._named(found[origin]) for origin in sorted(found))

    def reached_from(self, references: Iterable[Reference]) -> Sequence[OriginEntry]:
        """All runs of each other image whose records some references lead to."""
        found: dict[bytes, OriginEntry] = {}
        for ref in references:
            if ref == NO_REFERENCE or ref.origin in self._own or ref.origin in found:
                continue
            runs = self._others.runs_of(ref.origin)
            if not runs:
                raise FormatError(
                    f"the parent refers to origin {ref.origin.hex()}, and lists no entry of it"
                )
            found |= {entry.origin: self._named(entry) for entry in runs}
        return list(found.values())

    def _named(self, entry: OriginEntry) -> OriginEntry:
        return entry._replace(name=encode_name(self._name_of(entry)))
