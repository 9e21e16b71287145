"""A number of things in words."""

from __future__ import annotations

import pytest

from fimi.plural import plural


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 rounds"), (1, "1 round"), (2, "2 rounds"), (21, "21 rounds")]
)
def test_only_one_is_one(count: int, words: str) -> None:
    assert plural(count, "round") == words
