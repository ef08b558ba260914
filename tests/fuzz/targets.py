"""A fuzz target per decoder: ``fuzz_<name>(data)`` swallows ``AipImageError`` and nothing else.

Those of the image format are here, those of disks and volumes beside their tests. Each of these
decodes ``data`` twice: as it is, and with the digests recomputed, so that the checks
behind the digests are reached. What is accepted must encode to the bytes that were decoded.
"""

from __future__ import annotations

from collections.abc import Callable

from aipimage.errors import AipImageError
from aipimage.format.keyarea import KeyArea, decode_key_area, encode_key_area
from tests.files import fuzz as fuzzing_files
from tests.format import samples
from tests.format.structures import BY_NAME, Structure, sealed_by_digest
from tests.vmdk.guest import fuzz as fuzzing_guest
from tests.vmdk.ovf import fuzz as fuzzing_ovf
from tests.vmdk.reading import fuzz as fuzzing_vmdk
from tests.volumes.btrfs import fuzz as fuzzing_btrfs
from tests.volumes.containers import fuzz as fuzzing_containers
from tests.volumes.exfat import fuzz as fuzzing_exfat
from tests.volumes.ext import fuzz as fuzzing_ext
from tests.volumes.fat import fuzz as fuzzing_fat
from tests.volumes.journals import fuzz as fuzzing_journals
from tests.volumes.journals.ntfslog import fuzz as fuzzing_ntfslog
from tests.volumes.ntfs import fuzz as fuzzing_ntfs
from tests.volumes.shadowcopies import fuzz as fuzzing_shadowcopies
from tests.volumes.tables import fuzz as fuzzing_tables
from tests.volumes.xfs import fuzz as fuzzing_xfs

Target = Callable[[bytes], None]


def drive(structure: Structure, data: bytes) -> None:
    """Decode raw and repaired bytes; a misread value is an assertion."""
    for attempt in {data, structure.repair(data)}:
        try:
            value = structure.decode(attempt)
        except AipImageError:
            continue
        again = structure.reencode(value, attempt)
        if again != attempt[: len(again)] or structure.reencode(value, attempt) != again:
            raise AssertionError(f"{structure.name}: what was decoded encodes to other bytes")


def fuzz_header(data: bytes) -> None:
    """The header core, section 3."""
    drive(BY_NAME["header_sealed"], data)


def fuzz_record_header(data: bytes) -> None:
    """Section 5."""
    drive(BY_NAME["record_header"], data)


def fuzz_record(data: bytes) -> None:
    """A whole record with its check, section 5."""
    drive(BY_NAME["record"], data)


def fuzz_reference(data: bytes) -> None:
    """Section 5."""
    drive(BY_NAME["reference"], data)


def fuzz_frame_extents(data: bytes) -> None:
    """Section 6.1."""
    drive(BY_NAME["frame_extents"], data)


def fuzz_table_leaf(data: bytes) -> None:
    """Section 6.2."""
    drive(BY_NAME["table_leaf"], data)


def fuzz_index_page(data: bytes) -> None:
    """Section 6.3."""
    drive(BY_NAME["index_page"], data)


def fuzz_map_page(data: bytes) -> None:
    """Section 7."""
    drive(BY_NAME["map_page"], data)


def fuzz_digest_leaf(data: bytes) -> None:
    """Section 8."""
    drive(BY_NAME["digest_leaf"], data)


def fuzz_digest_layer(data: bytes) -> None:
    """Section 8.1."""
    drive(BY_NAME["digest_layer"], data)


def fuzz_layer_leaf(data: bytes) -> None:
    """Section 8.1."""
    drive(BY_NAME["layer_leaf"], data)


def fuzz_seal(data: bytes) -> None:
    """Sections 9 and 9.1."""
    drive(BY_NAME["seal_increment"], data)


def fuzz_segments(data: bytes) -> None:
    """Section 9.3."""
    drive(BY_NAME["segments"], data)


def fuzz_checkpoint(data: bytes) -> None:
    """Section 11."""
    drive(BY_NAME["checkpoint"], data)


def fuzz_continuation(data: bytes) -> None:
    """Section 11."""
    drive(BY_NAME["continuation"], data)


def fuzz_trailer(data: bytes) -> None:
    """Section 10."""
    drive(BY_NAME["trailer"], data)


def fuzz_part_header(data: bytes) -> None:
    """Section 12."""
    drive(BY_NAME["part_header"], data)


