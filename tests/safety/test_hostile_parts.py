"""Hostile parts and keys of an image: one clear error, nothing written, nothing leaked."""

from __future__ import annotations

import os
import struct
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

import aipimage
from aipimage.errors import (
    AipImageError,
    FormatError,
    IncompleteError,
    IntegrityError,
    LimitError,
    PasswordError,
    RequestError,
)
from aipimage.format.constants import RecordType
from aipimage.io.system.storage import Storage
from aipimage.volumes.image import open_image
from tests.safety.refusals import CONTENTS, forger_of, refused, seal_field, use
from tests.safety.test_fields import keys_of
from tests.support.forge import Forger, put
from tests.support.images import (
    CHEAP,
    MIB,
    PASSWORD,
    PATH,
    create,
    image_files,
    mixed,
    options,
    read_all,
)
from tests.support.memory import ROOT, MemorySystem
from tests.support.soon import SOON

# Parts


def parts() -> dict[str, bytes]:
    files = image_files("split", CONTENTS)
    assert len(files) >= 4
    return files


def test_class_20_missing_parts_are_named() -> None:
    files = parts()
    for number, path in enumerate(sorted(files), 1):
        left = {name: data for name, data in files.items() if name != path}
        for start in left:
            refused(left, IncompleteError, f"part {number}", "split", start)


def test_class_20_doubled_and_foreign_parts() -> None:
    files, other = parts(), parts()
    second = f"{PATH}.002"
    refused({**files, f"{PATH}.099": files[second]}, FormatError, "both are part 2", "split")
    refused({**files, f"{PATH}.099": other[second]}, FormatError, "another image", "split")
    refused({**files, second: other[second]}, FormatError, "another image", "split")
    refused({**files, f"{PATH}.100": b"no part at all" * 99}, FormatError, "", "split")


def test_class_20_reordered_parts_are_put_in_order() -> None:
    """File names carry no meaning: the headers tell the order."""
    files = parts()
    names = sorted(files)
    shuffled = dict(zip(names, [files[name] for name in [names[0], *names[:0:-1]]], strict=True))
    assert use(shuffled, "split")
    swapped = {**files, names[0]: files[names[1]], names[1]: files[names[0]]}
    assert use(swapped, "split", names[1])


def test_class_20_parts_that_contradict_each_other() -> None:
    files = parts()

    def resealed(data: bytes, at: int, value: bytes) -> bytes:
        out = bytearray(data)
        base = 0 if at >= 0 else len(data) - 128
        at = at if at >= 0 else at + 128
        out[base + at : base + at + len(value)] = value
        out[base + 96 : base + 128] = blake3(bytes(out[base : base + 96])).digest()
        return bytes(out)

    second = f"{PATH}.002"
    for at in (24, 28, 32, 40, 48, 24 - 128, 28 - 128, 32 - 128, 40 - 128, 48 - 128):
        for value in (0, 1, 3, 65_537, (1 << 32) - 1):
            changed = resealed(files[second], at, struct.pack("<I", value))
            if changed != files[second]:
                refused({**files, second: changed}, FormatError, "", "split")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_class_21_parts_that_are_no_files(tmp_path: Path) -> None:
    """A FIFO, a device, a directory or a link in the place of a part: refused without waiting."""
    base = tmp_path / "d.aiv"
    secret = tmp_path / "secret"
    secret.write_text("root:x:0:0" * 50)
    for kind in ("fifo", "directory", "device", "link", "nowhere"):
        for path, data in parts().items():
            (tmp_path / Path(path).name).write_bytes(data)
        part = tmp_path / "d.aiv.002"
        part.unlink()
        match kind:
            case "fifo":
                os.mkfifo(part)
            case "directory":
                part.mkdir()
            case "device":
                part.symlink_to("/dev/zero")
            case "link":
                part.symlink_to(secret)
            case "nowhere":
                part.symlink_to(tmp_path / "nowhere")
        began = time.process_time()
        with pytest.raises(AipImageError) as caught:
            aipimage.open(base, PASSWORD)
        assert time.process_time() - began < SOON
        assert "root:x" not in str(caught.value)
        part.rmdir() if kind == "directory" else part.unlink()


