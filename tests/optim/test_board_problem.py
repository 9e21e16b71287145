"""Boards become a problem: deadlines without the download, points as steps."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from fimi.energy.cost_model import BoardModel, ComputeModel, LinkModel
from fimi.optim.board_problem import from_boards
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.problem import InfeasibleError

BOARD = BoardModel(
    compute=ComputeModel(
        cycles_per_sample=1e7,
        capacitance_w_per_hz3=1e-28,
        frequency_min_hz=2e8,
        frequency_max_hz=1.5e9,
        frequency_steps_hz=(2e8, 8e8, 1.5e9),
        active_power_w=0.4,
    ),
    link=LinkModel(
        channel_gain=1e-10,
        noise_density_w_per_hz=4e-21,
        transmit_power_max_w=0.2,
        downlink_rate_bps=1e6,
    ),
    idle_power_w=2.0,
)


def test_from_boards() -> None:
    slow = msgspec.structs.replace(
        BOARD, link=msgspec.structs.replace(BOARD.link, downlink_rate_bps=5e5)
    )
    problem = from_boards(
        {"a": BOARD, "b": slow},
        local_counts={"b": (0, 0), "a": (3, 4)},
        epochs=2,
        deadline_s=12.0,
        upload_bits=8e5,
        download_bits=1e6,
        bandwidth_hz=1e6,
        generated_max=50,
        error_max=0.3,
        curve=LearningCurve(alpha=1.0, beta=0.5),
    )
    np.testing.assert_allclose(problem.t_max_s, [11.0, 10.0])
    np.testing.assert_array_equal(problem.local_samples, [7.0, 0.0])
    np.testing.assert_allclose(problem.weights, [0.5, 0.5])
    np.testing.assert_allclose(problem.cycles_per_pass, [2e7, 2e7])
    assert problem.frequency_steps_hz[0] == (2e8, 8e8, 1.5e9)


def test_a_model_that_arrives_after_the_deadline_is_infeasible() -> None:
    with pytest.raises(InfeasibleError, match="a cannot receive the model") as caught:
        from_boards(
            {"a": BOARD},
            local_counts={"a": (1,)},
            epochs=1,
            deadline_s=1.0,
            upload_bits=1.0,
            download_bits=1e6,
            bandwidth_hz=1e6,
            generated_max=0,
        )
    assert caught.value.constraint == "deadline"
    assert caught.value.devices == ("a",)
