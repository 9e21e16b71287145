"""A meter read from any topic, through a real broker: what home and laboratory senders publish."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from home_sender import HomeSender, MortalBroker, sender, until
from whole_span import energy_of

from fimi.energy.clock import MonotonicClock, VirtualClock
from fimi.energy.host_profile import HostProfile, load_profile
from fimi.energy.meters import NOTHING, MeterUnavailableError, Reading
from fimi.energy.meters.detect import MeterSettings, detect, open_meter, open_recorder
from fimi.energy.meters.elsewhere.clocks import FASTEST_S
from fimi.energy.meters.elsewhere.topic import TopicMeter, TopicSettings
from fimi.messaging.broker.embedded import find_mosquitto

CLOCK = MonotonicClock()
_topics = itertools.count()


@pytest.fixture
def topic() -> str:
    return f"lab/my board {next(_topics)}"


@pytest.fixture
def home(home_broker: int) -> Iterator[HomeSender]:
    with sender(home_broker) as made:
        yield made


def settings(port: int, topic: str, **given: Any) -> TopicSettings:
    given = {"unit": "W", "wait_s": 5.0, **given}
    return TopicSettings(topic=topic, port=port, **given)


class Ticks:
    """A clock that goes on by 0.25 s whenever it is looked at."""

    def __init__(self) -> None:
        self._count = itertools.count()

    def now_s(self) -> float:
        return 0.25 * next(self._count)


class Open:
    """A topic's meter that is closed at the end."""

    def __init__(self, *args: Any, **given: Any) -> None:
        self.meter = TopicMeter(settings(*args, **given), CLOCK)

    def __enter__(self) -> TopicMeter:
        return self.meter

    def __exit__(self, *_: object) -> None:
        self.meter.close()


@pytest.mark.parametrize(
    ("payload", "given", "power_w"),
    [
        ('{"power":2441,"energy":10.48,"linkquality":39}', {"pointer": "/power"}, 2441.0),
        ('{"ENERGY":{"Power":[76.2,3.1]}}', {"pointer": "/ENERGY/Power/1"}, 3.1),
        ("4.39", {}, 4.39),
        ("4390", {"unit": "mW"}, 4.39),
        ("12.3 W", {}, 12.3),
    ],
)
def test_what_smart_homes_publish_is_read(
    home: HomeSender, home_broker: int, topic: str, payload: str, given: Any, power_w: float
) -> None:
    home.repeat(topic, lambda _: payload)
    with Open(home_broker, topic, **given) as meter:
        assert meter.look(CLOCK.now_s()).power_w == pytest.approx(power_w)
        found = meter.describe()
    assert found.source == f"topic:{topic}"
    assert (found.kind, found.scope, found.counts) == ("measured", "wall", False)


def test_the_refresh_is_learned_and_the_delay_assumed(
    home: HomeSender, home_broker: int, topic: str
) -> None:
    home.repeat(topic, lambda _: "5.25")
    meter = TopicMeter(settings(home_broker, topic), Ticks())  # which show how often they are asked
    meter.close()
    found = meter.describe()
    assert found.response.refresh_s == pytest.approx(0.25)
    assert found.rate_hz == pytest.approx(4.0)
    assert found.resolution_w == pytest.approx(0.01)
    assert found.response.delay_s == found.response.delay_sd_s == 0.5
    assert found.response.origin == "assumed"
    with Open(home_broker, topic, refresh_s=7.0, delay_s=2.0, scope="board") as meter:
        found = meter.describe()
    assert found.scope == "board"
    assert (found.response.refresh_s, found.response.delay_s) == (7.0, 2.0)
    assert found.response.delay_sd_s == 0.0


def test_messages_that_come_in_bursts_are_one(
    home: HomeSender, home_broker: int, topic: str
) -> None:
    """Four within 80 ms, every 3 s, as zigbee2mqtt publishes for each attribute of a plug."""
    home.repeat(topic, lambda n: f"{5 + n % 7}" if n % 150 < 4 else None)
    with Open(home_broker, topic) as meter:
        assert meter.describe().response.refresh_s == pytest.approx(3.0, abs=0.8)


