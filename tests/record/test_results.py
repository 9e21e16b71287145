from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import record

from fimi.energy.cost_model import PhaseCost
from fimi.energy.ledger import PhaseRecord
from fimi.learning.training.trainer import Evaluation
from fimi.record import results
from fimi.record.results import DeviceRound, Preparation, RoundResult


def cost(phase: str, board_j: float, dynamic_j: float = 0.0) -> PhaseCost:
    return PhaseCost(phase=phase, duration_s=1.0, dynamic_j=dynamic_j, board_j=board_j)  # type: ignore[arg-type]


def device(name: str, *phases: PhaseRecord, predicted: tuple[PhaseCost, ...] = ()) -> DeviceRound:
    return DeviceRound(device=name, status="accepted", phases=phases, predicted=predicted)


def a_round(*devices: DeviceRound, number: int = 1, accuracy: float = 0.5) -> RoundResult:
    return RoundResult(
        number=number,
        start_s=0.0,
        duration_s=10.0,
        evaluation=Evaluation(accuracy=accuracy, loss=1.0, class_accuracy=(), samples=10),
        devices=devices,
    )


joules = st.floats(0, 1e4)


class TestBoardEnergy:
    @given(st.lists(st.lists(joules, min_size=1, max_size=4), min_size=1, max_size=4))
    def test_it_is_the_sum_of_every_phase_of_every_device(self, values: list[list[float]]) -> None:
        devices = [
            device(f"d{i}", *(record("idle", j) for j in row)) for i, row in enumerate(values)
        ]
        energy = a_round(*devices).energy
        assert energy is not None
        assert energy.value_j == pytest.approx(sum(map(sum, values)))

    def test_preparation_counts(self) -> None:
        before = Preparation(
            device="a",
            phases=(record("synthetic-download", 5.0),),
            predicted=(cost("synthetic-download", 4.0),),
        )
        rounds = [a_round(device("a", record("compute", 2.0), predicted=(cost("compute", 3.0),)))]
        energy = results.board_energy([before], rounds)
        assert energy is not None
        assert energy.value_j == 7.0
        assert results.predicted_energy_j([before], rounds) == 7.0

    def test_what_could_not_be_read_is_named_and_its_prediction_left_out(self) -> None:
        blind = device(
            "b", record("compute", 2.0), record("upload", None), predicted=(cost("compute", 9.0),)
        )
        seeing = device("a", record("compute", 2.0), predicted=(cost("compute", 3.0),))
        result = a_round(seeing, blind, DeviceRound(device="c", status="missing"))
        assert result.unmetered == ("b", "c")
        assert result.energy is not None
        assert result.energy.value_j == 2.0
        assert result.predicted_j == 3.0

    def test_nothing_read_is_nothing_and_not_zero(self) -> None:
        assert a_round(DeviceRound(device="a", status="missing")).energy is None
        assert results.board_energy([], []) is None

    def test_uncertainties_add_within_a_device_and_in_quadrature_between_devices(self) -> None:
        one = device("a", record("compute"), record("upload"), record("idle"))
        energy = one.energy
        assert energy is not None
        assert energy.uncertainty_j == pytest.approx(0.3)
        both = a_round(one, device("b", record("compute"), record("upload"), record("idle"))).energy
        assert both is not None
        assert both.uncertainty_j == pytest.approx(0.3 * 2**0.5)
        run = results.board_energy([], [a_round(one), a_round(one)])
        assert run is not None
        assert run.uncertainty_j == pytest.approx(0.6)  # the same meter in both rounds


class TestDynamicEnergy:
    def test_it_is_compute_and_upload_above_the_devices_own_idle_power(self) -> None:
        phases = (
            record("model-download", 50.0),
            record("compute", 8.0, duration_s=2.0),
            record("upload", 4.5, duration_s=1.0),
            record("idle", 6.0, duration_s=2.0),
        )
        rounds = [a_round(device("a", *phases))]
        idle_w = results.idle_powers_w(rounds, {"a": 99.0, "b": 1.5})
        assert idle_w == {"a": 3.0, "b": 1.5}  # metered where it idled, declared where it did not
        assert results.dynamic_energy_j(rounds, idle_w) == pytest.approx(8 - 3 * 2 + 4.5 - 3)

    def test_measured_and_predicted_leave_out_the_same_devices(self) -> None:
        costs = (cost("compute", 5.0, 2.0), cost("upload", 3.0, 1.0), cost("idle", 9.0, 0.0))
        good = device("a", record("compute", 4.0), record("upload", 3.0), predicted=costs)
        blind = device("b", record("compute", 4.0), record("upload", None), predicted=costs)
        rounds = [a_round(good, blind)]
        assert results.predicted_dynamic_j(rounds) == 3.0
        assert results.dynamic_energy_j(rounds, {"a": 1.0, "b": 1.0}) == 5.0
