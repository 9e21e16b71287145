from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fimi.energy.meters import MeterDescription, Reading
from fimi.energy.meters.response import MeterResponse
from fimi.energy.phase_powers import (
    COLUMNS_MAX,
    PowerEquations,
    PowerSums,
    add_up,
    solve,
)

TRUE_W = {"": 2.9, "model-download": 3.6, "compute@fast": 5.5, "upload@fast": 4.4, "idle": 3.0}
ORDER = ("model-download", "compute@fast", "upload@fast", "idle")
LATE = MeterDescription(
    source="late",
    kind="measured",
    scope="wall",
    rate_hz=1.0,
    response=MeterResponse(delay_s=1.5, window_s=0.8, refresh_s=1.0, delay_sd_s=0.3),
)


class History:
    """Rounds of phases and what a late meter shows of them, by sums over ages and a fine grid."""

    def __init__(self, seed: int, rounds: int, noise_w: float = 0.0) -> None:
        rng = np.random.default_rng(seed)
        self.edges: list[tuple[float, str]] = [(0.0, "idle")]
        self.ends_s: list[float] = []
        now_s = 8.0
        for _ in range(rounds):
            for name in ORDER:
                self.edges.append((now_s, name))
                now_s += float(rng.uniform(0.5, 5.0))
            self.edges.append((now_s, ""))
            now_s += 0.2
            self.ends_s.append(now_s)
        self.times_s = np.sort(rng.uniform(8.0, now_s, int(now_s)))
        self.noise_w = rng.normal(0.0, noise_w, len(self.times_s)) if noise_w else 0.0
        self.columns = sorted(TRUE_W)
        self.power_w = self.design(LATE.response) @ [TRUE_W[c] for c in self.columns] + self.noise_w

    def design(self, response: MeterResponse) -> np.ndarray:
        """Share of each column in each reading, (readings, columns): no kernel, only ages."""
        ages_s = (np.arange(400) + 0.5) / 400 * response.refresh_s
        places = (np.arange(50) + 0.5) / 50 * response.window_s
        back_s = response.delay_s + np.add.outer(ages_s, places).ravel()
        begins_s = [at_s for at_s, _ in self.edges]
        of_edge = np.array([self.columns.index(name) for _, name in self.edges])
        found = np.zeros((len(self.times_s), len(self.columns)))
        for row, time_s in enumerate(self.times_s):
            which = of_edge[np.searchsorted(begins_s, time_s - back_s, side="right") - 1]
            found[row] = np.bincount(which, minlength=len(self.columns)) / len(back_s)
        return found

    def of_round(self) -> np.ndarray:
        """Round of each reading."""
        return np.searchsorted(self.ends_s, self.times_s)

    def equations(self, meter: MeterDescription = LATE) -> list[PowerEquations]:
        """Those of each round, as a ledger makes them: at every edge, with what was read since."""
        sums, found, seen = PowerSums(meter), [], 0
        for at_s, column in self.edges:
            if at_s > 0.0:
                until = int(np.searchsorted(self.times_s, at_s))
                sums.add(self.readings(seen, until))
                seen = until
            if column == "model-download" and at_s > 10.0 and (taken := sums.take()) is not None:
                found.append(taken)
            sums.begin(column, at_s)
        sums.add(self.readings(seen, len(self.times_s)))
        taken = sums.take()
        return [*found, taken] if taken is not None else found

    def readings(self, first: int, last: int) -> list[Reading]:
        return [
            Reading(time_s=t, power_w=p)
            for t, p in zip(
                self.times_s[first:last].tolist(), self.power_w[first:last].tolist(), strict=True
            )
        ]


@pytest.mark.parametrize("seed", range(3))
def test_powers_without_noise_come_out(seed: int) -> None:
    powers = solve(History(seed, 6).equations())
    assert powers is not None
    found = dict(zip(powers.columns, powers.power_w, strict=True))
    assert found == pytest.approx(TRUE_W, rel=5e-3)


@pytest.mark.parametrize("seed", range(3))
def test_is_least_squares_on_all_readings(seed: int) -> None:
    """numpy's lstsq on a design that was counted from ages, and its jackknife by leaving out."""
    history = History(seed, 8, noise_w=0.2)
    powers = solve(history.equations(replace(LATE, response=_sure(LATE.response))))
    assert powers is not None
    design = history.design(LATE.response)
    found = np.linalg.lstsq(design, history.power_w, rcond=None)[0]
    assert list(powers.columns) == history.columns
    assert powers.power_w == pytest.approx(found, abs=0.01)


def _sure(response: MeterResponse) -> MeterResponse:
    return replace(response, delay_sd_s=0.0)


def _rows(rng: np.random.Generator, rounds: int) -> list[tuple[np.ndarray, np.ndarray]]:
    columns = 3
    return [(rng.uniform(size=(12, columns)), rng.normal(4.0, 1.0, size=12)) for _ in range(rounds)]


