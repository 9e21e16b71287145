"""Plugs: what their answers hold, which channel is meant, and what is said where nothing fits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from worlds import (
    FirstShellyMeter,
    FirstShellyTwoRelays,
    PlugWorld,
    ShellyPlug,
    TwoPackages,
    TwoSocketPlug,
)
from worlds.plugs import ShellyThreePhases, ShellyTwoChannels

from fimi.energy.clock import VirtualClock
from fimi.energy.meters import MeterUnavailableError
from fimi.energy.meters.detect import MeterSettings, open_recorder, open_sum
from fimi.energy.meters.plug import Plug, PlugSettings
from fimi.energy.meters.plug_models import (
    shelly_1_channels,
    shelly_channels,
    shown_w,
    tasmota_channels,
)

TASMOTA = '{"StatusSNS":{"Time":"2026-01-01T00:00:00","ENERGY":{"Total":3.4,"Power":%s}}}'


class TestAnswers:
    @pytest.mark.parametrize(
        ("power", "powers_w"),
        [
            ("12", {"": 12.0}),
            ("[3,4.5]", {"1": 3.0, "2": 4.5}),
            ("[7]", {"1": 7.0}),
            ('"12.5"', {"": 12.5}),
            ('[3,"x"]', {"1": 3.0, "2": None}),
            ("[]", {}),
            ("true", {"": None}),
            ("null", {"": None}),
            ("-4", {"": -4.0}),
            ("1e999", {"": None}),
            ("1" + 400 * "0", {"": None}),
            ('"inf"', {"": None}),
        ],
    )
    def test_tasmota(self, power: str, powers_w: dict[str, float | None]) -> None:
        assert tasmota_channels((TASMOTA % power).encode()).powers_w == powers_w
        bare = json.dumps({"ENERGY": "POWER"}).replace('"POWER"', f'{{"Power":{power}}}')
        assert tasmota_channels(bare.encode()).powers_w == powers_w

    @pytest.mark.parametrize(
        "payload",
        [b'{"ENERGY":7}', b'{"StatusSNS":[]}', b"[1,2]", b"", b"\xff\xfe", 100_000 * b"["],
    )
    def test_what_is_no_answer_holds_nothing(self, payload: bytes) -> None:
        assert not tasmota_channels(payload).powers_w
        assert not shelly_channels(payload).powers_w

    def test_shelly_has_the_components_that_its_answer_names(self) -> None:
        status = {
            "ble": {},
            "input:0": {"id": 0, "state": False},
            "switch:0": {"id": 0, "output": False},
            "pm1:0": {"id": 0, "apower": 3.2, "voltage": 230.1},
            "em1:1": {"id": 1, "act_power": -501.8},
            "em:0": {"id": 0, "a_act_power": 1.0, "b_act_power": 2.0, "total_act_power": 3.0},
            "cover:0": {"id": 0, "apower": None},
            "sys": {"apower": 9},
        }
        found = shelly_channels(json.dumps({"id": 1, "result": status}).encode())
        assert found.powers_w == {
            "pm1:0": 3.2,
            "em1:1": -501.8,
            "em:0": 3.0,
            "em:0:a": 1.0,
            "em:0:b": 2.0,
            "cover:0": None,
        }
        assert found.silent == ("input:0", "switch:0")
        assert found.wholes == ("pm1:0", "em1:1", "em:0", "cover:0")
        assert found.find("1") == ["em1:1"]
        assert found.find("em:0:b") == ["em:0:b"]
        assert found.find("0") == ["pm1:0", "em:0", "cover:0"]

    def test_the_first_generation_sends_a_number_for_each(self) -> None:
        found = shelly_1_channels({"relay/1": b"8.51", "relay/0": b"on", "emeter/0": b"-3"})
        assert found.powers_w == {"emeter/0": -3.0, "relay/0": None, "relay/1": 8.51}
        assert found.find("1") == ["relay/1"]

    def test_a_sign_is_a_direction_only_where_it_is_one(self) -> None:
        assert shown_w(-4.0, either_way=True) == 4.0
        assert shown_w(-4.0, either_way=False) is None
        assert shown_w(4.0, either_way=False) == 4.0
        assert shown_w(None, either_way=True) is None


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def settings(world: PlugWorld, **changes: object) -> PlugSettings:
    found = {"model": world.model, "topic": world.topic, "port": world.port, "timeout_s": 0.5}
    return PlugSettings(**(found | changes))  # type: ignore[arg-type]


class TestChannels:
    @pytest.mark.parametrize(
        ("kind", "lines"),
        [
            (TwoSocketPlug, ["channel = 1; channel = 2", '["plug:1", "plug:2"]']),
            (ShellyTwoChannels, ['channel = "switch:0"; channel = "switch:1"']),
            (FirstShellyTwoRelays, ['channel = "relay/0"; channel = "relay/1"']),
            (FirstShellyMeter, ['channel = "emeter/0"; channel = "emeter/1"']),
        ],
    )
    def test_several_and_no_key_is_refused_with_the_lines(
        self,
        tmp_path: Path,
        clock: VirtualClock,
        home_broker: int,
        kind: type[PlugWorld],
        lines: list[str],
    ) -> None:
        world = kind(tmp_path, clock, home_broker)
        with pytest.raises(MeterUnavailableError, match=r"several channels") as raised:
            Plug(settings(world))
        world.close()
        assert all(line in str(raised.value) for line in lines)

    def test_auto_does_not_pass_over_a_plug_with_several(
        self, tmp_path: Path, clock: VirtualClock, home_broker: int
    ) -> None:
        """The user has named a plug: the processor's counter is not what he wants."""
        TwoPackages(tmp_path, clock)
        world = TwoSocketPlug(tmp_path, clock, home_broker)
        with pytest.raises(MeterUnavailableError, match="several channels"):
            open_recorder(MeterSettings(plug=settings(world)), tmp_path, clock)
        world.close()

    def test_a_channel_that_is_not_there(
        self, tmp_path: Path, clock: VirtualClock, home_broker: int
    ) -> None:
        world = ShellyTwoChannels(tmp_path, clock, home_broker)
        with pytest.raises(MeterUnavailableError, match=r"no channel 'pm1:0'.*switch:0, switch:1"):
            Plug(settings(world, channel="pm1:0"))
        world.close()

    def test_a_list_of_channels_is_their_sum(
        self, tmp_path: Path, clock: VirtualClock, home_broker: int
    ) -> None:
        world = TwoSocketPlug(tmp_path, clock, home_broker)
        whole = MeterSettings(plug=settings(world))
        meter = open_sum(("plug:1", "plug:2"), whole, tmp_path, clock)
        assert meter.look(0.0).power_w == pytest.approx(7.5 + 4.0)
        assert meter.describe().scope == "wall"
        meter.close()
        with pytest.raises(MeterUnavailableError, match="counted twice"):
            open_sum(("plug:1", "plug:1"), whole, tmp_path, clock)
        world.close()

    def test_a_phase_and_the_total_of_three_are_not_added(
        self, tmp_path: Path, clock: VirtualClock, home_broker: int
    ) -> None:
        world = ShellyThreePhases(tmp_path, clock, home_broker)
        whole = MeterSettings(plug=settings(world))
        meter = open_sum("plug", whole, tmp_path, clock)
        assert meter.look(0.0).power_w == pytest.approx(104.0)
        meter.close()
        with pytest.raises(MeterUnavailableError, match="is a part of"):
            open_sum(("plug:em:0:a", "plug:em:0"), whole, tmp_path, clock)
        world.close()

    def test_a_model_that_does_not_meter_is_named_as_such(
        self, tmp_path: Path, clock: VirtualClock, home_broker: int
    ) -> None:
        class Unmetered(ShellyPlug):
            """A Plus 1: a switch and no meter."""

            def components(self, power: object) -> dict[str, object]:
                return {"switch:0": {"id": 0, "output": True}, "input:0": {"id": 0}}

        world = Unmetered(tmp_path, clock, home_broker)
        with pytest.raises(MeterUnavailableError, match=r"switch:0, input:0.*does not meter"):
            Plug(settings(world))
        world.close()

    def test_a_negative_power_is_doubted(
        self, tmp_path: Path, clock: VirtualClock, home_broker: int
    ) -> None:
        world = FirstShellyMeter(tmp_path, clock, home_broker)
        meter = Plug(settings(world, channel=1))
        assert meter.look(0.0).power_w == pytest.approx(4.0)
        assert "negative" in meter.doubts()[0]
        meter.close()
        world.close()


