"""Hostile images, one test a class of hostile inputs: a typed refusal, soon, within bounds."""

from __future__ import annotations

import io
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import time
import traceback
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

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
    SourceError,
    StorageError,
    TargetError,
    UnsupportedError,
)
from aipimage.format.constants import RecordType
from aipimage.io.increment.create import create_image
from aipimage.io.system.storage import Storage
from aipimage.volumes.image import open_image
from tests.safety.test_fields import keys_of
from tests.support.forge import Change, Forger, put
from tests.support.images import (
    CHEAP,
    MIB,
    PASSWORD,
    PATH,
    ArraySource,
    assert_whole,
    create,
    image_files,
    mixed,
    options,
    password_of,
    read_all,
    sparse,
)
from tests.support.memory import ROOT, MemorySystem
from tests.support.soon import SOON

CONTENTS = [mixed(20_000), sparse(2 * MIB, 49_152)]


def forger_of(name: str, **changes: Any) -> Forger:
    data = image_files(name, CONTENTS, **changes)[PATH]
    return Forger(data, keys_of(name, data))


def use(files: Mapping[str, bytes], name: str = "plain", path: str = PATH) -> bool:
    """Open, read all, verify; return whether the verification found nothing."""
    with open_image(path, password_of(name), storage=Storage(MemorySystem(files))) as image:
        read_all(image)
        return image.verify(threads=1).ok


def refused(
    data: bytes | Mapping[str, bytes],
    error: type[AipImageError],
    match: str = "",
    name: str = "plain",
    path: str = PATH,
) -> None:
    """Refused with one typed error, within 2 s and 256 MiB."""
    files = {PATH: data} if isinstance(data, bytes) else data
    tracemalloc.start()
    began = time.process_time()
    try:
        with pytest.raises(error, match=match or None) as caught:
            use(files, name, path)
        assert time.process_time() - began < SOON
        assert tracemalloc.get_traced_memory()[1] < 256 << 20
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)


def seal_field(offset: int, layout: str, *values: int) -> bytes:
    forger = forger_of("plain")
    return forger.forge(len(forger.records) - 1, put(offset, struct.pack(layout, *values)))


def test_class_02_addresses_wrap_around() -> None:
    for offset in ((1 << 64) - 64, (1 << 63) - 1, (1 << 63) - 200):
        refused(seal_field(264 + 64 + 16, "<Q", offset), FormatError)


def test_class_03_zero_sizes() -> None:
    forger = forger_of("plain")
    for offset in (73, 74, 75):
        refused(forger.forge(None, put(0, b"\x89"), core=put(offset, b"\0")), LimitError)
    refused(seal_field(264, "<Q", 0), LimitError)
    refused(seal_field(264 + 8, "<I", 0), FormatError)


def test_class_04_huge_counts() -> None:
    for offset, layout, value in ((90, "<H", 65_535), (92, "<H", 65_535), (94, "<H", 65_535)):
        refused(seal_field(offset, layout, value), FormatError)
    forger = forger_of("plain")
    index = forger.indexes(RecordType.MAP)[0]
    for offset in (20, 24):
        refused(forger.forge(index, put(offset, b"\xff" * 4)), FormatError)


def test_class_04_a_seal_that_claims_more_frames_than_there_are_atoms() -> None:
    """The verification of an endless frame table ends."""
    origins_at = 264 + 2 * 192
    data = seal_field(origins_at + 32, "<Q", (1 << 52) - 8)
    with open_image(PATH, storage=Storage(MemorySystem({PATH: data}))) as image:
        began = time.process_time()
        assert not image.verify(threads=1).ok
        assert time.process_time() - began < SOON


def test_class_05_two_devices_share_one_map() -> None:
    forger = forger_of("plain")
    seal = len(forger.records) - 1

    def alias(plain: bytes) -> bytes:
        return plain[: 456 + 64] + plain[264 + 64 : 264 + 128] + plain[456 + 128 :]

    refused(forger.forge(seal, alias), FormatError)


def test_class_06_a_record_that_points_at_the_header_at_itself_and_past_the_end() -> None:
    forger = forger_of("plain")
    seal = forger.records[-1].offset
    for offset in (0, 184, seal, len(forger.data) - 256, len(forger.data), 1 << 40):
        refused(seal_field(264 + 64 + 16, "<Q", offset), AipImageError)


def test_class_07_a_failed_open_leaves_nothing_behind() -> None:
    """After a refusal the same storage opens the whole image, and no file stays open."""
    whole = image_files("split", CONTENTS)
    for path in whole:
        system = MemorySystem({**whole, path: whole[path][:-1]})
        for _ in range(3):
            with pytest.raises(AipImageError):
                open_image(PATH, PASSWORD, storage=Storage(system))
            assert system.open_descriptors == 0
        system.files[path] = bytearray(whole[path])
        with open_image(PATH, PASSWORD, storage=Storage(system)) as image:
            assert read_all(image) == CONTENTS
        assert system.open_descriptors == 0


