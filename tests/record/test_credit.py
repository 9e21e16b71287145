"""What comes after a round was closed is credited to it: once, wherever it belongs, for good."""

from __future__ import annotations

import math
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from stored_runs import ROUND, costs, device_round, profile, record, round_result, talkative

from fimi.energy.cost_model import Phase
from fimi.energy.ledger import Evidence, PhaseRecord
from fimi.energy.resting import Resting
from fimi.messaging.messages.facts import RoundReport, RoundSettled
from fimi.record.bounds import unknown_max
from fimi.record.credit import AFTERWARDS, EVIDENCE_MOST, FULL, STRETCHES_MOST, credited
from fimi.record.reader import read_run
from fimi.record.results import DeviceRound
from fimi.record.store import RunStore
from fimi.record.summary import summarise
from fimi.record.sums import Gap

ROUND_S = 7.5
BOARD = profile("a").board


def at(start_s: float, phase: Phase) -> PhaseRecord:
    """A phase of the usual round, at its place in it."""
    return replace(record(phase, *ROUND[phase][:2]), start_s=start_s)


PHASES = (at(100.0, "model-download"), at(100.5, "compute"), at(104.5, "upload"))
IDLE = at(105.5, "idle")


def report(**changes: Any) -> RoundReport:
    told = talkative("a")
    whole = RoundReport(
        run="r",
        device="a",
        round=1,
        local_samples=10,
        synthetic_samples=6,
        training_loss=0.3,
        training_accuracy=0.9,
        frequency_hz=1.4e9,
        busy_s=5.5,
        phases=PHASES,
        backend="onnxruntime 1.31",
        transfers=told.transfers,
        observed=told.observed,
        trained_at=told.trained_at,
    )
    return replace(whole, **changes)


def settled(*phases: PhaseRecord) -> RoundSettled:
    return RoundSettled(run="r", device="a", round=1, phases=phases or (IDLE,))


MISSING = DeviceRound(
    device="a",
    status="missing",
    reason="a did not report",
    predicted=costs(),
    unknown_max=unknown_max(BOARD, ROUND_S),
)


class TestEntry:
    def test_a_missing_device_becomes_a_late_one(self) -> None:
        entry = credited(MISSING, ROUND_S, report())
        assert entry.status == "late"
        assert entry.reason == f"a did not report; {AFTERWARDS}"
        assert (entry.busy_s, entry.training_loss, entry.backend) == (5.5, 0.3, "onnxruntime 1.31")
        assert (entry.phases, entry.transfers) == (PHASES, report().transfers)
        assert entry.observed == report().observed
        assert entry.predicted == MISSING.predicted
        bound = unknown_max(BOARD, ROUND_S, PHASES)  # two seconds of idling
        assert entry.unknown_max is not None and bound is not None
        assert math.isclose(entry.unknown_max.value_j, bound.value_j)
        whole = credited(entry, ROUND_S, settled=settled())
        assert whole.unknown_max is None
        assert whole.phases == (*PHASES, IDLE)

    def test_a_device_that_idled_through_the_round_lacks_nothing(self) -> None:
        idle = replace(IDLE, start_s=100.0, duration_s=ROUND_S)
        entry = credited(MISSING, ROUND_S, settled=settled(idle))
        assert (entry.status, entry.unknown_max) == ("missing", None)
        assert [cost.phase for cost in entry.predicted] == ["idle"]
        part = credited(MISSING, ROUND_S, settled=settled(replace(idle, duration_s=2.0)))
        assert part.predicted == MISSING.predicted  # it may have done anything in the rest of it

    def test_a_device_that_failed_says_so_however_late(self) -> None:
        entry = credited(MISSING, ROUND_S, report(error="a diverged", training_loss=None))
        assert (entry.status, entry.training_loss) == ("failed", None)
        assert entry.reason == f"a did not report; a diverged; {AFTERWARDS}"

    def test_a_device_that_a_rule_cut_off_stays_late_and_its_joules_count(self) -> None:
        cut = replace(MISSING, status="late")
        assert (cut.outcome, cut.is_gone) == ("late", True)
        told = report(error="broken off: round 1 was closed before its end", training_loss=None)
        entry = credited(cut, ROUND_S, told)
        assert (entry.status, entry.outcome, entry.is_gone) == ("late", "late", False)
        assert entry.phases == PHASES
        assert "broken off" in entry.reason
        assert credited(entry, ROUND_S, told) == entry

    def test_the_idle_phase_takes_the_place_of_the_one_that_stood_for_it(self) -> None:
        stand_in = replace(IDLE, energy=None, sample_count=0, start_s=105.4)
        stored = device_round("a", phases=(*PHASES, stand_in))
        entry = credited(stored, ROUND_S, settled=settled())
        assert entry.phases == (*PHASES, IDLE)
        assert entry.status == "accepted"

    def test_an_idle_phase_that_could_not_be_read_stays(self) -> None:
        unread = replace(IDLE, energy=None)
        stored = device_round("a", phases=(*PHASES, unread))
        assert credited(stored, ROUND_S, settled=settled(unread)) == stored
        later = replace(IDLE, start_s=106.0)
        assert credited(stored, ROUND_S, settled=settled(later)).phases[-2:] == (unread, later)

    @pytest.mark.parametrize("status", ["accepted", "refused", "late", "resting"])
    def test_who_was_judged_is_not_judged_again(self, status: Any) -> None:
        stored = device_round("a", status=status, phases=PHASES)
        second = report(busy_s=1.0, phases=(at(0.0, "compute"),))
        entry = credited(stored, ROUND_S, second)
        assert entry.phases == (*PHASES, at(0.0, "compute"))  # which it has drawn as well
        same = replace(entry, phases=stored.phases, unknown_max=stored.unknown_max)
        assert same == stored
        unjudged = replace(stored, status="refused", busy_s=None, phases=())
        assert credited(unjudged, ROUND_S, report()) == unjudged

    def test_an_absent_device_may_tell_that_it_idled(self) -> None:
        absent = DeviceRound(device="a", status="absent", reason="a was offline")
        entry = credited(absent, ROUND_S, settled=settled(at(3.0, "idle")))
        assert (entry.status, entry.phases) == ("absent", (at(3.0, "idle"),))


