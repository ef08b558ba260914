"""A small disk, and images of it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.cli.running import PASSWORD, done


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a disk, a password file, and images; tests only read it."""
    directory = tmp_path_factory.mktemp("cli")
    chance = random.Random(1)
    disk = b"".join(chance.randbytes(4096) + b"text " * 4096 + bytes(40_960) for _ in range(16))
    (directory / "disk.raw").write_bytes(disk + b"the end")
    password = directory / "password"
    password.write_text(PASSWORD + "\nthe second line is no part of it\n")
    password.chmod(0o600)
    secret = ("--encrypt", "aes-256", "--password-file", password)
    for name, options in (("plain", ()), ("secret", secret), ("parts", ("--split", "32K"))):
        done("createimage", "-o", directory / f"{name}.aiv", directory / "disk.raw", *options)
    return directory


@pytest.fixture(scope="session")
def disk(made: Path) -> Path:
    """Data, text that compresses, and zeros; not whole sectors."""
    return made / "disk.raw"


@pytest.fixture(scope="session")
def password(made: Path) -> Path:
    """A password file that only its owner can read."""
    return made / "password"


@pytest.fixture(scope="session")
def plain(made: Path) -> Path:
    """An image of the disk."""
    return made / "plain.aiv"


@pytest.fixture(scope="session")
def secret(made: Path) -> Path:
    """An encrypted image of the disk."""
    return made / "secret.aiv"


@pytest.fixture(scope="session")
def parts(made: Path) -> Path:
    """A split image of the disk."""
    return made / "parts.aiv"
