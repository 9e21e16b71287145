from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import optim_gap
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fimi.energy import compute_points
from fimi.energy.compute_points import dominated
from fimi.energy.cost_model import (
    BoardModel,
    ComputeModel,
    ComputePoint,
    ComputeSetting,
    LinkModel,
)
from fimi.optim import ask, problem_file
from fimi.optim.board_problem import from_boards
from fimi.optim.doubts import check_units, doubts, never_chosen
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.problem import ProblemError
from tests.optim.truth_problems import planted

BOARD = BoardModel(
    compute=ComputeModel(
        cycles_per_sample=4e6,
        capacitance_w_per_hz3=4.3e-28,
        frequency_min_hz=6e8,
        frequency_max_hz=1.8e9,
    ),
    link=LinkModel(
        channel_gain=1e-10,
        noise_density_w_per_hz=4e-21,
        transmit_power_max_w=0.1,
        downlink_rate_bps=2e7,
    ),
    idle_power_w=2.7,
)
SEEDS = st.integers(0, 2**32 - 1)


class TestUnits:
    @settings(max_examples=80, deadline=None)
    @given(seed=SEEDS, size=st.integers(1, 8))
    def test_plausible_fleets_are_silent(self, fleet: Any, seed: int, size: int) -> None:
        for problem in (fleet(seed, size), planted(seed, size)[0]):
            said = doubts(problem)
            # Some planted problems have a limit above 1 that does not bind.
            assert said == () or (problem.error_max > 1 and len(said) == 1)
            check_units(problem)

    def test_fleets_of_the_benchmark_are_silent(self) -> None:
        for seed in range(5):
            problem = optim_gap.fleet(seed, 5)
            assert doubts(problem) == ()
            check_units(problem)

    def test_the_example_is_silent(self, tmp_path: Path) -> None:
        path = tmp_path / "problem.toml"
        path.write_text(problem_file.EXAMPLE, encoding="utf-8")
        problem, _ = problem_file.read(path)
        assert doubts(problem) == ()

    @pytest.mark.parametrize(
        ("field", "value", "said"),
        [
            ("transmit_power_max_w", 200.0, "200 mW are 0.2 W"),
            ("cycles_per_sample", 12.0, "12 million are 1.2e+07 cycles"),
            ("payload_bits", 4.0, "4 MB are 3.2e+07 bit"),
            ("idle_power_w", 2700.0, "2700 mW are 2.7 W"),
            ("t_max_s", 200_000.0, "200000 ms are 200 s"),
        ],
    )
    def test_unusual_values_are_said_once_for_all_devices(
        self, fleet: Any, field: str, value: float, said: str
    ) -> None:
        row = np.array(np.broadcast_to(getattr(fleet(1, 4), field), 4), float)
        row[1:] = value
        problem = fleet(1, 4, **{field: row})
        check_units(problem)
        (doubt,) = doubts(problem)
        assert doubt.startswith("device 'device-1' and 2 others: ")
        assert field in doubt and doubt.endswith(said)

    def test_a_narrow_band(self, fleet: Any) -> None:
        (doubt,) = doubts(fleet(1, 2, bandwidth_hz=20.0))
        assert doubt.endswith("20 MHz are 2e+07 Hz")

    @pytest.mark.parametrize("percent", [1.5, 12.0, 99.0])
    def test_a_limit_in_percent(self, fleet: Any, percent: float) -> None:
        curve = LearningCurve(alpha=1.4, beta=0.3)
        (doubt,) = doubts(fleet(1, 3, error_max=percent, curve=curve))
        assert doubt.endswith(f"{percent:g} % are {percent / 100:.4g}")

    def test_limit_and_curve_both_in_percent_are_silent(self, fleet: Any) -> None:
        curve = LearningCurve(alpha=200.0, beta=0.3, delta0=1.0)
        assert doubts(fleet(1, 3, error_max=33.0, curve=curve)) == ()
        assert doubts(fleet(1, 3, error_max=math.inf, curve=None)) == ()

    def test_impossible_values_are_refused_in_problems(self, fleet: Any) -> None:
        with pytest.raises(ProblemError, match=r"device-1.*100 dB of path loss are 1e-10"):
            fleet(1, 2, channel_gain=np.array([1e-10, 100.0]))
        with pytest.raises(ProblemError, match=r"device-0.*-100 dB of path loss are 1e-10"):
            fleet(1, 2, channel_gain=np.array([-100.0, 1e-10]))
        with pytest.raises(ProblemError, match="1800 MHz are"):
            fleet(1, 2, frequency_max_hz=1800.0)
        assert fleet(1, 2, channel_gain=1.0).size == 2

    def test_impossible_power(self, fleet: Any) -> None:
        problem = fleet(1, 2, capacitance_w_per_hz3=np.array([1e-28, 0.6]))
        with pytest.raises(ProblemError, match=r"device-1.*draws.*check capacitance"):
            check_units(problem)
        assert any("draws" in each for each in doubts(problem))

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("0.6e9\nfrequency_max_hz = 1.8e9", "600\nfrequency_max_hz = 1800", "1800 MHz are"),
            ("0.6e9\nfrequency_max_hz = 1.8e9", "0.6\nfrequency_max_hz = 1.8", "1.8 GHz are"),
            ("channel_gain = 1.0e-10", "channel_gain = 100", "100 dB of path loss"),
            ("capacitance_w_per_hz3 = 6.0e-28", "capacitance_w_per_hz3 = 0.6", "check capac"),
            ("synthetic_value = 1.0", "synthetic_value = 80", "80 % are 0.8"),
            ("= 4.0e-21   #", "= -174   #", "-174 dBm/Hz are 3.981e-21 W/Hz"),
            ("frequency_steps_hz = []", "frequency_steps_hz = [600, 1800]", "600 MHz are 6e+08 Hz"),
            ("frequency_steps_hz = []", "frequency_steps_hz = [0.6, 1.8]", "0.6 GHz are 6e+08 Hz"),
        ],
    )
    def test_files_are_refused_with_a_hint(
        self, tmp_path: Path, old: str, new: str, said: str
    ) -> None:
        assert old in problem_file.EXAMPLE
        path = tmp_path / "problem.toml"
        path.write_text(problem_file.EXAMPLE.replace(old, new, 1), encoding="utf-8")
        with pytest.raises(ProblemError) as raised:
            problem_file.read(path)
        assert said in str(raised.value) and str(path) in str(raised.value)

    def test_the_rate_is_doubted_and_not_what_follows_from_it(self, tmp_path: Path) -> None:
        path = tmp_path / "problem.toml"
        text = problem_file.EXAMPLE.replace("downlink_rate_bps = 4.0e6", "downlink_rate_bps = 4")
        path.write_text(text, encoding="utf-8")
        (doubt,) = doubts(problem_file.read(path)[0])
        assert doubt.startswith("device 'pi-1' and 2 others: downlink_rate_bps is 4 bit/s")
        assert doubt.endswith("4 Mbit/s are 4e+06 bit/s")

    def test_a_long_reception_by_itself_is_doubted(self, fleet: Any) -> None:
        slow = {"receive_s": 3e5, "downlink_rate_bps": np.array([math.inf, 4.0])}
        said = doubts(fleet(1, 2, **slow))
        assert [each.split(" is ")[0] for each in said] == [
            "device 'device-1': downlink_rate_bps",
            "device 'device-0': receive_s",
        ]

    def test_a_plan_from_python_says_it(self, fleet: Any, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING):
            ask.plan(fleet(1, 2, idle_power_w=2700.0))
        assert caplog.text.count("2700 mW are 2.7 W") == 1