def test_a_declared_refresh_needs_one_message_only(
    home: HomeSender, home_broker: int, topic: str
) -> None:
    home.repeat(topic, lambda n: "5" if n == 20 else None)
    with Open(home_broker, topic, refresh_s=30.0) as meter:
        assert meter.look(CLOCK.now_s()).power_w == 5.0
    home.repeat(topic, lambda n: "5" if n == 20 else None)
    with pytest.raises(MeterUnavailableError, match=r"only one message .* refresh_s"):
        TopicMeter(settings(home_broker, topic, wait_s=1.0), CLOCK)


class TestRefusals:
    def test_a_retained_message_is_no_reading(
        self, home: HomeSender, home_broker: int, topic: str
    ) -> None:
        home.say(topic, '{"power":5}', retain=True)
        with pytest.raises(MeterUnavailableError, match="only a retained one, which is old") as why:
            TopicMeter(settings(home_broker, topic, pointer="/power", wait_s=0.3), CLOCK)
        assert topic in str(why.value) and '{"power":5}' in str(why.value)

    def test_silence_names_the_topic_and_the_broker(self, home_broker: int, topic: str) -> None:
        with pytest.raises(MeterUnavailableError, match="no message on") as why:
            TopicMeter(settings(home_broker, topic, wait_s=0.2), CLOCK)
        assert topic in str(why.value) and str(home_broker) in str(why.value)

    @pytest.mark.parametrize(
        ("payload", "said"),
        [
            ('{"Power":5,"energy":{"today":1}}', "no '/power'; it has numbers at /Power, /energy/"),
            ('{"power":null}', "null is no number"),
            ('{"power":"unavailable"}', '"unavailable" is no number'),
            ('{"power":NaN}', "is no number"),
            ('{"power":[5]}', "is a list; it has numbers at /power/0"),
            ('{"power":"5 kW"}', "has the unit 'kW'"),
            ("", "it is empty"),
            ("5", "it is 5, for which the pointer is empty"),
        ],
    )
    def test_what_came_instead_is_named(
        self, home: HomeSender, home_broker: int, topic: str, payload: str, said: str
    ) -> None:
        home.repeat(topic, lambda _: payload)
        with pytest.raises(MeterUnavailableError) as why:
            TopicMeter(settings(home_broker, topic, pointer="/power", wait_s=0.5), CLOCK)
        assert said in str(why.value) and topic in str(why.value)
        assert "[topic] pointer" in str(why.value)

    def test_without_a_unit_only_fimi_is_understood(
        self, home: HomeSender, home_broker: int, topic: str
    ) -> None:
        home.repeat(topic, lambda _: '{"power":5}')
        with pytest.raises(MeterUnavailableError, match="needs a unit"):
            TopicMeter(settings(home_broker, topic, unit=None, wait_s=0.5), CLOCK)

    def test_a_broker_that_is_not_there(self) -> None:
        with pytest.raises(MeterUnavailableError, match=r"127\.0\.0\.1:1 .*\[topic\] host"):
            TopicMeter(settings(1, "x"), CLOCK)

    @pytest.mark.parametrize(
        "wrong",
        [{"topic": "a/#"}, {"topic": ""}, {"topic": "a/+/b"}, {"pointer": "power"},
         {"pointer": "/a~2"}, {"unit": "kilowatt"}, {"stale_s": 0}, {"color": 1}],
    )  # fmt: skip
    def test_settings_that_cannot_be(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"topic": "x", "unit": "W", **wrong}, TopicSettings)


