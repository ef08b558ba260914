"""What an image begins with: its keys, key area and header (docs/format.md, sections 3 and 4)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from aipimage.format.constants import Compatible, Incompatible
from aipimage.format.header import Header
from aipimage.format.keyarea import SLOTS, STATE_PASSWORD, STATE_RECOVERY, KeyArea, Slot
from aipimage.io.creating.options import CreateOptions
from aipimage.io.reading.image import ImageReader
from aipimage.io.records import keys as keyring
from aipimage.io.records.codec import parse_compression
from aipimage.io.records.keys import ChainKeys, Suite
from aipimage.io.stream.opening import read_key_area
from aipimage.io.system import entropy
from aipimage.version import __version__


def tool() -> str:
    """What images name as the program that made them."""
    return f"aipimage {__version__}"


@dataclass(frozen=True, slots=True)
class Protection:
    """The chain that an image is part of, and how that is protected.

    Attributes:
        keys, key_area: ``None`` for a chain without a suite.
    """

    chain_id: bytes
    keys: ChainKeys | None
    key_area: KeyArea | None

    @property
    def suite(self) -> Suite:
        """The suite of all images of the chain."""
        return self.keys.suite if self.keys else Suite.NONE


def new_protection(options: CreateOptions) -> Protection:
    """A new chain, with a key of its own where a suite was asked for."""
    suite, chain_id = Suite.parse(options.encrypt), entropy.new_id()
    if not suite:
        return Protection(chain_id, None, None)
    chain_key = keyring.new_chain_key()
    keys = ChainKeys(chain_key, chain_id, suite)
    return Protection(chain_id, keys, _new_key_area(options, chain_key, chain_id))


def inherited_protection(parent: ImageReader) -> Protection:
    """The chain of ``parent``: its keys, and its key slots as the first generation of a new file.

    Raises:
        FormatError, IntegrityError, StorageError: the parent's key area cannot be read.
    """
    keys = parent.keys
    area = read_key_area(parent.stream, parent.header)[0] if keys else None
    return Protection(
        parent.header.chain_id, keys, replace(area, generation=1) if area is not None else None
    )


def new_header(
    file_id: bytes, protection: Protection, options: CreateOptions, parent: ImageReader | None
) -> Header:
    """The header of a full image, not sealed yet; sizes of frames and pages are the parent's."""
    incompatible = Incompatible(0)
    if parse_compression(options.compress) is not None:
        incompatible |= Incompatible.ZSTD
    if protection.suite:
        incompatible |= Incompatible.SEALED_RECORDS
    digests = Compatible.BLOCK_DIGESTS if options.block_digests else Compatible(0)
    header = Header(
        file_id,
        protection.chain_id,
        entropy.now_us(),
        protection.suite,
        int(incompatible),
        int(digests | Compatible.CHECKPOINTS),
        options.frame_shift,
        options.stripe_shift,
        creator=tool(),
    )
    if parent is None:
        return header
    shifts = parent.header
    return replace(
        header,
        frame_shift=shifts.frame_shift,
        stripe_shift=shifts.stripe_shift,
        fanout_shift=shifts.fanout_shift,
    )


def _new_key_area(options: CreateOptions, chain_key: bytes, chain_id: bytes) -> KeyArea | None:
    if options.password is None:
        return None
    wanted = [(options.password, STATE_PASSWORD)]
    if options.recovery_key is not None:
        wanted.append((options.recovery_key, STATE_RECOVERY))
    slots: list[Slot | None] = [
        keyring.wrap_chain_key(secret, chain_key, chain_id, state=state, parameters=options.argon2)
        for secret, state in wanted
    ]
    return KeyArea(1, chain_id, tuple(slots + [None] * (SLOTS - len(slots))))
