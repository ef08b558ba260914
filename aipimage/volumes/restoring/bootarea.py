"""Boot code and disk signature alone, to a disk that keeps everything else."""

from __future__ import annotations

from aipimage.errors import RequestError
from aipimage.io.blocks.sinks import TargetInfo, open_in_place
from aipimage.io.blocks.sources import DeviceSource, FileSource
from aipimage.io.reading.device import Device
from aipimage.io.reading.image import ImageReader
from aipimage.io.reading.results import RestoreResult
from aipimage.volumes.restoring.imagesource import ImageSource
from aipimage.volumes.restoring.job import Options, RestoreJob
from aipimage.volumes.tables.writing import boot_area


def restore_boot_area(
    image: ImageReader,
    device: Device,
    info: TargetInfo,
    code: bool,
    signature: bool,
    options: Options,
) -> RestoreResult:
    """Write the boot code (bytes 0 to 439 of the MBR), the disk signature (440 to 443), or both.

    Raises:
        TargetError: the target is in use, or not empty without ``force``.
        RequestError: one of the two has no MBR, or a new size is asked for.
    """
    if options.size is not None or options.set_size:
        raise RequestError(f"{info.name}: keeps its size where only boot code is restored")
    job = RestoreJob(image, device, options)
    file = open_in_place(info.name, force=options.force, storage=options.storage)
    with file:
        there = DeviceSource(file) if info.is_device else FileSource(file)
        patches = boot_area(ImageSource(device), there, code=code, signature=signature)
        for offset, data in patches:
            file.pwrite(data, offset)
        file.sync()
    names = " and ".join(
        name for name, wanted in (("boot code", code), ("disk signature", signature)) if wanted
    )
    written = 440 * code + 4 * signature
    return RestoreResult(
        info.name,
        device.size,
        written,
        0,
        job.seconds,
        device.index,
        notes=(f"only the {names} was restored",),
    )
