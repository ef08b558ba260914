"""Sealing and opening of records (docs/format.md, 4.6).

Nonces and associated data are made here and nowhere else, from the 40 bytes of the record
header alone. :mod:`aipimage.io.records.numbering` sees that no (type, number) pair comes twice.

``encrypt_into`` and ``decrypt_into`` are used because they write into the caller's buffer and
release the GIL; one cipher serves any number of threads. Suite 3 joins associated data and
plain bytes into one buffer: on frames of 64 KiB that runs at 8 GB/s, twice the rate of feeding
OpenSSL both pieces through ``Cipher``, and only from about 256 KiB on it would be the slower.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from aipimage.errors import IntegrityError, LimitError
from aipimage.format.constants import BODY_MAX, RECORD_HEADER, SUITE_AES_256_GMAC, TAG, RecordType

if TYPE_CHECKING:
    from typing_extensions import Buffer

_FAILED = "record authentication failed: damage or tampering"


class RecordCipher:
    """Seals and opens the records of one origin; safe for threads.

    ``out`` may be the same memory as the input, from the same first byte on, in both
    directions; input and output that overlap in another way give undefined bytes.

    Attributes:
        tag_length: bytes by which a sealed body is longer than its plain bytes.
    """

    __slots__ = ("_data", "_metadata", "_origin", "_prefix", "_suite")

    tag_length = TAG

    def __init__(
        self, suite: int, chain_id: bytes, origin_id: bytes, *, data_key: bytes, metadata_key: bytes
    ) -> None:
        self._suite = suite
        self._origin = origin_id
        self._prefix = b"aiv1" + bytes((suite,)) + chain_id
        self._data = AESGCM(data_key)
        self._metadata = AESGCM(metadata_key)

    def __repr__(self) -> str:
        return f"<RecordCipher of origin {self._origin.hex()}, suite {self._suite}>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("keys are not pickled")

    def seal_into(self, header: Buffer, plain: Buffer, out: memoryview) -> None:
        """Write the sealed form of ``plain``, 16 bytes longer, to ``out``.

        ``header`` is the 40 bytes of the record header, in their final form.

        Raises:
            LimitError: the sealed body would be over the limit of docs/format.md, section 15.
        """
        source = _flat(plain)
        length = source.nbytes
        _verified_body(length + TAG)
        head = bytes(header)
        if len(head) != RECORD_HEADER or head[16:32] != self._origin or out.nbytes != length + TAG:
            raise RuntimeError("internal error: a record is sealed with the wrong key or length")
        if self._suite == SUITE_AES_256_GMAC:
            associated = b"".join((self._prefix, head, source))
            out[:length] = source
            self._key(head).encrypt_into(_nonce(head), b"", associated, out[length:])
        else:
            self._key(head).encrypt_into(_nonce(head), source, self._prefix + head, out)

    def open_into(self, header: Buffer, sealed: Buffer, out: memoryview) -> None:
        """Verify ``sealed`` and write its plain bytes, 16 fewer, to ``out``.

        Raises:
            IntegrityError: the tag does not match. ``out`` is then zeroed: OpenSSL decrypts
                while it computes the tag, and would leave bytes there that are not authenticated.
        """
        head, source = self._checked(header, sealed)
        length = source.nbytes - TAG
        if out.nbytes != length:
            raise RuntimeError("internal error: a record is opened into a wrong length")
        if self._suite == SUITE_AES_256_GMAC:
            self._verify_tag(head, source)
            out[:] = source[:length]
            return
        try:
            self._key(head).decrypt_into(_nonce(head), source, self._prefix + head, out)
        except InvalidTag:
            out[:] = bytes(length)
            raise IntegrityError(_FAILED) from None

    def open(self, header: Buffer, sealed: Buffer) -> memoryview:
        """Verify ``sealed`` and return its plain bytes, read-only.

        Suite 3 returns a view into ``sealed``, which the caller must leave unchanged.

        Raises:
            IntegrityError: the tag does not match.
        """
        # The gates come before the buffer: a length that is over the limit allocates nothing.
        head, source = self._checked(header, sealed)
        if self._suite == SUITE_AES_256_GMAC:
            self._verify_tag(head, source)
            return source[:-TAG].toreadonly()
        plain = memoryview(bytearray(source.nbytes - TAG))
        self.open_into(head, source, plain)
        return plain.toreadonly()

    def _checked(self, header: Buffer, sealed: Buffer) -> tuple[bytes, memoryview]:
        source = _flat(sealed)
        _verified_body(source.nbytes)
        head = bytes(header)
        if len(head) != RECORD_HEADER or head[16:32] != self._origin or source.nbytes < TAG:
            raise IntegrityError(_FAILED)
        return head, source

    def _verify_tag(self, head: bytes, source: memoryview) -> None:
        associated = b"".join((self._prefix, head, source[:-TAG]))
        try:
            self._key(head).decrypt_into(_nonce(head), source[-TAG:], associated, bytearray())
        except InvalidTag:
            raise IntegrityError(_FAILED) from None

    def _key(self, head: bytes) -> AESGCM:
        return self._data if head[4] == RecordType.FRAME else self._metadata


def _nonce(head: bytes) -> bytes:
    """Return type, three zero bytes, number (docs/format.md, 4.6)."""
    return head[4:5] + b"\0\0\0" + head[32:40]


def _flat(data: Buffer) -> memoryview:
    view = memoryview(data)
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


def _verified_body(length: int) -> None:
    # Far below the 2 GiB at which lengths of the C interfaces underneath wrap.
    if length > BODY_MAX:
        raise LimitError(f"a record body of {length} bytes is over the limit of {BODY_MAX}")
