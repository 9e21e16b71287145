"""Keys by their names, however the bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.monitor.terminal.keys import Decoder

SENT = {
    b"\x1b[A": "up",
    b"\x1bOB": "down",
    b"\x1b[C": "right",
    b"\x1b[1;5D": "left",
    b"\x1b[5~": "page up",
    b"\x1b[6;2~": "page down",
    b"\x1b[H": "home",
    b"\x1b[1~": "home",
    b"\x1bOF": "end",
    b"\x1b[4~": "end",
    b"\r": "enter",
    b"\x7f": "backspace",
    b"\x0c": "redraw",
    b"A": "A",
    b"q": "q",
    "é".encode(): "é",
    "設".encode(): "設",
}


@given(st.lists(st.sampled_from(sorted(SENT))), st.lists(st.integers(1, 4), min_size=1))
def test_pieces_of_any_size(keys: list[bytes], sizes: list[int]) -> None:
    decoder, data, found, n = Decoder(), b"".join(keys), [], 0
    while data:
        size = sizes[n % len(sizes)]
        found += decoder.feed(data[:size])
        data, n = data[size:], n + 1
    assert found + decoder.end() == [SENT[key] for key in keys]


@given(st.binary(max_size=200))
def test_no_bytes_are_too_much(data: bytes) -> None:
    decoder = Decoder()
    keys = decoder.feed(data) + decoder.end()
    assert all(len(key) > 1 or key.isprintable() for key in keys)
    assert decoder.feed(b"") == [] and not decoder.waits


@pytest.mark.parametrize("sent", [b"\x1b[<0;3;4M", b"\x1b[200~", b"\x1b[?1;2c", b"\x1b[Z", b"\x00"])
def test_what_nobody_knows_is_nothing(sent: bytes) -> None:
    decoder = Decoder()
    assert decoder.feed(sent) + decoder.end() == []


def test_an_escape_by_itself_is_the_key() -> None:
    decoder = Decoder()
    assert decoder.feed(b"\x1b") == [] and decoder.waits
    assert decoder.end() == ["escape"]
    assert decoder.feed(b"\x1bq") == ["escape", "q"]
