"""Files that are not raw disks, by their first bytes: containers of disks, compressed files.

Names say the format of a source, content never (hostile-inputs class 37): the user of a guest
writes its first sectors. So what is found here is only ever a warning, or part of a message.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from aipimage.errors import FormatError, SourceError
from aipimage.format.constants import HEADER_MAGIC, PART_MAGIC
from aipimage.io.blocks.marks import named_like_image
from aipimage.io.blocks.sources import BinaryFileSource, BlockSource, DeviceSource, FileSource
from aipimage.io.system.storage import File

HEAD = 4096
"""Bytes of a file's beginning that are looked at."""
TAIL = 512
"""Bytes of its end."""


@dataclass(frozen=True, slots=True)
class Container:
    """A kind of file.

    Attributes:
        name: with its article. advice: what to do, without a name of a file.
        where: ``begins``, or ``ends`` for what is known by its last bytes.
        is_compressed: it has to be unpacked before anything can be known. is_archive: a tar.
    """

    name: str
    advice: str
    is_compressed: bool = False
    is_archive: bool = False
    where: str = "begins"


_QEMU = (
    "convert it first (qemu-img convert -O raw), or attach it (qemu-nbd --read-only) and pass the "
    "device"
)
_EWF = "pass the raw disk that ewfmount shows of it, or that ewfexport makes"
_RAW = "restore it to a raw disk with its own program first"


def _packed(name: str, program: str) -> Container:
    return Container(name, f"unpack it first ({program})", is_compressed=True)


_QCOW = Container("a qcow2 disk", _QEMU)
_VHD = Container("a VHD disk", _QEMU)
_VHD_FIXED = Container(
    "a VHD disk of fixed size", "convert it first (qemu-img convert -f vpc -O raw)", where="ends"
)
_DMG = Container("a DMG disk", "convert it first (dmg2img, or hdiutil convert)", where="ends")
_E01 = Container("an E01 image (EWF)", _EWF)
_VMDK = Container("a VMDK disk", "name it .vmdk, or say so (source_format='vmdk')")
_EXTENT = Container("a VMDK extent", "pass the small .vmdk file with its descriptor")
_AIV = Container("an .aiv image", "restore or convert it instead")
_PART = Container("a part of a split .aiv image", "restore or convert its image instead")
_TAR = Container("a tar archive", "unpack it first (tar -xf)", is_archive=True)
_OVA = Container(
    "an appliance (OVA)", "name it .ova, or say so (source_format='ova')", is_archive=True
)
_AFF4 = Container("an AFF4 image", "pass the raw disk that its own tools export")
_ZIP = _packed("a zip archive", "unzip")

_HEADS: tuple[tuple[int, bytes, Container], ...] = (
    (0, b"QFI\xfb", _QCOW),
    (0, b"conectix", _VHD),
    (0, b"vhdxfile", Container("a VHDX disk", _QEMU)),
    (0x40, b"\x7f\x10\xda\xbe", Container("a VDI disk", _QEMU)),
    (0, b"QED\0", Container("a QED disk", _QEMU)),
    (0, b"WithoutFreeSpace", Container("a Parallels disk", _QEMU)),
    (0, b"WithouFreSpacExt", Container("a Parallels disk", _QEMU)),
    (0, b"Bochs Virtual HD Image", Container("a Bochs disk", _QEMU)),
    (0, HEADER_MAGIC, _AIV),
    (0, PART_MAGIC, _PART),
    (0, b"KDMV", _VMDK),
    (0, b"COWD", Container("a VMDK extent of ESX (COWD)", _EXTENT.advice)),
    (0, b"\xbe\xba\xfe\xca\0\0\0\0", Container("a VMDK extent of ESX (seSparse)", _EXTENT.advice)),
    (0, b"EVF\x09\x0d\x0a\xff\0", _E01),
    (0, b"LVF\x09\x0d\x0a\xff\0", Container("an L01 file (EWF)", _EWF)),
    (0, b"EVF2\x0d\x0a\x81\0", Container("an Ex01 image (EWF)", _EWF)),
    (0, b"LEF2\x0d\x0a\x81\0", Container("an Lx01 file (EWF)", _EWF)),
    (0, b"AFF10\x0d\x0a\0", Container("an AFF image", "pass the raw disk that affuse shows of it")),
    (0, b"MSWIM\0\0\0", Container("a WIM archive", "apply it to a volume first (wimapply)")),
    (0, b"WLPWM\0\0\0", Container("a WIM archive", "apply it to a volume first (wimapply)")),
    (0, b"partclone-image", Container("a partclone image", "restore it first (partclone.restore)")),
    (0, b"PaRtImAgE-VoLuMe", Container("a Partimage image", _RAW)),
    (
        0,
        b"\0ntfsclone-image",
        Container("an ntfsclone image", "restore it first (ntfsclone --restore-image)"),
    ),
    (0, b"FsA", Container("an FSArchiver archive", _RAW)),
    (0, b"\xfe\xef\x01", Container("a Ghost image", _RAW)),
    (0, b"VMA\0", Container("a Proxmox backup (VMA)", "take its disks out first (vma extract)")),
    (0, b"\x3a\xff\x26\xed", Container("an Android sparse image", "make it raw first (simg2img)")),
    (0, b"sprs", Container("an Apple sparse image", "convert it first (hdiutil convert)")),
    (0, b"\x1f\x8b\x08", _packed("a gzip file", "gunzip")),
    (0, b"\xfd7zXZ\0", _packed("an xz file", "unxz")),
    (0, b"\x28\xb5\x2f\xfd", _packed("a zstd file", "unzstd")),
    (0, b"\x04\x22\x4d\x18", _packed("an lz4 file", "unlz4")),
    (0, b"\x02\x21\x4c\x18", _packed("an lz4 file", "unlz4")),
    (0, b"\x89LZO\0\r\n\x1a\n", _packed("an lzop file", "lzop -d")),
    (0, b"LZIP\x01", _packed("an lzip file", "lzip -d")),
    (0, b"7z\xbc\xaf\x27\x1c", _packed("a 7-Zip archive", "7z x")),
    (0, b"Rar!\x1a\x07", _packed("a RAR archive", "unrar x")),
)
_FIRST_LINE = b"#diskdescriptorfile"

