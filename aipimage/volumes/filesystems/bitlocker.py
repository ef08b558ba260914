"""BitLocker: the content is encrypted.

Source: libbde, BitLocker Drive Encryption (BDE) format specification, 2 (volume header), for
Windows Vista, 7 and later, and To Go. Where only the used part is encrypted, nothing outside of the
encryption says which part that is.
"""

from __future__ import annotations

from aipimage.volumes.model import FileSystem, Parser
from aipimage.volumes.view import LayoutError, VolumeView

_OEM = slice(3, 11)
_SIGNATURE, _TO_GO = b"-FVE-FS-", b"MSWIN4.1"
# 4967d63b-2e29-4ad8-8399-f6a339e3d001, in the byte order of Windows.
_GUID = bytes.fromhex("3bd66749292ed84a8399f6a339e3d001")
_GUID_AT = slice(424, 440)


def probe(view: VolumeView) -> FileSystem | None:
    """The boot sector names it; that of To Go looks like one of FAT but for the GUID."""
    if view.size < 512:
        return None
    try:
        sector = view.read(0, 512)
    except LayoutError:
        return None
    to_go = sector[_OEM] == _TO_GO and sector[_GUID_AT] == _GUID
    if sector[_OEM] != _SIGNATURE and not to_go:
        return None
    return FileSystem("bitlocker", size=view.size)


PARSER = Parser("bitlocker", probe, whole_because="its content is encrypted")
