from __future__ import annotations

import pytest

from fimi.energy.emulation.presets import PRESETS
from fimi.testbed.nearest import hint, nearest


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("raspberypi-4", "raspberry-pi-4"),
        ("Jetson_Nano", "jetson-nano"),
        ("minipc", "mini-pc"),
        ("abacus", None),
    ],
)
def test_the_name_that_may_be_meant(word: str, meant: str | None) -> None:
    assert nearest(word, PRESETS) == meant


def test_where_nothing_is_like_it_all_names_are_listed() -> None:
    assert hint("fim", ["tfl", "fimi"]) == "did you mean 'fimi'?"
    assert hint("abacus", ["tfl", "fimi"]) == "there are tfl, fimi"
