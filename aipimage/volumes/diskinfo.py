"""A disk that was looked at, as it is shown to a user."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aipimage.io.blocks.containers import container_warning
from aipimage.io.blocks.sources import BlockSource
from aipimage.volumes.described import VolumeInfo, volume_info

if TYPE_CHECKING:
    from aipimage.volumes.model import Volume
    from aipimage.volumes.survey import DiskSurvey


@dataclass(frozen=True, slots=True)
class DiskInfo:
    """A disk, or a volume without a table, that was looked at.

    Attributes:
        name: path. size, sector_size: bytes.
        scheme: of its partition table: ``"gpt"``, ``"mbr"`` or ``"none"``.
        signature: of the MBR, eight hexadecimal digits. disk_guid: of a GPT.
        volumes: by number; :attr:`VolumeInfo.device` is 0.
        warnings: sentences: what of it cannot be trusted.
    """

    name: str
    size: int
    sector_size: int
    scheme: str
    signature: str
    disk_guid: str
    volumes: tuple[VolumeInfo, ...]
    warnings: tuple[str, ...]


def disk_info(source: BlockSource) -> DiskInfo:
    """Look at a source; the public form is :func:`aipimage.survey`."""
    from aipimage.volumes.survey import survey

    found = survey(source)
    table = found.table
    volumes = tuple(volume_info(0, volume) for volume in found.volumes)
    return DiskInfo(
        found.name,
        found.size,
        found.sector_size,
        table.scheme,
        table.signature,
        table.disk_guid,
        volumes,
        tuple(survey_warnings(source, found)),
    )


def survey_warnings(
    source: BlockSource, found: DiskSurvey, chosen: Sequence[int] | None = None
) -> list[str]:
    """What a user should know of a disk that was looked at: that it may not be a raw disk, tables
    that are damaged, and volumes taken whole because something about them is not certain.

    Args:
        chosen: numbers of the volumes that are imaged; ``None``: all.
    """
    container = container_warning(source)
    texts = [] if container is None else [container]
    texts += [f"{found.name}: {text}" for text in found.table.warnings]
    if found.table.doubt is not None:
        texts.append(f"{found.name}: all of it was taken: {found.table.doubt}")
    for each in found.volumes:
        if chosen is None or each.number in chosen:
            texts += _volume_warnings(found, each)
        elif not found.may_leave_out(each.number):
            texts.append(
                f"{found.name}: volume {each.number} was not left out: {each.whole_because}"
            )
    return texts


def _volume_warnings(found: DiskSurvey, volume: Volume) -> Iterator[str]:
    from aipimage.volumes.filesystems.registry import parsers

    expected = {parser.whole_because for parser in parsers()}
    partition, why = found.table.partition(volume.number), volume.whole_because
    is_doubtful = partition is not None and partition.doubt is not None
    where = f"{found.name}: volume {volume.number}" if volume.number else found.name
    kind = f" ({volume.filesystem.kind})" if volume.filesystem is not None else ""
    if why is not None and why not in expected and (kind or is_doubtful):
        yield f"{where}{kind} was taken whole: {why}"
    if volume.allocation.left_out:
        yield f"{where}: without the content of {', '.join(volume.allocation.left_out)}"
