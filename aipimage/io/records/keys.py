"""From a password to the keys of an image (docs/format.md, 4.1 to 4.5).

password -> Argon2id -> wrap key -> chain key -> data, metadata and header keys. No secret is in
a ``repr``, in a message, or in the context of an exception that this module raises.
The ciphers are loaded when there is a key: many images have none.
"""

from __future__ import annotations

import contextlib
import threading
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import TYPE_CHECKING

from aipimage.errors import IntegrityError, OptionError, PasswordError, RequestError
from aipimage.format.keyarea import LABEL_LENGTH, STATE_PASSWORD, KeyArea, Slot, encode_slot_head
from aipimage.io.system import entropy

if TYPE_CHECKING:
    from aipimage.io.records.cipher import RecordCipher

_KEY = 32
_CORE_TAIL = 64
_FILE_ID = slice(32, 48)
_CANNOT_UNLOCK = "the password is wrong, or the key slots were tampered with"
# No 0/O, 1/I/L, and no U: what people read aloud and type back (as in Crockford's base 32).
_RECOVERY_ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
_RECOVERY_GROUPS, _RECOVERY_GROUP = 7, 4


class Suite(IntEnum):
    """What protects the records (docs/format.md, 4.1)."""

    NONE = 0
    AES_128_GCM = 1
    AES_256_GCM = 2
    AES_256_GMAC = 3

    @classmethod
    def parse(cls, name: str | None) -> Suite:
        """Return the suite that people name "aes-128", "aes-256" or "authenticate"."""
        if name is None:
            return cls.NONE
        try:
            return _SUITE_NAMES[name]
        except KeyError:
            known = ", ".join(_SUITE_NAMES)
            raise OptionError(f"unknown encryption {name!r}: use one of {known}") from None

    @property
    def key_length(self) -> int:
        """Bytes of a data or metadata key."""
        return (0, 16, 32, 32)[self]


_SUITE_NAMES = {
    "aes-128": Suite.AES_128_GCM,
    "aes-256": Suite.AES_256_GCM,
    "authenticate": Suite.AES_256_GMAC,
}


@dataclass(frozen=True)
class Argon2Parameters:
    """The cost of one derivation; the bounds are in docs/format.md, 4.3.

    Attributes:
        memory: KiB.
    """

    memory: int = 65_536
    passes: int = 3
    lanes: int = 4


DEFAULT_PARAMETERS = Argon2Parameters()


class ChainKeys:
    """A chain key and what is derived from it (docs/format.md, 4.4); safe for threads."""

    __slots__ = ("_chain_key", "_ciphers", "_lock", "chain_id", "suite")

    def __init__(self, chain_key: bytes, chain_id: bytes, suite: Suite) -> None:
        if len(chain_key) != _KEY or len(chain_id) != 16 or suite == Suite.NONE:
            raise RuntimeError("internal error: chain keys without a key, a chain or a suite")
        self._chain_key = chain_key
        self.chain_id = chain_id
        self.suite = Suite(suite)
        self._ciphers: dict[bytes, RecordCipher] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<ChainKeys of chain {self.chain_id.hex()}, suite {self.suite.name}>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("keys are not pickled")

    def key_commitment(self) -> bytes:
        """Return the header's ``key_commitment`` (docs/format.md, 4.4)."""
        return _hkdf(self._chain_key, self.chain_id, b"aiv1 chain commitment", _KEY)

    def header_mac(self, core_body: bytes) -> bytes:
        """Return ``header_mac`` for a core without its last 64 bytes (docs/format.md, 4.5)."""
        info = b"aiv1 header" + bytes((self.suite,))
        key = _hkdf(self._chain_key, core_body[_FILE_ID], info, _KEY)
        import hmac

        return hmac.digest(key, core_body, "sha256")

    def verify_header_mac(self, core: bytes) -> None:
        """Check the MAC inside a whole core, right after unlocking (docs/format.md, 4.5).

        Raises:
            IntegrityError: it does not match. The password was right, or nothing would have
                unlocked: the header was tampered with.
        """
        body, mac = core[:-_CORE_TAIL], core[-_CORE_TAIL:-32]
        if not same_secret(self.header_mac(body), mac):
            raise IntegrityError("header authentication failed: damage or tampering")

    def cipher(self, origin_id: bytes) -> RecordCipher:
        """Return the cipher of an origin's records; the same one each time."""
        with self._lock:
            cipher = self._ciphers.get(origin_id)
            if cipher is None:
                from aipimage.io.records.cipher import RecordCipher

                cipher = self._ciphers[origin_id] = RecordCipher(
                    int(self.suite),
                    self.chain_id,
                    origin_id,
                    data_key=self._origin_key(b"aiv1 data", origin_id),
                    metadata_key=self._origin_key(b"aiv1 metadata", origin_id),
                )
            return cipher

    def _origin_key(self, purpose: bytes, origin_id: bytes) -> bytes:
        info = purpose + bytes((self.suite,))
        return _hkdf(self._chain_key, origin_id, info, self.suite.key_length)


