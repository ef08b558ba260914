"""From a stream to its header and keys (docs/format.md, sections 2 to 4)."""

from __future__ import annotations

from aipimage.errors import (
    FormatError,
    IntegrityError,
    PasswordError,
    UnsupportedError,
    naming,
    reworded,
)
from aipimage.format import constants as c
from aipimage.format.header import Header, decode_core, decode_core_length
from aipimage.format.keyarea import KeyArea, choose_copy
from aipimage.io.records.keys import ChainKeys, unlock
from aipimage.io.stream.spare import Healable, healed_core


def read_header(stream: Healable) -> Header:
    """Read and check the header core, without its MAC; where it is damaged, its copy.

    Raises:
        FormatError: among others, header and key areas reach beyond the first part (section 12).
    """
    header = _read_core(stream)
    areas = header.core_length + c.KEY_COPIES * header.key_area_length
    if areas > stream.first_piece:
        raise FormatError(
            f"{stream.name}: its header and key areas reach beyond the first part; join the parts"
        )
    return header


def begins_an_image(stream: Healable) -> bool:
    """Whether the header core and the key areas are all there.

    A creation that ended before that has written nothing that is worth resuming. What cannot be
    decoded counts as an image: it may be a long one whose header is damaged.
    """
    head = bytes(stream.pread(min(stream.size, 4096), 0))
    if len(head) < c.CORE_FIXED:
        return False
    try:
        length = decode_core_length(head)
        if stream.size < length:
            return stream.size >= 4096
        header = decode_core(head[:length])
    except (FormatError, IntegrityError, UnsupportedError):
        return True
    return stream.size >= header.records_start


def _read_core(stream: Healable) -> Header:
    with naming(stream.name):
        head = bytes(stream.pread(min(stream.size, 4096), 0))
        try:
            length = decode_core_length(head)
            core = head[:length] if length <= len(head) else bytes(stream.pread(length, 0))
            return decode_core(core)
        except UnsupportedError:
            raise
        except (FormatError, IntegrityError) as error:
            header = healed_core(stream)
            if header is None and isinstance(error, IntegrityError):
                raise reworded(error, f"{error}, and there is no whole copy: repair it") from error
            if header is None:
                raise
            return header


def read_key_area(stream: Healable, header: Header) -> tuple[KeyArea, tuple[int, ...]]:
    """Return the key area in force, and the numbers of damaged copies (section 4.2)."""
    length = header.key_area_length
    with naming(stream.name):
        both = bytes(stream.pread(length * c.KEY_COPIES, header.core_length))
        return choose_copy(both[:length], both[length:], header.chain_id)


def unlock_header(stream: Healable, header: Header, password: str | None) -> ChainKeys | None:
    """Return the keys, after checking commitment and header MAC; ``None`` for a plain image
    (section 4.7).

    Raises:
        PasswordError: missing, not wanted, or wrong.
    """
    if header.suite == c.SUITE_NONE:
        if password is not None:
            raise PasswordError(
                f"{stream.name}: is not encrypted, but a password was passed", "unwanted"
            )
        return None
    if password is None:
        raise PasswordError(f"{stream.name}: is encrypted; pass its password", "missing")
    area, _ = read_key_area(stream, header)
    with naming(stream.name):
        keys = unlock(area, password, header.chain_id, header.key_commitment, suite=header.suite)
        keys.verify_header_mac(bytes(stream.pread(header.core_length, 0)))
    return keys
