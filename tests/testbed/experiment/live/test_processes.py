"""A generator node beside a run, with scripted processes and time."""

from __future__ import annotations

from pathlib import Path

import pytest

from fimi.testbed.experiment.live import processes
from fimi.testbed.experiment.live.processes import NodeBeside


class Child:
    """A process that has ended with a code, or runs."""

    def __init__(self, code: int | None) -> None:
        self.code = code


class Clock:
    """Stands still but for :meth:`pass_s`."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds


class Bench:
    """A node whose processes end with these codes."""

    def __init__(self, folder: Path, codes: list[int | None]) -> None:
        self.codes = codes
        self.starts = 0
        self.notes: list[str] = []
        log = folder / "log"
        log.write_text("fimi: the broker is away\n")
        self.node = NodeBeside(self, Path("x.toml"), log, self.notes.append)  # type: ignore[arg-type]

    def start(self, arguments: tuple[str, ...], log: Path, url: str, bundle: str) -> Child:
        self.starts += 1
        return Child(self.codes.pop(0))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(processes, "time", clock)
    return clock


def test_a_node_that_ends_is_started_again_after_a_while(tmp_path: Path, clock: Clock) -> None:
    bench = Bench(tmp_path, [3, 3, None])
    assert [bench.node.keep_up() for _ in range(5)] == [""] * 5
    assert bench.starts == 1
    clock.pass_s(2.0)
    bench.node.keep_up()
    assert bench.starts == 2
    bench.node.keep_up()
    clock.pass_s(4.0)
    bench.node.keep_up()
    assert bench.starts == 2  # longer after the second time
    clock.pass_s(2.0)
    bench.node.keep_up()
    assert bench.starts == 3
    assert (
        bench.notes
        == ["its generator node ended: the broker is away (exit code 3); it is started again"] * 2
    )


def test_not_for_ever_and_a_broker_may_be_away_for_half_a_minute(
    tmp_path: Path, clock: Clock
) -> None:
    bench, said, began_s = Bench(tmp_path, [3] * 99), "", clock.now_s
    while not said:
        said = bench.node.keep_up()
        clock.pass_s(0.25)
    assert said.startswith("its generator node ended: the broker is away (exit code 3); without")
    assert 30.0 < clock.now_s - began_s < 90.0
    assert bench.starts == 5


def test_a_node_with_impossible_settings_is_not_started_again(tmp_path: Path, clock: Clock) -> None:
    bench = Bench(tmp_path, [2])
    assert bench.node.keep_up()
    assert bench.notes == []
