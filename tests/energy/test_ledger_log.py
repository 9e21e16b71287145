"""Logs of ledgers: packed without loss, and replayed to the same figures."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
import random
import time

import msgspec
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fimi.energy import ledger_log as logs
from fimi.energy.clock import MonotonicClock, VirtualClock
from fimi.energy.ledger import Evidence, Ledger, PhaseRecord
from fimi.energy.ledger_log import BYTES_MOST, LedgerLog, ReadingsPart, unpacked
from fimi.energy.meters import NOTHING, DeclaredPower, Look, Meter, MeterDescription, Reading
from fimi.energy.meters.combine import WithSecond
from fimi.energy.meters.response import MeterResponse
from fimi.energy.meters.sampler import Sampler
from fimi.energy.reading_arrays import floats, packed_floats, packed_wholes, squeezed, wholes
from fimi.energy.replay import Replayed, replay

METERS = {
    "at once": MeterDescription(
        source="m", kind="measured", scope="board", rate_hz=10.0, resolution_w=0.01
    ),
    "late": MeterDescription(
        source="plug",
        kind="measured",
        scope="wall",
        rate_hz=2.0,
        response=MeterResponse(delay_s=0.4, window_s=1.0, refresh_s=1.0, delay_sd_s=0.1),
    ),
    "counter": MeterDescription(
        source="rapl", kind="measured", scope="cpu", rate_hz=50.0, counts=True, resolution_j=1e-6
    ),
}


class Recorded:
    """A recorder that reads a wandering power at its rate; the last reading begins a list."""

    def __init__(self, meter: MeterDescription, clock: VirtualClock, seed: int) -> None:
        self._meter, self._clock = meter, clock
        self._random = random.Random(seed)
        self._last: Reading | None = None
        self._until_s, self._joules = clock.now_s(), 0.0
        self.power_w = 3.0

    def describe(self) -> MeterDescription:
        return self._meter

    def mark(self) -> list[Reading]:
        found = [] if self._last is None else [self._last]
        now_s, step_s = self._clock.now_s(), 1.0 / self._meter.rate_hz
        while self._until_s + step_s < now_s:
            found.append(self._look(self._until_s + step_s * self._random.uniform(0.9, 1.0)))
        if self._last is None or now_s > self._until_s:
            found.append(self._look(now_s))
        self._last = found[-1]
        return found

    def _look(self, at_s: float) -> Reading:
        power_w = self.power_w * self._random.uniform(0.9, 1.1)
        self._joules += power_w * (at_s - self._until_s)
        self._until_s = at_s
        if self._meter.counts:
            return Reading(time_s=at_s, counter_j=math.floor(self._joules * 1e6) * 1e-6)
        if self._random.random() < 0.02:
            return Reading(time_s=at_s)
        return Reading(time_s=at_s, power_w=round(power_w / 0.01) * 0.01)


class Both(Recorded):
    """The same with a processor's share beside it."""

    def __init__(self, meter: MeterDescription, clock: VirtualClock, seed: int) -> None:
        super().__init__(meter, clock, seed)
        self.beside = {"cpu": Recorded(METERS["counter"], clock, seed + 1)}
        self.readings_beside: dict[str, list[Reading]] = {}

    def mark(self) -> list[Reading]:
        self.readings_beside = {"cpu": self.beside["cpu"].mark()}
        return super().mark()


def worked(
    meter: str, seed: int, rounds: int = 4
) -> tuple[list[PhaseRecord], list[Evidence], list[ReadingsPart]]:
    """What a ledger said in some rounds, and the parts of its log, one of each report."""
    clock = VirtualClock(1234.5)
    draw = random.Random(seed)
    recorder = (
        Both(METERS["late"], clock, seed)
        if meter == "both"
        else Recorded(METERS[meter], clock, seed)
    )
    log = LedgerLog("00" * 8)
    ledger = Ledger(clock, recorder, log)
    told: list[PhaseRecord] = []
    evidence: list[Evidence] = []
    parts: list[ReadingsPart] = []

    def report(number: int) -> None:
        told.extend(ledger.take(number))
        told.extend(each for own in ledger.corrections().values() for each in own)
        if (more := ledger.take_evidence()) is not None:
            evidence.append(more)
        log.part(cut=False)  # a look in between changes nothing
        parts.extend(log.part())

    with ledger.resting("before"):
        clock.advance(6.0)
    for number in range(1, rounds + 1):
        ledger.regime = f"{draw.choice([600, 1500])} MHz"
        for phase in ("model-download", "compute", "waiting", "upload"):
            recorder.power_w = draw.uniform(2.0, 6.0)
            with ledger.phase(phase):
                clock.advance(draw.uniform(0.01, 8.0))
        ledger.begin("idle")
        clock.advance(draw.uniform(0.1, 9.0))
        ledger.end()
        if number == 2:
            ledger.drop()
        report(number)
    return told, evidence, parts


