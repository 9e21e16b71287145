from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.messaging.transfers.blocks import BLOCK_BYTES, Blocks, block_bounds, block_count

ranges = st.lists(st.tuples(st.integers(0, 63), st.integers(1, 64)), max_size=20)


class TestBounds:
    @given(st.integers(1, 10**7), st.data())
    def test_blocks_tile_the_payload(self, size_bytes: int, data: st.DataObject) -> None:
        count = block_count(size_bytes)
        assert (count - 1) * BLOCK_BYTES < size_bytes <= count * BLOCK_BYTES
        middle = data.draw(st.integers(0, count))
        ends = [
            block_bounds(size_bytes, *part)
            for part in ((0, middle), (middle, count))
            if part[0] < part[1]
        ]
        assert ends[0][0] == 0 and ends[-1][1] == size_bytes
        assert all(first[1] == second[0] for first, second in itertools.pairwise(ends))

    @given(st.integers(0, 10**5))
    def test_there_are_no_others(self, size_bytes: int) -> None:
        count = block_count(size_bytes)
        for start, stop in ((-1, 0), (count, count + 1), (0, 0), (1, 0)):
            with pytest.raises(IndexError):
                block_bounds(size_bytes, start, stop)


class TestStates:
    @given(st.lists(st.sampled_from(["ask", "unask", "add"]), max_size=20), ranges)
    def test_as_a_list_would_have_it(self, steps: list[str], where: list[tuple[int, int]]) -> None:
        """Against one Python object for each block."""
        blocks, truth = Blocks(64), ["unasked"] * 64
        for step, (start, length) in zip(steps, where, strict=False):
            stop = min(start + length, 64)
            getattr(blocks, step)(start, stop)
            for n in range(start, stop):
                if step == "add":
                    truth[n] = "here"
                elif step == "ask" and truth[n] == "unasked":
                    truth[n] = "asked"
                elif step == "unask" and truth[n] == "asked":
                    truth[n] = "unasked"
        assert blocks.missing == sum(state != "here" for state in truth)
        assert blocks.lacking(3, 40) == sum(state != "here" for state in truth[3:40])
        gaps = [n for start, stop in blocks.gaps(3, 40) for n in range(start, stop)]
        assert gaps == [n for n in range(3, 40) if truth[n] != "here"]
        assert blocks.asked(3, 40) == ("asked" in truth[3:40])
        gap = next((n for n in range(5, 64) if truth[n] != "here"), 64)
        assert blocks.here_from(5) == gap
        run = blocks.next_run(30, 8)
        order = [*range(30, 64), *range(30)]
        first = next((n for n in order if truth[n] == "unasked"), None)
        if first is None:
            assert run is None
        else:
            stop = first
            while stop < min(first + 8, 64) and truth[stop] == "unasked":
                stop += 1
            assert run == (first, stop)

    @given(st.integers(1, 200), st.integers(0, 2**32))
    def test_packed_and_restored(self, count: int, seed: int) -> None:
        here = np.random.default_rng(seed).random(count) < 0.5
        blocks, other = Blocks(count), Blocks(count)
        for n in np.flatnonzero(here):
            blocks.add(int(n), int(n) + 1)
        other.restore(blocks.packed())
        assert other.missing == count - here.sum()
        assert [other.has(n, n + 1) for n in range(count)] == list(here)

    def test_of_another_payload(self) -> None:
        with pytest.raises(ValueError, match="which of 9 blocks"):
            Blocks(9).restore(b"x")
