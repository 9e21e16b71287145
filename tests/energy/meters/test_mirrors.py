"""Counters that are one register: counted once, told apart as soon as they differ."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_rapl import set_counter, zone

from fimi.energy.clock import VirtualClock
from fimi.energy.meters import MeterUnavailableError
from fimi.energy.meters.detect import MeterSettings, open_sum
from fimi.energy.meters.mirrors import ALIKE_J, Mirrors
from fimi.energy.meters.rapl import open_rapl

RANGE_UJ = 65_532_610_987


def two(root: Path, first: int, second: int, names: tuple[str, str] | None = None) -> list[Path]:
    labels = names or ("package-0-die-0", "package-0-die-1")
    values = ((0, first), (1, second))
    return [zone(root, f"intel-rapl:{n}", labels[n], at, range_uj=RANGE_UJ) for n, at in values]


class TestDies:
    def test_one_register_is_counted_once_and_said(self, tmp_path: Path) -> None:
        files = two(tmp_path, 1_203_350_104, 1_203_350_404)
        meter = open_rapl(tmp_path)
        assert meter.describe().source == "rapl:package-0-die-0=package-0-die-1"
        assert "counted once" in meter.facts()[0]
        meter.look(0.0)
        for step in range(1, 50):
            for late, file in enumerate(files):
                set_counter(file, 1_203_350_104 + step * 6_800_000 + late * 300)
            assert meter.look(0.1 * step).counter_j == pytest.approx(step * 6.8)
        assert meter.doubts() == ()

    def test_four_dies(self, tmp_path: Path) -> None:
        for die in range(4):
            zone(tmp_path, f"intel-rapl:{die}", f"package-0-die-{die}", 9_000_000_000 + 99 * die)
        meter = open_rapl(tmp_path)
        assert len(meter.mirrors) == 3

    def test_two_packages_of_two_mirrored_dies_are_two(self, tmp_path: Path) -> None:
        for number in range(4):
            package, die = divmod(number, 2)
            name = f"package-{package}-die-{die}"
            zone(tmp_path, f"intel-rapl:{number}", name, (3 + package) * 1_000_000_000 + die)
        meter = open_rapl(tmp_path)
        assert meter.mirrors == (
            ("package-0-die-1", "package-0-die-0"),
            ("package-1-die-1", "package-1-die-0"),
        )

    def test_dies_with_counters_of_their_own_are_added(self, tmp_path: Path) -> None:
        files = two(tmp_path, 1_203_350_104, 1_150_000_000)
        meter = open_rapl(tmp_path)
        meter.look(0.0)
        set_counter(files[0], 1_203_350_104 + 2_000_000)
        set_counter(files[1], 1_150_000_000 + 3_000_000)
        assert meter.look(1.0).counter_j == pytest.approx(5.0)
        assert meter.facts() == ()

    @pytest.mark.parametrize(("second", "joules"), [(2_000_000, 2.0), (3_000_000, 5.0)])
    def test_counters_that_begin_at_zero(self, tmp_path: Path, second: int, joules: float) -> None:
        files = two(tmp_path, 0, 0)
        meter = open_rapl(tmp_path)
        meter.look(0.0)
        set_counter(files[0], 2_000_000)
        set_counter(files[1], second)
        look = meter.look(1.0)
        assert (look.counter_j, look.reset) == (pytest.approx(joules), False)

    def test_sockets_that_begin_at_zero_are_not_mirrors(self, tmp_path: Path) -> None:
        two(tmp_path, 0, 0, ("package-0", "package-1"))
        assert open_rapl(tmp_path).mirrors == ()

    def test_mirrors_that_part_are_a_gap_and_not_joules(self, tmp_path: Path) -> None:
        files = two(tmp_path, 5_000_000_000, 5_000_000_000)
        meter = open_rapl(tmp_path)
        meter.look(0.0)
        for file in files:
            set_counter(file, 5_100_000_000)
        assert meter.look(1.0).counter_j == pytest.approx(100.0)
        set_counter(files[0], 5_110_000_000)
        set_counter(files[1], 5_130_000_000)
        look = meter.look(2.0)
        assert look.reset
        assert "taken for mirrors" in meter.doubts()[0]
        set_counter(files[0], 5_111_000_000)
        set_counter(files[1], 5_132_000_000)
        after = meter.look(3.0)
        assert not after.reset
        assert (after.counter_j or 0) - (look.counter_j or 0) == pytest.approx(3.0)

    def test_a_list_of_mirrors_is_refused_with_the_reason(self, tmp_path: Path) -> None:
        two(tmp_path, 1_203_350_104, 1_203_350_404)
        names = ("rapl:package-0-die-0", "rapl:package-0-die-1")
        with pytest.raises(MeterUnavailableError, match="one and the same register"):
            open_sum(names, MeterSettings(), tmp_path, VirtualClock())
        alone = open_sum(names[1], MeterSettings(), tmp_path, VirtualClock())
        assert alone.describe().source == "rapl:package-0-die-1"


@given(
    st.lists(st.floats(100.0, 60_000.0), min_size=1, max_size=6),
    st.lists(st.integers(0, 5), min_size=1, max_size=6),
)
def test_mirrors_are_the_equal_ones_and_no_others(registers: list[float], shown: list[int]) -> None:
    """Against brute force: each zone shows a register, up to a little later."""
    own = [place % len(registers) for place in shown]
    values = [registers[register] + 1e-4 * late for late, register in enumerate(own)]
    found = Mirrors(values, [65_000.0] * len(values), ["package-0"] * len(values))
    for one, value in enumerate(values):
        first = next(p for p in range(one + 1) if abs(values[p] - value) <= ALIKE_J)
        assert (found.of[one] != one) == (first != one)
    assert found.apart(values) == []