def _normal(design: np.ndarray, power_w: np.ndarray, names: Sequence[str]) -> PowerEquations:
    upper = np.triu_indices(len(names))
    return PowerEquations(
        columns=tuple(names),
        gram=tuple((design.T @ design)[upper].tolist()),
        moments=tuple((design.T @ power_w).tolist()),
        readings=len(power_w),
    )


@given(st.integers(0, 2**32 - 1), st.integers(2, 9))
@settings(max_examples=50)
def test_covariance_is_that_of_leaving_out_each_round(seed: int, rounds: int) -> None:
    rows = _rows(np.random.default_rng(seed), rounds)
    powers = solve([_normal(a, b, ("a", "b", "c")) for a, b in rows])
    assert powers is not None
    without = np.array(
        [
            np.linalg.lstsq(
                np.vstack([a for j, (a, _) in enumerate(rows) if j != left]),
                np.concatenate([b for j, (_, b) in enumerate(rows) if j != left]),
                rcond=None,
            )[0]
            for left in range(rounds)
        ]
    )
    covariance = np.cov(without.T, bias=True) * (rounds - 1)
    assert powers.covariance == pytest.approx(covariance, rel=1e-6, abs=1e-9)
    value_j, sd_j = powers.energy({"a": 2.0, "c": 3.0})
    weights = np.array([2.0, 0.0, 3.0])
    assert value_j == pytest.approx(weights @ powers.power_w)
    assert sd_j == pytest.approx(math.sqrt(weights @ covariance @ weights) * powers.widened)


@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
@settings(max_examples=30)
def test_parts_of_a_round_add_up(seed: int, parts: int) -> None:
    rows = _rows(np.random.default_rng(seed), parts)
    names = ("a", "b", "c")
    summed = add_up([_normal(a, b, names) for a, b in rows])
    whole = _normal(np.vstack([a for a, _ in rows]), np.concatenate([b for _, b in rows]), names)
    assert summed is not None
    assert summed.gram == pytest.approx(whole.gram)
    assert summed.moments == pytest.approx(whole.moments)
    assert (summed.columns, summed.readings) == (whole.columns, whole.readings)


def test_parts_with_other_columns_add_up() -> None:
    one = PowerEquations(columns=("a",), gram=(2.0,), moments=(8.0,), readings=2)
    two = PowerEquations(
        columns=("b",),
        gram=(3.0,),
        moments=(9.0,),
        readings=3,
        earlier=(4.0, 8.0),
        later=(5.0, 5.0),
    )
    found = add_up([one, two])
    assert found is not None
    assert found.columns == ("a", "b")
    assert (found.gram, found.moments) == ((2.0, 0.0, 3.0), (8.0, 9.0))
    # Where a part knows its delay, a shift does not change it.
    assert found.earlier == (2.0, 0.0, 4.0, 8.0, 8.0)
    assert found.later == (2.0, 0.0, 5.0, 8.0, 5.0)
    assert add_up([]) is None
    assert add_up([one]) is one


def test_an_unknown_delay_is_in_the_deviation() -> None:
    history = History(1, 10)
    sure = solve(history.equations(replace(LATE, response=_sure(LATE.response))))
    unsure = solve(history.equations())
    assert sure is not None
    assert unsure is not None
    # Refreshes in step with looks are an unknown of 1 s/√12 already.
    moved = [
        np.linalg.lstsq(
            history.design(replace(LATE.response, delay_s=1.5 + side * math.hypot(0.3, 12**-0.5))),
            history.power_w,
            rcond=None,
        )[0]
        for side in (-1.0, 1.0)
    ]
    slope = (moved[1] - moved[0]) / 2.0
    place = unsure.columns.index("compute@fast")
    assert unsure.covariance[place, place] >= slope[place] ** 2 * 0.9
    assert unsure.deviation_w("compute@fast") > sure.deviation_w("compute@fast")


def test_what_always_comes_together_cannot_be_told() -> None:
    rng = np.random.default_rng(0)
    designs = [rng.uniform(size=(9, 2)) for _ in range(4)]
    together = [
        _normal(np.column_stack([a, a[:, 1]]), a @ [3.0, 5.0], ("x", "y", "z")) for a in designs
    ]
    powers = solve(together)
    assert powers is not None
    assert math.isinf(powers.deviation_w("y"))
    assert math.isinf(powers.deviation_w("z"))
    assert powers.deviation_w("x") < 1e-6
    assert powers.energy({"x": 2.0}) == (pytest.approx(6.0), pytest.approx(0.0, abs=1e-6))
    value_j, sd_j = powers.energy({"x": 1.0, "y": 1.0})
    assert math.isfinite(value_j)
    assert math.isinf(sd_j)


