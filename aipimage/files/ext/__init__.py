"""Files of ext2, ext3 and ext4: read ``opening.py`` first, then ``reader.py``.

On what :mod:`aipimage.volumes.filesystems.ext` knows of superblock, groups and journal. Every
structure that has a checksum is verified, and each number passes a check before it leads anywhere.
"""
