"""The live display of an experiment."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from fimi.testbed.experiment.engines.base import CommandLine, Task, last_line
from fimi.testbed.experiment.progress import ExperimentLiveView, ExperimentPlainView


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


def test_what_a_run_on_boards_waits_for_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    assert last_line(log) == ""
    said = "waiting for a generator node, 60 s left; start one: fimi generator run"
    log.write_text("x" * 9000 + f"\n[   3.7 s] devices are offered it\n[  33.7 s] {said}\n\n")
    assert last_line(log) == said
    task = Task(name="fimi", kind="k", command=lambda: CommandLine(arguments=()), log=log, steps=5)

    terminal = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    view = ExperimentLiveView(terminal, 1, "trial")
    for what in (said, ""):
        view.tick([(task, 9.0)], None)
        view.doing(what)
        with terminal.capture() as captured:
            terminal.print(view.get_renderable())
        assert (said in captured.get()) == bool(what)
    view.tick([(task, 9.0)], 61.0)
    view.waiting("boards rest, 900 s left")
    with terminal.capture() as captured:
        terminal.print(view.get_renderable())
    assert "boards rest, 900 s left" in captured.get()
    assert "61 s left" not in captured.get()

    now_s = 0.0
    plain = ExperimentPlainView(io.StringIO(), 1)
    monkeypatch.setattr(plain, "_clock", lambda: now_s)
    lines: list[str] = []
    monkeypatch.setattr(plain, "say", lines.append)
    now_s = 1e9
    plain.doing(said)
    plain.tick([(task, 9.0)], 61.0)
    assert lines == [f"fimi 0/5, 61 s left ({said})"]


@pytest.mark.parametrize(
    ("first", "same", "another"),
    [
        (
            "broker away for 0 s (h:1: cannot be reached)",
            "broker away for 8 s (h:1: cannot be reached)",
            "waiting for a, 20 s left",
        ),
        (
            "cooling down to 45 °C: a at 70 °C, b at 61 °C",
            "cooling down to 45 °C: a at 69 °C, b at 61 °C",
            "cooling down to 45 °C: a at 69 °C",
        ),
        ("waiting for a, b, 20 s left", "waiting for a, b, 18 s left", "waiting for a, 16 s left"),
        (
            "1 of 3 boards here, 20 s left",
            "1 of 3 boards here, 9 s left",
            "2 of 3 boards here, 8 s",
        ),
    ],
)
def test_a_wait_is_one_line_until_another_one_begins(
    monkeypatch: pytest.MonkeyPatch, first: str, same: str, another: str
) -> None:
    plain = ExperimentPlainView(io.StringIO(), 1)
    monkeypatch.setattr(plain, "_clock", lambda: plain._said_s)
    lines: list[str] = []
    monkeypatch.setattr(plain, "say", lines.append)
    for what in (first, same, same, another, ""):
        plain.waiting(what)
    assert lines == [first, another]
