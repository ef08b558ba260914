"""A record is taken from any file of the chain that holds it (docs/format.md, section 9.3)."""

from __future__ import annotations

import random
from pathlib import Path

import aipimage


def test_a_frame_that_one_merged_image_dropped_is_read_from_another(tmp_path: Path) -> None:
    rng = random.Random(3)
    disk = bytearray(rng.randbytes(300_000))
    source = tmp_path / "disk.raw"
    folders = [tmp_path / name for name in ("branch", "last", "first", "work")]
    for folder in folders:
        folder.mkdir()
    branch, last, first, work = folders

    def change(at: int, path: Path, parent: Path) -> None:
        disk[at : at + 4096] = rng.randbytes(4096)
        source.write_bytes(disk)
        aipimage.create(path, source, parent=parent, changed=[(at, 4096)], search=folders)

    source.write_bytes(disk)
    aipimage.create(work / "0.aiv", source)
    change(40_960, work / "1.aiv", work / "0.aiv")
    change(81_920, work / "2.aiv", work / "1.aiv")
    then = bytes(disk)
    change(122_880, branch / "b.aiv", work / "2.aiv")
    wanted = bytes(disk)
    disk[:] = then
    change(40_960, work / "3.aiv", work / "2.aiv")
    aipimage.merge(first / "m1.aiv", [work / "1.aiv", work / "2.aiv"])
    for number in (1, 2):
        (work / f"{number}.aiv").unlink()
    aipimage.merge(last / "m2.aiv", [first / "m1.aiv", work / "3.aiv"], search=[work])
    # The later merge no longer has what image 3 overwrote; the branch needs it.
    for order in ([last, first, work], [first, last, work]):
        with aipimage.open(branch / "b.aiv", search=order) as image:
            assert image.devices[0].open().readall() == wanted
