"""A run in numbers: what is summed, what is compared, and what is missing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fimi.energy.cost_model import PHASES, PhaseCost
from fimi.energy.joules import Energy
from fimi.record.phases import phase_seconds
from fimi.record.reader import open_store, read_run
from fimi.record.results import ServerRound
from fimi.record.summary import summarise
from fimi.record.sums import Gap

IN_A_RUN = tuple(phase for phase in PHASES if phase not in ("waiting", "inference"))
"""Nobody waits in these rounds; trying the finished model is told apart."""


class TestWholeRun:
    def test_board_energy_contains_preparation_and_idling(self, run_dir: Path, build: Any) -> None:
        summary = summarise(read_run(run_dir))
        assert summary.energy.value is not None
        assert summary.energy.value == summary.energy.known
        assert summary.energy.missing == ()
        assert summary.energy.value.value_j == pytest.approx(
            2 * build.preparation_j + 6 * build.measured_j
        )
        assert summary.energy.value.kind == "emulated"
        assert summary.compared.measured == summary.energy.value
        assert summary.compared.whole_predicted_j == pytest.approx(
            2 * build.predicted_preparation_j + 6 * build.predicted_j
        )
        assert summary.compared.error_percent == pytest.approx(100 * (184 - 172.2) / 172.2)
        assert summary.mape_percent == pytest.approx(100 * 2 / 28.5)

    def test_dynamic_energy_is_above_the_metered_idle_power(
        self, run_dir: Path, build: Any
    ) -> None:
        summary = summarise(read_run(run_dir))
        assert summary.idle_power_w == {"device-0": 2.0, "device-1": 2.0}  # declared: 2.5
        assert summary.dynamic.value_j == pytest.approx(6 * build.dynamic_j)
        assert summary.dynamic_compared.whole_predicted_j == pytest.approx(
            6 * build.predicted_dynamic_j
        )

    def test_one_meters_gain_does_not_average_out(self, run_dir: Path) -> None:
        summary = summarise(read_run(run_dir))
        first = summary.devices[0].energy.value
        assert first is not None
        assert first.uncertainty_j == pytest.approx(0.01 * first.value_j)
        assert summary.energy.value is not None
        assert summary.energy.value.uncertainty_j == pytest.approx(
            math.sqrt(2) * first.uncertainty_j
        )

    def test_server_is_in_no_other_sum(self, tmp_path: Path, build: Any) -> None:
        energies = [Energy(value_j=5.0, kind="measured", source="rapl", scope="cpu"), None]
        rounds = [
            msgspec.structs.replace(
                build.round_result(number, [build.device_round("a")], 0.5),
                server=ServerRound(images=1, seconds=2.0, energy=energy, loss=0.1),
            )
            for number, energy in enumerate(energies, 1)
        ]
        build.write(tmp_path, names="a", rounds=rounds)
        summary = summarise(read_run(tmp_path))
        assert summary.server.value is None
        assert summary.server.known == energies[0]
        assert summary.server.missing == (Gap(device="server", round=2),)
        assert summary.server_s == 4.0
        assert summary.energy.value_j == pytest.approx(0.6 + 2 * build.measured_j)


class TestDevices:
    def test_row(self, run_dir: Path, build: Any) -> None:
        device = summarise(read_run(run_dir)).devices[1]
        assert (device.device, device.board, device.backend) == (
            "device-1",
            "raspberry-pi-4",
            "onnxruntime 1.31",  # what its rounds were trained with, not what is installed
        )
        assert (device.frequency_planned_hz, device.frequency_achieved_hz) == (1.35e9, 1.4e9)
        assert (device.busy_s, device.predicted_busy_s) == (5.5, 5.5)
        assert device.compared.predicted_j == pytest.approx(0.5 + 3 * build.predicted_j)
        assert device.compared.error_percent == pytest.approx(100 * (92.0 - 86.1) / 86.1)
        assert (device.rounds, device.accepted) == (3, 3)

    def test_phases(self, run_dir: Path) -> None:
        summary = summarise(read_run(run_dir))
        assert [cell.phase for cell in summary.phases] == list(IN_A_RUN)
        compute = summary.phases[2]
        assert compute.energy.value_j == pytest.approx(120.0)
        assert compute.compared.error_percent == pytest.approx(10.0)
        assert compute.count == 6
        assert phase_seconds(read_run(run_dir), "device-0") == {
            "model-download": (0.5, 0.5),
            "compute": (4.0, 4.0),
            "upload": (1.0, 1.0),
            "idle": (2.0, 2.0),
        }


class TestMissing:
    def test_one_unread_phase_makes_every_sum_unknown_that_it_belongs_to(
        self, tmp_path: Path, build: Any
    ) -> None:
        rounds = [
            build.round_result(1, [build.device_round(n) for n in "ab"], 0.5),
            build.round_result(
                2, [build.device_round("a", unread={"upload"}), build.device_round("b")], 0.6
            ),
        ]
        build.write(tmp_path, names="ab", rounds=rounds)
        summary = summarise(read_run(tmp_path))
        gap = Gap(device="a", round=2, phase="upload")
        for total in (summary.energy, summary.dynamic, summary.devices[0].energy):
            assert (total.value, total.missing) == (None, (gap,))
        assert summary.devices[1].energy.value is not None
        known_j = 1.2 + 4 * build.measured_j - 3.0  # all but 3 J of an upload
        assert summary.energy.known_j == pytest.approx(known_j)
        assert summary.dynamic.known_j == pytest.approx(4 * build.dynamic_j - 1.0)
        # Predictions are compared over the same parts.
        assert summary.compared.measured is not None
        assert summary.compared.measured.value_j == pytest.approx(known_j)
        assert summary.compared.predicted_j == pytest.approx(1.0 + 4 * build.predicted_j - 3.0)
        assert summary.compared.whole_predicted_j is None
        assert summary.compared.missing == (gap,)
        phases = {cell.phase: cell.energy for cell in summary.phases}
        assert phases["upload"].value is None
        assert phases["upload"].known_j == pytest.approx(9.0)
        assert phases["compute"].value_j == pytest.approx(80.0)

    def test_joules_without_a_prediction_are_not_compared(self, tmp_path: Path, build: Any) -> None:
        """48 J were predicted for 50 J of compute: −4 %. 14.4 J of idling have no prediction.

        With them it would be 48 / 64.4 − 1 = −25.5 %.
        """
        entry = build.device_round(
            "a",
            phases=(build.record("compute", 4.0, 50.0), build.record("idle", 2.0, 14.4)),
            predicted=(PhaseCost(phase="compute", duration_s=4.0, dynamic_j=40.0, board_j=48.0),),
        )
        build.write(tmp_path, names=(), rounds=[build.round_result(1, [entry], 0.5)])
        summary = summarise(read_run(tmp_path))
        assert summary.energy.value_j == pytest.approx(64.4)
        assert summary.compared.measured is not None
        assert (summary.compared.measured.value_j, summary.compared.predicted_j) == (50.0, 48.0)
        for error in (
            summary.compared.error_percent,
            summary.devices[0].compared.error_percent,
            summary.points[0].compared.error_percent,
        ):
            assert error == pytest.approx(-4.0)
        assert summary.mape_percent == summary.points[0].error_percent == pytest.approx(4.0)
        assert summary.compared.missing == (Gap(device="a", round=1, phase="idle"),)

    def test_a_device_that_told_nothing_is_missing_as_a_whole(
        self, tmp_path: Path, build: Any
    ) -> None:
        gone = build.device_round("b", status="missing", reason="b went offline", phases=())
        build.write(
            tmp_path,
            names="ab",
            rounds=[build.round_result(1, [build.device_round("a"), gone], 0.5)],
        )
        summary = summarise(read_run(tmp_path))
        assert summary.energy.missing == summary.dynamic.missing == (Gap(device="b", round=1),)
        assert summary.devices[1].problems == ((1, "missing", "b went offline"),)
        assert summary.devices[1].accepted == 0
        assert all(
            cell.energy.missing == (Gap(device="b", round=1),)
            for cell in summary.phases
            if cell.phase != "synthetic-download"
        )

    def test_a_resting_device_that_told_nothing_did_not_compute(
        self, tmp_path: Path, build: Any
    ) -> None:
        rests = build.device_round("b", status="resting", phases=(), predicted=())
        build.write(
            tmp_path,
            names="ab",
            rounds=[build.round_result(1, [build.device_round("a"), rests], 0.5)],
        )
        summary = summarise(read_run(tmp_path))
        assert summary.energy.missing == (Gap(device="b", round=1),)
        assert summary.dynamic.value_j == pytest.approx(build.dynamic_j)

    @pytest.mark.parametrize(
        ("changes", "lacking"),
        [
            ({"without": "compute"}, "compute"),
            ({"without": "upload", "status": "late"}, "upload"),
            ({"without": "idle"}, "idle"),
            ({"without": "idle", "busy_s": 7.5}, None),  # busy to the end of the round
            ({"without": "idle", "busy_s": 9.0, "status": "late"}, None),
            ({"without": "upload", "status": "failed"}, None),  # before it came to that
        ],
    )
    def test_a_phase_that_was_predicted_and_not_told_is_missing(
        self, tmp_path: Path, build: Any, changes: dict[str, Any], lacking: Any
    ) -> None:
        entry = build.device_round("a")
        kept = tuple(p for p in entry.phases if p.phase != changes["without"])
        changed = {key: value for key, value in changes.items() if key != "without"}
        entry = build.device_round("a", phases=kept, **changed)
        build.write(tmp_path, names="a", rounds=[build.round_result(1, [entry], 0.5)])
        summary = summarise(read_run(tmp_path))
        wanted = (Gap(device="a", round=1, phase=lacking),) if lacking else ()
        assert summary.energy.missing == wanted
        assert (summary.energy.value is None) == bool(lacking)
        with open_store(tmp_path) as (_, db):
            (found,) = db.execute("SELECT energy_j IS NULL, unmetered FROM device_rounds")
            fleet = db.execute("SELECT energy_j, known_j FROM rounds").fetchone()
        assert found == (bool(lacking), len(wanted))
        known_j = sum(p.energy.value_j for p in kept if p.energy)
        assert fleet == (None if lacking else pytest.approx(known_j), pytest.approx(known_j))

    def test_unknown_idle_power_is_said(self, tmp_path: Path, build: Any) -> None:
        entry = build.device_round("x")
        entry = build.device_round("x", phases=entry.phases[:-1], busy_s=7.5)  # never idled
        build.write(tmp_path, names=(), rounds=[build.round_result(1, [entry], 0.5)])
        summary = summarise(read_run(tmp_path))
        assert summary.dynamic.value is summary.dynamic.known is None
        assert summary.energy.value is not None
        assert any("idle power of x" in warning for warning in summary.warnings)

    def test_budgets_that_were_not_kept_are_named(self, tmp_path: Path, build: Any) -> None:
        entries = [build.device_round("x"), build.device_round("y")]
        build.write(tmp_path, names=(), rounds=[build.round_result(1, entries, 0.5)])
        run = read_run(tmp_path)
        took = {row.device: row.energy.known_j for row in summarise(run).devices}
        assert took["x"]

        def overspent(**budgets: float) -> list[tuple[str, float | None]]:
            given = {f"plan.{key}": value for key, value in budgets.items()}
            info = msgspec.structs.replace(run.info, config={**run.info.config, **given})
            found = summarise(msgspec.structs.replace(run, info=info)).overspent
            return [(each.device, each.taken.value_j) for each in found]

        assert overspent() == []
        assert overspent(device_budget_j=0.0, fleet_budget_j=0.0) == []
        assert overspent(device_budget_j=took["x"], fleet_budget_j=2 * took["x"]) == []
        less_j = 0.99 * took["x"]
        assert overspent(device_budget_j=less_j) == [("x", took["x"]), ("y", took["y"])]
        assert overspent(device_budget_j=took["x"], fleet_budget_j=less_j) == [
            ("", pytest.approx(took["x"] + took["y"]))
        ]

    def test_what_was_taken_of_budgets(self, tmp_path: Path, build: Any) -> None:
        entries = [build.device_round("x", unread={"idle"}), build.device_round("y")]
        build.write(tmp_path, names=(), rounds=[build.round_result(1, entries, 0.5)])
        run = read_run(tmp_path)
        x_j, y_j = (row.energy.known_j for row in summarise(run).devices)
        assert x_j is not None
        assert y_j is not None
        assert x_j < y_j

        def budgets(**given: float) -> list[tuple[str, object, bool, bool]]:
            config = {**run.info.config, **{f"plan.{key}": each for key, each in given.items()}}
            info = msgspec.structs.replace(run.info, config=config)
            found = summarise(msgspec.structs.replace(run, info=info)).budgets
            return [(each.device, each.taken.value_j, each.is_kept, each.whole) for each in found]

        assert budgets() == budgets(device_budget_j=0.0, fleet_budget_j=0.0) == []
        assert budgets(device_budget_j=y_j, fleet_budget_j=y_j) == [
            ("", pytest.approx(x_j + y_j), False, False),
            ("x", x_j, True, False),  # some of its joules are not known
            ("y", y_j, True, True),
        ]

    def test_nothing_at_all(self, tmp_path: Path, build: Any) -> None:
        build.write(tmp_path, names=(), rounds=[])
        summary = summarise(read_run(tmp_path))
        assert summary.energy.value is summary.energy.known is None
        assert summary.dynamic.known is None
        assert summary.points == summary.devices == summary.phases == ()
        assert summary.mape_percent is None
        assert summary.compared.error_percent is None
