"""From a volume of FAT or exFAT to its reader."""

from __future__ import annotations

import codecs

from aipimage.errors import OptionError
from aipimage.files.errors import layout_errors
from aipimage.files.fat.exfat import ExfatReader
from aipimage.files.fat.reader import FatReader
from aipimage.files.window import Window
from aipimage.volumes.filesystems.exfat import layout as exfat
from aipimage.volumes.filesystems.exfat.region import verify_layout
from aipimage.volumes.filesystems.fat import layout as fat
from aipimage.volumes.filesystems.fat.geometry import verified_geometry

_FAT_DIRTY = 0x01
_STATE_WARNING = "it was not unmounted: the last changes may be missing or half done"


def open_fat(window: Window, code_page: str) -> FatReader:
    """Return the reader of a volume.

    Raises:
        DamagedVolumeError: its boot sector cannot be believed. OptionError: there is no such code
            page.
    """
    try:
        codecs.lookup(code_page)
    except LookupError:
        raise OptionError(f"code_page={code_page!r} is not known; try cp437 or cp850") from None
    boot = fat.decode_boot_sector(window.structure(0, fat.BOOT_BYTES))
    with layout_errors():
        geometry = verified_geometry(boot, window.size)
    warnings = [_STATE_WARNING] if boot.state & _FAT_DIRTY else []
    return FatReader(window, boot, geometry, code_page, warnings)


def open_exfat(window: Window) -> ExfatReader:
    """Return the reader of a volume.

    Raises:
        DamagedVolumeError: its boot sector cannot be believed.
    """
    boot = exfat.decode_boot_sector(window.structure(0, exfat.BOOT_BYTES))
    with layout_errors():
        verify_layout(boot, window.size)
    warnings = [_STATE_WARNING] if boot.flags & exfat.FLAG_DIRTY else []
    return ExfatReader(window, boot, warnings)
