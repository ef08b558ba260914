"""Two writers, threads, little memory, changed buffers and full disks."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from aipimage.errors import AipImageError, SourceError, StorageError, TargetError
from aipimage.io.increment.create import create_image
from aipimage.io.system.storage import Storage
from aipimage.volumes.image import open_image
from tests.safety.refusals import CONTENTS
from tests.support.images import (
    PASSWORD,
    PATH,
    ArraySource,
    assert_whole,
    create,
    image_files,
    options,
)
from tests.support.memory import MemorySystem

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
