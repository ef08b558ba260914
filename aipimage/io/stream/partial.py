"""The files that an interrupted creation left, as one stream that can be cut and continued
(docs/format.md, 11 and 12).
"""

from __future__ import annotations

from bisect import bisect_right

from aipimage.errors import AipImageError, FormatError, IntegrityError, RequestError
from aipimage.format import constants as c
from aipimage.format.parts import PartFooter, decode_part_footer, decode_part_header
from aipimage.io.stream.instream import InStream
from aipimage.io.stream.leftparts import take_back_names
from aipimage.io.stream.outstream import PARTIAL, FileStream, part_path, verified_part_size
from aipimage.io.system.storage import File, Storage


class PartialStream(InStream):
    """A partial image, locked for this writer and open for update."""

    def __init__(
        self,
        storage: Storage,
        path: str,
        files: list[File],
        footers: list[PartFooter],
        size: int,
        split: int | None,
    ) -> None:
        super().__init__(path, files, footers, size)
        self._storage, self._split, self._open = storage, split, files

    def cut(self, length: int, overwrite: bool) -> FileStream:
        """Cut everything from stream offset ``length`` on, and return the stream to append to."""
        kept = self._last_part(length)
        for file in self._open[kept + 1 :]:
            file.close()
            self._storage.remove(file.name)
        inside = length - self._starts[kept] + c.PART_RECORD if self.footers else length
        self._open[kept].truncate(inside)
        # This object still reads what is kept while the new stream grows after it.
        self.size = length
        return self._as_out(kept, length, overwrite)

    def rewrite(self, data: bytes, offset: int) -> None:
        """Write bytes that belong at a place of a whole image and were lost there.

        Raises:
            StorageError: they cannot be written; the image stays ``….partial``.
        """
        view = memoryview(data)
        while view.nbytes:
            index = max(0, bisect_right(self._starts, offset) - 1)
            if not self.footers:
                self._open[0].pwrite(view, offset)
                return
            inside = offset - self._starts[index]
            taken = min(view.nbytes, self.footers[index].length - inside)
            self._open[index].pwrite(view[:taken], c.PART_RECORD + inside)
            view, offset = view[taken:], offset + taken

    def give_names(self, length: int, overwrite: bool) -> None:
        """Make a whole image durable and give its files their names; nothing is written to them.

        Args:
            length: of its stream, in bytes. overwrite: whether a file of that name may be replaced.

        Raises:
            TargetError: there is one. StorageError: the files stay ``….partial``.
        """
        for file in self._open:
            file.sync()
        self._as_out(len(self._open) - 1, length, overwrite).give_names()

    def _as_out(self, last: int, length: int, overwrite: bool) -> FileStream:
        """The stream to append to; ``last`` is the index of its last file."""
        set_id = self.footers[0].set_id if self.footers else bytes(16)
        return FileStream.reopen(
            self._storage,
            self.name,
            set_id,
            self._split,
            self._open[: last + 1],
            self._starts[: last + 1] or [0],
            length,
            overwrite,
        )

    @property
    def open_files(self) -> list[File]:
        """The files, in the order of their parts."""
        return self._open

    def _last_part(self, length: int) -> int:
        starts = [start for start in self._starts if start < length]
        return max(0, len(starts) - 1)


def open_partial(storage: Storage, path: str, split: int | None) -> PartialStream | None:
    """Open and lock the partial files of ``path``; ``None`` where there are none that begin an
    image.

    Raises:
        RequestError: they were begun with another part size. TargetError: another process is
            writing them, or they are not ours (:meth:`Storage.open_left`).
    """
    first = _locked(storage, path + PARTIAL)
    if first is None:
        return None
    files = [first]
    try:
        magic = files[0].pread(8, 0)
        if magic == c.HEADER_MAGIC:
            if split is not None:
                raise RequestError(
                    f"{path}{PARTIAL}: was begun in one file; resume without a part size"
                )
            return PartialStream(storage, path, files, [], files[0].size(), None)
        if magic != c.PART_MAGIC:
            files[0].close()
            return None
        if split is None:
            raise RequestError(
                f"{path}{PARTIAL}: was begun in parts; resume with the same part size"
            )
        if files[0].size() <= c.PART_RECORD:
            # Ended before anything but the part's own header was written.
            files[0].close()
            return None
        take_back_names(storage, path, files[0])
        return _open_parts(storage, path, files, split)
    except BaseException:
        for file in files:
            file.close()
        raise


def _open_parts(storage: Storage, path: str, files: list[File], split: int) -> PartialStream:
    room = verified_part_size(split)
    while (file := _locked(storage, part_path(path, len(files) + 1) + PARTIAL)) is not None:
        files.append(file)
    footers: list[PartFooter] = []
    size = 0
    for number, file in enumerate(files, 1):
        try:
            header = decode_part_header(file.pread(c.PART_RECORD, 0))
        except AipImageError:
            break
        if footers and header.set_id != footers[0].set_id:
            # Left by another run that was begun anew since; it is removed with what is cut off.
            break
        if (header.number, header.start) != (number, size):
            raise RequestError(
                f"{file.name}: was begun with another part size; resume with that one"
            )
        length = min(room, file.size() - c.PART_RECORD)
        footer = _footer_of(file) if number < len(files) else None
        if footer is not None and footer.length != room:
            raise RequestError(
                f"{file.name}: was begun with another part size; resume with that one"
            )
        if length <= 0:
            break
        footers.append(PartFooter(header.set_id, number, size, length, False))
        size += length
        # A part without its footer is taken for the last one, so that the footer is written again.
        if length < room or (footer is None and number < len(files)):
            break
    if not footers:
        raise FormatError(f"{path}{PARTIAL}: its first part has no header; remove it")
    return PartialStream(storage, path, files, footers, size, split)


def _footer_of(file: File) -> PartFooter | None:
    """The footer of a part that another follows; ``None`` where it is damaged."""
    try:
        at = max(0, file.size() - c.PART_RECORD)
        return decode_part_footer(file.pread(c.PART_RECORD, at))
    except (FormatError, IntegrityError):
        return None


def _locked(storage: Storage, name: str) -> File | None:
    file = storage.open_left(name)
    if file is None:
        return None
    try:
        file.lock()
    except BaseException:
        file.close()
        raise
    return file
