"""Secrets stay out of logs, ``repr``, messages and tracebacks (hostile-inputs class 35)."""

from __future__ import annotations

import copy
import logging
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aipimage.errors import AipImageError
from aipimage.io.records import keys
from aipimage.io.records.keys import OpenedSlot
from aipimage.io.stream import passwords
from tests.crypto.made import (
    CHAIN_ID,
    CHAIN_KEY,
    CHEAP,
    FILE_ID,
    area_of,
    chain_keys,
    slot_for,
    write_image,
)

SECRET = "hunter2-and-more"


def forms_of(secret: str | bytes) -> list[str]:
    data = secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret
    # A part is enough to give it away; a repr may show it as text, as bytes or as hex.
    forms = [data.hex(), repr(data)[2:-1], repr(bytearray(data))[12:-2]]
    return [*forms, repr(secret)[1:-1]]


def assert_hidden(text: str, *secrets: str | bytes) -> None:
    for secret in secrets:
        for form in forms_of(secret):
            assert form not in text


def chained(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def test_class_35_repr() -> None:
    chain = chain_keys()
    slot = slot_for(SECRET)
    opened = keys.open_slot(area_of(slot), SECRET, CHAIN_ID, chain.key_commitment())
    assert opened == OpenedSlot(0, CHAIN_KEY)
    cipher = chain.cipher(FILE_ID)
    data_key = chain._origin_key(b"aiv1 data", FILE_ID)
    for each in (chain, cipher, slot, opened, area_of(slot)):
        for text in (repr(each), str(each), f"{each!a}"):
            assert_hidden(text, SECRET, CHAIN_KEY, data_key, slot.wrapped)
        assert (
            not hasattr(each, "__dict__")
            or CHAIN_KEY not in vars(each).values()
            or (each is opened)
        )


def test_class_35_keys_are_not_pickled() -> None:
    for each in (chain_keys(), chain_keys().cipher(FILE_ID)):
        for duplicate in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="not pickled"):
                duplicate(each)


@pytest.mark.parametrize(
    "action",
    [
        lambda path: passwords.add_password(path, SECRET, "x"),
        lambda path: passwords.add_password(path, "right", "right " + SECRET, label=SECRET * 9),
        lambda path: passwords.add_password(path, "right", SECRET + "\ud800", parameters=CHEAP),
        lambda path: passwords.change_password(path, SECRET + "\udfff", "x"),
        lambda path: passwords.change_password(path, "right", "", parameters=CHEAP),
        lambda path: passwords.remove_password(path, SECRET, 0),
        lambda path: passwords.add_password(path, SECRET.encode(), "x"),  # type: ignore[arg-type]
        lambda path: passwords.add_password(path, "right", [SECRET]),  # type: ignore[arg-type]
    ],
)
def test_class_35_messages_and_tracebacks(
    tmp_path: Path, action: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    path = write_image(tmp_path / "disk.aiv", "right")
    with pytest.raises((AipImageError, TypeError)) as caught:
        action(path)
    for error in chained(caught.value):
        # A UnicodeEncodeError in the chain would hold the password in its ``object``.
        assert_hidden(f"{error} {error.args!r} {vars(error)!r}", SECRET)
        assert not isinstance(error, UnicodeError)
    shown = "".join(traceback.format_exception_only(caught.value))
    assert_hidden(shown, SECRET)
    assert not caplog.records


PROGRAM = """
import logging, sys
logging.basicConfig(level=logging.DEBUG)
from aipimage.io.records import keys
from aipimage.io.stream import passwords
secret = sys.stdin.read()
cheap = keys.Argon2Parameters(8192, 1, 1)
passwords.change_password(sys.argv[1], "right", secret, parameters=cheap)
passwords.list_slots(sys.argv[1])
print(repr(sys.modules["aipimage.io.stream.passwords"]))
passwords.add_password(sys.argv[1], secret + "!", secret)
"""


def test_class_35_a_program_that_logs_everything_and_dies(tmp_path: Path) -> None:
    """What a user would post in a bug report: all output of a failed run, the traceback too."""
    path = write_image(tmp_path / "disk.aiv", "right")
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", PROGRAM, str(path)],
        input=SECRET,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 1
    assert "PasswordError" in done.stderr
    assert_hidden(done.stdout + done.stderr, SECRET, CHAIN_KEY)


def test_class_35_secrets_differ_between_purposes() -> None:
    chain = chain_keys()
    body = bytes(32) + FILE_ID + bytes(72)
    derived = [
        chain.key_commitment(),
        chain.header_mac(body),
        chain._origin_key(b"aiv1 data", FILE_ID),
        chain._origin_key(b"aiv1 metadata", FILE_ID),
        CHAIN_KEY,
    ]
    assert len(set(derived)) == len(derived)
