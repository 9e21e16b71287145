"""What Home Assistant is told of a board: topics, templates and units as it takes them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fimi.messaging.home_assistant import (
    ShownBoard,
    check_prefix,
    discovery,
    discovery_filter,
    discovery_topic,
)
from fimi.messaging.messages.peers import DeviceState, Telemetry
from fimi.messaging.own_state import OwnState
from fimi.messaging.topics import COORDINATOR
from fimi.messaging.transfers.wire import encode_message

jinja2 = pytest.importorskip("jinja2", reason="renders templates as Home Assistant does")

ILLEGAL = re.compile(r"[^A-Za-z0-9_-]")
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)

BOARD = ShownBoard(
    device="raspi.1", kind="measured", scope="wall", source="shelly", board="raspberry-pi-5"
)


def document(board: ShownBoard = BOARD) -> Any:
    return json.loads(discovery("desk", board))


def rendered(template: str, payload: bytes) -> str:
    """A template of Home Assistant, which has the payload and its JSON object."""
    text: str = (
        jinja2.Environment()
        .from_string(template)
        .render(value=payload.decode(), value_json=json.loads(payload))
    )
    return text


def telemetry(**said: Any) -> bytes:
    whole: dict[str, Any] = {
        "device": "raspi.1", "boot_id": "b" * 16, "number": 7, "unix_s": 1.7e9, "stage": "training",
        "kind": "measured", "source": "shelly", "scope": "wall", "power_w": 4.25,
    }  # fmt: skip
    message = Telemetry(**(whole | said))
    return encode_message(message, sender=message.device, recipient=COORDINATOR)


@settings(max_examples=40)
@given(fleet=NAMES, device=NAMES)
def test_topics_are_legal_and_those_of_two_boards_differ(fleet: str, device: str) -> None:
    prefix, component, *ids, config = discovery_topic("homeassistant", fleet, device).split("/")
    assert (prefix, component, config) == ("homeassistant", "device", "config")
    assert len(ids) == 2 and not any(ILLEGAL.search(each) for each in ids)
    if "." in device:
        other = discovery_topic("homeassistant", fleet, device.replace(".", "-"))
        assert other != discovery_topic("homeassistant", fleet, device)


def test_the_filter_of_a_fleet_is_that_of_its_boards_below_any_prefix() -> None:
    assert discovery_filter("desk") == "+/device/fimi-desk/+/config"
    assert discovery_topic("ha", "desk", "pi-1") == discovery_filter("desk", "pi-1").replace(
        "+", "ha", 1
    )


@pytest.mark.parametrize("prefix", ["", "a/b", "+", "#", "fimi", "home assistant", "x" * 65])
def test_a_prefix_that_cannot_be(prefix: str) -> None:
    with pytest.raises(ValueError, match="one level of a topic"):
        check_prefix(prefix)


def test_a_board_is_a_device_with_a_name_an_origin_and_three_sensors() -> None:
    said = document()
    assert said["device"]["identifiers"] == [f"fimi_desk_{said['device']['identifiers'][0][10:]}"]
    assert said["device"]["name"] == "raspi.1"
    assert said["origin"]["name"]  # a device without an origin is refused
    assert set(said["components"]) == {"energy", "power", "temperature"}
    ids = {sensor["unique_id"] for sensor in said["components"].values()}
    assert len(ids) == 3 and not any(ILLEGAL.search(each) for each in ids)
    for sensor in said["components"].values():
        assert sensor["platform"] == "sensor"
        assert sensor["state_topic"] == "fimi/v1/desk/raspi.1/coordinator/telemetry"


def test_units_and_classes_are_those_of_statistics() -> None:
    sensors = document()["components"]
    shown = {
        name: (sensor["device_class"], sensor["state_class"], sensor["unit_of_measurement"])
        for name, sensor in sensors.items()
    }
    assert shown == {
        "energy": ("energy", "total_increasing", "J"),
        "power": ("power", "measurement", "W"),
        "temperature": ("temperature", "measurement", "°C"),
    }
    # A counter that grows no more is still right; a power of an hour ago is not.
    assert "expire_after" not in sensors["energy"]
    assert sensors["power"]["expire_after"] > 0


def test_a_template_reads_what_the_agent_sends() -> None:
    sensors = document()["components"]
    assert float(rendered(sensors["power"]["value_template"], telemetry())) == 4.25
    hot = telemetry(temperature_c=51.5)
    assert float(rendered(sensors["temperature"]["value_template"], hot)) == 51.5
    energy = telemetry(energy_j=12345.5)
    assert float(rendered(sensors["energy"]["value_template"], energy)) == 12345.5


def test_what_is_not_known_is_shown_as_unknown() -> None:
    """``None`` is what Home Assistant takes for unknown; an empty text it would leave as it was."""
    sensors = document()["components"]
    for sensor in sensors.values():
        assert rendered(sensor["value_template"], b"{}") == "None"
    for name in ("power", "temperature"):
        assert rendered(sensors[name]["value_template"], telemetry(power_w=None)) == "None"
    no_board = telemetry(kind=None, scope=None, power_w=None)  # between two runs
    assert rendered(sensors["energy"]["value_template"], no_board) == "None"


def test_kinds_never_share_a_sensor() -> None:
    real, emulated = BOARD, ShownBoard(device="raspi.1", kind="emulated", scope="board")
    for name in ("energy", "power"):
        one, other = document(real)["components"][name], document(emulated)["components"][name]
        assert "measured, wall" in one["name"] and "emulated, board" in other["name"]
        assert one["unique_id"] != other["unique_id"]
        of_emulated = telemetry(kind="emulated", scope="board")
        assert rendered(one["value_template"], of_emulated) == "None"
    assert float(rendered(document(emulated)["components"]["power"]["value_template"], of_emulated))


def test_an_emulated_board_is_shown_whatever_its_meter_will_see() -> None:
    sensor = document(ShownBoard(device="raspi.1", kind="emulated", scope=None))["components"][
        "power"
    ]
    assert sensor["name"] == "Power (emulated)"
    for scope in ("board", "wall"):
        said = telemetry(kind="emulated", scope=scope)
        assert float(rendered(sensor["value_template"], said)) == 4.25
    assert rendered(sensor["value_template"], telemetry()) == "None"


def test_availability_is_the_boards_own_state_and_its_last_will() -> None:
    (availability,) = document()["availability"]
    own = OwnState(fleet="desk", peer="raspi.1", role="device", boot_id="b" * 16)
    own.has_connected()
    assert availability["topic"] == own.topic
    said = {
        each: rendered(availability["value_template"], each)
        for each in (own.online, own.will, own.goodbye)
    }
    assert said == {own.online: "online", own.will: "offline", own.goodbye: "offline"}
    assert DeviceState.__struct_config__.tag == "state"
