"""The conversation converges, whatever the network does and whoever is killed.

``FIMI_EXAMPLES=2000`` runs as many examples as the acceptance asks for; the suite runs fewer.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from fimi.coordinator.conversation import MAX_LEAP, MAX_OPEN, Conversation
from fimi.messaging.kept_documents import AGAIN_S
from fimi.messaging.messages.documents import (
    MAX_EARLIER,
    Desired,
    EarlierFacts,
    Fact,
    Heard,
    Reported,
)
from fimi.messaging.messages.facts import PlanApplied, RoundSettled
from fimi.messaging.messages.orders import DevicePlan, RunEnded
from tests.coordinator.conversation_world import POINT, ROUNDS, Coordinator, Device, Network, Store

EXAMPLES = int(os.environ.get("FIMI_EXAMPLES", "60"))


class Conversations(RuleBasedStateMachine):
    """Loss, repetition, reordering, delay, and restarts of everybody, in any order."""

    @initialize(count=st.integers(1, 3), durable=st.sets(st.integers(0, 2)))
    def begin(self, count: int, durable: set[int]) -> None:
        names = [f"d{index}" for index in range(count)]
        self.network, self.store = Network(), Store()
        self.instances = 0
        self.devices = {
            name: Device(name, self.network, durable=index in durable)
            for index, name in enumerate(names)
        }
        self.coordinator = Coordinator(names, self.network, self.store, "instance-0")

    @rule(which=st.integers(0, 1000), keep=st.booleans())
    def deliver(self, which: int, keep: bool) -> None:
        """Any message under way arrives; it may arrive again later."""
        pool = self.network.under_way
        if not pool:
            return
        index = which % len(pool)
        to, message = pool[index]
        if not keep:
            del pool[index]
        self.hand_over(to, message)

    @rule(turns=st.integers(1, 30))
    def all_goes_well(self, turns: int) -> None:
        """For a while nothing is lost: the run comes so far that there is something to break."""
        for _ in range(turns):
            self.take_a_turn()

    @rule(which=st.integers(0, 10**6))
    def repeat(self, which: int) -> None:
        """Anything that was ever said arrives again."""
        history = self.network.history
        if history:
            self.hand_over(*history[which % len(history)])

    @rule(which=st.integers(0, 1000))
    def lose(self, which: int) -> None:
        if self.network.under_way:
            del self.network.under_way[which % len(self.network.under_way)]

    @rule(which=st.integers(0, 2))
    def work(self, which: int) -> None:
        names = sorted(self.devices)
        self.devices[names[which % len(names)]].advance()

    @rule(seconds=st.sampled_from((0.1, 1.0, 5.0, 30.0)))
    def time_passes(self, seconds: float) -> None:
        self.coordinator.now_s += seconds
        self.coordinator.conversation.tick()

    @rule(which=st.integers(0, 2))
    def kill_device(self, which: int) -> None:
        names = sorted(self.devices)
        self.devices[names[which % len(names)]].boot()

    @rule(heard=st.booleans())
    def kill_coordinator(self, heard: bool) -> None:
        """It starts again; perhaps its first words are heard before it says more."""
        self.coordinator.boot()
        if heard:
            self.settle_network()

    @rule(steps=st.integers(0, 4))
    def interrupt_coordinator(self, steps: int) -> None:
        """Ctrl-C; devices hear of it at once, while it starts again, or much later."""
        self.coordinator.interrupt()
        for _ in range(steps):
            self.settle_network()
            for device in self.devices.values():
                device.advance()
        self.coordinator.boot()

    @rule(keeps=st.booleans())
    def kill_broker(self, keeps: bool) -> None:
        """What was under way is lost, and what was kept as well if it has no disk."""
        self.network.under_way.clear()
        if not keeps:
            self.network.kept.clear()
        self.coordinator.publish_again()
        for device in self.devices.values():
            device.publish()

    @rule(which=st.integers(0, 2))
    def heartbeat(self, which: int) -> None:
        device = self.devices[sorted(self.devices)[which % len(self.devices)]]
        self.coordinator.conversation.meet(device.name, device.boot_id)

    @rule()
    def another_run(self) -> None:
        """The run's folder is removed and a run is started anew; old orders are still under way."""
        self.instances += 1
        self.store = Store()
        self.coordinator = Coordinator(
            sorted(self.devices), self.network, self.store, f"instance-{self.instances}"
        )

    @rule(steps=st.integers(1, 12), speak=st.booleans())
    def calm(self, steps: int, speak: bool) -> None:
        """Nothing goes wrong for a while: what is done comes far enough to be disturbed."""
        if speak:
            self.coordinator.speak()
        for _ in range(steps):
            self.settle_network()
            for device in self.devices.values():
                device.advance()

    @rule()
    def speak(self) -> None:
        self.coordinator.speak()

    @rule()
    def close_round(self) -> None:
        self.coordinator.close()

    @rule()
    def finish_round(self) -> None:
        self.coordinator.finish()

    @invariant()
    def nothing_is_booked_twice(self) -> None:
        if not hasattr(self, "store"):
            return
        assert len(set(self.store.reports)) == len(self.store.reports)
        assert self.store.rounds == list(range(1, len(self.store.rounds) + 1))

    @invariant()
    def nothing_is_trained_twice(self) -> None:
        """By one start of a device, for one run that was not interrupted, whoever was restarted."""
        if hasattr(self, "devices"):
            for device in self.devices.values():
                assert len(set(device.work)) == len(device.work)

    @invariant()
    def a_finished_update_survives_its_device(self) -> None:
        """With a disk nothing is trained twice by any two starts, but what was broken off."""
        if not hasattr(self, "devices"):
            return
        for device in self.devices.values():
            if not device.durable:
                continue
            again = {each for each in device.trained if device.trained.count(each) > 1}
            assert {number for _, _, number in again} <= (
                self.store.ever_closed | self.store.interrupted
            )

    @invariant()
    def what_was_acknowledged_is_stored(self) -> None:
        """Once each: every stretch of work that a device may drop is in one round's row."""
        if not hasattr(self, "store"):
            return
        for device in self.devices.values():
            rows = [s for (_, name), s in self.store.stretches.items() if name == device.name]
            stored = [stretch for row in rows for stretch in row]
            assert len(set(stored)) == len(stored)
            if not self.instances:
                assert device.acknowledged <= set(stored)

    @invariant()
    def only_a_closed_round_is_broken_off(self) -> None:
        """Nobody's restart costs the work of a device that was not killed itself."""
        if hasattr(self, "devices"):
            for device in self.devices.values():
                rounds = {
                    r for instance, r in device.broken_off if instance == self.coordinator.instance
                }
                assert rounds <= self.store.ever_closed | self.store.interrupted

    def hand_over(self, to: str, message: object) -> None:
        if to == "device":
            assert isinstance(message, Desired)
            self.devices[message.device].take(message)
        else:
            self.coordinator.take(message)  # type: ignore[arg-type]

    def teardown(self) -> None:
        """From wherever it has come, with a sound network the run ends, and nothing is left."""
        if not hasattr(self, "devices"):
            return
        self.coordinator.speak()
        for _ in range(400):
            for device in self.devices.values():
                self.coordinator.conversation.meet(device.name, device.boot_id)  # a heartbeat
            self.settle_network()
            if self.store.done and not any(d.course.unheard for d in self.devices.values()):
                break
            self.take_a_turn()
            self.coordinator.now_s += AGAIN_S[-1]
            self.coordinator.conversation.tick()
            for device in self.devices.values():
                device.tick()
        else:
            raise AssertionError(f"stuck: {self.store}")
        for device in self.devices.values():
            while device.advance():
                self.settle_network()
            assert device.course.stage == "idle"
            assert device.course.next() is None
        assert self.store.rounds == list(range(1, ROUNDS + 1))
        for device in self.devices.values():
            told = device.told - device.forgiven - device.held
            assert self.instances or told <= device.acknowledged
        self.what_was_acknowledged_is_stored()
        self.nothing_is_booked_twice()
        self.nothing_is_trained_twice()

    def take_a_turn(self) -> None:
        """Everything under way arrives, and everybody does one thing."""
        self.settle_network()
        moved = [device.advance() for device in self.devices.values()]
        if self.coordinator.complete and not any(moved):
            self.coordinator.close()
        if self.coordinator.closing and (self.coordinator.all_settled or not any(moved)):
            self.coordinator.finish()  # as after its patience with those who do not settle

    def settle_network(self) -> None:
        """Everything that is under way arrives, in order, and what follows from it."""
        for _ in range(200):
            if not self.network.under_way:
                return
            self.hand_over(*self.network.under_way.pop(0))
        self.network.under_way.clear()


