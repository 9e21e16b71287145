"""RAPL against trees of files as the kernel makes them."""

from __future__ import annotations

import errno
import math
import time
from pathlib import Path

import pytest
from boards_of_files import Answers

from fimi.energy.clock import MonotonicClock, VirtualClock
from fimi.energy.ledger import Ledger
from fimi.energy.meters import MeterUnavailableError
from fimi.energy.meters.rapl import open_rapl, zones
from fimi.energy.meters.sampler import Sampler

RANGE_UJ = 262_143_328_850


def zone(sysfs: Path, folder: str, name: str, energy_uj: int, range_uj: int = RANGE_UJ) -> Path:
    path = sysfs / "sys" / "class" / "powercap" / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{energy_uj}\n")
    (path / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return path / "energy_uj"


def set_counter(counter: Path, energy_uj: int) -> None:
    counter.write_text(f"{energy_uj}\n")


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def metered(sysfs: Path, clock: VirtualClock, steps: dict[Path, list[int]]) -> list[float | None]:
    """Joules of consecutive phases of 10 s at whose ends the counters show these values."""
    recorder = Sampler(open_rapl(sysfs), clock, rate_hz=0)
    ledger = Ledger(clock, recorder)
    for values in zip(*steps.values(), strict=True):
        ledger.begin("compute")
        clock.advance(10.0)
        for counter, value in zip(steps, values, strict=True):
            set_counter(counter, value)
        ledger.end()
    recorder.close()
    return [record.energy.value_j if record.energy else None for record in ledger.take()]


class TestCounting:
    def test_difference(self, tmp_path: Path, clock: VirtualClock) -> None:
        counter = zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
        assert metered(tmp_path, clock, {counter: [6_000_000, 7_500_000]}) == pytest.approx(
            [5.0, 1.5]
        )

    def test_wraps_each_zone_on_its_own(self, tmp_path: Path, clock: VirtualClock) -> None:
        first = zone(tmp_path, "intel-rapl:0", "package-1", RANGE_UJ - 3_000_000)
        second = zone(tmp_path, "intel-rapl:1", "package-0", 10, range_uj=65_000_000_000)
        steps = {first: [1_999_999, 3_999_999], second: [4_000_010, 5_000_010]}
        assert metered(tmp_path, clock, steps) == pytest.approx([9.0, 3.0])

    def test_counts_packages_only(self, tmp_path: Path, clock: VirtualClock) -> None:
        package = zone(tmp_path, "intel-rapl:0", "package-0", 0)
        inner = zone(tmp_path, "intel-rapl:0:0", "core", 0)
        platform = zone(tmp_path, "intel-rapl:1", "psys", 0)
        twin = zone(tmp_path, "intel-rapl-mmio:0", "package-0", 0)
        steps = {package: [2_000_000], inner: [1_000_000], platform: [9_000_000], twin: [2_000_000]}
        assert metered(tmp_path, clock, steps) == pytest.approx([2.0])

    def test_two_sockets_with_one_name_are_told_apart_by_number(
        self, tmp_path: Path, clock: VirtualClock
    ) -> None:
        first = zone(tmp_path, "intel-rapl:0", "package-0", 900_000_000)
        zone(tmp_path, "intel-rapl:0:0", "core", 0)
        second = zone(tmp_path, "intel-rapl:1", "package-0", 400_000_000)
        zone(tmp_path, "intel-rapl:1:0", "core", 0)
        zone(tmp_path, "intel-rapl-mmio:0", "package-0", 900_000_000)
        assert [each.name for each in zones(tmp_path)] == [
            *("rapl:package-0@0", "rapl:core-0@0", "rapl:package-0@1", "rapl:core-0@1")
        ]
        meter = open_rapl(tmp_path, "package-0@1")
        set_counter(second, 403_000_000)
        meter.look(0.0)
        assert meter.describe().source == "rapl:package-0@1"
        with pytest.raises(MeterUnavailableError, match='meter = "rapl:package-0@0"'):
            open_rapl(tmp_path, "package-0")
        steps = {first: [902_000_000], second: [408_000_000]}
        assert metered(tmp_path, clock, steps) == pytest.approx([7.0])

    def test_two_views_of_one_socket_with_one_name_are_counted_once(
        self, tmp_path: Path, clock: VirtualClock
    ) -> None:
        first = zone(tmp_path, "intel-rapl:0", "package-0", 900_000_000)
        second = zone(tmp_path, "intel-rapl:1", "package-0", 900_000_300)
        assert open_rapl(tmp_path).mirrors == (("package-0@1", "package-0@0"),)
        steps = {first: [902_000_000], second: [902_000_300]}
        assert metered(tmp_path, clock, steps) == pytest.approx([2.0])

    def test_two_dies_of_a_package_and_no_core_on_amd(
        self, tmp_path: Path, clock: VirtualClock
    ) -> None:
        first = zone(tmp_path, "intel-rapl:0", "package-0-die-0", 0)
        second = zone(tmp_path, "intel-rapl:1", "package-0-die-1", 0)
        core = zone(tmp_path, "intel-rapl:1:0", "core", 0)
        steps = {first: [2_000_000], second: [3_000_000], core: [500_000]}
        assert metered(tmp_path, clock, steps) == pytest.approx([5.0])

    def test_describes_itself(self, tmp_path: Path, clock: VirtualClock) -> None:
        zone(tmp_path, "intel-rapl:1", "package-1", 0)
        zone(tmp_path, "intel-rapl:0", "package-0", 0)
        description = open_rapl(tmp_path).describe()
        assert description.source == "rapl:package-0,package-1"
        assert (description.kind, description.scope) == ("measured", "cpu")

    @pytest.mark.parametrize("power_w", [0.5, 10.0, 300.0])
    @pytest.mark.parametrize("duration_s", [0.2, 1.0, 30.0])
    def test_constant_power_within_a_percent(
        self, tmp_path: Path, power_w: float, duration_s: float
    ) -> None:
        counter = zone(tmp_path, "intel-rapl:0", "package-0", 0)

        class SlowProcessor(VirtualClock):
            """Every look at the clock takes 3 ms; the counter refreshes every millisecond."""

            def now_s(self) -> float:
                self.advance(0.003)
                now_s = super().now_s()
                set_counter(counter, math.floor(now_s * 1e3) * round(power_w * 1e3))
                return now_s

        clock = SlowProcessor(1.0)
        clock.now_s()
        recorder = Sampler(open_rapl(tmp_path), clock, rate_hz=0)
        ledger = Ledger(clock, recorder)
        with ledger.phase("compute"):
            clock.advance(duration_s)
        recorder.close()
        (record,) = ledger.take()
        assert record.energy is not None
        assert record.energy.value_j == pytest.approx(power_w * record.duration_s, rel=0.01)


class TestTrouble:
    def test_a_reset_is_missing_not_260_kilojoules(
        self, tmp_path: Path, clock: VirtualClock
    ) -> None:
        counter = zone(tmp_path, "intel-rapl:0", "package-0", 50_000_000)
        joules = metered(tmp_path, clock, {counter: [1_000_000, 3_000_000]})
        assert joules[0] is None
        assert joules[1] == pytest.approx(2.0)

    def test_a_counter_that_vanishes_is_missing_until_it_is_back(
        self, tmp_path: Path, clock: VirtualClock
    ) -> None:
        counter = zone(tmp_path, "intel-rapl:0", "package-0", 0)
        recorder = Sampler(open_rapl(tmp_path), clock, rate_hz=0)
        ledger = Ledger(clock, recorder)
        for content in (None, "3000000", "4000000", "garbage", "-5", str(RANGE_UJ + 1), "5000000"):
            ledger.begin("compute")
            clock.advance(10.0)
            counter.unlink() if content is None else counter.write_text(content)
            ledger.end()
        recorder.close()
        energies = [record.energy.value_j if record.energy else None for record in ledger.take()]
        # A phase whose opening reading failed is missing as well, hence the first 3000000.
        assert energies == [None, None, pytest.approx(1.0), None, None, None, None]

    def test_the_thread_notices_a_wrap_inside_a_long_phase(self, tmp_path: Path) -> None:
        # 1000 J are a turn of a second at the highest power that is believed: more than one look.
        counter = zone(tmp_path, "intel-rapl:0", "package-0", 0, range_uj=1_000_000_000)
        clock = MonotonicClock()
        recorder = Sampler(open_rapl(tmp_path), clock, rate_hz=0.2)
        ledger = Ledger(clock, recorder)
        ledger.begin("idle")
        time.sleep(0.6)
        for value in (400_000_000, 800_000_000, 199_999_999, 600_000_000):  # 1600 J
            fresh = counter.with_suffix(".new")
            set_counter(fresh, value)
            fresh.replace(counter)
            time.sleep(0.6)
        record = ledger.end()
        recorder.close()
        assert record.energy is not None
        assert record.energy.value_j == pytest.approx(1600.0, rel=0.01)

    @pytest.mark.parametrize("broken", ["energy_uj", "max_energy_range_uj"])
    def test_closed_names_the_file_and_the_fix(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
    ) -> None:
        path = zone(tmp_path, "intel-rapl:0", "package-0", 0).parent / broken
        Answers(monkeypatch).reads[path] = errno.EACCES
        with pytest.raises(MeterUnavailableError) as raised:
            open_rapl(tmp_path)
        assert str(path) in str(raised.value)
        assert "sudo ch" in str(raised.value)
        assert "constant_power_w" in str(raised.value)

    def test_a_counter_beyond_its_range_is_not_believed(self, tmp_path: Path) -> None:
        zone(tmp_path, "intel-rapl:0", "package-0", 1001, range_uj=1000)
        with pytest.raises(MeterUnavailableError, match="1001 µJ, beyond"):
            open_rapl(tmp_path)

    def test_none_at_all(self, tmp_path: Path, clock: VirtualClock) -> None:
        zone(tmp_path, "intel-rapl:0", "psys", 0)
        with pytest.raises(MeterUnavailableError, match="no RAPL package counter"):
            open_rapl(tmp_path)
