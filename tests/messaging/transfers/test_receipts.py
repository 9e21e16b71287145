"""Confirmations: repeated until they are heard, also of a payload that is offered twice."""

from __future__ import annotations

from fimi.messaging.transfers.receipts import Receipts
from fimi.messaging.transfers.wire import Done


def always(holder: str) -> bool:
    return True


def test_what_was_heard_is_over() -> None:
    receipts = Receipts()
    receipts.add("d", "x", 0.0)
    assert receipts.due(0.0, always) == [("d", Done(digest="x"))]
    assert receipts.noted("d", "x")
    assert ("d", "x") not in receipts
    assert receipts.due(100.0, always) == []
    assert not receipts.noted("d", "x")


def test_an_answer_to_the_first_does_not_end_the_second() -> None:
    """A device is started again between its answer and the second confirmation."""
    receipts = Receipts()
    receipts.add("d", "x", 0.0)
    receipts.due(0.0, always)
    receipts.add("d", "x", 0.1)  # it offers the payload again
    assert receipts.noted("d", "x")  # what it heard before that
    assert receipts.due(0.1, always) == [("d", Done(digest="x"))]
    assert receipts.noted("d", "x")
    assert receipts.due(100.0, always) == []
