"""Every frozen vector does what its sidecar states."""

from __future__ import annotations

import json
import shutil
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import aipimage
from tests.support.soon import SOON
from tests.vectors.build_vectors import build

FROZEN = Path(__file__).parent / "v1.0"
NAMES = sorted(path.stem for path in FROZEN.glob("*.json"))


def stated(directory: Path, name: str) -> tuple[Path, dict[str, Any]]:
    """The image's path and what must happen."""
    return directory / f"{name}.aiv", json.loads((directory / f"{name}.json").read_text())


def read_all(path: Path, says: dict[str, Any], *, verify: bool = True) -> list[str]:
    """Open, read and verify fully and without keys."""
    with aipimage.open(path, says["password"]) as image:
        _ = image.metadata
        found = [sha256(device.open().readall()).hexdigest() for device in image.devices]
        if verify:
            assert image.verify().ok
            assert aipimage.verify_keyless(path).ok
    return found


def check(directory: Path, name: str) -> None:
    path, says = stated(directory, name)
    if "devices" in says:
        assert read_all(path, says) == says["devices"]
        return
    expected = getattr(aipimage, says["error"])
    began = time.process_time()
    if says["on"] == "open":
        with pytest.raises(expected) as caught:
            aipimage.open(path, says["password"])
    elif says["on"] == "verify":
        # Nothing that reading needs: the devices are read all the same.
        with aipimage.open(path, says["password"]) as image:
            assert image.metadata["description"] == {}
            assert path.name in image.warnings[0]
            assert all(len(each.open().readall()) == each.size for each in image.devices)
            assert not image.verify().ok
            with pytest.raises(expected) as caught:
                image.reload_metadata()
    else:
        aipimage.open(path, says["password"]).close()
        with pytest.raises(expected) as caught:
            read_all(path, says, verify=False)
        with aipimage.open(path, says["password"]) as image:
            assert not image.verify().ok
    assert caught.type is expected
    assert time.process_time() - began < SOON


@pytest.mark.parametrize("name", NAMES)
def test_frozen(name: str) -> None:
    check(FROZEN, name)


def test_vectors_built_now(tmp_path: Path) -> None:
    """The readable writer still makes what the sidecars state."""
    build(tmp_path)
    names = sorted(path.stem for path in tmp_path.glob("*.json"))
    assert names == NAMES
    for name in names:
        assert (tmp_path / f"{name}.json").read_text() == (FROZEN / f"{name}.json").read_text()
        check(tmp_path, name)


def test_the_frozen_files_are_all_stated_and_small() -> None:
    files = {path.name for path in FROZEN.iterdir() if path.is_file()}
    listed = {file for name in NAMES for file in stated(FROZEN, name)[1]["files"]}
    assert files == listed | {f"{name}.json" for name in NAMES}
    assert sum(path.stat().st_size for path in FROZEN.iterdir()) < 1100 * 1024
    assert len([name for name in NAMES if name.startswith("good-")]) >= 9


def test_good_vectors_restore_split_and_join(tmp_path: Path) -> None:
    for name in NAMES:
        path, says = stated(FROZEN, name)
        if "devices" not in says:
            continue
        aipimage.split(path, tmp_path / f"{name}.aiv", 16_384)
        aipimage.join(tmp_path / f"{name}.aiv", tmp_path / f"{name}-one.aiv")
        assert read_all(tmp_path / f"{name}-one.aiv", says) == says["devices"]
        with aipimage.open(tmp_path / f"{name}-one.aiv", says["password"]) as image:
            image.restore(tmp_path / "out", device=1, force=True, set_size=True)
        assert sha256((tmp_path / "out").read_bytes()).hexdigest() == says["devices"][1]
    shutil.rmtree(tmp_path)
