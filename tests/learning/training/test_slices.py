"""Models that are read slice by slice, from memory, bytes and files."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from fimi.learning.training import slices, tensors
from fimi.learning.training.slices import SLICE, HeldModel, StoredModel, spans
from fimi.learning.training.tensors import UpdateRefusedError

GENERATOR = np.random.default_rng(3)
MODEL = {
    "head.weight": GENERATOR.normal(size=(3, 5)).astype(np.float32),
    "body.weight": GENERATOR.normal(size=(SLICE + 7,)).astype(np.float32),
    "head.bias": np.float32(2.0).reshape(()),
    "nothing": np.zeros((0, 4), np.float32),
}


def moved(by: float) -> dict[str, np.ndarray]:
    return {name: np.asarray(tensor + np.float32(by)) for name, tensor in MODEL.items()}


@pytest.fixture(params=["bytes", "file"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> StoredModel:
    data = tensors.dump(moved(1.0))
    if request.param == "bytes":
        return StoredModel(data, MODEL)
    (tmp_path / "update").write_bytes(data)
    return StoredModel(tmp_path / "update", MODEL)


def test_every_slice_is_what_safetensors_reads(stored: StoredModel) -> None:
    for name, tensor in safetensors.numpy.load(tensors.dump(moved(1.0))).items():
        flat = tensor.reshape(-1)
        for start, stop in [(0, tensor.size), *spans(tensor.size), (1, min(3, tensor.size))]:
            if start <= stop:
                np.testing.assert_array_equal(stored.read(name, start, stop), flat[start:stop])
        np.testing.assert_array_equal(stored.load()[name], tensor)
        np.testing.assert_array_equal(HeldModel(MODEL).read(name, 0, 2), MODEL[name].ravel()[:2])


def test_the_change_is_the_norm_over_all_tensors(stored: StoredModel) -> None:
    change = np.concatenate(
        [(moved(1.0)[name].astype(float) - MODEL[name]).ravel() for name in MODEL]
    )
    assert stored.change(MODEL) == pytest.approx(np.linalg.norm(change), rel=1e-12)
    assert stored.change(moved(1.0)) == 0.0


def test_a_change_that_overflows_single_precision_is_known_all_the_same() -> None:
    huge = {name: np.full_like(tensor, 3e38) for name, tensor in MODEL.items()}
    norm = StoredModel(tensors.dump(huge), MODEL).change(MODEL)
    count = sum(tensor.size for tensor in MODEL.values())
    assert norm == pytest.approx(float(np.float32(3e38)) * math.sqrt(count), rel=1e-6)


@pytest.mark.parametrize("where", [0, SLICE - 1, SLICE + 6])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_found_wherever_it_is(where: int, value: float) -> None:
    bad = {**MODEL, "body.weight": MODEL["body.weight"].copy()}
    bad["body.weight"][where] = value
    with pytest.raises(UpdateRefusedError, match=r"'body\.weight' holds 1 values"):
        StoredModel(tensors.dump(bad), MODEL).change(MODEL)


def header(data: bytes) -> dict[str, Any]:
    (length,) = struct.unpack("<Q", data[:8])
    found: dict[str, Any] = json.loads(data[8 : 8 + length])
    return found


def written(entries: Any, body: bytes) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + body


SMALL = {"a": np.zeros(2, np.float32), "b": np.ones((1, 2), np.float32)}
GOOD = tensors.dump(SMALL)
ENTRIES = header(GOOD)
BODY = GOOD[-16:]


def other(name: str, **changes: Any) -> bytes:
    return written({**ENTRIES, name: {**ENTRIES[name], **changes}}, BODY)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it has 0 bytes"),
        (b"\xff" * 8, "its header would have"),
        (struct.pack("<Q", 2) + b"[]", "not safetensors"),
        (struct.pack("<Q", 9000) + b" " * 9000 + BODY, "header of 9000 bytes, more than"),
        (GOOD[:-1], "15 follow the header"),
        (GOOD + b"\0", "17 follow the header"),
        (other("a", shape=[3]), r"shape \(3,\)"),
        (other("a", shape=[1, 2]), r"shape \(1, 2\)"),
        (other("a", shape=[-2]), "shape"),
        (other("a", shape=[2.5]), "not safetensors"),
        (other("a", dtype="F64"), "is float64"),
        (other("a", dtype="BF16"), "is BF16"),
        (other("a", data_offsets=[8, 16]), "said to lie"),
        (other("a", data_offsets=[-8, 0]), "said to lie"),
        (other("a", data_offsets=[0, 1 << 70]), "not safetensors"),
        (other("b", data_offsets=[0, 8]), "said to lie"),
        (written({"a": ENTRIES["a"]}, BODY), "lacks tensor 'b'"),
        (written({**ENTRIES, "c": ENTRIES["a"]}, BODY), "unknown tensor 'c'"),
        (written({**ENTRIES, "a": None}, BODY), "not safetensors"),
        (struct.pack("<Q", 4) + b'{"\xff' + b"}" + BODY, "not safetensors"),
    ],
)
def test_what_is_wrong_is_refused_and_said(data: bytes, why: str) -> None:
    with pytest.raises(UpdateRefusedError, match=why):
        StoredModel(data, SMALL)


def test_other_writers_may_order_tensors_and_describe_the_file() -> None:
    turned = {
        "__metadata__": {"format": "pt"},
        "b": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]},
        "a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]},
    }
    data = written(turned, BODY[8:] + BODY[:8])
    found = StoredModel(data, SMALL).load()
    for name, tensor in safetensors.numpy.load(data).items():
        np.testing.assert_array_equal(found[name], tensor)
        np.testing.assert_array_equal(found[name], SMALL[name])


@given(st.data())
def test_damaged_bytes_are_refused_or_are_a_whole_model(data: st.DataObject) -> None:
    damaged = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    for tried in (bytes(damaged), bytes(damaged[:cut])):
        try:
            found = StoredModel(tried, SMALL)
            found.change(SMALL)
        except UpdateRefusedError:
            continue
        theirs = safetensors.numpy.load(tried)  # whatever is taken, safetensors takes as well
        for name, tensor in found.load().items():
            np.testing.assert_array_equal(tensor, theirs[name])


def test_a_long_header_takes_no_memory(tmp_path: Path) -> None:
    """27 MB of header: refused by its length, before anything of it is read."""
    path = tmp_path / "update"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 27_000_000))
        file.truncate(27_000_100)
    with pytest.raises(UpdateRefusedError, match="header of 27000000 bytes"):
        StoredModel(path, SMALL)


def test_a_file_that_has_become_shorter_is_an_error_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "update"
    path.write_bytes(GOOD)
    found = StoredModel(path, SMALL)
    path.write_bytes(GOOD[:-4])
    with pytest.raises(OSError, match="update ends at byte"):
        found.load()


@given(st.integers(0, 500), st.integers(1, 70))
def test_spans_cover_everything_once(count: int, size: int) -> None:
    found = [k for start, stop in spans(count, size) for k in range(start, stop)]
    assert found == list(range(count))
    assert all(stop - start <= size for start, stop in spans(count, size))
    assert slices.SLICE > 1
