"""A device reports what its meter showed; the joules of its phases follow from it, restarts too."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from bench import CONTRACT, DEVICE, Bench, Device
from msgspec.structs import replace

from fimi.edge_agent import readings_room
from fimi.edge_agent.outbox import DurableOutbox
from fimi.energy import ledger_log
from fimi.energy.ledger import PhaseRecord
from fimi.energy.ledger_opening import unpacked
from fimi.energy.ledger_parts import ReadingsPart
from fimi.energy.replay import replay
from fimi.learning.data import batches
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.messages.facts import (
    FactBody,
    PlanApplied,
    Profile,
    RoundReport,
    RoundSettled,
    UpdateReady,
)

BATCH = batches.encode(np.zeros((10, 1, 8, 8), np.uint8), np.arange(10), contract=CONTRACT.digest)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def bench(a_broker: EmbeddedBroker, fleet_name: str, state: Path) -> Iterator[Bench]:
    outbox = DurableOutbox(state, fleet_name, DEVICE)
    with Bench(a_broker, fleet_name, joins=False, outbox=outbox) as found:
        found.desk.order(replace(found.invitation(), readings=True))
        found.desk.hear(Profile)
        yield found


def again(facts: Iterable[FactBody]) -> tuple[list[PhaseRecord], list[PhaseRecord]]:
    """The phases of facts, and what their readings give, life by life."""
    phases: list[PhaseRecord] = []
    lives: dict[str, dict[int, ReadingsPart]] = {}
    for fact in facts:
        if isinstance(fact, PlanApplied | RoundReport | RoundSettled):
            phases += fact.phases
            for part in fact.readings:
                lives.setdefault(part.life, {})[part.number] = part
    found: list[PhaseRecord] = []
    for parts in lives.values():
        assert sorted(parts) == list(range(len(parts)))
        found += [t.record for t in replay(unpacked(parts[n]) for n in sorted(parts)).told]
    return phases, [each for each in found if each.duration_s or each.phase != "idle"]


def test_every_phase_follows_from_its_readings(bench: Bench) -> None:
    plan = replace(bench.plan(bench.serve(BATCH)), synthetic_counts=(1,) * 10)
    bench.follow(plan)
    at_s = bench.board.clock.now_s()
    for number in (1, 2, 3):
        _, report = bench.round(bench.start(number, at_s))
        at_s += report.busy_s + number
        bench.close(number, at_s)
        if number == 2:  # what a new plan costs is told with the next round
            bench.follow(replace(plan, point=replace(plan.point, frequency_hz=0.7e9)))
    phases, found = again(bench.desk.everything)
    assert found == phases
    assert {p.phase for p in phases} > {"synthetic-download", "compute", "upload", "idle"}


def test_a_killed_device_tells_those_of_both_starts(bench: Bench, state: Path) -> None:
    """Killed while it offered its update: the report has the phases and readings of both."""
    bench.follow(bench.plan())
    bench.desk.order(bench.start())
    bench.desk.hear(UpdateReady)
    at_kill = state.with_name("at-kill")
    shutil.copytree(state, at_kill)
    heard = len(bench.desk.everything)
    bench.device.__exit__()
    del bench.desk.everything[heard:]
    outbox = DurableOutbox(at_kill, bench.fleet, DEVICE)
    bench.device = Device(bench.broker, bench.fleet, outbox=outbox)
    bench.device.__enter__()
    bench.desk.hear(Profile)
    bench.pull()
    report = bench.desk.hear(RoundReport)
    bench.close(1, 30.0)
    assert len({part.life for part in report.readings}) == 2
    phases, found = again(bench.desk.everything)
    assert {p.phase for p in report.phases} == {"model-download", "compute", "upload"}
    assert sorted(phases, key=lambda p: p.start_s) == sorted(found, key=lambda p: p.start_s)


def test_none_are_told_where_nobody_asks(a_broker: EmbeddedBroker, fleet_name: str) -> None:
    with Bench(a_broker, fleet_name) as bench:
        bench.follow(bench.plan())
        _, report = bench.round(bench.start())
        settled = bench.close(1, 30.0)
    assert (report.readings, settled.readings) == ((), ())


def test_what_waits_too_long_goes_before_any_joule(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator stores nothing for three rounds: the readings of the oldest facts go."""
    monkeypatch.setattr(readings_room, "ROOM_BYTES", 2500)
    bench.follow(bench.plan())
    bench.desk.stores = False
    for number in (1, 2, 3):
        bench.round(bench.start(number, 30.0 * (number - 1)))
        bench.close(number, 30.0 * number)
    bench.desk.until(lambda said: len(said.facts) >= 9, "all is told")
    latest = bench.desk.conversation.reported(DEVICE)
    assert latest is not None
    told = [f.body for f in latest.facts if isinstance(f.body, RoundReport | RoundSettled)]
    parts = [part for body in told for part in body.readings]
    assert [body.round for body in told] == [1, 1, 2, 2, 3, 3]
    assert all(phase.energy is not None for body in told for phase in body.phases)
    assert parts[0].body is None
    assert "no room" in parts[0].missing
    assert parts[-1].body is not None
    assert 0 < sum(len(part.body or b"") for part in parts) <= 2500


def test_too_many_are_named_and_the_round_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_log, "READINGS_MOST", 30)
    bench.follow(bench.plan())
    _, report = bench.round(bench.start())
    assert report.error == ""
    (part,) = report.readings
    assert part.body is None
    assert "more than 30 readings" in part.missing
    assert [p.phase for p in report.phases] == ["model-download", "compute", "upload"]
    assert all(p.energy is not None for p in report.phases)
