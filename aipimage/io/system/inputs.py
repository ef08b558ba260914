"""What a caller passes as an image or a folder to read, as a storage and paths in it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, BinaryIO

from aipimage import checks
from aipimage.errors import RequestError
from aipimage.io.system.openers import FileObjects, Opener
from aipimage.io.system.openerstorage import OpenerStorage
from aipimage.io.system.storage import DEFAULT, Storage


def chosen_storage(storage: Opener | Storage | None) -> Storage:
    """The storage for what a caller gave: an opener, one of ours, or nothing."""
    if storage is None:
        return DEFAULT
    if isinstance(storage, Storage):
        return storage
    return OpenerStorage(
        checks.instance("storage", storage, Opener, "an object with open(name) and names()")
    )


class Input:
    """Where an image is read from: a path, a name of an opener, or file objects.

    Attributes:
        storage: that reads it. path: of the image there.
    """

    def __init__(self, name: str, given: object, storage: Opener | Storage | None) -> None:
        if not checks.is_path(given) and storage is None:
            self.storage, self.path = _of_objects(name, given)
            return
        self.storage = chosen_storage(storage)
        self.path = checks.path(name, given)
        if isinstance(self.storage, OpenerStorage) and self.storage is not storage:
            self.path = self.storage.path_of(self.path)


def _of_objects(name: str, given: object) -> tuple[Storage, str]:
    """A file object, or those of the parts of one image in any order."""
    objects: list[Any] = list(given) if isinstance(given, (list, tuple)) else [given]
    accepted = "a path, a seekable binary file object, or a list of those of all parts"
    if not objects or not all(callable(getattr(each, "read", None)) for each in objects):
        raise checks.wrong_type(name, given, accepted)
    found = getattr(objects[0], "name", None)
    base = os.path.basename(found) if isinstance(found, str) else ""
    names = [base or "image.aiv"] if len(objects) == 1 else _part_names(len(objects))
    storage = OpenerStorage(FileObjects(dict(zip(names, objects, strict=True)), "<file object>"))
    return storage, storage.path_of(names[0])


def _part_names(count: int) -> list[str]:
    return ["image.aiv", *(f"image.aiv.{number:03}" for number in range(2, count + 1))]


def readable_inputs(
    name: str, given: Sequence[object], storage: Opener | Storage | None
) -> tuple[Storage, list[str]]:
    """Several images: paths, names of an opener, or file objects of whole images each."""
    if storage is not None or all(checks.is_path(each) for each in given):
        chosen = chosen_storage(storage)
        names = checks.paths(name, given)
        if isinstance(chosen, OpenerStorage) and chosen is not storage:
            names = [chosen.path_of(each) for each in names]
        return chosen, names
    files: dict[str, BinaryIO] = {}
    keys: list[str] = []
    for at, each in enumerate(given):
        if checks.is_path(each):
            keys.append(checks.path(f"{name}[{at}]", each))
        elif callable(getattr(each, "read", None)):
            keys.append(f"<file objects>/image {at}.aiv")
            files[f"image {at}.aiv"] = each  # type: ignore[assignment]
        else:
            accepted = "a path, or a seekable binary file object"
            raise checks.wrong_type(f"{name}[{at}]", each, accepted)
    return OpenerStorage(FileObjects(files)), keys


def folders_of(search: object, storage: Opener | Storage | None) -> tuple[Storage, list[str]]:
    """The storage, and folders of it or of the system."""
    found = chosen_storage(storage)
    if isinstance(found, OpenerStorage) and found is not storage:
        given = [search] if isinstance(search, str) else search
        folders = checks.words("search", given)
        return found, [found.folder_of(each) for each in folders]
    return found, checks.paths("search", search)


def refuse_to_remove(storage: Storage) -> None:
    """``RequestError`` where images are not files of the system."""
    if isinstance(storage, OpenerStorage):
        raise RequestError("images that are only read cannot be removed; leave remove out")
