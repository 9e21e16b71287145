"""Golden values were worked out by hand."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.energy.joules import Energy, format_energy, format_joules, total

energies = st.builds(
    Energy,
    value_j=st.floats(-1e6, 1e6),
    kind=st.sampled_from(["measured", "modelled", "emulated", "mixed"]),
    source=st.sampled_from(["a", "b", "c"]),
    scope=st.sampled_from(["cpu", "module", "board", "wall"]),
    uncertainty_j=st.floats(0.0, 1e3),
)


class TestEnergy:
    @pytest.mark.parametrize("field", ["value_j", "uncertainty_j"])
    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_is_finite(self, field: str, value: float) -> None:
        with pytest.raises(ValueError, match="must be left out"):
            Energy(**{"value_j": 1.0, "kind": "measured", "source": "m", field: value})

    def test_uncertainty_is_not_negative(self) -> None:
        with pytest.raises(ValueError, match="never negative"):
            Energy(value_j=1.0, kind="measured", source="m", uncertainty_j=-1.0)

    @given(energies)
    def test_survives_json(self, energy: Energy) -> None:
        assert msgspec.json.decode(msgspec.json.encode(energy), type=Energy) == energy

    def test_unknown_kind_is_refused(self) -> None:
        with pytest.raises(msgspec.ValidationError, match="kind"):
            msgspec.json.decode(b'{"value_j":1,"kind":"guessed","source":"m"}', type=Energy)


class TestTotal:
    def test_nothing_is_missing_not_zero(self) -> None:
        assert total([]) is None

    def test_of_one_kind_it_is_of_that_kind(self) -> None:
        part = Energy(value_j=3.0, kind="measured", source="rapl")
        assert total([part, part]) == Energy(value_j=6.0, kind="measured", source="rapl")

    def test_mixed_kind_widest_scope_all_sources(self) -> None:
        parts = [
            Energy(value_j=3.0, kind="measured", source="rapl", scope="cpu", uncertainty_j=0.3),
            Energy(value_j=4.0, kind="modelled", source="plug", scope="wall", uncertainty_j=0.4),
        ]
        assert total(parts) == Energy(
            value_j=7.0, kind="mixed", source="plug+rapl", scope="wall", uncertainty_j=0.5
        )

    @given(st.lists(energies, min_size=1), st.lists(energies, min_size=1))
    def test_totals_of_totals(self, left: list[Energy], right: list[Energy]) -> None:
        at_once = total(left + right)
        nested = total([part for part in (total(left), total(right)) if part])
        assert at_once is not None
        assert nested is not None
        assert (nested.kind, nested.source, nested.scope) == (
            at_once.kind,
            at_once.source,
            at_once.scope,
        )
        scale = sum(abs(part.value_j) for part in left + right)
        assert nested.value_j == pytest.approx(at_once.value_j, abs=1e-12 * scale)
        assert nested.uncertainty_j == pytest.approx(at_once.uncertainty_j)


class TestFormat:
    @pytest.mark.parametrize(
        ("value_j", "text"),
        [
            (0.0, "0 J"),
            (1.0, "1.00 J"),
            (9.994, "9.99 J"),
            (9.996, "10.0 J"),
            (12.34, "12.3 J"),
            (123.4, "123 J"),
            (999.4, "999 J"),
            (999.6, "1.00 kJ"),
            (-4560.0, "-4.56 kJ"),
            (2.5e6, "2.50 MJ"),
            (3.6e9, "3.60 GJ"),
            (0.0123, "12.3 mJ"),
            (61e-6, "61.0 µJ"),
        ],
    )
    def test_three_digits(self, value_j: float, text: str) -> None:
        assert format_joules(value_j) == text

    @given(st.floats(1e-5, 9e11))
    def test_is_right_within_half_a_digit(self, value_j: float) -> None:
        number, unit = format_joules(value_j).split()
        scale = {"µJ": 1e-6, "mJ": 1e-3, "J": 1.0, "kJ": 1e3, "MJ": 1e6, "GJ": 1e9}[unit]
        assert float(number) * scale == pytest.approx(value_j, rel=0.00501)
        assert sum(digit.isdigit() for digit in number) == 3

    def test_names_kind_and_scope(self) -> None:
        energy = Energy(value_j=12.3, kind="emulated", source="m")
        assert format_energy(energy) == str(energy) == "12.3 J (emulated, board)"
