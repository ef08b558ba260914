"""Fuzz targets for appliances that are read: the tar, the descriptor, the manifest."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile

from aipimage.errors import AipImageError
from aipimage.io.storage import Storage, SystemCalls
from aipimage.vmdk.ovf import open_ova, write_ova
from aipimage.vmdk.ovf.parsing import decode_envelope
from tests.vmdk.ovf_support import FIXED, MIB, disk

ENVELOPE = (
    b'<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" '
    b'xmlns:o="http://schemas.dmtf.org/ovf/envelope/1"><References>'
    b'<File o:id="f" o:href="d.vmdk" o:size="512"/></References><DiskSection><Info/>'
    b'<Disk o:diskId="d" o:fileRef="f" o:capacity="1" o:capacityAllocationUnits="byte * 2^20" '
    b'o:format="x#vmdk"/></DiskSection><VirtualSystem o:id="v"><Name>n</Name></VirtualSystem>'
    b"</Envelope>"
)


def archive(files: dict[str, bytes], form: int = tarfile.USTAR_FORMAT) -> bytes:
    """A tar as Python's tarfile writes it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def seeds() -> list[bytes]:
    """A whole OVA, a small one, one with a pax header, and a descriptor alone."""
    whole = io.BytesIO()
    write_ova(whole, [disk(2 * MIB + MIB)], name="f", cids=[1], **FIXED)  # type: ignore[arg-type]
    small = {"a.ovf": ENVELOPE, "a.mf": b"SHA1(a.ovf)= " + b"0" * 40 + b"\n", "d.vmdk": bytes(512)}
    long = {"x" * 120 + ".ovf": ENVELOPE, "d.vmdk": b""}
    return [
        whole.getvalue()[: 16 << 10], archive(small), archive(long, tarfile.PAX_FORMAT), ENVELOPE,
    ]  # fmt: skip


class Memory(SystemCalls):
    """One file in memory, whatever its name."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data

    def preadv(self, descriptor: int, buffers: list[memoryview], offset: int) -> int:  # type: ignore[override]
        part = self._data[offset : offset + buffers[0].nbytes]
        buffers[0][: len(part)] = part
        return len(part)

    def fstat(self, descriptor: int) -> os.stat_result:
        told = list(os.fstat(descriptor))
        told[6] = len(self._data)
        return os.stat_result(told, {"st_mtime_ns": 0, "st_blocks": 0, "st_rdev": 0})


def target(data: bytes) -> None:
    """Any bytes are an appliance, or a typed error."""
    with contextlib.suppress(AipImageError):
        decode_envelope(data, "fuzz")
    with (
        contextlib.suppress(AipImageError),
        open_ova(__file__, storage=Storage(Memory(data))) as ova,
    ):
        assert len(ova.members) <= 4096
        assert all(0 <= (each.capacity or 0) < 1 << 63 for each in ova.disks)
        list(ova.damaged())
        for number in range(len(ova.disks)):
            with contextlib.suppress(AipImageError), ova.open_disk(number) as source:
                source.read_into(bytearray(min(source.size, 4096)), 0)
