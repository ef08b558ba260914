"""Checking the stored bytes of the files of a chain without any key (docs/format.md, sections 9.4
and 13).

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
from typing import NamedTuple

from aipimage.errors import AipImageError, CancelledError, IncompleteError
from aipimage.format import constants as c
from aipimage.io.checking.chainverify import JoinedProgress, wrong_state
from aipimage.io.checking.findings import DAMAGE_MAX, Damage
from aipimage.io.checking.keyless import verify_keyless
from aipimage.io.checking.verify import MemberResult, VerifyResult
from aipimage.io.reading.members import MemberFiles, searched
from aipimage.io.stream.instream import InStream, base_path, open_stream
from aipimage.io.stream.opening import read_header
from aipimage.io.stream.tail import Tail
from aipimage.io.system.progress import ProgressCallback
from aipimage.io.system.storage import Storage, StrPath, absolute


class _Job(NamedTuple):
    """A file to check, or none for a missing image, and what is known against it."""

    image_id: str
    path: str | None
    stored: int
    damage: list[Damage]


def verify_chain_keyless(
    path: StrPath,
    expected_digest: str | None,
    search: Sequence[StrPath] | None,
    executor: Executor | None,
    threads: int | None,
    progress: ProgressCallback | None,
    storage: Storage,
) -> VerifyResult:
    """Check the files of a chain; the public form is :func:`aipimage.verify_keyless`."""
    name = os.fspath(path)
    files = MemberFiles(storage, [os.path.dirname(name), *searched(search)])
    with open_stream(storage, name) as stream:
        suite, chain_id = (header := read_header(stream)).suite, header.chain_id
        own = _job(base_path(name), stream)
    jobs = [*_others(files, own, chain_id), own] if suite else _linked(files, name)
    joined = JoinedProgress(sum(job.stored for job in jobs), progress)
    results: list[VerifyResult] = []
    for job in jobs:
        # The image that was asked for comes last, and its findings need no path.
        expected, place = (expected_digest, None) if job is jobs[-1] else (None, job.path)
        results.append(_checked(job, place, storage, expected, executor, threads, joined.callback))
        joined.end(job.stored)
    members = [
        MemberResult(job.image_id, job.path, result.ok, result.frames, result.bytes)
        for job, result in zip(jobs, results, strict=True)
    ]
    damage = [found for result in results for found in result.damage][:DAMAGE_MAX]
    seconds = time.monotonic() - joined.started
    frames, size = sum(each.frames for each in results), sum(each.bytes for each in results)
    return VerifyResult("keyless", frames, size, seconds, tuple(damage), tuple(members))


def _job(path: str, stream: InStream) -> _Job:
    """Raises ``IncompleteError``, ``IntegrityError`` where the trailer cannot be read."""
    trailer = Tail(stream, c.TRAILER).trailer()
    return _Job(trailer.image_id.hex(), path, stream.size, [])


def _others(files: MemberFiles, own: _Job, chain_id: bytes) -> list[_Job]:
    """All other files of the chain, by header and trailer."""
    jobs: list[_Job] = []
    assert own.path is not None
    for candidate in files.of_chain(chain_id):
        if absolute(candidate.path) == absolute(own.path):
            continue
        try:
            with open_stream(files.storage, candidate.path) as stream:
                jobs.append(_job(candidate.path, stream))
        except AipImageError as error:
            damage = Damage(f"{candidate.path}: {error}", path=candidate.path)
            jobs.append(_Job(candidate.file_id.hex(), candidate.path, 0, [damage]))
    return jobs


def _linked(files: MemberFiles, name: str) -> list[_Job]:
    """The images that one of a plain chain needs, with what their links say against them."""
    from aipimage.io.reading.image import open_image

    with open_image(name, files=files, storage=files.storage) as image:
        needed = image.chain.needed
    last = len(needed) - 1
    return [
        _Job(each.image_id, each.path, each.stored, wrong_state(each, here=place == last))
        for place, each in enumerate(needed)
    ]


def _checked(
    job: _Job,
    place: str | None,
    storage: Storage,
    expected: str | None,
    executor: Executor | None,
    threads: int | None,
    progress: ProgressCallback | None,
) -> VerifyResult:
    nothing = VerifyResult("keyless", 0, 0, 0.0, tuple(job.damage))
    if job.path is None:
        return nothing
    try:
        result = verify_keyless(
            job.path,
            expected_digest=expected,
            executor=executor,
            threads=threads,
            progress=progress,
            storage=storage,
        )
    except CancelledError:
        raise
    except AipImageError as error:
        if isinstance(error, IncompleteError) and job.damage:
            return nothing
        return replace(nothing, damage=(*job.damage, Damage(str(error), path=place)))
    found = [each._replace(path=place) for each in result.damage]
    return replace(result, damage=(*job.damage, *found))
