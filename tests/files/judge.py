"""What others say of the files of a volume: the kernel by a mount, the Sleuth Kit by pytsk3."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import pytsk3

from aipimage.files import Entry, Files

KINDS = {
    stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink",
    stat.S_IFBLK: "block", stat.S_IFCHR: "character", stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}  # fmt: skip
Facts = dict[str, dict[str, Any]]


def of_mount(root: Path) -> Facts:
    """Every file below a mount, by its path in the volume."""
    found: Facts = {}
    for folder, folders, names in os.walk(os.fsencode(root)):
        for name in (*folders, *names):
            path = os.path.join(folder, name)
            shown = os.fsdecode(path)[len(os.fspath(root)) :]
            found[shown] = _of_path(path)
    return found


def _of_path(path: bytes) -> dict[str, Any]:
    info = os.lstat(path)
    kind = KINDS[stat.S_IFMT(info.st_mode)]
    names = os.listxattr(path, follow_symlinks=False)
    return {
        "kind": kind,
        "size": info.st_size,
        "allocated": info.st_blocks * 512,
        "modified": info.st_mtime_ns,
        "accessed": info.st_atime_ns,
        "changed": info.st_ctime_ns,
        "mode": info.st_mode & 0o7777,
        "owner": f"{info.st_uid}:{info.st_gid}",
        "links": info.st_nlink,
        "identity": info.st_ino,
        "device": (os.major(info.st_rdev), os.minor(info.st_rdev))
        if kind in ("block", "character")
        else None,
        "target": os.fsdecode(os.readlink(path)) if kind == "symlink" else "",
        "xattrs": {name: os.getxattr(path, name, follow_symlinks=False) for name in names},
        "content": digest_of(open(path, "rb")) if kind == "file" else "",
    }


def of_volume(volume: Files) -> Facts:
    """The same as this library says it."""
    found: Facts = {}
    for entry in volume.walk():
        assert entry.path not in found, entry.path
        assert volume.stat(entry.path).identity == entry.identity
        found[entry.path] = {
            "kind": entry.kind,
            "size": entry.size,
            "allocated": entry.allocated + _inline(entry),
            "modified": entry.modified and entry.modified.ns,
            "accessed": entry.accessed and entry.accessed.ns,
            "changed": entry.changed and entry.changed.ns,
            "mode": entry.mode,
            "owner": entry.owner,
            "links": entry.links,
            "identity": entry.identity,
            "device": entry.device,
            "target": entry.target,
            "xattrs": dict(entry.xattrs),
            "content": digest_of(volume.open(entry)) if entry.kind == "file" else "",
        }
    return found


def _inline(entry: Entry) -> int:
    """The kernel counts data that lies in an inode as if it took sectors."""
    is_inline = entry.kind == "file" and "inline" in entry.flags
    return -(-entry.size // 512) * 512 if is_inline else 0


def digest_of(file: Any) -> str:
    """SHA-256 of a file, which is closed; pieces of odd lengths."""
    digest = hashlib.sha256()
    with file:
        while piece := file.read(777_777):
            digest.update(piece)
    return digest.hexdigest()


def of_sleuthkit(path: Path, offset: int = 0) -> Facts:
    """Size, kind, times in seconds and content by pytsk3, of what is not deleted."""
    volume = pytsk3.FS_Info(pytsk3.Img_Info(os.fspath(path)), offset=offset)
    found: Facts = {}
    _sleuthkit(volume, volume.open_dir("/"), "", found, {volume.info.root_inum})
    return found


def _sleuthkit(volume: Any, folder: Any, path: str, found: Facts, entered: set[int]) -> None:
    for entry in folder:
        name = entry.info.name.name.decode("utf-8", "surrogateescape")
        meta = entry.info.meta
        if name in (".", "..") or meta is None or (not path and name.startswith("$")):
            continue
        if entry.info.name.flags & pytsk3.TSK_FS_NAME_FLAG_UNALLOC:
            continue
        is_folder = meta.type == pytsk3.TSK_FS_META_TYPE_DIR
        here = f"{path}/{name}"
        found[here] = {
            "kind": {pytsk3.TSK_FS_META_TYPE_DIR: "directory", pytsk3.TSK_FS_META_TYPE_REG: "file"}
            .get(meta.type, "other"),
            "size": meta.size,
            "modified": meta.mtime,
            "content": "",
        }  # fmt: skip
        if meta.type == pytsk3.TSK_FS_META_TYPE_REG:
            data = entry.read_random(0, meta.size) if meta.size else b""
            found[here]["content"] = hashlib.sha256(data).hexdigest()
        if is_folder and meta.addr not in entered:
            entered.add(meta.addr)
            _sleuthkit(volume, entry.as_directory(), here, found, entered)