def test_class_08_duplicate_and_unsorted_index_entries() -> None:
    forger = forger_of("plain")
    index = forger.indexes(RecordType.INDEX)[0]
    first, second = slice(8, 80), slice(80, 152)
    changes: list[Change] = [
        lambda plain: plain[:8] + plain[second] + plain[first] + plain[152:],
        lambda plain: plain[:8] + plain[first] + plain[first] + plain[152:],
    ]
    for change in changes:
        assert not use({PATH: forger.forge(index, change)})


def test_class_09_a_tiny_file_that_declares_a_petabyte() -> None:
    """Reading any place of it is refused soon, and so is listing its extents."""
    data = seal_field(264, "<Q", 1 << 50)
    refused(data, FormatError)


@pytest.mark.parametrize(
    ("offset", "value"), [(8, 2), (12, 1 << 31), (16, 16), (16, 1 << 40), (72, 9), (76, 2)]
)
def test_class_10_unknown_version_flag_suite_digest(offset: int, value: int) -> None:
    forger = forger_of("plain")
    width = {8: 2, 12: 4, 16: 8}.get(offset, 1)
    change = put(offset, value.to_bytes(width, "little"))
    data = forger.forge(None, change, core=change)
    refused(data, LimitError if offset == 12 else UnsupportedError)


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


# Faults


def test_class_60_two_writers_of_one_image(tmp_path: Path) -> None:
    """The second is refused and changes nothing; the first finishes."""
    path = tmp_path / "d.aiv"
    refusals: list[type[AipImageError]] = []
    first = ArraySource(CONTENTS[1])

    def second(offset: int) -> None:
        if offset == 0:
            for resume in (False, True):
                chosen = options("plain", resume=resume)
                with pytest.raises(TargetError) as caught:
                    create_image(str(path), [ArraySource(CONTENTS[0])], chosen)
                refusals.append(caught.type)

    first.on_read = second
    create_image(str(path), [first], options("plain"))
    assert len(refusals) == 2
    assert_whole({PATH: path.read_bytes()}, [CONTENTS[1]])


def test_class_60_threads_read_one_image() -> None:
    system = MemorySystem(image_files("aes", CONTENTS))
    wrong: list[object] = []
    with open_image(PATH, PASSWORD, storage=Storage(system), cache_bytes=20_000) as image:

        def work(seed: int) -> None:
            for at in range(seed * 512, len(CONTENTS[1]) - 5000, 50_000):
                buffer = bytearray(5000)
                image.devices[1].read_into(buffer, at)
                if buffer != CONTENTS[1][at : at + 5000]:
                    wrong.append(at)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


# A fault in a thread is told only where the thread has a stack for signals, because the fault to be
# told is an overflow of the thread's own stack: what that needs is made before memory is bounded.
LITTLE_MEMORY = """
import ctypes, faulthandler, itertools, resource, sys, threading
from tests.support.images import *
from tests.support.limits import bound_memory

class SignalStack(ctypes.Structure):
    _fields_ = [("at", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

room = [ctypes.create_string_buffer(1 << 16) for _ in range(16)]
of_room = [ctypes.byref(SignalStack(ctypes.addressof(part), 0, 1 << 16)) for part in room]
stacks = itertools.cycle(of_room)  # Only a thread that faults uses its stack: they may share.
use_stack, run = ctypes.CDLL(None).sigaltstack, threading.Thread.run

def run_with_stack(thread):
    use_stack(next(stacks), None)
    run(thread)

threading.Thread.run = run_with_stack
remember_derivations()
contents = [mixed(40_000), sparse(2 * MIB, 49_152)]
files = image_files("aes", contents)
[path] = files
damaged = {path: bytearray(files[path])}
damaged[path][len(files[path]) // 2] ^= 1
damaged[path] = bytes(damaged[path])
more = mixed(2 * MIB)
import aipimage.io.records.keys
warm = MemorySystem()
create(warm, [more], options("zstd"))
assert contents_of(warm) == [more] and contents_of(MemorySystem(files), PASSWORD) == contents
assert verify_finds(MemorySystem(damaged), PASSWORD)
del warm
faulthandler.enable()
faulthandler.dump_traceback_later(20, exit=True)
bound_memory(int(sys.argv[1]))

def sound_is_sound():
    assert not verify_finds(MemorySystem(files), PASSWORD), "a sound image is called damaged"

def damage_is_found():
    assert verify_finds(MemorySystem(damaged), PASSWORD), "a damaged image is called whole"

def reads_are_right():
    assert contents_of(MemorySystem(files), PASSWORD) == contents, "wrong bytes were read"

def what_is_created_is_right():
    system = MemorySystem()
    create(system, [more], options("zstd"))
    assert contents_of(system) == [more], "an image was created wrong"

for work in (sound_is_sound, damage_is_found, reads_are_right, what_is_created_is_right) * 3:
    try:
        work()
    except (MemoryError, AipImageError) as error:
        print("refused", type(error).__name__)
    except RuntimeError as error:
        if str(error) != "can't start new thread":
            raise
        print("refused", error)
print("alive")
"""