FACTS = st.lists(
    st.sampled_from(
        [
            ("report", report()),
            ("settled", settled()),
            ("settled", settled(at(3.0, "idle"), at(105.5, "idle"))),
            ("report", report(error="a went wrong")),
        ]
    ),
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(facts=FACTS, closed_before=st.integers(0, 2), again=st.randoms(use_true_random=False))
def test_nothing_counts_twice_and_nothing_is_lost(
    facts: list[tuple[str, Any]], closed_before: int, again: Any
) -> None:
    """Some facts reach the coordinator in time, some late, all of them several times.

    What the store ends with is what the pure function makes of the first of each, and every joule
    that was told is in it once.
    """
    stored = MISSING
    for name, fact in facts[:closed_before]:
        stored = credited(stored, ROUND_S, **{name: fact})
    late = [*facts, *again.sample(facts, len(facts))]
    expected = stored
    for name, fact in late:
        expected = credited(expected, ROUND_S, **{name: fact})
    with tempfile.TemporaryDirectory() as folder:
        store = RunStore(Path(folder) / "run.sqlite")
        store.write_round(round_result(1, [stored], 0.5))
        for name, fact in late:
            store.credit(1, "a", **{name: fact})
        store.close()
        (found,) = read_run(Path(folder)).rounds[0].devices
    assert found == expected
    told = [p for name, f in facts for p in f.phases if name == "settled"]
    reports = [f for name, f in facts if name == "report"]
    told += [phase for each in reports for phase in each.phases]
    assert {(p.phase, p.start_s) for p in found.phases} == {(p.phase, p.start_s) for p in told}
    assert len(found.phases) == len({(p.phase, p.start_s) for p in told})


class TestStore:
    def test_late_joules_are_in_their_round(self, tmp_path: Path, build: Any) -> None:
        rounds = [
            build.round_result(n, [MISSING if n == 2 else device_round("a")], 0.5) for n in (1, 2)
        ]
        store = build.write(tmp_path, names="a", rounds=rounds, close=False)
        before = summarise(read_run(tmp_path))
        assert before.energy.value is None
        assert before.energy.missing == (Gap(device="a", round=2, unknown_max=MISSING.unknown_max),)
        entry = store.credit(2, "a", report(), settled())
        assert entry is not None
        assert store.credit(2, "a", report(), settled()) is None
        store.close()
        after = summarise(read_run(tmp_path))
        assert after.energy.missing == ()
        assert after.energy.value_j == pytest.approx(0.6 + 2 * build.measured_j)
        assert after.devices[0].problems == ((2, "late", entry.reason),)

    def test_a_round_or_device_that_is_not_there_is_no_error(self, tmp_path: Path) -> None:
        store = RunStore(tmp_path / "run.sqlite")
        store.write_round(round_result(1, [MISSING], 0.5))
        assert store.credit(2, "a", report()) is None
        assert store.credit(1, "b", report()) is None
        store.close()

    def test_a_credit_that_is_broken_off_leaves_the_entry_whole(self, tmp_path: Path) -> None:
        """The rows of the device are written anew in one transaction, which is broken off."""
        store = RunStore(tmp_path / "run.sqlite")
        store.write_round(round_result(1, [device_round("a", phases=PHASES)], 0.5))
        with sqlite3.connect(tmp_path / "run.sqlite") as db:
            db.execute(
                "CREATE TRIGGER full BEFORE INSERT ON sample WHEN new.phase = 'idle' "
                "BEGIN SELECT raise(ABORT, 'no room'); END"
            )
        db.close()
        with pytest.raises(Exception, match="no room"):
            store.credit(1, "a", settled=settled())
        store.close()
        (found,) = read_run(tmp_path).rounds[0].devices
        assert found.phases == PHASES


class TestOnAndOn:
    """A device that tells ever more of a round: the record does not grow with it."""

    @staticmethod
    def rested(number: int) -> Evidence:
        rest = Resting(
            when="after", start_s=float(number), duration_s=9.0, power_w=3.0, uncertainty_w=0.01
        )
        return Evidence(rests=(rest,))

    def fact(self, kind: str, number: int, count: int) -> dict[str, Any]:
        told = tuple(at(1e6 + 1e3 * number + k, "compute") for k in range(count))
        if kind == "report":
            return {"report": report(phases=told, evidence=self.rested(number))}
        return {"settled": replace(settled(), phases=told, evidence=self.rested(number))}

    @settings(max_examples=25, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from(["report", "settled"]), st.integers(0, 400))))
    def test_the_record_is_bounded(self, told: list[tuple[str, int]]) -> None:
        """Against one that adds up: what fits is there, and what does not is left out whole."""
        entry = device_round("a", phases=PHASES)
        stretches, pieces = len(PHASES), 0
        for number, (kind, count) in enumerate(told):
            entry = credited(entry, ROUND_S, **self.fact(kind, number, count))
            stretches += count if stretches + count <= STRETCHES_MOST else 0
            pieces = min(pieces + 1, EVIDENCE_MOST)
        assert (len(entry.phases), len(entry.evidence)) == (stretches, pieces)
        lost = len(PHASES) + sum(n for _, n in told) > stretches or len(told) > pieces
        assert (FULL in entry.reason) == lost
        assert entry.reason.count(FULL) <= 1
        full = credited(entry, ROUND_S, **self.fact("report", 999, STRETCHES_MOST))
        assert credited(full, ROUND_S, **self.fact("report", 999, STRETCHES_MOST)) == full

    def test_that_evidence_was_left_out_is_said(self) -> None:
        entry = credited(MISSING, ROUND_S, report())
        for number in range(EVIDENCE_MOST - len(entry.evidence)):
            entry = credited(entry, ROUND_S, **self.fact("settled", number, 1))
        assert len(entry.evidence) == EVIDENCE_MOST
        assert FULL not in entry.reason
        more = credited(entry, ROUND_S, **self.fact("settled", 999, 1))
        assert more.evidence == entry.evidence
        assert FULL in more.reason

    def test_what_a_round_was_told_first_is_kept_whole(self) -> None:
        many = tuple(at(float(k), "compute") for k in range(STRETCHES_MOST + 1))
        entry = credited(MISSING, ROUND_S, report(phases=many))
        assert entry.phases == many
        more = credited(entry, ROUND_S, settled=settled())
        assert (more.phases, more.reason) == (many, f"{entry.reason}; {FULL}")
        assert credited(more, ROUND_S, report(phases=many)) == more


