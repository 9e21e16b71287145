"""A fleet of any size as a watcher sees it, without processes: events, telemetry, who is there.

For what must be tried with hundreds of devices at 1 Hz on one machine: the feed, the dashboard, and
its page. Boards are emulated, and so is every joule. Numbers come from a seed.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from typing import Literal

from fimi.energy.cost_model import Phase, PhaseCost
from fimi.energy.hardware import Observation
from fimi.energy.joules import Energy
from fimi.energy.ledger import PhaseRecord
from fimi.learning.training.trainer import Evaluation
from fimi.messaging.messages.basis import Goodput
from fimi.messaging.messages.peers import DeviceState, Telemetry
from fimi.messaging.presence import PeerView
from fimi.monitor.watcher import Watcher
from fimi.record.events import (
    DeviceJoined,
    DeviceReported,
    PlanInForce,
    RoundFinished,
    RoundStarted,
)
from fimi.record.results import DeviceRound, RoundResult

ROUND: dict[Phase, tuple[float, float]] = {
    "model-download": (0.4, 3.1),
    "compute": (3.2, 6.4),
    "upload": (0.9, 3.6),
    "idle": (1.1, 2.4),
}
"""Length of each phase of a round, s, and what a board draws in it, W."""
BOARDS = ("raspberry-pi-4", "raspberry-pi-5", "jetson-nano", "mini-pc")


class SyntheticFleet:
    """A contact and a source of events for one watcher.

    Args:
        watcher: gets the events.
        size: devices.
        seed: of all numbers.
    """

    def __init__(self, watcher: Watcher, size: int, seed: int = 1) -> None:
        self._watcher, self._draw = watcher, random.Random(seed)
        self.names = [f"device-{k:03d}" for k in range(1, size + 1)]
        self.peers: dict[str, PeerView] = {}
        self._said: dict[str, Telemetry] = {}
        self._number = 0
        self.rounds = 0
        watcher.connect(self)
        for k, name in enumerate(self.names):
            self.show(name)
            board = BOARDS[k % len(BOARDS)]
            watcher(
                DeviceJoined(device=name, board=board, kind="emulated", samples=90, backend="none")
            )
            watcher(PlanInForce(device=name, notes=(), error=""))
        self.tick()

    def telemetry(self, reader: str = "") -> Mapping[str, Telemetry]:
        """The latest of each device."""
        return self._said

    def broker_away_s(self) -> float | None:
        """The broker is always there."""
        return None

    def show(self, device: str, *, online: bool = True) -> None:
        """A device is heard of, or has gone."""
        status: Literal["online", "offline"] = "online" if online else "offline"
        state = DeviceState(peer=device, role="device", status=status, boot_id="b")
        now_s = time.monotonic()
        self.peers[device] = PeerView(state=state, last_heard_s=now_s, since_s=now_s)

    def tick(self) -> None:
        """Every device that is there says how it is."""
        self._number += 1
        phases = list(ROUND)
        for k, name in enumerate(self.names):
            if not self.peers[name].online:
                continue
            self.show(name)
            phase = phases[(self._number + k) % len(phases)]
            self._said[name] = Telemetry(
                device=name,
                boot_id="b",
                number=self._number,
                unix_s=time.time(),
                stage="training",
                power_w=ROUND[phase][1] * self._draw.uniform(0.9, 1.1),
                kind="emulated",
                source="emulated:meter",
                scope="board",
                temperature_c=self._draw.uniform(40.0, 70.0),
                phase=phase,
                frequency_hz=1.8e9,
            )

    def round(self) -> None:
        """A round begins and ends: all that are there report."""
        self.rounds += 1
        names = tuple(name for name in self.names if self.peers[name].online)
        self._watcher(RoundStarted(round=self.rounds, devices=names))
        for name in names:
            self._watcher(DeviceReported(round=self.rounds, device=name, error=""))
        accuracy = 1.0 - 0.9 / (1.0 + 0.3 * self.rounds)
        length_s = sum(seconds for seconds, _ in ROUND.values())
        self._watcher(
            RoundFinished(
                result=RoundResult(
                    number=self.rounds,
                    start_s=length_s * (self.rounds - 1),
                    duration_s=length_s,
                    evaluation=Evaluation(
                        accuracy=accuracy, loss=1.0 - accuracy, class_accuracy=(), samples=100
                    ),
                    devices=tuple(self._entry(name) for name in names),
                )
            )
        )

    def _entry(self, name: str) -> DeviceRound:
        metered, predicted, begins_s = [], [], 0.0
        for phase, (seconds, power_w) in ROUND.items():
            value_j = seconds * power_w * self._draw.uniform(0.95, 1.05)
            metered.append(
                PhaseRecord(
                    phase=phase,
                    start_s=begins_s,
                    duration_s=seconds,
                    energy=Energy(
                        value_j=value_j,
                        kind="emulated",
                        source="emulated:meter",
                        uncertainty_j=0.01 * value_j,
                    ),
                    sample_count=int(10 * seconds),
                    largest_gap_s=0.1,
                )
            )
            board_j = seconds * power_w
            predicted.append(
                PhaseCost(phase=phase, duration_s=seconds, dynamic_j=0.4 * board_j, board_j=board_j)
            )
            begins_s += seconds
        return DeviceRound(
            device=name,
            status="accepted",
            busy_s=4.5,
            frequency_hz=1.8e9,
            training_accuracy=self._draw.uniform(0.7, 1.0),
            phases=tuple(metered),
            predicted=tuple(predicted),
            transfers=(Goodput(phase="upload", size_bytes=40_000, duration_s=0.9),),
            observed=Observation(frequency_hz=1.8e9, frequency_source="emulated"),
        )


class Pulse:
    """Ticks a fleet once a second on a thread, with a round every few; a context manager.

    Args:
        fleet: the fleet.
        round_s: time between two rounds, s.
    """

    def __init__(self, fleet: SyntheticFleet, round_s: float = 6.0) -> None:
        self._fleet, self._round_s = fleet, round_s
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        due_s = round_s = time.monotonic()
        while not self._ends.wait(max(0.0, due_s - time.monotonic())):
            self._fleet.tick()
            if time.monotonic() >= round_s:
                self._fleet.round()
                round_s = time.monotonic() + self._round_s
            due_s = max(due_s + 1.0, time.monotonic())
