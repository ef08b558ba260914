"""Make the vectors anew: ``python -m tests.vectors.build_vectors DIRECTORY``.

Each vector is an archive and a header beside it (README.md). The frozen files are never made again
for a version of the format that was released; a new version gets new vectors.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tests.vectors.chains import chains
from tests.vectors.damaged import damaged
from tests.vectors.forged import forged
from tests.vectors.good import good
from tests.vectors.kit import Vector


def vectors() -> Iterator[Vector]:
    """All that the readable writer makes."""
    yield from good()
    yield from forged()
    yield from damaged()
    yield from chains()


def build(directory: Path) -> None:
    """Write all of them."""
    directory.mkdir(parents=True, exist_ok=True)
    for vector in vectors():
        vector.write(directory)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