TestConversations = Conversations.TestCase
TestConversations.settings = settings(max_examples=EXAMPLES, stateful_step_count=50, deadline=None)


ACTIONS = (
    *("turn", "one alone", "one alone", "work", "work", "network", "deliver", "repeat"),
    *("kill device", "kill device", "kill coordinator", "close", "finish"),
)


@given(
    count=st.integers(1, 2),
    story=st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 10**6)), max_size=60),
)
@settings(max_examples=EXAMPLES, deadline=None)
def test_devices_with_disks_are_killed_in_the_midst_of_rounds(
    count: int, story: list[tuple[str, int]]
) -> None:
    """Of nobody but devices and coordinator, on a network that repeats and reorders."""
    world = Conversations()
    world.begin(count, set(range(count)))
    world.coordinator.speak()
    world.all_goes_well(4)
    for action, which in story:
        match action:
            case "turn":
                world.take_a_turn()
            case "work":
                world.work(which)
            case "one alone":
                for _ in range(3):
                    world.time_passes(1.0)
                    world.settle_network()
                    world.work(which)
            case "network":
                world.settle_network()
            case "deliver":
                world.deliver(which, keep=bool(which % 2))
            case "repeat":
                world.repeat(which)
            case "kill device":
                world.kill_device(which)
            case "kill coordinator":
                world.kill_coordinator(heard=bool(which % 2))
                world.coordinator.speak()
            case "close":
                world.close_round()
            case "finish":
                world.finish_round()
        world.nothing_is_booked_twice()
        world.nothing_is_trained_twice()
        world.a_finished_update_survives_its_device()
        world.what_was_acknowledged_is_stored()
    world.teardown()