class TestLater:
    def test_a_message_without_the_key_says_nothing_and_null_says_that_there_is_no_value(
        self, home: HomeSender, home_broker: int, topic: str
    ) -> None:
        home.repeat(topic, lambda _: '{"power":5}')
        with Open(home_broker, topic, pointer="/power", stale_s=3600.0) as meter:
            home.stop()
            home.say(topic, '{"power":7}')
            until(lambda: meter.look(CLOCK.now_s()).power_w == 7.0)
            home.say(topic, '{"state":"ON"}')
            until(lambda: "/power" in meter._problem)
            assert meter.look(CLOCK.now_s()).power_w == 7.0
            home.say(topic, '{"power":null}')
            until(lambda: meter.look(CLOCK.now_s()) == NOTHING)
            assert "null is no number" in meter.why_nothing()
            home.say(topic, '{"power":8}')
            until(lambda: meter.look(CLOCK.now_s()).power_w == 8.0)

    def test_a_stale_value_is_none(self, home: HomeSender, home_broker: int, topic: str) -> None:
        clock = VirtualClock(100.0)
        home.repeat(topic, lambda n: "5" if n < 100 else None)
        meter = TopicMeter(settings(home_broker, topic, refresh_s=1.0, stale_s=4.0), clock)
        try:
            assert meter.look(104.0).power_w == 5.0
            assert meter.look(104.1) == NOTHING
        finally:
            meter.close()

    def test_a_broker_that_dies_and_comes_back(
        self, tmp_path: Path, free_port: int, topic: str
    ) -> None:
        if find_mosquitto() is None:
            pytest.skip("mosquitto is not installed (apt install mosquitto)")
        broker = MortalBroker(tmp_path, free_port)
        broker.start()
        try:
            with sender(free_port) as home:
                home.repeat(topic, lambda n: f"{5 + n % 2}")
                meter = TopicMeter(settings(free_port, topic, stale_s=0.5), CLOCK)
                try:
                    broker.kill()
                    until(lambda: meter.look(CLOCK.now_s()) == NOTHING)
                    assert "away" in meter.why_nothing()
                    broker.start()
                    until(lambda: meter.look(CLOCK.now_s()).power_w in (5.0, 6.0))
                finally:
                    meter.close()
        finally:
            broker.kill()


