"""Freed memory goes back to the system after work with a large model."""

from __future__ import annotations

import sys

import numpy as np
import psutil
import pytest

from fimi.learning.training import memory

PIECES, PIECE_BYTES = 1_000, 64 * 1024
"""Pieces too small to be given back one by one: 64 MB together."""


def resident_after(model_bytes: int) -> int:
    """Bytes that giving back takes off this process, after every other piece was freed."""
    pieces = [np.ones(PIECE_BYTES, np.uint8) for _ in range(2 * PIECES)]
    kept = pieces[::2]
    del pieces
    process = psutil.Process()
    before = process.memory_info().rss
    memory.give_back(model_bytes)
    freed = before - process.memory_info().rss
    assert len(kept) == PIECES
    return freed


@pytest.mark.skipif(memory._trim() is None, reason="another C library than glibc")
class TestGlibc:
    def test_holes_between_what_is_in_use_are_given_back(self) -> None:
        assert resident_after(memory.LARGE_BYTES) > PIECES * PIECE_BYTES / 2

    def test_nothing_is_done_for_a_small_model(self) -> None:
        assert abs(resident_after(memory.LARGE_BYTES - 1)) < PIECES * PIECE_BYTES / 8


@pytest.mark.skipif(sys.platform.startswith("linux"), reason="Linux may have glibc")
def test_elsewhere_there_is_nothing_to_call() -> None:
    assert memory._trim() is None
    memory.give_back(memory.LARGE_BYTES)
