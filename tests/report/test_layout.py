"""What is written for a terminal fits it, loses nothing silently, and is plain without colours."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.report.layout import Marked, Paper, columns, entries, fitted, table, wrap

WORDS = st.text("abc xyz-äΔ中ｗ", max_size=30).map(lambda text: text.strip() or "a")
NUMBERS = st.text("0123456789.", min_size=1, max_size=9)


class TestTable:
    @given(
        rows=st.lists(st.tuples(WORDS, NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=5),
        width=st.integers(30, 90),
    )
    def test_it_fits_and_every_number_is_there(
        self, rows: list[tuple[str, ...]], width: int
    ) -> None:
        text = table(("name", "a\nJ", "b\ns", "c"), rows, paper=Paper(width))
        assert max(map(columns, text.splitlines())) <= width
        for _, *numbers in rows:
            for number in numbers:
                assert number in text

    def test_columns_stand_below_each_other(self) -> None:
        text = table(("device", "energy\nJ"), [("a", "1.0"), ("long-name", "12.5")])
        assert text.splitlines() == [
            "           energy",
            "device          J",
            "─────────────────",
            "a             1.0",
            "long-name    12.5",
        ]

    def test_a_long_name_is_cut_with_an_ellipsis(self) -> None:
        rows = [("a-device-with-a-long-name", "1" * 20)]
        text = table(("device", "count"), rows, paper=Paper(40))
        assert text.splitlines()[-1] == f"a-device-with-a-lo…{'1' * 20:>21}"

    def test_what_does_not_fit_goes_on_below_with_the_names_again(self) -> None:
        rows = [("device-1", *("1234567890",) * 6)]
        heading = ("device", *(f"column-{k}" for k in range(6)))
        text = table(heading, rows, footer=("fleet", *("0",) * 6), paper=Paper(44))
        assert text.count("device-1") == text.count("fleet") == 2
        assert all(f"column-{k}" in text for k in range(6))
        first, second = text.split("\n\n")
        assert first.count("column") == second.count("column") == 3  # none is much narrower

    @given(st.integers(40, 90), st.lists(st.integers(1, 70), min_size=2, max_size=6))
    def test_what_is_to_be_copied_is_never_cut(self, width: int, lengths: list[int]) -> None:
        cells = [letter * length for letter, length in zip("abcdef", lengths, strict=False)]
        text = table(["h"] * len(cells), [cells], paper=Paper(width), whole=True)
        assert all(cell in text.split() for cell in cells)
        needed = lengths[0] + max(lengths[1:]) + 2
        assert all(columns(line) <= max(width, needed) for line in text.splitlines())

    def test_the_cells_of_a_row_may_have_several_lines(self) -> None:
        text = table(("run", "joules"), [("a", "12\n[11, 13]"), ("b", "9")])
        assert [line.split() for line in text.splitlines()[2:]] == [
            ["a", "12"],
            ["[11,", "13]"],
            ["b", "9"],
        ]

    def test_a_mark_is_a_colour_on_a_terminal_only(self) -> None:
        rows = [(Marked("device-1", "problem"), "1")]
        plain, coloured = (table(("device", "n"), rows, paper=Paper(80, c)) for c in (False, True))
        assert "\x1b" not in plain
        assert "\x1b[31mdevice-1\x1b[39m" in coloured

    def test_a_mark_survives_being_cut(self) -> None:
        cut = fitted(Marked("a-long-name", "problem"), 6)
        assert cut == "a-lon…"
        assert isinstance(cut, Marked)


class TestText:
    @given(st.text(max_size=60), st.integers(1, 40))
    def test_what_is_cut_fits_and_says_so(self, text: str, width: int) -> None:
        shown = fitted(text, width)
        assert columns(shown) <= width
        assert shown == text or shown.endswith("…")

    def test_a_number_stays_with_its_unit(self) -> None:
        for unit in ("J", "kJ", "mJ", "%", "s", "ms", "GHz", "kB", "Mbit/s", "W", "°C"):
            (*_, last) = wrap(f"{'word ' * 4}12.3 {unit}", 25)
            assert last.endswith(f"12.3 {unit}"), unit

    @given(st.lists(st.tuples(st.sampled_from(["plan", "energy"]), WORDS), max_size=5))
    def test_entries_keep_to_the_width(self, said: list[tuple[str, str]]) -> None:
        text = entries([(term, f"{words} " * 9) for term, words in said], indent=10)
        assert all(len(line) <= 80 or "中" in line or "ｗ" in line for line in text.splitlines())

    def test_kinds_of_joules_have_their_colours_and_keep_their_words(self) -> None:
        text = "1 J (measured, board) + 2 J (emulated, board)"
        assert Paper(80, False).kinds(text) == text
        coloured = Paper(80, True).kinds(text)
        assert "\x1b[32mmeasured\x1b[39m" in coloured
        assert "\x1b[36memulated\x1b[39m" in coloured


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class TestPaper:
    def test_what_is_no_terminal_is_plain_and_80_columns_wide(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "120")
        assert Paper.of(io.StringIO()) == (80, False)

    @pytest.mark.parametrize(
        ("name", "value", "colour"),
        [("NO_COLOR", "1", False), ("NO_COLOR", "", True), ("TERM", "dumb", False)],
    )
    def test_a_terminal_may_be_asked_for_no_colours(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: str, colour: bool
    ) -> None:
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.setenv("COLUMNS", "120")
        monkeypatch.setenv(name, value)
        assert Paper.of(Terminal()) == (120, colour)

    def test_paragraphs_are_not_wider_than_can_be_read(self) -> None:
        assert Paper(160).text_width == 100
