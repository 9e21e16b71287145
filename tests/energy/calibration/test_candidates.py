from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fimi.energy.calibration.candidates import TrialChoice, candidates, fewer_cores
from fimi.energy.cost_model import ComputeSetting

LEVELS = [(k * 1e8, {"policy0": k * 1e8, "policy4": max(k, 8) * 1e8}) for k in range(6, 26)]
GPU = [76.8e6 * k for k in range(1, 13)]


def test_every_kind_of_point_and_no_more_than_asked_for() -> None:
    choice = TrialChoice(frequencies=13, cores=(1, 2), gpu_clocks=4, modes=(1, 2))
    points = candidates(LEVELS, GPU, choice, clock_hz=2.5e9)
    settings = [point.setting for point in points]
    line = [s for s in settings if s == ComputeSetting(cpu_hz=s.cpu_hz)]
    assert len(line) == 13
    assert line[0].cpu_hz == {"policy0": 6e8, "policy4": 8e8}
    assert line[-1].cpu_hz == {"policy0": 2.5e9, "policy4": 2.5e9}
    assert {s.cores for s in settings} == {None, 1, 2}
    graphics = {s.gpu_hz for s in settings if s.gpu_hz is not None}
    assert len(graphics) == 3, "the highest is in force where none is set"
    assert min(graphics) == GPU[0]
    assert [s.power_mode for s in settings if s.power_mode is not None] == [1, 2]
    assert len(points) == 13 + 2 * 2 + 3 * 3 + 2


def test_a_board_that_can_set_nothing_is_measured_as_it_is() -> None:
    (point,) = candidates([], [], TrialChoice(), clock_hz=1e9)
    assert (point.name, point.frequency_hz, point.setting) == ("as it is", 1e9, ComputeSetting())
    names = [p.name for p in candidates([], [], TrialChoice(cores=(1,)), clock_hz=1e9)]
    assert names == ["as it is", "1 core"]


@given(
    st.integers(1, 30),
    st.integers(1, 20),
    st.integers(0, 12),
    st.integers(0, 8),
    st.lists(st.integers(1, 8), unique=True, max_size=3),
)
def test_names_and_settings_are_distinct(
    levels: int, frequencies: int, clocks: int, gpu_clocks: int, cores: list[int]
) -> None:
    every = [(1e8 * k, {"policy0": 1e8 * k}) for k in range(1, levels + 1)]
    choice = TrialChoice(frequencies=frequencies, cores=tuple(cores), gpu_clocks=gpu_clocks)
    points = candidates(every, GPU[:clocks], choice, clock_hz=1e9)
    assert points
    assert len({point.name for point in points}) == len(points)
    settings = [point.setting for point in points]
    assert all(a != b for k, a in enumerate(settings) for b in settings[:k])
    line = [s for s in settings if s == ComputeSetting(cpu_hz=s.cpu_hz)]
    assert len(line) == min(levels, frequencies)


def test_fewer_cores_than_the_training_has_threads() -> None:
    assert fewer_cores(1, 8) == ()
    assert fewer_cores(4, 8) == (1, 2)
    assert fewer_cores(8, 6) == (1, 2, 4)
    assert fewer_cores(16, 1) == ()
