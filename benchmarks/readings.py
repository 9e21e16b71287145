"""What keeping, packing, storing and recounting the readings of meters takes.

    python benchmarks/readings.py [--rounds 50]

For each family of emulated meters: bytes and CPU time of a device's round with its readings, over
the same without. For a physical board whose meter is read ten times a second: bytes of an hour. CPU
times are those of this process, so that other programs do not count.
"""

from __future__ import annotations

import argparse
import time
from typing import get_args

import numpy as np

from fimi.edge_agent.boards import emulated_board
from fimi.edge_agent.metering import Metering
from fimi.energy.clock import VirtualClock
from fimi.energy.cost_model import OperatingPoint
from fimi.energy.emulation.meter_families import MeterFamily
from fimi.energy.ledger import Ledger
from fimi.energy.ledger_log import LedgerLog
from fimi.energy.ledger_opening import unpacked
from fimi.energy.ledger_parts import ReadingsPart
from fimi.energy.meters import MeterDescription, Reading
from fimi.energy.replay import replay
from fimi.messaging.messages.orders import EmulatedDevice
from fimi.record.readings_rows import stored

POINT = OperatingPoint(frequency_hz=1e9, bandwidth_hz=5e4, transmit_power_w=0.05, time_split=0.6)


def rounds_of(family: MeterFamily, rounds: int, *, keeps: bool) -> tuple[float, list[ReadingsPart]]:
    """CPU seconds of metering that many rounds on an emulated board, and what it reports."""
    board = emulated_board(
        EmulatedDevice(
            board="raspberry-pi-4",
            seed=1,
            emulation="model",
            profile_error=0.03,
            cycles_per_sample=4e6,
            meter=family,
        ),
        0,
    )
    metering = Metering("device", board, keeps=keeps)
    board.apply(POINT)
    parts: list[ReadingsPart] = []
    began_s = time.process_time()
    for number in range(1, rounds + 1):
        board.begin_round(number)
        with metering.phase("model-download"):
            board.has_received(150_000)
        with metering.phase("compute"):
            board.has_computed(700.0)
        with metering.phase("upload"):
            board.has_sent(150_000)
        metering.take(number)
        metering.evidence()
        parts += metering.readings()
        board.begin_idle()
        metering.begin("idle")
        board.has_waited_until(board.clock.now_s() + 2.0)
        metering.close()
        metering.take(number)
        parts += metering.readings()
    return time.process_time() - began_s, parts


class TenTimesASecond:
    """A recorder as of a board: ten readings a second at random places, in steps of 1 mW."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._random = np.random.default_rng(1)
        self._last: list[Reading] = []
        self._until_s = clock.now_s()

    def describe(self) -> MeterDescription:
        """The meter."""
        return MeterDescription(
            source="ina", kind="measured", scope="board", rate_hz=10.0, resolution_w=0.001
        )

    def mark(self) -> list[Reading]:
        """Readings since the last mark."""
        now_s = self._clock.now_s()
        count = int((now_s - self._until_s) * 10.0)
        at_s = self._until_s + (np.arange(count) + self._random.random(count)) / 10.0
        at_s = np.append(np.rint(at_s * 1e9) / 1e9, now_s)
        power_w = np.rint(self._random.normal(5.0, 0.2, len(at_s)) / 0.001) * 0.001
        found = [
            Reading(time_s=t, power_w=p)
            for t, p in zip(at_s.tolist(), power_w.tolist(), strict=True)
        ]
        readings, self._last, self._until_s = [*self._last, *found], found[-1:], now_s
        return readings


def main() -> None:
    """Print a line for each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=50)
    rounds = parser.parse_args().rounds
    for family in get_args(MeterFamily):
        rounds_of(family, 3, keeps=True)
        without_s, _ = rounds_of(family, rounds, keeps=False)
        with_s, parts = rounds_of(family, rounds, keeps=True)
        began_s = time.process_time()
        for part in parts:
            stored(part)
        stored_s = time.process_time() - began_s
        began_s = time.process_time()
        replay(map(unpacked, parts))
        again_s = time.process_time() - began_s
        size = sum(len(part.body or b"") for part in parts)
        print(
            f"{family:10s} a device's round: {sum(p.count for p in parts) / rounds:5.0f} readings, "
            f"{size / rounds:6.0f} B; metering {1e3 * without_s / rounds:.2f} ms, with readings "
            f"{1e3 * (with_s - without_s) / rounds:+.2f} ms, checking them on arrival "
            f"{1e3 * stored_s / rounds:.2f} ms, recounting {1e3 * again_s / rounds:.2f} ms"
        )
    clock = VirtualClock(1000.0)
    log = LedgerLog()
    ledger = Ledger(clock, TenTimesASecond(clock), log)
    size = count = 0
    for _ in range(12):
        with ledger.phase("compute"):
            clock.advance(300.0)
        ledger.take(1)
        for part in log.part():
            size, count = size + len(part.body or b""), count + part.count
    print(f"ten a second for an hour, parts of 5 min: {count} readings, {size} B")


if __name__ == "__main__":
    main()
