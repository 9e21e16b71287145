"""A stored run whose joules come from emulated boards, with the readings that they follow from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec.structs import replace
from stored_runs import ABOUT, device_round, profile, round_result

from fimi.edge_agent.boards import emulated_board
from fimi.edge_agent.metering import Metering
from fimi.energy.cost_model import OperatingPoint
from fimi.energy.ledger import PhaseRecord
from fimi.energy.ledger_parts import ReadingsPart
from fimi.messaging.messages.facts import RoundSettled
from fimi.messaging.messages.orders import EmulatedDevice
from fimi.record.results import DeviceRound, Preparation
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
) -> Path:
    """A completed run; ``changed`` is what becomes of the parts of a report on their way."""
    folder.mkdir(parents=True)
    store = RunStore(folder / "run.sqlite")
    store.describe(replace(ABOUT, run=folder.name, instance="00000000000000aa"))
    boards = [Board(device, index, keeps=keeps) for index, device in enumerate(devices)]
    for board in boards:
        described = replace(profile(board.device), hardware=board.hardware.describe())
        store.write_profile(board.device, described)
        preparation, parts = board.prepared()
        store.write_preparation(preparation)
        store.write_readings(0, board.device, changed(board.device, 0, parts))
    for number in range(1, ROUNDS + 1):
        worked = [board.round(number) for board in boards]
        store.write_round(round_result(number, [entry for entry, _ in worked], 0.5 + 0.1 * number))
        for board, (_, parts) in zip(boards, worked, strict=True):
            store.write_readings(number, board.device, changed(board.device, number, parts))
        end_s = max(board.hardware.clock.now_s() for board in boards) + 2.0
        for board in boards:
            for settled in board.settled(number, end_s):
                store.credit(settled.round, board.device, settled=settled)
                parts = changed(board.device, number, settled.readings)
                store.write_readings(settled.round, board.device, parts)
    store.end("completed", f"{ROUNDS} rounds", "2025-01-02T03:04:05+00:00")
    store.close()
    return folder
