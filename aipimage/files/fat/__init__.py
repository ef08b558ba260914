"""Files of FAT12, FAT16, FAT32 and exFAT: ``reader.py`` for FAT, ``exfat.py`` for exFAT.

On what :mod:`aipimage.volumes.filesystems.fat` and ``exfat`` know of boot sectors. ``chains.py``
follows their tables, ``names.py`` and ``sets.py`` decode directory entries, ``times.py`` their
times.
"""
