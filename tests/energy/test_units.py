from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.energy.cost_model import BoardModel, ComputeModel, ComputePoint, LinkModel
from fimi.energy.emulation.presets import PRESETS
from fimi.energy.host_profile import ProfileError, load_profile
from fimi.energy.units import QUANTITIES, board_sentences, doubt, hint, reason, refusal


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("frequency_max_hz", 1800, "1800 MHz are 1.8e+09 Hz"),
        ("frequency_max_hz", 1.8, "1.8 GHz are 1.8e+09 Hz"),
        ("frequency_max_hz", 1.8e6, ""),
        ("channel_gain", 100, "100 dB of path loss are 1e-10"),
        ("channel_gain", -87.5, "-87.5 dB of path loss are 1.778e-09"),
        ("noise_density_w_per_hz", -174, "-174 dBm/Hz are 3.981e-21 W/Hz"),
        ("transmit_power_max_w", 23, "23 dBm are 0.1995 W"),
        ("transmit_power_max_w", -20, "-20 dBm are 1e-05 W"),
        ("transmit_power_max_w", 200, "200 mW are 0.2 W"),
        ("idle_power_w", 2700, "2700 mW are 2.7 W"),
        ("bandwidth_hz", 20, "20 MHz are 2e+07 Hz"),
        ("t_max_s", 200_000, "200000 ms are 200 s"),
        ("capacitance_w_per_hz3", 0.6, "0.6 W/GHz³ are 6e-28 W/Hz³"),
        ("linear_power_w_per_hz", 0.8, "0.8 W/GHz are 8e-10 W/Hz"),
        ("energy_per_bit_j", 12, "12 nJ are 1.2e-08 J"),
        ("rate_cap_bps", 54, "54 Mbit/s are 5.4e+07 bit/s"),
        ("payload_bits", 1.2, "1.2 MB are 9.6e+06 bit"),
        ("cycles_per_sample", 40, "40 million are 4e+07 cycles"),
        ("error_max", 12, "12 % are 0.12"),
        ("seconds_per_sample", 4000, "4000 µs are 0.004 s"),
    ],
)
def test_a_unit_explains_it(field: str, value: float, said: str) -> None:
    if said:
        assert hint(field, value) == said
        if value > 0:
            assert said in str(doubt(field, value))
    else:
        assert doubt(field, value) is None


@given(
    st.sampled_from(["transmit_power_max_w", "channel_gain", "noise_density_w_per_hz"]),
    st.floats(-0.99, 0.99) | st.floats(301.0, 1e30),
)
def test_what_nobody_writes_in_decibels_is_not_explained_by_them(field: str, value: float) -> None:
    assert "dB" not in hint(field, value)


def test_why_less_than_nothing_is_refused() -> None:
    assert "measured" in reason("linear_power_w_per_hz", -1e-10)
    assert reason("linear_power_w_per_hz", 1e-10) == reason("idle_power_w", -1.0) == ""


@pytest.mark.parametrize("field", QUANTITIES)
def test_usual_is_possible_and_typical_is_usual(field: str) -> None:
    quantity = QUANTITIES[field]
    assert quantity.possible[0] <= quantity.usual[0] < quantity.usual[1] <= quantity.possible[1]
    assert quantity.usual[0] <= quantity.typical <= quantity.usual[1]
    assert doubt(field, quantity.typical) is None


@given(st.sampled_from(sorted(QUANTITIES)), st.floats())
def test_any_number_gets_a_sentence_or_none(field: str, value: float) -> None:
    for judge in (doubt, refusal):
        said = judge(field, value)
        assert said is None or (field in said and "nan" not in said)
    said = hint(field, value)
    assert not said or math.isfinite(value)
    if doubt(field, value) is None and value > 0 and math.isfinite(value):
        assert refusal(field, value) is None


def test_what_has_no_range_is_never_doubted() -> None:
    assert doubt("epochs", 1e30) is None
    assert refusal("epochs", -1.0) is None
    assert hint("epochs", 5.0) == ""
    assert doubt("idle_power_w", 0.0) is None
    assert doubt("rate_cap_bps", math.inf) is None


def board(**changes: float) -> BoardModel:
    compute = ComputeModel(
        cycles_per_sample=4e6,
        capacitance_w_per_hz3=4.3e-28,
        frequency_min_hz=6e8,
        frequency_max_hz=1.8e9,
        points=(
            ComputePoint(
                name="slow", seconds_per_sample=changes.get("seconds_per_sample", 0.01), power_w=1.0
            ),
        ),
    )
    link = LinkModel(
        channel_gain=1e-10,
        noise_density_w_per_hz=4e-21,
        transmit_power_max_w=changes.get("transmit_power_max_w", 0.1),
        downlink_rate_bps=2e7,
    )
    return BoardModel(compute=compute, link=link, idle_power_w=changes.get("idle_power_w", 2.7))


def test_sentences_about_a_board_name_the_key_or_the_point() -> None:
    assert list(board_sentences(board(), doubt)) == []
    assert list(board_sentences(board(), refusal)) == []
    (said,) = board_sentences(board(idle_power_w=2700.0), doubt)
    assert said.startswith("board.idle_power_w is 2700 W")
    (said,) = board_sentences(board(transmit_power_max_w=23.0), doubt)
    assert said.startswith("board.link.transmit_power_max_w is 23 W")
    (said,) = board_sentences(board(seconds_per_sample=4000.0), doubt)
    assert said.startswith("point 'slow': seconds_per_sample is 4000 s")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_usual(name: str) -> None:
    preset = PRESETS[name]
    for field in preset.__struct_fields__:
        value = getattr(preset, field)
        if isinstance(value, float):
            assert doubt(field, value) is None


PROFILE = """
name = "raspberry-pi-4"
[board]
idle_power_w = 2.7
[board.compute]
cycles_per_sample = 4.0e6
capacitance_w_per_hz3 = 4.3e-28
active_power_w = 0.9
frequency_min_hz = 600e6
frequency_max_hz = 1800e6
[board.link]
channel_gain = 1e-10
noise_density_w_per_hz = 4e-21
transmit_power_max_w = 0.1
downlink_rate_bps = 20e6
receive_power_w = 0.3
"""


class TestProfile:
    def load(self, folder: Path, old: str, new: str) -> None:
        path = folder / "profile.toml"
        assert old in PROFILE
        path.write_text(PROFILE.replace(old, new), encoding="utf-8")
        load_profile(path)

    def test_usual_values_are_silent(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.load(tmp_path, "2.7", "2.7")
        assert not caplog.records

    def test_unusual_values_are_said(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            self.load(tmp_path, "transmit_power_max_w = 0.1", "transmit_power_max_w = 100")
        assert "100 mW are 0.1 W" in caplog.text
        assert "profile.toml" in caplog.text

    def test_a_negative_power_of_the_frequency_says_why(self, tmp_path: Path) -> None:
        with pytest.raises(ProfileError, match=r"profile\.toml.*it is -1e-10; by the law.*points"):
            self.load(
                tmp_path,
                "active_power_w = 0.9",
                "active_power_w = 0.9\nlinear_power_w_per_hz = -1e-10",
            )
        with pytest.raises(ProfileError, match=r"active_power_w`$"):
            self.load(tmp_path, "active_power_w = 0.9", "active_power_w = -0.9")

    def test_impossible_values_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ProfileError, match=r"transmit_power_max_w is 100000 W.*impossible"):
            self.load(tmp_path, "transmit_power_max_w = 0.1", "transmit_power_max_w = 1e5")
