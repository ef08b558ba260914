"""Pages: which of them are compressed."""

from __future__ import annotations

import io

import numpy as np
import pytest

from aipimage.format.constants import Codec, RecordType
from aipimage.format.record import decode_record_header
from aipimage.io.records import records
from aipimage.io.records.numbering import RecordNumbers
from aipimage.io.stream.outstream import PipeStream

RANDOM = np.random.default_rng(1).bytes(4096)
SPARSE = RANDOM[:64] + bytes(3968) + RANDOM[:64]


@pytest.mark.parametrize(
    ("kind", "plain", "is_tried"),
    [
        (RecordType.DIGEST_LEAF, RANDOM, False),
        (RecordType.DIGEST_LEAF, SPARSE, True),
        (RecordType.TABLE_LEAF, SPARSE, False),
        (RecordType.MAP, RANDOM, True),
        (RecordType.MAP, SPARSE, True),
    ],
)
def test_pages_of_digests_are_stored_as_they_are(
    kind: RecordType, plain: bytes, is_tried: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only those: block digests of a stripe that is mostly zeros compress very well."""
    levels = []
    compress = records.compress

    def noted(data: bytes, level: int | None, size: int) -> object:
        levels.append(level)
        return compress(data, level, size)

    monkeypatch.setattr(records, "compress", noted)
    target, numbers = io.BytesIO(), RecordNumbers()
    writer = records.RecordWriter(PipeStream(target), numbers, None, 3)
    ref = writer.write(kind, plain)
    header = decode_record_header(memoryview(target.getvalue()), 0)
    assert levels == [3 if is_tried else None]
    assert (header.codec == Codec.ZSTD) == (is_tried and plain is SPARSE)
    assert (ref.record_length < 400) == (is_tried and plain is SPARSE)
