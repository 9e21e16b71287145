from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.record.clean import clean
from fimi.report.markup import Column, element, table
from fimi.report.words import (
    bits_per_second,
    hertz,
    joules,
    percent,
    seconds,
    signed_percent,
    small_percent,
)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (hertz(1.8e9), "1.80 GHz"),
        (hertz(50e3), "50.0 kHz"),
        (hertz(600e6), "600 MHz"),
        (hertz(None), "–"),
        (bits_per_second(1.25e6), "1.25 Mbit/s"),
        (bits_per_second(80e3), "80.0 kbit/s"),
        (bits_per_second(None), "–"),
        (seconds(3.214), "3.21 s"),
        (seconds(245), "4 min 05 s"),
        (seconds(3725), "1 h 02 min"),
        (seconds(0.0), "0 s"),
        (seconds(6e-15), "0 s"),
        (seconds(2e-4), "0.200 ms"),
        (joules(1e-12), "0 J"),
        (joules(12.34), "12.3 J"),
        (joules(None), "–"),
        (percent(0.9314), "93.1 %"),
        (percent(None), "–"),
        (signed_percent(-3.14), "−3.1 %"),
        (signed_percent(2.0), "+2.0 %"),
        (small_percent(0.0), "0 %"),
        (small_percent(3e-9), "< 0.0001 %"),
        (small_percent(0.0123), "0.012 %"),
        (small_percent(1.234), "1.23 %"),
    ],
)
def test_numbers(shown: str, expected: str) -> None:
    assert shown == expected


@given(st.text())
def test_clean_text_is_printable_and_bounded(text: str) -> None:
    shown = clean(text, 20)
    assert len(shown) <= 20
    assert all(c.isprintable() for c in shown)


class TestMarkup:
    def test_children_are_escaped_once(self) -> None:
        inner = element("b", "a < b")
        assert element("p", inner, " & ", title='"x"') == (
            '<p title="&quot;x&quot;"><b>a &lt; b</b> &amp; </p>'
        )

    def test_no_line_breaks_before_a_unit(self) -> None:
        assert element("p", "12 J of 5 %") == "<p>12\N{NO-BREAK SPACE}J of 5\N{NO-BREAK SPACE}%</p>"

    def test_neighbours_of_one_title_share_it(self) -> None:
        shown = table([Column("E", "a", str), Column("E", "b", str), Column("F", "", str)], [1])
        assert 'colspan="2"' in shown
        assert shown.count(">E<") == 1
        assert 'rowspan="2"' in shown
