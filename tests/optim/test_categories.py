from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.optim.categories import fill


def entropy(counts: list[int]) -> float:
    """Shannon's entropy of the class shares, nats; 0 for no samples."""
    return -sum(n / sum(counts) * math.log(n / sum(counts)) for n in counts if n)


def best_entropy(local: list[int], amount: int) -> float:
    """By trying every way to spread the amount."""
    best = 0.0
    for bars in itertools.combinations(range(amount + len(local) - 1), len(local) - 1):
        edges = (-1, *bars, amount + len(local) - 1)
        added = [right - left - 1 for left, right in itertools.pairwise(edges)]
        best = max(best, entropy([a + b for a, b in zip(local, added, strict=True)]))
    return best


@given(st.lists(st.integers(0, 6), min_size=1, max_size=4), st.integers(0, 8))
def test_is_the_optimum(local: list[int], amount: int) -> None:
    added = fill(local, amount)
    assert sum(added) == amount
    assert min(added) >= 0
    mixed = [a + b for a, b in zip(local, added, strict=True)]
    assert entropy(mixed) == pytest.approx(best_entropy(local, amount), abs=1e-12)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=40), st.integers(0, 10**12))
def test_raised_classes_are_level(local: list[int], amount: int) -> None:
    added = fill(local, amount)
    assert sum(added) == amount
    raised = [a + b for a, b in zip(local, added, strict=True) if b > 0]
    if raised:
        assert max(raised) - min(raised) <= 1
        kept = [a for a, b in zip(local, added, strict=True) if b == 0]
        assert min(kept, default=max(raised)) >= max(raised) - 1


def test_worked_by_hand() -> None:
    # Levels 4 and 4 take 4 + 1 = 5 samples; two are left for the classes at level 4, in order.
    assert fill([0, 3, 9], 7) == (5, 2, 0)
    assert fill([0, 3, 9], 0) == (0, 0, 0)
    assert fill([2, 2, 2], 4) == (2, 1, 1)


@pytest.mark.parametrize(
    ("local", "amount", "what"),
    [([], 1, "one row"), ([1, -2], 1, "class 1"), ([1], -1, "negative")],
)
def test_refuses_the_impossible(local: list[int], amount: int, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        fill(local, amount)
