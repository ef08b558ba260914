"""Checking an image: full, sampled, keyless (docs/format.md, section 13).

A full verification goes down from the seal to every page, takes the devices in the order of their
maps with the frames that these name, and then the frames that no map names. It remembers which
bytes of the stream it has seen; what is left (checkpoints, pages that a resume made dead) is walked
afterwards, so that every byte was looked at. Pages of the map and frame tables that other files of
the chain hold are looked at too; frames are checked in the file that holds them.
"""

from __future__ import annotations

import time
from concurrent.futures import Executor
from functools import partial

from aipimage.errors import RequestError
from aipimage.io.checking.framecheck import FrameCheck
from aipimage.io.checking.pagecheck import PageCheck
from aipimage.io.checking.results import VerifyResult
from aipimage.io.checking.streamcheck import StreamCheck
from aipimage.io.checking.verification import Verification
from aipimage.io.reading.image import ImageReader
from aipimage.io.system.pipeline import executor_for
from aipimage.io.system.progress import ProgressCallback


def verify_image(
    image: ImageReader,
    sample: float | None,
    executor: Executor | None,
    threads: int | None,
    progress: ProgressCallback | None,
) -> VerifyResult:
    """Verify an opened image; the public form is :meth:`aipimage.Image.verify`."""
    if sample is not None and not 0 < sample <= 100:
        raise RequestError(f"a sample of {sample} percent is not possible; pass over 0 to 100")
    return verified(Verification(image, sample, progress), executor, threads)


def verified(job: Verification, executor: Executor | None, threads: int | None) -> VerifyResult:
    """Check pages, frames, and with a full verification all other bytes."""
    image = job.image
    image.records.on_fetch = job.saw
    try:
        _check_all(job, executor, threads)
    finally:
        image.records.on_fetch = None
        # What failed because the image was closed meanwhile is not damage.
        image.check_open()
    job.reporter.report(image.stored, job.bytes, final=True)
    seconds = time.monotonic() - job.reporter.started
    found = tuple(job.damage.located(image))
    image.check_open()
    return VerifyResult(
        "sample" if job.is_sample else "full", job.frames, job.bytes, seconds, found
    )


def _check_all(job: Verification, executor: Executor | None, threads: int | None) -> None:
    devices = job.image.devices
    pages = PageCheck(job)
    pages.run()
    with executor_for(executor, threads, "verify") as (pool, in_flight):
        frames = FrameCheck(job, pool, in_flight)
        for device in devices:
            step = partial(frames.check_device, device, pages.views.get(device.index))
            job.check(step, f"map of device {device.index}")
        frames.check_others()
    for device in devices:
        job.check(partial(job.gaps.check, device.map), f"map of device {device.index}")
    StreamCheck(job).run()
