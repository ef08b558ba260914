"""LUKS, versions 1 and 2: the content is encrypted.

Source: LUKS1 On-Disk Format Specification 1.2.3, 2.1 (phdr); LUKS2 On-Disk Format Specification
1.1.1, 2.1 (binary header). The second header of version 2 is not looked for: it outlives what is
made over the first one, and where both matter the volume is taken whole in any case.
"""

from __future__ import annotations

from aipimage.volumes.model import FileSystem, Parser
from aipimage.volumes.view import LayoutError, VolumeView

_MAGIC = b"LUKS\xba\xbe"
_HEADER = 512
_LABEL, _UUID = slice(24, 72), slice(168, 208)


def probe(view: VolumeView) -> FileSystem | None:
    """A header at the start, of either version."""
    if view.size < _HEADER:
        return None
    try:
        header = view.read(0, _HEADER)
    except LayoutError:
        return None
    version = int.from_bytes(header[6:8], "big")
    if header[:6] != _MAGIC or version not in (1, 2):
        return None
    label = _text(header[_LABEL]) if version == 2 else ""
    return FileSystem("luks", label=label, uuid=_text(header[_UUID]), size=view.size)


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode("utf-8", "replace")


PARSER = Parser("luks", probe, whole_because="its content is encrypted")
