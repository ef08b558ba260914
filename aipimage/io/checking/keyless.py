"""Checking every stored byte without any key (docs/format.md, sections 9.4 and 13).

Seals are sealed themselves where there is a suite, so that only ids in headers and trailers can be
read: which images the one that is asked for needs is not known then, and all of its chain are
checked. Of a plain chain the links are checked too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import BinaryIO, NamedTuple

from aipimage import checks
from aipimage.errors import AipImageError, CancelledError, IncompleteError
from aipimage.format import constants as c
from aipimage.io.chain.chain import members_of
from aipimage.io.checking.chainverify import wrong_state
from aipimage.io.checking.findings import DAMAGE_MAX
from aipimage.io.checking.recordcheck import check_stored_bytes
from aipimage.io.checking.results import Damage, MemberResult, VerifyResult
from aipimage.io.reading.image import open_reader
from aipimage.io.reading.members import MemberFiles, searched
from aipimage.io.stream.instream import InStream, base_path, open_stream
from aipimage.io.stream.opening import read_header
from aipimage.io.stream.tail import Tail
from aipimage.io.system.inputs import Input
from aipimage.io.system.openers import Opener
from aipimage.io.system.progress import JoinedProgress, ProgressCallback
from aipimage.io.system.storage import Storage, StrPath, absolute


def verify_keyless(
    path: StrPath | BinaryIO | Sequence[BinaryIO],
    *,
    chain: bool = False,
    search: Sequence[StrPath] | None = None,
    expected_digest: str | None = None,
    executor: Executor | None = None,
    threads: int | None = None,
    progress: ProgressCallback | None = None,
    storage: Opener | Storage | None = None,
) -> VerifyResult:
    """Check every stored byte against the digests beside it, without any key (section 13).

    Finds damage, but not tampering that recomputes the digests.

    Args:
        chain: also check the images that this one needs; of an encrypted chain, whose links cannot
            be read without its key, all of its chain.
        search: directories to find them in, besides the image's own.
        path: of the image; or a seekable binary file object, or those of all of its parts.
        storage: opens ``path``, which is one of its names, and the images of its chain.
        expected_digest: the image digest that was kept elsewhere; another one is damage.

    Raises:
        FormatError, IncompleteError: not a whole image. IntegrityError: header or trailer are
            damaged.
    """
    found = Input("path", path, storage)
    path, storage = found.path, found.storage
    expected_digest = checks.hex_digest("expected_digest", expected_digest)
    checks.flags(chain=chain)
    checks.paths("search", search)
    checks.jobs(executor, progress)
    threads = checks.threads(threads)
    if chain:
        images = _images_to_check(storage, path, search)
        return _checked_chain(images, storage, expected_digest, executor, threads, progress)
    with open_stream(storage, path) as stream:
        return check_stored_bytes(stream, expected_digest, executor, threads, progress)


class _Image(NamedTuple):
    """A file to check, or none for a missing image, and what is known against it."""

    image_id: str
    path: str | None
    stored: int
    damage: list[Damage]


# Which images


def _images_to_check(storage: Storage, name: str, search: Sequence[StrPath] | None) -> list[_Image]:
    """All that are to be checked; the one that was asked for comes last."""
    files = MemberFiles(storage, [os.path.dirname(name), *searched(search)])
    with open_stream(storage, name) as stream:
        header = read_header(stream)
        own = _image_of(base_path(name), stream)
    if header.suite:
        return [*_others_of_chain(files, base_path(name), header.chain_id), own]
    return _linked(files, name)


def _image_of(path: str, stream: InStream) -> _Image:
    """Raises ``IncompleteError``, ``IntegrityError`` where the trailer cannot be read."""
    trailer = Tail(stream, c.TRAILER).trailer()
    return _Image(trailer.image_id.hex(), path, stream.size, [])


def _others_of_chain(files: MemberFiles, own: str, chain_id: bytes) -> list[_Image]:
    """All other files of the chain, by header and trailer."""
    images: list[_Image] = []
    for candidate in files.of_chain(chain_id):
        if absolute(candidate.path) == absolute(own):
            continue
        try:
            with open_stream(files.storage, candidate.path) as stream:
                images.append(_image_of(candidate.path, stream))
        except AipImageError as error:
            damage = Damage(f"{candidate.path}: {error}", path=candidate.path)
            images.append(_Image(candidate.file_id.hex(), candidate.path, 0, [damage]))
    return images


def _linked(files: MemberFiles, name: str) -> list[_Image]:
    """The images that one of a plain chain needs, with what their links say against them."""
    with open_reader(name, files=files, storage=files.storage) as image:
        needed = members_of(image).needed
    last = len(needed) - 1
    return [
        _Image(each.image_id, each.path, each.stored, wrong_state(each, here=place == last))
        for place, each in enumerate(needed)
    ]


# Their bytes


def _checked_chain(
    images: list[_Image],
    storage: Storage,
    expected_digest: str | None,
    executor: Executor | None,
    threads: int | None,
    progress: ProgressCallback | None,
) -> VerifyResult:
    joined = JoinedProgress(sum(image.stored for image in images), progress)
    results: list[VerifyResult] = []
    for image in images:
        is_last = image is images[-1]
        expected = expected_digest if is_last else None
        result = _checked(image, storage, expected, executor, threads, joined.callback)
        # Findings of the image that was asked for need no path.
        results.append(result if is_last else _with_path(result, image.path))
        joined.end(image.stored)
    members = [
        MemberResult(image.image_id, image.path, result.ok, result.frames, result.bytes)
        for image, result in zip(images, results, strict=True)
    ]
    damage = [found for result in results for found in result.damage][:DAMAGE_MAX]
    seconds = time.monotonic() - joined.started
    frames, size = sum(each.frames for each in results), sum(each.bytes for each in results)
    return VerifyResult("keyless", frames, size, seconds, tuple(damage), tuple(members))


def _checked(
    image: _Image,
    storage: Storage,
    expected: str | None,
    executor: Executor | None,
    threads: int | None,
    progress: ProgressCallback | None,
) -> VerifyResult:
    """The check of one; what raises an error in an image alone is a finding here."""
    nothing = VerifyResult("keyless", 0, 0, 0.0, tuple(image.damage))
    if image.path is None:
        return nothing
    try:
        with open_stream(storage, image.path) as stream:
            result = check_stored_bytes(stream, expected, executor, threads, progress)
    except CancelledError:
        raise
    except AipImageError as error:
        if isinstance(error, IncompleteError) and image.damage:
            return nothing
        return replace(nothing, damage=(*image.damage, Damage(str(error))))
    return replace(result, damage=(*image.damage, *result.damage))


def _with_path(result: VerifyResult, path: str | None) -> VerifyResult:
    """A finding of another file says which; one that has a path keeps it."""
    return replace(
        result, damage=tuple(each._replace(path=each.path or path) for each in result.damage)
    )
