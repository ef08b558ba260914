"""Change tracking for programs that see every write to a disk: a filter, a virtual disk, a proxy.

::

    tracker = ChangeTracker.create("vm.track", size=disk_size)
    tracker.mark(offset, length)              # for every write, from any thread
    with tracker.begin("nightly") as changed: # freezes; marks continue
        ...                                   # make the image from changed.changes()
        changed.commit(image_id)              # else everything counts again next time
    tracker.close()

docs/tracking.md has the rules that an embedder keeps, and what is trusted after a crash. Read
``tracker.py`` first; ``ledger.py`` knows which consumer has seen which marks, and ``store.py`` is
the file.
"""

from aipimage.io.changes.forms import ChangedBitmap, Changes, write_changes
from aipimage.tracking.tracker import DEFAULT_GRANULARITY, ChangeTracker, Generation

__all__ = [
    "DEFAULT_GRANULARITY",
    "ChangeTracker",
    "ChangedBitmap",
    "Changes",
    "Generation",
    "write_changes",
]
