"""The truths themselves: enumeration and nested searches against plain brute force."""

from __future__ import annotations

import itertools
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.energy.cost_model import (
    BoardModel,
    ComputeModel,
    LinkModel,
    OperatingPoint,
    predict_round,
)
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.problem import FimiProblem
from tests.optim.truth_costs import Trial, cost_of
from tests.optim.truth_enumeration import enumerate_plans, whole_samples
from tests.optim.truth_problems import Problem, any_kind, planted, problems
from tests.optim.truth_resources import MIDDLE, Fleet, device_j, fleet_j, options_of, radio_of


def coarse_steps() -> FimiProblem:
    """Two devices, one with two steps far apart: samples and steps have to be chosen together."""
    return FimiProblem(
        devices=("d0", "d1"),
        local_counts=np.array(
            [[3, 0, 0, 50, 0, 49, 20, 0, 21, 4], [3, 24, 0, 6, 40, 0, 23, 0, 44, 8]]
        ),
        epochs=4,
        payload_bits=np.array([4066634.1888926695, 897691.8687040757]),
        cycles_per_sample=np.array([6722894.036391625, 23914325.500930853]),
        capacitance_w_per_hz3=np.array([2.105609218710507e-28, 8.519410959097198e-28]),
        active_power_w=np.array([0.3, 0.3]),
        frequency_min_hz=np.array([383e6, 388e6]),
        frequency_max_hz=np.array([2929e6, 1452e6]),
        frequency_steps_hz=(
            (383e6, 2929e6),
            (388e6, 540e6, 692e6, 844e6, 996e6, 1148e6, 1300e6, 1452e6),
        ),
        channel_gain=np.array([2.8618817000352957e-10, 2.2980933160405685e-11]),
        transmit_power_max_w=np.array([0.2, 0.2]),
        noise_density_w_per_hz=np.asarray(4e-21),
        t_max_s=np.asarray(37.62251317934749),
        bandwidth_hz=3e5,
        generated_max=np.asarray(400.0),
        error_max=1.163707270850151,
        curve=LearningCurve(alpha=7.550426803720558, beta=0.3212324717312319, delta0=0.02),
        objective="dynamic",
    )


def test_coarse_steps() -> None:
    """31.904 J, by hand: 518 samples at 383 MHz and 255 at 692 MHz, the band split 6 to 1."""
    found = enumerate_plans(coarse_steps())
    assert found.costs is not None
    assert found.trial is not None
    assert not found.costs.broken
    assert found.energy_j == pytest.approx(31.904, abs=1e-3)
    np.testing.assert_array_equal(found.trial.samples, [518, 255])
    # κ f³ + P_act over E C D / f for both, written out; the uploads are 0.04 J of it.
    by_hand = (0.3 + 2.105609218710507e-28 * 383e6**3) * 4 * 6722894.036391625 * 518 / 383e6
    by_hand += (0.3 + 8.519410959097198e-28 * 692e6**3) * 4 * 23914325.500930853 * 255 / 692e6
    assert found.energy_j == pytest.approx(by_hand + 0.0365, abs=2e-4)


@given(problems((1, 3)))
@settings(max_examples=100)
def test_every_problem_has_the_plan_that_it_was_built_around(drawn: Problem) -> None:
    problem, trial = drawn
    assert cost_of(problem, trial).broken == {}


