from __future__ import annotations

import math

import pytest

from fimi.energy.clock import MonotonicClock, VirtualClock


class TestVirtualClock:
    def test_stands_still_until_told(self) -> None:
        clock = VirtualClock(5.0)
        assert clock.now_s() == clock.now_s() == 5.0
        clock.advance(2.5)
        assert clock.now_s() == 7.5

    @pytest.mark.parametrize("duration_s", [-1e-9, math.nan, math.inf])
    def test_never_runs_backwards(self, duration_s: float) -> None:
        with pytest.raises(ValueError, match="cannot advance"):
            VirtualClock().advance(duration_s)


def test_monotonic_clock_runs() -> None:
    clock = MonotonicClock()
    times = [clock.now_s() for _ in range(100)]
    assert times == sorted(times)
