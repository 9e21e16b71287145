"""fimi.energy.work_meter: all meters together, and nothing where one cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from fimi.energy.clock import VirtualClock
from fimi.energy.emulation.late_meter import LateMeter
from fimi.energy.meters import (
    DeclaredPower,
    Look,
    Meter,
    MeterDescription,
    MeterUnavailableError,
    Reading,
)
from fimi.energy.meters.response import MeterResponse
from fimi.energy.work_meter import Metered, open_meters


def no_cards() -> Meter:
    raise MeterUnavailableError("no cards")


class Cards(Meter):
    """Cards that drew 30 J more at every look."""

    def __init__(self) -> None:
        self.counter_j = 0.0

    def describe(self) -> MeterDescription:
        return MeterDescription(source="nvml:0", kind="measured", scope="gpu", rate_hz=10.0)

    @property
    def longest_period_s(self) -> float:
        return 60.0

    def look(self, time_s: float) -> Look:
        return Look(counter_j=self.counter_j)

    def close(self) -> None:
        pass


def test_cards_are_added_to_a_processors_meter(tmp_path: Path) -> None:
    zone = rapl(tmp_path)
    clock, cards, said = VirtualClock(), Cards(), []
    metered = open_meters(
        said.append, whose="generator", root=tmp_path, clock=clock, cards=lambda: cards
    )
    with metered.span() as span:
        clock.advance(1.0)
        (zone / "energy_uj").write_text("5000000\n")
        cards.counter_j = 30.0
    metered.close()
    assert said == ["the generator's own energy is metered by rapl:package-0, nvml:0"]
    assert span.energy is not None
    assert span.energy.value_j == pytest.approx(34.0)
    assert span.energy.source == "nvml:0+rapl:package-0"


class Broken:
    def describe(self) -> MeterDescription:
        return MeterDescription(source="broken", kind="measured", scope="cpu", rate_hz=1.0)

    def mark(self) -> list[Reading]:
        return []


def test_the_sum_of_all_meters() -> None:
    clock = VirtualClock()
    metered = Metered([DeclaredPower(10.0, clock), DeclaredPower(30.0, clock)], clock)
    with metered.span() as span:
        clock.advance(2.0)
    assert span.seconds == 2.0
    assert span.energy is not None
    assert span.energy.value_j == pytest.approx(80.0)
    assert span.energy.source == "declared:10W+declared:30W"
    assert span.energy.kind == "modelled"


def test_a_late_meter_tells_long_work_and_says_that_it_cannot_tell_short_work(
    caplog: pytest.LogCaptureFixture,
) -> None:
    plug = MeterDescription(
        source="plug:1",
        kind="emulated",
        scope="wall",
        rate_hz=1.0,
        response=MeterResponse(delay_s=1.0, window_s=1.0, refresh_s=1.0),
    )
    clock = VirtualClock()
    late = LateMeter(plug, clock=clock, noise_w=0.0, gain=1.0, resting_power_w=20.0)
    metered = Metered([late], clock)
    late.observe(30.0, 20.0)
    for seconds in (0.5, 10.0, 0.5, 40.0):
        with metered.span() as span:
            late.observe(seconds / 2.0, 110.0)
            late.observe(seconds / 2.0, 130.0)
        if seconds < 1.0:
            assert span.energy is None
        else:
            assert span.energy is not None
            assert abs(span.energy.value_j - 120.0 * seconds) < 2.0 * span.energy.uncertainty_j
        late.observe(7.0, 20.0)
    assert caplog.text.count("cannot tell work of 0.5 s") == 1, "said once"


def test_missing_is_missing() -> None:
    clock = VirtualClock()
    for recorders in ([], [Broken()], [DeclaredPower(10.0, clock), Broken()]):
        with Metered(recorders, clock).span() as span:  # type: ignore[arg-type]
            clock.advance(2.0)
        assert span.energy is None


def rapl(root: Path) -> Path:
    zone = root / "sys" / "class" / "powercap" / "intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "name").write_text("package-0\n")
    (zone / "max_energy_range_uj").write_text("262143328850\n")
    (zone / "energy_uj").write_text("1000000\n")
    return zone


def test_rapl_where_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    said: list[str] = []
    caplog.set_level("DEBUG", logger="fimi")
    with open_meters(said.append, whose="generator", root=tmp_path, cards=no_cards).span() as span:
        pass
    assert span.energy is None
    assert "the generator's own energy is not metered" in said[0]
    assert "fimi agent doctor" in said[0]
    assert "nvml: no cards" in caplog.text
    zone = rapl(tmp_path)
    clock = VirtualClock()
    metered = open_meters(
        said.append, whose="generator", root=tmp_path, clock=clock, cards=no_cards
    )
    with metered.span() as span:
        clock.advance(1.0)
        (zone / "energy_uj").write_text("5000000\n")
    metered.close()
    assert "metered by rapl:package-0" in said[1]
    assert span.energy is not None
    assert (span.energy.value_j, span.energy.kind) == (pytest.approx(4.0), "measured")