def test_what_was_seen_in_one_round_alone_cannot_be_told() -> None:
    a = PowerEquations(columns=("a",), gram=(2.0,), moments=(8.0,), readings=2)
    both = PowerEquations(columns=("a", "b"), gram=(2.0, 0.0, 1.0), moments=(8.0, 5.0), readings=3)
    powers = solve([a, a, both])
    assert powers is not None
    assert powers.deviation_w("a") == pytest.approx(0.0, abs=1e-9)
    assert math.isinf(powers.deviation_w("b"))
    assert solve([a]) is None
    assert solve([]) is None


def test_coverage_with_noise() -> None:
    scores = []
    for seed in range(40):
        powers = solve(History(100 + seed, 8, noise_w=0.3).equations())
        assert powers is not None
        for name in ("compute@fast", "upload@fast"):
            error_w = powers.power_w[powers.columns.index(name)] - TRUE_W[name]
            scores.append(error_w / powers.deviation_w(name))
    assert np.mean(np.abs(scores) <= 2.0) >= 0.9
    assert abs(np.mean(scores)) < 0.3


class TestSums:
    def test_a_meter_that_never_answers_costs_no_memory(self) -> None:
        sums = PowerSums(LATE)
        for number in range(5_000):
            sums.add([Reading(time_s=0.1 * number)])
            sums.begin("idle" if number % 2 else "compute", 0.1 * number)
        assert len(sums._edges_s) < 200
        assert sums.take() is None

    def test_readings_from_before_the_first_edge_are_left_out(self) -> None:
        sums = PowerSums(LATE)
        sums.begin("idle", 100.0)
        sums.add([Reading(time_s=101.0, power_w=5.0), Reading(time_s=102.0, power_w=5.0)])
        assert sums.take() is None
        sums.add([Reading(time_s=110.0, power_w=5.0), Reading(time_s=111.0, power_w=math.nan)])
        taken = sums.take()
        assert taken is not None
        assert (taken.columns, taken.readings) == (("idle",), 1)
        assert (taken.gram, taken.moments) == ((1.0,), (5.0,))

    def test_a_clock_that_was_set_begins_anew(self) -> None:
        sums = PowerSums(LATE)
        sums.begin("compute", 1000.0)
        sums.begin("idle", 10.0)
        sums.add([Reading(time_s=20.0, power_w=3.0)])
        taken = sums.take()
        assert taken is not None
        assert taken.columns == ("idle",)

    def test_an_instant_at_an_edge_is_of_no_phase(self) -> None:
        """A meter that is not late shows there what was before or what comes after."""
        sums = PowerSums(replace(LATE, response=MeterResponse()))
        sums.begin("compute", 0.0)
        sums.add([Reading(time_s=t, power_w=w) for t, w in ((1.0, 5.0), (2.0, 6.0), (3.0, 0.5))])
        sums.begin("idle", 3.0)
        taken = sums.take()
        assert taken is not None
        assert (taken.columns, taken.gram, taken.moments) == (("compute",), (2.0,), (11.0,))

    def test_is_needed_where_a_phase_may_not_be_told(self) -> None:
        at_once = replace(LATE, response=MeterResponse())
        assert PowerSums(LATE).needed
        assert PowerSums(at_once).needed
        assert not PowerSums(replace(at_once, noise_w=0.1)).needed
        assert not PowerSums(replace(at_once, counts=True)).needed
        assert not PowerSums(replace(at_once, rate_hz=0.0)).needed

    def test_more_columns_than_a_report_holds_are_none(self) -> None:
        sums = PowerSums(LATE)
        for number in range(COLUMNS_MAX + 1):
            sums.begin(f"compute@{number:03}", 10.0 * number)
            sums.add([Reading(time_s=10.0 * number + 9.0, power_w=5.0)])
        assert sums.take() is None
        sums.add([Reading(time_s=10.0 * COLUMNS_MAX + 9.5, power_w=5.0)])
        assert sums.take() is not None


class TestMessages:
    def test_round_trip(self) -> None:
        (first, *_) = History(0, 3).equations()
        assert msgspec.json.decode(msgspec.json.encode(first), type=PowerEquations) == first

    @pytest.mark.parametrize(
        "changed",
        [
            {"gram": (1.0, 2.0)},
            {"moments": (1.0, 2.0)},
            {"earlier": (1.0,)},
            {"gram": (math.nan,)},
            {"later": (math.inf, 1.0)},
        ],
    )
    def test_what_does_not_fit_is_refused(self, changed: dict[str, tuple[float, ...]]) -> None:
        whole = {"columns": ("a",), "gram": (1.0,), "moments": (1.0,), "readings": 1}
        with pytest.raises(ValueError, match=r"moments|not finite"):
            PowerEquations(**{**whole, **changed})  # type: ignore[arg-type]
