"""Consoles and boards over real brokers: what is asked, and who answers."""

from __future__ import annotations

import threading
import time
from typing import Any

import msgspec
import pytest

from fimi.learning.data.contract import PROTOCOL
from fimi.messaging import questions
from fimi.messaging.client import Peer
from fimi.messaging.console import Console
from fimi.messaging.errors import BoardDeclines, BrokerError, NotAnswered
from fimi.messaging.link import Link
from fimi.messaging.messages.orders import RunEnded
from fimi.messaging.messages.peers import DeviceState
from fimi.messaging.questions import (
    AnyQuestion,
    AnyReply,
    Ask,
    BoardAnswer,
    BoardStatus,
    Declined,
    Echo,
    Echoed,
    ErrandProgress,
    RestartRequest,
    StatusQuestion,
)
from fimi.messaging.topics import COORDINATOR, topic
from fimi.messaging.transfers.wire import encode_message

ECHOED = Echoed(payload=b"\x00\xff", received_unix_s=1.0, sent_unix_s=2.0)


class Board:
    """A device that answers by a script, with a peer of its own."""

    def __init__(self, peer: Peer, *, replies: dict[type, list[AnyReply]] | None = None) -> None:
        self.peer = peer
        self.replies = replies or {}
        self.asked: list[AnyQuestion] = []
        self.threads: list[threading.Thread] = []
        peer.on_ask(self._hear)

    def status(self, **others: object) -> BoardStatus:
        said: Any = {"device": self.peer.id, "boot_id": self.peer.boot_id, **others}
        return BoardStatus(unix_s=time.time(), **said)

    def keep(self, **others: object) -> None:
        self.peer.tell("status", questions.encode(self.status(**others)))

    def _hear(self, payload: bytes) -> None:
        ask = questions.decode(payload, Ask)
        if ask.boot_id not in ("", self.peer.boot_id):
            return
        question = questions.decode_question(ask)
        self.asked.append(question)
        default = [self.status()] if isinstance(question, StatusQuestion) else []
        for reply in self.replies.get(type(question), default):
            self.say(ask.id, questions.encode(reply))

    def say(self, ask: str, reply: bytes, **others: str) -> None:
        said = {"device": self.peer.id, "boot_id": self.peer.boot_id, **others}
        answer = BoardAnswer(id=ask, reply=msgspec.Raw(reply), **said)
        self.peer.tell("answer", questions.encode(answer))


@pytest.fixture
def console(broker, fleet) -> Console:
    return Console(broker.address, fleet=fleet)


def keep_state(
    fleet: str, device: str, link: Link, status: Any = "offline", protocol: int = PROTOCOL
) -> None:
    """The state that a broker keeps of a device."""
    state = DeviceState(peer=device, role="device", status=status, boot_id="b", protocol=protocol)
    payload = encode_message(state, sender=device, recipient=COORDINATOR)
    link.publish(topic(fleet, device, COORDINATOR, "state"), payload, qos=1, retain=True)


@pytest.fixture
def anybody(broker, fleet):
    """A connection that may publish what it likes."""
    link = Link(broker.address, f"anybody-{fleet}", clean_session=True)
    link.connect(10.0)
    yield link
    link.close()


