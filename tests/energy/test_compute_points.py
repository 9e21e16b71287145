from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.energy.compute_points import AS_IT_IS, name_of, never_chosen
from fimi.energy.cost_model import ComputePoint, ComputeSetting


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        (ComputeSetting(), AS_IT_IS),
        (ComputeSetting(cpu_hz={"policy0": 1.5e9}, gpu_hz=306e6), "cpu 1.5 GHz, gpu 306 MHz"),
        (
            ComputeSetting(cpu_hz={"policy0": 1e9, "policy4": 1.8e9}, cores=1),
            "cpu 1/1.8 GHz, 1 core",
        ),
        (ComputeSetting(power_mode=2, cores=4), "mode 2, 4 cores"),
        (ComputeSetting(duty_cycle=0.5), "50 % of the time"),
    ],
)
def test_names(setting: ComputeSetting, name: str) -> None:
    assert name_of(setting) == name


COSTS = st.lists(
    st.tuples(st.floats(1e-4, 1.0), st.floats(0.0, 20.0)), min_size=1, max_size=12, unique=True
)


def points_of(costs: list[tuple[float, float]]) -> list[ComputePoint]:
    return [
        ComputePoint(name=f"p{k}", seconds_per_sample=s, power_w=w, setting=ComputeSetting(cores=k))
        for k, (s, w) in enumerate(costs, 1)
    ]


@given(COSTS, st.floats(0.0, 10.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_no_plan_is_better_with_a_point_that_is_never_chosen(
    costs: list[tuple[float, float]], idle_w: float, share: float, weight: float
) -> None:
    """By brute force: whatever the deadline, the idle power and the weight of the plug's joules."""
    points = points_of(costs)
    never = never_chosen(points)
    slowest = max(point.seconds_per_sample for point in points)
    deadline = max(share * slowest, min(point.seconds_per_sample for point in points))

    def cost_j(point: ComputePoint) -> float:
        if point.seconds_per_sample > deadline:
            return math.inf
        return point.seconds_per_sample * (point.power_w + weight * idle_w)

    kept = [point for point in points if point.name not in never]
    assert min(map(cost_j, kept)) <= min(map(cost_j, points)) * (1.0 + 1e-12)


@given(COSTS)
def test_the_sentence_names_a_point_that_is_better(costs: list[tuple[float, float]]) -> None:
    points = points_of(costs)
    for name, why in never_chosen(points).items():
        point = next(each for each in points if each.name == name)
        better = next(each for each in points if f", {each.name!r} takes" in why)
        assert better.seconds_per_sample <= point.seconds_per_sample
        assert (
            better.power_w * better.seconds_per_sample <= point.power_w * point.seconds_per_sample
        )


def test_as_many_joules_in_more_time_names_the_other_one() -> None:
    slow, fast = points_of([(4e-3, 1.0), (1e-3, 4.0)])
    assert ", 'p2' takes" in never_chosen([slow, fast])[slow.name]


def test_more_power_for_less_speed() -> None:
    fast, slow = points_of([(1e-3, 2.0), (2e-3, 2.5)])
    assert list(never_chosen([fast, slow])) == [slow.name]
    assert never_chosen([fast]) == {}