def replayed(parts: list[ReadingsPart | None]) -> Replayed:
    return replay(None if each is None else unpacked(each) for each in parts)


class TestArrays:
    @given(st.lists(st.floats(width=64)), st.sampled_from([0.0, 0.01, 1e-6]))
    def test_doubles_are_the_same_bit_by_bit(self, values: list[float], step: float) -> None:
        array = np.array(values, float)
        again = floats(packed_floats(array, step), len(array))
        assert again.tobytes() == array.tobytes()

    @given(
        st.lists(st.integers(-(2**40), 2**40)),
        st.sampled_from([1e3, 1e6, 1e9]),
    )
    def test_whole_numbers_of_a_unit_are_the_same_too(self, ks: list[int], scale: float) -> None:
        for array in (np.array(ks, float) / scale, np.array(ks, float) * (1.0 / scale)):
            assert floats(packed_floats(array), len(array)).tobytes() == array.tobytes()

    @given(st.lists(st.integers(-(2**63), 2**63 - 1)))
    def test_integers(self, values: list[int]) -> None:
        assert wholes(packed_wholes(values), len(values)).tolist() == values

    @given(st.binary(max_size=40), st.integers(0, 5))
    def test_other_bytes_are_refused_or_numbers(self, data: bytes, count: int) -> None:
        for read in (floats, wholes):
            with contextlib.suppress(ValueError):
                assert len(read(data, count)) == count

    def test_a_grid_of_times_takes_a_byte_each_or_less(self) -> None:
        times_s = 100.0 + np.arange(4000) * 0.1
        powers_w = np.rint(np.random.default_rng(1).normal(3.0, 0.05, 4000) / 0.01) * 0.01
        assert len(squeezed(packed_floats(times_s))) < 4000
        assert len(squeezed(packed_floats(powers_w, 0.01))) < 4000


class TestReplay:
    @pytest.mark.parametrize("meter", [*METERS, "both"])
    @settings(max_examples=4, deadline=None)
    @given(seed=st.integers(0, 10_000))
    def test_every_figure_is_the_same(self, meter: str, seed: int) -> None:
        told, evidence, parts = worked(meter, seed)
        found = replayed(list(parts))
        assert [each.record for each in found.told] == told
        assert [each for each, _ in found.evidence] == evidence
        assert all(each.whole for each in found.told)
        assert len(found.dropped) == 5

    def test_parts_survive_their_way(self) -> None:
        _, _, parts = worked("both", 5)
        again = [msgspec.json.decode(msgspec.json.encode(p), type=ReadingsPart) for p in parts]
        assert again == parts

    def test_an_integral_of_its_own_comes_to_the_same(self) -> None:
        """Second implementation: straight lines between its own readings, held to the edges."""
        told, _, parts = worked("at once", 11)
        readings = {
            r.time_s: r.power_w
            for part in parts
            for step in unpacked(part).steps
            for r in step.readings.get("total", [])
        }
        checked = 0
        for record in told:
            start_s, end_s = record.start_s, record.start_s + record.duration_s
            inside = sorted(t for t in readings if start_s < t <= end_s + 1e-9)
            known = [(t, p) for t in inside if (p := readings[t]) is not None]
            failed = len(known) < len(inside) or readings.get(start_s, 0.0) is None
            if failed or len(known) < 2 or record.energy is None:
                continue  # a failed look leaves a gap, which is another matter
            joules = known[0][1] * (known[0][0] - start_s) + known[-1][1] * (end_s - known[-1][0])
            for (t0, p0), (t1, p1) in itertools.pairwise(known):
                joules += (t1 - t0) * (p0 + p1) / 2.0
            assert record.energy.value_j == pytest.approx(joules, rel=1e-9)
            checked += 1
        assert checked >= 5

    @pytest.mark.parametrize("meter", ["at once", "counter"])
    def test_behind_a_missing_part_joules_are_the_same_but_marked(self, meter: str) -> None:
        told, _, parts = worked(meter, 3)
        found = replayed([parts[0], None, *parts[2:]])
        after = [each for each in found.told if each.part >= 2]
        assert after and not any(each.whole for each in after)
        direct = {(r.phase, r.start_s): r for r in told if r.resolved and r.energy}
        compared = 0
        for each in after[1:]:
            before = direct.get((each.record.phase, each.record.start_s))
            if before is not None and each.record.resolved and each.record.energy:
                assert each.record.energy.value_j == pytest.approx(before.energy.value_j)
                compared += 1
        assert compared

    def test_a_changed_reading_changes_its_phase_alone(self) -> None:
        told, _, parts = worked("at once", 8)
        noted = [unpacked(each) for each in parts]
        step = next(s for s in noted[3].steps if s.step == "end" and len(s.readings["total"]) > 20)
        reading = step.readings["total"][10]
        assert reading.power_w is not None
        step.readings["total"][10] = replace(reading, power_w=reading.power_w + 1.0)
        found = [each.record for each in replay(noted).told]
        other = [
            k for k, (a, b) in enumerate(zip(told, found, strict=True)) if a.energy != b.energy
        ]
        assert len(other) >= 1
        moved = {(found[k].phase, found[k].start_s) for k in other}
        begins = next(s for s in reversed(noted[3].steps[: noted[3].steps.index(step)]))
        assert (begins.words, begins.at_s) in moved


