"""A stored run whose joules come from emulated boards, with the readings that they follow from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec.structs import replace
from stored_runs import ABOUT, PLAN, device_plan, device_round, profile, round_result

from fimi.edge_agent.boards import emulated_board
from fimi.edge_agent.metering import Metering
from fimi.energy.cost_model import OperatingPoint
from fimi.energy.ledger import PhaseRecord
from fimi.energy.ledger_parts import ReadingsPart
from fimi.energy.resting import above, enough_s, fit
from fimi.learning.training.classifier import FileCheck
from fimi.messaging.messages.facts import RoundSettled, Trial
from fimi.messaging.messages.orders import EmulatedDevice
from fimi.record.prediction import residuals
from fimi.record.results import Deployment, DeviceRound, Preparation
from fimi.record.store import RunStore

METERS = {"pi-chip": "chip", "pi-counter": "counter", "pi-plug": "plug", "pi-window": "averaging"}
ROUNDS = 4
_POINT = OperatingPoint(frequency_hz=1e9, bandwidth_hz=5e4, transmit_power_w=0.05, time_split=0.6)

Change = Callable[[str, int, tuple[ReadingsPart, ...]], tuple[ReadingsPart, ...]]


class Board:
    """One emulated board that works in rounds."""

    def __init__(self, device: str, index: int, *, keeps: bool) -> None:
        self.device = device
        emulated = EmulatedDevice(
            board="raspberry-pi-4",
            seed=3,
            emulation="model",
            profile_error=0.03,
            cycles_per_sample=4e6,
            meter=METERS[device],  # type: ignore[arg-type]
        )
        self.hardware = emulated_board(emulated, index)
        self.metering = Metering(device, self.hardware, keeps=keeps)
        self.hardware.apply(_POINT)

    def prepared(self) -> tuple[Preparation, tuple[ReadingsPart, ...]]:
        metering = self.metering
        metering.rest("before", lambda: False)
        with metering.phase("synthetic-download"):
            self.hardware.has_received(300_000)
        phases, evidence = metering.take(0), metering.evidence()
        return Preparation(
            device=self.device,
            phases=phases,
            evidence=(evidence,) if evidence is not None else (),
        ), metering.readings()

    def round(self, number: int) -> tuple[DeviceRound, tuple[ReadingsPart, ...]]:
        metering, hardware = self.metering, self.hardware
        metering.close()
        metering.ledger.regime = "1000 MHz"
        hardware.begin_round(number)
        with metering.phase("model-download"):
            hardware.has_received(150_000)
        with metering.phase("compute"):
            hardware.has_computed(300.0 + 20 * number)
        with metering.phase("upload"):
            hardware.has_sent(150_000)
        phases, evidence = metering.take(number), metering.evidence()
        entry = replace(
            device_round(self.device),
            phases=phases,
            evidence=(evidence,) if evidence is not None else (),
        )
        parts = metering.readings()
        hardware.begin_idle()
        metering.begin("idle")
        return entry, parts

    def trial(self) -> tuple[Trial, tuple[ReadingsPart, ...]]:
        """The model, tried between two rests."""
        ledger, hardware = self.metering.ledger, self.hardware
        self.metering.close()
        ledger.drop()
        ledger.take_evidence()
        with ledger.resting("before"):
            hardware.rest(enough_s(hardware.describe().meter), lambda: False)
        with ledger.phase("inference"):
            hardware.has_computed(6000.0)
        with ledger.resting("after"):
            hardware.rest(enough_s(hardware.describe().meter), lambda: False)
        metered, evidence = ledger.take()[-1], ledger.take_evidence()
        assert evidence is not None
        resting = fit(evidence.rests)
        assert resting is not None
        assert metered.energy is not None
        assert metered.resolved
        middle_s = metered.start_s + metered.duration_s / 2
        trial = Trial(
            variant="fp32",
            inferences=10,
            images=10,
            accuracy=0.9,
            latency_median_s=0.1,
            latency_p95_s=0.1,
            latency_kind="emulated",
            metered=metered,
            above=above(metered.energy, metered.duration_s, middle_s, resting),
        )
        return trial, self.metering.readings()

    def settled(self, number: int, end_s: float) -> tuple[RoundSettled, ...]:
        metering = self.metering
        self.hardware.has_waited_until(end_s)
        metering.close()
        again: dict[int, tuple[PhaseRecord, ...]] = metering.corrections()
        phases = (*again.pop(number, ()), *metering.take(number))
        found = [
            RoundSettled(
                run="run",
                device=self.device,
                round=number,
                phases=phases,
                evidence=metering.evidence(),
                readings=metering.readings(),
            )
        ]
        for before, own in again.items():
            found.append(RoundSettled(run="run", device=self.device, round=before, phases=own))
        return tuple(found)


def same(device: str, number: int, parts: tuple[ReadingsPart, ...]) -> tuple[ReadingsPart, ...]:
    """The parts as they came."""
    return parts


def write_metered_run(
    folder: Path,
    devices: Sequence[str] = tuple(METERS),
    *,
    keeps: bool = True,
    changed: Change = same,
    model: bytes = b"",
) -> Path:
    """A completed run, with a trial of ``model`` where that is given.

    ``changed`` is what becomes of the parts of a report on their way.
    """
    folder.mkdir(parents=True)
    store = RunStore(folder / "run.sqlite")
    store.describe(replace(ABOUT, run=folder.name, instance="00000000000000aa"))
    boards = [Board(device, index, keeps=keeps) for index, device in enumerate(devices)]
    plans = {
        board.device: replace(device_plan(board.device, index), point=_POINT)
        for index, board in enumerate(boards)
    }
    store.write_plan(PLAN)
    store.write_device_plans(plans)
    for board in boards:
        described = replace(profile(board.device), hardware=board.hardware.describe())
        store.write_profile(board.device, described)
        preparation, parts = board.prepared()
        store.write_preparation(preparation)
        store.write_readings(0, board.device, changed(board.device, 0, parts))
    for number in range(1, ROUNDS + 1):
        worked = [board.round(number) for board in boards]
        compared = [
            residual
            for entry, _ in worked
            for residual in residuals(number, entry, _POINT, profile(entry.device).board)
        ]
        result = round_result(number, [entry for entry, _ in worked], 0.5 + 0.1 * number)
        store.write_round(result, compared)
        for board, (_, parts) in zip(boards, worked, strict=True):
            store.write_readings(number, board.device, changed(board.device, number, parts))
        end_s = max(board.hardware.clock.now_s() for board in boards) + 2.0
        for board in boards:
            for settled in board.settled(number, end_s):
                store.credit(settled.round, board.device, settled=settled)
                parts = changed(board.device, number, settled.readings)
                store.write_readings(settled.round, board.device, parts)
    if model:
        (folder / "model.onnx").write_bytes(model)
        tried = {board.device: board.trial() for board in boards}
        check = FileCheck(
            variant="fp32",
            digest=hashlib.sha256(model).hexdigest(),
            size_bytes=len(model),
            accuracy=0.9,
            samples=40,
            agreement=1.0,
            difference=0.0,
            compared=1,
        )
        trials = {device: (trial,) for device, (trial, _) in tried.items()}
        store.write_deployment(Deployment(round=ROUNDS, files=(check,), trials=trials))
        for device, (_, parts) in tried.items():
            store.write_readings(ROUNDS, device, parts)
    store.end("completed", f"{ROUNDS} rounds", "2025-01-02T03:04:05+00:00")
    store.close()
    return folder
