"""The counter between those who ask something of a run and the coordinator's thread."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.coordinator.controls import PENDING_MOST, Controls
from fimi.record.interventions import (
    AskFor,
    ControlAnswer,
    ControlState,
    ExcludeDevice,
    GoOn,
    IncludeDevice,
    LookAt,
    PauseRun,
    PlanAgain,
    Request,
    SetDeadline,
    StopRun,
    verb,
    words,
)

REQUESTS: st.SearchStrategy[Request] = st.one_of(
    st.sampled_from([PauseRun(), GoOn(), StopRun(), PlanAgain()]),
    st.builds(ExcludeDevice, device=st.text(min_size=1, max_size=20)),
    st.builds(IncludeDevice, device=st.text(min_size=1, max_size=20)),
    st.builds(SetDeadline, deadline_s=st.floats(min_value=0.001, max_value=86400)),
)


def told(controls: Controls, message: AskFor | LookAt) -> ControlAnswer:
    return controls.hear(msgspec.json.encode(message))


@given(st.lists(st.one_of(REQUESTS, st.none()), max_size=30))
def test_everything_asked_is_served_once_and_in_order(steps: list[Request | None]) -> None:
    """``None`` is a moment in which the coordinator serves one."""
    controls, asked, served = Controls(), [], []

    def serve() -> None:
        if (pending := controls.next()) is not None:
            served.append(pending.request)
            controls.served(pending, after_round=3, said="")

    for step in steps:
        if step is None:
            serve()
            continue
        answer = controls.ask(step, "somebody")
        assert (answer.state, answer.number) == ("accepted", len(asked) + 1)
        asked.append(step)
    states = [controls.answer(number).state for number in range(1, len(asked) + 1)]
    assert states == ["done"] * len(served) + ["accepted"] * (len(asked) - len(served))
    assert [each.request for each in controls.state.pending] == asked[len(served) :]
    while controls.next():
        serve()
    assert served == asked
    assert [each.request for each in controls.untold()] == asked
    assert controls.untold() == []


@given(st.binary(max_size=200))
def test_whatever_comes_is_an_answer_or_a_value_error(message: bytes) -> None:
    controls = Controls()
    try:
        assert controls.hear(message).state in ("accepted", "refused")
    except ValueError as error:
        assert str(error).startswith("that is no request: ")


@given(REQUESTS)
def test_a_request_survives_the_way_to_the_coordinator(request: Request) -> None:
    controls = Controls()
    answer = told(controls, AskFor(request=request, by="anna"))
    pending = controls.next()
    assert pending is not None
    assert (pending.request, pending.by, answer.state) == (request, "anna", "accepted")
    assert told(controls, LookAt(number=answer.number)) == answer


@pytest.mark.parametrize(
    "message",
    [
        {"control": "ask", "request": {"do": "deadline", "deadline_s": 0}, "by": "x"},
        {"control": "ask", "request": {"do": "deadline", "deadline_s": 1e9}, "by": "x"},
        {"control": "ask", "request": {"do": "shutdown"}, "by": "x"},
        {"control": "ask", "request": {"do": "exclude"}, "by": "x"},
        {"control": "ask", "request": {"do": "pause", "more": 1}, "by": "x"},
        {"control": "ask", "request": {"do": "pause"}},
        {"control": "ask", "request": {"do": "pause"}, "by": "x" * 1000},
        {"control": "look", "number": -1},
        {"control": "look", "number": True},
        [],
    ],
)
def test_what_is_no_request_is_refused(message: Any) -> None:
    controls = Controls()
    with pytest.raises(ValueError, match="that is no request: "):
        controls.hear(msgspec.json.encode(message))
    assert controls.next() is None


def test_deeply_nested_json_is_refused() -> None:
    with pytest.raises(ValueError, match="that is no request"):
        Controls().hear(b'{"control":"ask","by":"x","request":' + b"[" * 100_000)


def test_what_is_known_to_be_impossible_is_refused_at_once() -> None:
    controls = Controls()
    controls.know(ControlState(), {"a", "b"}, 3, 5)
    answer = controls.ask(ExcludeDevice(device="c\x1b[2J"), "x")
    assert (answer.state, answer.number) == ("refused", 0)
    assert "takes part: a, b do" in answer.words
    assert "\x1b" not in answer.words
    accepted = controls.ask(ExcludeDevice(device="a"), "x")
    assert accepted.words == "accepted: exclude a, after round 3 of 5"
    controls.know(ControlState(), {"a", "b"}, 5, 5)
    assert "round 5 is the last one" in controls.ask(PauseRun(), "x").words
    controls.close("the run is over: completed")
    assert controls.ask(PauseRun(), "x").words == "the run is over: completed"
    assert controls.answer(accepted.number).state == "accepted"
    assert controls.answer(99).state == "refused"


def test_no_more_wait_than_can_be_served() -> None:
    controls = Controls()
    for _ in range(PENDING_MOST):
        assert controls.ask(PauseRun(), "x").state == "accepted"
    assert "requests wait already" in controls.ask(PauseRun(), "x").words


def test_threads_that_ask_at_the_same_time_have_numbers_of_their_own() -> None:
    controls, numbers, start = Controls(), [], threading.Barrier(8)

    def ask() -> None:
        start.wait()
        numbers.extend(controls.ask(PauseRun(), "x").number for _ in range(10))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 81))
    assert [each.number for each in controls.state.pending] == list(range(1, 81))


def test_who_asks_is_kept_without_control_characters() -> None:
    controls = Controls()
    controls.ask(PauseRun(), "anna\x1b[31m\nround 9 finished")
    pending = controls.next()
    assert pending is not None
    assert pending.by == "anna�[31m�round 9 finished"


def test_words_of_requests() -> None:
    assert words(SetDeadline(deadline_s=8.0)) == "set the deadline to 8 s"
    assert words(ExcludeDevice(device="a")) == "exclude a"
    assert [verb(r) for r in (PauseRun(), GoOn(), StopRun(), PlanAgain())] == [
        "pause",
        "resume",
        "stop",
        "replan",
    ]
