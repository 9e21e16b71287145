"""The live display of an experiment."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from fimi.testbed.experiment.engines.base import CommandLine, Task
from fimi.testbed.experiment.progress import ExperimentLiveView


@pytest.mark.parametrize(
    ("left_s", "said"),
    [(None, ""), (0.0, ", nearly done"), (0.009, ", nearly done"), (61.4, ", 61 s left")],
)
def test_every_run_has_a_row_of_its_own(tmp_path: Path, left_s: float | None, said: str) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    tasks = [
        Task(
            name=f"{n}-seed-1",
            kind="k",
            command=lambda: CommandLine(arguments=()),
            log=tmp_path,
            steps=4,
        )
        for n in ("a", "b")
    ]
    view = ExperimentLiveView(console, 4, "trial")
    view.finished(tasks[0], 1.0, "")
    view.tick([(task, 9.3) for task in tasks], left_s)
    shown = [
        "".join(segment.text for segment in line).rstrip()
        for line in console.render_lines(view.get_renderable())
    ]
    assert shown[0] == f"trial   1 of 4 runs, 0 s{said}"
    assert set(shown[1]) <= {"━", "╸", "╺"}
    assert shown[1]
    assert [row.split()[0] for row in shown[2:]] == ["a-seed-1", "b-seed-1"]
    assert all(row.endswith("0/4  9 s") for row in shown[2:])