class TestLook:
    def test_those_that_are_there_answer(self, join, console) -> None:
        boards = [Board(join(f"d{number}")) for number in (1, 2)]
        with console:
            seen = console.look(10.0)
        assert {name: each.standing for name, each in seen.items()} == {
            "d1": "answers",
            "d2": "answers",
        }
        assert all(each.ready and each.age_s() == 0.0 for each in seen.values())
        assert [type(board.asked[0]) for board in boards] == [StatusQuestion] * 2

    def test_a_board_in_a_run_is_not_ready(self, join, console) -> None:
        board = Board(join("d1"))
        board.replies[StatusQuestion] = [board.status(run="desk-3", round=7)]
        with console:
            (seen,) = console.look(10.0).values()
        assert seen.standing == "answers"
        assert not seen.ready
        assert seen.status is not None and seen.status.busy == "run desk-3, round 7"

    def test_an_older_agent_is_told_from_one_that_is_silent(self, join, console, until) -> None:
        join("older")  # which drops the question
        silent = join("silent")
        Board(silent, replies={StatusQuestion: []}).keep()
        assert silent.flush(10.0)
        with console:
            seen = console.look(0.5)
        assert (seen["older"].standing, seen["silent"].standing) == ("older", "silent")
        assert "of before there were fleet commands" in seen["older"].why_not()

    def test_an_offline_board_is_known_from_what_the_broker_keeps(
        self, join, console, until
    ) -> None:
        peer = join("d1")
        Board(peer).keep(board="pi", disk_free_bytes=7)
        assert peer.flush(10.0)
        peer.close()
        with console:
            until(lambda: console.look(0.1)["d1"].standing == "offline")
            (seen,) = console.look(0.1).values()
        assert seen.status is not None and seen.status.disk_free_bytes == 7
        assert 0.0 <= (seen.age_s() or -1.0) < 60.0
        assert seen.age_s(seen.status.unix_s + 90.0) == 90.0

    def test_another_protocol_is_named_with_the_remedy(
        self, fleet, anybody, console, until
    ) -> None:
        keep_state(fleet, "d1", anybody, "online", protocol=4)
        with console:
            until(lambda: "d1" in console.look(0.1))
            seen = console.look(0.1)["d1"]
            with pytest.raises(NotAnswered, match="version 4 of the protocol"):
                console.ask("d1", Echo())
        assert seen.standing == "other-protocol"
        assert "install the same version of fimi" in seen.why_not()

    def test_what_is_damaged_is_said(self, fleet, anybody, console, until) -> None:
        keep_state(fleet, "d1", anybody, "online")
        anybody.publish(topic(fleet, "d1", COORDINATOR, "status"), b"{", qos=1, retain=True)
        with console:
            until(lambda: console.look(0.1).get("d1") and console.look(0.1)["d1"].problem)
            seen = console.look(0.1)["d1"]
        assert seen.standing == "silent"
        assert "no BoardStatus of ours" in seen.why_not()
        assert console.refused >= 1

    def test_one_of_which_the_broker_keeps_nothing(self, join, console) -> None:
        """As after a restart without persistence, until the board says again that it is online."""
        board = Board(join("d1"))
        with console:
            console.look(10.0)
            console._states.clear()
            board.replies[StatusQuestion] = [board.status(board="pi")]
            (seen,) = console.look(10.0).values()
        assert seen.standing == "answers"
        assert seen.status is not None and seen.status.board == "pi"

    def test_a_fleet_without_boards(self, console) -> None:
        with console:
            assert console.look(10.0) == {}

    def test_whether_there_is_a_generator_node(self, join, console, until) -> None:
        with console:
            assert not console.has_generator
            node = join("generator")
            until(lambda: console.has_generator)
            assert console.look() == {}
            node.close()
            until(lambda: not console.has_generator)

    def test_who_holds_the_fleet(self, join, console, until) -> None:
        coordinator = join("coordinator")
        coordinator.describe("run desk-3")
        assert coordinator.flush(10.0)
        with console:
            until(lambda: console.coordinator is not None and console.coordinator.what)
            lease = console.coordinator
            assert lease is not None and lease.what == "run desk-3"
            coordinator.close()


class TestAsk:
    def test_there_and_back(self, join, console) -> None:
        board = Board(join("d1"), replies={Echo: [ECHOED]})
        with console:
            assert console.ask("d1", Echo(payload=b"\x00\xff")) == ECHOED
        assert board.asked == [Echo(payload=b"\x00\xff")]

    def test_progress_comes_first(self, join, console) -> None:
        Board(
            join("d1"),
            replies={
                Echo: [ErrandProgress(words="1 of 2"), ErrandProgress(words="2 of 2"), ECHOED]
            },
        )
        told: list[str] = []
        with console:
            assert console.ask("d1", Echo(), progress=told.append) == ECHOED
        assert told == ["1 of 2", "2 of 2"]

    def test_a_board_that_declines(self, join, console) -> None:
        Board(join("d1"), replies={RestartRequest: [Declined(why="it trains")]})
        with console, pytest.raises(BoardDeclines, match=r"^d1: it trains$"):
            console.ask("d1", RestartRequest())

    def test_a_board_that_falls_silent_after_a_word(self, join, console) -> None:
        Board(join("d1"), replies={Echo: [ErrandProgress(words="1 of 2")]})
        with console, pytest.raises(NotAnswered, match=r"more for 0\.3 s"):
            console.ask("d1", Echo(), timeout_s=0.3)

    def test_nobody_of_that_name(self, console) -> None:
        with console, pytest.raises(NotAnswered, match="knows no device d9"):
            console.ask("d9", Echo(), timeout_s=0.2)

    def test_an_offline_board_is_not_waited_for(self, fleet, anybody, console, until) -> None:
        keep_state(fleet, "d1", anybody)
        with console:
            until(lambda: "d1" in console.look(0.1))
            with pytest.raises(NotAnswered, match="d1 is offline"):
                console.ask("d1", Echo(), timeout_s=600.0)

    def test_a_reply_of_a_later_version(self, join, console) -> None:
        board = Board(join("d1"), replies={Echo: []})

        def answer(payload: bytes) -> None:
            ask = questions.decode(payload, Ask)
            board.say(ask.id, b'{"what":"horoscope"}', version="9.1")

        board.peer.on_ask(answer)
        with console, pytest.raises(NotAnswered, match=r"cannot be read.*runs fimi 9\.1"):
            console.ask("d1", Echo())

    def test_an_answer_of_another_board_does_not_count(self, join, console) -> None:
        """Neither one that speaks for the board that was asked, nor one for itself."""
        other = Board(join("d2"))
        board = join("d1")

        def answer(payload: bytes) -> None:
            ask = questions.decode(payload, Ask)
            other.say(ask.id, questions.encode(ECHOED), device="d1")
            other.say(ask.id, questions.encode(ECHOED))

        board.on_ask(answer)
        with console, pytest.raises(NotAnswered):
            console.ask("d1", Echo(), timeout_s=0.5)
        assert console.refused == 2

    def test_two_consoles_at_once(self, join, broker, fleet) -> None:
        Board(join("d1"), replies={Echo: [ECHOED]})
        done: list[AnyReply] = []

        def ask() -> None:
            with Console(broker.address, fleet=fleet) as console:
                done.extend(console.ask("d1", Echo()) for _ in range(20))

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert done == [ECHOED] * 40

    def test_a_question_for_an_earlier_start_is_not_heard(self, join, console) -> None:
        board = Board(join("d1"), replies={Echo: [ECHOED]})
        with console, pytest.raises(NotAnswered):
            console.ask("d1", Echo(), timeout_s=0.3, boot_id="another")
        assert board.asked == []


