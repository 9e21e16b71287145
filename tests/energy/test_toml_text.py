"""Whatever a board's maker calls a part, the lines to paste are TOML that means it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import write

from fimi.energy.clock import VirtualClock
from fimi.energy.meters import MeterUnavailableError
from fimi.energy.meters.detect import MeterSettings, open_sum
from fimi.energy.meters.names import Names, SeveralError
from fimi.energy.toml_text import quoted

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # type: ignore[no-redef]

ODD = ('Pi "1"\\', "Pi\t2", "\x1b[31mred", "a\x7fb", "it's", "[x] # y = 1")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_text_survives(text: str) -> None:
    line = f"x = {quoted(text)}"
    assert tomllib.loads(line) == {"x": text}
    assert tomllib.loads(f"[a.{quoted(text)}]") == {"a": {text: {}}}, "as a part of a key as well"
    assert line.isprintable(), "and through a terminal"


def test_half_a_surrogate_is_no_text() -> None:
    assert tomllib.loads(f"x = {quoted('a' + chr(0xD800))}") == {"x": "a?"}


def powers_w(names: Names, root: Path) -> float | None:
    return open_sum(names, MeterSettings(), root, VirtualClock()).look(0.0).power_w


@pytest.mark.parametrize("label", ODD)
@pytest.mark.parametrize("family", ["hwmon", "ina3221"])
def test_each_line_of_the_choice_is_read_and_means_its_part(
    tmp_path: Path, family: str, label: str
) -> None:
    for number, called in enumerate((label, f"{label} too"), 1):
        folder = tmp_path / f"sys/class/hwmon/hwmon{number}"
        write(folder / "name", "ina226" if family == "hwmon" else family)
        write(folder / ("label" if family == "hwmon" else "in1_label"), called)
        write(folder / "in1_input", 5000)
        write(folder / "curr1_input", 1000 * number)
    with pytest.raises(SeveralError) as raised:
        open_sum(family, MeterSettings(), tmp_path, VirtualClock())
    chosen = [tomllib.loads(line)["meter"] for line in raised.value.choices]
    assert chosen[:2] == [f"{family}:{label}", f"{family}:{label} too"]
    assert [powers_w(name, tmp_path) for name in chosen[:2]] == pytest.approx([5.0, 10.0])
    if family == "hwmon":
        assert powers_w(tuple(chosen[2]), tmp_path) == pytest.approx(15.0)


def test_a_chip_of_an_unknown_driver(tmp_path: Path) -> None:
    write(tmp_path / "sys/class/hwmon/hwmon0/name", 'my "chip"')
    write(tmp_path / "sys/class/hwmon/hwmon0/power1_input", 5_000_000)
    with pytest.raises(MeterUnavailableError, match="nobody knows of what") as raised:
        open_sum('hwmon:my "chip"', MeterSettings(), tmp_path, VirtualClock())
    line = str(raised.value).partition("write ")[2].partition(" and meter_scope")[0]
    assert tomllib.loads(line) == {"meter": 'hwmon:my "chip"'}
