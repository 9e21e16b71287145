"""A recording that is being made counts as measured; one of another time does not."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from home_sender import until
from whole_span import energy_of

from fimi.energy.clock import MonotonicClock, VirtualClock
from fimi.energy.meters import NOTHING, MeterUnavailableError
from fimi.energy.meters.detect import MeterSettings, open_meter
from fimi.energy.meters.live import LiveRecording, ReplaySettings
from fimi.energy.meters.sampler import Sampler

NOW_S = 1_743_120_000.0
"""The time of day in these tests, when the board's clock shows 50 s."""


class Laboratory:
    """A logger that writes rows, a board's clock, and the time of day."""

    def __init__(self, folder: Path, column: str = "power_w") -> None:
        self.path = folder / "lab.csv"
        self.path.write_text(f"time_s,volts,{column}\n")
        self.clock = VirtualClock(50.0)

    def unix_s(self) -> float:
        return NOW_S + self.clock.now_s() - 50.0

    def write(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text)

    def row(self, at_s: float, value: object) -> None:
        self.write(f"{at_s:.3f},5.1,{value}\n")

    def open(self, **given: Any) -> LiveRecording:
        settings = ReplaySettings(file=str(self.path), kind="measured", **given)
        return LiveRecording(settings, self.clock, scope="wall", unix_s=self.unix_s)


@pytest.fixture
def lab(tmp_path: Path) -> Laboratory:
    made = Laboratory(tmp_path)
    for number in range(5):
        made.row(NOW_S - 5.0 + number, 4.0)
    return made


def test_rows_are_readings_at_their_own_times(lab: Laboratory) -> None:
    meter = lab.open()
    found = meter.describe()
    assert (found.kind, found.scope, found.source) == ("measured", "wall", "recording:lab.csv")
    assert meter.look(50.0).time_s == pytest.approx(49.0)
    lab.clock.show(60.25)
    lab.row(NOW_S + 10.0, 7.5)
    look = meter.look(60.25)
    assert look.power_w == 7.5
    assert look.time_s == pytest.approx(60.0, abs=1e-3)
    meter.close()


def test_a_row_that_is_being_written_is_not_read(lab: Laboratory) -> None:
    lab.write(f"{NOW_S:.3f},5.1,4")
    meter = lab.open()
    assert meter.look(50.0).power_w == 4.0
    assert meter.look(50.0).time_s == pytest.approx(49.0)
    lab.write("2.5\n")
    assert meter.look(50.0).power_w == 42.5
    meter.close()


def test_rows_that_cannot_be_are_left_out_and_counted(
    lab: Laboratory, caplog: pytest.LogCaptureFixture
) -> None:
    lab.write("not,a,row\n")
    meter = lab.open()
    for text in (
        f"{NOW_S},5.1,nan\n", f"{NOW_S},5.1,-3\n", "1,5.1,4\n", "x\n", "\n", "\xff\n",
        f"{NOW_S},5.1,4,5\n",
    ):  # fmt: skip
        lab.write(text)
    lab.row(NOW_S, 6.0)
    assert meter.look(50.0).power_w == 6.0
    assert meter.left_out == 7
    assert meter.facts() == ("7 rows were left out",)
    assert "line 7" in caplog.text
    meter.close()


def test_a_logger_that_stops_is_no_value(lab: Laboratory) -> None:
    meter = lab.open(stale_s=5.0)
    assert meter.look(54.0) != NOTHING
    assert meter.look(54.1) == NOTHING
    assert "of" in meter.why_nothing() and "ago" in meter.why_nothing()
    lab.path.write_text("time_s,volts,power_w\n")  # the logger was started again
    assert meter.look(54.1) == NOTHING
    meter.close()


class TestRefusals:
    @pytest.mark.parametrize(
        ("moved_s", "said"),
        [
            (-240 * 86400.0, 'another time .* kind = "emulated"'),
            (-60.0, "Is the logger still running"),
            (3600.0, "declare offset_s = -3600"),
            (-7200.0, "declare offset_s = 7200"),
            (-NOW_S, "declare as offset_s the UNIX time of its 0"),
        ],
    )
    def test_a_recording_of_another_time(self, tmp_path: Path, moved_s: float, said: str) -> None:
        lab = Laboratory(tmp_path)
        for number in range(3):
            lab.row(NOW_S + moved_s - 3.0 + number, 4.0)
        with pytest.raises(MeterUnavailableError, match=said):
            lab.open()

    @pytest.mark.parametrize("moved_s", [3600.0, -7200.0, -NOW_S])
    def test_the_offset_that_is_named_works(self, tmp_path: Path, moved_s: float) -> None:
        lab = Laboratory(tmp_path)
        for number in range(3):
            lab.row(NOW_S + moved_s - 3.0 + number, 4.0)
        meter = lab.open(offset_s=-moved_s)
        assert meter.look(50.0).time_s == pytest.approx(49.0, abs=1e-3)
        meter.close()

    def test_a_file_that_is_none(self, tmp_path: Path) -> None:
        for name, text in (("absent.csv", None), ("empty.csv", ""), ("other.csv", "a,b\n1,2\n")):
            if text is not None:
                (tmp_path / name).write_text(text)
            settings = ReplaySettings(file=str(tmp_path / name), kind="measured")
            with pytest.raises(MeterUnavailableError, match=name):
                LiveRecording(settings, VirtualClock())


def test_a_counter_that_runs_back_is_reset(tmp_path: Path) -> None:
    lab = Laboratory(tmp_path, "energy_j")
    lab.row(NOW_S - 2.0, 100.0)
    lab.row(NOW_S - 1.0, 104.0)
    meter = lab.open()
    assert meter.look(50.0).counter_j == 104.0
    lab.row(NOW_S, 1.0)
    look = meter.look(50.0)
    assert (look.counter_j, look.reset) == (1.0, True)
    assert not meter.look(50.0).reset
    meter.close()


def test_declared_as_nothing_it_stays_emulated(lab: Laboratory) -> None:
    for declared in (str(lab.path), ReplaySettings(file=str(lab.path))):
        given = MeterSettings(replay=declared, scope="board")
        meter = open_meter("replay", given, Path("/"), lab.clock)
        assert meter.describe().kind == "emulated"


def test_a_phase_with_a_real_logger_has_its_joules(tmp_path: Path) -> None:
    """A thread writes 50 rows a second; the ramp that it writes has the energy of a ramp."""
    path, clock, stop = tmp_path / "lab.csv", MonotonicClock(), threading.Event()
    began_s = time.time()

    def log() -> None:
        with path.open("w") as file:
            file.write("time_s,power_w\n")
            while not stop.wait(0.02):
                now_s = time.time()
                file.write(f"{now_s:.6f},{now_s - began_s:.6f}\n")
                file.flush()

    thread = threading.Thread(target=log)
    thread.start()
    try:
        until(lambda: path.exists() and path.read_text().count("\n") > 10)
        given = MeterSettings(replay=ReplaySettings(file=str(path), kind="measured"))
        sampler = Sampler(open_meter("replay", given, tmp_path, clock), clock, rate_hz=100.0)
        sampler.mark()
        start_s, unix_s = clock.now_s(), time.time()
        time.sleep(1.0)
        end_s = clock.now_s()
        energy = energy_of(sampler.mark(), start_s, end_s, sampler.describe())
        sampler.close()
    finally:
        stop.set()
        thread.join()
    assert energy is not None and energy.kind == "measured"
    duration_s = end_s - start_s
    expected_j = duration_s * (unix_s - began_s + duration_s / 2.0)
    assert abs(energy.value_j - expected_j) < 4.0 * energy.uncertainty_j
