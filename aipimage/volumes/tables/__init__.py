"""Partition tables: read from any block source, and rewritten for another disk.

In goes a block source; ``reading.py`` makes a ``PartitionTable`` of it (``model.py``).
``writing.py`` returns what a restore writes over the copied bytes where partitions moved or the
disk has another size. Read these three first; ``mbr.py`` and ``gpt.py`` have the records.
"""
