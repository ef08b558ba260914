"""What of a disk is in use: partition tables, file systems and their allocation maps.

In goes a block source; out comes a ``DiskSurvey``: the partition table, the volumes, and what of
each is free. A structure is trusted only where everything that it can be compared with agrees.
Where there is any doubt, the whole volume counts as in use and the result says why. Read
``survey.py`` first, then ``model.py``; ``filesystems`` and ``tables`` hold the parsers,
``preparing.py`` what is left out of an image, ``described.py`` what an image says of its volumes,
and ``restoring`` the way back.
"""