# What ends the process below us where there is no memory: (return codes, what standard error says).
# Each was found with gdb, on CPython 3.11.7 with cryptography 50.0.2; anything else fails the test.
_ENDINGS = (
    # Rust aborts where its allocator fails: digests (blake3) and ciphers (cryptography).
    ({-signal.SIGABRT}, r"memory allocation of \d+ bytes failed"),
    # The dynamic linker of glibc gives up where a new thread gets no memory for its variables.
    ({127, -signal.SIGABRT}, r"cannot allocate memory for thread-local data"),
    # OpenSSL 4.0.3 in the wheel of cryptography recurses until the thread's stack is full, when a
    # thread has no error state yet and none can be allocated: ERR_new, ossl_err_get_state_int,
    # CRYPTO_THREAD_set_local_ex, CRYPTO_zalloc, CRYPTO_malloc, ERR_new, … Only a fault inside
    # of a cipher's call is that one.
    (
        {-signal.SIGSEGV},
        r"Fatal Python error: Segmentation fault\n\n.*thread 0x\w+.*:\n"
        r'  File ".*/aipimage/io/cipher\.py", line \d+ in (seal_into|open_into|_verify_tag)\n',
    ),
    # CPython's Thread.start waits for ever for a thread that died of MemoryError before it could
    # say that it runs (_bootstrap); faulthandler ended the wait.
    (
        {1},
        r"(?s)Exception ignored in thread started by.*MemoryError.*Timeout \(0:00:20\)!\n"
        r'.*:\n(  File ".*/threading\.py", line \d+ in wait\n){2}'
        r'  File ".*/threading\.py", line \d+ in start\n',
    ),
)


@pytest.mark.parametrize("memory", [1 << 20, 4 << 20, 32 << 20])
def test_class_60_too_little_memory_gives_no_wrong_answer(memory: int) -> None:
    command = [sys.executable, "-c", LITTLE_MEMORY, str(memory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    # Standard error may also bear CPython's "deallocated bytearray object has exported buffers":
    # PyByteArray_FromStringAndSize drops, without memory, an object whose count it has not set.
    told = f"{done.returncode}: {done.stdout[-500:]}\n{done.stderr[-4000:]}"
    assert "AssertionError" not in done.stderr, told
    if done.returncode:
        known = [text for codes, text in _ENDINGS if done.returncode in codes]
        assert any(re.search(text, done.stderr) for text in known), told
    else:
        assert done.stdout.endswith("alive\n"), told


def test_class_61_a_buffer_that_the_caller_resizes() -> None:
    """While a read fills a bytearray nobody can resize it; afterwards everybody can."""
    system = MemorySystem(image_files("zstd", CONTENTS))
    with open_image(PATH, storage=Storage(system)) as image:
        buffer = bytearray(5000)
        view = memoryview(buffer)
        image.devices[0].read_into(view, 0)
        with pytest.raises(BufferError):
            buffer.extend(b"x")
        view.release()
        buffer.extend(b"x")
        assert buffer[:5000] == CONTENTS[0][:5000]


class _Shrinking(io.BytesIO):
    """A file object that loses its end when it is read."""

    def readinto(self, buffer: Any) -> int:
        self.truncate(1_000_000)
        return super().readinto(buffer)


def test_class_62_a_source_that_shrinks_gives_no_image() -> None:
    system = MemorySystem()
    with pytest.raises(SourceError, match="shrank"):
        create_image(PATH, [_Shrinking(CONTENTS[1])], options("plain"), None, Storage(system))
    assert PATH not in system.files


def test_class_57_a_full_disk_is_told() -> None:
    class Full(MemorySystem):
        def pwritev(self, descriptor: int, buffers: Any, offset: int) -> int:
            if offset > 10_000:
                raise OSError(28, "No space left on device")
            return super().pwritev(descriptor, buffers, offset)

    system = Full()
    with pytest.raises(StorageError, match="No space left") as caught:
        create(system, CONTENTS, options("plain"))
    assert caught.value.errno == 28
    assert not system.files
