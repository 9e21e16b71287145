"""A machine without the packages of a command: it says what to install, and prints no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fimi.testbed.commands.lacking import lacking

REFUSING = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('scipy', 'rich', 'starlette', 'torch'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)
sys.meta_path.insert(0, Refuse())
from fimi.testbed.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("module", "command", "extra"),
    [
        ("rich.console", "coordinator", "coordinator"),
        ("torch", "coordinator", "coordinator"),
        ("torch.nn", "generator", "generator"),
        ("torch", "agent", "torch"),
        ("diffusers", "dry-run", "generator"),
        ("ray", "experiment", "ray"),
        ("sklearn", "dry-run", None),  # of no extra but that of the tests
        ("fimi.nowhere", "agent", None),
        ("", "agent", None),
    ],
)
def test_the_extra_that_brings_it(module: str, command: str, extra: str | None) -> None:
    said = lacking(ModuleNotFoundError("x", name=module), command)
    assert (said is None) == (extra is None)
    assert said is None or said.endswith(f"pip install 'fimi-testbed[{extra}]'")


def test_a_desk_with_the_base_install_is_told_what_to_install() -> None:
    done = subprocess.run(
        [sys.executable, "-c", REFUSING, "dry-run", "--devices", "2"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert " ".join(done.stderr.split()) == (
        "fimi: 'fimi dry-run' needs the package scipy, which is not installed here: pip install "
        "'fimi-testbed[coordinator]' error[U007]: 'fimi explain U007' says what to do"
    )


def test_a_run_is_looked_at_with_the_base_install(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", REFUSING, "top", "--once"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 3
    assert done.stderr.startswith("fimi: nothing goes on in runs/")
