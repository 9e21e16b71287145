"""Whoever is restarted, and whenever: nothing is done twice, nothing is lost, nobody waits in vain.

Devices are real agents over a real broker. What may die is the coordinator, the device, the holder
of a payload, and the broker.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from bench import DEVICE, DIGITS, SETTINGS, Bench, Device, encode
from commandline import wait_until
from msgspec.structs import replace

from fimi.energy.ledger import PhaseRecord
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.messages.documents import Fact
from fimi.messaging.messages.facts import (
    FactBody,
    PlanApplied,
    Profile,
    RoundReport,
    RoundSettled,
    UpdateReady,
)
from fimi.messaging.messages.orders import DevicePlan, RoundStart

BATCH = encode(DIGITS.images[100:130], DIGITS.labels[100:130])


@pytest.fixture
def bench(a_broker: EmbeddedBroker, fleet_name: str) -> Iterator[Bench]:
    with Bench(a_broker, fleet_name) as bench:
        yield bench


def phases_of(facts: Iterable[object]) -> list[PhaseRecord]:
    """All phases of the facts that tell of any, in their order."""
    return [phase for fact in facts for phase in getattr(fact, "phases", ())]


def numbers(report: RoundReport) -> RoundReport:
    """A report without what no two trainings have in common."""
    return replace(report, trained_at=None)


def train_for_ever(start: RoundStart) -> RoundStart:
    return replace(start, training=replace(SETTINGS, epochs=1000, steps=0, batch_size=1))


class TestCoordinator:
    def test_one_that_dies_before_it_pulled_the_update(self, bench: Bench) -> None:
        bench.follow(bench.plan())
        bench.offered(start := bench.start())
        plan = bench.plan()
        bench.another_coordinator()
        bench.desk.order(bench.invitation(), plan, bench.start())
        update = bench.pull()
        report = bench.desk.hear(RoundReport)
        assert report.error == ""
        assert start.model.size_bytes == len(update)
        ready = [fact for fact in bench.desk.everything if isinstance(fact, UpdateReady)]
        assert len(ready) == 1

    def test_one_that_says_one_thing_after_another(self, bench: Bench) -> None:
        """Its first document has an invitation only; that revokes no round that was begun."""
        plan = bench.plan()
        bench.follow(plan)
        bench.offered(bench.start())
        bench.another_coordinator()
        bench.desk.order(bench.invitation())
        bench.desk.until(lambda _: bench.desk.is_answered(), "it has heard that")
        ready = bench.desk.hear(UpdateReady)
        assert bench.device.peer.transfers.served() == (ready.update.digest,)
        bench.desk.order(bench.invitation(), plan, bench.start())
        bench.desk.peer.transfers.fetch(ready.update, 30.0)
        assert bench.desk.hear(RoundReport).error == ""

    def test_one_that_dies_before_it_stored_what_it_heard(self, bench: Bench) -> None:
        """The update is pulled again, also after the round was closed, and not trained again."""
        bench.follow(bench.plan())
        bench.desk.stores = False
        first, report = bench.round(bench.start())
        settled = bench.close(1, 30.0)
        after_s = bench.board.clock.now_s()
        bench.another_coordinator()
        bench.desk.order(bench.invitation(), bench.plan(), bench.start(), bench.closed(1, 30.0))
        assert bench.pull() == first
        assert bench.desk.hear(RoundReport) == report
        assert bench.desk.hear(RoundSettled) == settled
        assert bench.desk.is_answered()
        assert bench.board.clock.now_s() == after_s

    def test_an_update_is_served_until_it_is_stored_and_no_longer(self, bench: Bench) -> None:
        bench.follow(bench.plan())
        bench.desk.stores = False
        bench.round(bench.start())
        bench.close(1, 30.0)
        served = bench.device.peer.transfers.served
        assert len(served()) == 1
        bench.desk.store(*bench.desk.everything)
        bench.desk.until(lambda _: not served(), "it is withdrawn")

    def test_what_is_not_stored_is_said_again(self, bench: Bench) -> None:
        """Also to a coordinator that has lost the documents of its device."""
        bench.desk.stores = False
        reply = bench.follow(bench.plan())
        bench.desk.peer.close()  # nothing is withdrawn: it has died
        bench.another_coordinator(stores=False)
        bench.desk.order(bench.invitation(), bench.plan())
        assert bench.desk.hear(PlanApplied) == reply

    def test_one_that_is_stopped_and_goes_on(self, bench: Bench) -> None:
        """What was broken off because of that is no result of the run that goes on."""
        plan = bench.plan()
        bench.follow(plan)
        bench.desk.stores = False
        bench.desk.order(train_for_ever(bench.start()))
        bench.desk.until(lambda reported: reported.stage == "training", "it trains")
        bench.end()
        bench.desk.until(lambda reported: reported.stage == "idle", "it has heard that")
        bench.another_coordinator()
        bench.desk.order(bench.invitation(), plan, bench.start())
        bench.pull()
        assert bench.desk.hear(RoundReport).error == ""
        reports = [fact for fact in bench.desk.everything if isinstance(fact, RoundReport)]
        assert len(reports) == 1

    def test_one_that_is_stopped_before_it_pulled_the_update(self, bench: Bench) -> None:
        plan = bench.plan()
        bench.follow(plan)
        bench.offered(bench.start())
        bench.end()
        bench.desk.until(lambda reported: not reported.facts, "it has heard that")
        bench.another_coordinator()
        bench.desk.order(bench.invitation(), plan, bench.start())
        bench.pull()
        assert bench.desk.hear(RoundReport).error == ""
        ready = [fact for fact in bench.desk.everything if isinstance(fact, UpdateReady)]
        assert len(ready) == 1

    def test_one_that_serves_again_is_asked_at_once(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("fimi.edge_agent.exchange.AGAIN_S", (3600.0,))
        bench.follow(bench.plan())
        start = bench.start()
        bench.desk.peer.transfers.withdraw(start.model.digest)
        bench.desk.order(start)
        bench.desk.until(lambda reported: "does not serve" in reported.waits_for, "it waits")
        bench.start()  # it serves the model again, and then says what it wants
        bench.desk.order(replace(start, model=replace(start.model, rate_bps=1e9)))
        bench.pull()
        assert bench.desk.hear(RoundReport).error == ""

    def test_another_run_ends_the_one_before_at_once(self, bench: Bench) -> None:
        bench.follow(bench.plan())
        bench.desk.order(train_for_ever(bench.start()))
        bench.desk.until(lambda reported: reported.stage == "training", "it trains")
        bench.another_run("r2")
        assert bench.join().run == "r2"
        bench.follow(bench.plan())
        _, report = bench.round(bench.start())
        assert report.error == ""

    def test_the_log_says_for_whom_the_device_waits(
        self,
        bench: Bench,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("fimi.edge_agent.line.SAY_AGAIN_S", (0.0, 1e9))
        bench.desk.peer.close()
        wait_until(
            lambda: [r for r in caplog.records if "coordinator gone for" in r.getMessage()],
            "it says so",
        )
        bench.another_coordinator()
        bench.desk.order(bench.invitation())
        assert bench.desk.is_answered()
        said = [r.getMessage() for r in caplog.records if "coordinator gone" in r.getMessage()]
        assert len(said) == 1
        assert said[0].startswith(f"{DEVICE}: coordinator gone for ")


class TestBrokenOff:
    def test_a_round_that_is_closed_during_training(self, bench: Bench) -> None:
        bench.follow(bench.plan())
        bench.desk.order(train_for_ever(bench.start()))
        bench.desk.until(lambda reported: reported.stage == "training", "it trains")
        bench.desk.order(bench.closed(1, 30.0, accepted=False))
        report = bench.desk.hear(RoundReport)
        assert report.error == "broken off: round 1 was closed before its end"
        assert [phase.phase for phase in report.phases] == ["model-download", "compute"]
        assert bench.desk.hear(RoundSettled).round == 1
        bench_seconds = math.fsum(p.duration_s for p in phases_of(bench.desk.everything))
        assert bench_seconds == pytest.approx(30.0)

    def test_a_round_that_is_closed_before_its_update_was_pulled(self, bench: Bench) -> None:
        bench.follow(bench.plan())
        bench.desk.order(bench.start())
        ready = bench.desk.hear(UpdateReady)
        bench.desk.order(bench.closed(1, 30.0, accepted=False))
        report = bench.desk.hear(RoundReport)
        assert report.error == "broken off: round 1 was closed before its end"
        assert report.training_loss is not None
        bench.desk.hear(RoundSettled)
        bench.desk.store(ready)  # the round is over: it will never be needed
        served = bench.device.peer.transfers.served
        bench.desk.until(lambda _: ready.update.digest not in served(), "it is withdrawn")

    def test_idle_time_of_two_rounds_is_reported_round_by_round(self, bench: Bench) -> None:
        """The device was so slow that the next round was over, too, before it looked up."""
        bench.follow(bench.plan())
        bench.desk.order(bench.start(1))
        bench.desk.hear(UpdateReady)
        bench.desk.order(replace(bench.closed(2, 25.0), began_s=10.0), bench.start(3, at_s=25.0))
        report = bench.desk.hear(RoundReport)
        assert "broken off" in report.error
        first, second = bench.desk.hear(RoundSettled), bench.desk.hear(RoundSettled)
        assert (first.round, second.round) == (1, 2)
        (idle,) = first.phases
        end_s = report.phases[-1].start_s + report.phases[-1].duration_s
        assert (idle.start_s, idle.start_s + idle.duration_s) == (end_s, 10.0)
        assert [(p.phase, p.start_s, p.duration_s) for p in second.phases] == [("idle", 10.0, 15.0)]

    def test_a_plan_that_is_replaced_while_its_batch_does_not_come(self, bench: Bench) -> None:
        offer = bench.serve(BATCH)
        bench.desk.peer.transfers.withdraw(offer.digest)
        bench.desk.order(bench.plan(offer))
        bench.desk.until(lambda reported: "does not serve" in reported.waits_for, "it waits")
        assert bench.follow(bench.plan()).error == ""
        assert bench.data.synthetic_samples == 0


class TestHolder:
    def test_a_generator_node_that_dies_and_comes_back(self, bench: Bench) -> None:
        def node() -> Peer:
            return Peer(
                bench.desk.peer.address, fleet=bench.fleet, peer="generator", role="generator"
            )

        with node() as first:
            offer = first.transfers.serve(BATCH, "synthetic-batch")
        bench.desk.order(bench.plan(offer))
        bench.desk.until(
            lambda reported: reported.waits_for.startswith("generator node generator, which"),
            "it waits",
        )
        with node() as second:
            second.transfers.serve(BATCH, "synthetic-batch")
            assert bench.desk.hear(PlanApplied).error == ""
        assert bench.data.synthetic_samples == 30


class TestDevice:
    def test_a_new_start_goes_on_with_the_same_numbers(
        self, a_broker: EmbeddedBroker, fleet_name: str
    ) -> None:
        """To the last digit, as a device that was never restarted: see the board's clock."""
        undisturbed = self.rounds(Bench(a_broker, f"{fleet_name}-a"), restarts=False)
        resumed = self.rounds(Bench(a_broker, f"{fleet_name}-b"), restarts=True)
        assert resumed == undisturbed

    @staticmethod
    def rounds(bench: Bench, *, restarts: bool) -> list[FactBody]:
        found: list[FactBody] = []
        with bench:
            plan = bench.plan(bench.serve(BATCH))
            bench.follow(plan)
            at_s = bench.board.clock.now_s()
            for number in range(1, 5):
                update, report = bench.round(bench.start(number, began_s := at_s))
                # in the third round the others take no time: it is late for the fourth
                at_s += report.busy_s - 0.25 if number == 3 else report.busy_s + 0.1 * number
                settled = bench.close(number, at_s)
                bench.model = update
                found += [numbers(report), settled]
                if restarts:
                    bench.device.__exit__()
                    own_s = max(at_s, began_s + report.busy_s)  # what the run store knows
                    bench.desk.order(replace(plan, booked=True, fleet_time_s=own_s))
                    bench.device = Device(bench.broker, bench.fleet)
                    bench.device.__enter__()
                    assert bench.desk.hear(Profile).boot_id == bench.device.peer.boot_id
                    assert bench.desk.hear(PlanApplied).phases == ()
        return found

    def test_idle_time_around_a_restart_is_counted_once(self, bench: Bench) -> None:
        """The independent sum: what each start can have seen of the fleet's time."""
        bench.follow(bench.plan())
        bench.round(bench.start(1, 0.0))
        bench.close(1, 20.0)
        bench.round(bench.start(2, 20.0))
        before = phases_of(bench.desk.everything)
        busy_until_s = before[-1].start_s + before[-1].duration_s
        bench.device.__exit__()  # in the middle of round 2, of which it has reported its part
        heard = len(bench.desk.everything)
        bench.device = Device(bench.broker, bench.fleet)
        bench.device.__enter__()
        bench.desk.hear(Profile)
        bench.desk.hear(PlanApplied)
        bench.pull()  # its memory is gone: it works in round 2 again
        bench.desk.hear(RoundReport)
        bench.close(2, 50.0)
        bench.round(bench.start(3, 50.0))
        bench.close(3, 70.0)
        assert math.fsum(p.duration_s for p in before) == pytest.approx(busy_until_s)
        after = phases_of(bench.desk.everything[heard:])
        assert math.fsum(p.duration_s for p in after) == pytest.approx(70.0 - 20.0)
        assert [p.phase for p in after].count("idle") == 2
        edges = [(p.start_s, p.start_s + p.duration_s) for p in after]
        assert all(
            end == pytest.approx(start) for (_, end), (start, _) in itertools.pairwise(edges)
        )

    def test_a_start_between_two_rounds_settles_the_one_that_is_closed_next(
        self, bench: Bench
    ) -> None:
        bench.follow(bench.plan())
        bench.round(bench.start(1, 0.0))
        bench.close(1, 20.0)
        bench.device.__exit__()
        bench.device = Device(bench.broker, bench.fleet)
        bench.device.__enter__()
        bench.desk.hear(PlanApplied)
        settled = bench.close(2, 35.0, accepted=False)  # a round without it
        assert [(p.phase, p.start_s, p.duration_s) for p in settled.phases] == [
            ("idle", 20.0, 15.0)
        ]
        _, report = bench.round(bench.start(3, 35.0))
        assert "idle" not in [phase.phase for phase in report.phases]

    def test_rounds_while_it_was_dead_are_no_idle_time(self, bench: Bench) -> None:
        """It finds the document of long ago, and waits until the coordinator has met it."""
        bench.follow(bench.plan())
        bench.round(bench.start(1, 0.0))
        bench.close(1, 20.0)
        bench.device.__exit__()
        bench.device = Device(bench.broker, bench.fleet)
        bench.device.__enter__()
        wait_until(lambda: bench.device.agent.member is not None, "it has joined")
        bench.desk.order(bench.plan(fleet_time_s=90.0))  # the rounds until then were without it
        bench.desk.hear(PlanApplied)
        settled = bench.close(6, 100.0, accepted=False)
        assert [(p.phase, p.start_s, p.duration_s) for p in settled.phases] == [
            ("idle", 90.0, 10.0)
        ]

    def test_a_start_after_rounds_without_it_books_none_of_them(self, bench: Bench) -> None:
        """The plan that was kept is of before; the coordinator tells the present time first."""
        plan = bench.plan()
        bench.follow(plan)
        bench.round(bench.start(1, 0.0))
        bench.close(1, 20.0)
        bench.device.__exit__()
        heard = len(bench.desk.everything)
        bench.device = Device(bench.broker, bench.fleet)
        bench.device.__enter__()
        agent = bench.device.agent
        wait_until(lambda: agent.member is not None, "it joins, by the document that was kept")
        bench.desk.order(replace(plan, fleet_time_s=100.0))
        bench.desk.hear(PlanApplied)
        bench.round(bench.start(6, 120.0))
        bench.close(6, 150.0)
        phases = phases_of(bench.desk.everything[heard:])
        assert phases[0].phase == "idle"
        assert phases[0].start_s == pytest.approx(100.0)
        assert math.fsum(p.duration_s for p in phases) == pytest.approx(50.0)

    def test_a_batch_in_the_cache_is_not_fetched_again(
        self, a_broker: EmbeddedBroker, fleet_name: str, tmp_path: Path
    ) -> None:
        with Bench(a_broker, fleet_name, cache=tmp_path) as bench:
            plan = bench.plan(offer := bench.serve(BATCH))
            first = bench.follow(plan)
            assert sorted(path.suffix for path in tmp_path.iterdir()) == [".batch", ".share"]
            bench.device.__exit__()
            bench.desk.peer.transfers.withdraw(offer.digest)
            bench.device = Device(bench.broker, bench.fleet, cache=tmp_path)
            bench.device.__enter__()
            again = bench.desk.hear(PlanApplied)
            assert bench.data.synthetic_samples == 30
            # not booked yet: the emulated board receives it as if it had never been restarted
            assert (again.phases, again.transfers) == (first.phases, first.transfers)

    def test_facts_of_a_start_are_numbered_from_one(self, bench: Bench) -> None:
        bench.desk.stores = False
        bench.follow(bench.plan())
        reported = bench.desk.conversation.reported(DEVICE)
        assert reported is not None
        assert [(type(each), each.number) for each in reported.facts] == [(Fact, 2)]


