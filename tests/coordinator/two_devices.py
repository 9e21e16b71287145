"""A fleet of two devices, for ten rounds."""

from __future__ import annotations

import numpy as np

from fimi.optim.learning_curve import LearningCurve
from fimi.optim.problem import FimiProblem

TWO = FimiProblem(
    devices=("a", "b"),
    local_counts=np.array([[30, 0], [0, 60]]),
    epochs=3,
    cycles_per_sample=np.array([4e6, 2e6]),
    capacitance_w_per_hz3=np.array([4e-28, 2e-28]),
    frequency_min_hz=np.array([6e8]),
    frequency_max_hz=np.array([2e9]),
    channel_gain=np.array([1e-10]),
    noise_density_w_per_hz=np.array([4e-21]),
    transmit_power_max_w=np.array([0.2]),
    payload_bits=np.array([1e6]),
    t_max_s=np.array([9.0]),
    bandwidth_hz=1e6,
    generated_max=np.array([200.0]),
    idle_power_w=np.array([2.0, 3.0]),
    rounds=10.0,
    curve=LearningCurve(alpha=5.8, beta=0.93, delta0=0.02),
)