def reported(**changes: Any) -> Reported:
    """The first document of a device that has heard the first one."""
    return Reported(device="d", boot_id="b", number=1, heard=1, stage="idle", **changes)


def test_an_amended_order_travels_with_the_next_document() -> None:
    """Who starts again and finds it knows what has become of it; nobody is told for that alone."""
    published: list[Desired] = []
    talk = Conversation("r", "i", 1, lambda device, said: published.append(said), lambda: 0.0)
    plan = DevicePlan(
        run="r",
        device="d",
        device_index=0,
        synthetic_counts=(),
        batch=None,
        point=POINT,
        predicted=(),
    )
    talk.order("d", plan)
    talk.amend("d", replace(plan, booked=True))
    talk.tick()
    assert [said.plan.booked for said in published if said.plan] == [False]
    reply = PlanApplied(run="r", device="d", applied=None, phases=())
    (heard,) = talk.take(
        reported(run="r", instance="i", epoch=1, facts=(Fact(number=1, body=reply),))
    )
    talk.stored("d", heard)
    talk.tick()
    assert [said.plan.booked for said in published if said.plan] == [False, True]
    assert published[-1].heard == Heard(boot_id="b", fact=1)


def test_an_epoch_is_stored_before_anything_is_said_with_it() -> None:
    """Were it used by the next coordinator again, two documents could have the same number."""
    story: list[tuple[str, int]] = []
    talk = Conversation(
        "r",
        "i",
        1,
        lambda device, said: story.append(("said", said.epoch)),
        lambda: 0.0,
        raised=lambda epoch: story.append(("stored", epoch)),
    )
    talk.order("d", RunEnded(run="r", reason="stopped"))
    talk.take(reported(run="before", instance="another", epoch=7))
    assert story == [("said", 1), ("stored", 8), ("said", 8)]


def test_a_device_cannot_spend_the_epochs() -> None:
    """A flood of greater ones is followed once a second, and one beyond all measure never."""
    now_s, raised, said = 0.0, list[int](), list[Desired]()
    talk = Conversation(
        "r", "i", 1, lambda _, document: said.append(document), lambda: now_s, raised=raised.append
    )
    talk.order("honest", RunEnded(run="r", reason="stopped"))
    for number in range(1000):
        now_s = number / 100
        talk.take(reported(run="before", instance="another", epoch=number + 2))
    assert len(raised) == 10
    assert len(said) == 1 + 10
    assert talk.epoch > 900
    before = talk.epoch
    talk.take(reported(run="before", instance="another", epoch=2**53 - 2))
    talk.take(reported(run="r", instance="i", epoch=before + MAX_LEAP + 1))
    assert talk.epoch == before
    now_s += 2.0
    talk.take(reported(run="before", instance="another", epoch=before + 5))
    assert talk.epoch == before + 6


