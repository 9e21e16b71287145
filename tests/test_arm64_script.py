"""scripts/arm64_agent: what it says where it cannot run; the run is not part of the suite."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "arm64_agent"
NEEDED_TO_SAY_IT = ("bash", "dirname", "env", "id", "realpath")

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a shell script")


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run it where next to nothing is installed."""
    (folder / "bin").mkdir()
    for program in NEEDED_TO_SAY_IT:
        found = shutil.which(program)
        assert found is not None
        (folder / "bin" / program).symlink_to(found)
    environment = {"PATH": str(folder / "bin"), "HOME": str(folder), "VIRTUAL_ENV": str(folder)}
    return subprocess.run(
        [str(SCRIPT), *options],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_it_names_everything_that_is_missing(tmp_path: Path) -> None:
    done = run(tmp_path, "--tree", "tree")
    assert done.returncode == 1
    for what in ("debootstrap", "qemu-aarch64-static", "unshare", "pip install -e '.[dev]'"):
        assert what in done.stderr
    assert "apt-get install debootstrap qemu-user-static" in done.stderr
    assert not (tmp_path / "tree").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [(("--trees", "x"), "unknown option --trees"), (("--tree",), "FOLDER is missing")],
)
def test_options(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    done = run(tmp_path, *options)
    assert done.returncode != 0
    assert said in done.stderr
