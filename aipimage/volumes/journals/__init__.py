"""Journals of file systems in use, read without writing anything.

A volume that is imaged while it runs, or that was cut off, has changes in its journal that are not
at their places yet. Here such a journal is read, and shown is what the volume will be once its own
driver has replayed it: an overlay of blocks (``overlay.py``). The volume itself stays as it is.
Anything that a driver might read in another way is a ``LayoutError``: then the volume is taken
whole (docs/volumes.md, "Volumes in use"). Read ``jbd2/scan.py`` or ``xfslog/replay.py`` first; the
``inuse.py`` of each file system makes a map of what comes out.
"""
