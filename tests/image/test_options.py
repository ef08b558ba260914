"""Options as one value: the same as keywords, which stay as they are."""

from __future__ import annotations

import dataclasses
import inspect
import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aipimage
from aipimage import ConvertOptions, CreateOptions, OptionError, OptionTypeError, RestoreOptions

MIB = 1 << 20
DISK = random.Random(7).randbytes(MIB) + bytes(MIB)
# What belongs to one call: what it works on, and who does the work.
OF_A_CALL = {
    "self",
    "path",
    "sources",
    "source",
    "target",
    "progress",
    "executor",
    "storage",
    "options",
}
FORMS: list[tuple[type[Any], Callable[..., Any]]] = [
    (CreateOptions, aipimage.create),
    (ConvertOptions, aipimage.convert),
    (RestoreOptions, aipimage.Image.restore),
]


@pytest.mark.parametrize(("kind", "function"), FORMS, ids=lambda each: each.__name__)
def test_fields_are_the_keywords(kind: type[Any], function: Callable[..., Any]) -> None:
    """The same names, order, defaults and types: neither form has what the other lacks, and the
    options of a call are made of its arguments by the names of the fields.
    """
    parameters = inspect.signature(function).parameters.values()
    keywords = [(each.name, each.default) for each in parameters if each.name not in OF_A_CALL]
    assert [(each.name, each.default) for each in dataclasses.fields(kind)] == keywords
    types = {each.name: each.annotation for each in parameters}
    plain = {"StrPath": "str | os.PathLike[str]", "aipimage.": ""}
    for field in dataclasses.fields(kind):
        ours, theirs = str(field.type), str(types[field.name])
        for name, meaning in plain.items():
            ours, theirs = ours.replace(name, meaning), theirs.replace(name, meaning)
        assert theirs in ours, field.name


@pytest.fixture
def image(tmp_path: Path) -> Path:
    aipimage.create(tmp_path / "disk.aiv", io.BytesIO(DISK))
    return tmp_path / "disk.aiv"


def test_create(tmp_path: Path) -> None:
    """Everything that options can say of an image arrives in it."""
    options = CreateOptions(
        compress="zstd:3",
        encrypt="aes-256",
        password="secret",
        comment="nightly",
        tags={"host": "web"},
        split="512K",
        frame_size="128K",
        include_free=True,
        threads=1,
    )
    result = aipimage.create(tmp_path / "a.aiv", io.BytesIO(DISK), options=options)
    assert result.parts > 1
    with aipimage.open(tmp_path / "a.aiv", "secret") as made:
        assert made.metadata["description"]["comment"] == "nightly"
        assert made.tags == {"host": "web"}
        assert made.encryption == "aes-256"
        assert made.devices[0].open().read() == DISK
    again = dataclasses.replace(options, split=None, comment="again")
    aipimage.create(tmp_path / "b.aiv", io.BytesIO(DISK), options=again)
    with aipimage.open(tmp_path / "b.aiv", "secret") as made:
        assert made.metadata["description"]["comment"] == "again"


def test_create_with_an_array_of_changes(image: Path) -> None:
    """An array is compared as one value, and not element by element."""
    changed = np.array([[0, 4096]], np.uint64)
    options = CreateOptions(parent=image, changed=changed)
    result = aipimage.create(image.with_name("b.aiv"), io.BytesIO(DISK), options=options)
    assert result.changes[0].method == "tracked"
    with pytest.raises(OptionError, match="changed is passed beside options"):
        aipimage.create(
            image.with_name("c.aiv"),
            io.BytesIO(DISK),
            options=CreateOptions(parent=image),
            changed=changed,
        )


def test_convert(image: Path) -> None:
    """The same disk as with keywords, byte for byte."""
    values: dict[str, Any] = {"subformat": "twoGbMaxExtentFlat", "split": "1M", "cid": 5}
    for name in ("a", "b"):
        image.with_name(name).mkdir()
    options = ConvertOptions(**values)
    result = aipimage.convert(image, image.with_name("a") / "d.vmdk", options=options)
    aipimage.convert(image, image.with_name("b") / "d.vmdk", **values)
    assert result.cid == 5
    made = {path.name: path.read_bytes() for path in image.with_name("a").iterdir()}
    assert len(made) == 3
    assert made == {path.name: path.read_bytes() for path in image.with_name("b").iterdir()}


def test_restore(image: Path, tmp_path: Path) -> None:
    """To a file of another size, which keywords can ask for too."""
    options = RestoreOptions(size="4M", force=True, threads=1)
    (tmp_path / "t.raw").write_bytes(b"there")
    with aipimage.open(image) as opened:
        opened.restore(tmp_path / "t.raw", options=options)
        with pytest.raises(OptionError, match=r"device is passed beside options; .*replace"):
            opened.restore(tmp_path / "u.raw", options=options, device=1)
    assert (tmp_path / "t.raw").read_bytes() == DISK + bytes(2 * MIB)
    assert not (tmp_path / "u.raw").exists()


@pytest.mark.parametrize("wrong", [{"size": 5}, "zstd", RestoreOptions(), 1])
def test_other_values_are_refused(wrong: Any, image: Path) -> None:
    """By name, before anything is done."""
    with pytest.raises(OptionTypeError, match=r"options=.*CreateOptions"):
        aipimage.create(image.with_name("new.aiv"), io.BytesIO(DISK), options=wrong)
    with pytest.raises(OptionTypeError, match=r"options=.*ConvertOptions"):
        aipimage.convert(image, image.with_name("new.vmdk"), options=wrong)
    assert [path.name for path in image.parent.iterdir()] == ["disk.aiv"]


def test_fields_are_checked_as_keywords_are(image: Path) -> None:
    """When they are used, with the same errors."""
    with pytest.raises(OptionTypeError, match="include_free"):
        aipimage.create(
            image.with_name("new.aiv"),
            io.BytesIO(DISK),
            options=CreateOptions(include_free="no"),  # type: ignore[arg-type]
        )
    with pytest.raises(OptionError, match="frames of 5000 bytes"):
        aipimage.create(
            image.with_name("new.aiv"), io.BytesIO(DISK), options=CreateOptions(frame_size=5000)
        )
    with pytest.raises(OptionError, match="cid=-1"):
        aipimage.convert(image, image.with_name("new.vmdk"), options=ConvertOptions(cid=-1))
    with aipimage.open(image) as opened, pytest.raises(OptionTypeError, match="new_ids"):
        opened.restore(image.with_name("new.raw"), options=RestoreOptions(new_ids=1))  # type: ignore[arg-type]
    assert [path.name for path in image.parent.iterdir()] == ["disk.aiv"]


def test_secrets_are_not_shown() -> None:
    """Options end up in logs."""
    for kind in (CreateOptions, ConvertOptions):
        assert "hidden" not in repr(kind(password="hidden"))
    assert "hidden" not in repr(CreateOptions(recovery_key="hidden"))
