"""``aipimage merge``."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.cli.running import PASSWORD, done, invoke


@pytest.fixture(scope="session")
def chain(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a chain of four images, and the disk as it was for each; only read."""
    directory = tmp_path_factory.mktemp("merging")
    data, chance = bytearray((made / "disk.raw").read_bytes()), random.Random(5)
    for point in range(4):
        disk = directory / f"{point}.raw"
        disk.write_bytes(data)
        parent = ("--parent", directory / f"{point - 1}.aiv") if point else ()
        kind = ("--kind", "incremental") if point else ()
        done("createimage", "-o", directory / f"{point}.aiv", disk, *kind, *parent)
        at = chance.randrange(len(data) - 9000)
        data[at : at + 9000] = chance.randbytes(9000)
    return directory


@pytest.fixture
def here(chain: Path, tmp_path: Path) -> Path:
    """A copy of the chain that a test may change."""
    shutil.copytree(chain, tmp_path, dirs_exist_ok=True)
    return tmp_path


def images(here: Path, *points: int) -> list[Path]:
    return [here / f"{point}.aiv" for point in points]


def restored(here: Path, image: Path) -> bytes:
    done("restoredisk", image, here / "restored.raw", "--force")
    data = (here / "restored.raw").read_bytes()
    (here / "restored.raw").unlink()
    return data


def test_synthetic_full(here: Path) -> None:
    """Said for people and for machines; the images stay unless they are to go."""
    out = here / "m.aiv"
    ran = done("merge", out, *images(here, 2, 0, 1))
    lines = ran.out.splitlines()
    assert lines[0].startswith(f"{out}: full, of 3 images, ")
    assert lines[1].startswith("copied ")
    digest = lines[-1].removeprefix("digest ")
    done("verify", out, "--digest", digest)
    assert restored(here, out) == (here / "2.raw").read_bytes()
    assert all(path.exists() for path in images(here, 0, 1, 2, 3))
    values = done("merge", here / "n.aiv", out, here / "3.aiv", "--remove", "--json").json
    assert values["removed"] == [str(here / "3.aiv"), str(out)]
    assert (values["kind"], values["sequence"], values["dry_run"]) == ("full", 3, False)
    assert len(values["replaced"]) == 5
    assert not out.exists()
    assert restored(here, here / "n.aiv") == (here / "3.raw").read_bytes()


def test_options(here: Path) -> None:
    out = here / "m.aiv"
    options = ("--split", "32K", "--threads", "1", "--no-resume", "--search", here)
    done("merge", out, *images(here, 0, 1), *options)
    assert (here / "m.aiv.002").exists()
    assert restored(here, out) == (here / "1.raw").read_bytes()
    done("merge", here / "2.aiv.new", *images(here, 0, 1))
    assert "already there" in invoke("merge", here / "2.aiv.new", *images(here, 0, 1)).error
    (here / "2.aiv.new").write_bytes(b"something else")
    done("merge", here / "2.aiv.new", *images(here, 0, 1), "--overwrite")


def test_a_point_of_the_chain_is_not_overwritten(here: Path) -> None:
    before = (here / "2.aiv").read_bytes()
    ran = invoke("merge", here / "2.aiv", *images(here, 0, 1), "--overwrite")
    assert (ran.code, "belongs to a chain" in ran.error) == (1, True)
    assert (here / "2.aiv").read_bytes() == before


def test_dry_run(here: Path) -> None:
    before = sorted(path.name for path in here.iterdir())
    ran = done("merge", here / "m.aiv", *images(here, 0, 1, 2), "--dry-run", "--remove")
    first, second = ran.out.splitlines()
    assert first == f"{here / 'm.aiv'}: would be full, of 3 images"
    assert second.startswith("would copy ")
    assert sorted(path.name for path in here.iterdir()) == before
    ran = done("merge", here / "m.aiv", *images(here, 0, 1), "--dry-run", "--json")
    assert ran.json["image_id"] is None
    assert ran.json["dry_run"] is True


def test_password(secret: Path, disk: Path, password: Path, tmp_path: Path) -> None:
    env = {"SECRET": PASSWORD}
    shutil.copy(secret, tmp_path / "0.aiv")
    changed = tmp_path / "1.raw"
    changed.write_bytes(b"new" + disk.read_bytes()[3:])
    done(
        "createimage",
        "-o",
        tmp_path / "1.aiv",
        changed,
        "--kind",
        "incremental",
        "--parent",
        tmp_path / "0.aiv",
        "--password-file",
        password,
    )
    command = ("merge", tmp_path / "m.aiv", *images(tmp_path, 0, 1))
    assert "--password-file" in invoke(*command).error
    done(*command, "--password-env", "SECRET", env=env)
    done("verify", tmp_path / "m.aiv", "--password-file", password)


@pytest.mark.parametrize(
    ("points", "says"), [((0, 2), "is not among the images passed"), ((1, 1), "both stand for")]
)
def test_refused(here: Path, points: tuple[int, ...], says: str) -> None:
    before = sorted(path.name for path in here.iterdir())
    ran = invoke("merge", here / "m.aiv", *images(here, *points), "--remove")
    assert ran.code == 1
    assert says in ran.error
    assert sorted(path.name for path in here.iterdir()) == before


def test_usage(here: Path) -> None:
    assert invoke("merge", here / "m.aiv").code == 2
    assert invoke("merge").code == 2
    ran = invoke("merge", here / "m.aiv", here / "0.aiv")
    assert ran.code == 2
    assert "at least two images" in ran.error
