"""Fixtures of this folder."""

from __future__ import annotations

import io

import pytest

from aipimage.vmdk.ovf import write_ova
from tests.vmdk.ovf.foreign import SIZE
from tests.vmdk.ovf.made import FIXED, disk, take


@pytest.fixture(scope="module")
def vmdk() -> bytes:
    """A streamOptimized disk."""
    out = io.BytesIO()
    write_ova(out, [disk(SIZE)], name="d", cids=[1], **FIXED)  # type: ignore[arg-type]
    return next(data for name, data in take(out.getvalue()).files.items() if "vmdk" in name)
