"""Whether a source may change while it is read: then no journal says what it will be."""

from __future__ import annotations

from aipimage.errors import AipImageError
from aipimage.io.blocks.sources import BlockSource
from aipimage.io.system.mounts import SystemUse
from aipimage.io.system.storage import DEFAULT, Storage


def why_changing(source: BlockSource, storage: Storage = DEFAULT) -> str | None:
    """Say what may write to a device or file now, such as a mount; ``None`` where nothing is known
    to. Only Linux tells; what a machine somewhere else does cannot be seen.
    """
    try:
        kind = source.fingerprint().get("kind")
        if kind not in ("device", "file"):
            return None
        info = storage.stat(source.name)
        uses = SystemUse(storage)
        if info.is_block_device:
            return uses.of_device(info.device_number)
        return uses.of_file(info.device, info.inode)
    except AipImageError:
        return "whether it is mounted cannot be found out"