def test_class_21_part_names_come_from_the_directory_only() -> None:
    """Nothing inside a part can name a path; files with other names are never opened."""
    system = MemorySystem(
        {**parts(), f"{ROOT}/e.aiv.002": b"x", f"{PATH}.0020000": b"x", f"{PATH}.2": b"x"}
    )
    system.reads = []
    with open_image(PATH, PASSWORD, storage=Storage(system)) as image:
        assert read_all(image) == CONTENTS
    assert {path for path, _, _ in system.reads} == set(parts())
    with pytest.raises(RequestError):
        aipimage.open("d\0.aiv")


# Keys


def with_slots(change: Callable[[bytearray], None]) -> bytes:
    """Both copies of the key area changed, with their digests made anew."""
    data = bytearray(image_files("aes", CONTENTS)[PATH])
    core = struct.unpack_from("<I", data, 12)[0]
    for at in (core, core + 4096):
        area = data[at : at + 4064]
        change(area)
        data[at : at + 4096] = area + blake3(bytes(area)).digest()
    return bytes(data)


def test_class_25_key_derivation_bombs() -> None:
    def costs(memory: int, passes: int, lanes: int) -> Callable[[bytearray], None]:
        def change(area: bytearray) -> None:
            area[32 + 4 : 32 + 16] = struct.pack("<III", memory, passes, lanes)

        return change

    for cost in ((1 << 32) - 1, 1, 1), (1 << 20 | 1, 1, 1), (8192, 11, 1), (8192, 1, 17), (0, 0, 0):
        refused(with_slots(costs(*cost)), LimitError, "", "aes")

    def many(area: bytearray) -> None:
        slot = bytes(area[32:36]) + struct.pack("<III", 1 << 20, 10, 16) + bytes(area[48:288])
        area[32 : 32 + 2048] = slot * 8

    refused(with_slots(many), LimitError, "", "aes")


def test_class_26_a_file_opens_under_one_chain_key_only() -> None:
    """A slot that wraps another chain key under a second password does not open."""
    from aipimage.format.keyarea import encode_slot
    from aipimage.io.records.keys import wrap_chain_key

    made: list[bytes] = []

    def second(area: bytearray) -> None:
        chain_id = bytes(area[16:32])
        slot = wrap_chain_key("second", bytes(range(32)), chain_id, parameters=CHEAP)
        made.append(encode_slot(slot))
        area[32 + 256 : 32 + 512] = made[0]

    data = with_slots(second)
    assert use({PATH: data}, "aes")
    with pytest.raises(PasswordError):
        open_image(PATH, "second", storage=Storage(MemorySystem({PATH: data})))


def test_class_27_frames_swapped_and_spliced() -> None:
    """Frames of one length change places, or come from another image of the same disk."""
    for name in ("plain", "aes", "auth"):
        content = [bytes(range(1, 256)) * 257]
        data, other = (image_files(name, content, compress="none")[PATH] for _ in range(2))
        forger = Forger(data, keys_of(name, data))
        a, b = (forger.records[index] for index in forger.indexes(RecordType.FRAME)[:2])
        assert a.length == b.length
        first, second = slice(a.offset, a.offset + a.length), slice(b.offset, b.offset + b.length)
        for left, right in (
            (data[second], data[first]),
            (data[first], data[first]),
            (other[first], data[second]),
        ):
            changed = data[: a.offset] + left + data[a.offset + a.length : b.offset] + right
            refused(changed + data[b.offset + b.length :], AipImageError, "", name)


def test_class_27_a_forged_record_that_nothing_refers_to() -> None:
    """A checkpoint of a finished image with a right check and a wrong tag: only verification sees
    it, and does."""
    for name in ("aes", "auth"):
        forger = forger_of(name, checkpoint_bytes=1)
        record = forger.records[forger.indexes(RecordType.CHECKPOINT)[0]]
        inside = bytearray(forger.data[record.offset : record.offset + record.length - 16])
        inside[41] ^= 1
        changed = bytes(inside) + blake3(bytes(inside)).digest()[:16]
        end = record.offset + record.length
        data = forger.data[: record.offset] + changed + forger.data[end:]
        assert use({PATH: forger.data}, name)
        assert not use({PATH: data}, name)


def test_class_28_downgrades() -> None:
    """Password where none is needed and none where one is, and headers that change their suite."""
    system = MemorySystem(image_files("plain", CONTENTS))
    with pytest.raises(PasswordError):
        open_image(PATH, "x", storage=Storage(system))
    for name in ("aes", "auth"):
        forger = forger_of(name)
        with pytest.raises(PasswordError):
            open_image(PATH, storage=Storage(MemorySystem({PATH: forger.data})))
        for suite in {1, 2, 3} - {forger.data[72]}:
            data = forger.forge(None, put(72, bytes([suite])), core=put(72, bytes([suite])))
            refused(data, AipImageError, "", name)
        for password in (None, PASSWORD):
            bare = _as_plain(forger.data)
            with pytest.raises(AipImageError):
                open_image(PATH, password, storage=Storage(MemorySystem({PATH: bare})))


