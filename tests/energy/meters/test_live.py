"""A recording that is being made counts as measured; one of another time does not."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from home_sender import until
from whole_span import energy_of

from fimi.energy.clock import MonotonicClock, VirtualClock
from fimi.energy.meters import NOTHING, MeterUnavailableError, Reading
from fimi.energy.meters.detect import MeterSettings, open_meter
from fimi.energy.meters.elsewhere.clocks import FASTEST_S
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

    def open(self, impossible_w: float = 20e3, **given: Any) -> LiveRecording:
        return LiveRecording(
            ReplaySettings(file=str(self.path), kind="measured", **given),
            self.clock,
            scope="wall",
            impossible_w=impossible_w,
            unix_s=self.unix_s,
            wait=self.wait,
        )

    def wait(self, seconds: float) -> None:
        """The meter waits for new rows; none come, and no time passes."""


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
    for at_s in (51.0, 52.25):
        lab.clock.show(at_s)
        lab.row(NOW_S - 50.0 + int(at_s), 7.5 + int(at_s))
        look = meter.look(at_s)
        assert look.power_w == 7.5 + int(at_s)
        assert look.time_s == pytest.approx(int(at_s), abs=1e-3)
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
    assert "7 rows were left out" in meter.facts()
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


@pytest.mark.parametrize("every_s", [0.1, 1.0])
def test_a_row_that_no_board_draws_makes_no_joules(tmp_path: Path, every_s: float) -> None:
    """One row of 65,535 among rows of 4 W, added up or read one by one."""
    lab = Laboratory(tmp_path)
    for place in range(5):
        lab.row(NOW_S + every_s * (place - 5), 4.0)
    meter = lab.open(impossible_w=300.0)
    seen = []
    for place in range(1, 21):
        lab.clock.show(50.0 + every_s * place)
        lab.row(NOW_S + every_s * place, 65535 if place == 10 else 4.0)
        seen.append(meter.look(lab.clock.now_s()))
    if meter.describe().counts:
        grown_j = (seen[-1].counter_j or 0.0) - (seen[0].counter_j or 0.0)
        assert 0.0 < grown_j <= 4.0 * every_s * 19 * 1.001
    else:
        assert {look.power_w for look in seen} == {4.0}
    assert any("1 rows cannot be of this board" in doubt for doubt in meter.doubts())
    meter.close()


def test_a_counter_that_leaps_is_reset(tmp_path: Path) -> None:
    lab = Laboratory(tmp_path, "energy_j")
    lab.row(NOW_S - 2.0, 30_000.0)
    lab.row(NOW_S - 1.0, 30_004.0)
    meter = lab.open(impossible_w=300.0)
    lab.row(NOW_S, 0.0)
    lab.row(NOW_S + 1.0, 30_012.0)
    lab.clock.show(51.0)
    resets = [meter.look(51.0).reset for _ in range(4)]
    assert any(resets)
    assert any("fell or leapt" in doubt for doubt in meter.doubts())
    meter.close()


def test_a_counter_in_coarse_steps_goes_on(tmp_path: Path) -> None:
    """Whole watt-hours of 8 W, a row a second, on a board that draws 30 W at most."""
    lab = Laboratory(tmp_path, "energy_j")
    for place in range(5):
        lab.row(NOW_S + place - 5.0, 3600.0)
    meter = lab.open(impossible_w=300.0)
    looks = []
    for place in range(1, 1001):
        lab.clock.show(50.0 + place)
        lab.row(NOW_S + place, 3600.0 * (1 + 8 * place // 3600))
        looks.append(meter.look(lab.clock.now_s()))
    assert not any(look.reset for look in looks) and not meter.doubts()[1:]
    assert looks[-1].counter_j == 3600.0 * 3
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


class Logger(Laboratory):
    """A logger with a clock of its own, whose rows become visible late or several at once.

    Args:
        every_s: time between two rows, s.
        behind_s: by how much its clock is behind the time of day, s.
        delays_s: from a row's time until it can be read, s, in turn.
        flush_s: rows become visible only at multiples of this, s.
    """

    def __init__(
        self,
        folder: Path,
        *,
        every_s: float,
        behind_s: float = 0.0,
        delays_s: tuple[float, ...] = (0.0,),
        flush_s: float = 0.0,
        power_w: Any = lambda _: 4.0,
    ) -> None:
        super().__init__(folder)
        self.every_s, self.behind_s, self.flush_s = every_s, behind_s, flush_s
        self.delays_s, self.power_w = delays_s, power_w
        self.number = -10
        self.truth: list[tuple[float, float]] = []
        """Time by our clock, s, and W of every row that is written."""
        self.go_on(0.0)

    def go_on(self, seconds: float) -> None:
        """Time passes, and rows are written."""
        end_s = self.clock.now_s() + seconds
        while (seen_s := self.visible_s()) <= end_s:
            self.clock.show(max(self.clock.now_s(), seen_s))
            made_s = 50.0 + self.number * self.every_s
            self.truth.append((made_s, self.power_w(made_s)))
            self.row(NOW_S - 50.0 + made_s - self.behind_s, self.truth[-1][1])
            self.number += 1
        self.clock.show(end_s)

    def visible_s(self) -> float:
        late_s = self.delays_s[self.number % len(self.delays_s)]
        seen_s = 50.0 + self.number * self.every_s + late_s
        return -(-seen_s // self.flush_s) * self.flush_s if self.flush_s else seen_s

    wait = go_on

    def looks(self, meter: LiveRecording, period_s: float, count: int) -> list[Reading]:
        found = []
        for _ in range(count):
            self.go_on(period_s)
            now_s = self.clock.now_s()
            look = meter.look(now_s)
            assert look.time_s is not None
            assert look.time_s <= now_s
            found.append(look.reading(now_s))
        return found


class TestClocks:
    def test_the_row_that_came_fastest_says_how_the_clocks_differ(self, tmp_path: Path) -> None:
        """The logger is 3.21 s behind; its rows take nothing to 0.3 s."""
        lab = Logger(tmp_path, every_s=0.5, behind_s=3.21, delays_s=(0.3, 0.004, 0.2, 0.1))
        meter = lab.open()
        placed = {reading.time_s for reading in lab.looks(meter, 0.1, 60)}
        made_s = {at_s for at_s, _ in lab.truth}
        for time_s in placed:
            assert min(abs(time_s - at_s) for at_s in made_s) < 0.06
        (said,) = (fact for fact in meter.facts() if "ahead" in fact)
        ahead_s, within_ms = float(said.split()[6]), float(said.split()[9])
        assert abs(ahead_s + 3.21) < 2e-3 * within_ms
        # Between rows 0.5 s apart, and delays that differ by some tenths of a second.
        assert 0.15 < meter.describe().response.delay_sd_s < 0.4
        assert not meter.doubts()
        meter.close()

    def test_the_offset_is_never_known_exactly(self, tmp_path: Path) -> None:
        lab = Logger(tmp_path, every_s=0.02)
        meter = lab.open()
        assert meter.describe().response.delay_sd_s >= FASTEST_S / 3**0.5
        meter.close()

    def test_without_new_rows_the_clock_is_taken_as_right_and_this_is_said(
        self, lab: Laboratory
    ) -> None:
        meter = lab.open()
        assert any("taken as right" in doubt for doubt in meter.doubts())
        lab.row(NOW_S, 4.0)
        meter.look(50.0)
        assert not meter.doubts()
        meter.close()

    @pytest.mark.parametrize("every_s", [0.02, 0.5])
    @pytest.mark.parametrize("set_by_s", [100.0, -100.0, 7.0, -7.0])
    def test_a_clock_that_is_set_is_noticed_and_makes_no_joules(
        self, tmp_path: Path, every_s: float, set_by_s: float
    ) -> None:
        lab = Logger(tmp_path, every_s=every_s)
        meter = lab.open(stale_s=10.0)
        before = lab.looks(meter, 0.1, 100)
        lab.behind_s -= set_by_s
        after = lab.looks(meter, 0.1, 100)
        assert any("was set 1 times" in doubt for doubt in meter.doubts())
        assert lab.clock.now_s() - after[-1].time_s < 2 * every_s + 0.1, "readings are of now again"
        if meter.describe().counts:
            assert any(reading.reset for reading in after)
            joules = (after[-1].counter_j or 0.0) - (before[0].counter_j or 0.0)
            assert 4.0 * 19.0 < joules <= 4.0 * 20.0
        meter.close()


class TestEveryRow:
    @pytest.mark.parametrize("flush_s", [0.0, 1.0])
    def test_rows_that_come_faster_than_looks_are_added_up(
        self, tmp_path: Path, flush_s: float
    ) -> None:
        """Bursts of 30 ms in every 70 ms: of one row in ten, too few or too many would be seen."""
        lab = Logger(
            tmp_path,
            every_s=0.01,
            flush_s=flush_s,
            power_w=lambda at_s: 9.0 if at_s % 0.07 < 0.03 else 2.0,
        )
        meter = lab.open()
        assert meter.describe().counts
        lab.looks(meter, 0.1, 20)
        readings = lab.looks(meter, 0.1, 100)
        first, last = readings[0], readings[-1]
        assert first.counter_j is not None and last.counter_j is not None
        times_s, powers_w = np.array(lab.truth).T
        # A row more or less at either end: how the clocks differ is not known to the row.
        inside = (times_s >= first.time_s - 1e-3) & (times_s <= last.time_s + 1e-3)
        truth_j = np.trapezoid(powers_w[inside], times_s[inside])
        assert last.counter_j - first.counter_j == pytest.approx(truth_j, abs=2 * 9.0 * 0.01)
        steps_s = np.diff(sorted({reading.time_s for reading in readings}))
        assert steps_s.max() < 0.4, "rows that came at once are shown one after another"
        meter.close()

    def test_slow_rows_that_come_at_once_are_each_a_reading(self, tmp_path: Path) -> None:
        lab = Logger(tmp_path, every_s=0.5, flush_s=2.0, power_w=lambda at_s: at_s)
        meter = lab.open()
        shown_w = [reading.power_w for reading in lab.looks(meter, 0.2, 100)]
        since = next(n for n, (at_s, _) in enumerate(lab.truth) if at_s == shown_w[0])
        expected_w = [power_w for _, power_w in lab.truth[since:]]
        assert list(dict.fromkeys(shown_w)) == pytest.approx(expected_w[: len(set(shown_w))])
        assert len(set(shown_w)) > 30
        assert not meter.passed_over
        meter.close()

    def test_who_looks_too_seldom_is_told(self, tmp_path: Path) -> None:
        lab = Logger(tmp_path, every_s=0.5)
        meter = lab.open()
        lab.looks(meter, 5.0, 20)
        assert any("meter_rate_hz to 5 or more" in doubt for doubt in meter.doubts())
        meter.close()
