"""The picture of planned and measured errors shows what the record has."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from stored_runs import device_round, round_result

from fimi.optim.learning_curve import LearningCurve
from fimi.record.events import LearningRefitted
from fimi.record.reader import read_run
from fimi.record.record import RunData
from fimi.report.error_figures import planned_error_plot
from fimi.report.words import percent

# round: measured and planned error of device-0 and device-1, accuracy of the global model
ERRORS = {
    1: ((0.8, 0.7), (0.6, 0.9), 0.25),
    2: ((0.5, None), (0.3, None), 0.75),  # rounds on a part of the images are not planned
    3: ((0.0, 0.1), (0.0, 0.2), 1.0),
}
LEAST = 0.5
"""Lowest error on the axis, %: its logarithm is drawn."""


@pytest.fixture
def run(run_dir: Any) -> RunData:
    rounds = []
    for number, (*devices, accuracy) in ERRORS.items():
        entries = [
            device_round(f"device-{index}", local_error=measured, planned_error=planned)
            for index, (measured, planned) in enumerate(devices)
        ]
        rounds.append(round_result(number, entries, accuracy))
    return replace(read_run(run_dir), rounds=tuple(rounds), learning_refits=())


def traces(run: RunData) -> dict[str, Any]:
    picture = planned_error_plot(run)
    assert picture is not None
    return {trace.name: trace for trace in picture.figure.data}


def refit(number: int) -> LearningRefitted:
    curve = LearningCurve(alpha=2.0, beta=0.5, delta0=0.01)
    return LearningRefitted(
        round=number, before=0.1, measured=0.5, planned=0.1, curve=curve, images=7
    )


def test_values_are_those_of_the_record(run: RunData) -> None:
    found = traces(run)
    each = found["of one device, measured"]
    assert list(each.x) == [1, 1, 2, 2, 3, 3]
    assert list(each.y) == pytest.approx([80, 60, 50, 30, LEAST, LEAST])
    mean = found["mean of devices, measured"]
    assert list(mean.x) == [1, 2, 3]
    assert list(mean.y) == pytest.approx([70, 40, LEAST])
    planned = found["mean of devices, planned"]
    assert list(planned.x) == [1, 3]
    assert list(planned.y) == pytest.approx([80, 15])
    model = found["global model, test images"]
    assert list(model.x) == [1, 2, 3]
    assert list(model.y) == pytest.approx([75, 25, LEAST])


def test_what_is_said_is_not_cut_off(run: RunData) -> None:
    found = traces(run)
    assert found["of one device, measured"].text[-1].endswith(f"measured {percent(0.0)}")
    assert "measured 70.0" in found["mean of devices, measured"].text[0]
    assert "planned 80.0" in found["mean of devices, planned"].text[0]


def test_an_axis_of_few_errors_has_ticks(run: RunData) -> None:
    def ticks(run: RunData) -> Any:
        picture = planned_error_plot(run)
        assert picture is not None
        return picture.figure.layout.yaxis.tickvals

    assert 10 in ticks(run)
    # 60 to 80 %: none of these numbers lies between
    assert ticks(replace(run, rounds=run.rounds[:1])) is None


def test_a_line_for_every_refit(run: RunData) -> None:
    picture = planned_error_plot(replace(run, learning_refits=(refit(1), refit(2))))
    assert picture is not None
    assert [shape.x0 for shape in picture.figure.layout.shapes] == [1.5, 2.5]


def test_who_was_not_judged_is_not_drawn(run: RunData) -> None:
    first, *others = run.rounds
    missing = replace(first.devices[1], status="missing", local_error=None)
    other = replace(first, devices=(first.devices[0], missing))
    found = traces(replace(run, rounds=(other, *others)))
    assert list(found["of one device, measured"].y)[:2] == pytest.approx([80, 50])
    assert found["mean of devices, measured"].y[0] == pytest.approx(80)
    assert found["mean of devices, planned"].y[0] == pytest.approx(70), "of the same devices"


def test_without_errors_there_is_no_picture(run_dir: Any) -> None:
    assert planned_error_plot(read_run(run_dir)) is None


def test_where_nothing_is_planned_errors_are_drawn(run: RunData) -> None:
    rounds = [
        replace(r, devices=tuple(replace(d, planned_error=None) for d in r.devices))
        for r in run.rounds
    ]
    found = traces(replace(run, rounds=tuple(rounds)))
    assert "mean of devices, planned" not in found
    assert len(found["mean of devices, measured"].x) == 3