class TestCounters:
    def test_an_energy_unit_makes_a_counter_and_resets_are_noticed(
        self, home: HomeSender, home_broker: int, topic: str
    ) -> None:
        clock = VirtualClock(100.0)
        meter = self.opened(home, home_broker, topic, clock, "1000.125")
        try:
            found = meter.describe()
            assert found.counts and found.resolution_w == 0.0
            assert found.resolution_j == pytest.approx(3.6)
            assert meter.look(100.0).counter_j == 0.0
            for wh, at_s, expected_j, reset in [
                ("1000.250", 110.0, 450.0, False),
                ("0.5", 120.0, 450.0, True),
                ("0.75", 130.0, 1350.0, False),
                ("9000000.0", 140.0, 1350.0, True),  # 9 MWh in ten seconds
            ]:
                clock.show(at_s)
                home.say(topic, f'{{"energy":{wh}}}')
                look = until(lambda at_s=at_s: self.fresh(meter, at_s))
                assert look.counter_j == pytest.approx(expected_j)
                assert look.reset == reset
                assert not meter.look(at_s).reset, "it is said once"
        finally:
            meter.close()

    def test_what_no_board_draws_is_a_leap(
        self, home: HomeSender, home_broker: int, topic: str
    ) -> None:
        """Three messages of 0, as after a sender's start, and the counter goes on at 30 kJ."""
        clock = VirtualClock(100.0)
        meter = self.opened(home, home_broker, topic, clock, "8.3", impossible_w=300.0)
        try:
            for at_s, wh, reset in [
                (101.0, "0", True), (102.0, "0", False), (103.0, "8.3004", True),
                (104.0, "8.3017", False),
            ]:  # fmt: skip
                clock.show(at_s)
                home.say(topic, f'{{"energy":{wh}}}')
                look = until(lambda at_s=at_s: self.fresh(meter, at_s))
                assert look.reset == reset
            assert look.counter_j == pytest.approx(0.0013 * 3600.0, abs=0.01)
            assert any("fell or leapt 2 times" in doubt for doubt in meter.doubts())
        finally:
            meter.close()

    def test_a_counter_that_moves_once_a_minute_goes_on(
        self, home: HomeSender, home_broker: int, topic: str
    ) -> None:
        """12 W on a board that draws 18 at most: 720 J at once."""
        clock = VirtualClock(100.0)
        meter = self.opened(home, home_broker, topic, clock, "8.3", impossible_w=180.0)
        try:
            for at_s, wh in [(159.0, "8.3"), (160.0, "8.5"), (219.0, "8.5"), (220.0, "8.7")]:
                clock.show(at_s)
                home.say(topic, f'{{"energy":{wh}}}')
                look = until(lambda at_s=at_s: self.fresh(meter, at_s))
                assert not look.reset
            assert look.counter_j == pytest.approx(0.4 * 3600.0, abs=0.01)
            assert not any("fell or leapt" in doubt for doubt in meter.doubts())
        finally:
            meter.close()

    @staticmethod
    def fresh(meter: TopicMeter, at_s: float) -> Any:
        heard = meter._heard
        return meter.look(at_s) if heard is not None and heard.at_s == at_s else None

    def opened(
        self,
        home: HomeSender,
        port: int,
        topic: str,
        clock: VirtualClock,
        wh: str,
        **given_too: Any,
    ) -> TopicMeter:
        home.repeat(topic, lambda _: f'{{"energy":{wh}}}')
        given = settings(port, topic, pointer="/energy", unit="Wh", refresh_s=10.0)
        meter = TopicMeter(given, clock, **given_too)
        home.stop()
        home.say(topic, '{"energy":"the last of them"}')
        until(lambda: meter.look(clock.now_s()) == NOTHING)
        home.say(topic, f'{{"energy":{wh}}}')
        until(lambda: meter.look(clock.now_s()) != NOTHING)
        return meter

    def test_a_coarse_counter_is_doubted_and_its_joules_are_as_uncertain(
        self, home: HomeSender, home_broker: int, topic: str
    ) -> None:
        home.repeat(topic, lambda _: '{"energy":10.48}')
        with Open(home_broker, topic, pointer="/energy", unit="kWh", refresh_s=1.0) as meter:
            assert any("3.6e+04 J" in doubt for doubt in meter.doubts())
            found = meter.describe()
        readings = [Reading(time_s=at_s, counter_j=0.0) for at_s in (0.0, 1.0)]
        energy = energy_of(readings, 0.0, 1.0, found)
        assert energy is not None and energy.uncertainty_j == pytest.approx(36_000 / 6**0.5)


