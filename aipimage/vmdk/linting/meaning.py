"""What a descriptor means: its type against its extents, the disk database, the geometry."""

from __future__ import annotations

import re
from collections.abc import Mapping

from aipimage.vmdk.descriptor import EXTENT_TYPES, NO_PARENT
from aipimage.vmdk.geometry import CYLINDERS_MAX
from aipimage.vmdk.linting.findings import CheckedFile
from aipimage.vmdk.linting.text import Described
from aipimage.vmdk.model import ADAPTERS

_SPLIT_SECTORS = 4_192_256
"""Sectors of an extent of a split disk at most: 2047 MiB (the note, "2GB sparse")."""
_FLATS = frozenset({"FLAT", "ZERO"})
_KINDS: Mapping[str, frozenset[str]] = {
    "monolithicsparse": frozenset({"SPARSE"}),
    "streamoptimized": frozenset({"SPARSE"}),
    "monolithicflat": frozenset({"FLAT"}),
    "twogbmaxextentsparse": frozenset({"SPARSE", "ZERO"}),
    "twogbmaxextentflat": _FLATS,
    "vmfs": frozenset({"VMFS", "ZERO"}),
    "vmfsthin": frozenset({"VMFS", "ZERO"}),
    "vmfspreallocated": frozenset({"VMFS", "ZERO"}),
    "vmfseagerzeroedthick": frozenset({"VMFS", "ZERO"}),
    "vmfssparse": frozenset({"VMFSSPARSE"}),
    "sesparse": frozenset({"SESPARSE"}),
    "custom": frozenset(EXTENT_TYPES),
}
"""``createType`` in small letters -> the types of extents that it may have."""
_NAMES = frozenset({
    "monolithicSparse", "streamOptimized", "monolithicFlat", "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat", "vmfs", "vmfsThin", "vmfsPreallocated", "vmfsEagerZeroedThick",
    "vmfsSparse", "seSparse", "custom",
})  # fmt: skip
_SINGLE = frozenset({"monolithicsparse", "streamoptimized", "monolithicflat"})
_DEVICES = frozenset(
    {
        "fulldevice",
        "partitioneddevice",
        "vmfsraw",
        "vmfsrdm",
        "vmfsrdmp",
        "vmfsrawdevicemap",
        "vmfspassthroughrawdevicemap",
    }
)
_NUMBERS = ("ddb.virtualhwversion", "ddb.toolsversion")
_SPLIT_NAME = re.compile(r"(.*)-([sf])(\d{3,6})(\.vmdk)", re.IGNORECASE)


def check_meaning(checked: CheckedFile, found: Described, base: int) -> None:
    """Check what can be said without the files of the extents."""
    _check_type(checked, found, base)
    for line, at in found.lines:
        if line.kind not in EXTENT_TYPES:
            checked.add("extent-type", f"an extent of unknown type {line.kind!r}", at)
        if not line.sectors:
            checked.add("extent-empty", "an extent of no sectors", at)
        if line.access == "NOACCESS":
            checked.add("extent-noaccess", "an extent marked NOACCESS: readers refuse it", at)
        if line.kind == "FLAT" and line.offset is None:
            checked.add("extent-offset-missing", "a FLAT extent without an offset", at)
        if line.kind == "VMFS" and line.offset is not None:
            checked.add("extent-offset-unwanted", "a VMFS extent with an offset", at)
        if not line.name and line.kind != "ZERO":
            checked.add("extent-name-missing", f"a {line.kind} extent without a file", at)
    if found.create_type.lower().startswith("twogb"):
        _check_split(checked, found)
    _check_content_id(checked, found)
    _check_adapter(checked, found, base)
    _check_geometry(checked, found, base)
    for key in _NUMBERS:
        value = found.settings.get(key, "0")
        if not re.fullmatch("[0-9]{1,10}", value):
            checked.add("ddb-value", f"{key} is not a number: {value[:20]!r}", found.places[key])


def is_device(found: Described) -> bool:
    """Whether the extents are devices, by ``createType``."""
    return found.create_type.lower() in _DEVICES


