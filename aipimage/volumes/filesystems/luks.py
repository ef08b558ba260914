"""LUKS, versions 1 and 2: the content is encrypted.

Source: LUKS1 On-Disk Format Specification 1.2.3, 2.1 (phdr); LUKS2 On-Disk Format Specification
1.1.1, 2.1 (binary header) and 2.2 (places of the secondary header).
"""

from __future__ import annotations

from aipimage.volumes.model import FileSystem, Parser
from aipimage.volumes.view import LayoutError, VolumeView

_MAGIC, _SECONDARY_MAGIC = b"LUKS\xba\xbe", b"SKUL\xba\xbe"
_HEADER = 512
_LABEL, _UUID = slice(24, 72), slice(168, 208)
_SECONDARY_AT = tuple(1 << shift for shift in range(14, 23))


def probe(view: VolumeView) -> FileSystem | None:
    """A header at the start; of version 2 also the second one, where the first was overwritten."""
    for at in (0, *_SECONDARY_AT):
        if at + _HEADER > view.size:
            break
        try:
            header = view.read(at, _HEADER)
        except LayoutError:
            continue
        version = int.from_bytes(header[6:8], "big")
        wanted = {1, 2} if at == 0 else {2}
        if header[:6] == (_SECONDARY_MAGIC if at else _MAGIC) and version in wanted:
            label = _text(header[_LABEL]) if version == 2 else ""
            return FileSystem("luks", label=label, uuid=_text(header[_UUID]), size=view.size)
    return None


def _text(field: bytes) -> str:
    return field.split(b"\0")[0].decode("utf-8", "replace")


PARSER = Parser("luks", probe, whole_because="its content is encrypted")
