"""What a real board does while it waits for others is neither sending nor receiving.

The board is this machine with a declared power and a clock that the test moves, so that every
second and joule is known beforehand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench import DIGITS, Bench, encode, slower
from commandline import wait_until

import fimi.energy.host_profile
from fimi.energy.clock import VirtualClock
from fimi.energy.host import HostHardware
from fimi.energy.host_profile import load_profile
from fimi.energy.ledger import PhaseRecord
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.messages.facts import PlanApplied, RoundReport, UpdateReady

EXAMPLE = (fimi.energy.host_profile.__doc__ or "").split("::\n", 1)[1]
POWER_W = 5.0
BATCH = encode(DIGITS.images[100:130], DIGITS.labels[100:130])


class Machine(HostHardware):
    """This machine with a clock of the test's."""

    def __init__(self, folder: Path, peer: Peer | None = None) -> None:
        text = "\n".join(line.strip() for line in EXAMPLE.splitlines())
        text = re.sub(r"constant_power_w = \S+", f"constant_power_w = {POWER_W}", text)
        (folder / "board.toml").write_text(text)
        self.time = VirtualClock(100.0)
        super().__init__(
            load_profile(folder / "board.toml"),
            root=folder,
            state=folder / "state",
            clock=self.time,
            watch_period_s=0.0,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path) as machine:
        yield machine


def seconds(phases: tuple[PhaseRecord, ...]) -> list[tuple[str, float]]:
    """Phases that took time, in their order."""
    return [(p.phase, round(p.duration_s, 6)) for p in phases if p.duration_s]


def joules(phases: tuple[PhaseRecord, ...], phase: str) -> float:
    return sum(p.energy.value_j for p in phases if p.phase == phase and p.energy is not None)


class Seen:
    """What an agent does at this moment, as its metering knows it."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def until(self, phase: str) -> None:
        def is_there(_: Any) -> bool:
            member = self._bench.device.agent.member
            return member is not None and member._metering._open == phase

        self._bench.desk.until(is_there, f"phase {phase}")


def test_an_update_that_nobody_pulls_yet(
    a_broker: EmbeddedBroker, fleet_name: str, machine: Machine
) -> None:
    with Bench(a_broker, fleet_name, hardware=machine) as bench:
        bench.follow(bench.plan())
        bench.desk.order(bench.start())
        offer = bench.desk.hear(UpdateReady).update
        machine.time.advance(7.0)
        bench.desk.peer.transfers.fetch(offer, 30.0)
        report = bench.desk.hear(RoundReport)
    assert seconds(report.phases) == [("waiting", 7.0)]
    assert joules(report.phases, "waiting") == pytest.approx(7.0 * POWER_W)
    assert joules(report.phases, "upload") == 0.0
    assert (report.waited_s, report.busy_s) == (7.0, 0.0)
    assert [each.duration_s for each in report.transfers if each.phase == "upload"] == [0.0]


def test_a_model_whose_holder_is_gone(
    a_broker: EmbeddedBroker, fleet_name: str, machine: Machine
) -> None:
    with Bench(a_broker, fleet_name, hardware=machine) as bench:
        bench.follow(bench.plan())
        start = bench.start()
        bench.desk.peer.transfers.withdraw(start.model.digest)
        bench.desk.order(start)
        Seen(bench).until("waiting")
        machine.time.advance(4.0)
        bench.start()  # it serves the model again
        _, report = bench.pull(), bench.desk.hear(RoundReport)
    assert seconds(report.phases) == [("waiting", 4.0)]
    assert report.waited_s == 4.0
    assert report.error == ""


def test_a_broker_that_is_away(fleet_name: str, free_port: int, machine: Machine) -> None:
    """In the middle of a download: before and after it the seconds are the download's."""
    with (
        EmbeddedBroker("auto", port=free_port) as broker,
        Bench(broker, fleet_name, hardware=machine) as bench,
        Peer(broker.address, fleet=fleet_name, peer="generator", role="generator") as node,
    ):
        offer = node.transfers.serve(BATCH, "synthetic-batch")
        node.transfers.pace(1.0)  # nothing of it comes for a long time
        bench.desk.order(bench.plan(offer))
        Seen(bench).until("synthetic-download")
        machine.time.advance(2.0)
        broker.close()
        Seen(bench).until("waiting")
        machine.time.advance(30.0)
        broker.start()
        Seen(bench).until("synthetic-download")
        machine.time.advance(1.0)
        node.transfers.pace(None)
        applied = bench.desk.hear(PlanApplied)
    assert applied.error == ""
    assert seconds(applied.phases) == [
        ("synthetic-download", 2.0),
        ("waiting", 30.0),
        ("synthetic-download", 1.0),
    ]
    assert joules(applied.phases, "waiting") == pytest.approx(30.0 * POWER_W)
    (goodput,) = applied.transfers
    assert goodput.duration_s == 3.0


def test_a_coordinator_that_is_gone_while_it_pulls(
    a_broker: EmbeddedBroker, fleet_name: str, machine: Machine
) -> None:
    with Bench(a_broker, fleet_name, hardware=machine) as bench:
        bench.follow(bench.plan())
        bench.desk.stores = False
        bench.desk.order(bench.start())
        offer = bench.desk.hear(UpdateReady).update
        bench.device.peer.transfers.pace(1.0)
        with pytest.raises(Exception, match="not complete after"):
            bench.desk.peer.transfers.fetch(offer, 1.0)
        Seen(bench).until("upload")
        machine.time.advance(2.0)
        bench.desk.peer.close()
        wait_until(lambda: bench.device.agent.member._metering._open == "waiting", "it waits")
        machine.time.advance(20.0)
        bench.device.peer.transfers.pace(None)
        bench.another_coordinator()
        bench.desk.order(bench.invitation(), bench.plan(), bench.start())
        bench.pull()
        report = bench.desk.hear(RoundReport)
    assert seconds(report.phases) == [("upload", 2.0), ("waiting", 20.0)]
    assert joules(report.phases, "upload") == pytest.approx(2.0 * POWER_W)  # they were drawn
    assert (report.busy_s, report.waited_s) == (0.0, 20.0)  # and what was sent is with nobody
    assert [each.duration_s for each in report.transfers if each.phase == "upload"] == [0.0]


def test_time_between_two_rounds_is_reported_once(
    a_broker: EmbeddedBroker, fleet_name: str, machine: Machine
) -> None:
    """The independent sum: what the clock has shown from the plan on."""
    with Bench(a_broker, fleet_name, hardware=machine) as bench:
        applied = bench.follow(bench.plan())
        reports = [applied.phases]
        for number in (1, 2):
            machine.time.advance(3.0)  # until the round starts
            reports.append(bench.round(bench.start(number))[1].phases)
            machine.time.advance(5.0)  # until it is closed
            reports.append(bench.close(number, 0.0).phases)
        machine.time.advance(2.0)
        reports.append(bench.follow(slower(bench.plan())).phases)  # the plan is refitted
        machine.time.advance(4.0)
        reports.append(bench.follow(bench.plan()).phases)  # and once more: a newcomer is there
        machine.time.advance(1.0)
        reports.append(bench.round(bench.start(3))[1].phases)
    assert [seconds(phases) for phases in reports] == [
        [],
        [("idle", 3.0)],
        [("idle", 5.0)],
        [("idle", 3.0)],
        [("idle", 5.0)],
        [],
        [],
        [("idle", 2.0), ("idle", 4.0), ("idle", 1.0)],
    ]
