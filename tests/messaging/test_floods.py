"""A member of a fleet that floods others with what is valid is set aside; honest ones are served.

Over a real Mosquitto with access rules, so that a name is who has sent.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from msgspec.structs import replace

from fimi.learning.data.contract import PROTOCOL
from fimi.messaging import topics
from fimi.messaging.allowances import ALLOWED, Use
from fimi.messaging.client import Peer
from fimi.messaging.errors import TransferCancelled
from fimi.messaging.link import Link
from fimi.messaging.messages.basis import Offer
from fimi.messaging.messages.peers import DeviceState, Telemetry
from fimi.messaging.topics import COORDINATOR, Kind
from fimi.messaging.transfers.fetching import LEAST_FILE_BYTES
from fimi.messaging.transfers.parts import PartFiles
from fimi.messaging.transfers.wire import (
    Chunk,
    Done,
    Gone,
    Noted,
    Want,
    encode_message,
    encode_transfer,
)

RULES = [
    "pattern write fimi/v1/+/%u/#",
    "pattern read fimi/v1/+/+/%u/#",
    "pattern read fimi/v1/+/+/all/#",
    "pattern read fimi/v1/+/+/shared/#",
]
NOWHERE = "ab" * 32


def _state(number: int, **fields) -> bytes:
    state = DeviceState(
        peer="rogue", role="device", status="online", boot_id="b", protocol=PROTOCOL, session=1
    )
    return encode_message(replace(state, **fields), sender="rogue", recipient=COORDINATOR)


def _telemetry(number: int, _served: str) -> bytes:
    said = Telemetry(device="rogue", boot_id="b", number=number + 1, unix_s=1.0, stage="idle")
    return encode_message(said, sender="rogue", recipient=COORDINATOR)


def _want(digest: str, run: tuple[int, int]) -> bytes:
    return encode_transfer(Want(digest=digest, runs=(run,), chunk_bytes=1024))


Flood = Callable[[int, str], bytes]
FLOODS: dict[str, tuple[Kind, Use, Flood]] = {
    "chunks": (
        "chunk",
        "idle",
        lambda n, _: encode_transfer(
            Chunk(digest=NOWHERE, start=n, check=0, data=memoryview(bytes(1000)))
        ),
    ),
    "noted": ("chunk", "idle", lambda n, served: encode_transfer(Noted(digest=served))),
    "gone": ("chunk", "idle", lambda n, served: encode_transfer(Gone(digest=served))),
    "wants of nothing": ("want", "idle", lambda n, _: _want(f"{n:064x}", (0, 1))),
    "wants beyond": ("want", "bad", lambda n, served: _want(served, (1 << 30, 1))),
    "done": ("want", "idle", lambda n, served: encode_transfer(Done(digest=served))),
    "telemetry": ("telemetry", "telemetry", _telemetry),
    "heartbeats": ("state", "state", lambda n, _: _state(n)),
    "starts": ("state", "news", lambda n, _: _state(n, boot_id=str(n))),
    "connections": ("state", "news", lambda n, _: _state(n, session=n)),
    "coming and going": (
        "state",
        "news",
        lambda n, _: _state(n, status="offline" if n % 2 else "online", goodbye=bool(n % 2)),
    ),
}


@pytest.fixture
def fleet(own_mosquitto, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Peer, Peer, Link]]:
    monkeypatch.setattr("fimi.messaging.offenders.ASIDE_S", 300.0)  # whatever else the machine does
    address = own_mosquitto(RULES, username=COORDINATOR, also=("d1", "rogue"))
    rogue = Link(replace(address, username="rogue"), "rogue", clean_session=True)
    with (
        Peer(address, fleet="f", peer=COORDINATOR, role="coordinator") as coordinator,
        Peer(replace(address, username="d1"), fleet="f", peer="d1", role="device") as honest,
    ):
        rogue.connect(5.0)
        yield coordinator, honest, rogue
        rogue.close()


@pytest.mark.parametrize("name", FLOODS)
def test_set_aside_soon_and_nobody_else_suffers(name: str, fleet, until) -> None:
    coordinator, honest, rogue = fleet
    kind, use, flood = FLOODS[name]
    payload = bytes(range(256)) * 2000
    offer = coordinator.transfers.serve(payload, "bytes")
    topic = topics.topic("f", "rogue", COORDINATOR, kind)
    began_s = time.monotonic()
    number = 0
    while not coordinator.set_asides:
        for _ in range(50):
            info = rogue.publish(topic, flood(number, offer.digest), qos=0)
            number += 1
        info.wait_for_publish(5.0)
        assert time.monotonic() < began_s + 20.0
    assert honest.transfers.fetch(offer, 20.0) == payload
    (found,) = coordinator.offenders
    assert (found.sender, found.forged, found.times) == ("rogue", False, 1)
    assert use == "bad" or ALLOWED[use].why in found.why
    assert found.offences <= 100
    for _ in range(100):
        rogue.publish(topic, flood(number, offer.digest), qos=0)
    until(lambda: coordinator.counters.unseen >= 100)
    assert coordinator.offenders[0].offences == found.offences


@pytest.mark.parametrize("in_file", [False, True], ids=["in memory", "in a file"])
def test_chunks_that_were_asked_for_and_are_damaged(
    in_file: bool, fleet, until, tmp_path, caplog
) -> None:
    """Whoever offers a payload and sends rubbish in its place is named once and set aside."""
    coordinator, _, rogue = fleet
    size_bytes = 2 * LEAST_FILE_BYTES
    offer = Offer(holder="rogue", digest=NOWHERE, size_bytes=size_bytes, media="x")
    parts = PartFiles(tmp_path) if in_file else None
    over = threading.Event()

    def fetch() -> None:
        with contextlib.suppress(TransferCancelled):
            coordinator.transfers.fetch(offer, 30.0, cancelled=over.is_set, parts=parts)

    thread = threading.Thread(target=fetch)
    thread.start()
    try:
        until(coordinator.transfers.expected_bytes)
        bad = encode_transfer(Chunk(digest=NOWHERE, start=0, check=7, data=memoryview(bytes(1024))))
        topic = topics.topic("f", "rogue", COORDINATOR, "chunk")
        began_s = time.monotonic()
        while not coordinator.set_asides:
            rogue.publish(topic, bad, qos=0).wait_for_publish(5.0)
            assert time.monotonic() < began_s + 20.0
    finally:
        over.set()
        thread.join()
    (found,) = coordinator.offenders
    assert (found.sender, found.why) == ("rogue", "a chunk is damaged")
    assert len([r for r in caplog.records if "rogue" in r.getMessage()]) <= 3
