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
from recorded_meters import METERS, Recorded, Several

from fimi.energy import ledger_log as logs
from fimi.energy import ledger_opening, ledger_parts
from fimi.energy.clock import MonotonicClock, VirtualClock
from fimi.energy.ledger import Evidence, Ledger, PhaseRecord
from fimi.energy.ledger_log import LedgerLog
from fimi.energy.ledger_opening import opened, unpacked
from fimi.energy.ledger_parts import BYTES_MOST, LoggedPart, ReadingsPart
from fimi.energy.meters import NOTHING, DeclaredPower, Look, Meter, MeterDescription, Reading
from fimi.energy.meters.combine import Beside, WithSecond
from fimi.energy.meters.sampler import Sampler
from fimi.energy.reading_arrays import floats, packed_floats, packed_wholes, squeezed, wholes
from fimi.energy.replay import Replayed, replay

SEVERAL: dict[str, dict[Beside, str]] = {
    "both": {"cpu": "counter"},
    "three": {"cpu": "counter", "second": "late"},
}


def worked(
    meter: str, seed: int, rounds: int = 4, room_bytes: int = BYTES_MOST
) -> tuple[list[PhaseRecord], list[Evidence], list[ReadingsPart]]:
    """What a ledger said in some rounds, and the parts of its log, one of each report."""
    clock = VirtualClock(1234.5)
    draw = random.Random(seed)
    recorder = (
        Several(METERS["late"], clock, seed, SEVERAL[meter])
        if meter in SEVERAL
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
        parts.extend(log.part(room_bytes))

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


def of_total_alone(noted: LoggedPart) -> LoggedPart:
    """A part of which all but the readings that count had no room."""
    steps = [
        replace(each, readings={n: r for n, r in each.readings.items() if n == "total"})
        for each in noted.steps
    ]
    gone = {name: "no room" for name in noted.meters if name != "total"}
    return replace(noted, steps=steps, follows=noted.follows & {"total"}, left_out=gone)


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
    @pytest.mark.parametrize("meter", [*METERS, *SEVERAL])
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


def look_on(*samplers: Sampler, looks: int = 4, patience_s: float = 30.0) -> None:
    """Wait until their threads have read their meters so often, however busy the machine is."""
    until_s = time.monotonic() + patience_s
    for sampler in samplers:
        sampler.take_cost()
        seen = 0
        while seen < looks:
            assert time.monotonic() < until_s, "the thread of a meter does not run"
            time.sleep(0.002)
            seen += sampler.take_cost().looks


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
                        look_on(first, second)
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


class TestLeftOut:
    """Where there is no room for all, other meters go first, whole, and the part says so."""

    @staticmethod
    def sizes() -> list[int]:
        """Bytes of a part of three series, of two, of one: the same seed, so the same readings."""
        whole = worked("three", 6, rounds=1)[2][0]
        assert whole.body is not None
        found = [len(whole.body)]
        for _ in range(2):
            (part,) = worked("three", 6, rounds=1, room_bytes=found[-1] - 1)[2]
            assert part.body is not None
            found.append(len(part.body))
        return found

    def test_the_second_meter_goes_first_then_the_share_then_all(self) -> None:
        all_, two, one = self.sizes()
        assert all_ > two > one > 0
        for room_bytes, gone in (
            (all_, set()),
            (all_ - 1, {"second"}),
            (two - 1, {"second", "cpu"}),
        ):
            (part,) = worked("three", 6, rounds=1, room_bytes=room_bytes)[2]
            found = opened(part)
            assert set(found.counts) == {"total", "cpu", "second"} - gone
            assert set(unpacked(part).left_out) == gone
            assert part.count == sum(
                len(step.readings[name]) - (place > 0 and len(step.readings[name]) > 0)
                for name in found.counts
                for place, step in enumerate(
                    each for each in unpacked(part).steps if each.readings.get(name)
                )
            )
        (lost,) = worked("three", 6, rounds=1, room_bytes=one - 1)[2]
        assert lost.body is None
        assert f"{one} B, more than the {one - 1} B" in lost.missing

    def test_the_joules_that_count_are_the_same(self) -> None:
        """The first two rounds have room for one series each; the others are whole."""
        told, evidence, parts = worked("three", 6)
        room_bytes = self.sizes()[2]
        _, _, short = worked("three", 6, room_bytes=room_bytes + 300)
        assert all(unpacked(each).left_out for each in short[:2])
        found = replayed([*short[:2], *parts[2:]])
        assert [each for each, _ in found.evidence] == evidence
        assert not found.troubles
        last = {(each.phase, each.start_s): each for each in told}  # corrected ones come later
        again = {(each.record.phase, each.record.start_s): each for each in found.told}
        assert set(again) == set(last)
        for key, each in again.items():
            assert each.without == {"cpu", "second"}
            one, other = last[key], each.record
            assert one.energy is not None
            assert other.energy is not None
            assert other.energy.value_j == pytest.approx(one.energy.value_j, rel=1e-12)
            assert other.energy.uncertainty_j == pytest.approx(one.energy.uncertainty_j, rel=1e-12)
            assert (other.resolved, other.sample_count) == (one.resolved, one.sample_count)
        seconds = [(last[key].second, each.record.second) for key, each in again.items()]
        assert any(one is not None for one, _ in seconds)
        assert any(one != other for one, other in seconds)  # that meter is not made up

    @pytest.mark.parametrize("seed", range(12))
    def test_corrections_need_no_other_meter(self, seed: int) -> None:
        """Without its readings a second meter is waited for longer than the device has waited."""
        clock, draw = VirtualClock(0.0), random.Random(seed)
        recorder = Several(METERS["late"], clock, seed, SEVERAL["three"])
        log = LedgerLog()
        ledger = Ledger(clock, recorder, log)
        told: list[PhaseRecord] = []
        parts: list[ReadingsPart] = []
        for number in range(1, 7):
            for phase in ("compute", "upload", "idle"):
                recorder.power_w = draw.uniform(1.0, 9.0)
                with ledger.phase(phase):
                    clock.advance(draw.choice([0.0, 0.01, 0.3, 3.0, 6.0]))
            told += ledger.take(number)
            told += [each for own in ledger.corrections().values() for each in own]
            parts += log.part()
        found = replay(map(of_total_alone, map(unpacked, parts)))
        last = {(each.phase, each.start_s): _joules_of(each) for each in told}
        versions: dict[tuple[str, float], list[list[float]]] = {}
        for each in found.told:
            key = (each.record.phase, each.record.start_s)
            versions.setdefault(key, []).append(_joules_of(each.record))
        for key, expected in last.items():
            assert any(again == pytest.approx(expected, rel=1e-9) for again in versions[key])

    def test_too_many_readings_of_the_others_go_before_the_joules(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = worked("three", 6, rounds=1)[2][0]
        total = opened(whole).counts["total"]
        monkeypatch.setattr(logs, "READINGS_MOST", total + 5)
        (part,) = worked("three", 6, rounds=1)[2]
        assert set(opened(part).counts) == {"total"}
        assert set(unpacked(part).left_out) == {"cpu", "second"}
        assert f"more than {total + 5} readings" in unpacked(part).left_out["second"]

    def test_a_meter_without_a_reading_is_not_left_out(self) -> None:
        (part,) = worked("three", 6, rounds=1)[2]
        steps = unpacked(part).steps
        assert logs.LedgerLog._next(steps, {}) == "second"
        for step in steps:
            step.readings.pop("second", None)
        assert logs.LedgerLog._next(steps, {}) == "cpu"
        assert logs.LedgerLog._next(steps, {"cpu": "no room"}) is None


def _joules_of(record: PhaseRecord) -> list[float]:
    """Value and uncertainty, and the most that there can be, J; -1 where unknown."""
    energy = record.energy
    known = [-1.0, -1.0] if energy is None else [energy.value_j, energy.uncertainty_j]
    return [*known, -1.0 if record.most_j is None else record.most_j]


def attacked(**changes: object) -> ReadingsPart:
    """A part whose body was changed by somebody who knows its form."""
    part = worked("at once", 1, rounds=1)[2][0]
    assert part.body is not None
    body = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(part.body))
    count = changes.pop("said", part.count)
    column = {} if "series" in changes else body["series"]["total"]
    for key, value in changes.items():
        where = column if key in column else body
        if key == "meter":
            where[key] |= value
        else:
            where[key] = value
    packed = squeezed(msgspec.msgpack.encode(body))
    return replace(part, body=packed, count=count, digest=hashlib.sha256(packed).hexdigest())


class TestAttacks:
    def test_few_bytes_never_become_many_readings(self) -> None:
        """Readings that take no bytes at all, in three series: three times the limit."""
        most = ledger_parts.READINGS_MOST
        column = {
            "meter": msgspec.to_builtins(METERS["at once"]),
            "count": most,
            "at_edges": packed_wholes([most]),
            "again": packed_wholes([0]),
            "flags": packed_wholes([0] * most),
            "times_s": packed_floats(np.zeros(most)),
            "power_w": packed_floats(np.zeros(0)),
            "counter_j": packed_floats(np.zeros(0)),
        }
        part = attacked(
            series=dict.fromkeys(("total", "cpu", "second"), column),
            said=3 * most,
            count=1,
            steps=packed_wholes([0]),
            words=packed_wholes([0]),
            regimes=packed_wholes([0]),
            numbers=packed_wholes([0]),
            at_s=packed_floats(np.zeros(1)),
        )
        assert part.body is not None
        assert len(part.body) < 500
        with pytest.raises(ValueError, match="393216 readings, the limit is 131072"):
            opened(part)

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"count": -1}, "no part of a log"),
            ({"count": 10**9}, "no part of a log"),
            ({"at_edges": packed_wholes([-1, 200])}, "numbers of"),
            ({"flags": b""}, "begins with unknown bytes"),
            ({"times_s": b"\x07"}, "unknown byte"),
            ({"times_s": "text"}, "no part of a log"),
            ({"steps": 7}, "no part of a log"),
            ({"texts": ["x" * 401]}, "no part of a log"),
            ({"texts": []}, "a text that is not there"),
            ({"meter": {"rate_hz": math.nan}}, "rate_hz = nan"),
            ({"meter": {"rate_hz": -1.0}}, "rate_hz = -1"),
            ({"meter": {"noise_w": math.inf}}, "noise_w = inf"),
            ({"meter": {"source": "m" * 500}}, "a name of 500 characters"),
            ({"meter": {"kind": "guessed"}}, "no part of a log"),
            ({"left_out": {"total": "no room"}}, "whose joules count"),
            ({"left_out": {"third": "no room"}}, "no part of a log"),
            ({"series": {}, "said": 0}, "whose joules count"),
            ({"more": 1}, "no part of a log"),
        ],
    )
    def test_what_cannot_be_is_refused_in_words(
        self, changes: dict[str, object], words: str
    ) -> None:
        with pytest.raises(ValueError, match=words):
            opened(attacked(**changes))

    @pytest.mark.parametrize("field", ["times_s", "at_s", "flags", "at_edges", "again"])
    def test_arrays_of_absurd_numbers(self, field: str) -> None:
        part = worked("at once", 1, rounds=1)[2][0]
        noted = unpacked(part)
        edges = sum(step.step in ledger_parts.EDGES for step in noted.steps)
        count = part.count if field in ("times_s", "flags") else edges
        for value in (math.nan, math.inf, -1e300) if field.endswith("_s") else (-1, 9, 2**62):
            array = (
                packed_floats(np.full(count, value))
                if isinstance(value, float)
                else packed_wholes([int(value)] * count)
            )
            if value == -1e300:
                opened(attacked(**{field: array}))  # a strange clock, and no harm
                continue
            with pytest.raises(ValueError, match=r"no time|unknown form|cannot be|than its edges"):
                opened(attacked(**{field: array}))

    @given(st.data())
    @settings(max_examples=60, deadline=None)
    def test_any_byte_of_it_changed_is_refused_or_read_within_its_limits(
        self, data: st.DataObject
    ) -> None:
        part = worked("at once", 1, rounds=1)[2][0]
        assert part.body is not None
        raw = bytearray(zstandard.ZstdDecompressor().decompress(part.body))
        for _ in range(data.draw(st.integers(1, 3))):
            raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
        body = squeezed(bytes(raw))
        changed = replace(part, body=body, digest=hashlib.sha256(body).hexdigest())
        try:
            found = opened(changed)
        except ValueError:
            return
        assert found.counts["total"] <= 2 * part.count
        found.logged()

    def test_opening_makes_no_reading(self, monkeypatch: pytest.MonkeyPatch) -> None:
        part = worked("at once", 1, rounds=1)[2][0]

        def no_reading(**_: object) -> Reading:
            raise AssertionError("a reading was made")

        monkeypatch.setattr(ledger_opening, "Reading", no_reading)
        assert opened(part).counts["total"] > 100
        with pytest.raises(AssertionError):
            opened(part).logged()
