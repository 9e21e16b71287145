"""What a device has not told survives its process: once, whole, bounded, and with few writes.

A kill is a copy of the state folder, taken while the agent lives, and given to the next start;
``tests/testbed/processes/test_agent_process.py`` kills real processes.
"""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from bench import DEVICE, Bench, Device
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fimi.edge_agent import outbox as outboxes
from fimi.edge_agent.outbox import DurableOutbox, ReadyUpdate, Unsent
from fimi.energy.ledger import PhaseRecord
from fimi.energy.ledger_parts import ReadingsPart
from fimi.learning.training.trainer import TrainingSettings
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.messages.basis import Offer
from fimi.messaging.messages.documents import MAX_EARLIER, EarlierFacts, Fact
from fimi.messaging.messages.facts import (
    PlanApplied,
    Profile,
    RoundReport,
    RoundSettled,
    UpdateReady,
)
from fimi.messaging.messages.orders import RoundStart


def facts(boot_id: str, *numbers: int, words: str = "") -> EarlierFacts:
    return EarlierFacts(
        boot_id=boot_id,
        facts=tuple(
            Fact(
                number=n,
                body=RoundSettled(run="r", device="d", round=n, phases=(), error=words),
            )
            for n in numbers
        ),
    )


def readings(boot_id: str, number: int) -> ReadingsPart:
    body = random.Random(number).randbytes(1000)
    return ReadingsPart(
        life=f"{ord(boot_id):016x}", number=number, body=body, digest=sha256(body).hexdigest()
    )


START = RoundStart(
    run="r",
    device="d",
    round=3,
    model=Offer(holder="c", digest="0" * 64, size_bytes=1, media="safetensors"),
    training=TrainingSettings(),
    seed=1,
    fleet_time_s=0.1,
)


def unsent(*starts: EarlierFacts, **others: Any) -> Unsent:
    return Unsent(instance="0" * 16, starts=starts, **others)


@pytest.fixture
def outbox(tmp_path: Path) -> DurableOutbox:
    return DurableOutbox(tmp_path, "f", "d")


