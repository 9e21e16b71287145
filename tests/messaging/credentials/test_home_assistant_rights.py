"""Who may announce boards to Home Assistant, and how its own broker gets them: by a bridge."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fimi.messaging import forgetting
from fimi.messaging.address import BrokerAddress
from fimi.messaging.broker.embedded import find_mosquitto
from fimi.messaging.broker.of_fleet import FleetBroker
from fimi.messaging.bundle import Bundle
from fimi.messaging.client import Peer
from fimi.messaging.credentials.folder import FleetFolder
from fimi.messaging.errors import NotAuthorised
from fimi.messaging.forgetting import forget
from fimi.messaging.home_assistant import ShownBoard, discovery_topic
from fimi.messaging.link import Link
from fimi.messaging.messages.peers import Telemetry
from fimi.testbed.fleet.home_assistant import announce

BOARD = ShownBoard(device="pi-01", kind="measured", scope="board", source="ina226")
TOPIC = discovery_topic("homeassistant", "desk", "pi-01")
DOCS = Path(__file__).parents[3] / "docs" / "monitoring.md"


class Listener:
    """A client that hears some topics."""

    def __init__(self, address: BrokerAddress, *filters: str) -> None:
        self.kept: dict[str, bytes] = {}
        self.said: list[tuple[str, bytes]] = []
        self._lock = threading.Lock()
        self.link = Link(
            address,
            f"listens-{secrets.token_hex(4)}",
            clean_session=True,
            subscriptions=filters,
            on_message=self._take,
        )
        self.link.connect(10.0)

    def _take(self, topic: str, payload: bytes, _retained: bool) -> None:
        with self._lock:
            self.said.append((topic, payload))
            self.kept[topic] = payload


def may_write(address: BrokerAddress, topic: str) -> bool | None:
    link = Link(address, f"writes-{secrets.token_hex(4)}", clean_session=True)
    link.connect(10.0)
    try:
        return link.may_write(topic, 10.0)
    finally:
        link.close()


@pytest.mark.parametrize("with_which", ["fleet", "with_passwords"])
def test_only_the_coordinator_may_announce_a_board(
    request: pytest.FixtureRequest, with_which: str
) -> None:
    fleet: Any = request.getfixturevalue(with_which)
    coordinator = fleet.bundle("coordinator").address()
    assert may_write(coordinator, TOPIC)
    assert may_write(coordinator, discovery_topic("another-prefix", "desk", "pi-01"))
    assert not may_write(coordinator, discovery_topic("homeassistant", "other", "pi-01"))
    assert not may_write(coordinator, "homeassistant/switch/fimi-desk/pi-01/config")
    for peer in ("pi-01", "pi-02", "generator"):
        assert not may_write(fleet.bundle(peer).address(), TOPIC), peer
    with pytest.raises(NotAuthorised, match="coordinator's credentials"):
        done = announce(
            fleet.bundle("pi-01").address(),
            fleet="desk",
            prefix="homeassistant",
            boards={"pi-01": BOARD},
        )
        raise done["pi-01"] or AssertionError("it was taken")


def test_a_board_that_is_forgotten_is_not_announced_any_more(
    fleet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "ALIVE_S", 0.1)
    coordinator = fleet.bundle("coordinator").address()
    keeper = fleet.folder.keeper("127.0.0.1")
    boards = {"pi-01": BOARD, "pi-02": ShownBoard(device="pi-02", kind="emulated", scope="board")}
    done = announce(coordinator, fleet="desk", prefix="homeassistant", boards=boards)
    assert done == {"pi-01": None, "pi-02": None}
    assert forget(keeper, fleet="desk", name="pi-02") == 1
    assert forget(keeper, fleet="desk", name="pi-02") == 0
    assert forget(keeper, fleet="desk", name="pi-01") == 1


def test_a_bridge_brings_home_what_home_assistant_needs_and_lets_nothing_in(
    home_broker: int, free_port: int, tmp_path: Path, settle: Callable[[Callable[[], object]], None]
) -> None:
    """The lines of the documentation, between the fleet's broker and that of a home."""
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed (apt install mosquitto)")
    name = f"home-{secrets.token_hex(4)}"
    folder = FleetFolder.begin(
        tmp_path / "fleet", fleet=name, hosts=["127.0.0.1"], port=free_port, days=2
    )
    folder.enroll("pi-01")
    text = DOCS.read_text(encoding="utf-8").split("connection home", 1)[1].split("```", 1)[0]
    lines = f"connection home{text}".replace("desk", name).splitlines()
    lines = [line for line in lines if not line.startswith(("address ", "remote_"))]
    (tmp_path / "fleet" / "mosquitto.d" / "home.conf").write_text(
        "\n".join([*lines, f"address 127.0.0.1:{home_broker}"]) + "\n"
    )
    home = BrokerAddress(host="127.0.0.1", port=home_broker)
    pi, coordinator = (Bundle.read(folder.bundle(each)) for each in ("pi-01", "coordinator"))
    listener = Listener(home, "homeassistant/#", f"fimi/v1/{name}/#")
    with FleetBroker(folder):
        with Peer(pi.address(), fleet=name, peer="pi-01", role="device") as device:
            announce(
                coordinator.address(),
                fleet=name,
                prefix="homeassistant",
                boards={"pi-01": BOARD},
            )
            place = discovery_topic("homeassistant", name, "pi-01")
            settle(lambda: listener.kept.get(place))
            said = json.loads(listener.kept[place])
            telemetry_on = said["components"]["power"]["state_topic"]
            state_on = said["availability"][0]["topic"]
            settle(lambda: state_on in listener.kept)
            assert json.loads(listener.kept[state_on])["status"] == "online"
            message = Telemetry(
                device="pi-01", boot_id=device.boot_id, number=1, unix_s=1.0, stage="idle",
                power_w=3.5, kind="measured", scope="board",
            )  # fmt: skip
            device.tell_telemetry(message)
            settle(lambda: telemetry_on in listener.kept)
            assert json.loads(listener.kept[telemetry_on])["power_w"] == 3.5
            # What somebody says at home does not come into the fleet.
            inside = Listener(coordinator.address(), f"fimi/v1/{name}/+/coordinator/#")
            forged = f"fimi/v1/{name}/pi-01/coordinator/telemetry"
            listener.link.publish(forged, b"forged", qos=1).wait_for_publish(10.0)
            device.tell_telemetry(message)
            settle(lambda: any(topic == forged for topic, _ in inside.said))
            assert (forged, b"forged") not in inside.said
            inside.link.close()
            # A topic that Home Assistant does not need stays in the fleet.
            assert not any(topic.endswith(("/lease", "/status")) for topic, _ in listener.said)
        settle(lambda: json.loads(listener.kept[state_on])["status"] == "offline")
    listener.link.close()