class TestTimes:
    def test_a_time_in_the_message_is_the_time_of_the_reading(
        self, home: HomeSender, home_broker: int, topic: str
    ) -> None:
        """Their clock is years away, and messages take between nothing and five seconds."""
        clock = VirtualClock(1000.0)
        with sender(home_broker) as early:
            early.repeat(topic, lambda _: self.message(0.0))
            meter = TopicMeter(
                settings(
                    home_broker, topic, pointer="/w", time_pointer="/t", refresh_s=0.1, stale_s=60.0
                ),
                clock,
            )
        try:
            assert meter.describe().response.refresh_s == 0.0
            assert meter.look(1000.0).time_s == pytest.approx(1000.0, abs=1e-3)
            for number, delay_s in enumerate([5.0, 0.0, 3.0, 0.5, 0.0, 4.0], 1):
                clock.show(1000.0 + 10.0 * number + delay_s)
                home.say(topic, self.message(10.0 * number))
                look = until(lambda n=number: self.of(meter, clock, 10.0 * n))
                assert look.time_s == pytest.approx(1000.0 + 10.0 * number, abs=1e-3)
        finally:
            meter.close()

    @staticmethod
    def message(since_s: float) -> str:
        return json.dumps({"w": since_s, "t": 1624901892.123 + since_s})

    @staticmethod
    def of(meter: TopicMeter, clock: VirtualClock, power_w: float) -> Any:
        look = meter.look(clock.now_s())
        return look if look.power_w == power_w else None

    def test_what_the_fastest_message_took_is_not_known(
        self, home: HomeSender, home_broker: int, topic: str
    ) -> None:
        """Messages that are 0 to 0.9 s late in turn; of the fastest one, nobody knows how late."""
        late_s = (0.9, 0.0, 0.6, 0.3)
        home.repeat(
            topic, lambda n: json.dumps({"w": 5, "t": f"{time.time() - late_s[n % 4]:.6f}"})
        )
        given: dict[str, Any] = {"pointer": "/w", "time_pointer": "/t"}
        with Open(home_broker, topic, **given) as meter:
            assert meter.describe().response.delay_s == 0.0
            assert 0.2 < meter.describe().response.delay_sd_s < 2.0
            assert any("how long that took is not known" in fact for fact in meter.facts())
        home.repeat(f"{topic}-2", lambda _: json.dumps({"w": 5, "t": f"{time.time():.6f}"}))
        with Open(home_broker, f"{topic}-2", refresh_s=0.1, **given) as meter:
            assert meter.describe().response.delay_sd_s >= FASTEST_S / 3**0.5

    def test_the_same_time_again_is_no_new_reading(
        self, home: HomeSender, home_broker: int, topic: str
    ) -> None:
        home.repeat(topic, lambda _: self.message(7.0))
        with pytest.raises(MeterUnavailableError, match="only one message"):
            TopicMeter(
                settings(home_broker, topic, pointer="/w", time_pointer="/t", wait_s=0.5), CLOCK
            )

    def test_a_time_that_is_none(self, home: HomeSender, home_broker: int, topic: str) -> None:
        home.repeat(topic, lambda _: '{"w":5,"t":"soon"}')
        with pytest.raises(MeterUnavailableError, match="'soon' is no time"):
            TopicMeter(
                settings(home_broker, topic, pointer="/w", time_pointer="/t", wait_s=0.5), CLOCK
            )


def test_a_profile_names_it(home: HomeSender, home_broker: int, topic: str, tmp_path: Path) -> None:
    given = MeterSettings(meter="topic", topic=settings(home_broker, topic))
    home.repeat(topic, lambda _: "5")
    meter = open_meter("topic", given, tmp_path, CLOCK)
    meter.close()
    recorder = open_recorder(MeterSettings(topic=given.topic), tmp_path, CLOCK)
    assert recorder.describe().source == f"topic:{topic}", "auto takes it"
    recorder.close()
    with pytest.raises(MeterUnavailableError, match=r"names no topic; a table \[topic\]"):
        open_meter("topic", MeterSettings(), tmp_path, CLOCK)
    found = {each.name: each for each in detect(given, tmp_path, CLOCK)}
    assert found["topic"].power_w == 5.0


def test_a_profile_file_with_tables(tmp_path: Path, profile_text: str) -> None:
    path = tmp_path / "board.toml"
    path.write_text(
        profile_text
        + '\n[topic]\ntopic = "zigbee2mqtt/Desk plug"\nunit = "W"\npointer = "/power"\n'
        '[replay]\nfile = "lab.csv"\nkind = "measured"\n'
    )
    profile: HostProfile = load_profile(path)
    assert profile.meters().topic == TopicSettings(
        topic="zigbee2mqtt/Desk plug", unit="W", pointer="/power"
    )
    assert profile.meters().replay is not None


@pytest.fixture
def profile_text() -> str:
    return """name = "board"
[board]
idle_power_w = 2.7
[board.compute]
cycles_per_sample = 4.0e6
capacitance_w_per_hz3 = 4.3e-28
active_power_w = 0.9
frequency_min_hz = 600e6
frequency_max_hz = 1800e6
[board.link]
channel_gain = 1e-10
noise_density_w_per_hz = 4e-21
transmit_power_max_w = 0.1
downlink_rate_bps = 20e6
receive_power_w = 0.3
"""
