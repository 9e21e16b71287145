"""What a device can have used at most while nobody was told what it used."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from random_values import values
from stored_runs import profile, record

from fimi.energy.cost_model import (
    BoardModel,
    OperatingPoint,
    computing_power_w,
    largest_power_w,
    predict_round,
)
from fimi.energy.ledger import PhaseRecord
from fimi.record.bounds import own_s, remaining, unknown_max, unmetered_s
from tests.compute_points import measured

BOARD = profile("a").board
STRETCHES = st.lists(
    st.builds(
        record,
        st.sampled_from(["compute", "upload", "idle"]),
        st.floats(0.0, 5.0),
        st.none() | st.floats(0.0, 9.0),
    ),
    max_size=5,
).map(tuple)
Phases = tuple[PhaseRecord, ...]


class TestHighestPower:
    def test_by_hand(self) -> None:
        """2.5 idle + 1e-28 (1.8e9)³ = 0.5832 computing + 0.1 sending."""
        assert largest_power_w(BOARD) == pytest.approx(2.5 + 0.5832 + 0.1)
        link = replace(
            BOARD.link, receive_power_w=0.3, electronics_power_w=0.2, energy_per_bit_j=1e-6
        )
        assert largest_power_w(replace(BOARD, link=link), 2e6) == pytest.approx(3.6832 + 2.0)

    def test_a_measured_table_comes_first(self) -> None:
        compute = replace(
            BOARD.compute, points=measured(BOARD.compute, {6e8: 1.0, 1.2e9: 5.0, 1.8e9: 4.0})
        )
        assert largest_power_w(replace(BOARD, compute=compute)) == pytest.approx(2.5 + 5.0 + 0.1)

    @given(
        board=values(BoardModel).filter(lambda b: b.link.transmit_power_max_w < 1e3),
        share=st.floats(0.0, 1.0),
        power_share=st.floats(0.01, 1.0),
        cycles=st.floats(1e6, 1e12),
        bits=st.floats(1.0, 1e9),
    )
    def test_no_phase_is_predicted_with_more(
        self, board: BoardModel, share: float, power_share: float, cycles: float, bits: float
    ) -> None:
        compute = board.compute
        low, high = compute.frequency_min_hz, compute.frequency_max_hz
        point = OperatingPoint(
            frequency_hz=low + share * (high - low),
            bandwidth_hz=1e5,
            transmit_power_w=power_share * board.link.transmit_power_max_w,
            time_split=0.5,
        )
        cap_bps = board.link.rate_cap_bps
        link = replace(
            board.link,
            channel_gain=1e-9,
            noise_density_w_per_hz=4e-21,
            downlink_rate_bps=1e6,
            # a slower radio than any would take longer than the round
            rate_cap_bps=cap_bps and max(cap_bps, 1e3),
        )
        board = replace(board, link=link)
        assert computing_power_w(compute, point.frequency_hz) + board.idle_power_w <= (
            largest_power_w(board) * (1 + 1e-9)
        )
        costs = predict_round(
            board, point, cycles=cycles, upload_bits=bits, download_bits=bits, round_s=1e9
        )
        (upload,) = (cost for cost in costs if cost.phase == "upload")
        most_w = largest_power_w(board, bits / upload.duration_s)
        for cost in costs:
            if cost.duration_s > 0.0:
                assert cost.board_j <= most_w * cost.duration_s * (1 + 1e-9) + 1e-9


class TestUnknownTime:
    def test_what_was_told_is_known(self) -> None:
        told = (record("compute", 4.0, 20.0), record("upload", 1.0, 3.0))
        assert unmetered_s(7.5, told) == 2.5
        assert unmetered_s(5.0, told) == 0.0
        assert unmetered_s(7.5, ()) == 7.5

    def test_what_was_told_and_could_not_be_read_is_not(self) -> None:
        told = (record("compute", 4.0, None), record("upload", 9.0, 3.0))
        assert unmetered_s(7.5, told) == 4.0

    def test_a_bound_says_what_it_is(self) -> None:
        bound = unknown_max(BOARD, 10.0, (record("compute", 4.0, 20.0),))
        assert bound is not None
        assert bound.value_j == pytest.approx(6.0 * 3.1832)
        assert (bound.kind, bound.scope) == ("modelled", "board")
        assert unknown_max(BOARD, 4.0, (record("compute", 4.0, 20.0),)) is None

    @given(round_s=st.floats(0.1, 20.0), before=STRETCHES, more=STRETCHES)
    def test_it_shrinks_to_what_it_would_have_been(
        self, round_s: float, before: Phases, more: Phases
    ) -> None:
        more = tuple(p for p in more if p.energy is not None)
        first = unknown_max(BOARD, round_s, before)
        was_s, left_s = unmetered_s(round_s, before), unmetered_s(round_s, (*before, *more))
        left = remaining(first, was_s, left_s)
        wanted = unknown_max(BOARD, round_s, (*before, *more))
        if wanted is None or left is None:
            assert left is wanted
        else:
            assert math.isclose(left.value_j, wanted.value_j, rel_tol=1e-9)
        assert remaining(None, was_s, left_s) is None

    @given(round_s=st.floats(1.0, 20.0), ahead_s=st.floats(0.0, 5.0), gap_s=st.floats(0.0, 5.0))
    def test_what_belongs_to_the_round_before_is_not_unknown(
        self, round_s: float, ahead_s: float, gap_s: float
    ) -> None:
        """A device that was late begins late; a gap between two of its phases is unknown."""
        compute = replace(record("compute", 2.0, 9.0), start_s=100.0 + ahead_s)
        upload = replace(record("upload", 1.0, 3.0), start_s=102.0 + ahead_s + gap_s)
        idle_s = max(0.0, round_s - 3.0 - ahead_s - gap_s)
        told = (compute, upload, replace(record("idle", idle_s, 1.0), start_s=110.0))
        busy_s = ahead_s + 3.0 + gap_s
        left_s = unmetered_s(own_s(round_s, busy_s, 0.0, told), told)
        assert left_s == pytest.approx(min(gap_s, max(0.0, round_s - 3.0 - ahead_s)), abs=2e-6)

    def test_without_a_report_all_of_the_round_is_its_own(self) -> None:
        assert own_s(7.5, None, 0.0, ()) == 7.5
        assert own_s(7.5, None, 0.0, (record("idle", 2.0, 4.0),)) == 7.5