class TestNeverChosen:
    @given(
        st.lists(
            st.tuples(st.integers(1, 6), st.integers(0, 6)).map(
                lambda t: (float(t[0]), float(t[1]))
            ),
            min_size=1,
            max_size=8,
        )
    )
    def test_against_every_pair(self, points: list[tuple[float, float]]) -> None:
        worse = [
            any(
                other[0] <= own[0] and other[1] <= own[1] and (other != own or j < i)
                for j, other in enumerate(points)
                if j != i
            )
            for i, own in enumerate(points)
        ]
        found = dominated(*(np.array(each) for each in zip(*points, strict=True)))
        assert found.tolist() == worse
        assert not found.all()

    def test_steps_and_points_of_a_problem(self, fleet: Any) -> None:
        problem = fleet(
            2,
            3,
            frequency_min_hz=4e8,
            frequency_max_hz=1.6e9,
            active_power_w=np.array([0.0, 0.5, 0.0]),
            capacitance_w_per_hz3=1e-28,
            frequency_steps_hz=((4e8, 8e8, 1.6e9), (4e8, 8e8, 1.6e9), (4e8, 8e8, 1.6e9)),
            step_power_w=((), (), (1.0, 0.9, 4.0)),
            step_names=((), (), ("a", "b", "c")),
        )
        # With 0.5 W whatever the clock, 0.4 GHz takes 1.27 nJ a cycle, 0.8 GHz 0.69, 1.6 GHz 0.57.
        assert never_chosen(problem) == {"device-1": ("0.4 GHz", "0.8 GHz"), "device-2": ("a",)}

    @given(
        st.lists(
            st.tuples(st.sampled_from([1e-3, 2e-3, 5e-3]), st.sampled_from([0.0, 1.0, 4.0])),
            min_size=1,
            max_size=7,
        )
    )
    def test_every_measured_point_is_a_useful_step_or_named(
        self, table: list[tuple[float, float]]
    ) -> None:
        """Points of one speed too: of these a problem holds one, and names the others."""
        points = tuple(
            ComputePoint(
                name=f"p{k}",
                seconds_per_sample=seconds,
                power_w=power_w,
                setting=ComputeSetting(cores=k + 1),
            )
            for k, (seconds, power_w) in enumerate(table)
        )
        board = replace(BOARD, compute=replace(BOARD.compute, points=points))
        problem = from_boards(
            {"pi": board},
            local_counts={"pi": [5]},
            epochs=1,
            deadline_s=20.0,
            upload_bits=1e6,
            download_bits=1e6,
            bandwidth_hz=1e6,
            generated_max=0.0,
        )
        said = never_chosen(problem).get("pi", ())
        assert set(problem.step_names[0]).isdisjoint(problem.beaten_names[0])
        assert set(said) == set(compute_points.never_chosen(points))
        assert {*problem.step_names[0], *problem.beaten_names[0]} == {p.name for p in points}

    def test_where_every_frequency_can_be_set_nothing_is_said(self, fleet: Any) -> None:
        assert never_chosen(fleet(2, 3)) == {}
