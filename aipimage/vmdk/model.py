"""What the parts of this package say to each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from aipimage.vmdk.pieces import PieceArray

SUBFORMATS = (
    "monolithicSparse",
    "monolithicFlat",
    "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat",
    "streamOptimized",
    "vmfs",
)
"""What is written; names of ``createType``."""
ADAPTERS = ("lsilogic", "buslogic", "ide")
"""``ddb.adapterType`` that importers accept (pvscsi breaks imports)."""


class ExtentReader(Protocol):
    """One extent of a virtual disk: a fixed number of bytes, read anywhere by any thread.

    Attributes:
        name: its file, for messages. size: bytes.
        warnings: what is not as it should be, and does not matter for reading.
    """

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def warnings(self) -> Sequence[str]: ...

    def pieces(self, start: int, end: int) -> Iterator[PieceArray]:
        """Yield what is where in [start, end), in arrays of bounded size, neighbours joined."""
        ...

    def read_data(self, view: memoryview, offset: int) -> None:
        """Fill ``view`` from ``offset``, a range that ``pieces`` calls ``DATA``; thread-safe.

        Raises:
            FormatError: damaged. SourceError, UnreadableRangeError: the file cannot be read.
        """
        ...

    def close(self) -> None:
        """Give its file up; a second call does nothing."""
        ...
