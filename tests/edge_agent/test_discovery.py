"""What announces itself at a broker: the messages of real devices, through a real broker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from home_sender import HomeSender, MortalBroker, sender
from hypothesis import given
from hypothesis import strategies as st

from fimi.edge_agent.discovery import homeassistant
from fimi.edge_agent.discovery.announced import Announced
from fimi.edge_agent.discovery.homeassistant import pointer_of
from fimi.edge_agent.discovery.listening import discover, find
from fimi.energy.meters import NOTHING, MeterDescription
from fimi.energy.meters.elsewhere import wire
from fimi.energy.meters.elsewhere.topic import TopicSettings
from fimi.energy.meters.plug import PlugSettings
from fimi.messaging.address import BrokerAddress
from fimi.messaging.broker.embedded import find_mosquitto
from fimi.testbed.cli import main

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]

BROKER = BrokerAddress(host="broker.lab")

TASMOTA = {
    "ip": "192.168.3.21", "dn": "Desk board", "fn": ["Relais1", None], "hn": "desk-5830",
    "mac": "DC4F220756C6", "md": "Gosund SP1 v23", "ty": 0, "if": 0, "ofln": "Offline",
    "onln": "Online", "state": ["OFF", "ON", "TOGGLE", "HOLD"], "sw": "13.4.0", "t": "desk",
    "ft": "%prefix%/%topic%/", "tp": ["cmnd", "stat", "tele"], "rl": [1, 0], "ver": 1,
}  # fmt: skip
SENSORS = {
    "sn": {
        "Time": "2020-10-17T18:56:16",
        "ENERGY": {"Total": 261.244, "Power": 76.2, "Voltage": 231.1, "Current": 0.568},
    },
    "ver": 1,
}
TASMOTA_HA = {
    "name": "Tasmota ENERGY Power", "stat_t": "~SENSOR", "avty_t": "~LWT", "uniq_id": "522851",
    "~": "tele/desk/", "unit_of_meas": "W", "val_tpl": "{{value_json['ENERGY'].Power}}",
    "dev_cla": "power",
}  # fmt: skip
ESPHOME = {
    "name": "Power", "dev_cla": "power", "unit_of_meas": "W", "stat_cla": "measurement",
    "stat_t": "bench-meter/sensor/power/state", "uniq_id": "ESPsensorpower",
    "dev": {"ids": "a4cf12", "name": "Bench meter", "mdl": "nodemcuv2", "mf": "espressif"},
}  # fmt: skip
HA_DEVICE = {
    "dev": {"ids": "x1", "name": "Rack"},
    "o": {"name": "logger"},
    "~": "rack",
    "stat_t": "~/state",
    "cmps": {
        "p1": {"p": "sensor", "dev_cla": "power", "unit_of_meas": "W", "name": "Board 1",
               "val_tpl": "{{ value_json.boards[0].power | float(0) | round(2) }}"},
        "e1": {"p": "sensor", "dev_cla": "energy", "unit_of_meas": "kWh", "name": "Energy 1",
               "val_tpl": "{{ value_json.get('e 1') }}"},
        "x1": {"p": "sensor", "dev_cla": "power", "unit_of_meas": "W", "name": "Scaled",
               "val_tpl": "{{ value_json.raw * 0.1 }}"},
        "v1": {"p": "sensor", "dev_cla": "power", "unit_of_meas": "VA", "name": "Apparent"},
        "t1": {"p": "sensor", "dev_cla": "temperature", "unit_of_meas": "°C"},
        "s1": {"p": "switch", "cmd_t": "~/set"},
    },
}  # fmt: skip
ZIGBEE = [
    {"ieee_address": "0x0", "type": "Coordinator", "friendly_name": "Coordinator",
     "definition": None},
    {"ieee_address": "0x1", "type": "Router", "friendly_name": "Lab/Desk plug", "definition": {
        "model": "TS011F_plug_1", "vendor": "TuYa", "exposes": [
            {"type": "switch", "features": [{"type": "binary", "property": "state"}]},
            {"type": "numeric", "name": "power", "property": "power", "unit": "W"},
            {"type": "numeric", "name": "power_factor", "property": "power_factor"},
            {"type": "numeric", "name": "energy", "property": "energy", "unit": "kWh"},
            {"type": "numeric", "name": "linkquality", "property": "linkquality",
             "unit": "lqi"}]}},
    {"ieee_address": "0x2", "type": "EndDevice", "friendly_name": "Door", "definition": {
        "exposes": [{"type": "binary", "property": "contact"}]}},
]  # fmt: skip
SHELLY_STATUS = {
    "ble": {}, "input:0": {"id": 0, "state": False},
    "switch:0": {"id": 0, "output": True, "apower": 11.5, "voltage": 240.3,
                 "aenergy": {"total": 152669.9}},
    "sys": {"mac": "5432044EDBC0", "uptime": 11},
}  # fmt: skip
PRO_4 = {f"switch:{n}": {"id": n, "apower": float(n)} for n in range(2)} | {
    "em:0": {"id": 0, "total_act_power": 7.0},
    "pm1:0": {"id": 0, "apower": 3.8},
}
METER = MeterDescription(source="hwmon:ina226", kind="measured", scope="board", rate_hz=10.0)


def about(sequence: int = 0, power_w: float | None = None) -> bytes:
    return wire.sent(
        NOTHING._replace(power_w=power_w), METER, session="s", sequence=sequence, clock_s=0.0,
        time_s=0.0,
    )  # fmt: skip


def texts(heard: dict[str, Any]) -> dict[str, bytes]:
    return {
        topic: body if isinstance(body, bytes) else json.dumps(body).encode()
        for topic, body in heard.items()
    }


def tables(found: Announced) -> dict[str, Any]:
    """The lines as a profile has them."""
    text = "\n".join(found.lines)
    parsed: dict[str, Any] = tomllib.loads(text)
    return parsed


def valid(found: Announced) -> None:
    """A profile takes the lines as they are; the key ``channel`` is the plugs'."""
    parsed = tables(found)
    if "topic" in parsed:
        msgspec.convert(parsed["topic"], TopicSettings)
    else:
        plug = {key: value for key, value in parsed["plug"].items() if key != "channel"}
        msgspec.convert(plug, PlugSettings)