def fuzz_part_footer(data: bytes) -> None:
    """Section 12."""
    drive(BY_NAME["part_footer"], data)


def _decode_key_area(data: bytes) -> KeyArea:
    return decode_key_area(data, samples.some_id(2))


KEY_AREA = Structure(
    "key_area",
    encode_key_area(KeyArea(1, samples.some_id(2), (samples.SLOT, *(None,) * 7))),
    (),
    _decode_key_area,
    lambda value, _: encode_key_area(value),
    sealed_by_digest(32),
)


def fuzz_key_area(data: bytes) -> None:
    """Sections 4.2 and 4.3."""
    drive(KEY_AREA, data)


TARGETS: dict[str, Target] = {
    name.removeprefix("fuzz_"): target
    for name, target in list(globals().items())
    if name.startswith("fuzz_")
}
VOLUMES: dict[str, tuple[Target, Callable[[], list[bytes]]]] = {
    "btrfs": (fuzzing_btrfs.fuzz_btrfs, fuzzing_btrfs.seeds),
    "containers": (fuzzing_containers.fuzz_containers, fuzzing_containers.seeds),
    "exfat": (fuzzing_exfat.fuzz_exfat, fuzzing_exfat.seeds),
    "ext": (fuzzing_ext.fuzz_ext, lambda: fuzzing_ext.SEEDS),
    "fat": (fuzzing_fat.fuzz_fat, fuzzing_fat.seeds),
    "files": (fuzzing_files.fuzz_files, fuzzing_files.seeds),
    "jbd2": (fuzzing_journals.fuzz_jbd2, fuzzing_journals.seeds_jbd2),
    "ntfslog": (fuzzing_ntfslog.fuzz_ntfslog, fuzzing_ntfslog.seeds_ntfslog),
    "ntfs": (fuzzing_ntfs.fuzz_ntfs, fuzzing_ntfs.seeds),
    "partition_tables": (fuzzing_tables.fuzz_tables, fuzzing_tables.seeds),
    "shadow_copies": (fuzzing_shadowcopies.fuzz_shadow_copies, fuzzing_shadowcopies.seeds),
    "xfs_log": (fuzzing_journals.fuzz_xfs_log, fuzzing_journals.seeds_xfs_log),
    "xfs": (fuzzing_xfs.fuzz_xfs, fuzzing_xfs.seeds),
    "vmdk_cowd": (fuzzing_vmdk.fuzz_vmdk_cowd, fuzzing_vmdk.seeds_cowd),
    "vmdk_descriptor": (fuzzing_vmdk.fuzz_vmdk_descriptor, fuzzing_vmdk.seeds_descriptor),
    "vmdk_grains": (fuzzing_vmdk.fuzz_vmdk_grains, fuzzing_vmdk.seeds_grains),
    "vmdk_guest": (fuzzing_guest.target, fuzzing_guest.seeds),
    "vmdk_header": (fuzzing_vmdk.fuzz_vmdk_header, fuzzing_vmdk.seeds_header),
    "vmdk_markers": (fuzzing_vmdk.fuzz_vmdk_markers, fuzzing_vmdk.seeds_markers),
    "vmdk_ovf": (fuzzing_ovf.target, fuzzing_ovf.seeds),
    "vmdk_sesparse": (fuzzing_vmdk.fuzz_vmdk_sesparse, fuzzing_vmdk.seeds_sesparse),
    "vmdk_tables": (fuzzing_vmdk.fuzz_vmdk_tables, fuzzing_vmdk.seeds_tables),
}
"""What lies on disks, and virtual disks: these targets repair checksums themselves."""
TARGETS |= {name: target for name, (target, _) in VOLUMES.items()}


def seeds(name: str) -> list[bytes]:
    """Return the valid samples that a target starts from."""
    if name in VOLUMES:
        return VOLUMES[name][1]()
    found = [row.sample for row in BY_NAME.values() if row.name == name]
    if name in ("header", "seal", "trailer"):
        found = [row.sample for row in BY_NAME.values() if row.name.startswith(name)]
    return found or [KEY_AREA.sample]


def repair(name: str, data: bytes) -> bytes:
    """Recompute the digests of a target's input."""
    if name in VOLUMES:
        return data
    if name == "key_area":
        return KEY_AREA.repair(data)
    structure = next(row for row in BY_NAME.values() if row.name.startswith(name))
    return structure.repair(data)
