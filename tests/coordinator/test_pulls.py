"""Pulls that fail: which are begun again, when, and how often in a row their holder had nothing."""

from __future__ import annotations

from concurrent.futures import Future
from itertools import takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.coordinator.pulls import AGAIN_S, Pull, pause_s, try_again
from fimi.messaging.errors import PayloadGone, PayloadUnusable, TransferCancelled, TransferError
from fimi.messaging.messages.basis import Offer

OFFER = Offer(holder="d", digest="0" * 64, size_bytes=1, media="x")
PASSING = (TransferError("no way"), PayloadGone("gone"))
FINAL = (PayloadUnusable("large"), TransferCancelled("unwanted"), OSError("full"), None)
"""``None``: it is here."""


def ended(error: BaseException | None) -> Future[bytes]:
    future: Future[bytes] = Future()
    if error is None:
        future.set_result(b"x")
    else:
        future.set_exception(error)
    return future


@given(st.lists(st.sampled_from(PASSING), max_size=6), st.sampled_from(FINAL))
def test_what_may_pass_is_tried_again_and_what_is_final_never(
    passing: list[TransferError], final: BaseException | None
) -> None:
    story = [*passing, final]
    began: list[tuple[str, Offer]] = []

    def begin(key: str, offer: Offer) -> Future[bytes]:
        began.append((key, offer))
        return ended(story[len(began)])

    pull = Pull(OFFER, ended(story[0]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fimi.coordinator.pulls.AGAIN_S", (0.0,))
        for times in range(len(passing)):
            assert not pull.is_over
            try_again({"d": pull}, begin)  # it is seen that it has failed, and when it is due
            so_far = story[times::-1]
            assert pull.gone == len([*takewhile(lambda e: isinstance(e, PayloadGone), so_far)])
            try_again({"d": pull}, begin)
        for _ in range(3):
            try_again({"d": pull}, begin)
    assert began == [("d", OFFER)] * len(passing)
    assert pull.is_over
    assert pull.error is final
    assert pull.tries == len(story)


def test_one_that_goes_on_is_left_alone_and_one_that_has_failed_for_a_while() -> None:
    pulls = {"on its way": Pull(OFFER, Future()), "failed": Pull(OFFER, ended(PASSING[0]))}
    for _ in range(5):
        try_again(pulls, lambda key, offer: pytest.fail(f"{key} was begun again"))
    assert [pull.tries for pull in pulls.values()] == [1, 1]
    assert [pause_s(tries) for tries in (1, 2, 3, 4, 5, 99)] == [*AGAIN_S, AGAIN_S[-1], AGAIN_S[-1]]