class TestAnnouncements:
    def test_tasmota_is_asked(self) -> None:
        heard = texts(
            {
                "tasmota/discovery/DC4F220756C6/config": TASMOTA,
                "tasmota/discovery/DC4F220756C6/sensors": SENSORS,
            }
        )
        (found,) = find(heard, BROKER)
        assert found.name == "Desk board" and found.shows == "76.2 W as it announced"
        assert tables(found) == {
            "plug": {"model": "tasmota", "topic": "desk", "host": "broker.lab"}
        }
        heard["stat/desk/STATUS10"] = json.dumps({"StatusSNS": {"ENERGY": {"Power": 5}}}).encode()
        assert find(heard, BROKER)[0].shows == "5 W now"

    def test_each_socket_of_tasmota_by_its_number(self) -> None:
        two = {"sn": {"ENERGY": {"Power": [5, 7]}}}
        heard = texts({"tasmota/discovery/A/config": TASMOTA, "tasmota/discovery/A/sensors": two})
        found = find(heard, BROKER)
        assert [tables(each)["plug"]["channel"] for each in found] == [1, 2]
        assert [each.shows for each in found] == ["5 W as it announced", "7 W as it announced"]

    def test_tasmota_with_another_form_of_topics_is_heard(self) -> None:
        other = {**TASMOTA, "ft": "home/%topic%/%prefix%/", "tp": ["c", "s", "telemetry"]}
        heard = texts({"tasmota/discovery/A/config": other, "tasmota/discovery/A/sensors": SENSORS})
        (found,) = find(heard, BROKER)
        assert tables(found)["topic"]["topic"] == "home/desk/telemetry/SENSOR"
        assert tables(found)["topic"]["pointer"] == "/ENERGY/Power"
        assert "TelePeriod" in found.note
        valid(found)

    def test_what_does_not_meter_is_said(self) -> None:
        heard = texts(
            {
                "tasmota/discovery/A/config": TASMOTA,
                "tasmota/discovery/A/sensors": {"sn": {"DS18B20-1": {"Temperature": 18.4}}},
                "shellies/announce": {"id": "shelly1-A", "mac": "A", "fw_ver": "x"},
                "answers/shellyplus1-B": {
                    "src": "shellyplus1-B",
                    "result": {"switch:0": {"id": 0}},
                },
            }
        )
        found = find(heard, BROKER)
        assert [bool(each.lines) for each in found] == [False] * 3
        assert all(each.note for each in found)

    def test_home_assistants_discovery_with_abbreviations_and_a_base_topic(self) -> None:
        heard = texts(
            {
                "homeassistant/sensor/522851_Power/config": TASMOTA_HA,
                "homeassistant/sensor/bench-meter/power/config": ESPHOME,
                "bench-meter/sensor/power/state": b"4.25",
            }
        )
        tasmota, esphome = sorted(find(heard, BROKER), key=lambda each: each.topic, reverse=True)
        assert tables(tasmota)["topic"] == {
            "topic": "tele/desk/SENSOR", "pointer": "/ENERGY/Power", "unit": "W",
            "host": "broker.lab",
        }  # fmt: skip
        assert esphome.name == "Bench meter Power" and esphome.shows == "4.25 W"
        assert tables(esphome)["topic"] == {
            "topic": "bench-meter/sensor/power/state", "unit": "W", "host": "broker.lab",
        }  # fmt: skip

    def test_a_device_that_announces_all_its_components(self) -> None:
        state = {"boards": [{"power": "5.5"}], "e 1": 1.25}
        heard = texts({"homeassistant/device/rack/config": HA_DEVICE, "rack/state": state})
        found = {each.name: each for each in find(heard, BROKER)}
        assert set(found) == {"Rack Board 1", "Rack Energy 1", "Rack Scaled", "Rack Apparent"}
        board, energy = found["Rack Board 1"], found["Rack Energy 1"]
        assert tables(board)["topic"]["pointer"] == "/boards/0/power" and board.shows == "5.5 W"
        assert tables(energy)["topic"]["pointer"] == "/e 1" and energy.shows == "1.25 kWh"
        assert "more than a path" in found["Rack Scaled"].note
        assert "'VA' is not known" in found["Rack Apparent"].note
        assert not found["Rack Apparent"].lines

    def test_zigbee2mqtt(self) -> None:
        heard = texts(
            {
                "zigbee2mqtt/bridge/devices": ZIGBEE,
                "zigbee2mqtt/Lab/Desk plug": {"power": 2441, "energy": 10.48, "state": "ON"},
                # It announces itself to Home Assistant as well.
                "homeassistant/sensor/0x1/power/config": {
                    "device_class": "power", "unit_of_measurement": "W",
                    "state_topic": "zigbee2mqtt/Lab/Desk plug",
                    "value_template": "{{ value_json.power }}",
                },
            }
        )  # fmt: skip
        (found,) = find(heard, BROKER)
        assert found.maker == "zigbee2mqtt" and found.shows == "2441 W"
        assert tables(found)["topic"] == {
            "topic": "zigbee2mqtt/Lab/Desk plug", "pointer": "/power", "unit": "W",
            "host": "broker.lab",
        }  # fmt: skip
        valid(found)

    def test_shelly_of_the_first_generation(self) -> None:
        heard = texts(
            {
                "shellies/announce": {"id": "shellyplug-s-376BF3", "model": "SHPLG-S"},
                "shellies/shellyplug-s-376BF3/relay/0/power": b"5.56",
                "shellies/shellyswitch25-A/relay/0/power": b"1.5",
                "shellies/shellyswitch25-A/relay/1/power": b"2.5",
            }
        )
        plug, *two = find(heard, BROKER)
        assert tables(plug)["plug"] == {
            "model": "shelly-1", "topic": "shellies/shellyplug-s-376BF3", "host": "broker.lab",
        }  # fmt: skip
        assert plug.shows == "5.56 W"
        assert [tables(each)["plug"]["channel"] for each in two] == ["relay/0", "relay/1"]

    def test_later_shellies_by_their_components(self) -> None:
        heard = texts(
            {
                "answers/shelly1pmminig3-5432044edbc0": {"id": 1, "result": SHELLY_STATUS},
                "answers/shellypro4pm-B": {"id": 1, "result": PRO_4},
            }
        )
        plug, *channels = find(heard, BROKER)
        assert plug.shows == "11.5 W now" and "channel" not in tables(plug)["plug"]
        names = [tables(each)["plug"]["channel"] for each in channels]
        assert names == ["em:0", "pm1:0", "switch:0", "switch:1"]

    def test_a_later_shelly_that_is_silent_is_told_what_to_switch_on(self) -> None:
        heard: dict[str, bytes] = {"shellyplusplugs-A/online": b"true", "gone/online": b"false"}
        (found,) = find(heard, BROKER)
        assert found.name == "shellyplusplugs-A" and not found.lines
        assert "'Enable RPC over MQTT'" in found.note
        assert "'Generic status update over MQTT'" in found.note
        heard["answers/shellyplusplugs-A"] = json.dumps({"result": SHELLY_STATUS}).encode()
        (found,) = find(heard, BROKER)
        assert found.lines, "it has answered"

    def test_senders_of_fimi(self) -> None:
        heard = {"fimi-meter/pi/about": about(), "fimi-meter/pi": about(7, 3.5)}
        (found,) = find(heard, BROKER)
        assert tables(found) == {"topic": {"topic": "fimi-meter/pi", "host": "broker.lab"}}
        assert found.shows == "3.5 W now" and "hwmon:ina226" in found.name
        assert not found.note
        doubtful = msgspec.structs.replace(wire.read_sent(about(8, 3.5)), doubts=("R100",))
        (found,) = find({**heard, "fimi-meter/pi": msgspec.json.encode(doubtful)}, BROKER)
        assert found.note == "doubtful: R100"
        assert find({"fimi-meter/pi/about": b""}, BROKER) == []
        (other,) = find({"fimi-meter/pi/about": b'{"fimi_meter":2}'}, BROKER)
        assert "same version" in other.note and not other.lines

    def test_the_brokers_keys_without_its_password(self) -> None:
        broker = BrokerAddress(host="h", port=1884, username="ann", password="secret")
        (found,) = find({"fimi-meter/pi/about": about()}, broker)
        assert tables(found)["topic"] == {
            "topic": "fimi-meter/pi", "host": "h", "port": 1884, "username": "ann",
            "password": "…",
        }  # fmt: skip
        assert "secret" not in str(found)


