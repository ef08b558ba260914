"""Key areas of vectors: docs/format.md, sections 4.2 to 4.4."""

from __future__ import annotations

import struct
from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from tests.vectors.primitives import h, hkdf

PASSWORD_SLOT, RECOVERY_SLOT = 1, 2


def key_area(chain_id: bytes, slots: list[bytes], changed: Callable[[str, bytes], bytes]) -> bytes:
    """Section 4.2: both copies."""
    body = b"AIVKEYS1" + struct.pack("<Q", 1) + chain_id + b"".join(slots)
    body = changed("key area", body + bytes(4064 - len(body)))
    copies = b""
    for number in range(2):
        copy = changed(f"key area {number}", body)
        copies += changed(f"stored key area {number}", copy + h(copy))
    return copies


def slot(
    chain_id: bytes,
    chain_key: bytes,
    password: str,
    state: int,
    memory: int,
    random: Callable[[int], bytes],
) -> bytes:
    """Section 4.3."""
    salt, nonce = random(16), random(12)
    head = struct.pack("<BBHIII16sq24s", state, 1, 0, memory, 1, 1, salt, 0, b"vector")
    derivation = Argon2id(salt=salt, length=32, iterations=1, lanes=1, memory_cost=memory)
    p = derivation.derive(password.encode())
    wrap_key = hkdf(p, chain_id, b"aiv1 slot wrap")
    commitment = hkdf(p, chain_id, b"aiv1 slot commitment")
    wrapped = AESGCMSIV(wrap_key).encrypt(nonce, chain_key, b"aiv1 slot" + chain_id + head)
    return head + commitment + nonce + wrapped + bytes(100)