class TestTrouble:
    def test_a_broker_that_is_not_there(self) -> None:
        with pytest.raises(MeterUnavailableError, match=r"127\.0\.0\.1:1.*\[plug\] host"):
            Plug(PlugSettings(model="tasmota", topic="x", port=1))

    @pytest.mark.parametrize("model", ["shelly", "shelly-1", "tasmota"])
    def test_a_plug_that_is_not_there(self, home_broker: int, model: str) -> None:
        nobody = PlugSettings(
            model=model,  # type: ignore[arg-type]
            topic="nobody",
            port=home_broker,
            timeout_s=0.05,
        )
        with pytest.raises(MeterUnavailableError, match=r"'nobody/(rpc|command)'|'cmnd/nobody/"):
            Plug(nobody)

    def test_a_plug_that_answers_and_holds_no_power(
        self, tmp_path: Path, clock: VirtualClock, home_broker: int
    ) -> None:
        plug = PlugWorld(tmp_path, clock, home_broker)
        plug.break_("string")
        with pytest.raises(
            MeterUnavailableError, match=r'answers on .*"on".*holds no power\. Check'
        ):
            plug.open()
        plug.close()

    def test_silence_later_has_a_reason(
        self, tmp_path: Path, clock: VirtualClock, home_broker: int
    ) -> None:
        plug = PlugWorld(tmp_path, clock, home_broker)
        meter = plug.open()
        plug.break_("silent")
        assert meter.look(0.0).power_w is None
        assert "no answer from the plug" in meter.why_nothing()
        plug.break_("string")
        assert meter.look(0.0).power_w is None
        assert "on" in meter.why_nothing()
        meter.close()
        plug.close()
