"""Fuzz targets for appliances that are read: the tar, the descriptor, the manifest."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile

from aipimage.errors import AipImageError
from aipimage.io.system.storage import Storage, SystemCalls
from aipimage.vmdk.ovf import open_ova, write_ova
from aipimage.vmdk.ovf.parsing import decode_envelope
from tests.vmdk.ovf.made import FIXED, MIB, disk

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
    """A whole OVA, a small one, one with a pax header, a descriptor alone; then what others make:
    GNU's long names, both ways to leave holes out, chunks in a folder, OVF 0.9.
    """
    whole = io.BytesIO()
    write_ova(whole, [disk(2 * MIB + MIB)], name="f", cids=[1], **FIXED)  # type: ignore[arg-type]
    small = {"a.ovf": ENVELOPE, "a.mf": b"SHA1(a.ovf)= " + b"0" * 40 + b"\n", "d.vmdk": bytes(512)}
    long = {"x" * 120 + ".ovf": ENVELOPE, "d.vmdk": b""}
    coreutils = b"\xef\xbb\xbf# x\r\n" + b"0" * 64 + b" *d.vmdk\r\nSHA2-256(d.vmdk)= " + b"0" * 64
    chunks = {
        "s/a.ovf": ENVELOPE.replace(b"512", b"1024"),
        "s/a.mf": coreutils,
        "s/d.vmdk.000000001": bytes(512),
        "s/d.vmdk.000000000": bytes(512),
    }
    return [
        whole.getvalue()[: 16 << 10],
        archive(small),
        archive(long, tarfile.PAX_FORMAT),
        ENVELOPE,
        archive(long, tarfile.GNU_FORMAT),
        archive(chunks),
        old_sparse(),
        pax_sparse(),
        old_envelope(),
    ]


def old_envelope() -> bytes:
    """The same descriptor as OVF 0.9 has it."""
    section = (
        b'<Section xmlns:i="http://www.w3.org/2001/XMLSchema-instance" i:type="o:DiskSection_Type">'
    )
    space = (b"schemas.dmtf.org/ovf/envelope/1", b"www.vmware.com/schema/ovf/1/envelope")
    old = ENVELOPE.replace(*space).replace(b"<DiskSection>", section)
    return old.replace(b"</DiskSection>", b"</Section>")


def old_sparse() -> bytes:
    """An archive with a file of type ``S``, whose map needs a further block."""
    block = bytearray(tarfile.TarInfo("d.vmdk").tobuf(tarfile.GNU_FORMAT))
    entries = [b"%011o\0%011o\0" % (512 * at, 256) for at in range(0, 12, 2)]
    block[156:157] = b"S"
    block[124:136] = b"%011o\0" % (6 * 256)
    block[386:482] = b"".join(entries[:4])
    block[482] = 1
    block[483:495] = b"%011o\0" % (512 * 12)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    more = b"".join(entries[4:]).ljust(512, b"\0")
    first = archive({"a.ovf": ENVELOPE})[: 512 + len(ENVELOPE) + -len(ENVELOPE) % 512]
    return first + bytes(block) + more + bytes(6 * 256) + bytes(1024)


def pax_sparse() -> bytes:
    """An archive with sparse files of the pax versions 0.1 and 1.0."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        told = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": "a.ovf",
            "GNU.sparse.realsize": str(len(ENVELOPE)),
        }
        head = b"1\n0\n%d\n" % len(ENVELOPE)
        for data, headers in (
            (head.ljust(512, b"\0") + ENVELOPE, told),
            (
                bytes(512),
                {
                    "GNU.sparse.map": "0,256,512,256",
                    "GNU.sparse.size": "1024",
                    "GNU.sparse.name": "d.vmdk",
                },
            ),
        ):
            info = tarfile.TarInfo("GNUSparseFile.0/x")
            info.size, info.pax_headers = len(data), headers
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


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
        assert len(ova.warnings) <= 1 << 16
        for number in range(len(ova.disks)):
            with contextlib.suppress(AipImageError), ova.open_disk(number) as source:
                source.read_into(bytearray(min(source.size, 4096)), 0)
