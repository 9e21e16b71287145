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

from fimi.coordinator.checkpoint import receiver
from fimi.coordinator.context import Context, FederationError, Stopwatch
from fimi.coordinator.conversation import Conversation
from fimi.coordinator.inbox import Inbox
from fimi.coordinator.registry import Registry
from fimi.coordinator.settings import RoundSettings
from fimi.coordinator.strategies import STRATEGIES
from fimi.coordinator.synthesis import Synthesis, parts
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.messages.synthesis import SyntheticBatch, SyntheticProgress, SyntheticRequest
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
    known: tuple[SyntheticBatch, ...] = (),
    requests: tuple[SyntheticRequest, ...] = (),
    ask: Callable[[Synthesis], dict[str, SyntheticBatch]] = lambda synthesis: synthesis.of(COUNTS),
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
            synthesis = Synthesis(
                context,
                DIGITS,
                {receiver(batch.device, batch.skip): batch for batch in known},
                {receiver(request.device, request.skip): request for request in requests},
                silence_s=silence_s,
            )
            made = ask(synthesis)
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


def answered(request: SyntheticRequest, delivered: tuple[int, ...] | None = None) -> SyntheticBatch:
    return SyntheticBatch(
        run=request.run,
        instance=request.instance,
        device=request.device,
        skip=request.skip,
        delivered=request.counts if delivered is None else delivered,
        offer=None,
        seconds=0.1,
        generator="scripted",
    )


def wanted(device: str, counts: tuple[int, ...], skip: tuple[int, ...] = ()) -> SyntheticRequest:
    return SyntheticRequest(
        run="r1", instance="i1", device=device, counts=counts, skip=skip, seed=0, contract=DIGITS
    )


def nobody() -> None:
    """There is no generator node."""


MORE = {"device-1": (0, 5, 0), "device-2": (1, 1, 1), "device-3": (0, 0, 9)}


