from __future__ import annotations

import io

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fimi.learning.training import tensors
from fimi.learning.training.tensors import UpdateRefusedError

MODEL = {
    "head.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "head.bias": np.zeros(2, np.float32),
}


def changed(**update: np.ndarray) -> bytes:
    named = {name.replace("_", "."): tensor for name, tensor in update.items()}
    return safetensors.numpy.save({**MODEL, **named})


@given(
    st.dictionaries(
        st.text("abcdefgh.", min_size=1, max_size=8),
        hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=4)),
        min_size=1,
        max_size=4,
    )
)
def test_round_trip(parameters: dict[str, np.ndarray]) -> None:
    back = tensors.load(tensors.dump(parameters))
    assert set(back) == set(parameters)
    for name, tensor in parameters.items():
        np.testing.assert_array_equal(back[name], tensor)


@given(
    st.dictionaries(
        st.text(max_size=5).filter(lambda name: name != "__metadata__"),
        hnp.arrays(
            st.sampled_from([np.float32, np.float32, np.float64]),
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
        ),
        max_size=4,
    )
)
def test_the_bytes_are_those_of_safetensors(parameters: dict[str, np.ndarray]) -> None:
    expected = safetensors.numpy.save(parameters)
    assert tensors.dump(parameters) == expected
    file = io.BytesIO()
    assert tensors.write(parameters, file) == tensors.digest(expected)
    assert file.getvalue() == expected


def test_tensors_in_another_order_of_memory_are_written_by_their_numbers() -> None:
    turned = {"w": np.arange(6, dtype=np.float32).reshape(2, 3).T, "b": np.float32(3.0).reshape(())}
    assert not turned["w"].flags.c_contiguous
    np.testing.assert_array_equal(tensors.load(tensors.dump(turned))["w"], turned["w"])


def test_bytes_do_not_depend_on_the_order_of_names() -> None:
    backwards = dict(reversed(MODEL.items()))
    assert tensors.dump(backwards) == tensors.dump(MODEL)
    assert tensors.digest(b"") == (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # FIPS 180-4 example
    )


def test_a_good_update_is_taken() -> None:
    update = tensors.load(changed(head_bias=np.ones(2, np.float32)), like=MODEL)
    assert update["head.bias"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (changed(head_bias=np.zeros(3, np.float32)), "shape"),
        (changed(head_bias=np.zeros(2, np.float64)), "float64"),
        (changed(head_bias=np.array([0, np.nan], np.float32)), "not finite"),
        (changed(head_bias=np.array([np.inf, 0], np.float32)), "not finite"),
        (changed(extra=np.zeros(1, np.float32)), "unknown tensor 'extra'"),
        (safetensors.numpy.save({"head.bias": MODEL["head.bias"]}), "lacks tensor 'head.weight'"),
        (b"", "not safetensors"),
        (b"\x80\x04\x95garbage", "not safetensors"),
        (changed()[:-4], "not safetensors"),
        (b"\xff" * 8 + b"x" * 100, "not safetensors"),
        (bytes(2_000_000), "more than"),
    ],
)
def test_a_bad_update_is_refused_with_its_reason(data: bytes, why: str) -> None:
    with pytest.raises(UpdateRefusedError, match=why):
        tensors.load(data, like=MODEL)


@given(st.binary(max_size=300))
def test_no_bytes_do_anything_but_load_or_be_refused(data: bytes) -> None:
    with pytest.raises(UpdateRefusedError):
        tensors.load(data, like=MODEL)


def test_size_counts_tensors_only() -> None:
    assert tensors.size_bytes(MODEL) == 8 * 4
