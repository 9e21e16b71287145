"""Coded parameters as bytes: back as they were, of the size that was said, or refused."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fimi.learning.training import coded
from fimi.learning.training.coding import Coding, kept
from fimi.learning.training.tensors import UpdateRefusedError

NAMES = st.text("abcdefgh.é", min_size=1, max_size=8)
TENSORS = hnp.arrays(
    np.float32,
    hnp.array_shapes(max_dims=4, max_side=4),
    elements=st.floats(-(2.0**100), 2.0**100, width=32),
)
MODELS = st.dictionaries(NAMES, TENSORS, min_size=1, max_size=4)
CODINGS = st.builds(
    Coding,
    kind=st.sampled_from(["fp32", "fp16", "int8", "top-k"]),
    share=st.floats(0.01, 1.0),
    compress=st.booleans(),
)
KINDS = ["fp32", "fp16", "int8", "top-k"]
MODEL = {
    "head.weight": np.linspace(-1.0, 1.0, 240, dtype=np.float32).reshape(8, 30),
    "conv": np.linspace(0.0, 2.0, 36, dtype=np.float32).reshape(2, 2, 3, 3),
    "head.bias": np.arange(8, dtype=np.float32),
}
SHAPES = coded.shapes_of(MODEL)


def coding(kind: Any, **options: Any) -> Coding:
    return Coding(kind=kind, share=0.1, **options)


@given(MODELS, CODINGS)
def test_what_comes_back_is_what_the_coding_says(
    model: dict[str, np.ndarray], chosen: Coding
) -> None:
    data = coded.encode(model, chosen)
    back = coded.decode(data, chosen, coded.shapes_of(model))
    assert back.keys() == model.keys()
    for name, exact in model.items():
        assert back[name].dtype == np.float32
        assert back[name].shape == exact.shape
        if exact.ndim < 2 or chosen.kind == "fp32":
            np.testing.assert_array_equal(back[name], exact)
    if chosen.kind == "top-k":
        flat = [model[name].reshape(-1) for name in sorted(model) if model[name].ndim >= 2]
        there = [back[name].reshape(-1) for name in sorted(model) if model[name].ndim >= 2]
        exact, found = np.concatenate([[], *flat]), np.concatenate([[], *there])
        chose = sorted(range(len(exact)), key=lambda i: (-abs(exact[i]), i))
        chose = chose[: kept(len(exact), chosen.share)]
        expected = np.zeros(len(exact))
        expected[chose] = exact[chose]
        np.testing.assert_array_equal(found, expected)
    assert coded.encode(dict(reversed(model.items())), chosen) == data


@given(MODELS, CODINGS)
def test_the_size_is_known_before_and_another_reader_reads_the_file(
    model: dict[str, np.ndarray], chosen: Coding
) -> None:
    data = coded.encode(model, chosen)
    size = coded.size_bytes(coded.shapes_of(model), chosen)
    if chosen.compress:
        assert zstandard.frame_content_size(data) == size
        return
    assert len(data) == size
    there = safetensors.numpy.load(data)
    assert len(there.keys() & model.keys()) >= sum(t.ndim < 2 for t in model.values())
    if chosen.kind == "int8":  # by a second implementation of the format and of the arithmetic
        scales, at = there["fimi.scales"], 0
        for name in sorted(model):
            if model[name].ndim >= 2:
                for channel, row in enumerate(there[name].astype(np.float32)):
                    found = coded.decode(data, chosen, coded.shapes_of(model))[name][channel]
                    np.testing.assert_array_equal(found, row * scales[at + channel])
                at += len(model[name])


@given(MODELS, CODINGS)
def test_a_device_reads_a_model_of_which_it_knows_the_size_alone(
    model: dict[str, np.ndarray], chosen: Coding
) -> None:
    if chosen.kind == "top-k":
        return
    data = coded.encode(model, chosen)
    raw = sum(tensor.nbytes for tensor in model.values())
    back = coded.decode_model(data, chosen, raw)
    expected = coded.decode(data, chosen, coded.shapes_of(model))
    assert back.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(back[name], tensor)
    with pytest.raises(UpdateRefusedError, match="announced"):
        coded.decode_model(data, chosen, raw - 1)


@given(st.sampled_from(KINDS), st.booleans(), st.binary(max_size=300))
def test_no_bytes_do_anything_but_decode_or_be_refused(
    kind: str, compress: bool, data: bytes
) -> None:
    with pytest.raises(UpdateRefusedError):
        coded.decode(data, coding(kind, compress=compress), SHAPES)
    if kind != "top-k":
        with pytest.raises(UpdateRefusedError):
            coded.decode_model(data, coding(kind, compress=compress), 1200)


@given(st.sampled_from(KINDS), st.booleans(), st.data())
def test_a_damaged_byte_is_refused_or_changes_values_only(
    kind: str, compress: bool, data: st.DataObject
) -> None:
    chosen = coding(kind, compress=compress)
    good = bytearray(coded.encode(MODEL, chosen))
    at = data.draw(st.integers(0, len(good) - 1))
    good[at] ^= data.draw(st.integers(1, 255))
    for read in (
        lambda: coded.decode(bytes(good), chosen, SHAPES),
        lambda: coded.decode_model(bytes(good), chosen, 1200) if kind != "top-k" else {},
    ):
        try:
            back = read()
        except UpdateRefusedError:
            continue
        assert not back or coded.shapes_of(back) == SHAPES


@pytest.mark.parametrize("kind", KINDS)
def test_a_bomb_is_refused_before_it_is_unpacked(kind: str) -> None:
    chosen = coding(kind, compress=True)
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(400_000_000))
    assert len(bomb) < 60_000
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(4_000_000))
    tracemalloc.start()
    try:
        for data in (bomb, unsized):
            with pytest.raises(UpdateRefusedError, match="unpacks to"):
                coded.decode(data, chosen, SHAPES)
            with pytest.raises(UpdateRefusedError, match="unpacks to"):
                coded.decode_model(data, chosen, 1200)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def header_of(**entries: Any) -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "data",
    [
        header_of(w={"dtype": "F32", "shape": [1 << 60], "data_offsets": [0, 1 << 62]}),
        header_of(w={"dtype": "F32", "shape": [-1, 4], "data_offsets": [0, 0]}),
        header_of(w={"dtype": "F32", "shape": [1] * 99, "data_offsets": [0, 4]}) + bytes(4),
        header_of(w={"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}) + bytes(8),
        header_of(w={"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}) + bytes(8),
        header_of(w={"dtype": "F32", "shape": [0, 10**30], "data_offsets": [0, 0]}),
        (1 << 63).to_bytes(8, "little") + b"{}",
        (100).to_bytes(8, "little") + b"[" * 100,
    ],
)
def test_a_header_that_lies_is_refused(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(UpdateRefusedError):
            coded.decode_model(data, Coding(), 1200)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def with_tensor(kind: str, name: str, values: Any) -> bytes:
    """A good file with other values in one of its tensors."""
    data = coded.encode(MODEL, coding(kind))
    length = 8 + int.from_bytes(data[:8], "little")
    start, stop = json.loads(data[8:length])[name]["data_offsets"]
    raw = np.asarray(values).tobytes()
    assert len(raw) == stop - start
    return data[: length + start] + raw + data[length + stop :]


@pytest.mark.parametrize(
    ("kind", "name", "values", "why"),
    [
        ("fp16", "fimi.exponents", np.array([0, 200], "<i2"), "exponents run from 0 to 200"),
        ("int8", "fimi.scales", np.full(10, np.nan, "<f4"), "scale is negative or no number"),
        ("int8", "fimi.scales", np.full(10, -1.0, "<f4"), "scale is negative or no number"),
        ("top-k", "fimi.positions", np.full(35, 255, "u1"), "28 different ones among 276"),
        ("top-k", "fimi.positions", np.zeros(35, "u1"), "28 different ones among 276"),
    ],
)
def test_numbers_that_no_coding_gives_are_refused(
    kind: str, name: str, values: Any, why: str
) -> None:
    with pytest.raises(UpdateRefusedError, match=why):
        coded.decode(with_tensor(kind, name, values), coding(kind), SHAPES)


@pytest.mark.parametrize("positions", [[0, 0], [1, 0], [5, 276]])
def test_positions_as_numbers_rise_and_stay_within_the_model(positions: list[int]) -> None:
    few = Coding(kind="top-k", share=0.006)
    data = coded.encode(MODEL, few)
    assert sum(map(np.count_nonzero, coded.decode(data, few, SHAPES).values())) == 2 + 7
    length = 8 + int.from_bytes(data[:8], "little")
    start, stop = json.loads(data[8:length])["fimi.positions"]["data_offsets"]
    bad = data[: length + start] + np.array(positions, "<u4").tobytes() + data[length + stop :]
    with pytest.raises(UpdateRefusedError, match="2 different ones among 276, in rising order"):
        coded.decode(bad, few, SHAPES)


def test_another_model_and_another_coding_are_named() -> None:
    data = coded.encode(MODEL, Coding(kind="int8"))
    with pytest.raises(UpdateRefusedError, match="in fp16 has"):
        coded.decode(data, Coding(kind="fp16"), SHAPES)
    other = {**SHAPES, "conv": (2, 2, 9, 1)}
    with pytest.raises(UpdateRefusedError, match="tensors, shapes or types differ"):
        coded.decode(data, Coding(kind="int8"), other)


def test_what_cannot_be_coded_is_said_by_name() -> None:
    broken = {**MODEL, "conv": np.full((2, 2), np.nan, np.float32)}
    with pytest.raises(ValueError, match="'conv' holds 4 values that are not finite"):
        coded.encode(broken, Coding(kind="fp16"))
    with pytest.raises(ValueError, match=r"'fimi\.scales' has a name"):
        coded.encode({"fimi.scales": MODEL["conv"]}, Coding(kind="int8"))
