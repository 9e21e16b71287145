from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fimi.energy.cost_model import PHASES
from fimi.record import results
from fimi.record.phases import error_percent, phase_seconds
from fimi.record.reader import read_run
from fimi.record.summary import energy_to_target, summarise

IN_A_RUN = tuple(phase for phase in PHASES if phase != "inference")
"""Trying the finished model is told apart."""


class TestWholeRun:
    def test_board_energy_contains_preparation_and_idling(self, run_dir: Path, build: Any) -> None:
        summary = summarise(read_run(run_dir))
        assert summary.measured is not None
        assert summary.measured.value_j == pytest.approx(
            2 * build.preparation_j + 6 * build.measured_j
        )
        assert summary.measured.kind == "emulated"
        assert summary.predicted_j == pytest.approx(
            2 * build.predicted_preparation_j + 6 * build.predicted_j
        )
        assert summary.bias_percent == pytest.approx(100 * (184 - 172.2) / 172.2)
        assert summary.mape_percent == pytest.approx(100 * 2 / 28.5)
        assert summary.unmetered == ()

    def test_dynamic_energy_is_above_the_metered_idle_power(
        self, run_dir: Path, build: Any
    ) -> None:
        summary = summarise(read_run(run_dir))
        assert summary.idle_power_w == {"device-0": 2.0, "device-1": 2.0}  # declared: 2.5
        assert summary.dynamic_j == pytest.approx(6 * build.dynamic_j)
        assert summary.predicted_dynamic_j == pytest.approx(6 * build.predicted_dynamic_j)

    def test_one_meters_gain_does_not_average_out(self, run_dir: Path) -> None:
        summary = summarise(read_run(run_dir))
        first = summary.devices[0].measured
        assert first is not None
        assert first.uncertainty_j == pytest.approx(0.01 * first.value_j)
        assert summary.measured is not None
        assert summary.measured.uncertainty_j == pytest.approx(math.sqrt(2) * first.uncertainty_j)

    def test_curve_accumulates_from_the_preparation_on(self, run_dir: Path, build: Any) -> None:
        points = summarise(read_run(run_dir)).points
        assert [p.number for p in points] == [1, 2, 3]
        for count, point in enumerate(points, 1):
            assert point.board_j == pytest.approx(1.2 + 2 * count * build.measured_j)
            assert point.dynamic_j == pytest.approx(2 * count * build.dynamic_j)
            assert point.predicted_board_j == pytest.approx(1.0 + 2 * count * build.predicted_j)

    def test_energy_to_target(self, run_dir: Path) -> None:
        summary = summarise(read_run(run_dir))
        half, good, perfect = energy_to_target(summary, (0.5, 0.65, 1.0))
        assert half.reached is not None
        assert half.reached.number == 1
        assert good.reached is not None
        assert good.reached.number == 2  # first reached, though round 3 is worse
        assert perfect.reached is None


class TestDevices:
    def test_row(self, run_dir: Path, build: Any) -> None:
        device = summarise(read_run(run_dir)).devices[1]
        assert (device.device, device.board, device.backend) == (
            "device-1",
            "raspberry-pi-4",
            "onnxruntime 1.31",  # what its rounds were trained with, not what is installed
        )
        assert (device.frequency_planned_hz, device.frequency_achieved_hz) == (1.35e9, 1.4e9)
        assert (device.busy_s, device.predicted_busy_s) == (5.5, 5.5)
        assert device.predicted_j == pytest.approx(0.5 + 3 * build.predicted_j)
        assert device.error_percent == pytest.approx(100 * (92.0 - 86.1) / 86.1)
        assert (device.rounds, device.accepted) == (3, 3)

    def test_phases(self, run_dir: Path) -> None:
        summary = summarise(read_run(run_dir))
        assert [cell.phase for cell in summary.phases] == list(IN_A_RUN)
        compute = summary.phases[2]
        assert compute.measured is not None
        assert compute.measured.value_j == pytest.approx(120.0)
        assert compute.error_percent == pytest.approx(10.0)
        assert compute.count == 6
        assert phase_seconds(read_run(run_dir), "device-0") == {
            "model-download": (0.5, 0.5),
            "compute": (4.0, 4.0),
            "upload": (1.0, 1.0),
            "idle": (2.0, 2.0),
        }


