"""Directories and files inside volumes, read-only: of any image, virtual disk, raw disk or device.

::

    from aipimage import files

    with files.open("disk.aiv", volume=2) as volume:
        for entry in volume.walk("/etc"):
            print(entry.path, entry.size)
        text = volume.open("/etc/fstab").read()

What comes out is exactly what the volume holds, or an error that names the cause: never zeros in
place of what is not known. Read ``opening.py`` first, then ``volume.py`` for what is asked of a
volume and ``model.py`` for what the reader of a file system has to do.
"""

from aipimage.files.entry import Entry
from aipimage.files.errors import DamagedVolumeError, NoFileError, UnreadableFileError
from aipimage.files.fileobject import FileExtent, FileObject
from aipimage.files.model import Stream, Time
from aipimage.files.opening import READABLE, FilesSource
from aipimage.files.opening import open_files as open
from aipimage.files.volume import FileLike, Files

__all__ = [
    "READABLE", "DamagedVolumeError", "Entry", "FileExtent", "FileLike", "FileObject", "Files",
    "FilesSource", "NoFileError", "Stream", "Time", "UnreadableFileError", "open",
]  # fmt: skip
