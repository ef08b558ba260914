"""Volume groups made by LVM's own tools, without the kernel's device mapper."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support import loop_device
from tests.support.tools import PATH, require_programs, run
from tests.volumes.containers.made import Ranges, joined

_CONFIG = """devices {{
    filter = [ {filter} "r|.*|" ]
    use_devicesfile = 0
    obtain_device_list_from_udev = 0
    external_device_info_source = "none"
}}
activation {{ udev_sync = 0 udev_rules = 0 monitoring = 0 }}
global {{ use_lvmpolld = 0 use_lvmlockd = 0 locking_dir = "{lock}" }}
backup {{ backup = 0 archive = 0 }}
"""


class Group:
    """A volume group ``vg`` on loop devices over sparse files."""

    def __init__(self, at: Path, devices: list[str], files: list[Path]) -> None:
        self.at, self.devices, self.files = at, devices, files
        listed = " ".join(f'"a|^{device}$|",' for device in devices)
        (at / "lvm.conf").write_text(_CONFIG.format(filter=listed, lock=at / "lock"))

    def lvm(self, *words: object, codes: tuple[int, ...] = (0,)) -> str:
        """Run a command of LVM; no volume is activated."""
        environment = {
            "LVM_SYSTEM_DIR": str(self.at),
            "LVM_SUPPRESS_FD_WARNINGS": "1",
            "DM_DISABLE_UDEV": "1",
            "PATH": PATH,
            "LC_ALL": "C",
            "HOME": os.environ.get("HOME", "/"),
        }
        command = ["env", "-i", *(f"{name}={value}" for name, value in environment.items())]
        command += ["lvm", *(str(word) for word in words), "--driverloaded", "n"]
        return run(command, codes=codes)

    def report(self, *words: object) -> list[dict[str, str]]:
        """The rows of a report."""
        text = self.lvm(*words, "--reportformat", "json", "--units", "b", "--nosuffix")
        lines = [line for line in text.splitlines() if not line.startswith("  WARNING")]
        found = json.loads("\n".join(lines))["report"][0]
        return [row for rows in found.values() for row in rows]

    def free_extents(self, disk: int = 0) -> Ranges:
        """What ``pvs`` calls free of a physical volume, in bytes."""
        rows = self.report(
            "pvs",
            "--segments",
            "-o",
            "pe_start,vg_extent_size,pvseg_start,pvseg_size,segtype",
            self.devices[disk],
        )
        return joined(
            [
                (
                    int(row["pe_start"]) + int(row["pvseg_start"]) * int(row["vg_extent_size"]),
                    int(row["pvseg_size"]) * int(row["vg_extent_size"]),
                )
                for row in rows
                if row["segtype"] == "free"
            ]
        )

    def places(self, name: str, disk: int = 0) -> Ranges:
        """Where the segments of a logical volume lie on a physical one, in bytes, in order."""
        rows = self.report(
            "lvs",
            "--segments",
            "-a",
            "-o",
            "seg_start,seg_pe_ranges,vg_extent_size",
            "--sort",
            "seg_start",
            f"vg/{name}",
        )
        first = int(self.report("pvs", "-o", "pe_start", self.devices[disk])[0]["pe_start"])
        found = []
        for row in rows:
            device, pes = row["seg_pe_ranges"].rsplit(":", 1)
            low, high = (int(number) for number in pes.split("-"))
            assert device == self.devices[disk]
            size = int(row["vg_extent_size"])
            found.append((first + low * size, (high + 1 - low) * size))
        return found

    def write(self, name: str, content: Path) -> None:
        """Put the content of a file into a logical volume, all of whose segments are linear."""
        with open(content, "rb") as source, open(self.files[0], "r+b") as target:
            for offset, length in self.places(name):
                target.seek(offset)
                target.write(source.read(length))

    def read(self, name: str, into: Path) -> None:
        """The other way round."""
        with open(self.files[0], "rb") as source, open(into, "wb") as target:
            for offset, length in self.places(name):
                source.seek(offset)
                target.write(source.read(length))


@contextmanager
def volume_group(
    at: Path, size: int, *options: object, disks: int = 1, extent: str = "256k"
) -> Iterator[Group]:
    """A group on ``disks`` physical volumes that ``pvcreate`` makes with ``options``."""
    require_programs("lvm", "losetup")
    with ExitStack() as stack:
        files = [at / f"pv{number}.raw" for number in range(disks)]
        for file in files:
            with open(file, "wb") as raw:
                raw.truncate(size)
        devices = [stack.enter_context(loop_device(file)) for file in files]
        group = Group(at, devices, files)
        for device in devices:
            group.lvm("pvcreate", "-q", *options, device)
        group.lvm("vgcreate", "-q", "-s", extent, "vg", *devices)
        yield group


def age(group: Group, rng: random.Random, steps: int) -> Iterator[list[str]]:
    """Create, grow, shrink, rename and remove volumes; yield their names after each step."""
    names: list[str] = []
    for number in range(steps):
        free = sum(length for _, length in group.free_extents()) // (256 << 10)
        if free > 8 and (len(names) < 3 or rng.random() < 0.4):
            names.append(f"lv{number}")
            extents = rng.randint(1, free // 3)
            create = ("lvcreate", "-an", "-Zn", "-Wn", "-n", names[-1], "-l", extents, "vg")
            group.lvm(*create, group.devices[0])
        elif free > 2 and rng.random() < 0.5:
            chosen = rng.choice(names)
            group.lvm(
                "lvextend", "-l", f"+{rng.randint(1, free)}", f"vg/{chosen}", group.devices[0]
            )
        elif rng.random() < 0.4:
            # One that has only an extent already is refused.
            chosen = rng.choice(names)
            group.lvm("lvreduce", "-f", "-l", "1", f"vg/{chosen}", codes=(0, 5))
        else:
            group.lvm("lvremove", "-f", f"vg/{names.pop(rng.randrange(len(names)))}")
        yield list(names)