@pytest.mark.parametrize(
    ("template", "pointer"),
    [
        ("", ""),
        ("{{ value }}", ""),
        ("{{ value | float }}", ""),
        ("{{ value_json.power }}", "/power"),
        ("{{value_json['ENERGY'].Power}}", "/ENERGY/Power"),
        ('{{ value_json["a"]["b c"] }}', "/a/b c"),
        ("{{ value_json.apower[1] | float(0) | round(1) }}", "/apower/1"),
        ("{{ value_json.get('x/y') | default(0) }}", "/x~1y"),
        ("{{- value_json.p -}}", "/p"),
        ("{{ value_json.a * 2 }}", None),
        ("{{ value_json }}", None),
        ("{{ value_json.a if value_json.b else 0 }}", None),
        ("{% if true %}1{% endif %}", None),
        ("{{ value_json.a | multiply(2) }}", None),
        ("{{ states('sensor.x') }}", None),
        ("W: {{ value }}", None),
        ("{{ value_json.a }}{{ value_json.b }}", None),
    ],
)
def test_simple_templates_are_pointers_and_others_are_not(
    template: str, pointer: str | None
) -> None:
    assert pointer_of(template) == pointer


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["t", "tp", "ft", "sn", "ENERGY", "Power", "stat_t", "val_tpl", "dev",
                         "cmps", "p", "~", "unit_of_meas", "dev_cla", "id", "result", "switch:0",
                         "definition", "exposes", "friendly_name", "features", "fimi_meter"]),
        inner, max_size=5,
    ),
    max_leaves=20,
)  # fmt: skip
TOPICS = st.sampled_from(
    [
        "tasmota/discovery/A/config", "tasmota/discovery/A/sensors", "stat/desk/STATUS10",
        "homeassistant/sensor/a/config", "homeassistant/device/a/config", "shellies/announce",
        "shellies/a/relay/0/power", "answers/a", "zigbee2mqtt/bridge/devices",
        "fimi-meter/a/about", "fimi-meter/a",
    ]
)  # fmt: skip


