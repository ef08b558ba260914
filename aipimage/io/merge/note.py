"""The note beside the partial file of a merge: which merge it is of.

``NAME.partial`` is a name that can be guessed and that any file can have, another image of the
same chain too. So a merge resumes, or replaces, only a file whose id its note names. The note is
authenticated with the chain's key where there is one; else a digest shows that it is whole. It is
durable before the partial file is made, and lies outside of the format.
"""

from __future__ import annotations

import contextlib
import hmac
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aipimage.errors import StorageError, TargetError
from aipimage.format.digest import digest
from aipimage.io.changes.wholefile import sync_directory_of, write_whole
from aipimage.io.records.keys import ChainKeys
from aipimage.io.stream.outstream import PARTIAL
from aipimage.io.system.storage import Storage

STATE = ".state"
_WHAT = "aipimage merge 1"
_LIMIT = 1 << 16


@dataclass(frozen=True, slots=True)
class NotedFiles:
    """What a valid note says.

    Attributes:
        files: ids of the files that it is of; two where one replaces the other.
        same: whether they are of the merge that is asked for, and not of another one of the chain.
    """

    files: tuple[bytes, ...]
    same: bool


class MergeNote:
    """The note of a merge into ``out``.

    Args:
        images: the digests of the images, oldest first.
    """

    def __init__(
        self,
        storage: Storage,
        out: str,
        chain_id: bytes,
        images: Iterable[bytes],
        keys: ChainKeys | None,
    ) -> None:
        self.path = out + PARTIAL + STATE
        self._storage, self._keys, self._chain = storage, keys, chain_id.hex()
        self._request = digest(b"".join(images)).hex()

    def read(self) -> NotedFiles | None:
        """Return what the note says; ``None`` where there is none of this chain.

        Raises:
            TargetError: the file there is not ours. StorageError: it cannot be read.
        """
        text = self._storage.left_text(self.path, _LIMIT)
        try:
            values = json.loads(text or "")
            if not self._is_sealed(values):
                return None
            files = tuple(bytes.fromhex(each) for each in values["files"])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        if values.get("what") != _WHAT or values.get("chain") != self._chain:
            return None
        return NotedFiles(files, values.get("request") == self._request)

    def write(self, files: Iterable[bytes]) -> None:
        """Replace the note, durably."""
        values: dict[str, Any] = {
            "what": _WHAT,
            "chain": self._chain,
            "request": self._request,
            "files": [each.hex() for each in files],
        }
        values["seal"] = self._seal(values).hex()
        write_whole(self._storage, self.path, [json.dumps(values).encode()], replace=True).close()
        sync_directory_of(self._storage, self.path)

    def remove(self) -> None:
        """Remove the note, and one that was not finished; what stays of them names no file that is
        there any more.
        """
        with contextlib.suppress(StorageError):
            self._storage.remove(self.path, missing_ok=True)
        with contextlib.suppress(StorageError, TargetError):
            self._storage.remove_left(self.path + PARTIAL)

    def _is_sealed(self, values: dict[str, Any]) -> bool:
        seal = values.pop("seal", None)
        return isinstance(seal, str) and hmac.compare_digest(
            seal.encode("utf-8", "replace"), self._seal(values).hex().encode()
        )

    def _seal(self, values: dict[str, Any]) -> bytes:
        # No header core begins like this, so that one key may serve both.
        body = b"merge note\0" + json.dumps(values, sort_keys=True).encode()
        return digest(body) if self._keys is None else self._keys.header_mac(body)
