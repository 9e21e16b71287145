"""A real agent over a real broker, asked from afar while it works and while it does not."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from bench import CONTRACT, DEVICE, EMULATED, LOCAL, Bench
from worlds import Ina226

import fimi.energy.host_profile
from fimi.edge_agent import answering
from fimi.edge_agent.answering import Errand, LogTail, Remote
from fimi.edge_agent.status import contract_of
from fimi.energy.clock import VirtualClock
from fimi.energy.host import HostHardware
from fimi.energy.host_profile import load_profile
from fimi.learning.data import data_file
from fimi.messaging import questions
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.console import Console
from fimi.messaging.errors import BoardDeclines
from fimi.messaging.link import Link
from fimi.messaging.questions import (
    Ask,
    BoardStatus,
    DoctorQuestion,
    DoctorReply,
    Echo,
    Echoed,
    LogQuestion,
    LogReply,
    ModelQuestion,
    ModelReply,
    Restarting,
    RestartRequest,
)
from fimi.messaging.topics import COORDINATOR, topic

EXAMPLE = (fimi.energy.host_profile.__doc__ or "").split("::\n", 1)[1]
PATIENCE_S = 30.0


def until(true: Callable[[], object], what: str) -> None:
    limit_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < limit_s, f"not within {PATIENCE_S:g} s: {what}"
        time.sleep(0.02)


def status_of(console: Console) -> BoardStatus:
    reply = console.ask(DEVICE, questions.StatusQuestion(), PATIENCE_S)
    assert isinstance(reply, BoardStatus)
    return reply


def healthy(*_: object) -> DoctorReply:
    return DoctorReply(checks=())


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "LOOK_AGAIN_S", 0.05)


class TestStatus:
    def test_before_in_and_after_a_run(self, a_broker: EmbeddedBroker, fleet_name: str) -> None:
        with (
            Bench(a_broker, fleet_name, joins=False) as bench,
            Console(a_broker.address, fleet=fleet_name) as console,
        ):
            before = status_of(console)
            assert (before.run, before.board, before.meter) == ("", "", None)
            assert before.why_no_power == "emulated in a run only"
            bench.join()
            bench.follow(bench.plan())
            joined = status_of(console)
            assert (joined.run, joined.round, joined.stage) == ("r1", 0, "settled")
            assert joined.contract == CONTRACT.digest
            assert (joined.board, joined.kind) == (EMULATED.board, "emulated")
            assert joined.meter is not None and joined.meter.kind == "emulated"
            assert joined.power_w == bench.board.truth.idle_power_w
            bench.round(bench.start(3))
            assert status_of(console).busy == "run r1, round 3"
            bench.end()
            until(lambda: not status_of(console).run, "the run is over")
            until(lambda: status_of(console).board == "", "the board of the run is gone")

    def test_the_broker_keeps_the_latest(self, a_broker: EmbeddedBroker, fleet_name: str) -> None:
        def kept() -> BoardStatus | None:
            with Console(a_broker.address, fleet=fleet_name) as console:
                return console.seen(DEVICE).status

        with Bench(a_broker, fleet_name, joins=False) as bench:
            until(lambda: kept() is not None, "it is published at the start")
            bench.join()
            until(lambda: (found := kept()) and found.run == "r1", "a run has begun")
            bench.end()
            until(lambda: (found := kept()) and not found.run, "it is over")
        last = kept()
        assert last is not None
        assert last.memory_bytes > last.memory_free_bytes > 0
        assert last.disk_free_bytes > 0
        assert abs(last.unix_s - time.time()) < PATIENCE_S

    def test_what_went_wrong_is_told_until_it_goes_right(
        self, a_broker: EmbeddedBroker, fleet_name: str
    ) -> None:
        with (
            Bench(a_broker, fleet_name) as bench,
            Console(a_broker.address, fleet=fleet_name) as console,
        ):
            assert "BatchError" in bench.follow(bench.plan(bench.serve(b"no batch"))).error
            (trouble,) = status_of(console).troubles
            assert "BatchError" in trouble
            assert bench.follow(bench.plan()).error == ""
            assert status_of(console).troubles == ()

    def test_a_metered_board_tells_what_was_read_last_and_reads_nothing(
        self, a_broker: EmbeddedBroker, fleet_name: str, tmp_path: Path
    ) -> None:
        world = Ina226(tmp_path, VirtualClock())
        (tmp_path / "board.toml").write_text("\n".join(s.strip() for s in EXAMPLE.splitlines()))
        profile = msgspec.structs.replace(load_profile(tmp_path / "board.toml"), meter_rate_hz=1e-3)
        with (
            HostHardware(profile, root=tmp_path, state=tmp_path / "state") as board,
            Bench(a_broker, fleet_name, hardware=board, joins=False),
            Console(a_broker.address, fleet=fleet_name) as console,
        ):
            said = status_of(console)
            assert said.meter == questions.SeenMeter(
                source="hwmon:ina226", kind="measured", scope="board"
            )
            shown_w = board.recorder.meter.look(0.0).power_w  # type: ignore[union-attr]
            assert said.power_w == shown_w
            looks = board.recorder.take_cost().looks  # type: ignore[union-attr]
            for _ in range(50):
                status_of(console)
            assert board.recorder.take_cost().looks == 0  # type: ignore[union-attr]
            assert looks >= 1
            world.break_("vanish")
            board.recorder.poll()  # type: ignore[union-attr]
            gone = status_of(console)
            assert gone.power_w is None
            assert gone.why_no_power

    def test_a_declared_power_is_none(self, tmp_path: Path) -> None:
        text = "\n".join(s.strip() for s in EXAMPLE.splitlines())
        (tmp_path / "board.toml").write_text(text.replace('meter = "auto"', 'meter = "declared"'))
        profile = load_profile(tmp_path / "board.toml")
        with HostHardware(profile, root=tmp_path, state=tmp_path / "state") as board:
            glance = board.glance()
        assert glance.power_w is None
        assert glance.why_no_power == "no meter: declared 5W"

    def test_the_contract_of_a_data_file(self, tmp_path: Path) -> None:
        data_file.save(LOCAL, tmp_path / "with.npz", CONTRACT)
        data_file.save(LOCAL, tmp_path / "without.npz")
        (tmp_path / "damaged.npz").write_bytes(b"PK")
        found = {name: contract_of(tmp_path / f"{name}.npz") for name in ("with", "without")}
        assert found == {"with": CONTRACT.digest, "without": ""}
        for place in (tmp_path / "damaged.npz", tmp_path / "absent.npz", tmp_path, None):
            assert contract_of(place) == ""


class TestQuestions:
    def test_bytes_and_times(self, a_broker: EmbeddedBroker, fleet_name: str) -> None:
        with (
            Bench(a_broker, fleet_name, joins=False),
            Console(a_broker.address, fleet=fleet_name) as console,
        ):
            before_s = time.time()
            reply = console.ask(DEVICE, Echo(payload=bytes(range(256))))
            assert isinstance(reply, Echoed)
            assert reply.payload == bytes(range(256))
            assert before_s <= reply.received_unix_s <= reply.sent_unix_s <= time.time()

    def test_what_it_costs(self, a_broker: EmbeddedBroker, fleet_name: str) -> None:
        with (
            Bench(a_broker, fleet_name, joins=False) as bench,
            Console(a_broker.address, fleet=fleet_name) as console,
        ):
            assert console.ask(DEVICE, ModelQuestion()) == ModelReply(board=None)
            profile = bench.join()
            assert console.ask(DEVICE, ModelQuestion()) == ModelReply(board=profile.board)

    def test_one_that_it_does_not_know(self, a_broker: EmbeddedBroker, fleet_name: str) -> None:
        class Horoscope(questions.BoardQuestion, frozen=True, tag="horoscope"):
            pass

        with (
            Bench(a_broker, fleet_name, joins=False),
            Console(a_broker.address, fleet=fleet_name) as console,
            pytest.raises(BoardDeclines, match="does not know the question"),
        ):
            console.ask(DEVICE, Horoscope())  # type: ignore[arg-type]

    def test_what_is_damaged_or_comes_twice(
        self, a_broker: EmbeddedBroker, fleet_name: str
    ) -> None:
        done: list[object] = []

        def errand(*of: object) -> DoctorReply:
            done.append(of)
            return healthy()

        remote = Remote(errands={DoctorQuestion: errand})
        with (
            Bench(a_broker, fleet_name, joins=False, remote=remote),
            Console(a_broker.address, fleet=fleet_name) as console,
        ):
            link = Link(a_broker.address, f"twice-{fleet_name}", clean_session=True)
            link.connect(10.0)
            ask = questions.encode(
                Ask(id="0" * 16, question=msgspec.Raw(questions.encode(DoctorQuestion())))
            )
            for payload in (b"\xff", b"[]", ask, ask):
                link.publish(topic(fleet_name, COORDINATOR, DEVICE, "ask"), payload, qos=1)
            until(lambda: done, "it was heard")
            console.ask(DEVICE, DoctorQuestion())  # comes after those
            link.close()
        assert len(done) == 2


class TestErrands:
    def remote(self, errands: dict[type, Errand]) -> Remote:
        return Remote(errands=errands, allows=("restart",))

    def test_in_a_run_they_are_declined(self, a_broker: EmbeddedBroker, fleet_name: str) -> None:
        remote = self.remote({DoctorQuestion: healthy, RestartRequest: lambda *_: Restarting()})
        with (
            Bench(a_broker, fleet_name, remote=remote) as bench,
            Console(a_broker.address, fleet=fleet_name) as console,
        ):
            bench.follow(bench.plan())
            bench.round(bench.start(2))
            for question in (DoctorQuestion(), RestartRequest()):
                with pytest.raises(BoardDeclines, match="takes part in run r1, round 2"):
                    console.ask(DEVICE, question)
            assert console.ask(DEVICE, RestartRequest(force=True)) == Restarting()
            bench.end()
            until(lambda: not status_of(console).run, "the run is over")
            assert console.ask(DEVICE, DoctorQuestion()) == healthy()

    def test_a_run_waits_for_an_errand(self, a_broker: EmbeddedBroker, fleet_name: str) -> None:
        begun, go_on = threading.Event(), threading.Event()
        told: list[str] = []

        def errand(_: object, say: Callable[[str], None]) -> DoctorReply:
            say("half of it")
            begun.set()
            assert go_on.wait(PATIENCE_S)
            return healthy()

        with (
            Bench(
                a_broker, fleet_name, joins=False, remote=self.remote({DoctorQuestion: errand})
            ) as bench,
            Console(a_broker.address, fleet=fleet_name) as console,
        ):
            asking = threading.Thread(
                target=lambda: console.ask(
                    DEVICE, DoctorQuestion(), PATIENCE_S, progress=told.append
                )
            )
            asking.start()
            assert begun.wait(PATIENCE_S)
            bench.desk.order(bench.invitation())
            assert status_of(console).errand == "doctor"
            with pytest.raises(BoardDeclines, match=r"busy with another errand|takes part in run"):
                console.ask(DEVICE, DoctorQuestion())
            assert bench.device.agent.member is None
            go_on.set()
            asking.join()
            assert told == ["half of it"]
            bench.desk.until(lambda reported: reported.waits_for == "its plan", "it has joined")

    def test_what_changes_the_machine_must_be_allowed(
        self, a_broker: EmbeddedBroker, fleet_name: str
    ) -> None:
        remote = Remote(errands={RestartRequest: lambda *_: Restarting()})
        with (
            Bench(a_broker, fleet_name, joins=False, remote=remote),
            Console(a_broker.address, fleet=fleet_name) as console,
        ):
            for force in (False, True):
                with pytest.raises(BoardDeclines, match="--allow restart"):
                    console.ask(DEVICE, RestartRequest(force=force))

    def test_one_that_fails_says_why(self, a_broker: EmbeddedBroker, fleet_name: str) -> None:
        def errand(*_: object) -> DoctorReply:
            raise OSError("the disk is gone")

        with (
            Bench(
                a_broker, fleet_name, joins=False, remote=Remote(errands={DoctorQuestion: errand})
            ),
            Console(a_broker.address, fleet=fleet_name) as console,
        ):
            with pytest.raises(BoardDeclines, match="doctor failed: OSError: the disk is gone"):
                console.ask(DEVICE, DoctorQuestion())
            assert status_of(console).errand == ""


class TestLogTail:
    def tail(self, *messages: str, size_bytes: int = 10_000) -> LogTail:
        tail = LogTail(size_bytes)
        tail.setFormatter(logging.Formatter("%(message)s"))
        for message in messages:
            tail.handle(logging.LogRecord("fimi", logging.INFO, "", 0, message, (), None))
        return tail

    def test_the_last_ones_and_those_after(self) -> None:
        tail = self.tail("a", "b", "c\nd")
        assert tail.reply(LogQuestion(most=2)) == LogReply(last=4, lines=("c", "d"))
        assert tail.reply(LogQuestion(after=2)) == LogReply(last=4, lines=("c", "d"))
        assert tail.reply(LogQuestion(after=4)) == LogReply(last=4, lines=())
        assert self.tail().reply(LogQuestion()) == LogReply(last=0, lines=())

    def test_it_is_bounded_in_bytes(self) -> None:
        tail = self.tail(*(f"{number:05}" for number in range(1000)), size_bytes=100)
        reply = tail.reply(LogQuestion(after=0, most=10_000))
        assert reply.last == 1000
        assert reply.lines == tuple(f"{number:05}" for number in range(980, 1000))

    def test_over_the_line(self, a_broker: EmbeddedBroker, fleet_name: str) -> None:
        remote = Remote(tail=self.tail("a", "b"))
        with (
            Bench(a_broker, fleet_name, joins=False, remote=remote),
            Console(a_broker.address, fleet=fleet_name) as console,
        ):
            assert console.ask(DEVICE, LogQuestion()) == LogReply(last=2, lines=("a", "b"))