def _check_type(checked: CheckedFile, found: Described, base: int) -> None:
    name = found.create_type
    at = found.places.get("createtype", base)
    if not found.lines:
        checked.add("extents-none", "the descriptor names no extent", base)
    if not name:
        checked.add("create-type-missing", "the descriptor has no createType", base)
        return
    if is_device(found):
        checked.add("create-type-device", f"a disk of type {name} is a device: not looked at", at)
        return
    if name not in _NAMES and name.lower() in _KINDS:
        checked.add("letter-case", f"createType {name} is written in other letters", at)
    kinds = _KINDS.get(name.lower())
    if kinds is None:
        checked.add("create-type-unknown", f"createType {name[:40]!r} is unknown", at)
        return
    wrong = [line.kind for line, _ in found.lines if line.kind not in kinds]
    if wrong and all(kind in EXTENT_TYPES for kind in wrong):
        checked.add("create-type-extents", f"a disk of type {name} with a {wrong[0]} extent", at)
    if name.lower() in _SINGLE and len(found.lines) > 1:
        count = len(found.lines)
        checked.add("create-type-extents", f"a disk of type {name} with {count} extents", at)


def _check_split(checked: CheckedFile, found: Described) -> None:
    stem = None
    for number, (line, at) in enumerate(found.lines, 1):
        if line.sectors > _SPLIT_SECTORS:
            checked.add("split-size", f"an extent of {line.sectors} sectors, over 2047 MiB", at)
        if line.kind == "ZERO" or not line.name:
            continue
        match = _SPLIT_NAME.fullmatch(line.name)
        stem = stem or (match and match[1])
        if match is None or int(match[3]) != number or match[1] != stem:
            checked.add("split-numbering", f"extent {number} is called {line.name[:80]!r}", at)


def _check_content_id(checked: CheckedFile, found: Described) -> None:
    """VMware's own tools leave CID at zero, and fill longContentID, until a disk is written to."""
    value = found.settings.get("ddb.longcontentid")
    if value is None or found.cid is None or found.cid == 0:
        return
    if not re.fullmatch("[0-9a-fA-F]{32}", value) or int(value[-8:], 16) != found.cid:
        checked.add(
            "long-content-id",
            f"longContentID does not end with the CID {found.cid:08x}",
            found.places["ddb.longcontentid"],
        )


def _check_adapter(checked: CheckedFile, found: Described, base: int) -> None:
    name = found.settings.get("ddb.adaptertype")
    at = found.places.get("ddb.adaptertype", base)
    if name is None:
        # A delta of ESX leaves the disk database to its parent.
        if found.parent_cid == NO_PARENT:
            checked.add("adapter-missing", "no ddb.adapterType", base)
    elif name.lower() == "pvscsi":
        checked.add("adapter-pvscsi", "adapterType pvscsi breaks imports; write lsilogic", at)
    elif name.lower() not in (*ADAPTERS, "legacyesx"):
        checked.add("adapter-unknown", f"adapterType {name[:40]!r} is none of the note's", at)


def _check_geometry(checked: CheckedFile, found: Described, base: int) -> None:
    names = [f"ddb.geometry.{part}" for part in ("cylinders", "heads", "sectors")]
    values = [found.settings.get(name) for name in names]
    if any(value is None for value in values):
        if found.parent_cid == NO_PARENT or any(values):
            checked.add("geometry-missing", "no geometry, or not all of its three numbers", base)
        return
    at = found.places[names[0]]
    if not all(value and re.fullmatch("[0-9]{1,10}", value) for value in values):
        checked.add("geometry-invalid", "a number of the geometry is none", at)
        return
    cylinders, heads, sectors = (int(value or 0) for value in values)
    shown = f"{cylinders}/{heads}/{sectors}"
    track = heads * sectors
    # Disks smaller than a cylinder: some writers say 0 cylinders, others 1.
    if (
        not 1 <= heads <= 255
        or not 1 <= sectors <= 63
        or (not cylinders and track <= found.sectors)
    ):
        checked.add("geometry-invalid", f"a geometry of {shown}", at)
    elif cylinders > 1 and found.lines and cylinders * track > found.sectors:
        checked.add("geometry-too-large", f"{shown} are more than {found.sectors} sectors", at)
    elif cylinders > CYLINDERS_MAX:
        checked.add("geometry-cylinders", f"{cylinders} cylinders; a reader may take 65535", at)
    elif cylinders < min(found.sectors // track, 16383):
        checked.add("geometry-differs", f"{shown} do not reach the end of the disk", at)