class TestFurther:
    """Images beside those that a device has."""

    def further(self, synthesis: Synthesis) -> dict[str, SyntheticBatch]:
        return synthesis.of(MORE, skip=COUNTS, patience_s=5.0)

    def life(
        self,
        broker: EmbeddedBroker,
        fleet: str,
        count: int,
        asked: list[SyntheticRequest],
        tells: Callable[[SyntheticRequest], list[SyntheticBatch]] = lambda r: [answered(r)],
    ) -> None:
        """A generator node that answers so many requests, and goes."""
        with Peer(broker.address, fleet=fleet, peer="generator", role="generator") as me:
            for _ in range(count):
                asked.append(request := Node.next_request(me))
                for batch in tells(request):
                    me.send(COORDINATOR, batch)
            assert me.flush(5.0)

    def test_each_device_is_asked_for_what_follows_its_own(
        self, a_broker: EmbeddedBroker, fleet_name: str
    ) -> None:
        asked: list[SyntheticRequest] = []

        def both(synthesis: Synthesis) -> dict[str, SyntheticBatch]:
            first = synthesis.of(COUNTS)
            found = self.further(synthesis)
            assert {d: b.delivered for d, b in first.items()} == COUNTS
            assert all(synthesis.is_known(b) for b in (*first.values(), *found.values()))
            assert all(synthesis.is_ours(b) for b in (*first.values(), *found.values()))
            return found

        made, events = synthesise(
            a_broker, fleet_name, lambda: self.life(a_broker, fleet_name, 6, asked), ask=both
        )
        assert {device: batch.delivered for device, batch in made.items()} == MORE
        assert {r.device: r.skip for r in asked[:3]} == dict.fromkeys(COUNTS, ())
        assert {r.device: r.skip for r in asked[3:]} == COUNTS
        told = [event for event in events if isinstance(event, BatchDelivered)]
        assert [event.requested for event in told[3:]] == [event.delivered for event in told[3:]]

    def test_what_is_known_is_not_asked_for(
        self, a_broker: EmbeddedBroker, fleet_name: str
    ) -> None:
        known = [answered(wanted(d, n)) for d, n in COUNTS.items()]
        known += [answered(wanted(d, n, COUNTS[d])) for d, n in MORE.items()]
        made, events = synthesise(
            a_broker, fleet_name, nobody, known=tuple(known), ask=self.further
        )
        assert {device: batch.delivered for device, batch in made.items()} == MORE
        assert events == []

    def test_a_node_that_starts_again_is_asked_for_the_same(
        self, a_broker: EmbeddedBroker, fleet_name: str
    ) -> None:
        asked: list[SyntheticRequest] = []

        def lives() -> None:
            self.life(a_broker, fleet_name, 1, asked)
            self.life(a_broker, fleet_name, 2, asked)

        made, _ = synthesise(a_broker, fleet_name, lives, ask=self.further)
        assert {device: batch.delivered for device, batch in made.items()} == MORE
        assert {r.device: (r.counts, r.skip) for r in asked} == {
            device: (MORE[device], COUNTS[device]) for device in COUNTS
        }

    def test_the_first_batch_offered_again_is_not_the_further_one(
        self, a_broker: EmbeddedBroker, fleet_name: str
    ) -> None:
        asked: list[SyntheticRequest] = []

        def both(request: SyntheticRequest) -> list[SyntheticBatch]:
            first = answered(wanted(request.device, COUNTS[request.device]))
            return [first, answered(request)]

        made, events = synthesise(
            a_broker,
            fleet_name,
            lambda: self.life(a_broker, fleet_name, 3, asked, both),
            ask=self.further,
        )
        assert {device: batch.delivered for device, batch in made.items()} == MORE
        assert sum(isinstance(event, BatchDelivered) for event in events) == 3

    def test_none_is_waited_for_without_patience(
        self, a_broker: EmbeddedBroker, fleet_name: str
    ) -> None:
        began_s = time.monotonic()
        with pytest.raises(FederationError, match=r"no generator node came within 0 s$"):
            synthesise(
                a_broker,
                fleet_name,
                nobody,
                ask=lambda synthesis: synthesis.of(MORE, skip=COUNTS, patience_s=0.0),
            )
        assert time.monotonic() - began_s < 10.0, "what gathering may take"

    def test_no_further_ones_are_no_error(self, a_broker: EmbeddedBroker, fleet_name: str) -> None:
        """A generator with a stock may have none left; of first batches that is the end."""
        asked: list[SyntheticRequest] = []

        def life() -> None:
            self.life(a_broker, fleet_name, 3, asked, lambda r: [answered(r, (0, 0, 0))])

        made, _ = synthesise(a_broker, fleet_name, life, ask=self.further)
        assert {batch.delivered for batch in made.values()} == {(0, 0, 0)}
        with pytest.raises(FederationError, match="made none of the 9 images"):
            synthesise(a_broker, fleet_name, life)

    def test_a_run_that_goes_on_asks_as_it_has_asked_before(
        self, a_broker: EmbeddedBroker, fleet_name: str
    ) -> None:
        """Its plan has other numbers by now; another request would give other bytes."""
        before = [wanted(d, n) for d, n in COUNTS.items()]
        before += [wanted(d, n, COUNTS[d]) for d, n in MORE.items()]
        totals = {d: tuple(map(sum, zip(COUNTS[d], MORE[d], strict=True))) for d in COUNTS}
        asked: list[SyntheticRequest] = []

        def goes_on(synthesis: Synthesis) -> dict[str, SyntheticBatch]:
            found = synthesis.of(totals)
            context = synthesis._context
            assert context.inbox.wait(lambda: bool(context.registry.generators), 10.0)
            synthesis.offer_again(COUNTS)
            return found

        made, _ = synthesise(
            a_broker,
            fleet_name,
            lambda: self.life(a_broker, fleet_name, 6, asked),
            known=tuple(map(answered, before)),
            requests=tuple(before),
            ask=goes_on,
        )
        assert {device: batch.delivered for device, batch in made.items()} == COUNTS
        assert sorted(asked, key=str) == sorted(before, key=str)