@given(st.dictionaries(TOPICS, JUNK.map(lambda j: json.dumps(j).encode()) | st.binary(max_size=9)))
def test_no_announcement_does_anything_but_give_findings(heard: dict[str, bytes]) -> None:
    for each in find(heard, BROKER):
        assert each.lines or each.note
        if each.lines and "…" not in str(each.lines):
            tables(each)


@pytest.fixture
def lab(tmp_path: Path, free_port: int) -> Iterator[int]:
    """A broker of one's own, with devices that answer."""
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    broker = MortalBroker(tmp_path, free_port)
    broker.start()
    yield free_port
    broker.kill()


def devices(home: HomeSender) -> None:
    """Retained announcements, and answers."""
    home.say("tasmota/discovery/A/config", json.dumps(TASMOTA), retain=True)
    home.say("tasmota/discovery/A/sensors", json.dumps(SENSORS), retain=True)
    home.say("zigbee2mqtt/bridge/devices", json.dumps(ZIGBEE), retain=True)
    home.say("zigbee2mqtt/Lab/Desk plug", json.dumps({"power": 12.5}), retain=True)
    home.say("homeassistant/sensor/b/power/config", json.dumps(ESPHOME), retain=True)
    home.say("rack-plug/online", "true", retain=True)
    home.say("fimi-meter/pi/about", about(), retain=True)

    evil = {**TASMOTA, "t": "x/#"}
    home.say("tasmota/discovery/B/config", json.dumps(evil), retain=True)
    home.say("tasmota/discovery/B/sensors", json.dumps(SENSORS), retain=True)
    home.say("homeassistant/sensor/c/config", json.dumps({**ESPHOME, "stat_t": "a\0b"}))

    def answer(topic: str, payload: bytes) -> None:
        if topic == "cmnd/desk/STATUS":
            energy = {"StatusSNS": {"ENERGY": {"Power": 9}}}
            home._client.publish("stat/desk/STATUS10", json.dumps(energy))
        elif topic == "rack-plug/rpc":
            question = json.loads(payload)
            body = {"id": question["id"], "src": "shelly1pmminig3-A", "result": SHELLY_STATUS}
            home._client.publish(f"{question['src']}/rpc", json.dumps(body))
        elif topic == "shellies/command" and payload == b"announce":
            home._client.publish("shellies/announce", json.dumps({"id": "shellyplug-s-1"}))
        elif topic == "shellies/command" and payload == b"update":
            home._client.publish("shellies/shellyplug-s-1/relay/0/power", "6.5")

    home.on_heard = answer
    home.repeat("fimi-meter/pi", lambda n: about(n, 3.5))
    home.repeat("bench-meter/sensor/power/state", lambda _: "4.25")


