"""Times as programs write them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.energy.timestamps import read_stamp

MOMENT = datetime(2021, 6, 28, 17, 38, 12, tzinfo=timezone.utc).timestamp()


@pytest.mark.parametrize(
    ("written", "unix_s", "step_s", "zoned"),
    [
        ("2021-06-28T19:38:12+02:00", MOMENT, 1.0, True),
        ("2021-06-28T19:38:12+0200", MOMENT, 1.0, True),
        ("2021-06-28T17:38:12Z", MOMENT, 1.0, True),
        ("2021-06-28 17:38:12.250 UTC", MOMENT + 0.25, 1e-3, True),
        ("2021-06-28T17:38:12", MOMENT, 1.0, False),
        ("2021-06-28 17:38:12.034482", MOMENT + 0.034482, 1e-6, False),
        ("06-28-2021 17:38:12", MOMENT, 1.0, False),
        ("1624901892", MOMENT, 1.0, True),
        (1624901892, MOMENT, 1.0, True),
        (Decimal("1624901892.5"), MOMENT + 0.5, 0.1, True),
        (1624901892500, MOMENT + 0.5, 1e-3, True),
        ("1624901892500000", MOMENT + 0.5, 1e-6, True),
        ("1624901892500000000", MOMENT + 0.5, 1e-9, True),
    ],
)
def test_times_as_they_are_found(
    written: object, unix_s: float, step_s: float, zoned: bool
) -> None:
    stamp = read_stamp(written)
    assert stamp.unix_s == pytest.approx(unix_s, abs=1e-6)
    assert stamp.step_s == pytest.approx(step_s)
    assert stamp.zoned == zoned


@pytest.mark.parametrize(
    "written",
    ["", "now", "12.5", 17, True, None, "2021-13-01 00:00:00", "nan", float("nan"), float("inf"),
     "1e400", "1e99999999999999999999",
     "2021-06-28T00:00:00+99:99", [1624901892], "2021-06-28"],
)  # fmt: skip
def test_what_is_no_time_is_refused(written: object) -> None:
    with pytest.raises(ValueError):
        read_stamp(written)


@given(
    st.datetimes(datetime(2002, 1, 1), datetime(2200, 1, 1)),
    st.integers(-12 * 60, 14 * 60),
)
def test_what_python_writes_is_read_to_the_microsecond(moment: datetime, minutes: int) -> None:
    zoned = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert read_stamp(zoned.isoformat()).unix_s == pytest.approx(zoned.timestamp(), abs=2e-6)


def test_a_time_without_a_zone_gets_the_callers() -> None:
    berlin = timezone(timedelta(hours=2))
    assert read_stamp("2021-06-28T19:38:12", berlin).unix_s == MOMENT
