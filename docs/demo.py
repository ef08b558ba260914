"""A tour of aipimage on a small disk of its own: ``python docs/demo.py [--keep] [--dir DIR]``.

Builds a GPT disk with an ext4 and a FAT volume (with sgdisk or sfdisk, mke2fs, mkfs.fat and mtools
where the machine has them, without them otherwise), images it encrypted and split, looks at it,
verifies and restores; changes the disk, makes an incremental image of what changed, restores both
points in time and compares; converts to a virtual disk and back, and to an appliance; and shows
that a flipped byte is found. Needs no special rights and mounts nothing. Every command is printed
as it runs.
"""

from __future__ import annotations

import argparse
import binascii
import filecmp
import os
import random
import shutil
import struct
import subprocess
import sys
import sysconfig
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

MIB = 1 << 20
SECTOR = 512
DISK = 96 * MIB
# (name, first byte, bytes, GPT type): the last MiB of the disk holds the backup table.
FAT = ("data", 1 * MIB, 33 * MIB, uuid.UUID("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"))
EXT4 = ("linux", 34 * MIB, 61 * MIB, uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4"))
FOUND_DAMAGE = 3


class DemoError(Exception):
    """Something did not go as it must."""


class Demo:
    """The steps share this directory and these names; each step is one method."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.disk, self.before = place / "disk.raw", place / "before.raw"
        self.secret = ["--password-file", "secret"]

    def run(self) -> None:
        """Run every step; a new one is a method in this list."""
        steps: list[Callable[[], None]] = [
            self.build_disk, self.look, self.create, self.info, self.verify, self.restore,
            self.restore_larger, self.restore_volume, self.change, self.increment, self.chain,
            self.restore_points, self.virtual_disk, self.appliance, self.damage,
        ]  # fmt: skip
        for number, step in enumerate(steps, 1):
            print(f"\n== {number}. {step.__doc__}", flush=True)
            step()

    # The steps

    def build_disk(self) -> None:
        """A disk with a partition table and two volumes"""
        with self.disk.open("wb") as file:
            file.truncate(DISK)
        self._write_table()
        files = self.place / "files"
        _collect_files(files)
        self._put(self._fat_volume(files), FAT)
        self._put(self._ext4_volume(files), EXT4)
        shutil.rmtree(files)

    def look(self) -> None:
        """What is on it, and how much of that is in use"""
        self._aipimage("info", "disk.raw")

    def create(self) -> None:
        """An image of it: compressed, encrypted, in parts"""
        descriptor = os.open(self.place / "secret", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write("correct horse battery staple\n")
        self._aipimage(
            "createimage", "-o", "disk.aiv", "--compress", "zstd", "--encrypt", "aes-256",
            *self.secret, "--split", "8M", "disk.raw",
        )  # fmt: skip
        parts = sorted(self.place.glob("disk.aiv*"))
        stored = sum(part.stat().st_size for part in parts)
        print(f"   {DISK:,} bytes of disk in {len(parts)} parts with {stored:,} bytes")

    def info(self) -> None:
        """What the image says of itself"""
        self._aipimage("info", "disk.aiv", *self.secret)

    def verify(self) -> None:
        """Is all of it whole? With the password, and without"""
        self._aipimage("verify", "disk.aiv", *self.secret)
        self._aipimage("verify", "disk.aiv", "--keyless")

    def restore(self) -> None:
        """Back to a disk, compared bit by bit"""
        self._restored("disk.aiv", "restored.raw", self.disk)

    def restore_larger(self) -> None:
        """To a larger disk: the GPT's backup goes to the new end"""
        size = ["--size", str(DISK + 32 * MIB)]
        self._aipimage("restoredisk", "disk.aiv", "larger.raw", *size, *self.secret)
        self._aipimage("info", "larger.raw")

    def restore_volume(self) -> None:
        """One volume alone, which grows with its file system where the tools are there"""
        size = ["--size", str(EXT4[2] + 32 * MIB), "--expand"]
        self._aipimage(
            "restorevolume", "disk.aiv", "linux.raw", "--volume", "2", *size, *self.secret
        )
        self._aipimage("info", "linux.raw")

    def change(self) -> None:
        """The next day: a new file, an old one rewritten"""
        shutil.copyfile(self.disk, self.before)
        new = random.Random("new").randbytes(2 * MIB) + _text(7, MIB)
        (self.place / "new.bin").write_bytes(new)
        if shutil.which("mcopy"):
            at = f"disk.raw@@{FAT[1]}"
            quiet = {"MTOOLS_SKIP_CHECK": "1"}
            self._tool("mcopy", "-i", at, "new.bin", "::new.bin", settings=quiet)
            old = "::files/random0.bin"
            self._tool("mcopy", "-o", "-i", at, "new.bin", old, settings=quiet)
        else:
            print("   no mtools here: the first files of the FAT volume are overwritten")
            with self.disk.open("r+b") as file:
                file.seek(FAT[1] + 2 * MIB)
                file.write(new)

    def increment(self) -> None:
        """An incremental image: what changed since the full one, and a look at the disk for it"""
        self._aipimage("createimage", "-o", "disk-2.aiv", "--parent", ".", *self.secret, "disk.raw")
        stored = (self.place / "disk-2.aiv").stat().st_size
        print(f"   one file with {stored:,} bytes; the whole disk is read from it and disk.aiv")

    def chain(self) -> None:
        """The chain: which image builds on which, and is all of it there?"""
        self._aipimage("info", "disk-2.aiv", "--chain", *self.secret)
        self._aipimage("verify", "disk-2.aiv", "--chain", *self.secret)

    def restore_points(self) -> None:
        """Both points in time"""
        self._restored("disk-2.aiv", "today.raw", self.disk)
        self._restored("disk.aiv", "yesterday.raw", self.before)

    def _restored(self, image: str, target: str, original: Path) -> None:
        self._aipimage("restoredisk", image, target, *self.secret)
        self._same(target, original)

    def _same(self, target: str, original: Path) -> None:
        if not filecmp.cmp(original, self.place / target, shallow=False):
            raise DemoError(f"{target} differs from what was imaged")
        print(f"   {target} is identical to what was imaged")

    def virtual_disk(self) -> None:
        """The newest point in time as a virtual disk, checked, and back from it"""
        self._aipimage(
            "convert", "disk-2.aiv", "today.vmdk", "--subformat", "streamOptimized", *self.secret
        )
        self._aipimage("verify", "today.vmdk")
        if shutil.which("qemu-img"):
            self._tool("qemu-img", "compare", "-f", "raw", "-F", "vmdk", "disk.raw", "today.vmdk")
        self._aipimage("convert", "today.vmdk", "from-vmdk.raw")
        self._same("from-vmdk.raw", self.disk)

    def appliance(self) -> None:
        """The first point in time as an appliance to import, and an image of it again"""
        self._aipimage("convert", "disk.aiv", "yesterday.ova", *self.secret)
        self._aipimage("info", "yesterday.ova")
        self._aipimage("convert", "yesterday.ova", "again.aiv")
        self._aipimage("restoredisk", "again.aiv", "again.raw")
        self._same("again.raw", self.before)

    def damage(self) -> None:
        """One flipped byte in a copy"""
        copies = self.place / "damaged"
        copies.mkdir()
        for part in self.place.glob("disk.aiv*"):
            shutil.copy(part, copies)
        victim = max(copies.iterdir(), key=lambda path: path.stat().st_size)
        offset = victim.stat().st_size // 2
        with victim.open("r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 1]))
        print(f"   byte {offset:,} of {victim.name}: {byte:#04x} to {byte ^ 1:#04x}", flush=True)
        self._aipimage("verify", "damaged/disk.aiv", *self.secret, expected=FOUND_DAMAGE)
        print("   the damage was found")

    # Running commands

    def _aipimage(self, *arguments: str, expected: int = 0) -> None:
        """Run the command of the installation that runs this file."""
        program = Path(sysconfig.get_path("scripts")) / "aipimage"
        if not program.exists():
            raise DemoError("the command is not installed here; run: pip install '.[cli]'")
        print("$ aipimage " + " ".join(arguments), flush=True)
        status = subprocess.run([program, *arguments], cwd=self.place).returncode
        if status != expected:
            raise DemoError(f"aipimage ended with exit code {status} instead of {expected}")

    def _tool(self, *command: str, text: str = "", settings: dict[str, str] | None = None) -> None:
        """Run a tool of the system quietly."""
        shown = " ".join(command) + (f" <<< {text!r}" if text else "")
        print(f"$ {shown}", flush=True)
        done = subprocess.run(
            command,
            cwd=self.place,
            input=text,
            text=True,
            capture_output=True,
            env=os.environ | (settings or {}),
        )
        if done.returncode:
            raise DemoError(f"{command[0]} failed: {done.stderr.strip()}")

    # Building the disk

    def _write_table(self) -> None:
        if shutil.which("sgdisk"):
            options = []
            for number, (name, start, size, kind) in enumerate((FAT, EXT4), 1):
                first = start // SECTOR
                options += [f"--new={number}:{first}:{first + size // SECTOR - 1}"]
                options += [f"--typecode={number}:{kind}", f"--change-name={number}:{name}"]
            self._tool("sgdisk", *options, "disk.raw")
        elif shutil.which("sfdisk"):
            lines = [
                f"start={start // SECTOR}, size={size // SECTOR}, type={kind}, name={name}\n"
                for name, start, size, kind in (FAT, EXT4)
            ]
            self._tool("sfdisk", "-q", "disk.raw", text="label: gpt\n" + "".join(lines))
        else:
            print("   no sgdisk or sfdisk here: the partition table is written by this script")
            write_gpt(self.disk)

    def _fat_volume(self, files: Path) -> Path:
        volume = self._empty("fat.raw", FAT[2])
        if not (shutil.which("mkfs.fat") and shutil.which("mcopy")):
            print("   no mkfs.fat or no mtools here: the FAT volume is written by this script")
            write_fat(volume, sorted(files.iterdir())[:500])
            return volume
        self._tool("mkfs.fat", "-n", "DEMO", "fat.raw")
        # mtools would compare the volume with the tracks of a floppy disk.
        quiet = {"MTOOLS_SKIP_CHECK": "1"}
        self._tool("mcopy", "-s", "-i", "fat.raw", str(files), "::", settings=quiet)
        return volume

    def _ext4_volume(self, files: Path) -> Path:
        volume = self._empty("ext4.raw", EXT4[2])
        if not shutil.which("mke2fs"):
            return self._generated(volume, "mke2fs")
        self._tool("mke2fs", "-q", "-t", "ext4", "-L", "demo", "-d", str(files), "ext4.raw")
        return volume

    def _empty(self, name: str, size: int) -> Path:
        path = self.place / name
        with path.open("wb") as file:
            file.truncate(size)
        return path

    def _generated(self, volume: Path, missing: str) -> Path:
        print(f"   no {missing} here: the volume gets generated data and no file system")
        with volume.open("r+b") as file:
            for at in range(0, volume.stat().st_size // 2, MIB):
                file.seek(at)
                file.write(_text(at, MIB // 4) + random.Random(at).randbytes(MIB // 4))
        return volume

    def _put(self, volume: Path, partition: tuple[str, int, int, uuid.UUID]) -> None:
        """Copy a volume to its place on the disk, and leave holes where it is zero."""
        with volume.open("rb") as source, self.disk.open("r+b") as disk:
            at = partition[1]
            while block := source.read(65536):
                if block.strip(b"\0"):
                    disk.seek(at)
                    disk.write(block)
                at += len(block)
        volume.unlink()


def _collect_files(folder: Path) -> None:
    """Real files, which compress, from Python's own library; and some that do not."""
    folder.mkdir()
    library = Path(sysconfig.get_path("stdlib"))
    room = 12 * MIB
    for path in sorted(library.glob("*.py")) + sorted(library.glob("[a-m]*/*.py")):
        room -= path.stat().st_size
        if room < 0:
            break
        shutil.copyfile(path, folder / f"{path.parent.name}-{path.name}")
    for number in range(6):
        content = random.Random(number).randbytes(2 * MIB)
        (folder / f"random{number}.bin").write_bytes(content)


def _text(seed: int, length: int) -> bytes:
    words = [b"extent", b"cluster", b"sector", b"frame", b"volume", b"restore", b"\n"]
    return b" ".join(random.Random(seed).choices(words, k=length // 4))[:length]


def write_gpt(disk: Path) -> None:
    """Write a protective MBR and both copies of the table (UEFI specification, section 5)."""
    sectors = DISK // SECTOR
    entries = bytearray(128 * 128)
    for number, (name, start, size, kind) in enumerate((FAT, EXT4)):
        first = start // SECTOR
        struct.pack_into(
            "<16s16sQQQ72s",
            entries,
            number * 128,
            kind.bytes_le,
            uuid.uuid4().bytes_le,
            first,
            first + size // SECTOR - 1,
            0,
            name.encode("utf-16-le"),
        )
    disk_id = uuid.uuid4().bytes_le
    with disk.open("r+b") as file:
        mbr = bytearray(SECTOR)
        struct.pack_into("<B3sB3sII", mbr, 446, 0, b"\0\2\0", 0xEE, b"\xff\xff\xff", 1, sectors - 1)
        mbr[510:] = b"\x55\xaa"
        file.write(mbr)
        for here, other, table in ((1, sectors - 1, 2), (sectors - 1, 1, sectors - 33)):
            unsigned = struct.pack(
                "<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, here, other, 34, sectors - 34,
                disk_id, table, 128, 128, binascii.crc32(entries),
            )  # fmt: skip
            checksum = struct.pack("<I", binascii.crc32(unsigned))
            file.seek(here * SECTOR)
            file.write(unsigned[:16] + checksum + unsigned[20:])
            file.seek(table * SECTOR)
            file.write(entries)


def write_fat(volume: Path, files: list[Path]) -> None:
    """Write a FAT16 volume with these files in its root (Microsoft's FAT specification, 1.03)."""
    sectors, cluster, root_entries = volume.stat().st_size // SECTOR, 2048, 512
    clusters = sectors * SECTOR // cluster
    table_sectors = -(-(clusters + 2) * 2 // SECTOR)
    boot = struct.pack(
        "<3s8sHBHBHHBHHHIIBBBI11s8s", b"\xeb\x3c\x90", b"AIPIMAGE", SECTOR, cluster // SECTOR, 1, 2,
        root_entries, 0, 0xF8, table_sectors, 32, 64, 0, sectors, 0x80, 0, 0x29, 0x2A,
        b"DEMO       ", b"FAT16   ",
    )  # fmt: skip
    table, content = [0xFFF8, 0xFFFF], bytearray()
    root = bytearray(struct.pack("<11sB20x", b"DEMO       ", 0x08))
    for number, path in enumerate(files):
        data = path.read_bytes()
        count = -(-len(data) // cluster)
        first = len(table) if count else 0
        table += [first + at + 1 for at in range(count - 1)] + [0xFFFF] * bool(count)
        name = b"FILE%04d%-3s" % (number, path.suffix[1:4].upper().encode())
        # 0x5A21: the first of January 2025, when every file of this volume was written.
        root += struct.pack("<11sB10xHHHI", name, 0x20, 0, 0x5A21, first, len(data))
        content += data + bytes(count * cluster - len(data))
    packed = struct.pack(f"<{len(table)}H", *table).ljust(table_sectors * SECTOR, b"\0")
    with volume.open("r+b") as file:
        file.write(boot.ljust(510, b"\0") + b"\x55\xaa" + packed * 2)
        file.write(root.ljust(root_entries * 32, b"\0") + content)


def main() -> int:
    """Run the steps in a directory that is removed at the end, and say how it went."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keep", action="store_true", help="leave the files there")
    parser.add_argument("--dir", type=Path, help="where to make the directory")
    args = parser.parse_args()
    # The tools for disks are not on everybody's path.
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    place = Path(tempfile.mkdtemp(prefix="aipimage-demo-", dir=args.dir))
    started = time.monotonic()
    try:
        Demo(place).run()
    except DemoError as error:
        print(f"\ndemo: failed: {error}", file=sys.stderr)
        return 1
    finally:
        if args.keep:
            print(f"\nThe files are in {place}")
        else:
            shutil.rmtree(place)
    seconds = time.monotonic() - started
    print(
        f"\nDone in {seconds:.1f} s: imaged in full and by what changed, verified, both points in "
        "time restored bit by bit, converted and converted back; damage was found."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