_NAMES: tuple[tuple[str, str], ...] = (
    (r"\.mf$", "holds the digests of an appliance's files; pass the .ova or the .ovf"),
    (r"\.partial\.state$", "belongs to an interrupted conversion; repeat that with resume"),
    (
        r"-(flat|f\d{3}|s\d{3}|delta|sesparse|rdmp?|ctk)\.vmdk$",
        "is a file of a virtual disk; pass the small .vmdk file with its descriptor",
    ),
    (r"\.vmdk$", "is a virtual disk by its name; make an image of it first"),
    (r"\.ov[af]$", "is an appliance by its name; make an image of its disks first"),
)
"""What a name says that no image has, as regular expressions, and what to do."""

_MAYBE_RAW = "is not an .aiv image; if it is a raw disk, make an image of it first"
_NAMED = "is called like an .aiv image and does not begin like one: it is damaged, or another file"


def other_than_image(name: str, size: int, head: bytes, tail: bytes) -> str | None:
    """Return what a file is that is not an image, and what to do, as the rest of a sentence that
    begins with its name; ``None`` where it may be a raw disk.
    """
    if not size:
        return "is empty (0 bytes); get it again from where it came"
    for pattern, text in _NAMES:
        if re.search(pattern, name, re.IGNORECASE):
            return f"is not an .aiv image: it {text}"
    found = container_of(head, tail)
    if found is None:
        return None
    advice = "make an image of it first" if found in (_VMDK, _OVA) else found.advice
    return f"is not an .aiv image: it {found.where} like {found.name}; {advice}"


def not_an_image(file: File, otherwise: str = _MAYBE_RAW) -> FormatError:
    """Return the error for a file that was taken for an image and has no mark of one.

    Args:
        otherwise: what is said of a file that may be a raw disk.
    """
    size = file.size()
    head, tail = file.pread(HEAD, 0), file.pread(TAIL, max(0, size - TAIL))
    text = other_than_image(file.name, size, head, tail)
    if text is None:
        text = _NAMED if named_like_image(file.name) else otherwise
    return FormatError(f"{file.name}: {text}")


def container_of(head: bytes, tail: bytes) -> Container | None:
    """Return what a file begins or ends like; ``None`` where it may well be a raw disk.

    Args:
        head: its first bytes, ``HEAD`` or more where it has them. tail: its last ``TAIL`` bytes.
    """
    for at, magic, found in _HEADS:
        if head[at : at + len(magic)] == magic:
            return found
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        is_aff4 = b"container.description" in head[:HEAD] or b"information.turtle" in head[:HEAD]
        return _AFF4 if is_aff4 else _ZIP
    if head[:3] == b"BZh" and head[4:10] in (b"1AY&SY", b"\x17rE8P\x90"):
        return _packed("a bzip2 file", "bunzip2")
    plain = head[:512].removeprefix(b"\xef\xbb\xbf").translate(None, b" \t\r\n\0\xff\xfe")
    if plain.lower().startswith(_FIRST_LINE):
        return _VMDK
    if head[257:262] == b"ustar":
        return _OVA if _has_descriptor(head[:HEAD]) else _TAR
    if tail[-512:-508] == b"koly":
        return _DMG
    if tail[-512:-504] == b"conectix" or tail[-511:-503] == b"conectix":
        return _VHD_FIXED
    return None


def _has_descriptor(head: bytes) -> bool:
    """Whether one of the first headers of a tar is that of an appliance's descriptor."""
    headers = [at for at in range(0, len(head), 512) if head[at + 257 : at + 262] == b"ustar"]
    names = (head[at : at + 100].split(b"\0", 1)[0].lower() for at in headers)
    return any(name.endswith(b".ovf") for name in names)


def container_in(source: BlockSource) -> Container | None:
    """Return what the bytes of a source begin or end like; ``None`` also where they cannot be read,
    which a reader of all of it finds out.
    """
    head = bytearray(min(HEAD, source.size))
    tail = bytearray(min(TAIL, source.size))
    try:
        source.read_into(head, 0)
        source.read_into(tail, source.size - len(tail))
    except SourceError:
        return None
    return container_of(bytes(head), bytes(tail))


def container_warning(source: BlockSource) -> str | None:
    """Return a sentence where a file or device that is read as a raw disk begins like something
    else; ``None`` for other sources, whose bytes are those of a disk.
    """
    if not isinstance(source, (FileSource, DeviceSource, BinaryFileSource)):
        return None
    found = container_in(source)
    if found is None:
        return None
    return (
        f"{source.name}: {found.where} like {found.name} and is taken as plain bytes; "
        f"if it is one, {found.advice}"
    )