class Waving(Meter):
    """A meter that a thread reads: a power that waves, or its joules, and now and then nothing."""

    def __init__(self, source: str, *, counts: bool) -> None:
        self._description = MeterDescription(
            source=source,
            kind="measured",
            scope="board",
            rate_hz=200.0,
            counts=counts,
            resolution_w=0.0 if counts else 0.001,
        )

    def look(self, time_s: float) -> Look:
        if int(1e3 * time_s) % 37 == 0:
            return NOTHING
        if self._description.counts:
            return Look(counter_j=4.0 * time_s - math.cos(9.0 * time_s) / 9.0)
        return Look(power_w=4.0 + math.sin(9.0 * time_s))


class TestThreads:
    @pytest.mark.parametrize("counts", [False, True])
    def test_two_meters_that_threads_read(self, counts: bool) -> None:
        """Whatever they have seen and whenever, it is told again as it was."""
        clock = MonotonicClock()
        first = Sampler(Waving("first", counts=counts), clock, rate_hz=200.0)
        second = Sampler(Waving("second", counts=not counts), clock, rate_hz=100.0)
        recorder = WithSecond(first, second)
        log = LedgerLog()
        ledger = Ledger(clock, recorder, log)
        told: list[PhaseRecord] = []
        parts: list[ReadingsPart] = []
        try:
            for number in (1, 2, 3):
                for phase in ("compute", "upload", "idle"):
                    with ledger.phase(phase):
                        time.sleep(0.04)
                told += ledger.take(number)
                parts += log.part()
        finally:
            recorder.close()
        found = replayed(list(parts))
        assert [each.record for each in found.told] == told
        assert any(record.second is not None for record in told)

    def test_a_declared_power(self) -> None:
        clock, log = VirtualClock(5.0), LedgerLog()
        ledger = Ledger(clock, DeclaredPower(3.0, clock), log)
        with ledger.phase("compute"):
            clock.advance(2.0)
        told = ledger.take(1)
        found = replayed(list(log.part()))
        assert tuple(each.record for each in found.told) == told
        assert told[0].energy is not None
        assert (told[0].energy.value_j, told[0].energy.kind) == (pytest.approx(6.0), "modelled")


class TestBounds:
    def part(self) -> ReadingsPart:
        return worked("at once", 1, rounds=1)[2][0]

    def test_one_flipped_bit(self) -> None:
        part = self.part()
        assert part.body is not None
        body = bytearray(part.body)
        body[len(body) // 2] ^= 1
        with pytest.raises(ValueError, match="checksum"):
            unpacked(replace(part, body=bytes(body)))

    def test_a_bomb_is_not_unpacked(self) -> None:
        body = zstandard.ZstdCompressor().compress(bytes(1 << 26))
        part = replace(self.part(), body=body, digest=hashlib.sha256(body).hexdigest())
        with pytest.raises(ValueError, match=r"67108864 B, more than"):
            unpacked(part)

    def test_a_hundred_million_readings_are_refused(self) -> None:
        text = msgspec.json.encode(replace(self.part(), count=10**8))
        part = msgspec.json.decode(text, type=ReadingsPart)
        with pytest.raises(ValueError, match="said to have 100000000"):
            unpacked(part)

    @given(st.binary(max_size=200))
    def test_anything_else_is_refused_in_words(self, data: bytes) -> None:
        body = zstandard.ZstdCompressor().compress(data)
        part = ReadingsPart(
            life="ab" * 8, number=0, body=body, digest=hashlib.sha256(body).hexdigest()
        )
        with pytest.raises(ValueError, match="no part of a log"):
            unpacked(part)

    def test_too_many_readings_leave_a_sentence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(logs, "READINGS_MOST", 50)
        _, _, parts = worked("at once", 1, rounds=2)
        assert [part.body for part in parts] == [None, None]
        assert "more than 50 readings" in parts[0].missing
        with pytest.raises(ValueError, match="more than 50 readings"):
            unpacked(parts[0])

    def test_too_little_room_leaves_a_sentence_and_the_next_part_is_whole(self) -> None:
        log = LedgerLog("00" * 8)
        clock = VirtualClock(0.0)
        ledger = Ledger(clock, Recorded(METERS["at once"], clock, 1), log)
        parts: list[ReadingsPart] = []
        for _ in range(2):
            with ledger.phase("compute"):
                clock.advance(30.0)
            ledger.take(1)
            parts += log.part(BYTES_MOST if parts else 100)
        assert "100 B that a report has room for" in parts[0].missing
        assert parts[1].number == 1
        told = replay([None, unpacked(parts[1])]).told
        assert told and told[0].record.energy is not None
