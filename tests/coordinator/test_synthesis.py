"""fimi.coordinator.synthesis: a generator node that says how far it is, vanishes, and comes
back."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_contract import DIGITS

from fimi.coordinator.context import Context, FederationError, Stopwatch
from fimi.coordinator.conversation import Conversation
from fimi.coordinator.inbox import Inbox
from fimi.coordinator.registry import Registry
from fimi.coordinator.settings import RoundSettings
from fimi.coordinator.strategies import STRATEGIES
from fimi.coordinator.synthesis import Synthesis, parts
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.messages import SyntheticBatch, SyntheticProgress, SyntheticRequest
from fimi.messaging.topics import COORDINATOR
from fimi.record.events import AwaitingGenerator, BatchDelivered, Event, GenerationProgress
from fimi.record.store import RunStore
from fimi.testbed.configuration.sections import Config, FleetConfig

COUNTS = {f"device-{number}": (number, 0, 1) for number in (1, 2, 3)}


class Node:
    """One life of a generator node: answers so many requests, then goes away."""

    def __init__(self, broker: EmbeddedBroker, fleet: str) -> None:
        self.broker, self.fleet = broker, fleet
        self.asked: list[list[str]] = []

    @staticmethod
    def next_request(me: Peer) -> SyntheticRequest:
        while (received := me.receive(timeout_s=10.0)) is not None:
            if isinstance(received[1], SyntheticRequest):
                return received[1]
        raise AssertionError("nobody asked for anything")

    def live(self, answers: int, run: str = "r1", hang: threading.Event | None = None) -> None:
        """Answer requests, each after word of progress; then hang until told, or go at once."""
        asked: list[str] = []
        self.asked.append(asked)
        with Peer(self.broker.address, fleet=self.fleet, peer="generator", role="generator") as me:
            for number in range(answers):
                request = self.next_request(me)
                asked.append(request.device)
                progress = SyntheticProgress(
                    run=run,
                    instance="i1",
                    devices_done=number,
                    devices_asked=3,
                    lacking=5,
                    images_per_s=100.0,
                )
                me.send(COORDINATOR, progress)
                answer = SyntheticBatch(
                    instance="i1",
                    run=run,
                    device=request.device,
                    delivered=request.counts,
                    offer=None,
                    seconds=0.1,
                    generator="scripted",
                )
                me.send(COORDINATOR, answer)
            if hang is not None:
                assert hang.wait(30)

    def work_slowly(self, words: int, pause_s: float) -> None:
        """Say so many times, at intervals, that there is progress; then answer everything."""
        with Peer(self.broker.address, fleet=self.fleet, peer="generator", role="generator") as me:
            requests = [self.next_request(me) for _ in COUNTS]
            never = threading.Event()
            for _ in range(words):
                never.wait(pause_s)
                progress = SyntheticProgress(
                    run="r1",
                    instance="i1",
                    devices_done=0,
                    devices_asked=3,
                    lacking=5,
                    images_per_s=0.1,
                )
                me.send(COORDINATOR, progress)
            for request in requests:
                answer = SyntheticBatch(
                    instance="i1",
                    run="r1",
                    device=request.device,
                    delivered=request.counts,
                    offer=None,
                    seconds=0.1,
                    generator="scripted",
                )
                me.send(COORDINATOR, answer)


def synthesise(
    broker: EmbeddedBroker,
    fleet: str,
    lives: Callable[[], None],
    *,
    patience_s: float = 10.0,
    silence_s: float = 30.0,
    on_end: Callable[[], None] = lambda: None,
) -> tuple[dict[str, SyntheticBatch], list[Event]]:
    """What comes of :data:`COUNTS` while the generator node lives its lives in a thread."""
    settings = Config(
        fleet=FleetConfig(devices=3), rounds=RoundSettings(gather_timeout_s=patience_s)
    )
    events: list[Event] = []
    registry = Registry()
    with (
        tempfile.TemporaryDirectory() as folder,
        Peer(broker.address, fleet=fleet, peer=COORDINATOR, role="coordinator") as peer,
        closing(RunStore(Path(folder) / "run.sqlite")) as store,
    ):
        conversation = Conversation("r1", "i1", 1, lambda device, said: None, time.monotonic)
        context = Context(
            run="r1",
            instance="i1",
            settings=settings,
            strategy=STRATEGIES["fimi"],
            peer=peer,
            registry=registry,
            conversation=conversation,
            inbox=Inbox(peer, registry, conversation, events.append, threading.Event()),
            store=store,
            notify=events.append,
            watch=Stopwatch(),
        )
        thread = threading.Thread(target=lives)
        thread.start()
        try:
            made = Synthesis(context, DIGITS, silence_s=silence_s).of(COUNTS)
        finally:
            on_end()
            thread.join()
    return made, events


def test_a_node_that_vanishes_is_asked_again_for_what_it_has_not_delivered(
    a_broker: EmbeddedBroker, fleet_name: str
) -> None:
    node = Node(a_broker, fleet_name)

    def lives() -> None:
        node.live(1)
        node.live(2)

    made, events = synthesise(a_broker, fleet_name, lives)
    assert {device: batch.delivered for device, batch in made.items()} == COUNTS
    assert len(node.asked[0]) == 1
    assert sorted(node.asked[1]) == sorted({"device-1", "device-2", "device-3"} - {*node.asked[0]})
    delivered = [event.device for event in events if isinstance(event, BatchDelivered)]
    assert sorted(delivered) == ["device-1", "device-2", "device-3"]
    first = events[0]  # nobody was there yet
    assert isinstance(first, AwaitingGenerator)
    assert 9.0 < first.left_s <= 10.0


def test_progress_is_an_event(a_broker: EmbeddedBroker, fleet_name: str) -> None:
    node = Node(a_broker, fleet_name)
    _, events = synthesise(a_broker, fleet_name, lambda: node.live(3))
    heard = [event for event in events if isinstance(event, GenerationProgress)]
    assert [event.devices_done for event in heard] == [0, 1, 2]
    assert heard[0] == GenerationProgress(
        devices_done=0, devices_asked=3, lacking=5, images_per_s=100.0
    )


def test_a_node_that_stays_away(a_broker: EmbeddedBroker, fleet_name: str) -> None:
    node = Node(a_broker, fleet_name)
    with pytest.raises(FederationError, match=r"delivered 1 of 3 batches, went away and did not"):
        synthesise(a_broker, fleet_name, lambda: node.live(1), patience_s=1.0)


@given(counts=st.lists(st.integers(0, 30), max_size=5), most=st.integers(1, 40))
def test_parts_add_up_and_each_begins_where_the_last_ended(counts: list[int], most: int) -> None:
    before = [0] * len(counts)
    for number, part in enumerate(parts(counts, most)):
        assert part.skip == (tuple(before) if number else ())
        assert 1 <= sum(part.counts) <= most
        before = [had + more for had, more in zip(before, part.counts, strict=True)]
        assert sum(part.counts) == most or before == counts
    assert before == counts


class TestSilence:
    def test_a_slow_node_that_says_so_is_waited_for(
        self, a_broker: EmbeddedBroker, fleet_name: str
    ) -> None:
        """Its work takes longer than silence may; the pauses between its words do not."""
        node = Node(a_broker, fleet_name)
        began_s = time.monotonic()
        made, _ = synthesise(
            a_broker, fleet_name, lambda: node.work_slowly(8, pause_s=0.25), silence_s=1.5
        )
        assert time.monotonic() - began_s > 1.5
        assert {device: batch.delivered for device, batch in made.items()} == COUNTS

    def test_a_node_that_hangs_is_given_up(self, a_broker: EmbeddedBroker, fleet_name: str) -> None:
        node, over = Node(a_broker, fleet_name), threading.Event()
        with pytest.raises(FederationError, match=r"ed 1 of 3 .* no sign of life for 0\.5 s"):
            synthesise(
                a_broker,
                fleet_name,
                lambda: node.live(1, hang=over),
                silence_s=0.5,
                on_end=over.set,
            )

    def test_an_answer_that_is_lost_with_the_broker_is_asked_for_again(
        self, a_broker: EmbeddedBroker, fleet_name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The node believes that it has answered; the coordinator has heard nothing."""
        monkeypatch.setattr("fimi.coordinator.synthesis.ASK_AGAIN_S", 0.3)
        node = Node(a_broker, fleet_name)
        asked: list[SyntheticRequest] = []

        def answers_the_second_time() -> None:
            with Peer(a_broker.address, fleet=fleet_name, peer="generator", role="generator") as me:
                while sum(1 for _ in asked) < 2 * len(COUNTS):
                    request = node.next_request(me)
                    if request in asked:
                        me.send(
                            COORDINATOR,
                            SyntheticBatch(
                                run="r1",
                                instance="i1",
                                device=request.device,
                                delivered=request.counts,
                                offer=None,
                                seconds=0.1,
                                generator="scripted",
                            ),
                        )
                    asked.append(request)
                assert me.flush(5.0)

        made, _ = synthesise(a_broker, fleet_name, answers_the_second_time)
        assert {device: batch.delivered for device, batch in made.items()} == COUNTS
        assert asked[: len(COUNTS)] == asked[len(COUNTS) : 2 * len(COUNTS)]