@dataclass(frozen=True)
class OpenedSlot:
    """Which slot a password opened; the chain key in it is for rewrapping only."""

    index: int
    chain_key: bytes = field(repr=False)


def new_chain_key() -> bytes:
    """Return the 32 random bytes that a new chain shares (docs/format.md, 4.1)."""
    return entropy.random_bytes(_KEY)


def wrap_chain_key(
    password: str,
    chain_key: bytes,
    chain_id: bytes,
    *,
    state: int = STATE_PASSWORD,
    label: str = "",
    parameters: Argon2Parameters = DEFAULT_PARAMETERS,
) -> Slot:
    """Return a new slot that ``password`` opens (docs/format.md, 4.3)."""
    slot = Slot(
        state=state,
        memory=parameters.memory,
        passes=parameters.passes,
        lanes=parameters.lanes,
        salt=entropy.random_bytes(16),
        created=entropy.now_us(),
        label=_checked_label(label),
        nonce=entropy.random_bytes(12),
    )
    from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

    associated = _slot_associated_data(slot, chain_id)
    wrap_key, commitment = _slot_keys(slot, normalised(password), chain_id)
    wrapped = AESGCMSIV(wrap_key).encrypt(slot.nonce, chain_key, associated)
    return replace(slot, commitment=commitment, wrapped=wrapped)


def open_slot(
    key_area: KeyArea, password: str, chain_id: bytes, key_commitment: bytes
) -> OpenedSlot:
    """Return the cheapest slot that ``password`` opens (docs/format.md, 4.3).

    Raises:
        PasswordError: no slot opens; a wrong password and a tampered slot look alike.
    """
    for index, chain_key in _openings(key_area.slots, password, chain_id, key_commitment):
        return OpenedSlot(index, chain_key)
    raise PasswordError(_CANNOT_UNLOCK)


def slots_opened_by(
    slots: Iterable[Slot | None], password: str, chain_id: bytes, key_commitment: bytes
) -> list[int]:
    """Return the index of each slot that ``password`` opens."""
    found = _openings(slots, password, chain_id, key_commitment)
    return sorted(index for index, _ in found)


def unlock(
    key_area: KeyArea, password: str, chain_id: bytes, key_commitment: bytes, *, suite: int
) -> ChainKeys:
    """Return the keys of an image; ``suite`` is the header's.

    Raises:
        PasswordError: no slot opens; a wrong password and a tampered slot look alike.
    """
    opened = open_slot(key_area, password, chain_id, key_commitment)
    return ChainKeys(opened.chain_key, chain_id, Suite(suite))


def generate_recovery_key() -> str:
    """Return a recovery key: seven groups of four, 137 random bits (docs/format.md, 4.3)."""
    letters = [_draw(_RECOVERY_ALPHABET) for _ in range(_RECOVERY_GROUPS * _RECOVERY_GROUP)]
    groups = [
        "".join(letters[at : at + _RECOVERY_GROUP])
        for at in range(0, len(letters), _RECOVERY_GROUP)
    ]
    return "-".join(groups)


