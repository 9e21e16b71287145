from __future__ import annotations

from pathlib import Path

import pytest

from fimi.energy.clock import VirtualClock
from fimi.energy.ledger import Ledger
from fimi.energy.meters import Look, Meter, MeterDescription, MeterUnavailableError
from fimi.energy.meters.combine import Combined, WithSecond
from fimi.energy.meters.detect import MeterSettings, chosen_meters, open_recorder
from fimi.energy.meters.response import MeterResponse
from fimi.energy.meters.sampler import Sampler
from fimi.energy.step_load.kept import KeptResponse


class Shown(Meter):
    """A meter of the power that a test sets; it may show what was drawn some time before."""

    def __init__(
        self, source: str, board: Board, *, gain: float = 1.0, delay_s: float = 0.0
    ) -> None:
        self._board, self._gain, self._delay_s = board, gain, delay_s
        self._description = MeterDescription(
            source=source,
            kind="measured",
            scope="board",
            rate_hz=1000.0,
            noise_w=0.01,
            response=MeterResponse(delay_s=delay_s, refresh_s=0.01 if delay_s else 0.0),
        )

    def look(self, time_s: float) -> Look:
        return Look(power_w=self._gain * self._board.power_at(time_s - self._delay_s))


class Board:
    """Power by time, W."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self._steps = [(-1e9, 2.0)]

    def draw(self, power_w: float) -> None:
        self._steps.append((self.clock.now_s(), power_w))

    def power_at(self, time_s: float) -> float:
        return next(power for since_s, power in reversed(self._steps) if since_s <= time_s)


@pytest.fixture
def board() -> Board:
    return Board(VirtualClock(100.0))


def recorder(board: Board, *, delay_s: float = 0.0) -> WithSecond:
    first = Sampler(Shown("chip", board), board.clock, rate_hz=0.0)
    second = Sampler(Shown("plug", board, gain=1.1, delay_s=delay_s), board.clock, rate_hz=0.0)
    return WithSecond(first, second)


def work(board: Board, both: WithSecond, seconds: float) -> None:
    for _ in range(round(seconds * 20)):
        board.clock.advance(0.05)
        both.first.poll()
        both.second.poll()


def test_a_phase_has_the_energy_of_both(board: Board) -> None:
    both = recorder(board)
    ledger = Ledger(board.clock, both)
    with ledger.phase("compute"):
        board.draw(5.0)
        work(board, both, 4.0)
    (record,) = ledger.take()
    assert record.energy is not None
    assert record.second is not None
    assert (record.energy.source, record.second.source) == ("chip", "plug")
    assert record.energy.value_j == pytest.approx(20.0, rel=0.02)
    assert record.second.value_j == pytest.approx(22.0, rel=0.02)
    assert record.cpu is None
    assert record.final
    both.close()


def test_a_late_second_meter_is_waited_for(board: Board) -> None:
    both = recorder(board, delay_s=2.0)
    ledger = Ledger(board.clock, both)
    work(board, both, 1.0)
    with ledger.phase("compute"):
        board.draw(5.0)
        work(board, both, 4.0)
    (given,) = ledger.take(3)
    assert not given.final
    assert ledger.corrections() == {}, "nothing more has come yet"
    with ledger.phase("idle"):
        board.draw(2.0)
        work(board, both, 4.0)
    ((number, (corrected,)),) = ledger.corrections().items()
    assert number == 3
    assert ledger.corrections() == {}, "once"
    assert corrected.final
    assert corrected.second is not None
    assert corrected.second.value_j == pytest.approx(22.0, rel=0.03)
    assert corrected.energy == given.energy
    both.close()


def test_one_meter_is_not_its_own_second(board: Board) -> None:
    first, second = (Sampler(Shown("chip", board), board.clock, rate_hz=0.0) for _ in range(2))
    with pytest.raises(MeterUnavailableError, match="is the meter already"):
        WithSecond(first, second)


def chip(root: Path, number: int, name: str, power_uw: int) -> None:
    folder = root / f"sys/class/hwmon/hwmon{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "power1_input").write_text(f"{power_uw}\n")


def test_the_profile_names_it(tmp_path: Path) -> None:
    chip(tmp_path, 0, "ina226", 3_000_000)
    chip(tmp_path, 1, "ina231", 3_300_000)
    clock = VirtualClock(0.0)
    settings = MeterSettings(meter="hwmon:ina226", second="hwmon:ina231")
    opened = open_recorder(settings, tmp_path, clock)
    assert isinstance(opened, WithSecond)
    assert not isinstance(opened.first, Combined)
    ledger = Ledger(clock, opened)
    with ledger.phase("compute"):
        clock.advance(2.0)
        opened.first.poll() if isinstance(opened.first, Sampler) else None
        opened.second.poll()
        clock.advance(2.0)
    (record,) = ledger.take()
    assert record.second is not None
    assert record.second.value_j == pytest.approx(13.2)
    cost = opened.take_cost()
    assert cost.looks >= 6
    opened.close()
    sources = [meter.describe().source for meter in chosen_meters(settings, tmp_path, clock)]
    assert len(set(sources)) == 2


def test_a_second_meter_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    chip(tmp_path, 0, "ina226", 3_000_000)
    settings = MeterSettings(meter="hwmon:ina226", second="hwmon:ina999")
    with pytest.raises(MeterUnavailableError, match="ina999"):
        open_recorder(settings, tmp_path, VirtualClock(0.0))


def test_a_learned_response_goes_to_the_meter_of_its_source_only(tmp_path: Path) -> None:
    chip(tmp_path, 0, "ina226", 3_000_000)
    chip(tmp_path, 1, "ina231", 3_300_000)
    clock = VirtualClock(0.0)
    plain = MeterSettings(meter="hwmon:ina226", second="hwmon:ina231")
    source = chosen_meters(plain, tmp_path, clock)[0].describe().source
    kept = KeptResponse(delay_s=0.7, refresh_s=0.2, delay_sd_s=0.01)
    settings = MeterSettings(meter="hwmon:ina226", second="hwmon:ina231", responses={source: kept})
    first, second = chosen_meters(settings, tmp_path, clock)
    assert first.describe().response == kept.response
    assert second.describe().response.origin != "learned"


def test_a_response_of_other_settings_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chip(tmp_path, 0, "ina226", 3_000_000)
    interval = tmp_path / "sys/class/hwmon/hwmon0/update_interval"
    interval.write_text("100\n")
    kept = KeptResponse(delay_s=0.03, window_s=0.1, refresh_s=0.1, chip_refresh_s=0.1)
    settings = MeterSettings(meter="hwmon:ina226", responses={"hwmon:ina226": kept})
    opened = open_recorder(settings, tmp_path, VirtualClock(0.0))
    assert opened.describe().response == kept.response
    opened.close()
    assert caplog.text == ""
    interval.write_text("18\n")
    opened = open_recorder(settings, tmp_path, VirtualClock(0.0))
    response = opened.describe().response
    assert (response.origin, response.refresh_s) == ("chip", pytest.approx(0.018))
    opened.close()
    assert "own interval was 0.1 s then and is 0.018 s now. Learn it again" in caplog.text
