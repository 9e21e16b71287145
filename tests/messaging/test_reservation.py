"""One study at a time on a fleet, with real brokers and processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.errors import IdentityTaken
from fimi.messaging.reservation import Reservation
from fimi.messaging.topics import COORDINATOR

HOLDER = """
import sys, time
from fimi.messaging.address import BrokerAddress
from fimi.messaging.reservation import Reservation
with Reservation(BrokerAddress.parse(sys.argv[1]), fleet=sys.argv[2], what="study digits"):
    print("holds", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def study(broker: EmbeddedBroker, fleet: str) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Starts a process that holds the fleet until its input ends."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        url = broker.address.url(with_password=True)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        process = subprocess.Popen([sys.executable, "-c", HOLDER, url, fleet], **pipes)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_second_study_is_told_who_has_the_fleet(
    broker: EmbeddedBroker, fleet: str, study: Callable[[], subprocess.Popen[str]]
) -> None:
    first = study()
    with (
        pytest.raises(IdentityTaken) as caught,
        Reservation(broker.address, fleet=fleet, what="another"),
    ):
        pytest.fail("two studies hold the fleet")
    said = str(caught.value)
    assert said.startswith(f"fleet {fleet!r} is in use by a study (process {first.pid} on ")
    assert "study digits" in said


def test_it_is_free_after_an_orderly_end_and_after_a_kill(
    broker: EmbeddedBroker, fleet: str, study: Callable[[], subprocess.Popen[str]]
) -> None:
    first = study()
    first.communicate("\n")
    second = study()
    second.kill()
    second.wait()
    with Reservation(broker.address, fleet=fleet, what="third") as third:
        assert third.lost is None


def test_the_coordinators_of_the_study_have_the_id(broker: EmbeddedBroker, fleet: str) -> None:
    address = broker.address
    with (
        Reservation(address, fleet=fleet, what="study"),
        Peer(address, fleet=fleet, peer=COORDINATOR, role="coordinator") as coordinator,
    ):
        assert coordinator.epoch == 1
        assert coordinator.counters.refused == 0
        with Reservation(address, fleet=fleet + "x", what="of another fleet"):
            pass


def test_it_is_kept_over_a_restart_of_the_broker(
    mortal: EmbeddedBroker, fleet: str, until: Callable[..., None]
) -> None:
    with Reservation(mortal.address, fleet=fleet, what="study") as held:
        assert not held.is_away
        mortal.close()
        until(lambda: held.is_away)
        mortal.start()
        assert held._link is not None
        until(lambda: held._link.ready and held._identity.confirmed)
        assert not held.is_away
        with (
            pytest.raises(IdentityTaken),
            Reservation(mortal.address, fleet=fleet, what="another"),
        ):
            pytest.fail("two studies hold the fleet")
    assert held.lost is None
