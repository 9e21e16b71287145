"""One process per peer id: the pure logic of leases in all orders of events."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.messaging.leases import Tenancy, holder_in_words, rank
from fimi.messaging.messages.peers import Claim, Lease


def lease(boot_id: str, epoch: int = 1, **other: object) -> Lease:
    return Lease(peer="d1", role="device", boot_id=boot_id, epoch=epoch, **other)


class Process:
    """A tenancy with its place in the broker's order of messages."""

    def __init__(self, boot_id: str, patience: int) -> None:
        self.boot_id = boot_id
        self.tenancy = Tenancy(lease(boot_id))
        self.next: int | None = None  # the message that it gets next; None: not connected
        self.kept: Lease | None = None  # what the broker had kept when it subscribed
        self.dead = False
        self.patience = patience

    @property
    def confident(self) -> bool:
        return self.standing == "holding" and self.tenancy.confirmed

    @property
    def standing(self) -> str:
        return self.tenancy.standing


class World:
    """A broker that keeps the latest lease and gives all messages to all in one order."""

    def __init__(self, names: str, kept: Lease | None = None, *, patience: int = 0) -> None:
        self.log: list[Lease | Claim] = []
        self.kept = kept
        self.processes = [Process(name, patience) for name in names]
        self.questions = 0
        self.ended = 0

    def publish(self, messages: tuple[Lease | Claim, ...]) -> None:
        for message in messages:
            self.log.append(message)
            if isinstance(message, Lease):
                self.kept = message

    def connect(self, process: Process) -> None:
        process.next, process.kept = len(self.log), self.kept
        self.questions += 1
        self.publish(process.tenancy.ask(f"{process.boot_id}{self.questions}"))

    def disconnect(self, process: Process) -> None:
        process.next = process.kept = None
        if process.standing in ("asking", "waiting", "taking"):
            process.dead = True  # its start has failed
            self.ended += 1

    def deliver(self, process: Process) -> None:
        assert process.next is not None
        if process.kept is not None:
            kept, process.kept = process.kept, None
            self.publish(process.tenancy.on_lease(kept))
            return
        message = self.log[process.next]
        process.next += 1
        if isinstance(message, Lease):
            self.publish(process.tenancy.on_lease(message))
        else:
            self.publish(process.tenancy.on_claim(message))

    def end(self, process: Process, *, orderly: bool) -> None:
        if orderly and process.next is not None:
            self.publish(process.tenancy.release())
        process.dead, process.next = True, None
        self.ended += 1

    def moves(self, process: Process) -> Iterator[str]:
        """What can happen to a process next, without faults."""
        if process.dead or process.standing == "lost":
            return
        if process.next is None:
            yield "connect"
        elif process.kept is not None or process.next < len(self.log):
            yield "deliver"
        if process.standing == "waiting":
            yield "time-out"
        if process.next is not None and not process.confident and process.patience:
            yield "ask again"

    def move(self, process: Process, what: str) -> None:
        if what == "connect":
            self.connect(process)
        elif what == "deliver":
            self.deliver(process)
        elif what == "ask again":
            process.patience -= 1
            self.questions += 1
            self.publish(process.tenancy.ask(f"{process.boot_id}{self.questions}", again=True))
        elif what == "time-out":
            self.publish(process.tenancy.nobody_answers())
        elif what == "disconnect":
            self.disconnect(process)
        else:
            self.end(process, orderly=what == "leave")

    def state(self) -> str:
        """Everything that decides what happens next."""
        processes = [
            (p.next, p.kept, p.dead, p.patience, p.standing, sorted(vars(p.tenancy).items()))
            for p in self.processes
        ]
        return repr((self.log, self.kept, processes))

    def settle(self) -> None:
        """Let everything happen that can; nobody is taken for dead who can still answer."""
        for _ in range(10_000):
            quick = [
                (process, move)
                for process in self.processes
                for move in self.moves(process)
                if move != "time-out"
            ]
            late = [
                (process, move)
                for process in self.processes
                for move in self.moves(process)
                if move == "time-out"
            ]
            if not quick and not late:
                return
            self.move(*(quick or late)[0])
        pytest.fail("messages without end")

    def check(self) -> None:
        """After settling: one holder, or none only because one has ended."""
        holders = [p for p in self.processes if not p.dead and p.standing != "lost"]
        assert len(holders) <= 1
        if holders:
            (holder,) = holders
            assert holder.standing == "holding"
            assert holder.tenancy.confirmed
            assert self.kept is not None
            assert rank(self.kept) == rank(holder.tenancy.mine)
            epochs = [p.tenancy.mine.epoch for p in self.processes if not p.dead]
            assert holder.tenancy.mine.epoch == max(epochs)
        else:
            assert self.ended