class TestBroker:
    def test_a_broker_that_is_restarted_costs_no_round(
        self, fleet_name: str, free_port: int
    ) -> None:
        with EmbeddedBroker("auto", port=free_port) as broker:
            undisturbed = self.rounds(broker, f"{fleet_name}-a", restarts=False)
            assert self.rounds(broker, f"{fleet_name}-b", restarts=True) == undisturbed

    @staticmethod
    def rounds(broker: EmbeddedBroker, fleet: str, *, restarts: bool) -> list[FactBody]:
        found: list[FactBody] = []
        with Bench(broker, fleet) as bench:
            bench.follow(bench.plan())
            at_s = 0.0
            for number in (1, 2, 3):
                bench.desk.order(bench.start(number, at_s))
                offer = bench.desk.hear(UpdateReady).update
                if restarts:
                    broker.close()  # it has forgotten what it was told to keep
                    broker.start()
                bench.desk.peer.transfers.fetch(offer, 60.0)
                report = bench.desk.hear(RoundReport)
                at_s += report.busy_s + 1.0
                found += [numbers(report), bench.close(number, at_s)]
        return found


def test_a_plan_of_long_ago_does_not_turn_the_clock_back(bench: Bench) -> None:
    """The plan stays in the document; a device that starts late sees which rounds were since."""
    plan: DevicePlan = bench.plan(fleet_time_s=3.0)
    bench.desk.order(plan, bench.closed(8, 400.0), bench.start(9, 401.0))
    bench.pull()
    assert bench.desk.hear(RoundReport).phases[0].start_s == 401.0
