from __future__ import annotations

import itertools
import secrets
from typing import get_args

import pytest

from fimi.messaging import topics
from fimi.messaging.console import Console
from fimi.messaging.errors import MessageRefused
from fimi.messaging.link import Link
from fimi.messaging.messages.peers import DeviceState, Role
from fimi.messaging.roles import check_role, check_sender, state_recipient
from fimi.messaging.transfers.wire import encode_message

NAMES = ("pi", "generator", "coordinator")
ALLOWED = {
    ("device", "pi", "coordinator"),
    ("device", "generator", "coordinator"),
    ("generator", "pi", "all"),
    ("generator", "generator", "all"),
    ("coordinator", "coordinator", "all"),
}


def state(role: Role, peer: str) -> DeviceState:
    return DeviceState(peer=peer, role=role, status="online", boot_id="b")


@pytest.mark.parametrize(
    ("role", "sender", "recipient"),
    list(itertools.product(get_args(Role), NAMES, ("all", "coordinator"))),
)
def test_a_role_needs_its_place(role: Role, sender: str, recipient: str) -> None:
    if (role, sender, recipient) in ALLOWED:
        check_role(state(role, sender), sender, recipient)
    else:
        with pytest.raises(MessageRefused, match=f"{sender} says that it is a {role}"):
            check_role(state(role, sender), sender, recipient)


@pytest.mark.parametrize("role", get_args(Role))
def test_a_peer_sends_its_state_where_its_role_shows(role: Role) -> None:
    sender = "coordinator" if role == "coordinator" else "x"
    check_role(state(role, sender), sender, state_recipient(role))


def test_who_sends_what(samples) -> None:
    only = {"SyntheticRequest": "coordinator", "SyntheticBatch": "generator",
            "SyntheticProgress": "generator", "SyntheticSamples": "generator"}  # fmt: skip
    seen = set()
    for sender, _, message in samples:
        name = type(message).__name__
        seen.add(name)
        for role in (None, *get_args(Role)):
            mine = only.get(name) in (None, role) or (
                only.get(name) == "coordinator" and sender == "coordinator"
            )
            if mine:
                check_sender(message, sender, role)
            else:
                with pytest.raises(MessageRefused, match=f"{name} from {sender}"):
                    check_sender(message, sender, role)
    assert set(only) <= seen


def test_a_device_that_claims_to_be_a_generator_node_is_none(join, broker, fleet, until) -> None:
    """Its state and its batches are refused; what comes from the node itself is taken."""
    coordinator = join("coordinator")
    link = Link(broker.address, secrets.token_hex(8), clean_session=True)
    link.connect(10.0)
    try:
        claim = encode_message(state("generator", "pi"), sender="pi", recipient="coordinator")
        link.publish(topics.topic(fleet, "pi", "coordinator", "state"), claim, qos=1)
        until(lambda: coordinator.counters.refused == 1)
        assert "pi" not in coordinator.peers
        with Console(broker.address, fleet=fleet) as console:
            link.publish(topics.topic(fleet, "pi", "coordinator", "state"), claim, qos=1)
            until(lambda: console.refused)
            assert not console.has_generator
    finally:
        link.close()
    join("generator")
    until(lambda: "generator" in coordinator.peers)
    assert coordinator.peers["generator"].state.role == "generator"
