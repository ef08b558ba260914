"""Passwords of an existing image: list, add, change, remove (docs/format.md, 4.2).

A change rewrites the two copies of the key area and no other byte. Each copy is durable before
the other is touched, and the first to go is never the one in use: a crash at any point leaves
the old set or the new one. A copy that was made before is not revoked.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from aipimage import checks
from aipimage.errors import FormatError, IncompleteError, OptionTypeError, RequestError, naming
from aipimage.format.constants import CORE_FIXED, HEADER_MAGIC, PART_MAGIC, PART_RECORD, TRAILER
from aipimage.format.header import Header, decode_core, decode_core_length
from aipimage.format.keyarea import (
    GENERATION_MAX,
    STATE_PASSWORD,
    STATE_RECOVERY,
    WORK_MAX,
    KeyArea,
    Slot,
    choose_copy,
    encode_key_area,
    work_of,
)
from aipimage.format.parts import decode_part_header
from aipimage.io.blocks.containers import not_an_image
from aipimage.io.records import keys
from aipimage.io.system.storage import File, Storage, chosen

StrPath = str | os.PathLike[str]
_STATES = {STATE_PASSWORD: "password", STATE_RECOVERY: "recovery"}


@dataclass(frozen=True)
class SlotInfo:
    """What is readable of a key slot without the password.

    Attributes:
        index: the slot's number, from 0.
        state: "password" or "recovery".
        created: microseconds since 1970-01-01 UTC.
        memory: KiB that one key derivation takes.
    """

    index: int
    state: str
    label: str
    created: int
    memory: int
    passes: int
    lanes: int


def list_slots(path: StrPath, *, storage: Storage | None = None) -> list[SlotInfo]:
    """Return the used slots; needs no password, and proves nothing about what it returns.

    Raises:
        RequestError: the image has no passwords, or this is not its first part.
        FormatError: not an image, or both copies of the key area are damaged.
    """
    name, storage = checks.path("path", path), chosen(storage)
    with naming(name), storage.open_read(name) as file:
        area = _read(file).area
    return [
        SlotInfo(
            index,
            _STATES[slot.state],
            slot.label,
            slot.created,
            slot.memory,
            slot.passes,
            slot.lanes,
        )
        for index, slot in enumerate(area.slots)
        if slot is not None
    ]


def add_password(
    path: StrPath,
    password: str,
    new_password: str,
    *,
    label: str = "",
    recovery: bool = False,
    parameters: keys.Argon2Parameters = keys.DEFAULT_PARAMETERS,
    storage: Storage | None = None,
) -> int:
    """Let ``new_password`` open the image too; return its slot.

    Raises:
        PasswordError: ``password`` does not open the image, or the new one is empty.
        RequestError: no slot is free, all slots together would cost too much to try, or the new
            password opens one already.
    """
    checks.texts(label=label)
    checks.flags(recovery=recovery)
    _check_secrets(password=password, new_password=new_password)
    state = STATE_RECOVERY if recovery else STATE_PASSWORD
    with _editing(path, password, storage) as editor:
        index = editor.fill(new_password, state, label, parameters)
        editor.commit()
        return index


def change_password(
    path: StrPath,
    password: str,
    new_password: str,
    *,
    parameters: keys.Argon2Parameters = keys.DEFAULT_PARAMETERS,
    storage: Storage | None = None,
) -> None:
    """Put ``new_password`` in the place of ``password``, which opens nothing any more.

    Raises:
        PasswordError: ``password`` does not open the image, or the new one is empty.
        RequestError: ``password`` is a recovery key, or the new one opens a slot already.
    """
    _check_secrets(password=password, new_password=new_password)
    with _editing(path, password, storage) as editor:
        first, *others = editor.opened_by(password)
        old = editor.slots[first]
        if old is None or old.state == STATE_RECOVERY:
            raise RequestError(
                "a recovery key is not changed into a password; add the new password with it"
            )
        editor.slots[first] = editor.wrap(first, new_password, old.state, old.label, parameters)
        # Another writer may have put one password into two slots; it must open neither.
        for index in others:
            editor.slots[index] = None
        editor.commit()


def remove_password(
    path: StrPath, password: str, slot: int, *, storage: Storage | None = None
) -> None:
    """Free slot ``slot``. ``password`` must open another one, which stays.

    Raises:
        PasswordError: ``password`` does not open the image.
        RequestError: the slot is not in use, is the last one, or is the only one that
            ``password`` opens.
    """
    slot = checks.whole("slot", slot, -checks.SIZE_MAX)
    with _editing(path, password, storage) as editor:
        used = [index for index, each in enumerate(editor.slots) if each is not None]
        if slot not in used:
            raise RequestError(f"key slot {slot} is not in use; in use are {used}")
        if used == [slot]:
            raise RequestError(
                f"key slot {slot} is the last one; without it nothing opens the image"
            )
        if editor.opened_by(password) == [slot]:
            raise RequestError(f"the password is that of key slot {slot}; pass one that stays")
        editor.slots[slot] = None
        editor.commit()


def add_recovery_key(
    path: StrPath,
    password: str,
    *,
    show: Callable[[str], object] | None = None,
    parameters: keys.Argon2Parameters = keys.DEFAULT_PARAMETERS,
    storage: Storage | None = None,
) -> str:
    """Make a recovery key, store it in a slot, and return it; it cannot be shown again.

    Args:
        show: called with the key before its slot is written, to keep it or show it. What it raises
            ends the call, and the image stays as it was: no slot has a key that was never shown.

    Raises:
        PasswordError: ``password`` does not open the image.
        RequestError: no slot is free.
    """
    checks.call("show", show)
    key = keys.generate_recovery_key()
    with _editing(path, password, storage) as editor:
        editor.fill(key, STATE_RECOVERY, "recovery key", parameters)
        failure = _failure_of(show, key)
        if failure is None:
            editor.commit()
    if failure is not None:
        # Here, where the image's name is not put in front: the fault is not the image's.
        raise failure
    return key


def _failure_of(show: Callable[[str], object] | None, key: str) -> BaseException | None:
    try:
        if show is not None:
            show(key)
    except BaseException as error:
        return error
    return None


@dataclass
class _KeyAreas:
    """Both copies as they are in a file: ``start`` is where copy 0 lies in this file."""

    header: Header
    core: bytes = field(repr=False)
    start: int
    copies: tuple[bytes, bytes] = field(repr=False)
    area: KeyArea


@dataclass
class _Editor:
    """Slots of an unlocked image under change."""

    file: File
    found: _KeyAreas
    chain_key: bytes = field(repr=False)
    slots: list[Slot | None]

    def fill(self, password: str, state: int, label: str, parameters: keys.Argon2Parameters) -> int:
        """Put a new password into a free slot, and return which; ``RequestError``: none is free."""
        if None not in self.slots:
            raise RequestError("all 8 key slots are in use; remove a password first")
        index = self.slots.index(None)
        self.slots[index] = self.wrap(index, password, state, label, parameters)
        return index

    def opened_by(self, password: str) -> list[int]:
        """Return the slots that a password opens, as they are now."""
        return keys.slots_opened_by(
            self.slots, password, self.found.header.chain_id, self.found.header.key_commitment
        )

    def wrap(
        self, index: int, password: str, state: int, label: str, parameters: keys.Argon2Parameters
    ) -> Slot:
        """Return a new slot for place ``index``, for a password that opens none yet."""
        self._check_work(index, parameters)
        taken = self.opened_by(password)
        if taken:
            raise RequestError(f"the new password opens key slot {taken[0]} already")
        return keys.wrap_chain_key(
            password,
            self.chain_key,
            self.found.header.chain_id,
            state=state,
            label=label,
            parameters=parameters,
        )

    def _check_work(self, index: int, parameters: keys.Argon2Parameters) -> None:
        """``RequestError`` where a new slot would cost too much beside the others (4.3)."""
        others = (slot for place, slot in enumerate(self.slots) if place != index)
        work = work_of(others) + parameters.memory * parameters.passes
        if work > WORK_MAX:
            raise RequestError(
                f"with the new password, to try all key slots would cost {work} KiB x passes of "
                f"key derivation, and at most {WORK_MAX} are allowed; remove a password first"
            )

    def commit(self) -> None:
        """Write both copies, durable one after the other (docs/format.md, 4.2)."""
        area = self.found.area
        if area.generation == GENERATION_MAX:
            raise FormatError("the key area's generation cannot be counted up any more")
        encoded = encode_key_area(KeyArea(area.generation + 1, area.chain_id, tuple(self.slots)))
        current = encode_key_area(area)
        copy0, copy1 = self.found.copies
        # The copy in use stays until the other one holds the new set. After a change that was
        # cut short that is copy 1, though copy 0 is whole: it holds the set before.
        in_use = 0 if copy0 == current else 1
        if copy0 != copy1:
            # What that change wrote may never have reached the disk, and may be all there is
            # once the other copy is torn. The same bytes again cannot make it worse.
            self._write(in_use, current)
        self._write(1 - in_use, encoded)
        self._write(in_use, encoded)

    def _write(self, index: int, copy: bytes) -> None:
        self.file.pwrite(copy, self.found.start + index * len(copy))
        self.file.sync()


def _check_secrets(**values: object) -> None:
    checks.secrets(**values)
    for name, value in values.items():
        if value is None:
            raise OptionTypeError(f"{name}: a password is a text, not None")


@contextlib.contextmanager
def _editing(path: StrPath, password: str, storage: Storage | None) -> Iterator[_Editor]:
    _check_secrets(password=password)
    name = checks.path("path", path)
    with naming(name), chosen(storage).open_update(name) as file:
        file.lock()
        found = _read(file)
        header = found.header
        opened = keys.open_slot(found.area, password, header.chain_id, header.key_commitment)
        chain = keys.ChainKeys(opened.chain_key, header.chain_id, keys.Suite(header.suite))
        chain.verify_header_mac(found.core)
        yield _Editor(file, found, opened.chain_key, list(found.area.slots))


def _read(file: File) -> _KeyAreas:
    base, set_id = _stream_start(file)
    fixed = file.pread(CORE_FIXED, base)
    if not base and not fixed.startswith(HEADER_MAGIC):
        raise not_an_image(file)
    core_length = decode_core_length(fixed)
    core = file.pread(core_length, base)
    header = decode_core(core)
    if set_id not in (None, header.file_id):
        raise FormatError("the part header belongs to another image")
    if not header.suite:
        raise RequestError("the image is not protected by a password")
    # After the key areas there is at least a part footer, or a trailer.
    if file.size() < base + header.records_start + (PART_RECORD if base else TRAILER):
        raise IncompleteError("the file ends within the header or the key area")
    start, length = base + core_length, header.key_area_length
    copies = (file.pread(length, start), file.pread(length, start + length))
    area, _ = choose_copy(*copies, header.chain_id)
    return _KeyAreas(header, core, start, copies, area)


def _stream_start(file: File) -> tuple[int, bytes | None]:
    """Return where the stream begins in this file, and a part's set id (docs/format.md, 12)."""
    head = file.pread(PART_RECORD, 0)
    if not head.startswith(PART_MAGIC):
        return 0, None
    part = decode_part_header(head)
    if part.number != 1 or part.start:
        raise RequestError(f"this is part {part.number}; passwords are kept in the first part")
    return PART_RECORD, part.set_id