def told(boot_id: str, earlier: list[str], number: int = 1) -> Reported:
    """One fact of each start."""
    facts = (Fact(number=number, body=RoundSettled(run="r", device="d", round=1, phases=())),)
    return Reported(
        run="r",
        instance="i",
        device="d",
        boot_id=boot_id,
        number=number,
        epoch=1,
        heard=1,
        stage="idle",
        facts=facts,
        earlier=tuple(EarlierFacts(boot_id=each, facts=facts) for each in earlier),
    )


def test_a_late_document_of_an_earlier_start_hides_nothing_from_the_next_coordinator() -> None:
    """What was stored of the present start is not given out, and booked, once more."""
    talk = Conversation("r", "i", 1, lambda device, said: None, lambda: 0.0)
    old, present = replace(told("old", []), facts=()), told("present", [])
    talk.take(old)
    talk.stored("d", *talk.take(present))
    talk.take(old)
    after = Conversation("r", "i", 2, lambda device, said: None, lambda: 0.0, heard=talk.heard())
    assert after.take(present) == ()


def test_an_agent_that_starts_again_and_again() -> None:
    """The facts of its first start are still open; they are given out once."""
    talk = Conversation("r", "i", 1, lambda device, said: None, lambda: 0.0)
    facts = list(talk.take(told("first", [])))
    for start in range(100):
        facts += talk.take(replace(told(f"start-{start}", ["first"]), facts=()))
        talk.tick()
    assert len(facts) == 1
    talk.stored("d", *facts)
    assert talk.heard()["d"].earlier == {"first": 1}


def test_as_many_starts_as_a_report_can_name() -> None:
    talk = Conversation("r", "i", 1, lambda device, said: None, lambda: 0.0)
    for life in "abc":
        facts = talk.take(told(life, [f"{life}{n}" for n in range(MAX_EARLIER)]))
        assert len(facts) == MAX_EARLIER + 1
        talk.stored("d", *facts)
        assert set(talk.heard()["d"].earlier.values()) == {1}


def test_a_device_that_tells_without_end() -> None:
    talk = Conversation("r", "i", 1, lambda device, said: None, lambda: 0.0)
    facts = [fact for n in range(1, 1000) for fact in talk.take(told("b", [], n))]
    assert len(facts) == MAX_OPEN
    talk.stored("d", *facts)
    assert len(talk.take(told("b", [], 1000))) == 1  # what waited is told again


def test_a_run_that_is_stopped_keeps_what_belongs_to_stored_rounds() -> None:
    """The open round is worked in anew if the run goes on; the ones before it never are."""
    network = Network()
    device = Device("d", network, durable=True)
    coordinator = Coordinator(["d"], network, Store(), "instance-0")
    coordinator.speak()

    def flow(*, deaf: bool = False) -> None:
        while network.under_way:
            to, message = network.under_way.pop(0)
            if to == "device":
                device.take(message)
            elif not deaf:
                coordinator.take(message)
        coordinator.now_s += 1.0
        coordinator.conversation.tick()

    while coordinator.number == 1:  # its settling of the first round is under way for too long
        flow()
        device.advance()
        if coordinator.complete:
            coordinator.close()
            coordinator.finish()
    for _ in range(4):
        flow(deaf=True)  # what it reports is lost
        device.advance()
    network.under_way.clear()
    settled = [f.body for f in device.course._facts if isinstance(f.body, RoundSettled)]
    assert [fact.round for fact in settled] == [1]
    coordinator.interrupt()
    flow()
    coordinator.boot()
    coordinator.speak()
    while not coordinator.store.done:
        flow()
        device.advance()
        if coordinator.complete:
            coordinator.close()
        if coordinator.closing and coordinator.all_settled:
            coordinator.finish()
    assert {phase.start_s for phase in settled[0].phases} <= set(
        coordinator.store.stretches[1, "d"]
    )
    assert len([each for each in coordinator.store.reports if each[0] == 2]) == 1
