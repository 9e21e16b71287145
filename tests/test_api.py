"""The public interface: light to import, listed, and usable from wherever Python is."""

from __future__ import annotations

import contextlib
import inspect
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

import fimi
from fimi.errors import FimiError, InputError, NoPlanError, SurroundingsError

ROOT = Path(__file__).parents[1]
PATIENCE_S = 100.0
RUN = (
    "fimi.dry_run(settings={'fleet.devices': 2, 'rounds.count': %s, 'run.strategy': 'tfl', "
    "'deployment.export': False}, run_dir='first', say=print)"
)


@contextlib.contextmanager
def python(
    folder: Path, *arguments: str, stdin: int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[str]]:
    """A Python of its own in a folder, in a session of its own; nothing of it stays behind."""
    (folder / "tmp").mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "tmp")},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            for each in [*psutil.Process(process.pid).children(recursive=True), process]:
                each.kill()
        process.wait()


def test_the_import_is_light() -> None:
    code = (
        "import sys; import fimi; "
        "print([m for m in ('numpy', 'torch', 'msgspec', 'click') if m in sys.modules], "
        "sorted(set(fimi.__all__) - set(dir(fimi))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[0] == "[] []"


@pytest.mark.parametrize("name", fimi.__all__)
def test_every_name_is_there_and_described(name: str) -> None:
    found = getattr(fimi, name)
    text = inspect.getdoc(found) or ""
    assert "Raises:" in text or "Returns:" in text
    signature = inspect.signature(found)
    for parameter in signature.parameters:
        assert re.search(rf"^ *{parameter}(,|:)", text, re.MULTILINE), parameter
    assert f"## `fimi.{name}" in (ROOT / "docs" / "api.md").read_text(encoding="utf-8")


def test_what_is_not_there_says_what_is() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'dryrun'; there are .*'dry_run'"):
        fimi.dryrun  # noqa: B018


@pytest.mark.slow
def test_the_tour_runs(tmp_path: Path) -> None:
    with python(tmp_path, str(ROOT / "examples" / "tour.py")) as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert "completed" in out
    assert re.search(r"J \(emulated, board\), predicted \d+\.\d J", out)
    assert re.search(r"^unplanned \['\d+%'\]$", out, re.MULTILINE)
    assert (tmp_path / "tour" / "compare" / "results.json").exists()


@pytest.mark.slow
def test_at_a_prompt_on_another_thread_and_with_progress(tmp_path: Path) -> None:
    """There is no main module to import there, and no signal handler can be set."""
    with python(tmp_path, "-i", stdin=subprocess.PIPE) as process:
        out, err = process.communicate(
            "import fimi, threading\n"
            f"threads = [threading.Thread(target=lambda: {RUN % 1})]\n"
            "print([each.start() for each in threads], [each.join() for each in threads])\n"
            "print(fimi.read_run('first').info.status)\n",
            timeout=PATIENCE_S,
        )
    assert "round 1/1" in out, err
    assert out.splitlines()[-1] == "completed"
    assert not [*(tmp_path / "tmp").iterdir()]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_ends_the_run_in_order(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(f"import fimi\n{RUN % 500}\n")  # no guard of any kind
    with python(tmp_path, "-u", "script.py") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "round 1/500" in line:
                break
        descendants = psutil.Process(process.pid).children(recursive=True)
        assert descendants
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert err.rstrip().endswith("KeyboardInterrupt")
    gone, alive = psutil.wait_procs(descendants, timeout=10)
    assert gone
    assert not alive
    run = fimi.read_run(tmp_path / "first")
    assert run.info.status == "interrupted"
    assert run.rounds
    assert not [*(tmp_path / "tmp").iterdir()]


class TestErrors:
    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            ({"fleet.device": 2}, "unknown key 'device' in [fleet]; did you mean 'devices'?"),
            ({"fleet.devices": "two"}, "fleet.devices = 'two': expected `int`"),
            ({"rounds.participants": np.int64(11)}, "rounds.participants 11 (settings) is above"),
            ({"devices": 2}, "write section.key=value"),
            ({"fleet.devices": object()}, "fleet.devices is a object; give a number"),
        ],
    )
    def test_a_setting_that_cannot_be(
        self, tmp_path: Path, settings: dict[str, object], says: str
    ) -> None:
        with pytest.raises(InputError) as caught:
            fimi.dry_run(settings=settings, run_dir=tmp_path / "run")
        assert says in str(caught.value)
        assert not (tmp_path / "run").exists()

    def test_those_of_the_run_come_with_their_kind_and_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(NoPlanError, match="deadline"):
            fimi.dry_run(
                settings={"fleet.devices": 2, "plan.deadline_s": 0.001}, run_dir=tmp_path / "run"
            )
        (tmp_path / "there").mkdir()
        with pytest.raises(SurroundingsError, match=r"run_dir .*there exists"):
            fimi.dry_run(settings={"fleet.devices": 2}, run_dir=tmp_path / "there")

    def test_a_run_or_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        for call in (
            lambda path: fimi.read_run(path),
            lambda path: fimi.plan(path),
            lambda path: fimi.run_experiment(path),
            lambda path: fimi.dry_run(path),
        ):
            with pytest.raises(FimiError, match=r"none\.toml"):
                call(str(tmp_path / "none.toml"))


def test_a_file_is_planned_as_the_command_plans_it(tmp_path: Path) -> None:
    from fimi.optim.problem_file import EXAMPLE, read
    from fimi.optim.quality import plan

    path = tmp_path / "problem.toml"
    path.write_text(EXAMPLE.replace("synthetic_value = 1.0", "synthetic_value = 0.5"))
    problem, _ = read(path)
    found = fimi.plan(str(path), seed=3)
    expected = plan(problem, synthetic_value=0.5, seed=3)
    assert (found.energy_j, found.synthetic_value) == (expected.energy_j, 0.5)
    assert fimi.plan(problem, synthetic_value=0.5, seed=3).devices == expected.devices
    path.write_text(EXAMPLE)
    cheapest = fimi.plan(path, target_accuracy=0.8)
    assert cheapest.error_max not in (None, problem.error_max)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: fimi.dry_run(settings={"fleet.device": 2}), "settings: unknown key 'device'"),
        (lambda: fimi.dry_run({"fleet.devices": 2}), "give keys as settings="),  # type: ignore[arg-type]
        (lambda: fimi.plan("p.toml", inner="quick"), '"fast" and "reference"'),  # type: ignore[arg-type]
    ],
)
def test_an_argument_of_the_wrong_kind_is_named(call: Callable[[], object], said: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert said in str(caught.value)
