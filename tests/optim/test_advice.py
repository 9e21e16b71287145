"""Every remedy that a message prints, followed to the letter, leads to a plan."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.optim import quality
from fimi.optim.advice import remedies
from fimi.optim.budget_advice import with_budgets
from fimi.optim.learning_curve import LearningCurve
from fimi.optim.planner import plan
from fimi.optim.problem import FimiProblem, InfeasibleError
from fimi.optim.spending import limited
from fimi.optim.target import choose
from fimi.optim.whole import exists
from tests.optim.remedies import followed, tightened
from tests.optim.truth_costs import cost_of, trial_of

replace = msgspec.structs.replace


def holds(problem: FimiProblem) -> None:
    """A plan is made and keeps every limit."""
    assert not cost_of(problem, trial_of(plan(problem, seed=0))).broken


def refused(problem: FimiProblem) -> InfeasibleError:
    with pytest.raises(InfeasibleError) as caught:
        plan(problem, seed=0)
    return caught.value


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
@settings(max_examples=6, deadline=None)
def test_remedies_of_random_fleets(seed: int, size: int) -> None:
    problem = tightened(seed, size)
    if exists(problem):
        return
    error = refused(problem)
    remedies = list(followed(problem, str(error)))
    assert [words for words, _ in remedies] == list(error.remedies)
    for _, changed in remedies:
        holds(changed)
    if problem.curve is None or problem.error_budget > 0:
        assert remedies or (problem.local_samples + problem.generated_max < 1).any()


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_a_remedy_carries_the_problem_that_its_words_make(seed: int, size: int) -> None:
    """Alone, and together with the budgets that a plan of so many joules needs."""
    problem = tightened(seed, size, budgets=True)
    if exists(problem):
        return
    used = np.maximum(np.minimum(problem.budget_j, 100.0) * 1.2345678, 3.3333333)
    for remedy in remedies(problem).each:
        more = with_budgets(remedy, lambda _: False, lambda _: used) if limited(problem) else remedy
        for each in (remedy, more):
            ((words, changed),) = followed(problem, f"; feasible with {each.text}")
            assert words == each.text
            for field in FimiProblem.__struct_fields__:
                one, other = getattr(each.changed, field), getattr(changed, field)
                assert np.array_equal(one, other) if isinstance(one, np.ndarray) else one == other


def test_an_error_limit_above_1_is_left_out(fleet: Any) -> None:
    """A file refuses an error above 1, so that no remedy may ask for one."""
    problem = fleet(
        3,
        2,
        local_counts=np.ones((2, 1), int),
        generated_max=0.0,
        curve=LearningCurve(alpha=5.8, beta=0.93),
        error_max=0.5,
    )
    error = refused(problem)
    remedies = dict(followed(problem, str(error)))
    assert [words for words in remedies if "error_max" in words] == ["error_max left out"]
    assert error.smallest_error_max is not None and error.smallest_error_max > 1.0
    for changed in remedies.values():
        holds(changed)


@pytest.mark.parametrize("t_max_s", [1e-40, 1e-30, 1e-12, 1e-3])
def test_a_deadline_that_is_nearly_none(fleet: Any, t_max_s: float) -> None:
    """However little time there is, the remedy is found from the need on."""
    problem = fleet(3, 2, t_max_s=t_max_s)
    error = refused(problem)
    later = [changed for words, changed in followed(problem, str(error)) if "deadline" in words]
    assert later
    for changed in later:
        holds(changed)


def test_no_deadline_beyond_the_longest_is_advised(fleet: Any) -> None:
    """Where a round would take longer than a deadline may be, no deadline is a remedy."""
    problem = fleet(3, 2, payload_bits=1e30, t_max_s=np.array([5.0, 1e9]))
    assert not [words for words in refused(problem).remedies if "deadline" in words]


@given(st.integers(0, 2**32 - 1), st.integers(1, 2))
@settings(max_examples=3, deadline=None)
def test_remedies_of_random_fleets_with_budgets(seed: int, size: int) -> None:
    problem = tightened(seed, size, budgets=True)
    try:
        plan(problem, seed=0)
    except InfeasibleError as error:
        for _, changed in followed(problem, str(error)):
            holds(changed)
        if error.constraint == "energy budget":
            assert error.remedies


@given(st.integers(0, 2**32 - 1), st.integers(1, 2), st.floats(0.2, 0.95))
@settings(max_examples=4, deadline=None)
def test_remedies_with_synthetic_samples_of_less_worth(seed: int, size: int, q: float) -> None:
    problem = tightened(seed, size)
    if (problem.worth_exponent != 1.0).any() or exists(problem, q):
        return
    with pytest.raises(InfeasibleError) as caught:
        quality.plan(problem, synthetic_value=q, seed=0)
    text = str(caught.value).replace(
        f"; a synthetic sample counts as {q:g} real ones (synthetic_value)", ""
    )
    for _, changed in followed(problem, text):
        quality.plan(changed, synthetic_value=q, seed=0)


def test_a_case_whose_advice_was_refused_again(fleet: Any) -> None:
    """Three boards with 20 s, 0.4 MHz and an error limit of 0.06."""
    problem = FimiProblem(
        devices=("pi-1", "pi-2", "pi-3"),
        local_counts=np.array([[40, 3, 0, 12]] * 3),
        epochs=5,
        cycles_per_sample=np.asarray(4.0e7),
        capacitance_w_per_hz3=np.asarray(6.0e-28),
        active_power_w=np.asarray(0.3),
        frequency_min_hz=np.asarray(0.6e9),
        frequency_max_hz=np.asarray(1.8e9),
        channel_gain=np.asarray(1.0e-10),
        noise_density_w_per_hz=np.asarray(3.98e-21),
        transmit_power_max_w=np.asarray(0.2),
        payload_bits=np.asarray(1.2e6),
        t_max_s=np.asarray(20.0),
        bandwidth_hz=0.4e6,
        generated_max=np.asarray(500.0),
        error_max=0.06,
        curve=LearningCurve(alpha=5.8, beta=0.93, delta0=0.027),
        idle_power_w=np.asarray(2.7),
    )
    error = refused(problem)
    remedies = list(followed(problem, str(error)))
    assert {words.split()[0] for words, _ in remedies} >= {"every", "error_max"}
    for _, changed in remedies:
        holds(changed)
    # The numbers are the smallest but for their last digit.
    longer, larger = error.smallest_t_max_s, error.smallest_error_max
    assert longer is not None
    assert larger is not None
    extra_s = float((longer - problem.t_max_s)[0])
    assert not exists(replace(problem, t_max_s=problem.t_max_s + 0.998 * extra_s))
    assert not exists(replace(problem, error_max=0.998 * larger))


def test_a_remedy_that_cannot_help_alone_is_not_named(fleet: Any) -> None:
    late = fleet(1, 3, generated_max=np.asarray(10.0), t_max_s=np.array([2.0, 60.0, 60.0]))
    error = refused(late)
    ((words, changed),) = followed(late, str(error))
    assert "together with" in words
    holds(changed)


def test_at_most_five_devices_are_named(fleet: Any) -> None:
    problem = fleet(1, 40, t_max_s=np.full(40, 0.5))
    error = refused(problem)
    assert str(error).count("device-") == 5
    assert "and 35 more" in str(error)
    assert len(error.devices) == 40
    for _, changed in followed(problem, str(error)):
        plan(changed, seed=0)


class TestBudgets:
    def boards(self, fleet: Any, **changes: Any) -> FimiProblem:
        usual: dict[str, Any] = {"idle_power_w": np.asarray(3.0), "rounds": 10.0}
        return fleet(2, 3, **(usual | changes))

    def test_a_budget_below_what_idling_takes(self, fleet: Any) -> None:
        problem = self.boards(fleet, budget_j=np.array([1.0, np.inf, np.inf]))
        error = refused(problem)
        assert error.constraint == "energy budget"
        assert error.devices == ("device-0",)
        assert "a budget is below what idling takes" in str(error)
        ((_, changed),) = followed(problem, str(error))
        holds(changed)

    def test_a_fleet_budget_that_is_a_little_too_small(self, fleet: Any) -> None:
        problem = self.boards(fleet)
        free = cost_of(problem, trial_of(plan(problem, seed=0)))
        tight = replace(problem, fleet_budget_j=0.95 * problem.rounds * free.board_j)
        error = refused(tight)
        assert "idling" not in str(error)
        ((words, changed),) = followed(tight, str(error))
        assert words.startswith("fleet_budget_j")
        holds(changed)

    def test_one_budget_for_all_has_one_remedy(self, fleet: Any) -> None:
        problem = self.boards(fleet, budget_j=np.asarray(1.0))
        error = refused(problem)
        ((words, changed),) = followed(problem, str(error))
        assert "for device" not in words
        assert error.budget_needed_j == changed.budget_j.max()
        holds(changed)


def test_a_target_without_any_plan(fleet: Any) -> None:
    problem = fleet(3, 4, bandwidth_hz=1e4)
    with pytest.raises(InfeasibleError) as caught:
        choose(problem, 0.9)
    remedies = list(followed(problem, str(caught.value)))
    assert remedies
    for _, changed in remedies:
        plan(choose(changed, 0.9).apply(changed), seed=0)
