"""A recovery key is shown before its slot exists: there is no key that nobody saw."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

import aipimage
from aipimage import StorageError
from tests.cli.running import PASSWORD, invoke, spawn

needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
OUTPUTS = [pytest.param("full", marks=needs_full), "closed", "reader gone"]


@pytest.fixture
def image(secret: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(secret, tmp_path / "a.aiv"))


def run_into(output: str, *arguments: object) -> tuple[int, str]:
    """Run the command with a standard output that takes nothing."""
    if output == "closed":
        line = ["sh", "-c", '"$@" >&-', "sh", sys.executable, "-m", "aipimage.cli"]
        ended = subprocess.run(
            [*line, *map(str, arguments)], stderr=subprocess.PIPE, text=True, check=False
        )
        return ended.returncode, ended.stderr
    if output == "full":
        with open("/dev/full", "w") as full:
            ran = spawn(*arguments, stdout=full)
    else:
        reading, writing = os.pipe()
        os.close(reading)
        ran = spawn(*arguments, stdout=writing)
        os.close(writing)
    return ran.code, ran.err


def recovery_slots(path: Path) -> int:
    return sum(slot.state == "recovery" for slot in aipimage.list_slots(path))


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("output", OUTPUTS)
def test_passwd(output: str, as_json: bool, image: Path, password: Path) -> None:
    before = image.read_bytes()
    code, said = run_into(
        output,
        "passwd",
        image,
        "--recovery",
        "--password-file",
        password,
        *(["--json"] if as_json else []),
    )
    assert code == 1
    assert said.startswith("aipimage: error: standard output: ")
    assert "no recovery key was made" in said
    assert image.read_bytes() == before


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("output", OUTPUTS)
def test_createimage(
    output: str, as_json: bool, disk: Path, password: Path, tmp_path: Path
) -> None:
    """With closed output nothing is begun; else the image is whole, and the message says so."""
    out = tmp_path / "n.aiv"
    code, said = run_into(
        output, "createimage", "-o", out, disk, "--encrypt", "aes-256", "--password-file", password,
        "--recovery-key", *(["--json"] if as_json else []),
    )  # fmt: skip
    assert code == 1
    assert "aipimage: error: standard output: " in said
    if output == "closed":
        assert not os.listdir(tmp_path)
        return
    assert f"{out} is whole, but has no recovery key" in said
    assert recovery_slots(out) == 0
    with aipimage.open(out, PASSWORD) as opened:
        assert opened.verify().ok


def test_a_slot_that_cannot_be_written_after_all(image: Path, password: Path) -> None:
    """The key was shown; the message says that it is of no use."""
    with mock.patch(
        "aipimage.io.stream.passwords._Editor.commit", side_effect=StorageError("disk gone")
    ):
        ran = invoke("passwd", image, "--recovery", "--password-file", password)
    assert ran.code == 1
    assert "recovery key" in ran.out
    assert ran.error == f"{image}: disk gone; the key that was shown opens nothing"


def test_what_the_caller_raises_leaves_the_image_as_it_was(image: Path) -> None:
    """In the library too: whoever keeps the key may fail at it."""
    before = image.read_bytes()

    def show(key: str) -> None:
        assert len(key) > 20
        assert image.read_bytes() == before
        raise ConnectionError("the vault is closed")

    with pytest.raises(ConnectionError):
        aipimage.add_recovery_key(image, PASSWORD, show=show)
    assert image.read_bytes() == before
    seen: list[str] = []
    assert [aipimage.add_recovery_key(image, PASSWORD, show=seen.append)] == seen
    assert recovery_slots(image) == 1
    with aipimage.open(image, seen[0]) as opened:
        assert opened.verify().ok
