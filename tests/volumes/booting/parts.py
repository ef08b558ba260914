"""What a disk that boots is made of: Debian's kernel, a tiny initramfs, GRUB's two images; and a
machine to start it in.

The kernel is that of Debian's package linux-image-cloud-amd64, because it has ext4 and NVMe built
in, so that the initramfs needs no modules. ``.ci/run`` unpacks it to ``KERNEL``.
"""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

from tests.support import require
from tests.support.tools import PATH, require_programs, run

KERNEL = Path("/usr/local/lib/aipimage-tests/vmlinuz")
GRUB, BUSYBOX = Path("/usr/lib/grub"), Path("/bin/busybox")
FIRMWARE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
ROOT_UUID = "0fae1d2c-3b4a-4968-b786-95a4b3c2d1e0"
SECONDS_MAX = 300
_MODULES = ("part_msdos", "part_gpt", "ext2", "search", "search_fs_uuid", "linux", "boot")
_CONFIG = f"""search --fs-uuid --set=root {ROOT_UUID}
linux /boot/vmlinuz console=ttyS0 quiet panic=-1
initrd /boot/initrd
boot
"""
# The first process: it finds the root volume by its UUID, proves that it can be read, and ends.
_INIT = f"""#!/bin/busybox sh
/bin/busybox mount -t devtmpfs none /dev
/bin/busybox mount -t ext4 -o ro "$(/bin/busybox findfs UUID={ROOT_UUID})" /root
echo "booted with $(/bin/busybox sha256sum < /root/proof)"
/bin/busybox poweroff -f
"""


def kernel() -> Path:
    """The kernel to start; a test is skipped where there is none."""
    path = Path(os.environ.get("AIPIMAGE_TEST_KERNEL", KERNEL))
    require(path.exists(), f"a kernel with ext4 and NVMe built in, at {path}")
    return path


def require_all() -> None:
    """Skip the test unless everything is there that a disk is made from and started with."""
    require_programs(
        "qemu-system-x86_64", "grub-mkimage", "mke2fs", "mkfs.fat", "mcopy", "sfdisk", "busybox"
    )
    places = [GRUB / "i386-pc/boot.img", GRUB / "x86_64-efi/moddep.lst", FIRMWARE, VARIABLES]
    missing = [str(place) for place in [*places, BUSYBOX] if not place.exists()]
    require(not missing, ", ".join(missing))
    kernel()


def initramfs() -> bytes:
    """A cpio archive ("newc", the kernel's initramfs buffer format) of busybox and the init."""
    files = [("bin", 0o40755, b""), ("dev", 0o40755, b""), ("root", 0o40755, b"")]
    files += [("bin/busybox", 0o100755, BUSYBOX.read_bytes()), ("init", 0o100755, _INIT.encode())]
    archive = bytearray()
    for number, (name, mode, data) in enumerate([*files, ("TRAILER!!!", 0, b"")], 1):
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        archive += b"070701" + b"".join(b"%08x" % field for field in fields)
        archive += name.encode() + b"\0"
        archive += bytes(-len(archive) % 4) + data
        archive += bytes(-len(archive) % 4)
    return bytes(archive)


def grub_image(target: str, at: Path) -> bytes:
    """GRUB's core for ``"i386-pc"`` or ``"x86_64-efi"`` with all that it needs inside."""
    config = at / "early.cfg"
    config.write_text(_CONFIG)
    more = ("biosdisk",) if target == "i386-pc" else ("fat",)
    image = at / f"core-{target}"
    run(["grub-mkimage", "-O", target, "-p", "/", "-c", config, "-o", image, *more, *_MODULES])
    return image.read_bytes()


def install_grub(disk: Path, core: bytes, sector: int) -> None:
    """Put GRUB's boot sector into the MBR and its core at ``sector``, in one piece.

    The boot sector has the core's place at byte 0x5C; the core's first sector ends with a list that
    names its second one (GRUB's boot.S and diskboot.S).
    """
    boot = bytearray((GRUB / "i386-pc/boot.img").read_bytes())
    first = bytearray(core)
    struct.pack_into("<Q", boot, 0x5C, sector)
    struct.pack_into("<Q", first, 0x1F4, sector + 1)
    with open(disk, "r+b") as file:
        file.write(boot[:440])
        file.seek(sector * 512)
        file.write(first)


def booted(disk: Path, efi: bool, at: Path, form: str = "raw") -> str:
    """Start a machine from a disk, which is not changed; return what its serial console said.

    ``form`` is what qemu calls the disk's format.
    """
    console, variables = at / "console", at / "variables"
    firmware: list[str] = []
    if efi:
        variables.write_bytes(VARIABLES.read_bytes())
        flash = "if=pflash,format=raw,unit={},readonly={},file={}"
        firmware = ["-drive", flash.format(0, "on", FIRMWARE)]
        firmware += ["-drive", flash.format(1, "off", variables)]
    command = [
        "qemu-system-x86_64", "-accel", "tcg", "-machine", "q35", "-m", "256", "-no-reboot",
        "-nodefaults", "-display", "none", "-serial", f"file:{console}", "-device",
        "nvme,drive=disk,serial=1", *firmware, "-drive",
        f"if=none,id=disk,format={form},snapshot=on,file={disk}",
    ]  # fmt: skip
    # A machine that never gets to its end says on its console why.
    process = subprocess.Popen(command, env=os.environ | {"PATH": PATH}, stdin=subprocess.DEVNULL)
    try:
        code = process.wait(SECONDS_MAX)
    except subprocess.TimeoutExpired:
        code = -1
    finally:
        process.kill()
        process.wait()
    text = console.read_text(errors="replace")
    assert code == 0, f"the machine ended with {code} after:\n{text[-4000:]}"
    return text
