from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fimi.energy.joules import Energy
from fimi.record.reader import read_run
from fimi.record.second import second_meter
from fimi.record.summary import summarise
from fimi.report.energy_figures import measured_against_predicted
from fimi.report.second import second_lines, second_table
from fimi.report.terminal import as_text

GAIN = 1.06


@pytest.fixture
def run(tmp_path: Path, build: Any) -> Path:
    """Two rounds; the wall behind device a is metered too, and does not resolve its uploads."""

    def both(entry: Any) -> Any:
        phases = []
        for record in entry.phases:
            value_j = GAIN * record.energy.value_j + 0.5 * record.duration_s
            second = Energy(
                value_j=value_j, kind="measured", source="plug", scope="wall", uncertainty_j=0.1
            )
            resolved = record.phase != "upload"
            phases.append(msgspec.structs.replace(record, second=second, second_resolved=resolved))
        return msgspec.structs.replace(entry, phases=tuple(phases))

    rounds = [
        build.round_result(n, [both(build.device_round("a")), build.device_round("b")], 0.5)
        for n in (1, 2)
    ]
    build.write(tmp_path / "run", names=("a", "b"), rounds=rounds)
    return tmp_path / "run"


def test_the_gain_over_the_run(run: Path) -> None:
    data = read_run(run)
    found = second_meter(data, "a")
    assert found is not None
    records = [r for each in data.stretches_of("a") for r in each.phases if r.second is not None]
    first_j = math.fsum(r.energy.value_j for r in records if r.energy)
    second_j = math.fsum(r.second.value_j for r in records if r.second)
    assert found.whole.first.value_j == pytest.approx(first_j)
    assert found.whole.second.value_j == pytest.approx(second_j)
    assert found.whole.gain == pytest.approx(second_j / first_j)
    assert found.whole.count == len(records)
    told = {each.phase: each.gain for each in found.phases}
    assert told["compute"] is not None
    assert told["compute"] > GAIN
    assert told["upload"] is None
    assert math.fsum(each.second.value_j for each in found.phases) == pytest.approx(second_j)
    assert second_meter(data, "b") is None


def test_it_is_in_no_sum(run: Path, tmp_path: Path, build: Any) -> None:
    rounds = [
        build.round_result(n, [build.device_round("a"), build.device_round("b")], 0.5)
        for n in (1, 2)
    ]
    build.write(tmp_path / "plain", names=("a", "b"), rounds=rounds)
    with_it, without = summarise(read_run(run)), summarise(read_run(tmp_path / "plain"))
    assert with_it.energy == without.energy
    assert with_it.cells == without.cells


def test_terminal_and_page_show_it_beside_the_first(run: Path) -> None:
    summary = summarise(read_run(run))
    (line,) = second_lines(summary)
    assert line[0] == "second meter"
    assert line[1].startswith("a: plug reads")
    assert "of the wall and of the board" in line[1]
    assert "second meter" in as_text(run)
    shown = str(second_table(summary))
    assert "not told by both" in shown
    assert "measured, wall" in shown
    picture = measured_against_predicted(summary)
    assert picture is not None
    marks = [
        each
        for each in picture.figure.data
        if each.name == "second meter (measured, wall) ± 1 s.d."
    ]
    assert len(marks) == 1
    assert len(marks[0].x) == 1


def test_a_phase_has_the_gain_of_the_rounds_in_which_both_can_tell_it(
    tmp_path: Path, build: Any
) -> None:
    def both(entry: Any, resolved: bool, gain: float) -> Any:
        phases = [
            msgspec.structs.replace(
                record,
                second=Energy(
                    value_j=gain * record.energy.value_j, kind="measured", source="p", scope="wall"
                ),
                second_resolved=resolved,
            )
            for record in entry.phases
        ]
        return msgspec.structs.replace(entry, phases=tuple(phases))

    rounds = [
        build.round_result(n, [both(build.device_round("a"), n != 2, 9.0 if n == 2 else 1.5)], 0.5)
        for n in (1, 2, 3)
    ]
    build.write(tmp_path / "run", names=("a",), rounds=rounds)
    found = second_meter(read_run(tmp_path / "run"), "a")
    assert found is not None
    (compute,) = (each for each in found.phases if each.phase == "compute")
    assert (compute.gain, compute.count) == (pytest.approx(1.5), 2)
    assert found.whole.count == sum(len(r.devices[0].phases) for r in rounds)