class TestFile:
    def test_what_was_saved_is_loaded(self, outbox: DurableOutbox, tmp_path: Path) -> None:
        saved = unsent(facts("a", 1, 2), facts("b", 1), worked=START, clock_s=0.1 + 0.2)
        outbox.save(saved)
        assert DurableOutbox(tmp_path, "f", "d").load() == saved
        assert DurableOutbox(tmp_path, "f", "another").load() is None
        (path,) = tmp_path.iterdir()
        assert path.stat().st_mode & 0o777 == 0o600

    def test_the_same_again_is_not_written(self, outbox: DurableOutbox, tmp_path: Path) -> None:
        for _ in range(3):
            outbox.save(unsent(facts("a", 1)))
        assert outbox.writes == 1
        again = DurableOutbox(tmp_path, "f", "d")
        found = again.load()
        assert found is not None
        again.save(found)
        assert again.writes == 0

    @given(data=st.data())
    @settings(
        max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
    )
    def test_any_damage_is_noticed_and_named(
        self, outbox: DurableOutbox, tmp_path: Path, data: st.DataObject
    ) -> None:
        """Torn at any byte, or any byte another one: nothing of it is told, and nothing raised."""
        outbox.save(unsent(facts("a", 1, 2)))
        path = tmp_path / "f.d.facts"
        whole = path.read_bytes()
        at = data.draw(st.integers(0, len(whole) - 1))
        if data.draw(st.booleans()):
            torn = whole[:at]
        else:
            torn = (
                whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
            )
        path.write_bytes(torn)
        assert DurableOutbox(tmp_path, "f", "d").load() is None
        assert (tmp_path / "f.d.damaged").read_bytes() == torn
        outbox.clear()

    def test_damage_is_said(
        self, outbox: DurableOutbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "f.d.facts").write_bytes(b"")
        assert outbox.load() is None
        assert "f.d.facts (0 B) is damaged" in caplog.text

    def test_the_oldest_facts_go_first_and_it_is_said(
        self,
        outbox: DurableOutbox,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(outboxes, "FACTS_BYTES", 6000)
        newest = facts("b", 1, words="y" * 500)
        outbox.save(unsent(facts("a", *range(1, 17), words="x" * 500), newest))
        found = DurableOutbox(tmp_path, "f", "d").load()
        assert found is not None
        assert found.starts[-1] == newest
        (left,) = found.starts[:-1]
        numbers = [fact.number for fact in left.facts]
        assert numbers == list(range(17 - len(numbers), 17))  # the newest
        assert 0 < len(numbers) < 16
        assert (tmp_path / "f.d.facts").stat().st_size <= 6000
        assert "are not kept, the oldest a RoundSettled" in caplog.text

    @pytest.mark.parametrize("words", [0, 500])
    def test_readings_go_before_any_fact(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        words: int,
    ) -> None:
        """Ten facts with readings; room for all facts with and without many words."""
        starts = tuple(
            replace(
                start,
                facts=tuple(
                    replace(
                        fact,
                        body=replace(fact.body, readings=(readings(start.boot_id, fact.number),)),
                    )
                    for fact in start.facts
                ),
            )
            for start in (
                facts("a", *range(1, 6), words="x" * words),
                facts("b", *range(1, 6), words="y" * words),
            )
        )
        monkeypatch.setattr(outboxes, "FACTS_BYTES", 12_000)
        DurableOutbox(tmp_path, "f", "d").save(unsent(*starts))
        assert (tmp_path / "f.d.facts").stat().st_size <= 12_000
        found = DurableOutbox(tmp_path, "f", "d").load()
        assert found is not None
        told = [fact for start in found.starts for fact in start.facts]
        assert len(told) == 10
        assert "facts of" not in caplog.text
        parts = [part for fact in told for part in fact.body.readings]  # type: ignore[union-attr]
        kept = [part.body is not None for part in parts]
        assert kept == sorted(kept)  # the newest
        assert 0 < sum(kept) < 10
        assert all("no room" in part.missing for part in parts if part.body is None)
        gone = 1000 * (10 - sum(kept))
        assert f"{gone} B of readings of meters are not kept, all joules are" in caplog.text
        assert 12_000 - (tmp_path / "f.d.facts").stat().st_size < 1500  # no more than need be

    def test_readings_of_the_ready_update_go_last(
        self, outbox: DurableOutbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = facts("a", 1)
        told = replace(first.facts[0].body, readings=(readings("a", 1),))
        whole = replace(first, facts=(replace(first.facts[0], body=told),))
        report = RoundReport(
            run="r",
            device="d",
            round=3,
            local_samples=1,
            synthetic_samples=0,
            training_loss=None,
            training_accuracy=None,
            frequency_hz=None,
            busy_s=1.0,
            phases=(),
            readings=(readings("b", 1),),
        )
        ready = ReadyUpdate(start=START, boot_id="b", number=1, digest="0" * 64, report=report)
        kept, most = [], 20_000
        for _ in range(3):
            monkeypatch.setattr(outboxes, "FACTS_BYTES", most)
            outbox.save(unsent(whole, ready=ready))
            found = outbox.load()
            assert found is not None
            assert found.ready is not None
            assert len(found.starts) == 1
            most = (tmp_path / "f.d.facts").stat().st_size - 1  # a byte too few for the same again
            bodies = (found.starts[0].facts[0].body, found.ready.report)
            kept.append([body.readings[0].body is not None for body in bodies])  # type: ignore[union-attr]
        assert kept == [[True, True], [False, True], [False, False]]

    def test_no_more_starts_than_a_message_may_tell(
        self, outbox: DurableOutbox, tmp_path: Path
    ) -> None:
        outbox.save(unsent(*(facts(str(n), 1) for n in range(40))))
        found = DurableOutbox(tmp_path, "f", "d").load()
        assert found is not None
        assert [each.boot_id for each in found.starts] == [
            str(n) for n in range(41 - MAX_EARLIER, 40)
        ]

    def test_one_update_at_a_time_and_none_that_is_too_large(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        outbox = DurableOutbox(tmp_path, "f", "d", max_bytes=outboxes.FACTS_BYTES + 1000)
        other = DurableOutbox(tmp_path, "f", "d.2")  # whose files begin alike
        digests = {name: sha256(name * 500).hexdigest() for name in (b"a", b"b", b"c")}
        assert other.put_update(digests[b"c"], b"c" * 500)
        for name in (b"a", b"b"):
            assert outbox.put_update(digests[name], name * 500)
        assert outbox.update(digests[b"a"]) is None
        assert outbox.update(digests[b"b"]) == b"b" * 500
        assert other.update(digests[b"c"]) == b"c" * 500
        assert not outbox.put_update("0" * 64, bytes(1001))
        assert "is not kept" in caplog.text
        (tmp_path / f"f.d.{digests[b'b']}.update").write_bytes(b"b" * 499)
        assert outbox.update(digests[b"b"]) is None
        assert "is damaged" in caplog.text

    def test_late_updates_stay_as_long_as_there_is_room(self, tmp_path: Path) -> None:
        outbox = DurableOutbox(tmp_path, "f", "d", max_bytes=outboxes.FACTS_BYTES + 1000)
        late, new, large = b"a" * 300, b"b" * 300, b"c" * 800
        names = [sha256(each).hexdigest() for each in (late, new, large)]
        assert outbox.put_update(names[0], late)
        assert outbox.put_update(names[1], new, (names[0],))
        assert [outbox.update(each) for each in names] == [late, new, None]
        assert outbox.put_update(names[2], large, (names[0], names[1]))
        assert [outbox.update(each) for each in names] == [None, None, large]

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    def test_a_disk_that_takes_nothing_is_named_once(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "state").write_text("a file where the folder should be")
        outbox = DurableOutbox(tmp_path / "state", "f", "d")
        for number in (1, 2, 3):
            outbox.save(unsent(facts("a", number)))
        assert not outbox.put_update("0" * 64, b"x")
        assert len([r for r in caplog.records if "cannot be written" in r.getMessage()]) == 1


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


class Killed:
    """A bench whose device is killed and started again, with what its disk held at that moment."""

    def __init__(self, bench: Bench, state: Path) -> None:
        self.bench, self.state = bench, state
        self.boots = 1

    def restart(self) -> None:
        bench, desk = self.bench, self.bench.desk
        at_kill = self.state.with_name(f"state-{self.boots}")
        if self.state.exists():
            shutil.copytree(self.state, at_kill)
        heard = len(desk.everything)
        bench.device.__exit__()
        del desk.everything[heard:]
        shutil.rmtree(self.state, ignore_errors=True)
        if at_kill.exists():
            at_kill.rename(self.state)
        self.boots += 1
        bench.device = device(bench.broker, bench.fleet, self.state)
        bench.device.__enter__()
        assert desk.hear(Profile).boot_id == bench.device.peer.boot_id


def device(broker: EmbeddedBroker, fleet: str, state: Path) -> Device:
    return Device(broker, fleet, outbox=DurableOutbox(state, fleet, DEVICE))


@pytest.fixture
def bench(a_broker: EmbeddedBroker, fleet_name: str, state: Path) -> Iterator[Bench]:
    outbox = DurableOutbox(state, fleet_name, DEVICE)
    with Bench(a_broker, fleet_name, outbox=outbox) as bench:
        yield bench


@pytest.fixture
def killed(bench: Bench, state: Path) -> Killed:
    return Killed(bench, state)


def phases(*found: RoundReport | RoundSettled) -> list[PhaseRecord]:
    return [phase for each in found for phase in each.phases]


class TestAgent:
    def test_an_update_is_offered_again_and_not_trained_again(
        self, bench: Bench, killed: Killed, a_broker: EmbeddedBroker, fleet_name: str
    ) -> None:
        """In virtual time as if it had never been killed; but for the noise of its meter."""
        with Bench(a_broker, f"{fleet_name}-b") as undisturbed:
            undisturbed.follow(undisturbed.plan())
            _, never_killed = undisturbed.round(undisturbed.start())
            settled = undisturbed.close(1, 30.0)
        bench.follow(bench.plan())
        bench.desk.order(bench.start())
        offered = bench.desk.hear(UpdateReady).update
        killed.restart()
        bench.desk.hear(PlanApplied)
        assert sha256(bench.pull()).hexdigest() == offered.digest
        report = bench.desk.hear(RoundReport)
        assert report.phases[:2] == never_killed.phases[:2]
        assert len(report.phases) == len(never_killed.phases) == 3
        upload, expected = report.phases[2], never_killed.phases[2]
        assert (upload.phase, upload.start_s) == ("upload", expected.start_s)
        assert upload.duration_s == pytest.approx(expected.duration_s)
        assert upload.energy is not None
        assert expected.energy is not None
        assert upload.energy.value_j == pytest.approx(expected.energy.value_j, rel=0.02)
        assert report.busy_s == pytest.approx(never_killed.busy_s)
        assert [t.phase for t in report.transfers] == [t.phase for t in never_killed.transfers]
        assert (report.error, report.training_loss) == ("", never_killed.training_loss)
        (idle,), (expected,) = bench.close(1, 30.0).phases, settled.phases
        assert idle.duration_s == pytest.approx(expected.duration_s)

    def test_a_finished_round_is_told_by_the_next_start(self, bench: Bench, killed: Killed) -> None:
        """Killed after its report, before the coordinator has stored it: it is the same fact."""
        bench.follow(bench.plan())
        bench.desk.stores = False
        _, report = bench.round(bench.start())
        killed.restart()
        bench.another_coordinator()  # it has stored nothing
        bench.desk.order(bench.invitation(), bench.plan(), bench.start())
        assert bench.desk.hear(RoundReport) == report
        assert bench.desk.is_answered()
        # nothing is done again, and the update can be pulled again
        ready = [f for f in bench.desk.everything if isinstance(f, UpdateReady)]
        assert len(ready) == 1
        payload = bench.desk.peer.transfers.fetch(ready[0].update, 30.0)
        assert sha256(payload).hexdigest() == ready[0].update.digest
        bench.desk.store(*bench.desk.everything)
        served = bench.device.peer.transfers.served
        bench.desk.until(lambda said: not said.earlier and not served(), "it is told so")
        bench.desk.stores = True
        bench.close(1, 30.0)
        _, second = bench.round(bench.start(2, 30.0))
        assert second.error == ""
        assert len([f for f in bench.desk.everything if isinstance(f, RoundReport)]) == 2

    def test_joules_of_a_round_that_was_closed_meanwhile(
        self, bench: Bench, killed: Killed
    ) -> None:
        """Its download and training are told once, however often it is started again then."""
        bench.follow(bench.plan())
        bench.desk.order(bench.start())
        bench.desk.hear(UpdateReady)
        state = killed.state.with_name("when-offered")
        shutil.copytree(killed.state, state)
        bench.device.__exit__()
        heard = len(bench.desk.everything)
        bench.desk.order(bench.closed(1, 30.0, accepted=False))
        for _ in range(2):  # started again twice
            bench.device = device(bench.broker, bench.fleet, state)
            bench.device.__enter__()
            bench.desk.hear(Profile)
            bench.desk.hear(PlanApplied)
            bench.device.__exit__()
        bench.device = device(bench.broker, bench.fleet, state)
        bench.device.__enter__()
        bench.desk.hear(Profile)
        told = [f for f in bench.desk.everything[heard:] if isinstance(f, RoundReport)]
        assert len(told) == 1
        assert [p.phase for p in told[0].phases] == ["model-download", "compute"]
        assert "closed meanwhile" in told[0].error

    def test_stopped_in_an_orderly_way_while_it_offers(self, bench: Bench, state: Path) -> None:
        """As by systemd: the round is not broken off, the next start goes on with it."""
        bench.follow(bench.plan())
        bench.desk.order(bench.start())
        offered = bench.desk.hear(UpdateReady).update
        bench.device.__exit__()
        bench.device = device(bench.broker, bench.fleet, state)
        bench.device.__enter__()
        bench.desk.hear(PlanApplied)
        assert sha256(bench.pull()).hexdigest() == offered.digest
        assert bench.desk.hear(RoundReport).error == ""
        assert len([f for f in bench.desk.everything if isinstance(f, RoundReport)]) == 1

    def test_an_update_that_is_lost_is_trained_again_with_all_joules(
        self, bench: Bench, killed: Killed
    ) -> None:
        bench.follow(bench.plan())
        bench.desk.order(bench.start())
        bench.desk.hear(UpdateReady)
        for update in killed.state.glob("*.update"):
            update.write_bytes(b"torn")
        killed.restart()
        bench.desk.hear(PlanApplied)
        bench.pull()
        report = bench.desk.hear(RoundReport)
        assert [p.phase for p in report.phases] == [
            *("model-download", "compute"),
            *("model-download", "compute", "upload"),
        ]
        seconds = math.fsum(p.duration_s for p in report.phases)
        assert seconds == pytest.approx(report.busy_s)

    def test_few_writes(self, bench: Bench) -> None:
        """Three in a round beside the update, and none while it waits."""
        bench.follow(bench.plan())
        outbox = bench.device.agent._outbox
        assert outbox is not None
        at_s = 0.0
        for number in range(1, 4):
            before = outbox.writes
            _, report = bench.round(bench.start(number, at_s))
            at_s += report.busy_s + 1.0
            bench.close(number, at_s)
            assert outbox.writes - before <= 4
        before = outbox.writes
        bench.desk.listen(1.0)
        assert outbox.writes == before

    def test_another_run_gets_none_of_it(self, bench: Bench, killed: Killed) -> None:
        bench.follow(bench.plan())
        bench.offered(bench.start())
        bench.device.__exit__()
        bench.another_run("r2")
        bench.device = device(bench.broker, bench.fleet, killed.state)
        bench.device.__enter__()
        assert bench.join().run == "r2"
        bench.follow(bench.plan())
        _, report = bench.round(bench.start())
        assert report.error == ""
        assert all(fact.run == "r2" for fact in bench.desk.everything)