@given(problems((1, 3)))
@settings(max_examples=60)
def test_costs_are_those_that_the_cost_model_predicts(drawn: Problem) -> None:
    """One board after the other through ``predict_round``, as the coordinator does."""
    problem, trial = drawn
    costs = cost_of(problem, trial)
    for i in range(problem.size):
        if trial.samples[i] == 0:
            continue
        measured = bool(problem.step_power_w[i])
        cap = float(problem.rate_cap_bps[i])
        downlink = 1e6
        board = BoardModel(
            idle_power_w=float(problem.idle_power_w[i]),
            compute=ComputeModel(
                cycles_per_sample=float(problem.cycles_per_sample[i]),
                capacitance_w_per_hz3=float(problem.capacitance_w_per_hz3[i]),
                active_power_w=float(problem.active_power_w[i]),
                linear_power_w_per_hz=float(problem.linear_power_w_per_hz[i]),
                frequency_min_hz=float(problem.frequency_min_hz[i]),
                frequency_max_hz=float(problem.frequency_max_hz[i]),
            ),
            link=LinkModel(
                channel_gain=float(problem.channel_gain[i]),
                noise_density_w_per_hz=float(problem.noise_density_w_per_hz[i]),
                transmit_power_max_w=float(problem.transmit_power_max_w[i]),
                downlink_rate_bps=downlink,
                receive_power_w=float(problem.receive_power_w[i]),
                electronics_power_w=float(problem.electronics_power_w[i]),
                energy_per_bit_j=float(problem.energy_per_bit_j[i]),
                rate_cap_bps=cap if math.isfinite(cap) else None,
                power_settable=bool(problem.power_settable[i]),
            ),
        )
        point = OperatingPoint(
            frequency_hz=float(trial.speed_hz[i]),
            bandwidth_hz=float(trial.bandwidth_hz[i]),
            transmit_power_w=float(trial.transmit_power_w[i]),
            time_split=0.5,
        )
        phases = predict_round(
            board,
            point,
            cycles=float(problem.cycles_per_pass[i] * trial.samples[i]),
            upload_bits=float(problem.payload_bits[i]),
            download_bits=float(problem.receive_s[i]) * downlink,
            round_s=costs.round_s,
        )
        spent = {phase.phase: phase.dynamic_j for phase in phases}
        assert spent["upload"] == pytest.approx(costs.upload_j[i], rel=1e-9)
        if not measured:
            assert spent["compute"] == pytest.approx(costs.compute_j[i], rel=1e-9)
            synthetic = trial.samples[i] - problem.local_samples[i]
            made_j = problem.synthetic_j[i] * synthetic / problem.rounds
            board_j = math.fsum(phase.board_j for phase in phases) + made_j
            assert board_j == pytest.approx(costs.device_board_j[i], rel=1e-9)


@pytest.mark.slow
@given(problems((2, 2), budgets=False))
@settings(max_examples=25)
def test_no_random_plan_is_better(drawn: Problem) -> None:
    """Random samples, speeds, bands and powers: none that keeps the limits costs less."""
    problem, planted_trial = drawn
    found = enumerate_plans(problem)
    rng = np.random.default_rng(0)
    assert found.costs is not None
    assert found.costs.broken == {}
    assert found.costs.energy_j(problem) == pytest.approx(found.energy_j, rel=1e-8)
    assert found.energy_j <= cost_of(problem, planted_trial).energy_j(problem) * (1 + 1e-9)
    assert found.trial is not None
    for centre in (found.trial, planted_trial):
        for _ in range(60):
            other = shaken(rng, problem, centre)
            costs = cost_of(problem, other)
            if not costs.broken:
                assert costs.energy_j(problem) >= found.energy_j * (1 - 1e-8)


def shaken(rng: np.random.Generator, problem: FimiProblem, trial: Trial) -> Trial:
    """A plan next to another one."""
    width = 10 ** rng.uniform(-4, -0.5)
    most = problem.local_samples + problem.generated_max
    samples = np.clip(
        trial.samples + rng.integers(-2, 3, problem.size), problem.local_samples, most
    )
    speed = trial.speed_hz.copy()
    for i, steps in enumerate(problem.frequency_steps_hz):
        if steps:
            speed[i] = steps[int(rng.integers(len(steps)))]
        else:
            low, high = problem.frequency_min_hz[i], problem.frequency_max_hz[i]
            speed[i] = np.clip(speed[i] * rng.uniform(1 - width, 1 + width), low, high)
    band = trial.bandwidth_hz * rng.uniform(1 - width, 1 + width, problem.size)
    band *= problem.bandwidth_hz / max(band.sum(), problem.bandwidth_hz)
    power = trial.transmit_power_w * rng.uniform(1 - width, 1 + width, problem.size)
    power = np.minimum(power, problem.transmit_power_max_w)
    power = np.where(problem.power_settable, power, problem.transmit_power_max_w)
    return Trial(samples=samples, speed_hz=speed, bandwidth_hz=band, transmit_power_w=power)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "count"), [(1, 10), (2, 8), (3, 4)])
