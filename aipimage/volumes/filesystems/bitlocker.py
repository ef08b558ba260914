"""BitLocker: the content is encrypted.

Source of the signatures: libbde, BitLocker Drive Encryption (BDE) format (volume header), for
Windows Vista, 7 and later, and To Go. Where only the used part is encrypted, nothing outside of the
encryption says which part that is.
"""

from __future__ import annotations

from aipimage.volumes.model import FileSystem, Parser
from aipimage.volumes.view import LayoutError, VolumeView

_BOOT_BYTES = 512
_OEM = slice(3, 11)
_SIGNATURE = b"-FVE-FS-"
# 4967d63b-2e29-4ad8-8399-f6a339e3d001, and 92a84d3b-dd80-4d0e-9e4e-b1e3284eaed8 of a volume of
# which the used part alone is encrypted; in the byte order of Windows.
_IDENTIFIERS = (
    bytes.fromhex("3bd66749292ed84a8399f6a339e3d001"),
    bytes.fromhex("3b4da89280dd0e4d9e4eb1e3284eaed8"),
)
_IDENTIFIER_PLACES = (slice(424, 440), slice(160, 176))
"""To Go has it after the fields of FAT32, other volumes before their boot code."""


def is_bitlocker(sector: bytes) -> bool:
    """Whether a boot sector of 512 bytes is that of an encrypted volume. That of To Go looks like
    one of FAT but for the identifier.
    """
    if sector[_OEM] == _SIGNATURE:
        return True
    return any(sector[place] in _IDENTIFIERS for place in _IDENTIFIER_PLACES)


def probe(view: VolumeView) -> FileSystem | None:
    """The boot sector says so, by its name or an identifier."""
    if view.size < _BOOT_BYTES:
        return None
    try:
        sector = view.read(0, _BOOT_BYTES)
    except LayoutError:
        return None
    return FileSystem("bitlocker", size=view.size) if is_bitlocker(sector) else None


PARSER = Parser("bitlocker", probe, whole_because="its content is encrypted")