def _as_plain(data: bytes) -> bytes:
    """The header says "not encrypted"; everything unkeyed that can be made anew is."""
    length = struct.unpack_from("<I", data, 12)[0]
    core = bytearray(data[:length])
    core[72] = core[77] = 0
    core[16] &= 0xFE
    core[80:84], core[88:120], core[-64:-32] = bytes(4), bytes(32), bytes(32)
    core[-32:] = blake3(bytes(core[:-32])).digest()
    trailer = bytearray(data[-256:-32])
    trailer[192:224] = core[-32:]
    trailer[16:24] = struct.pack("<Q", len(data) - 8192)
    at = struct.unpack_from("<Q", trailer, 40)[0] - 8192
    trailer[40:48] = struct.pack("<Q", at)
    return bytes(core) + data[length + 8192 : -256] + bytes(trailer) + blake3(trailer).digest()


def test_class_30_every_field_of_a_sealed_record_is_bound() -> None:
    """Each byte of a record header changed, with digests made anew: the tag does not match."""
    forger = forger_of("aes", compress="none")
    data, record = forger.data, forger.records[forger.indexes(RecordType.FRAME)[0]]
    stream, keys = bytearray(data), forger.keys
    assert keys is not None
    for place in (5, 16, 32, 39):
        changed = bytearray(stream[record.offset : record.offset + record.length])
        changed[place] ^= 1
        forged = bytes(changed[:-16]) + blake3(bytes(changed[:-16])).digest()[:16]
        with pytest.raises(AipImageError):
            keys.cipher(forged[16:32]).open(forged[:40], forged[40:-16])


def test_class_31_no_record_is_over_its_limit() -> None:
    """The greatest frames are 4 MiB, far below the 2 GiB at which lengths wrap elsewhere."""
    files = image_files("aes", [mixed(9 * MIB)], frame_shift=22, stripe_shift=23)
    forger = Forger(files[PATH], keys_of("aes", files[PATH]))
    assert max(record.length for record in forger.records) < 4_456_448 + 57
    for value in (4_456_505, (1 << 31) - 1, (1 << 32) - 1):
        refused(seal_field(264 + 64 + 24, "<I", value), LimitError)


def test_class_34_a_forged_manifest() -> None:
    """CVE-2023-36811: a seal from elsewhere. Without the key none is accepted; a whole older image
    of the same name is told by its digest."""
    one, other = (image_files("aes", CONTENTS)[PATH] for _ in range(2))
    a, b = Forger(one, keys_of("aes", one)), Forger(other, keys_of("aes", other))
    seal = other[b.records[-1].offset : b.records[-1].offset + b.records[-1].length]
    start = a.records[-1].offset
    trailer = bytearray(one[-256:-32])
    trailer[16:24] = struct.pack("<Q", start + len(seal) + 256)
    trailer[24:88] = a.reference(seal, start, len(b.records[-1].plain))
    trailer[168:184] = other[-256:][168:184]
    forged = one[:start] + seal + bytes(trailer) + blake3(bytes(trailer)).digest()
    refused(forged, AipImageError, "", "aes")
    digest = blake3(seal[:-16]).hexdigest()
    with pytest.raises(IntegrityError):
        open_image(
            PATH, PASSWORD, expected_digest=digest, storage=Storage(MemorySystem({PATH: one}))
        )


def test_class_35_no_secret_in_repr_errors_and_tracebacks() -> None:
    secret = "hunter2-very-secret"
    chosen = options("aes", password=secret, recovery_key="also secret-ish")
    system = MemorySystem()
    create(system, CONTENTS, chosen)
    texts = [repr(chosen), str(chosen)]
    with open_image(PATH, secret, storage=Storage(system)) as image:
        texts += [repr(image), repr(image.keys), repr(image.header), repr(image.devices)]
    try:
        open_image(PATH, secret + "!", storage=Storage(system))
    except PasswordError as error:
        texts.append("".join(traceback.format_exception(error)))
    assert not [text for text in texts if "hunter2" in text or "also secret" in text]
    assert all(secret.encode() not in data for data in system.snapshot().values())
