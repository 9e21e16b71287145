"""Run stores with numbers that can be checked by head, written by the real run store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fimi.energy.cost_model import (
    BoardModel,
    ComputeModel,
    LinkModel,
    OperatingPoint,
    Phase,
    PhaseCost,
)
from fimi.energy.hardware import HardwareDescription, Observation
from fimi.energy.joules import Energy
from fimi.energy.ledger import PhaseRecord
from fimi.energy.meters import MeterDescription
from fimi.energy.meters.sampler import MonitorCost
from fimi.energy.observe.link import LinkState
from fimi.learning.training.trainer import Evaluation
from fimi.messaging.messages.basis import Goodput
from fimi.messaging.messages.facts import Profile
from fimi.messaging.messages.orders import DevicePlan
from fimi.record.record import DatasetInfo, RunInfo
from fimi.record.results import DeviceRound, Preparation, RoundResult
from fimi.record.store import RunStore

# phase: seconds, measured J, predicted J, predicted dynamic J
ROUND: dict[Phase, tuple[float, float, float, float]] = {
    "model-download": (0.5, 1.5, 1.5, 0.5),
    "compute": (4.0, 20.0, 22.0, 14.0),
    "upload": (1.0, 3.0, 3.0, 1.0),
    "idle": (2.0, 4.0, 4.0, 0.0),
}
MEASURED_J, PREDICTED_J = 28.5, 30.5
DYNAMIC_J, PREDICTED_DYNAMIC_J = 13.0, 15.0  # idle power is 2 W
PREPARATION_J, PREDICTED_PREPARATION_J = 0.6, 0.5


def record(
    phase: Phase, duration_s: float, value_j: float | None, source: str = "meter"
) -> PhaseRecord:
    energy = None
    if value_j is not None:
        energy = Energy(
            value_j=value_j, kind="emulated", source=source, uncertainty_j=0.01 * abs(value_j)
        )
    return PhaseRecord(
        phase=phase,
        start_s=0.0,
        duration_s=duration_s,
        energy=energy,
        sample_count=3,
        largest_gap_s=0.1,
    )


def costs() -> tuple[PhaseCost, ...]:
    return tuple(
        PhaseCost(phase=phase, duration_s=seconds, dynamic_j=dynamic_j, board_j=predicted_j)
        for phase, (seconds, _, predicted_j, dynamic_j) in ROUND.items()
    )


def device_round(name: str, unread: Collection[str] = (), **changes: Any) -> DeviceRound:
    whole = DeviceRound(
        device=name,
        status="accepted",
        busy_s=5.5,
        frequency_hz=1.4e9,
        local_samples=10,
        synthetic_samples=6,
        training_loss=0.3,
        training_accuracy=0.9,
        backend="onnxruntime 1.31",
        phases=tuple(
            record(phase, seconds, None if phase in unread else value_j)
            for phase, (seconds, value_j, _, _) in ROUND.items()
        ),
        predicted=costs(),
    )
    return msgspec.structs.replace(whole, **changes)


def talkative(name: str, **changes: Any) -> DeviceRound:
    """A device with a meter for its processor that tells everything it can observe."""
    whole = device_round(name)
    cpu = Energy(value_j=8.0, kind="emulated", source="cpu", scope="cpu", uncertainty_j=0.1)
    seen = Observation(
        frequency_hz=1.3e9,
        frequency_source="cycles",
        cap_hz=1.4e9,
        throttled={"x86-core": 2, "x86-package": 0},
        link=LinkState(interface="wlan0", rate_bps=65e6, signal_dbm=-61.0),
        rate_limit_bps=8e5,
        monitor=MonitorCost(cpu_s=0.015, wall_s=7.5, looks=75, failed=0),
        monitor_energy=Energy(value_j=0.05, kind="modelled", source="profile", scope="cpu"),
    )
    return msgspec.structs.replace(
        whole,
        phases=tuple(
            msgspec.structs.replace(p, cpu=cpu) if p.phase == "compute" else p for p in whole.phases
        ),
        transfers=(
            Goodput(phase="model-download", size_bytes=100_000, duration_s=0.5),
            Goodput(phase="upload", size_bytes=100_000, duration_s=1.25),
        ),
        observed=msgspec.structs.replace(seen, **changes),
        trained_at=(1.7e9, 1.7e9 + 0.25),
    )


def round_result(number: int, devices: Sequence[DeviceRound], accuracy: float) -> RoundResult:
    return RoundResult(
        number=number,
        start_s=7.5 * (number - 1),
        duration_s=7.5,
        evaluation=Evaluation(
            accuracy=accuracy, loss=1 - accuracy, class_accuracy=(accuracy, None), samples=40
        ),
        devices=tuple(devices),
    )


def profile(name: str, kind: Any = "emulated") -> Profile:
    return Profile(
        device=name,
        boot_id="boot",
        dataset="digits",
        label_counts=(7, 3),
        hardware=HardwareDescription(
            board="raspberry-pi-4",
            kind=kind,
            meter=MeterDescription(source="meter", kind="emulated", scope="board", rate_hz=10),
        ),
        board=BoardModel(
            compute=ComputeModel(
                cycles_per_sample=1e6,
                capacitance_w_per_hz3=1e-28,
                frequency_min_hz=6e8,
                frequency_max_hz=1.8e9,
            ),
            link=LinkModel(
                channel_gain=1e-10,
                noise_density_w_per_hz=4e-21,
                transmit_power_max_w=0.1,
                downlink_rate_bps=1e7,
            ),
            idle_power_w=2.5,
        ),
        backend="torch 2.6",
    )


def device_plan(name: str, index: int) -> DevicePlan:
    return DevicePlan(
        run="run",
        device=name,
        device_index=index,
        synthetic_counts=(2, 4),
        batch=None,
        point=OperatingPoint(
            frequency_hz=1.35e9, bandwidth_hz=5e4, transmit_power_w=0.05, time_split=0.8
        ),
        predicted=costs(),
    )


PLAN: dict[str, Any] = {
    "status": "optimal",
    "search": "cross-entropy",
    "objective": "board",
    "board": {"energy_j": 10.1, "bound_j": 10.0, "a_field_of_the_future": 1},
    "dynamic": {"energy_j": 4.0, "bound_j": 3.2},
    "round_s": 7.5,
    "preparation_j": 0.5,
    "search_energy_j": 10.001,
    "search_gap_percent": 0.01,
    "synthetic_value": 0.5,
    "history": [{"number": 1, "best": None}, {"number": 2, "best": 10.5}],
    "a_field_of_the_future": [1, 2],
}

ABOUT = RunInfo(
    run="a-run",
    strategy="fimi",
    strategy_title="FIMI",
    fills_devices=True,
    seed=3,
    started_at="2025-01-01T00:00:00",
    config={"rounds.count": 3, "plan.deadline_s": 12.0, "run.name": "a-run"},
    origins={"rounds.count": "--rounds", "plan.deadline_s": "default"},
    versions={"torch": "2.6"},
    broker="amqtt 0.11",
    dataset=DatasetInfo(name="digits", alpha=0.1, test=40, class_names=("zero", "one")),
)


def really(entry: Any) -> Any:
    """A device-round or preparation whose joules a plug has measured."""
    return msgspec.structs.replace(
        entry,
        phases=tuple(
            msgspec.structs.replace(
                p, energy=msgspec.structs.replace(p.energy, kind="measured", scope="wall")
            )
            for p in entry.phases
        ),
    )


MakeRun = Callable[..., Path]


def write_run(
    folder: Path,
    *,
    names: Sequence[str] = ("device-0", "device-1"),
    rounds: Sequence[RoundResult] | None = None,
    about: dict[str, Any] | None = None,
    close: bool = True,
    physical: Collection[str] = (),
) -> RunStore:
    """A run of three rounds in ``folder``; accuracies 0.5, 0.8, 0.7 unless ``rounds`` says so.

    Devices in ``physical`` are boards on a plug, the others emulated.
    """
    folder.mkdir(parents=True, exist_ok=True)
    store = RunStore(folder / "run.sqlite")
    store.describe(
        ABOUT if about is None else msgspec.convert({"run": folder.name} | about, RunInfo)
    )
    if rounds is None:
        rounds = [
            round_result(
                number,
                [
                    really(device_round(name)) if name in physical else device_round(name)
                    for name in sorted(names)
                ],
                accuracy,
            )
            for number, accuracy in enumerate((0.5, 0.8, 0.7), 1)
        ]
    for name in names:
        store.write_profile(name, profile(name, "physical" if name in physical else "emulated"))
    store.write_plan(PLAN)
    store.write_device_plans({name: device_plan(name, i) for i, name in enumerate(names)})
    for name in names:
        preparation = Preparation(
            device=name,
            phases=(record("synthetic-download", 0.25, PREPARATION_J),),
            predicted=(
                PhaseCost(
                    phase="synthetic-download",
                    duration_s=0.25,
                    dynamic_j=0.1,
                    board_j=PREDICTED_PREPARATION_J,
                ),
            ),
        )
        store.write_preparation(really(preparation) if name in physical else preparation)
    for result in rounds:
        store.write_round(result)
    if close:
        if about is None:
            store.end("completed", "3 rounds")
            store.spend(wall_s=12.5)
        store.close()
    return store


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Two devices, three rounds, everything metered."""
    write_run(tmp_path / "a-run")
    return tmp_path / "a-run"


class Builder:
    """What a test module with its own rounds needs; modules here are not importable by name."""

    write = staticmethod(write_run)
    record = staticmethod(record)
    costs = staticmethod(costs)
    device_round = staticmethod(device_round)
    talkative = staticmethod(talkative)
    round_result = staticmethod(round_result)
    measured_j, predicted_j = MEASURED_J, PREDICTED_J
    dynamic_j, predicted_dynamic_j = DYNAMIC_J, PREDICTED_DYNAMIC_J
    preparation_j, predicted_preparation_j = PREPARATION_J, PREDICTED_PREPARATION_J


@pytest.fixture(scope="session")
def build() -> type[Builder]:
    return Builder
