"""Colours can be read by people who see little of them: WCAG 2, level AA."""

from __future__ import annotations

import itertools

import pytest

from fimi.report import plot_style, tokens

THEMES = {"light": tokens.LIGHT, "dark": tokens.DARK}


@pytest.mark.parametrize("theme", THEMES)
def test_text_has_the_contrast_of_level_aa(theme: str) -> None:
    colours = THEMES[theme]
    pairs = [(text, ground) for text in ("ink", "soft", "faint") for ground in ("paper", "card")]
    pairs += [
        (state, ground)
        for state in ("accent", "good", "warm", "bad")
        for ground in ("paper", "card", f"{state}-paper")
    ]
    pairs += [("ink", f"{state}-paper") for state in ("accent", "good", "warm", "bad")]
    low = {pair: round(tokens.contrast(*map(colours.__getitem__, pair)), 2) for pair in pairs}
    assert {pair: found for pair, found in low.items() if found < 4.5} == {}


@pytest.mark.parametrize("theme", THEMES)
def test_marks_of_pictures_stand_out_from_the_card(theme: str) -> None:
    colours = THEMES[theme]
    marks = [name for name in tokens.PICTURE if not name.startswith("scale-")] + ["edge"]
    found = {name: round(tokens.contrast(colours[name], colours["card"]), 2) for name in marks}
    assert {name: value for name, value in found.items() if value < 3.0} == {}


def test_both_themes_name_the_same_colours_and_a_light_one_has_one_dark_one() -> None:
    assert list(tokens.LIGHT) == list(tokens.DARK)
    assert len(tokens.PICTURE) == 23
    dark: dict[str, str] = {}
    for name in tokens.PICTURE:
        assert dark.setdefault(tokens.LIGHT[name], tokens.DARK[name]) == tokens.DARK[name]


def test_lines_of_a_picture_differ_each_from_its_neighbour_in_all_that_they_have() -> None:
    looks = [plot_style.look(k) for k in range(252)]
    assert len({tuple(look.values()) for look in looks}) == 252
    for one, other in itertools.pairwise(looks):
        assert all(one[what] != other[what] for what in ("color", "dash", "symbol"))


def test_contrast_agrees_with_values_of_the_standard() -> None:
    # 21 by definition; #767676 is the lightest grey with 4.5:1 on white, #777777 has less.
    assert tokens.contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert tokens.contrast("#ffffff", "#767676") >= 4.5 > tokens.contrast("#ffffff", "#777777")