class TestBrokerAway:
    def test_nothing_is_asked_that_would_be_sent_later(self, mortal, fleet) -> None:
        with Console(mortal.address, fleet=fleet) as console:
            mortal.close()
            deadline_s = time.monotonic() + 30.0
            while console.online:
                assert time.monotonic() < deadline_s
                time.sleep(0.02)
            for ask in (console.look, lambda: console.ask("d1", Echo())):
                with pytest.raises(BrokerError, match="the connection is lost"):
                    ask()


class TestOthers:
    def test_a_running_coordinator_is_not_disturbed(
        self, join, console, caplog: pytest.LogCaptureFixture
    ) -> None:
        coordinator, generator = join("coordinator"), join("generator")
        board = Board(join("d1"), replies={Echo: [ECHOED]})
        board.keep()
        with console:
            console.look(10.0)
            console.ask("d1", Echo())
        board.peer.send(COORDINATOR, RunEnded(run="r", reason="after all of it"))
        heard = []
        while (received := coordinator.receive(10.0)) is not None:
            heard.append(type(received[1]))
            if isinstance(received[1], RunEnded):
                break
        assert set(heard) == {DeviceState, RunEnded}
        assert coordinator.online and coordinator.epoch == 1
        for peer in (coordinator, generator):
            assert peer.counters.refused == 0
        assert "dropped" not in caplog.text

    def test_a_console_is_no_sign_of_a_coordinators_life(self, join, console, until) -> None:
        """Or a device would not notice that the one of its run has died."""
        join("coordinator").close()
        device = join("d1")
        Board(device)
        until(lambda: device.absent_s(COORDINATOR) is not None)
        with console:
            console.look(10.0)
        assert device.absent_s(COORDINATOR) is not None

    def test_no_question_outlives_the_absence_of_a_device(self, broker, fleet, console) -> None:
        """A device that was away for longer than a question lives does not get it afterwards."""
        published: list[dict[str, object]] = []
        with console:
            console._link.publish = lambda *_, **how: published.append(how)  # type: ignore[assignment,method-assign]
            console.look(0.01)
            version = console._link.version
        (how,) = published
        assert not how.get("retain")
        assert how["expires_s"] == 10
        assert how["qos"] == (1 if version == "5" else 0)


def test_no_broker(free_port: int) -> None:
    from fimi.messaging.address import BrokerAddress

    with pytest.raises(BrokerError, match="cannot be reached"):
        Console(BrokerAddress(host="127.0.0.1", port=free_port), fleet="f").connect(1.0)


def test_rules_of_the_guide(own_mosquitto) -> None:
    """Who may be the coordinator may ask; a device can neither ask nor answer for another."""
    rules = [
        "pattern write fimi/v1/+/%u/#",
        "pattern read fimi/v1/+/+/%u/#",
        "pattern read fimi/v1/+/+/all/#",
    ]
    address = own_mosquitto(rules, username=COORDINATOR, also=("d1", "d2"))
    users = {name: msgspec.structs.replace(address, username=name) for name in ("d1", "d2")}
    peer = Peer(users["d1"], fleet="f", peer="d1", role="device")
    with peer:
        board = Board(peer, replies={Echo: [ECHOED]})
        board.keep(board="pi")
        with Console(address, fleet="f") as console:
            assert console.ask("d1", Echo()) == ECHOED
            assert console.look(10.0)["d1"].status is not None
        asked = len(board.asked)
        forger = Link(users["d2"], "forger", clean_session=True)
        forger.connect(10.0)
        ask = Ask(id="0" * 16, question=msgspec.Raw(questions.encode(Echo())))
        forger.publish(topic("f", COORDINATOR, "d1", "ask"), questions.encode(ask), qos=1)
        forger.publish(topic("f", "d1", COORDINATOR, "status"), b"{", qos=1, retain=True)
        forger.close()
        with Console(address, fleet="f") as console:
            assert console.look(10.0)["d1"].problem == ""
        assert len(board.asked) == asked + 1
