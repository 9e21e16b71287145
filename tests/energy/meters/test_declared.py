from __future__ import annotations

import math

import pytest

from fimi.energy.clock import VirtualClock
from fimi.energy.ledger import Ledger
from fimi.energy.meters import DeclaredPower


class TestDeclaredPower:
    def test_is_modelled_and_uncertain(self) -> None:
        clock = VirtualClock()
        ledger = Ledger(clock, DeclaredPower(5.0, clock, relative_uncertainty=0.1))
        clock.advance(100.0)
        with ledger.phase("idle"):
            clock.advance(8.0)
        (record,) = ledger.take()
        assert record.energy is not None
        assert record.energy.value_j == pytest.approx(40.0)
        assert record.energy.uncertainty_j == pytest.approx(4.0)
        assert record.energy.kind == "modelled"
        assert "5W" in record.energy.source

    @pytest.mark.parametrize("power_w", [0.0, -1.0, math.nan, math.inf])
    def test_refuses_nonsense(self, power_w: float) -> None:
        with pytest.raises(ValueError, match="positive and finite"):
            DeclaredPower(power_w, VirtualClock())