class TestMissing:
    def test_unread_phase_takes_the_whole_device_round_out_of_both_sides(
        self, tmp_path: Path, build: Any
    ) -> None:
        rounds = [
            build.round_result(1, [build.device_round(n) for n in "ab"], 0.5),
            build.round_result(
                2, [build.device_round("a", unread={"upload"}), build.device_round("b")], 0.6
            ),
        ]
        build.write(tmp_path, names="ab", rounds=rounds)
        summary = summarise(read_run(tmp_path))
        assert summary.unmetered == (("a", (2,)),)
        assert summary.measured is not None
        assert summary.measured.value_j == pytest.approx(1.2 + 3 * build.measured_j)
        assert summary.predicted_j == pytest.approx(1.0 + 3 * build.predicted_j)
        assert summary.dynamic_j == pytest.approx(3 * build.dynamic_j)
        assert summary.predicted_dynamic_j == pytest.approx(3 * build.predicted_dynamic_j)
        upload = next(c for c in summary.cells if (c.device, c.phase) == ("a", "upload"))
        assert upload.count == 1
        assert upload.compared_j == pytest.approx(3.0)

    def test_a_device_that_never_reported_is_named(self, tmp_path: Path, build: Any) -> None:
        gone = build.device_round("b", status="missing", reason="b went offline", phases=())
        build.write(
            tmp_path,
            names="ab",
            rounds=[build.round_result(1, [build.device_round("a"), gone], 0.5)],
        )
        summary = summarise(read_run(tmp_path))
        assert summary.unmetered == (("b", (1,)),)
        assert summary.devices[1].problems == ((1, "missing", "b went offline"),)
        assert summary.devices[1].accepted == 0

    def test_unknown_idle_power_is_said(self, tmp_path: Path, build: Any) -> None:
        entry = build.device_round("x")
        entry = build.device_round("x", phases=entry.phases[:-1])  # never idled
        build.write(tmp_path, names=(), rounds=[build.round_result(1, [entry], 0.5)])
        summary = summarise(read_run(tmp_path))
        assert summary.dynamic_j is None
        assert summary.measured is not None
        assert any("idle power of x" in warning for warning in summary.warnings)

    def test_nothing_at_all(self, tmp_path: Path, build: Any) -> None:
        build.write(tmp_path, names=(), rounds=[])
        summary = summarise(read_run(tmp_path))
        assert summary.measured is None
        assert summary.dynamic_j is None
        assert summary.points == summary.devices == summary.phases == ()
        assert summary.mape_percent is None
        assert summary.bias_percent is None

    def test_error_of_nothing_is_no_number(self) -> None:
        assert error_percent(1.0, 0.0) is None


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    unread=st.sets(st.tuples(st.integers(1, 3), st.sampled_from("abc"), st.sampled_from(IN_A_RUN)))
)
def test_parts_add_up_to_the_whole_and_what_is_left_out_is_listed(
    unread: set[tuple[int, str, str]], build: Any
) -> None:
    rounds = [
        build.round_result(
            number,
            [
                build.device_round(
                    name, unread={p for n, d, p in unread if (n, d) == (number, name)}
                )
                for name in "abc"
            ],
            0.5,
        )
        for number in (1, 2, 3)
    ]
    with tempfile.TemporaryDirectory() as folder:
        build.write(Path(folder), names="abc", rounds=rounds)
        run = read_run(Path(folder))
    summary = summarise(run)
    whole = results.board_energy(run.preparations, run.rounds)
    assert whole is not None
    assert summary.measured is not None
    assert summary.measured.value_j == whole.value_j
    assert math.fsum(d.measured.value_j for d in summary.devices if d.measured) == pytest.approx(
        whole.value_j
    )
    assert math.fsum(d.predicted_j for d in summary.devices) == pytest.approx(summary.predicted_j)
    assert summary.points[-1].board_j == pytest.approx(whole.value_j)
    assert summary.points[-1].predicted_board_j == pytest.approx(summary.predicted_j)
    left_out = {(n, d) for d, numbers in summary.unmetered for n in numbers}
    assert left_out == {(n, d) for n, d, p in unread if p != "synthetic-download"}