ASKED = ("cmnd/desk/STATUS", "rack-plug/rpc", "shellies/command")


def test_all_of_them_at_a_real_broker(lab: int) -> None:
    with sender(lab, *ASKED) as home:
        devices(home)
        found = discover(BrokerAddress(host="127.0.0.1", port=lab))
    shown = {each.maker: each.shows for each in found}
    assert shown == {
        "fimi": "3.5 W now", "tasmota": "9 W now", "shelly-1": "6.5 W", "shelly": "11.5 W now",
        "zigbee2mqtt": "12.5 W", "home assistant": "4.25 W",
    }  # fmt: skip
    (plug,) = (each for each in found if each.maker == "shelly")
    assert tables(plug)["plug"]["topic"] == "rack-plug", "its prefix, not its name"
    for each in found:
        valid(each)
        assert tables(each).popitem()[1]["port"] == lab


def test_the_command(lab: int) -> None:
    url = f"mqtt://127.0.0.1:{lab}"
    with sender(lab, *ASKED) as home:
        devices(home)
        done = CliRunner().invoke(main, ["agent", "doctor", "--discover", "--broker", url])
    assert done.exit_code == 0, done.output
    assert '[plug]\nmodel = "tasmota"\ntopic = "desk"\nhost = "127.0.0.1"' in done.output
    assert "6 meters to choose from" in done.output
    parsed = tomllib.loads(done.output.split("\n\n")[0])
    assert parsed, "the lines can be pasted as they are"
    assert "at the end of the board's profile, beside its name and [board]" in done.output


def test_nothing_there_and_no_broker(lab: int) -> None:
    url = f"mqtt://127.0.0.1:{lab}"
    done = CliRunner().invoke(main, ["agent", "doctor", "--discover", "--broker", url])
    assert done.exit_code == 0 and "nothing announces itself" in done.output
    done = CliRunner().invoke(
        main, ["agent", "doctor", "--discover", "--broker", url, "--format", "json"]
    )
    assert json.loads(done.output) == []
    done = CliRunner().invoke(main, ["agent", "doctor", "--discover"], env={"FIMI_BROKER": ""})
    assert done.exit_code == 2 and "needs '--broker'" in done.output
    done = CliRunner().invoke(
        main, ["agent", "doctor", "--discover", "--broker", "mqtt://127.0.0.1:1"]
    )
    assert done.exit_code == 3


def test_a_hidden_line_break_adds_no_line_to_a_profile() -> None:
    evil = {**ESPHOME, "stat_t": 'x"\npassword = "y\x7f\x9b', "dev": {"name": "a\nb"}}
    heard = texts({"homeassistant/sensor/b/power/config": evil})
    (found,) = homeassistant.find(heard, BROKER)
    assert tables(found)["topic"]["topic"] == evil["stat_t"]
    assert all(line.isprintable() for line in found.lines), "a terminal changes none of them"
