"""What ``ntfsrecover`` of ntfs-3g makes of a journal: a listing of its records."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from aipimage.volumes.journals.ntfslog import layout
from aipimage.volumes.journals.ntfslog.operations import decode_change
from aipimage.volumes.journals.ntfslog.records import Record
from tests.support.tools import run

_FIELD = re.compile(r"^(\w+) +([0-9a-f]{4,16})(?: |$)")
_LCN = re.compile(r"^  \(\d+ offs 0x[0-9a-f]+\) lcn +([0-9a-f]{16})")
_NAMES = {
    "this_lsn": "lsn", "client_previous_lsn": "previous", "client_undo_next_lsn": "undo_next",
    "client_data_length": "length", "record_type": "kind", "transaction_id": "transaction",
    "log_record_flags": "flags", "redo_operation": "redo", "undo_operation": "undo",
    "redo_length": "redo_size", "undo_length": "undo_size", "target_attribute": "target",
    "record_offset": "record_at", "attribute_offset": "attribute_at",
    "cluster_index": "cluster_at", "target_vcn": "vcn",
}  # fmt: skip


class Listed(NamedTuple):
    """A record as it is listed."""

    fields: dict[str, int]
    clusters: tuple[int, ...]

    def only(self, other: Listed) -> Listed:
        """The same without fields that another one has not, such as those of a checkpoint."""
        fields = {name: self.fields.get(name, -1) for name in other.fields}
        return Listed(fields, self.clusters if "redo" in other.fields else ())


def listed(volume: Path) -> dict[int, Listed]:
    """The records by their LSN, with those of former turns; those listed twice must agree."""
    text = run(["ntfsrecover", "-k", "-f", "-v", "-n", volume], codes=(0, 1))
    found: dict[int, Listed] = {}
    fields: dict[str, int] = {}
    clusters: list[int] = []
    for line in [*text.splitlines(), "this_lsn               0"]:
        if line.startswith("this_lsn"):
            if fields:
                found[fields["lsn"]] = Listed(fields, tuple(clusters))
            fields, clusters = {}, []
        if (match := _FIELD.match(line)) and match[1] in _NAMES:
            fields.setdefault(_NAMES[match[1]], int(match[2], 16))
        elif match := _LCN.match(line):
            clusters.append(int(match[1], 16))
    return found


def told(record: Record) -> Listed:
    """The same of a record that we have read."""
    fields = {
        "lsn": record.lsn, "previous": record.previous, "undo_next": record.undo_next,
        "length": len(record.data), "kind": record.kind, "transaction": record.transaction,
        "flags": record.flags,
    }  # fmt: skip
    if record.kind != layout.OF_CLIENT:
        return Listed(fields, ())
    change = decode_change(record)
    sizes = layout.CHANGE.unpack_from(record.data)
    fields |= {
        "redo": change.redo, "undo": change.undo, "redo_size": sizes[3], "undo_size": sizes[5],
        "target": change.target, "record_at": change.record_at,
        "attribute_at": change.attribute_at, "cluster_at": change.cluster_at // 512,
        "vcn": change.vcn,
    }  # fmt: skip
    return Listed(fields, change.clusters)
