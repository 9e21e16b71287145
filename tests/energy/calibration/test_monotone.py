"""Order in a table: against isotonic regression by its definition, and against known boards."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from measured import busy
from msgspec.structs import replace

from fimi.energy.calibration.fit import Estimate
from fimi.energy.calibration.monotone import chains, in_order, order_breaks, pool_adjacent
from fimi.energy.calibration.points import MeasuredPoint, measured_points
from fimi.energy.cost_model import ComputeSetting

IDLE = Estimate(value=2.0, low=2.0, high=2.0)


def point(
    name: str,
    setting: ComputeSetting,
    seconds: float,
    watts: float,
    *,
    seconds_error: float = 0.0,
    error_w: float = 0.0,
) -> MeasuredPoint:
    return MeasuredPoint(
        name=name,
        setting=setting,
        seconds_per_sample=Estimate(value=seconds, low=0.9 * seconds, high=1.1 * seconds),
        power_w=Estimate(value=watts, low=0.9 * watts, high=1.1 * watts),
        seconds_error=seconds_error,
        power_error_w=error_w,
        board_w=watts + IDLE.value,
    )


def table(
    seconds: list[float], watts: list[float], *, errors: tuple[float, float]
) -> list[MeasuredPoint]:
    return [
        point(
            f"p{k}",
            ComputeSetting(cpu_hz={"policy0": 1e9 + 1e8 * k, "policy4": 1e9}),
            s,
            w,
            seconds_error=errors[0],
            error_w=errors[1],
        )
        for k, (s, w) in enumerate(zip(seconds, watts, strict=True))
    ]


def by_definition(values: list[float], weights: list[float]) -> list[float]:
    """The minimax formula: largest, over beginnings, of the smallest weighted mean over ends."""

    def mean(first: int, last: int) -> float:
        mass = sum(weights[first : last + 1])
        pairs = zip(values[first : last + 1], weights[first : last + 1], strict=True)
        return sum(v * w for v, w in pairs) / mass

    n = len(values)
    return [
        max(min(mean(first, last) for last in range(k, n)) for first in range(k + 1))
        for k in range(n)
    ]


@given(st.lists(st.tuples(st.floats(-100, 100), st.floats(0.01, 100)), min_size=1, max_size=9))
def test_pooling_is_isotonic_regression(pairs: list[tuple[float, float]]) -> None:
    values, weights = [list(each) for each in zip(*pairs, strict=True)]
    found = pool_adjacent(values, weights)
    assert found == pytest.approx(by_definition(values, weights), abs=1e-9)
    assert all(low <= high for low, high in itertools.pairwise(found))
    mass = sum(weights)
    mean = sum(v * w for v, w in pairs) / mass
    assert sum(f * w for f, w in zip(found, weights, strict=True)) / mass == pytest.approx(
        mean, abs=1e-9
    )


class TestInOrder:
    def test_what_is_in_order_stays_as_it_is(self) -> None:
        points = table([4.0, 3.0, 2.0], [1.0, 2.0, 3.0], errors=(0.1, 0.1))
        assert in_order(points) == (tuple(points), ())
        assert order_breaks(points) == ()

    def test_within_the_errors_both_get_their_mean(self) -> None:
        points = table([4.0, 3.0, 2.0], [1.0, 2.05, 1.95], errors=(0.1, 0.2))
        found, notes = in_order(points)
        assert [p.power_w.value for p in found] == pytest.approx([1.0, 2.0, 2.0])
        assert [p.seconds_per_sample.value for p in found] == [4.0, 3.0, 2.0]
        assert notes == (
            "no different within their errors, and given their mean: 'p1' = 'p2' in power",
        )

    def test_beyond_them_they_stay_and_are_named(self) -> None:
        points = table([4.0, 3.0, 3.6, 1.0], [1.0, 4.0, 2.0, 5.0], errors=(0.01, 0.01))
        found, notes = in_order(points)
        by_name = {p.name: p for p in found}
        assert all(by_name[p.name] == p for p in points)
        assert len(notes) == 2
        assert "'p2' takes 600 ms a sample more than 'p1'" in notes[0]
        assert "'p1' draws 2 W more than 'p2'" in notes[1]
        assert [each.by for each in order_breaks(points)] == pytest.approx([0.6, 2.0])

    def test_half_a_percent_is_nothing(self) -> None:
        points = table([4.0, 3.0, 3.01], [1.0, 2.0, 3.0], errors=(1e-6, 1e-6))
        found, notes = in_order(points)
        assert found[1].seconds_per_sample.value == pytest.approx(3.005, rel=1e-4)
        assert "'p1' = 'p2' in seconds" in notes[0]

    @given(
        st.lists(st.tuples(st.floats(0.5, 5.0), st.floats(0.5, 20.0)), min_size=2, max_size=8),
        st.floats(0.0, 2.0),
        st.floats(0.0, 5.0),
    )
    def test_in_order_but_for_what_is_named(
        self, values: list[tuple[float, float]], seconds_error: float, error_w: float
    ) -> None:
        points = table(
            [s for s, _ in values], [w for _, w in values], errors=(seconds_error, error_w)
        )
        found, notes = in_order(points)
        by_name = {p.name: p for p in found}
        assert len(by_name) == len(points)
        line = [by_name[p.name] for p in points]
        if not order_breaks(points):
            assert not any("not in the order" in note for note in notes)
            seconds = [p.seconds_per_sample.value for p in line]
            watts = [p.power_w.value for p in line]
            assert all(a >= b * (1 - 1e-9) for a, b in itertools.pairwise(seconds))
            assert all(a <= b * (1 + 1e-9) for a, b in itertools.pairwise(watts))
        for before, after in zip(points, line, strict=True):
            for quantity in ("seconds_per_sample", "power_w"):
                estimate = getattr(after, quantity)
                assert estimate.low <= estimate.value <= estimate.high
                assert getattr(before, quantity).low >= estimate.low


def test_chains_differ_by_one_clock() -> None:
    def setting(cpu: float | None, gpu: float | None, cores: int | None = None) -> ComputeSetting:
        cpu_hz = {} if cpu is None else {"policy0": cpu, "policy4": min(cpu, 1.4e9)}
        return ComputeSetting(cpu_hz=cpu_hz, gpu_hz=gpu, cores=cores)

    made = {
        "a": setting(1e9, None),
        "b": setting(2e9, None),
        "one": setting(1e9, None, 1),
        "g1": setting(1e9, 3e8),
        "g2": setting(1e9, 6e8),
        "h1": setting(2e9, 3e8),
        "mode": ComputeSetting(power_mode=1),
    }
    points = [point(name, each, 1.0, 1.0) for name, each in reversed(made.items())]
    found = {tuple(p.name for p in chain) for chain in chains(points)}
    assert found == {("a", "b"), ("g1", "g2")}


@pytest.mark.parametrize(("flat", "repeats"), [(True, 2), (True, 3), (False, 2)])
def test_a_board_in_order_is_seldom_called_out_of_order(flat: bool, repeats: int) -> None:
    """At most one table in twenty, also where nothing rises; 13 points, 150 boards."""
    hertz = [0.6e9 + 1e8 * k for k in range(13)]
    called = 0
    for seed in range(150):
        luck = np.random.default_rng(seed)
        made = []
        for clock in hertz:
            true = busy(1e9 if flat else clock, 5.0 if flat else 3.0 + clock / 1e9)
            for _ in range(repeats):
                slower, more = 1.0 + 0.02 * luck.normal(size=2)
                made.append(
                    replace(
                        true,
                        duration_s=true.duration_s * slower,
                        energy_j=true.energy_j * slower * more,
                        point=f"{clock:g}",
                        applied=ComputeSetting(cpu_hz={"all": clock}),
                    )
                )
        called += bool(order_breaks(measured_points(made, IDLE)))
    assert called / 150 <= 0.05 + 2.0 * (0.05 * 0.95 / 150) ** 0.5