def normalised(password: str) -> bytes:
    """Return the bytes that a password stands for: NFC, then UTF-8 (docs/format.md, 4.3)."""
    if not isinstance(password, str):
        raise TypeError(f"a password is str, not {type(password).__name__}")
    data = None
    # Raised below, outside a handler: a UnicodeEncodeError carries the password, and it would
    # stay within reach as the context of ours.
    with contextlib.suppress(UnicodeEncodeError):
        data = unicodedata.normalize("NFC", password).encode("utf-8")
    if data is None:
        raise PasswordError("the password is not valid Unicode text", "unusable")
    if not data:
        raise PasswordError("an empty password is not allowed", "unusable")
    return data


def _openings(
    slots: Iterable[Slot | None], password: str, chain_id: bytes, key_commitment: bytes
) -> Iterator[tuple[int, bytes]]:
    """Yield (index, chain key) of each slot that opens, the cheapest to try first."""
    secret = normalised(password)
    used = [(index, slot) for index, slot in enumerate(slots) if slot is not None]
    # The cheapest first: a known password does not wait for a slot that asks for much.
    for index, slot in sorted(used, key=lambda each: each[1].memory * each[1].passes):
        chain_key = _unwrap(slot, secret, chain_id)
        if chain_key is None:
            continue
        # The same commitment in every image of the chain: no file opens under two keys.
        found = _hkdf(chain_key, chain_id, b"aiv1 chain commitment", _KEY)
        if same_secret(found, key_commitment):
            yield index, chain_key


def _unwrap(slot: Slot, secret: bytes, chain_id: bytes) -> bytes | None:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

    wrap_key, commitment = _slot_keys(slot, secret, chain_id)
    # The commitment goes first: GCM-SIV alone could be made to open under two passwords.
    if not same_secret(commitment, slot.commitment):
        return None
    try:
        return AESGCMSIV(wrap_key).decrypt(
            slot.nonce, slot.wrapped, _slot_associated_data(slot, chain_id)
        )
    except InvalidTag:
        return None


def _slot_keys(slot: Slot, secret: bytes, chain_id: bytes) -> tuple[bytes, bytes]:
    """Return (wrap key, commitment) of docs/format.md, 4.3."""
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    derivation = Argon2id(
        salt=slot.salt,
        length=_KEY,
        iterations=slot.passes,
        lanes=slot.lanes,
        memory_cost=slot.memory,
    )
    try:
        derived = derivation.derive(secret)
    except MemoryError:
        raise RequestError(
            f"a key slot needs {slot.memory // 1024} MiB of memory, more than there is"
        ) from None
    return (
        _hkdf(derived, chain_id, b"aiv1 slot wrap", _KEY),
        _hkdf(derived, chain_id, b"aiv1 slot commitment", _KEY),
    )


def _slot_associated_data(slot: Slot, chain_id: bytes) -> bytes:
    return b"aiv1 slot" + chain_id + encode_slot_head(slot)


def same_secret(one: bytes, other: bytes) -> bool:
    """Whether both are equal, in a time that does not depend on where they differ."""
    # It brings OpenSSL, which an image without a key does not need.
    import hmac

    return hmac.compare_digest(one, other)


def _hkdf(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), length, salt, info).derive(secret)


def _checked_label(label: str) -> str:
    # isprintable() is False for lone surrogates and terminal escapes too.
    if not label.isprintable() or len(label.encode("utf-8")) > LABEL_LENGTH:
        raise RequestError(
            f"a label is printable text of at most {LABEL_LENGTH} bytes in UTF-8; shorten it"
        )
    return label


def _draw(alphabet: str) -> str:
    # Bytes at or above the last whole multiple are drawn anew: no letter is likelier.
    whole = 256 - 256 % len(alphabet)
    while (value := entropy.random_bytes(1)[0]) >= whole:
        pass
    return alphabet[value % len(alphabet)]
