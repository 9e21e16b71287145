"""An agent tells at a steady rate how its board is, in a run and outside of one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pytest
from bench import DEVICE, Bench, Device

from fimi.edge_agent.boards import emulated_board
from fimi.edge_agent.line import Line
from fimi.edge_agent.telemetry import TelemetrySender
from fimi.energy.clock import VirtualClock
from fimi.energy.cost_model import OperatingPoint
from fimi.energy.hardware import Glance, HardwareDescription
from fimi.energy.ledger import Ledger
from fimi.energy.meters import DeclaredPower, MeterDescription
from fimi.messaging import looking
from fimi.messaging.messages.orders import EmulatedDevice


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
        sender = TelemetrySender(
            bench.device.peer, 0.0, 0.0, line, lambda: None, lambda: ledgers[-1]
        )
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


def test_the_phase_is_that_of_the_power(a_broker, fleet_name):
    """An emulated board passes the time of a phase at its end; until then it shows the one before.

    What it draws in each phase is known from a board of the same seed, metered by joules.
    """
    emulated = EmulatedDevice(
        board="raspberry-pi-4", seed=3, emulation="model", profile_error=0.03, cycles_per_sample=4e6
    )
    point = OperatingPoint(
        frequency_hz=1e9, bandwidth_hz=5e4, transmit_power_w=0.05, time_split=0.6
    )
    board = emulated_board(emulated, 0)
    board.apply(point)
    ledger = Ledger(board.clock, board.recorder)
    works = {
        "model-download": lambda: board.has_received(150_000),
        "compute": lambda: board.has_computed(300.0),
        "upload": lambda: board.has_sent(150_000),
        "idle": lambda: board.has_waited_until(board.clock.now_s() + 3.0),
    }
    with Bench(a_broker, fleet_name, joins=False) as bench:
        line = Line(bench.device.peer, bench.device.stop)
        sender = TelemetrySender(bench.device.peer, 0.0, 0.0, line, lambda: board, lambda: ledger)
        shown: list[tuple[str | None, float | None]] = []
        for phase, work in works.items():
            with ledger.phase(phase):
                shown.append((sender.telemetry().phase, sender.telemetry().power_w))
                work()
                shown.append((sender.telemetry().phase, sender.telemetry().power_w))
        shown.append((sender.telemetry().phase, sender.telemetry().power_w))
    watts = {r.phase: r.energy.value_j / r.duration_s for r in ledger.take(1)}
    assert shown[0][0] is None
    assert {phase for phase, _ in shown[1:]} == set(works)
    for phase, power_w in shown[1:]:
        assert power_w == pytest.approx(watts[phase], rel=0.06)  # its meter errs
    assert len({round(each, 1) for each in watts.values()}) >= 3


@pytest.mark.parametrize("emulation", ["model", "physical"])
def test_the_last_of_a_round_idles_from_its_end_on(a_broker, fleet_name, emulation):
    """Nobody was waited for, so no time of its own passes: a pause shows no work."""
    emulated = EmulatedDevice(
        board="raspberry-pi-4",
        seed=3,
        emulation=emulation,
        profile_error=0.03,
        cycles_per_sample=4e6,
    )
    point = OperatingPoint(
        frequency_hz=1e9, bandwidth_hz=5e4, transmit_power_w=0.05, time_split=0.6
    )
    board, other = emulated_board(emulated, 0), emulated_board(emulated, 0)
    other.has_waited_until(60.0)
    idle_w = other.glance().power_w
    ledger = Ledger(board.clock, board.recorder)
    with Bench(a_broker, fleet_name, joins=False) as bench:
        line = Line(bench.device.peer, bench.device.stop)
        sender = TelemetrySender(bench.device.peer, 0.0, 0.0, line, lambda: board, lambda: ledger)

        def shown() -> tuple[str | None, float | None]:
            said = sender.telemetry()
            return said.phase, said.power_w

        board.apply(point)
        with ledger.phase("compute"):
            board.has_computed(300.0)
        ledger.begin("idle")
        phase, power_w = shown()
        assert phase == "compute" and power_w > idle_w + 0.2
        board.has_waited_until(board.clock.now_s() - 0.5)  # it is late: the fleet is not there yet
        assert shown() == (phase, power_w)
        board.has_waited_until(board.clock.now_s())
        ledger.close()
        ledger.begin("idle")
        phase, power_w = shown()
        assert phase == "idle" and power_w == pytest.approx(idle_w, rel=0.02)
        board.has_waited_until(board.clock.now_s())  # the next round
        ledger.close()
        assert shown() == (phase, power_w)
        with ledger.phase("compute"):
            board.has_computed(300.0)
            assert shown()[0] == "compute" and shown()[1] > idle_w + 0.2


def test_a_late_meter_shows_the_phase_before(a_broker, fleet_name):
    """A plug shows the power of 5 s ago: of which phase that was is what is told."""

    class Late(Board):
        clock = VirtualClock(100.0)
        glance = staticmethod(lambda: Glance(power_w=2.0, power_age_s=5.0))

    ledger = Ledger(Late.clock, DeclaredPower(2.0, Late.clock))
    with Bench(a_broker, fleet_name, joins=False) as bench:
        line = Line(bench.device.peer, bench.device.stop)
        sender = TelemetrySender(bench.device.peer, 0.0, 0.0, line, lambda: Late(), lambda: ledger)
        changes = [(103.0, "model-download"), (105.0, "compute"), (120.0, None), (122.0, "upload")]
        for at_s in range(100, 140):
            Late.clock.show(float(at_s))
            for since_s, phase in changes:
                if since_s == at_s:
                    ledger.close()
                    if phase is not None:
                        ledger.begin(phase)
            began = [phase for since_s, phase in changes if since_s < at_s - 5.0]
            assert sender.telemetry().phase == (began[-1] if began else None), at_s


def test_without_an_interval_there_is_none(a_broker, fleet_name):
    with Bench(a_broker, fleet_name) as bench:
        assert bench.desk.peer.counters.telemetry == 0


def test_only_for_who_looks(a_broker, fleet_name, monkeypatch):
    """Nobody looks: nothing. Somebody does: many, of a device that comes later too. Gone: quiet."""
    monkeypatch.setattr(looking, "AGAIN_S", 0.2)
    monkeypatch.setattr(looking, "LEASE_S", 0.6)
    with Bench(a_broker, fleet_name, joins=False, looked_s=0.05) as bench:
        desk, device = bench.desk.peer, bench.device.peer

        def looks_until(enough: int) -> None:
            until(lambda: desk.telemetry() and desk.counters.telemetry >= enough)

        time.sleep(0.3)
        assert desk.counters.telemetry == 0
        looks_until(5)
        assert DEVICE in desk.telemetry()
        until(lambda: not device.looking.is_on)
        time.sleep(0.1)
        before = desk.counters.telemetry
        time.sleep(0.5)
        assert desk.counters.telemetry <= before + 1  # one may have been on its way
        bench.device.__exit__()
        bench.device = Device(a_broker, fleet_name, looked_s=0.05)  # it hears the next word
        bench.device.__enter__()
        looks_until(before + 6)


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
        sender = TelemetrySender(peer, 0.0, 0.0, line, lambda: Board(), lambda: None)
        assert peer.tell_telemetry(sender.telemetry())
        until(lambda: DEVICE in bench.desk.peer.telemetry())
        seen = bench.desk.peer.telemetry()[DEVICE]
        assert (seen.power_w, seen.temperature_c, seen.kind) == (None, None, "measured")
        assert len(seen.source) == 200
