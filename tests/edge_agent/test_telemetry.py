"""An agent tells at a steady rate how its board is, in a run and outside of one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pytest
from bench import DEVICE, Bench

from fimi.edge_agent.line import Line
from fimi.edge_agent.telemetry import TelemetrySender
from fimi.energy.clock import VirtualClock
from fimi.energy.hardware import Glance, HardwareDescription
from fimi.energy.ledger import Ledger
from fimi.energy.meters import DeclaredPower, MeterDescription


def until(true: Callable[[], object]) -> None:
    limit_s = time.monotonic() + 30.0
    while not true():
        assert time.monotonic() < limit_s
        time.sleep(0.02)


def test_in_a_run_and_outside_of_one(a_broker, fleet_name):
    with Bench(a_broker, fleet_name, joins=False, telemetry_s=0.1) as bench:
        latest = bench.desk.peer.telemetry
        until(lambda: DEVICE in latest())
        before = latest()[DEVICE]
        assert (before.run, before.stage, before.power_w, before.kind) == ("", "idle", None, None)
        bench.join()
        until(lambda: latest()[DEVICE].kind is not None)
        seen = latest()[DEVICE]
        assert seen.kind == "emulated" and seen.source.startswith("emulated:")
        assert seen.number > before.number and seen.boot_id == before.boot_id
        assert seen.frequency_hz and seen.frequency_hz > 0.0 == before.energy_j


def test_joules_of_phases_add_up_over_runs(a_broker, fleet_name):
    with Bench(a_broker, fleet_name, joins=False) as bench:
        ledgers: list[Ledger | None] = [None]
        line = Line(bench.device.peer, bench.device.stop)
        sender = TelemetrySender(bench.device.peer, 0.0, line, lambda: None, lambda: ledgers[-1])
        assert (sender.telemetry().phase, sender.telemetry().energy_j) == (None, 0.0)
        expected_j = 0.0
        for watts, seconds in ((2.0, 3.0), (5.0, 1.0)):  # a run each
            clock = VirtualClock()
            ledgers.append(Ledger(clock, DeclaredPower(watts, clock)))
            with ledgers[-1].phase("compute"):
                clock.advance(seconds)
                assert sender.telemetry().phase == "compute"
            expected_j += watts * seconds
            assert sender.telemetry().energy_j == pytest.approx(expected_j)
            ledgers.append(None)
            assert sender.telemetry().energy_j == pytest.approx(expected_j)


def test_without_an_interval_there_is_none(a_broker, fleet_name):
    with Bench(a_broker, fleet_name) as bench:
        assert bench.desk.peer.counters.telemetry == 0


class Board:
    """A board whose meter has gone mad."""

    glance = staticmethod(lambda: Glance(power_w=math.nan, temperature_c=1e9))

    @staticmethod
    def describe() -> HardwareDescription:
        meter = MeterDescription(source="plug" * 100, kind="measured", scope="wall", rate_hz=1.0)
        return HardwareDescription(board="mad", kind="physical", meter=meter)


def test_what_is_no_number_is_unknown(a_broker, fleet_name):
    with Bench(a_broker, fleet_name, joins=False) as bench:
        peer = bench.device.peer
        line = Line(peer, bench.device.stop)
        sender = TelemetrySender(peer, 0.0, line, lambda: Board(), lambda: None)
        assert peer.tell_telemetry(sender.telemetry())
        until(lambda: DEVICE in bench.desk.peer.telemetry())
        seen = bench.desk.peer.telemetry()[DEVICE]
        assert (seen.power_w, seen.temperature_c, seen.kind) == (None, None, "measured")
        assert len(seen.source) == 200
