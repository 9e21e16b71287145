"""A machine as a meter for another: real brokers, senders that are killed, clocks that are set."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from home_sender import MortalBroker, sender, until
from worlds import Ina226, TwoPackages, write

from fimi.edge_agent.meter_sender import MeterSender, topic_of
from fimi.energy.clock import MonotonicClock, VirtualClock
from fimi.energy.meters import NOTHING, Look, Meter, MeterDescription, MeterUnavailableError
from fimi.energy.meters.elsewhere import wire
from fimi.energy.meters.elsewhere.topic import TopicMeter, TopicSettings
from fimi.energy.meters.response import MeterResponse
from fimi.energy.meters.sampler import Sampler
from fimi.messaging.address import BrokerAddress
from fimi.messaging.broker.embedded import find_mosquitto

CLOCK = MonotonicClock()
_names = itertools.count()


@pytest.fixture
def name() -> str:
    return f"pi-{os.getpid()}-{next(_names)}"


class Bench(Meter):
    """A meter whose power or counter is the monotonic time, so that a reading tells its instant."""

    def __init__(self, *, counts: bool = False) -> None:
        self.broken = False
        self.own: tuple[str, ...] = ()
        self.power_w: float | None = None
        self.closed = False
        self._counts = counts
        self.began_s = time.monotonic()
        self._description = MeterDescription(
            source="bench:time",
            kind="measured",
            scope="board",
            rate_hz=50.0,
            resolution_w=0.005,
            relative_uncertainty=0.03,
            counts=counts,
            response=MeterResponse(delay_s=0.02, window_s=0.01, delay_sd_s=0.004, origin="chip"),
        )

    def look(self, time_s: float) -> Look:
        if self.broken:
            return NOTHING
        if self.power_w is not None:
            return Look(power_w=self.power_w)
        now_s = time.monotonic()
        since_s = now_s - self.began_s
        if self._counts:
            return Look(counter_j=since_s, time_s=now_s)
        return Look(power_w=since_s, time_s=now_s)

    def facts(self) -> tuple[str, ...]:
        return ("shunt 10 mΩ", "x" * 900)

    def doubts(self) -> tuple[str, ...]:
        return self.own

    def why_nothing(self) -> str:
        return "its cable is out" if self.broken else ""

    def close(self) -> None:
        self.closed = True


class SetClock:
    """The monotonic clock, ahead by what the test says."""

    def __init__(self, ahead_s: float) -> None:
        self.ahead_s = ahead_s

    def now_s(self) -> float:
        return time.monotonic() + self.ahead_s


def off_s(meter: TopicMeter, look: Look, bench: Bench, clock: Any = CLOCK) -> float:
    """How far a reading stands from the instant of its making, beyond the stated bound, s."""
    assert look.time_s is not None and look.power_w is not None
    made_s = bench.began_s + look.power_w + getattr(clock, "ahead_s", 0.0)
    return abs(look.time_s - made_s) - meter._offset.best(clock.now_s())[1]


def place(port: int) -> BrokerAddress:
    return BrokerAddress(host="127.0.0.1", port=port)


def receiver(port: int, name: str, clock: Any = CLOCK, **given: Any) -> TopicMeter:
    given = {"wait_s": 10.0, **given}
    return TopicMeter(TopicSettings(topic=f"fimi-meter/{name}", port=port, **given), clock)


@pytest.fixture
def bench(home_broker: int, name: str) -> Iterator[Bench]:
    meter = Bench()
    running = MeterSender(meter, name, place(home_broker), rate_hz=50.0)
    yield meter
    running.close()
    assert meter.closed


class TestTheReceiver:
    def test_it_has_the_senders_meter(self, bench: Bench, home_broker: int, name: str) -> None:
        meter = receiver(home_broker, name)
        try:
            found, sent = meter.describe(), bench.describe()
        finally:
            meter.close()
        assert found.source == f"fimi-meter/{name}:bench:time"
        assert (found.kind, found.scope, found.counts) == ("measured", "board", False)
        assert found.relative_uncertainty == 0.03 and found.resolution_w == 0.005
        assert found.response.window_s == 0.01 and found.response.origin == "chip"
        assert found.response.delay_s == 0.02
        assert found.response.delay_sd_s >= sent.response.delay_sd_s
        assert found.response.refresh_s == 0.0, "the age of a value is known"

    @pytest.mark.parametrize("ahead_s", [0.0, 12345.6, -3e8])
    def test_readings_stand_at_the_time_at_which_they_were_made(
        self, bench: Bench, home_broker: int, name: str, ahead_s: float
    ) -> None:
        """Whatever the clocks show: the value of a reading is the instant of its making."""
        clock = SetClock(ahead_s)
        meter = receiver(home_broker, name, clock)
        try:
            for _ in range(5):
                seen = meter.look(clock.now_s())
                look = until(lambda seen=seen: self.newer(meter, clock, seen))
                assert off_s(meter, look, bench, clock) <= 1e-6 * max(1.0, abs(ahead_s) * 1e-6)
            said = " ".join(meter.facts())
        finally:
            meter.close()
        assert "ahead by" in said and "± " in said and "exchanges" in said

    @staticmethod
    def newer(meter: TopicMeter, clock: SetClock, seen: Look) -> Look | None:
        look = meter.look(clock.now_s())
        return look if look.time_s != seen.time_s else None

    def test_a_clock_that_is_set_is_noticed(
        self, bench: Bench, home_broker: int, name: str
    ) -> None:
        clock = SetClock(0.0)
        meter = receiver(home_broker, name, clock)
        try:
            time.sleep(1.1)  # an answer is believed for a second
            for step_s in (-100.0, 100.0):
                steps = meter._offset.steps
                clock.ahead_s += step_s
                until(lambda steps=steps: meter._offset.steps > steps)

                def right() -> bool:
                    look = meter.look(clock.now_s())
                    return look != NOTHING and off_s(meter, look, bench, clock) <= 1e-6

                until(right)
                time.sleep(1.1)
            assert any("set 2 times" in fact for fact in meter.facts())
        finally:
            meter.close()

    def test_a_meter_that_cannot_be_read_is_no_value_at_once(
        self, bench: Bench, home_broker: int, name: str
    ) -> None:
        meter = receiver(home_broker, name, stale_s=3600.0)
        try:
            bench.broken = True
            until(lambda: meter.look(CLOCK.now_s()) == NOTHING)
            assert "cannot read 'bench:time'" in meter.why_nothing()
            until(lambda: "its cable is out" in meter.why_nothing())
            bench.broken = False
            until(lambda: meter.look(CLOCK.now_s()) != NOTHING)
        finally:
            meter.close()

    def test_what_may_be_off_is_not_doubted_at_zero(
        self, bench: Bench, home_broker: int, name: str
    ) -> None:
        usual = receiver(home_broker, name)
        bench.may_rest = True
        heard = usual._messages
        until(lambda: usual._messages > heard + 1)
        resting = receiver(home_broker, name)
        try:
            assert (usual.may_rest, resting.may_rest) == (False, True)
        finally:
            usual.close()
            resting.close()

    def test_another_version_of_fimi_is_named(self, home_broker: int, name: str) -> None:
        with sender(home_broker) as home:
            home.repeat(f"fimi-meter/{name}", lambda _: '{"fimi_meter":2,"power_w":5}')
            with pytest.raises(MeterUnavailableError, match="same version of fimi"):
                receiver(home_broker, name, wait_s=0.5)

    def test_other_programs_read_it_by_pointer(
        self, bench: Bench, home_broker: int, name: str
    ) -> None:
        meter = receiver(home_broker, name, unit="W", pointer="/power_w", time_pointer="/time_s")
        try:
            assert meter.look(CLOCK.now_s()).power_w is not None
        finally:
            meter.close()


class TestDoubts:
    """What speaks against the meter is known where it is, and must be known where it is used."""

    def test_they_come_with_the_readings_and_end_with_them(
        self, bench: Bench, home_broker: int, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        meter = receiver(home_broker, name)
        sampler = Sampler(meter, CLOCK, rate_hz=100.0)
        try:
            assert meter.doubts() == sampler.take_doubts() == ()
            bench.own = ("it is at the end of its range, ±3.2 A",)
            said = until(sampler.take_doubts)
            source = f"fimi-meter/{name}:bench:time"
            assert said == (f"{source}: on its machine: {bench.own[0]}",)
            assert "the meter bench:time is doubtful: it is at the end" in caplog.text
            bench.own = ()
            until(lambda: meter.doubts() == ())
        finally:
            sampler.close()

    def test_the_senders_own_watch_notices_0_w(
        self, bench: Bench, home_broker: int, name: str
    ) -> None:
        bench.power_w = 0.0
        meter = receiver(home_broker, name)
        try:
            until(lambda: any("it shows 0 W" in doubt for doubt in meter.doubts()))
        finally:
            meter.close()

    def test_facts_come_when_it_is_opened(self, bench: Bench, home_broker: int, name: str) -> None:
        meter = receiver(home_broker, name)
        try:
            told = until(lambda: [fact for fact in meter.facts() if "10 mΩ" in fact])[0]
        finally:
            meter.close()
        assert told.startswith("when its sender was started: shunt 10 mΩ, xxx")
        assert len(told) < 400

    def test_messages_are_small(self, bench: Bench, home_broker: int, name: str) -> None:
        with sender(home_broker, f"fimi-meter/{name}") as home:
            until(lambda: home.heard)
            assert not {"doubts", "facts"} & set(json.loads(home.heard[-1][1])), "there are none"
            bench.own = tuple(f"{number:030d} is odd" + "ä" * 900 for number in range(40))
            until(lambda: "doubts" in json.loads(home.heard[-1][1]))
            last = home.heard[-1][1]
        doubts = json.loads(last)["doubts"]
        assert len(doubts) <= 8 and max(map(len, doubts)) <= 300
        assert wire.read_sent(last).doubts == tuple(doubts)

    def test_a_sender_of_before_has_none(self) -> None:
        before = (
            b'{"fimi_meter":1,"session":"s","sequence":3,"clock_s":5.0,"time_s":1.7e9,'
            b'"power_w":4.0,"energy_j":null,"reset":false,"source":"hwmon:ina226",'
            b'"kind":"measured","scope":"board","rate_hz":10.0}'
        )
        assert not wire.read_sent(before).doubts and not wire.read_sent(before).facts

    @pytest.mark.parametrize(
        "about", ["", "garbage", '{"fimi_meter":1}', '{"facts":["\\u001b[2J"]}']
    )
    def test_garbage_as_an_announcement_is_no_harm(
        self, bench: Bench, home_broker: int, name: str, about: str
    ) -> None:
        meter = receiver(home_broker, name)
        try:
            before = until(lambda: meter._sent_facts)
            with sender(home_broker) as home:
                home.say(f"fimi-meter/{name}/about", about)
            seen = meter._messages
            until(lambda: meter._messages > seen + 3)
            assert meter._sent_facts == before
        finally:
            meter.close()

    def test_a_meter_that_raises_is_said_once(
        self, home_broker: int, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Raising(Bench):
            def look(self, time_s: float) -> Look:
                raise RuntimeError("the driver is gone")

        running = MeterSender(Raising(), name, place(home_broker), rate_hz=50.0)
        with sender(home_broker, f"fimi-meter/{name}") as home:
            until(lambda: home.heard and "doubts" in json.loads(home.heard[-1][1]))
            said = json.loads(home.heard[-1][1])
        running.close()
        assert said["power_w"] is None and "the driver is gone" in said["doubts"][0]
        assert caplog.text.count("bench:time cannot be read") == 1


class TestSlowNetwork:
    """A sender of our own whose messages are held back: delays that are known exactly."""

    def run(
        self, home_broker: int, name: str, *, answers: bool, delays_s: list[float]
    ) -> tuple[list[float], TopicMeter]:
        clock, topic = VirtualClock(1000.0), f"fimi-meter/{name}"
        ahead_s = 5000.0

        def reply(heard: str, payload: bytes) -> None:
            question = msgspec.json.decode(payload)
            at_s = clock.now_s() + ahead_s
            answer = wire.Answer(
                number=question["number"], session="s", heard_s=at_s, answered_s=at_s
            )
            home._client.publish(
                f"{topic}/answer/{question['receiver']}", msgspec.json.encode(answer)
            )

        with sender(home_broker, f"{topic}/ask") as home:
            if answers:
                home.on_heard = reply
            numbers = itertools.count()

            def message(power_w: float, clock_s: float) -> bytes:
                description = MeterDescription(
                    source="m", kind="measured", scope="board", rate_hz=0.1
                )
                return wire.sent(
                    Look(power_w=power_w),
                    description,
                    session="s",
                    sequence=next(numbers),
                    clock_s=clock_s,
                    time_s=0.0,
                )

            with sender(home_broker) as early:
                early.repeat(topic, lambda _: message(0.0, 1000.0 + ahead_s))
                meter = receiver(home_broker, name, clock, stale_s=100.0)
            placed_s = []
            for turn, delay_s in enumerate(delays_s, 1):
                made_s = 1000.0 + 10.0 * turn
                clock.show(made_s + delay_s)

                def heard(power_w: float = float(turn), made_s: float = made_s) -> Look | None:
                    # A very late one is used once the clocks were compared again.
                    home.say(topic, message(power_w, made_s + ahead_s))
                    return self.of(meter, clock, power_w)

                look = until(heard)
                placed_s.append(look.time_s - made_s)
        return placed_s, meter

    @staticmethod
    def of(meter: TopicMeter, clock: VirtualClock, power_w: float) -> Look | None:
        look = meter.look(clock.now_s())
        return look if look.power_w == power_w else None

    def test_delays_do_not_move_readings(self, home_broker: int, name: str) -> None:
        errors_s, meter = self.run(
            home_broker, name, answers=True, delays_s=[0.0, 1.5, 0.3, 4.0, 0.0, 2.5]
        )
        meter.close()
        assert max(map(abs, errors_s)) < 0.01
        assert not meter.doubts()

    def test_without_answers_the_fastest_message_counts_and_this_is_said(
        self, home_broker: int, name: str
    ) -> None:
        errors_s, meter = self.run(home_broker, name, answers=False, delays_s=[1.5, 0.3, 0.8, 0.3])
        meter.close()
        assert max(map(abs, errors_s)) < 0.01, "the first messages came at once"
        assert any("answers no question" in doubt for doubt in meter.doubts())


class TestSenders:
    def test_a_sender_that_is_started_again(self, home_broker: int, name: str) -> None:
        old = Bench(counts=True)
        old.began_s -= 1000.0
        first = MeterSender(old, name, place(home_broker), rate_hz=50.0)
        meter = receiver(home_broker, name)
        try:
            until(lambda: (meter.look(CLOCK.now_s()).counter_j or 0.0) > 1000.0)
            assert meter.describe().counts
            first.close()
            again = MeterSender(Bench(counts=True), name, place(home_broker), rate_hz=50.0)
            look = until(lambda: self.after_reset(meter))
            assert look.counter_j < 500.0, "its counter has begun anew"
            until(lambda: meter._offset.ready)
            assert not meter.doubts(), "one after another are not two senders"
            assert not meter.look(CLOCK.now_s()).reset, "it is said once"
            again.close()
        finally:
            meter.close()
            first.close()

    @staticmethod
    def after_reset(meter: TopicMeter) -> Look | None:
        look = meter.look(CLOCK.now_s())
        return look if look.reset else None

    def test_two_senders_on_one_topic_are_refused(
        self, bench: Bench, home_broker: int, name: str
    ) -> None:
        meter = receiver(home_broker, name)
        other = MeterSender(Bench(), name, place(home_broker), rate_hz=50.0)
        try:
            until(lambda: any("two senders" in doubt for doubt in meter.doubts()))
            assert meter.look(CLOCK.now_s()) == NOTHING
            with pytest.raises(MeterUnavailableError, match=f"two senders publish on .*{name}"):
                receiver(home_broker, name)
        finally:
            other.close()
            meter.close()

    def test_a_second_sender_that_ends_is_forgotten(
        self, bench: Bench, home_broker: int, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("fimi.energy.meters.elsewhere.topic._ALONE_S", 1.0)
        meter = receiver(home_broker, name)
        other = MeterSender(Bench(), name, place(home_broker), rate_hz=50.0)
        try:
            until(lambda: any("two senders" in doubt for doubt in meter.doubts()))
            assert "two senders" in meter.why_nothing()
            other.close()
            until(lambda: meter.look(CLOCK.now_s()) != NOTHING)
            assert not any("two senders" in doubt for doubt in meter.doubts())
        finally:
            other.close()
            meter.close()

    def test_a_broker_that_dies_and_comes_back(
        self, tmp_path: Path, free_port: int, name: str
    ) -> None:
        if find_mosquitto() is None:
            pytest.skip("mosquitto is not installed (apt install mosquitto)")
        broker = MortalBroker(tmp_path, free_port)
        broker.start()
        bench = Bench()
        running = MeterSender(bench, name, place(free_port), rate_hz=50.0)
        meter = receiver(free_port, name, stale_s=0.5)
        try:
            broker.kill()
            until(lambda: meter.look(CLOCK.now_s()) == NOTHING)
            until(lambda: running.dropped > 0)
            broker.start()
            look = until(lambda: self.holds(meter))
            assert off_s(meter, look, bench) <= 1e-6
        finally:
            meter.close()
            running.close()
            broker.kill()

    @staticmethod
    def holds(meter: TopicMeter) -> Look | None:
        look = meter.look(CLOCK.now_s())
        return None if look == NOTHING else look

    def test_it_announces_itself_while_it_runs(self, home_broker: int, name: str) -> None:
        about = f"fimi-meter/{name}/about"
        running = MeterSender(Bench(), name, place(home_broker), rate_hz=50.0)
        with sender(home_broker, about) as home:
            until(lambda: home.heard)
            assert json.loads(home.heard[0][1])["source"] == "bench:time"
            running.close()
            until(lambda: home.heard[-1][1] == b"")
        with sender(home_broker, about, "marker") as home:
            home.say("marker", "x")
            until(lambda: home.heard)
            assert [topic for topic, _ in home.heard] == ["marker"], "nothing is retained"

    def test_garbage_as_a_question_is_no_harm(
        self, bench: Bench, home_broker: int, name: str
    ) -> None:
        with sender(home_broker) as home:
            for payload in (b"", b"garbage", b'{"receiver":"a/b","number":1}', b'{"number":1}'):
                home.say(f"fimi-meter/{name}/ask", payload)
        receiver(home_broker, name).close()

    @pytest.mark.parametrize("wrong", ["", "a b", "a/b", "a+", "#", "fimi-meter/"])
    def test_a_name_that_is_no_level_of_a_topic(self, wrong: str) -> None:
        with pytest.raises(ValueError, match="is no name"):
            topic_of(wrong)

    def test_a_name_may_be_the_topic(self) -> None:
        assert topic_of("fimi-meter/pi") == topic_of("pi") == "fimi-meter/pi"


def test_a_phase_on_another_machine_has_its_joules(home_broker: int, name: str) -> None:
    """Through the sampler: a power that rises as time does has the energy of that ramp."""
    bench = Bench()
    running = MeterSender(bench, name, place(home_broker), rate_hz=50.0)
    meter = receiver(home_broker, name)
    sampler = Sampler(meter, CLOCK, rate_hz=200.0)
    try:
        sampler.mark()
        until(lambda: len(sampler._readings) > 10)
        readings = sampler.mark()
        bound_s = meter._offset.best(CLOCK.now_s())[1]
    finally:
        sampler.close()
        running.close()
    made = [r for r in readings if r.power_w is not None]
    assert len(made) > 10
    assert all(a.time_s < b.time_s for a, b in itertools.pairwise(readings))
    for reading in made:
        assert reading.power_w is not None
        assert abs(reading.time_s - bench.began_s - reading.power_w) <= bound_s + 1e-6


def test_fimi_meter_publish(tmp_path: Path, home_broker: int, name: str) -> None:
    """The command: two meters of a board of files, until SIGTERM."""
    Ina226(tmp_path, VirtualClock()).draw(3.5)
    write(tmp_path / "sys/class/hwmon/hwmon2/curr1_input", -700)
    TwoPackages(tmp_path, VirtualClock())
    meters = tmp_path / "meters.toml"
    meters.write_text('meter_scope = "wall"\n')  # a profile without a board
    command = [
        *(sys.executable, "-m", "fimi.testbed.cli", "meter", "publish"),
        *("--broker", f"mqtt://127.0.0.1:{home_broker}", "--root", str(tmp_path)),
        *("--meter", f"hwmon=ina-{name}", "--meter", f"rapl=cpu-{name}", "--rate", "20"),
        *("--host-profile", str(meters)),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: self_announced(home_broker, name), 60.0)
        power = receiver(home_broker, f"ina-{name}")
        counter = receiver(home_broker, f"cpu-{name}")
        assert power.look(CLOCK.now_s()).power_w == pytest.approx(3.5)
        assert power.describe().source == f"fimi-meter/ina-{name}:hwmon:ina226"
        assert any("its current is negative" in doubt for doubt in power.doubts())
        assert counter.look(CLOCK.now_s()).counter_j == 0.0
        assert (counter.describe().counts, counter.describe().scope) == (True, "cpu")
        power.close()
        counter.close()
    finally:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert f'[topic]\ntopic = "fimi-meter/ina-{name}"\nhost = "127.0.0.1"' in out
    assert "at the end of the metered board's profile" in out
    assert "readings published" in out
    assert "warning: the meter hwmon:ina226 is doubtful: its current is negative" in err


def test_a_killed_sender_announces_itself_no_longer(
    tmp_path: Path, home_broker: int, name: str
) -> None:
    Ina226(tmp_path, VirtualClock())
    TwoPackages(tmp_path, VirtualClock())
    command = [
        *(sys.executable, "-m", "fimi.testbed.cli", "meter", "publish"),
        *("--broker", f"mqtt://127.0.0.1:{home_broker}", "--root", str(tmp_path)),
        *("--meter", f"hwmon=ina-{name}", "--meter", f"rapl=cpu-{name}"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: self_announced(home_broker, name), 60.0)
        meter = receiver(home_broker, f"ina-{name}", stale_s=0.5)
        process.kill()
        until(lambda: not self_announced(home_broker, name))
        until(lambda: meter.look(CLOCK.now_s()) == NOTHING)
        meter.close()
    finally:
        process.kill()
        process.wait(10)


def self_announced(port: int, name: str) -> bool:
    topics = (f"fimi-meter/ina-{name}/about", f"fimi-meter/cpu-{name}/about")
    with sender(port, *topics) as home:
        time.sleep(0.1)
        return {topic for topic, _ in home.heard} == set(topics)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--meter", "nothing"], "there is no meter 'nothing'"),
        (["--meter", "rapl=a b"], "is no name for a published meter"),
        (["--meter", "=x"], "names no meter"),
        (["--meter", "rapl=x", "--meter", "pmic=x"], "two meters have the name"),
        ([], "Missing option '--meter'"),
    ],
)
def test_what_cannot_be_published(
    home_broker: int, tmp_path: Path, given: list[str], said: str
) -> None:
    url = f"mqtt://127.0.0.1:{home_broker}"
    done = subprocess.run(
        [sys.executable, "-m", "fimi.testbed.cli", "meter", "publish", "--broker", url,
         "--root", str(tmp_path), *given],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode in (2, 3)
    assert said in " ".join(done.stderr.split())
