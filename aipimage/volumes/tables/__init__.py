"""Partition tables: read from any block source, and rewritten for another disk.

``reading`` makes a :class:`~aipimage.volumes.tables.model.PartitionTable`; ``writing`` gives the
bytes that a restore writes over the copied ones. The records lie in ``mbr`` and ``gpt``.
"""
