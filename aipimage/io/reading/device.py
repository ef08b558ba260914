"""A device of an image, and the read-only binary file that it opens as."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from aipimage import checks, hints
from aipimage.errors import AipImageError, ClosedError, FormatError, IntegrityError, OptionError
from aipimage.extents import SECTOR, Extent, Kind
from aipimage.format.seal import SealDevice
from aipimage.io import reading
from aipimage.io.index.devicemap import DeviceMap, Piece
from aipimage.io.index.origins import Origins
from aipimage.io.reading.located import located, lost, past_frame

if TYPE_CHECKING:
    from aipimage.io.reading.image import ImageReader

_ZEROS = bytes(65_536)
_READ_AHEAD = 8
_SEQUENTIAL = 65_536


class Device:
    """One imaged disk or volume.

    Attributes:
        index: its number in the image, from 0.
        size: bytes. sector_size: logical sector size of the source, bytes.
    """

    def __init__(self, image: ImageReader, index: int, entry: SealDevice, origins: Origins) -> None:
        self._image, self.index, self.entry = image, index, entry
        self.size, self.sector_size = entry.size, entry.sector_size
        self.map = DeviceMap(image.records, image.header, entry, index, origins, image.path)
        self._gate, self._shift = image.stream.gate, image.header.frame_shift

    def __repr__(self) -> str:
        return f"<aipimage.Device {self.index} of {self._image.path!r}, {self.size} bytes>"

    def __deepcopy__(self, _: object) -> Device:
        # What describes a volume refers to its device, and may be copied at will.
        return self

    def __reduce__(self) -> tuple[Callable[[ImageReader, int], Device], tuple[ImageReader, int]]:
        """Pickled with its image."""
        return _device_of, (self._image, self.index)

    @property
    def image(self) -> reading.image.ImageReader:
        """The image that it belongs to."""
        return self._image

    @property
    def name(self) -> str:
        """The source's name when it was imaged."""
        return str(self.metadata.get("name", f"device {self.index}"))

    @property
    def metadata(self) -> dict[str, Any]:
        """What the image says of this device (docs/format.md, section 9.2)."""
        devices = self._image.metadata["description"].get("devices", [])
        found = (
            devices[self.index] if isinstance(devices, list) and self.index < len(devices) else {}
        )
        return found if isinstance(found, dict) else {}

    def bytes_of(self, kind: Kind) -> int:
        """Bytes of a kind, from the seal, without reading the map (whole sectors)."""
        entry = self.entry
        checks.instance("kind", kind, Kind, "a Kind")
        counts = {
            Kind.UNUSED: entry.unused,
            Kind.ZERO: entry.zero,
            Kind.DATA: entry.data,
            Kind.UNREADABLE: entry.unreadable,
            Kind.LOST: entry.lost,
        }
        return counts.get(kind, 0) * SECTOR

    def extents(self, kind: Kind | None = None) -> Iterator[Extent]:
        """Yield what the device holds as extents in bytes, in order, neighbours of one kind joined.

        Args:
            kind: only these; ``None`` yields all, which cover the device without gaps.
        """
        self._image.check_open()
        checks.instance("kind", kind, (Kind, type(None)), "a Kind, or None for all")
        return _joined_extents(self, kind)

    def open(self) -> DeviceFile:
        """Return a new read-only binary file over the device; wrap it in ``io.BufferedReader``
        where reads are tiny.
        """
        self._image.check_open()
        return DeviceFile(self)

    def read_into(self, buffer: hints.Buffer, offset: int) -> int:
        """Fill ``buffer`` from byte ``offset`` of the device; safe for threads.

        Returns:
            bytes read: fewer than asked only at the end of the device.

        Raises:
            IntegrityError: stored bytes are damaged, or the range is marked as lost.
            ClosedError: the image is closed.
        """
        offset = checks.offset("offset", offset)
        view = checks.writable("buffer", buffer)
        return self.fill(view, offset)

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from byte ``offset`` on, fewer only at the end of the device.

        Raises:
            As :meth:`read_into`.
        """
        offset, length = checks.offset("offset", offset), checks.whole("length", length)
        buffer = bytearray(max(0, min(length, self.size - offset)))
        self.read_into(buffer, offset)
        return bytes(buffer)

    def fill(self, view: memoryview, offset: int) -> int:
        """As :meth:`read_into`, for arguments that were checked."""
        self._gate.check()
        length = min(view.nbytes, self.size - offset)
        if length <= 0:
            return 0
        if not self._fill_small(view[:length], offset, length):
            with self._gate:
                self._fill_any(view, offset, length)
        return length

    def _fill_small(self, view: memoryview, offset: int, length: int) -> bool:
        """Fill ``view`` from one frame, without what only other reads need; ``False`` where it is
        such a one. Most reads are small, and where their frame is in the cache nothing is waited
        for.
        """
        data = self.map.data_at(offset // SECTOR)
        if data is None:
            return False
        start, sectors, origin, position = data
        skip = offset - start * SECTOR
        number, inside = divmod(position * SECTOR + skip, 1 << self._shift)
        if skip + length > sectors * SECTOR or inside + length > 1 << self._shift:
            return False
        frame = self._image.cache.find((origin, number))
        if frame is None:
            frame = self._frame(origin, number, (offset, length))
        if inside + length > len(frame):
            return False
        view[:] = frame[inside : inside + length]
        return True

    def _fill_any(self, view: memoryview, offset: int, length: int) -> None:
        first = offset // SECTOR
        last = (offset + length - 1) // SECTOR
        self.fill_from(view[:length], offset, self.map.pieces(first, last - first + 1))

    def fill_from(self, view: memoryview, offset: int, pieces: Sequence[Piece]) -> None:
        """Fill ``view`` from byte ``offset`` on with what ``pieces`` say; frames come from the
        cache, or through it.
        """
        for piece in pieces:
            start = max(piece.start * SECTOR, offset)
            end = min((piece.start + piece.length) * SECTOR, offset + view.nbytes)
            part = view[start - offset : end - offset]
            self._fill(part, piece, start - piece.start * SECTOR)

    def _fill(self, view: memoryview, piece: Piece, skip: int) -> None:
        if piece.kind == Kind.DATA:
            place = piece.position * SECTOR + skip
            start = piece.start * SECTOR + skip
            self._fill_data(view, piece.origin, place, start)
        elif piece.kind == Kind.LOST:
            at = piece.start * SECTOR + skip
            raise lost(self._image.path, self.index, at, view.nbytes)
        else:
            for at in range(0, view.nbytes, len(_ZEROS)):
                part = view[at : at + len(_ZEROS)]
                part[:] = _ZEROS[: part.nbytes]

    def _fill_data(self, view: memoryview, origin: int, position: int, start: int) -> None:
        shift = self._image.header.frame_shift
        mask = (1 << shift) - 1
        at = 0
        while at < view.nbytes:
            number, inside = position >> shift, position & mask
            here = (start + at, min(mask + 1 - inside, view.nbytes - at))
            part = self._frame(origin, number, here)[inside : inside + view.nbytes - at]
            length = len(part)
            if not length:
                raise past_frame(self._image.path)
            view[at : at + length] = part
            at, position = at + length, position + length

    def _frame(self, origin: int, number: int, here: tuple[int, int]) -> memoryview:
        """A frame; where it is damaged, ``here`` (offset, length) is what cannot be read."""
        try:
            return self._image.frame(origin, number)
        except (FormatError, IntegrityError) as error:
            raise located(error, self._image.path, self.index, *here) from error

    def read_ahead(self, offset: int) -> None:
        """Begin to load the frames that hold the bytes from ``offset`` on.

        What is damaged there is said by the read that wants it.
        """
        if offset < self.size:
            with contextlib.suppress(AipImageError):
                self._read_ahead(offset)

    def _read_ahead(self, offset: int) -> None:
        frame_sectors = self._image.header.frame_sectors
        sector = offset // SECTOR
        count = min(_READ_AHEAD * frame_sectors, self.entry.sectors - sector)
        for piece in self.map.pieces(sector, count):
            if piece.kind == Kind.DATA:
                first = piece.position // frame_sectors
                last = (piece.position + piece.length - 1) // frame_sectors
                for number in range(first, last + 1):
                    self._image.prefetch(piece.origin, number)


def _device_of(image: ImageReader, index: int) -> Device:
    return image.devices[index]


class DeviceFile(io.RawIOBase):
    """A read-only, seekable binary file over a device of an image.

    Reading moves a position of its own; :meth:`readinto_at` takes an offset and is safe for
    threads. When reads follow each other, the frames to come are decoded in the background.
    """

    def __init__(self, device: Device, start: int = 0, size: int | None = None) -> None:
        """Over a whole device, or over ``size`` bytes of it from ``start`` on."""
        super().__init__()
        self._device, self._position = device, 0
        self._gate = device._image.stream.gate
        self._start = start
        self._size = max(0, min(device.size - start, device.size if size is None else size))
        self._run, self._ahead = 0, 0
        self.name = f"{device._image.path}#{device.index}"
        self.mode = "rb"

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position, bytes."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position; past the end is allowed, before the start is ``ValueError``."""
        self._check_open()
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}.get(whence)
        if base is None:
            raise checks.wrong_value("whence", whence, "0, 1 or 2")
        offset = checks.whole("offset", offset, -checks.SIZE_MAX)
        if base + offset < 0:
            raise OptionError(f"cannot seek to {base + offset}, before the start")
        if base + offset != self._position:
            self._run = 0
        self._position = base + offset
        return self._position

    def readinto(self, buffer: hints.Buffer, /) -> int:
        """Fill ``buffer`` from the position on and move it; returns the bytes read, 0 at the
        end.
        """
        count = self.readinto_at(buffer, self._position)
        self._position += count
        self._run += count
        if self._run > _SEQUENTIAL and self._position + _SEQUENTIAL > self._ahead:
            self._device.read_ahead(self._start + self._position)
            self._ahead = self._position + _READ_AHEAD * _SEQUENTIAL
        return count

    def readinto_at(self, buffer: hints.Buffer, offset: int) -> int:
        """Fill ``buffer`` from byte ``offset`` on, without the position; safe for threads."""
        if self.closed:
            self._check_open()
        offset = checks.whole("offset", offset)
        view = checks.writable("buffer", buffer)
        left = self._size - offset
        if left < view.nbytes:
            view = view[: max(0, left)]
        # Also where nothing is left: reading what is closed says so.
        return self._device.fill(view, self._start + offset)

    def write(self, data: hints.Buffer, /) -> NoReturn:
        """Raise ``io.UnsupportedOperation``: what an image has is never changed."""
        self._check_open()
        raise io.UnsupportedOperation(f"{self.name}: not writable")

    def readall(self) -> bytes:
        """Return all bytes from the position to the end."""
        data = bytearray(max(0, self._size - self._position))
        view = memoryview(data)
        for at in range(0, len(data), 1 << 20):
            self.readinto(view[at : at + (1 << 20)])
        return bytes(data)

    def _check_open(self) -> None:
        if self.closed:
            raise ClosedError(f"{self.name}: the device file is closed")
        self._gate.check()


def _joined_extents(device: Device, kind: Kind | None) -> Iterator[Extent]:
    """Extents in bytes, neighbours of one kind joined, the last cut at the device's end."""
    pending: Extent | None = None
    for first, block in device.map.walk():
        device.image.check_open()
        start = first * SECTOR
        for length, _, _, found in block.tolist():
            size = min(length * SECTOR, device.size - start)
            if pending and pending.kind == found:
                pending = pending._replace(length=pending.length + size)
            else:
                if pending and kind in (None, pending.kind):
                    yield pending
                pending = Extent(start, size, Kind(found))
            start += size
    if pending and kind in (None, pending.kind):
        yield pending
