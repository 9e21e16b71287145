"""What is built and installed: the package ``fimi``, whole, and nothing beside it.

Needs no network: the backend that builds must be installed, and dependencies are those of this
environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hatchling", reason="builds the package")
pytest.importorskip("editables", reason="makes an editable installation")

ROOT = Path(__file__).parents[1]
SAFELY: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
CARD = {f"share/fimi/card/{path.name}" for path in (ROOT / "packaging/card").iterdir()}
SHARED = CARD | {"share/fimi/grafana/fimi.json"}
"""What goes beside the package."""

LOOK = """
import fimi, fimi.energy.joules, fimi.generator_node.generators.base, fimi.report, fimi.testbed.cli
from importlib.resources import files
assert files("fimi.report").joinpath("assets", "page.css").is_file()
assert files("fimi.generator_node").joinpath(
    "weights", "digits-writers", "generator.json").is_file()
from fimi.learning.data.dataset import load_digits
assert len(load_digits()) == 1797
for room in ("energy", "learning", "messaging", "optim", "record", "testbed"):
    try:
        module = __import__(room)
    except ImportError:
        continue
    print(room, "can be imported:", module.__file__)
print(fimi.__file__)
"""


def run(*command: str | Path, cwd: Path) -> str:
    """What a command says, in a folder elsewhere and without this environment's settings."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_"))}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(tree: Path, kind: str, into: Path) -> Path:
    run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", into, cwd=tree)
    (built,) = into.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A fresh virtual environment that finds the dependencies of this one, but not this product."""
    place = tmp_path / "venv"
    venv.create(place, with_pip=False)
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return place


def install(environment: Path, *what: str | Path) -> set[str]:
    """Install something; the names that it adds to the packages."""
    (packages,) = environment.glob("lib/python*/site-packages")
    before = {path.name for path in packages.iterdir()}
    python = environment / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index",
        "--no-deps", "--no-build-isolation", "--no-compile", *what, cwd=environment)  # fmt: skip
    return {path.name for path in packages.iterdir()} - before


def files_of_the_rooms() -> set[str]:
    """Every file below ``fimi/`` in the tree, links followed."""
    return {
        (Path(folder) / name).relative_to(ROOT).as_posix()
        for folder, _, names in os.walk(ROOT / "fimi", followlinks=True)
        for name in names
        if not folder.endswith("__pycache__")
    }


def test_a_wheel_holds_every_file_of_every_room_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    inside = files_of_the_rooms()
    assert len(inside) > 300
    assert {name for name in names if name.startswith("fimi/")} == inside
    beside = {name.split("/", 1)[1] for name in names - inside}
    assert len(CARD) == 3
    assert {f"data/{path}" for path in SHARED} <= beside
    assert sum(name.endswith("/digits.md") for name in names) == 2  # with the data and as a licence
    assert all(".dist-info/" in name or name.endswith(tuple(SHARED)) for name in names - inside)


def test_a_wheel_of_the_source_archive_is_the_wheel_of_the_tree(
    wheel: Path, sdist: Path, tmp_path: Path
) -> None:
    with tarfile.open(sdist) as archive:
        assert not [each.name for each in archive if each.issym() or each.islnk()]
        archive.extractall(tmp_path, **SAFELY)
    (tree,) = tmp_path.iterdir()
    assert not (tree / "energy").exists()
    assert build(tree, "wheel", tmp_path / "built").read_bytes() == wheel.read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="looks into folders of a Unix environment")
@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_only_fimi_is_installed_and_works(
    kind: str, wheel: Path, environment: Path, tmp_path: Path
) -> None:
    added = install(environment, *([wheel] if kind == "wheel" else ["--editable", ROOT]))
    others = {name for name in added if not name.endswith((".dist-info", ".pth"))}
    assert others == (set() if kind == "editable" else {"fimi"})
    assert all((environment / path).is_file() for path in SHARED)
    (tmp_path / "elsewhere").mkdir()
    said = run(environment / "bin" / "fimi", "--help", cwd=tmp_path / "elsewhere")
    assert "dry-run" in said
    said = run(environment / "bin" / "python", "-c", LOOK, cwd=tmp_path / "elsewhere")
    place = ROOT if kind == "editable" else environment
    lines = said.splitlines()
    assert Path(lines[-1]).is_relative_to(place)
    assert len(lines) == 1 or kind == "editable"  # there the folders of the tree can be seen
