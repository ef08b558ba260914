"""Restoring disks and volumes of images: to targets of another size, with new ids, boot code alone.

In go an image, a target and options; out comes a ``RestoreResult``. Read ``disk.py`` and
``volume.py`` first, which have the two public functions. ``adapted.py`` restores a disk to another
size: ``planning.py`` and ``fitting.py`` say where partitions go, ``limits.py`` how small they can
become, ``shrinking.py`` makes them so, ``writes.py`` says what is written, and ``expanding.py``
lets a file system grow. Restoring to the same size is ``io/reading/restore.py``.
"""