def every_end(world: World) -> Iterator[World]:
    """All states in which it can end, over all orders in which moves can follow each other."""
    known, open_ = {world.state()}, [world]
    while open_:
        here = open_.pop()
        moves = [(n, move) for n, p in enumerate(here.processes) for move in here.moves(p)]
        if not moves:
            yield here
        for number, move in moves:
            branch = copy.deepcopy(here)
            branch.move(branch.processes[number], move)
            if (state := branch.state()) not in known:
                known.add(state)
                open_.append(branch)


DEAD = lease("old", 3)
RELEASED = lease("old", 3, held=False)


class TestEveryOrder:
    @pytest.mark.parametrize("kept", [None, DEAD, RELEASED])
    def test_of_two_newcomers_one_wins(self, kept: Lease | None) -> None:
        winners: set[str] = set()
        for world in every_end(World("ab", kept)):
            world.check()
            winners |= {p.boot_id for p in world.processes if p.standing == "holding"}
            epochs = [p.tenancy.mine.epoch for p in world.processes if p.standing == "holding"]
            assert epochs[0] > (kept.epoch if kept else 0)
        assert winners == {"a", "b"}


FAULTS = st.sampled_from(("disconnect", "leave", "kill", "lose-kept"))


class TestAnyHistory:
    @given(st.data())
    def test_one_stays(self, data: st.DataObject) -> None:
        kept = data.draw(st.sampled_from((None, DEAD, RELEASED)))
        world = World("abcd"[: data.draw(st.integers(1, 4))], kept, patience=2)
        for _ in range(data.draw(st.integers(0, 40))):
            process = data.draw(st.sampled_from(world.processes))
            moves = list(world.moves(process))
            if moves and data.draw(st.integers(0, 5)):
                world.move(process, data.draw(st.sampled_from(moves)))
                continue
            fault = data.draw(FAULTS)
            if fault == "lose-kept":  # a broker that keeps nothing is restarted
                world.kept = None
                for other in world.processes:
                    if other.next is not None:
                        world.move(other, "disconnect")
            elif not process.dead and process.next is not None:
                world.move(process, fault)
        world.settle()
        world.check()

    @given(st.data())
    def test_a_holder_that_answers_is_never_driven_out(self, data: st.DataObject) -> None:
        kept = data.draw(st.sampled_from((None, DEAD, RELEASED)))
        world = World("abc", kept, patience=2)
        first, *rest = world.processes
        world.connect(first)
        while first.standing != "holding":
            world.move(first, next(world.moves(first)))
        for _ in range(data.draw(st.integers(0, 40))):
            process = data.draw(st.sampled_from((first, *rest)))
            moves = [move for move in world.moves(process) if move != "time-out"]
            if moves:
                world.move(process, data.draw(st.sampled_from(moves)))
        world.settle()
        assert first.standing == "holding"
        assert {process.standing for process in rest} == {"lost"}
        assert all(p.tenancy.other.boot_id == "a" for p in rest)

    def test_what_was_said_before_the_claim_is_no_answer(self) -> None:
        """A lease that was on its way when its process died does not stop its successor."""
        world = World("a", DEAD)
        (process,) = world.processes
        world.connect(process)
        world.publish((DEAD, msgspec.structs.replace(DEAD, nonce="of another claim")))
        world.settle()
        world.check()
        assert process.standing == "holding"

    def test_a_broker_that_keeps_nothing_is_restarted(self) -> None:
        world = World("a")
        world.settle()
        (holder,) = world.processes
        world.kept = None
        world.disconnect(holder)
        assert holder.standing == "holding"
        world.settle()
        world.check()

    @given(st.data())
    def test_repeated_messages_do_no_harm(self, data: st.DataObject) -> None:
        world = World("ab")
        for _ in range(60):
            process = data.draw(st.sampled_from(world.processes))
            for move in list(world.moves(process))[:1]:
                world.move(process, move)
            again = process.next if process.next and not process.dead else None
            if again and again < len(world.log) + 1 and data.draw(st.booleans()):
                message = world.log[again - 1]
                if isinstance(message, Lease):
                    world.publish(process.tenancy.on_lease(message))
                else:
                    world.publish(process.tenancy.on_claim(message))
        world.settle()
        world.check()


class TestWords:
    def test_who_holds_it(self) -> None:
        held = msgspec.structs.replace(
            DEAD, host="pi-3", pid=812, since="2026-11-28T19:00:00+00:00", what="run desk"
        )
        assert holder_in_words(held) == (
            "an agent (process 812 on pi-3, run desk, since 2026-11-28T19:00:00+00:00 by its clock)"
        )
        assert holder_in_words(DEAD) == "an agent (a process)"