def test_nothing_was_left_out(size: int, count: int) -> None:
    """Every combination of samples and steps, one by one, without any bound."""
    for seed in range(count):
        processors = "steps" if size == 3 else "mixed"
        few = 2 if size == 3 else 4
        kind = any_kind(
            seed, processors=processors, generated_max=few, steps_max=2, budgets=False, idle=False
        )
        problem, _ = planted(seed, size, msgspec.structs.replace(kind, idle=size < 3))
        fleet = Fleet(problem)
        own = [
            options_of(problem, i, whole_samples(problem, i), synthetic=fleet.board)
            for i in range(size)
        ]
        every = list(itertools.product(*(range(each.samples.size) for each in own)))
        met = [
            row
            for row in every
            if not math.isfinite(problem.error_max)
            or problem.error(np.array([each.samples[k] for each, k in zip(own, row, strict=True)]))
            <= problem.error_max * (1 + 1e-12)
        ]
        rows = np.array(met)
        least_j = math.inf
        for part in np.array_split(rows, -(-len(rows) // 64)):
            found = fleet_j(fleet, [each.take(part[:, i]) for i, each in enumerate(own)], MIDDLE)
            least_j = min(least_j, float(found.energy_j.min()))
        assert enumerate_plans(problem).energy_j == pytest.approx(least_j, rel=1e-5)


@given(problems((1, 1)), st.integers(0, 2**32 - 1))
@settings(max_examples=80)
def test_an_upload_is_as_long_as_is_best(drawn: Problem, seed: int) -> None:
    """The time of the upload by slopes against a fine grid of times."""
    problem, _ = drawn
    rng = np.random.default_rng(seed)
    radio = radio_of(problem, 0)
    options = options_of(problem, 0, problem.local_samples + 1.0, synthetic=False)
    band = problem.bandwidth_hz * 10 ** rng.uniform(-1.0, 0.0)
    shortest = options.fastest_s + radio.full_rate_s(np.asarray(band))
    window_s = shortest * (1.0 + 10 ** rng.uniform(-3.0, 0.7))
    energy, t_cmp, t_com = device_j(radio, options, np.asarray(band), window_s)
    assert (t_cmp + t_com <= window_s * (1 + 1e-12)).all()
    for k in range(options.samples.size):
        one = options.take(slice(k, k + 1))
        times = np.geomspace(float(radio.full_rate_s(np.asarray(band))), window_s[k], 4001)
        times = times[times <= window_s[k] - one.fastest_s]
        if not radio.settable:
            times = times[:1]
        left = np.clip(window_s[k] - times, one.fastest_s, one.slowest_s)
        joules = one.cubic / left**2 + one.fixed + one.watts * left
        joules = np.where(left > 0, joules, one.fixed) + radio.sent_j(np.asarray(band), times)
        assert energy[k] <= joules.min() * (1 + 1e-9)
        assert energy[k] == pytest.approx(joules.min(), rel=1e-3)


def test_limits_are_noticed(fleet: Any) -> None:
    problem, trial = planted(3, 2, any_kind(3, processors="laws", budgets=False, learning=True))
    good = cost_of(problem, trial)
    assert not good.broken
    changes: dict[str, tuple[Any, Trial]] = {
        "deadline": ({"t_max_s": 0.9 * (good.compute_s + good.upload_s)}, trial),
        "band": ({"bandwidth_hz": 0.9 * float(trial.bandwidth_hz.sum())}, trial),
        "learning error": ({"error_max": 0.9 * problem.error(trial.samples)}, trial),
        "device budget": ({"budget_j": 0.9 * problem.rounds * good.device_board_j}, trial),
        "fleet budget": ({"fleet_budget_j": 0.9 * problem.rounds * good.board_j}, trial),
        "most samples": ({"generated_max": trial.samples - problem.local_samples - 1.0}, trial),
        "round": ({}, msgspec.structs.replace(trial, round_s=0.9 * good.round_s)),
        "frequency": ({"frequency_max_hz": 0.9 * trial.speed_hz}, trial),
        "whole samples": ({}, msgspec.structs.replace(trial, samples=trial.samples + 0.5)),
    }
    for limit, (change, plan) in changes.items():
        if limit == "most samples" and (change["generated_max"] < 0).any():
            continue
        if limit == "frequency":
            change["frequency_min_hz"] = np.minimum(
                problem.frequency_min_hz, change["frequency_max_hz"]
            )
        assert limit in cost_of(msgspec.structs.replace(problem, **change), plan).broken, limit