class TestLateMeters:
    """Of phases whose readings come late, a device says more when the round is settled."""

    AGAIN = tuple(replace(phase, largest_gap_s=0.01) for phase in PHASES)
    FIRST = tuple(replace(phase, final=False, resolved=False) for phase in PHASES)
    RESTED = Evidence(
        rests=(Resting(when="after", start_s=1.0, duration_s=9.0, power_w=3.0, uncertainty_w=0.01),)
    )

    def settled(self, *idle: PhaseRecord) -> RoundSettled:
        phases = (*self.AGAIN, *idle)
        return RoundSettled(run="r", device="a", round=1, phases=phases, evidence=self.RESTED)

    def missing(self) -> DeviceRound:
        return DeviceRound(device="a", status="missing", reason="late", predicted=costs())

    @pytest.mark.parametrize("settled_first", [False, True])
    def test_the_order_does_not_matter(self, settled_first: bool) -> None:
        told: list[dict[str, Any]] = [
            {"report": report(phases=self.FIRST)},
            {"settled": self.settled(IDLE)},
        ]
        entry = self.missing()
        for fact in reversed(told) if settled_first else told:
            entry = credited(entry, ROUND_S, **fact)
        assert {p.phase: p for p in entry.phases} == {p.phase: p for p in (*self.AGAIN, IDLE)}
        assert [c.phase for c in entry.predicted] == [c.phase for c in costs()]
        assert entry.evidence == (self.RESTED,)

    def test_what_brings_nothing_but_evidence_is_kept_once(self) -> None:
        entry = credited(self.missing(), ROUND_S, report=report(phases=self.AGAIN))
        for _ in range(2):
            entry = credited(entry, ROUND_S, settled=self.settled())
        assert entry.evidence == (self.RESTED,)
        assert entry.phases == self.AGAIN
