"""The peers: other tools that image, restore, verify and serve the same disk.

A ``Peer`` is a handful of bash commands.  In them ``{raw}`` is the disk, ``{first}`` an earlier
state of it, ``{data}`` the folder of its stored form, ``{state}`` a folder for caches and
configuration, ``{target}`` the restored file.
Pipelines and servers are measured with all their processes.  Nothing here opens a network socket:
repositories are folders, NBD servers listen on Unix sockets.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import measure
from measure import NOT_INSTALLED, Result

HERE = Path(__file__).resolve().parent
BORG = "borg create --chunker-params=fixed,1048576 --compression zstd,1 --sparse"
QCOW2 = (
    "qemu-img convert -f raw -O qcow2 -c -o compression_type=zstd -m 16 -W {raw} {data}/disk.qcow2"
)


@dataclass(frozen=True)
class Peer:
    """One tool: its commands, '' for what it cannot do or what is not of interest."""

    name: str
    tools: tuple[str, ...]
    create: str
    restore: str = ""
    verify: str = ""
    prepare: str = ""
    """Run before ``create``, outside the timing."""
    disks: tuple[str, ...] = ("ext4", "ntfs")
    rival: bool = False
    """True for those of which creation must be faster than the best."""
    encrypted: bool = False
    used_only: bool = False
    """True where only used clusters are kept."""

    @property
    def installed(self) -> bool:
        """True when all its tools are on the path."""
        return measure.available(*self.tools)


def _borg(name: str, mode: str, rival: bool) -> Peer:
    """Return borg with fixed chunks of 1 MiB."""
    return Peer(
        name,
        ("borg",),
        f'cd "$(dirname {{raw}})"; {BORG} {{data}}/repo::a "$(basename {{raw}})"',
        restore="mkdir -p {target}.d; cd {target}.d; borg extract --sparse {data}/repo::a;"
        " mv -f ./*.raw {target}; rmdir {target}.d",
        verify="borg check --verify-data {data}/repo",
        prepare=f"borg init -e {mode} {{data}}/repo",
        rival=rival,
        encrypted=mode != "none",
    )


PEERS = (
    Peer(
        "qemu-img qcow2 zstd",
        ("qemu-img",),
        QCOW2,
        restore="qemu-img convert -f qcow2 -O raw -m 16 -W {data}/disk.qcow2 {target}",
        rival=True,
    ),
    Peer(
        "nbdcopy from qemu-nbd",
        ("nbdcopy", "qemu-nbd", "qemu-img"),
        "",
        restore="nbdcopy -- [ qemu-nbd -r -f qcow2 {data}/disk.qcow2 ] {target}",
        prepare=QCOW2,
    ),
    Peer(
        "zstd -1 -T2, whole raw file",
        ("zstd",),
        "zstd -q -1 -T2 {raw} -o {data}/disk.zst",
        restore="zstd -q -d --sparse {data}/disk.zst -o {target}",
        verify="zstd -q -t {data}/disk.zst",
        rival=True,
    ),
    _borg("borg fixed 1M", "none", True),
    _borg("borg fixed 1M, encrypted", "repokey-blake2", False),
    Peer(
        "restic (encrypted)",
        ("restic",),
        "restic -q backup {raw}",
        restore="restic -q restore latest --target {target}.d; mv -f {target}.d{raw} {target};"
        " rm -r {target}.d",
        verify="restic -q check --read-data",
        prepare="restic -q init --repository-version 2",
        encrypted=True,
    ),
    Peer(
        "partclone -a0 | zstd -1 -T2",
        ("partclone.extfs", "zstd"),
        "partclone.extfs -c -a 0 -B -q -F -L {state}/log -s {raw} -o - | zstd -q -1 -T2"
        " -o {data}/disk.zst",
        restore="zstd -q -dc {data}/disk.zst | partclone.extfs -r -q -F -L {state}/log"
        " -s - -O {target}",
        verify="zstd -q -t {data}/disk.zst",
        disks=("ext4",),
        used_only=True,
    ),
    Peer(
        "ntfsclone | zstd -1 -T2",
        ("ntfsclone", "zstd"),
        "ntfsclone -q -s -O - {raw} | zstd -q -1 -T2 -o {data}/disk.zst",
        restore="rm -f {target}; zstd -q -dc {data}/disk.zst | ntfsclone -q -r -O {target} -",
        verify="zstd -q -t {data}/disk.zst",
        disks=("ntfs",),
        used_only=True,
    ),
)


def _vmdk(name: str, options: str) -> Peer:
    """Return a way of qemu to write a virtual disk."""
    command = f"qemu-img convert -f raw -O vmdk {options} {{raw}} {{data}}/disk.vmdk"
    return Peer(name, ("qemu-img",), command)


VMDK_STREAM = (_vmdk("qemu-img streamOptimized", "-o subformat=streamOptimized"),)
"""It takes minutes, always on one thread."""
VMDK_SPARSE = (
    _vmdk("qemu-img monolithicSparse -m 1", "-m 1"),
    _vmdk("qemu-img monolithicSparse -m 16 -W", "-m 16 -W"),
)

TOOLS = {
    "qemu-img": ["qemu-img", "--version"],
    "zstd": ["zstd", "--version"],
    "borg": ["borg", "--version"],
    "restic": ["restic", "version"],
    "partclone": ["partclone.extfs", "--version"],
    "ntfsclone": ["ntfsclone", "--version"],
    "nbdcopy": ["nbdcopy", "--version"],
    "nbdkit": ["nbdkit", "--version"],
    "openssl": ["openssl", "version"],
}


class Store:
    """A peer's stored form of one disk, in a folder of its own under ``work``."""

    def __init__(self, peer: Peer, raw: Path, work: Path, first: Path | None = None) -> None:
        """``first`` is the earlier state of the disk, for what keeps only the difference."""
        self.peer, self.raw, self.first = peer, raw, first or raw
        self.folder = work / f"peer-{'-'.join(peer.name.replace('|', '').split())}".replace(",", "")
        self.data, self.state = self.folder / "data", self.folder / "state"

    def _run(self, template: str, target: Path = Path("/nonexistent")) -> Result:
        """Run one of the peer's commands; its caches stay in ``state``."""
        names = {
            "raw": self.raw,
            "first": self.first,
            "data": self.data,
            "state": self.state,
            "target": target,
        }
        quoted = {name: shlex.quote(str(path)) for name, path in names.items()}
        env = {
            "BORG_BASE_DIR": str(self.state),
            "BORG_PASSPHRASE": "secret",
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
            "RESTIC_REPOSITORY": str(self.data / "repo"),
            "RESTIC_PASSWORD": "secret",
            "RESTIC_CACHE_DIR": str(self.state),
        }
        return measure.command(template.format(**quoted), env=env)

    def create(self) -> Result:
        """Create the stored form anew; the result holds its size, without what was prepared."""
        if not self.peer.installed:
            return NOT_INSTALLED
        self.drop()
        for folder in (self.data, self.state):
            folder.mkdir(parents=True)
        result = Result()
        if self.peer.prepare:
            self._run(self.peer.prepare)
        prepared = tree_size(self.data)
        if self.peer.create:
            result = self._run(self.peer.create)
        return replace(result, size=tree_size(self.data) - prepared)

    def restore(self, target: Path) -> Result:
        """Restore into ``target``, which must not exist."""
        if not self.peer.installed:
            return NOT_INSTALLED
        try:
            return self._run(self.peer.restore, target)
        finally:
            shutil.rmtree(f"{target}.d", ignore_errors=True)

    def verify(self) -> Result:
        """Let the peer verify all of what it stored."""
        return self._run(self.peer.verify) if self.peer.installed else NOT_INSTALLED

    def drop(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def stored(peer: Peer, raw: Path, work: Path) -> Iterator[Store]:
    """Create a peer's stored form for the length of a block.

    A failure is printed and no more: what is then tried with the store fails too, and is noted.
    """
    store = Store(peer, raw, work)
    try:
        try:
            store.create()
        except measure.CommandError as error:
            print(f"  {error}", file=sys.stderr)
        yield store
    finally:
        store.drop()


def tree_size(folder: Path) -> int:
    """Bytes of all files below ``folder``."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def digest(image: Path) -> Result:
    """SHA-256 of a file by openssl, on one thread."""
    if not measure.available("openssl"):
        return NOT_INSTALLED
    return replace(
        measure.command(["openssl", "dgst", "-sha256", str(image)]), size=image.stat().st_size
    )


# --- random reads over NBD --------------------------------------------------------------------


def build_client(work: Path) -> Path | None:
    """Compile the NBD client; None when there is no C compiler."""
    compiler = next((name for name in ("cc", "gcc", "clang") if measure.available(name)), None)
    if not compiler:
        return None
    client = work / "nbd_client"
    subprocess.run([compiler, "-O2", "-o", client, HERE / "nbd_client.c"], check=True)
    return client


def nbd_reads(server: str, image: Path, client: Path | None, offsets: Path, depth: int) -> Result:
    """Random 4 KiB reads over a Unix socket from ``server``: "qemu-nbd" (qcow2) or "nbdkit" (raw).

    The seconds are the client's, without start and handshake; CPU is that of server and client.
    """
    if client is None or not measure.available(server):
        return NOT_INSTALLED
    socket = client.parent / f"{server}.sock"
    served = {
        "qemu-nbd": ["qemu-nbd", "-r", "-t", "-f", "qcow2", "-k", str(socket), str(image)],
        "nbdkit": ["nbdkit", "-f", "-r", "-U", str(socket), "file", str(image)],
    }
    with measure.daemon(served[server], socket) as running:
        output = client.parent / "nbd.json"
        line = shlex.join([str(client), str(socket), str(depth), str(offsets)])
        result = measure.command(f"exec {line} > {shlex.quote(str(output))}")
        values = json.loads(output.read_text())
        output.unlink()
    return replace(result, seconds=values["seconds"], cpu=result.cpu + running.cpu, values=values)
