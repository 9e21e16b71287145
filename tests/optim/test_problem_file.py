"""A problem file holds a whole problem, and a calibrated profile stands for a device's keys."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fimi.coordinator.settings import PlanSettings
from fimi.energy.cost_model import BoardModel, ComputeModel, LinkModel
from fimi.energy.host_profile import HostProfile
from fimi.optim import file_devices
from fimi.optim.board_problem import from_boards
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.problem import FimiProblem, InfeasibleError, ProblemError
from fimi.optim.problem_file import EXAMPLE, Shared, read
from fimi.optim.rounds_model import RoundsModel
from tests.compute_points import measured

COMPUTE = ComputeModel(
    cycles_per_sample=4e6,
    capacitance_w_per_hz3=4.3e-28,
    linear_power_w_per_hz=3e-10,
    active_power_w=0.9,
    frequency_min_hz=6e8,
    frequency_max_hz=1.8e9,
    frequency_steps_hz=(6e8, 1.2e9, 1.8e9),
)
POINTS = measured(COMPUTE, {6e8: 0.4, 1.0e9: 0.7, 1.4e9: 0.9, 1.8e9: 2.6})
LINK = LinkModel(
    channel_gain=1.3e-11,
    noise_density_w_per_hz=4e-21,
    transmit_power_max_w=0.1,
    downlink_rate_bps=2e7,
    receive_power_w=0.5,
    electronics_power_w=0.8,
    energy_per_bit_j=2e-8,
    rate_cap_bps=4e7,
    power_settable=False,
)
BOARD = BoardModel(compute=COMPUTE, link=LINK, idle_power_w=2.7)
SHARED = {"bandwidth_hz": 4e5, "t_max_s": 9.0, "payload_bits": 1.2e6, "epochs": 5}
DEVICE = {
    "cycles_per_sample": 4e6,
    "capacitance_w_per_hz3": 4.3e-28,
    "frequency_min_hz": 6e8,
    "frequency_max_hz": 1.8e9,
    "channel_gain": 1e-10,
    "transmit_power_max_w": 0.1,
}


def toml(value: object) -> str:
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value)


def write(folder: Path, shared: Mapping[str, Any], *devices: Mapping[str, Any]) -> Path:
    """A problem file; ``curve`` of ``shared`` is a table of its own."""
    lines = ["[problem]", *(f"{k} = {toml(v)}" for k, v in shared.items() if k != "curve")]
    if "curve" in shared:
        lines += ["[curve]", *(f"{k} = {toml(v)}" for k, v in shared["curve"].items())]
    for i, device in enumerate(devices):
        keys = {"id": f"d{i}", "local_counts": [5, i]} | device
        lines += ["[[device]]", *(f"{k} = {toml(v)}" for k, v in keys.items())]
    path = folder / "problem.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def profile(folder: Path, board: BoardModel, name: str = "pi.json") -> str:
    """A profile as an agent reads it."""
    body = msgspec.json.encode(HostProfile(name="raspberry-pi-4", board=board))
    (folder / name).write_bytes(body)
    return name


def same(one: FimiProblem, other: FimiProblem) -> None:
    for field in one.__struct_fields__:
        mine, theirs = getattr(one, field), getattr(other, field)
        if isinstance(mine, np.ndarray):
            np.testing.assert_allclose(mine, theirs, rtol=1e-14, err_msg=field)
        else:
            assert mine == theirs, field


RANGES = {
    "cycles_per_sample": (1e6, 1e8),
    "capacitance_w_per_hz3": (1e-29, 1e-27),
    "channel_gain": (1e-14, 1e-6),
    "noise_density_w_per_hz": (1e-21, 1e-19),
    "transmit_power_max_w": (1e-3, 1.0),
    "payload_bits": (1e4, 1e9),
    "t_max_s": (1.0, 1e4),
}
"""What boards are like; every device has one of each."""
OR_NOTHING = {
    "active_power_w": (0.01, 20.0),
    "linear_power_w_per_hz": (1e-12, 1e-9),
    "electronics_power_w": (0.01, 5.0),
    "energy_per_bit_j": (1e-10, 1e-6),
    "receive_power_w": (0.01, 5.0),
    "idle_power_w": (0.1, 20.0),
    "receive_s": (0.01, 10.0),
    "synthetic_j": (1e-6, 1.0),
}
"""The same of what may be zero."""
hertz = st.floats(1e8, 4e9)
watts = st.floats(0.01, 20.0)
limits = st.floats(1.0, 1e6) | st.just(math.inf)


@st.composite
def devices(draw: st.DrawFn) -> dict[str, Any]:
    """A device with every key."""
    speeds = sorted(draw(st.lists(hertz, min_size=2, max_size=5, unique=True)))
    steps = draw(st.sampled_from([[], speeds]))
    powers = [draw(watts) for _ in steps] if draw(st.booleans()) else []
    return {
        "local_counts": draw(st.lists(st.integers(0, 99), min_size=2, max_size=2)),
        "frequency_min_hz": speeds[0],
        "frequency_max_hz": speeds[-1],
        "frequency_steps_hz": steps,
        "step_power_w": powers,
        "step_names": [f"p{i}, x" for i in range(len(powers))] if draw(st.booleans()) else [],
        "power_settable": draw(st.booleans()),
        "rate_cap_bps": draw(st.floats(1e4, 1e9) | st.just(math.inf)),
        "budget_j": draw(limits),
        **{field: draw(st.floats(*ends)) for field, ends in RANGES.items()},
        **{field: draw(st.just(0.0) | st.floats(*e)) for field, e in OR_NOTHING.items()},
        "generated_max": float(draw(st.integers(0, 500))),
    }


class TestKeys:
    @settings(
        max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(
        rows=st.lists(devices(), min_size=1, max_size=4),
        objective=st.sampled_from(["board", "dynamic"]),
        rounds=st.floats(1.0, 1e3),
        budget_j=limits,
        error_max=st.floats(0.05, 0.9),
    )
    def test_every_key_reaches_the_problem(
        self,
        tmp_path: Path,
        rows: list[dict[str, Any]],
        objective: str,
        rounds: float,
        budget_j: float,
        error_max: float,
    ) -> None:
        shared = {
            "bandwidth_hz": 4e5,
            "epochs": 3,
            "objective": objective,
            "rounds_count": rounds,
            "fleet_budget_j": budget_j,
            "error_max": error_max,
            "curve": {"alpha": 5.8, "beta": 0.9, "delta0": 0.02},
        }
        problem, _ = read(write(tmp_path, shared, *rows))
        assert (problem.epochs, problem.bandwidth_hz, problem.objective) == (3, 4e5, objective)
        assert (problem.rounds, problem.fleet_budget_j) == (rounds, budget_j)
        assert (problem.error_max, problem.curve) == (
            error_max,
            LearningCurve(alpha=5.8, beta=0.9, delta0=0.02),
        )
        for i, row in enumerate(rows):
            for key, value in row.items():
                found = getattr(problem, key)[i]
                found = found.tolist() if isinstance(found, np.ndarray | np.generic) else found
                assert (list(found) if isinstance(found, tuple) else found) == value, key

    def test_the_example_shows_every_key(self) -> None:
        kinds = (Shared, file_devices.Device)
        keys = {field for kind in kinds for field in kind.__struct_fields__}
        assert {key for key in keys if key not in EXAMPLE} == set()

    def test_what_is_left_out_has_the_default_that_the_example_gives(self, tmp_path: Path) -> None:
        problem, file = read(write(tmp_path, SHARED, DEVICE))
        assert (problem.objective, problem.rounds, file.problem.synthetic_value) == ("board", 1, 1)
        assert problem.noise_density_w_per_hz.tolist() == [4e-21]
        assert problem.power_settable.tolist() == [True]
        for field in ("rate_cap_bps", "budget_j"):
            assert getattr(problem, field).tolist() == [math.inf]
        for field in (
            "active_power_w",
            "linear_power_w_per_hz",
            "electronics_power_w",
            "energy_per_bit_j",
            "receive_power_w",
            "idle_power_w",
            "receive_s",
            "synthetic_j",
            "generated_max",
        ):
            assert getattr(problem, field).tolist() == [0.0], field

    def test_receiving_follows_from_the_rate(self, tmp_path: Path) -> None:
        radio = {"downlink_rate_bps": 4e6, "receive_power_w": 0.3, "idle_power_w": 2.0}
        shared = {**SHARED, "synthetic_bits": 256.0}
        problem, _ = read(write(tmp_path, shared, DEVICE | radio, DEVICE))
        assert problem.receive_s.tolist() == pytest.approx([0.3, 0.0])
        assert problem.synthetic_j.tolist() == pytest.approx([2.3 * 256 / 4e6, 0.0])
        larger, _ = read(write(tmp_path, {**shared, "download_bits": 2.4e6}, DEVICE | radio))
        assert larger.receive_s.tolist() == pytest.approx([0.6])
        assert larger.t_max_s.tolist() == [9.0]

    def test_a_deadline_holds_receiving(self, tmp_path: Path) -> None:
        shared = {key: value for key, value in SHARED.items() if key != "t_max_s"}
        rows = [DEVICE | {"downlink_rate_bps": 4e6}, DEVICE, DEVICE | {"t_max_s": 2.0}]
        problem, _ = read(write(tmp_path, {**shared, "deadline_s": 9.0}, *rows))
        assert problem.t_max_s.tolist() == pytest.approx([8.7, 9.0, 2.0])
        with pytest.raises(InfeasibleError, match=r"d0, d1, d2, d3, d4 and 2 more.*0\.3 s") as late:
            read(write(tmp_path, {**shared, "deadline_s": 0.2}, *[rows[0]] * 7, rows[1]))
        assert late.value.constraint == "deadline"
        assert late.value.devices == tuple(f"d{i}" for i in range(7))


class TestProfiles:
    @pytest.mark.parametrize("points", [(), POINTS])
    def test_a_fleet_of_profiles_is_that_of_their_boards(self, tmp_path: Path, points: Any) -> None:
        board = msgspec.structs.replace(
            BOARD, compute=msgspec.structs.replace(COMPUTE, points=points)
        )
        pi = profile(tmp_path, board)
        other = profile(tmp_path, BOARD, "other.json")
        shared = {
            "bandwidth_hz": 4e5,
            "deadline_s": 9.0,
            "payload_bits": 1.2e6,
            "epochs": 5,
            "synthetic_bits": 256.0,
            "rounds_count": 20.0,
            "budget_j": 300.0,
        }
        rows = [{"profile": pi, "count": 3}, {"profile": other, "local_counts": [0, 9]}]
        problem, _ = read(write(tmp_path, shared, *rows))
        names = ("d0-1", "d0-2", "d0-3", "d1")
        expected = from_boards(
            dict(zip(names, [board, board, board, BOARD], strict=True)),
            local_counts=dict.fromkeys(names, (5, 0)) | {"d1": (0, 9)},
            epochs=5,
            deadline_s=9.0,
            upload_bits=1.2e6,
            download_bits=1.2e6,
            bandwidth_hz=4e5,
            generated_max=0.0,
            rounds=20.0,
            synthetic_bits=256.0,
            budget_j=300.0,
        )
        same(problem, expected)
        assert problem.step_names[0] == tuple(point.name for point in points)

    def test_keys_beside_a_profile_take_its_place(self, tmp_path: Path) -> None:
        pi = profile(tmp_path, BOARD)
        own = {
            "active_power_w": 0.5,
            "idle_power_w": 3.0,
            "rate_cap_bps": 1e6,
            "power_settable": True,
            "downlink_rate_bps": 1e6,
            "cycles_per_sample": 8e6,
            "t_max_s": 4.0,
        }
        problem, _ = read(write(tmp_path, SHARED, {"profile": pi} | own, {"profile": pi}))
        for key, value in own.items():
            if key != "downlink_rate_bps":
                assert getattr(problem, key).tolist()[0] == value
        assert problem.receive_s.tolist() == pytest.approx([1.2, 1.2e6 / 2e7])
        assert problem.capacitance_w_per_hz3.tolist() == [4.3e-28] * 2
        assert problem.idle_power_w.tolist() == [3.0, 2.7]

    def test_another_workload_at_measured_points_takes_longer_in_proportion(
        self, tmp_path: Path
    ) -> None:
        pi = profile(tmp_path, with_points())
        twice = {"profile": pi, "cycles_per_sample": 8e6}
        problem, _ = read(write(tmp_path, SHARED, {"profile": pi}, twice))
        assert problem.frequency_steps_hz[1] == pytest.approx(problem.frequency_steps_hz[0])
        assert problem.step_power_w[0] == problem.step_power_w[1]
        assert problem.cycles_per_sample.tolist() == [4e6, 8e6]

    def test_limits_leave_points_and_steps_out(self, tmp_path: Path) -> None:
        measured_, plain = profile(tmp_path, with_points()), profile(tmp_path, BOARD, "plain.json")
        limits = {"frequency_min_hz": 9e8, "frequency_max_hz": 1.5e9}
        rows = [{"profile": measured_} | limits, {"profile": plain} | limits]
        problem, _ = read(write(tmp_path, SHARED, *rows))
        assert problem.frequency_steps_hz == (pytest.approx((1.0e9, 1.4e9)), (1.2e9,))
        assert problem.step_power_w == ((0.7, 0.9), ())
        assert problem.frequency_max_hz.tolist() == pytest.approx([1.4e9, 1.2e9])
        for name in (measured_, plain):
            with pytest.raises(ProblemError, match=r"'d0'.*between frequency_min_hz \(1\.9e\+09\)"):
                read(write(tmp_path, SHARED, {"profile": name, "frequency_min_hz": 1.9e9,
                                              "frequency_max_hz": 2e9}))  # fmt: skip

    def test_steps_of_ones_own_plan_by_the_law(self, tmp_path: Path) -> None:
        pi = profile(tmp_path, with_points())
        law = {"frequency_steps_hz": [], "active_power_w": 0.2}
        steps = {"frequency_steps_hz": [6e8, 1.8e9], "step_power_w": [0.5, 2.5]}
        problem, _ = read(
            write(tmp_path, SHARED, {"profile": pi} | law, {"profile": pi} | steps, {"profile": pi})
        )
        assert problem.frequency_steps_hz[:2] == ((), (6e8, 1.8e9))
        assert problem.step_power_w[:2] == ((), (0.5, 2.5))
        assert problem.active_power_w.tolist() == [0.2, 0.9, 0.9]
        assert len(problem.step_names[2]) == 4


def with_points() -> BoardModel:
    return msgspec.structs.replace(BOARD, compute=msgspec.structs.replace(COMPUTE, points=POINTS))


class TestErrors:
    @pytest.mark.parametrize(
        ("keys", "says"),
        [
            ({"profile": "nowhere.toml"}, r"'d0': profile: .*nowhere\.toml: no such file"),
            ({"profile": "draft.txt"}, r"'d0': profile: .*ends in \.toml or \.json"),
            ({"profile": "half.toml"}, r"'d0': profile: .*half\.toml: .*missing required"),
            (
                {"profile": "pi.json", "active_power_w": 0.5},
                r"'d0': active_power_w without effect: pi\.json has measured operating points",
            ),
            ({"profile": "pi.json", "step_power_w": [1.0]}, r"'d0': step_power_w has 1 values"),
            ({}, r"'d0': cycles_per_sample and .* missing; .* 'profile'"),
            (DEVICE | {"channel_gain": -1.0}, r"'d0': channel_gain is -1; .* greater than 0"),
            (DEVICE | {"idle_power_w": math.inf}, r"'d0': idle_power_w is inf"),
            (DEVICE | {"frequency_min_hz": 2e9}, r"'d0': frequency_min_hz \(2e\+09\) is above"),
            (DEVICE | {"frequency_steps_hz": [1e9, 7e8]}, r"'d0': .*ascend"),
            (DEVICE | {"step_power_w": [1.0]}, r"'d0': step_power_w without frequency_steps_hz"),
            (DEVICE | {"budget_j": 0.0}, r"'d0': budget_j is 0"),
            (DEVICE | {"power_settable": 1}, "bool"),
            (DEVICE | {"volume": 11}, "volume"),
        ],
    )
    def test_of_a_device(self, tmp_path: Path, keys: dict[str, Any], says: str) -> None:
        profile(tmp_path, with_points())
        (tmp_path / "draft.txt").write_text("", encoding="utf-8")
        (tmp_path / "half.toml").write_text('name = "pi"\n[board]\n', encoding="utf-8")
        with pytest.raises(ProblemError, match=says) as caught:
            read(write(tmp_path, SHARED, keys))
        assert str(caught.value).startswith(str(tmp_path / "problem.toml"))

    @pytest.mark.parametrize(
        ("keys", "says"),
        [
            ({"deadline_s": 5.0}, r"deadline_s \(5\) and t_max_s \(9\) are both given"),
            ({"objective": "bord"}, "bord"),
            ({"rounds_count": 0.0}, "rounds_count"),
            ({"rounds_count": math.inf}, "rounds_count is inf"),
            ({"synthetic_bits": math.inf}, "synthetic_bits is inf"),
            ({"download_bits": -1.0}, "download_bits is -1"),
            ({"error_max": 0.1}, "curve is missing"),
        ],
    )
    def test_of_the_whole(self, tmp_path: Path, keys: dict[str, Any], says: str) -> None:
        with pytest.raises(ProblemError, match=says):
            read(write(tmp_path, SHARED | keys, DEVICE))

    def test_two_devices_of_one_name(self, tmp_path: Path) -> None:
        with pytest.raises(ProblemError, match="'pi-1' is given more than once"):
            read(
                write(tmp_path, SHARED, DEVICE | {"id": "pi", "count": 2}, DEVICE | {"id": "pi-1"})
            )


def test_rounds_to_an_accuracy_have_the_same_defaults_everywhere(tmp_path: Path) -> None:
    path = tmp_path / "problem.toml"
    rounds = "[rounds]" + EXAMPLE.partition("[rounds]")[2].partition("[[device]]")[0]
    texts = EXAMPLE, EXAMPLE.replace(rounds, "")
    model = RoundsModel()
    names = "scale", "sensitivity", "epochs_exponent"
    expected = {name: getattr(model, name) for name in names}
    for text in texts:
        path.write_text(text, encoding="utf-8")
        assert msgspec.structs.asdict(read(path)[1].rounds) == expected
    plan = PlanSettings()
    keys = plan.rounds_scale, plan.rounds_sensitivity, plan.rounds_epochs_exponent
    assert dict(zip(names, keys, strict=True)) == expected
    assert texts[0] != texts[1]
