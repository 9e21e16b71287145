"""A run round by round, and what an accuracy has cost."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fimi.energy.joules import Energy
from fimi.energy.ledger import PhaseRecord
from fimi.learning.training.trainer import Evaluation
from fimi.messaging.messages.basis import Goodput
from fimi.record.curve import RoundPoint, generator_sum, price
from fimi.record.curve import points as points_of
from fimi.record.phases import run_parts
from fimi.record.reader import read_run
from fimi.record.record import Generation, RunData, RunInfo
from fimi.record.results import DeviceRound, Preparation, RoundResult, ServerRound
from fimi.record.summary import summarise
from fimi.record.sums import Gap, Sum


def phase(joules: float | None) -> PhaseRecord:
    energy = Energy(value_j=joules, kind="emulated", source="s") if joules is not None else None
    return PhaseRecord(
        phase="compute",
        start_s=0.0,
        duration_s=1.0,
        energy=energy,
        sample_count=2,
        largest_gap_s=0.1,
    )


def moved(size: int) -> tuple[Goodput, ...]:
    return (Goodput(phase="upload", size_bytes=size, duration_s=1.0),)


def result(number: int, accuracy: float, joules: float | None = 10.0, **more: Any) -> RoundResult:
    device = DeviceRound(
        device="a", status="accepted", phases=(phase(joules),), **{"transfers": moved(100), **more}
    )
    return RoundResult(
        number=number,
        start_s=2.0 + 5.0 * (number - 1),
        duration_s=5.0,
        evaluation=Evaluation(accuracy=accuracy, loss=1.0, class_accuracy=(), samples=4),
        devices=(device,),
    )


PREPARATION = Preparation(device="a", phases=(phase(3.0),), predicted=(), transfers=moved(7))


def run(*rounds: RoundResult, before: tuple[Preparation, ...] = ()) -> RunData:
    return RunData(path=Path("run"), info=RunInfo(run="r"), rounds=rounds, preparations=before)


def points(found: RunData) -> tuple[RoundPoint, ...]:
    return points_of(found, run_parts(found), {})


class TestPrice:
    def test_what_came_before_the_first_round_counts(self) -> None:
        found = points(run(result(1, 0.4), result(2, 0.6), before=(PREPARATION,)))
        cost = price(found, 0.5)
        assert (cost.rounds, cost.energy_j, cost.duration_s, cost.size_bytes) == (2, 23, 12, 207)
        assert (found[0].energy.value_j, found[0].duration_s, found[0].round_s) == (13.0, 7.0, 5.0)

    def test_a_target_that_is_never_reached_has_no_price(self) -> None:
        cost = price(points(run(result(1, 0.4), before=(PREPARATION,))), 0.9)
        assert (cost.rounds, cost.energy_j, cost.duration_s, cost.size_bytes) == (None,) * 4

    def test_an_unread_phase_makes_it_unknown_and_is_named(self) -> None:
        found = points(run(result(1, 0.4, joules=None), result(2, 0.6), result(3, 0.7)))
        cost = price(found, 0.5)
        assert (cost.rounds, cost.energy_j) == (2, None)
        assert cost.energy is not None
        assert cost.energy.known_j == 10.0
        assert cost.energy.missing == (Gap(device="a", round=1, phase="compute"),)
        assert cost.duration_s == pytest.approx(12.0)

    def test_a_gap_after_it_was_reached_costs_nothing(self) -> None:
        found = points(run(result(1, 0.6), result(2, 0.7, joules=None)))
        assert price(found, 0.5).energy_j == 10.0
        assert price(found, 0.7).energy_j is None

    def test_bytes_that_a_device_does_not_tell_are_unknown(self) -> None:
        found = points(run(result(1, 0.4), result(2, 0.6, transfers=())))
        cost = price(found, 0.5)
        assert cost.size_bytes is None
        assert cost.moved is not None
        assert (cost.moved.known_bytes, cost.moved.missing) == (100, (Gap(device="a", round=2),))

    def test_where_no_device_takes_part_energy_and_bytes_are_unknown(self) -> None:
        alone = [
            RoundResult(
                number=number,
                start_s=3.0 * (number - 1),
                duration_s=3.0,
                evaluation=Evaluation(accuracy=accuracy, loss=1.0, class_accuracy=(), samples=9),
                devices=(),
            )
            for number, accuracy in ((1, 0.4), (2, 0.7))
        ]
        cost = price(points(run(*alone)), 0.6)
        assert (cost.rounds, cost.duration_s) == (2, 6.0)
        assert cost.energy_j is cost.dynamic_j is cost.size_bytes is None

    @given(
        st.lists(st.tuples(st.floats(0, 1), st.none() | st.floats(0, 1e6)), max_size=12),
        st.floats(0, 1),
        st.floats(0, 1),
    )
    def test_it_is_that_of_the_first_round_that_is_good_enough(
        self, rounds: list[tuple[float, float | None]], one: float, other: float
    ) -> None:
        found = points(run(*(result(n, *each) for n, each in enumerate(rounds, 1))))
        costs = [price(found, target) for target in sorted((one, other))]
        for cost in costs:
            if cost.rounds is None:
                assert all(accuracy < cost.target for accuracy, _ in rounds)
                continue
            assert rounds[cost.rounds - 1][0] >= cost.target
            assert all(accuracy < cost.target for accuracy, _ in rounds[: cost.rounds - 1])
            paid = [joules for _, joules in rounds[: cost.rounds]]
            known = [joules for joules in paid if joules is not None]
            expected = math.fsum(known) if len(known) == len(paid) else None
            assert cost.energy_j == (None if expected is None else pytest.approx(expected))
        low, high = (cost.rounds for cost in costs)
        assert high is None or (low is not None and low <= high)


class TestPoints:
    def test_they_accumulate_from_the_preparation_on(self, run_dir: Path, build: Any) -> None:
        summary = summarise(read_run(run_dir))
        assert [p.number for p in summary.points] == [1, 2, 3]
        for count, point in enumerate(summary.points, 1):
            assert point.energy_so_far.value_j == pytest.approx(1.2 + 2 * count * build.measured_j)
            assert point.dynamic_so_far.value_j == pytest.approx(2 * count * build.dynamic_j)
            assert point.compared_so_far.predicted_j == pytest.approx(
                1.0 + 2 * count * build.predicted_j
            )
        assert summary.points[-1].energy_so_far == summary.energy
        assert summary.points[-1].dynamic_compared_so_far == summary.dynamic_compared


MEASURED = Energy(value_j=4.0, kind="measured", source="rapl", scope="cpu")


def drawn(energy: Energy | None) -> Generation:
    return Generation(requested=9, delivered=8, drawn=8, refused=0, seconds=1.0, energy=energy)


class TestTotal:
    def served(self, *energies: Energy | None) -> list[RoundResult]:
        return [
            replace(
                result(number, 0.3 * number),
                server=ServerRound(images=1, seconds=1.0, energy=energy, loss=0.1),
            )
            for number, energy in enumerate(energies, 1)
        ]

    def test_boards_generator_and_server_up_to_the_round(self) -> None:
        of_run = replace(run(*self.served(MEASURED, MEASURED)), generation=drawn(MEASURED))
        found = points(of_run)
        assert [p.total_so_far.value_j for p in found] == [10 + 4 + 4, 20 + 4 + 8]
        assert found[0].total_so_far.value is not None
        assert found[0].total_so_far.value.kind == "mixed"  # the boards' are emulated
        paid = price(found, 0.3)
        assert paid.total == found[0].total_so_far
        assert paid.server is not None
        assert (paid.server.value_j, paid.energy_j) == (4.0, 10.0)

    def test_a_part_without_a_meter_leaves_the_least_that_it_was(self) -> None:
        of_run = replace(run(*self.served(MEASURED, None)), generation=drawn(None))
        total = points(of_run)[-1].total_so_far
        assert (total.value_j, total.known_j) == (None, 20 + 4)
        assert {(gap.device, gap.round) for gap in total.missing} == {
            ("generator", 0),
            ("server", 2),
        }

    def test_devices_alone_are_all(self) -> None:
        (only,) = points(run(result(1, 0.5)))
        assert only.total_so_far == only.energy_so_far
        assert generator_sum(run(result(1, 0.5))) == Sum()

    def test_images_drawn_for_another_run_are_unknown(self) -> None:
        pooled = replace(drawn(MEASURED), drawn=0)
        assert generator_sum(replace(run(), generation=pooled)).missing


class TestValidation:
    def judged(self, *pairs: tuple[float, float | None]) -> tuple[RoundPoint, ...]:
        return points(
            run(
                *(
                    replace(
                        result(number, test),
                        validation=None
                        if other is None
                        else Evaluation(accuracy=other, loss=1.0, class_accuracy=(), samples=3),
                    )
                    for number, (test, other) in enumerate(pairs, 1)
                )
            )
        )

    def test_a_target_may_be_one_of_validation(self) -> None:
        found = self.judged((0.9, 0.2), (0.3, 0.6))
        assert price(found, 0.5).rounds == 1
        assert price(found, 0.5, "validation").rounds == 2
        assert [p.validation_accuracy for p in found] == [0.2, 0.6]

    def test_a_run_without_it_reaches_nothing(self) -> None:
        assert price(self.judged((0.9, None)), 0.5, "validation").rounds is None
