"""The log of XFS: its head and tail, its records, and the transactions in them.

In goes the log; out come its changes, in an overlay of the volume. Read ``replay.py`` first, then
``ring.py`` (where the log begins and ends), ``records.py``, ``transactions.py`` and ``items.py``.

"XFS Algorithms & Data Structures", section Journaling Log; what a mount does with it is as in
Linux.
"""
