"""Nothing received takes more memory than its receiver knows that it needs.

Every test measures what NumPy and Python take (tracemalloc) while hostile bytes are refused.
"""

from __future__ import annotations

import gc
import io
import json
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import safetensors.numpy
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from run_contract import DIGITS

from fimi.learning.data import batches, leak, shares
from fimi.learning.data.dataset import DatasetError
from fimi.learning.data.images import read_images
from fimi.learning.data.tensor_header import HEADER_MAX_BYTES, what_is_wrong
from fimi.learning.onnx import graphs
from fimi.learning.onnx.graphs import GraphError
from fimi.learning.training import tensors
from fimi.learning.training.tensors import UpdateRefusedError

MODEL = {"a.weight": np.ones((300, 100), np.float32), "a.bias": np.zeros(300, np.float32)}
SHAPE = (3, 32, 32)


def peak_of(refused: Callable[[], object], error: type[Exception], match: str) -> int:
    """Bytes that are taken while something is refused."""
    gc.collect()
    tracemalloc.start()
    try:
        with pytest.raises(error, match=match):
            refused()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def with_header(entries: object, data: bytes = b"") -> bytes:
    header = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return len(header).to_bytes(8, "little") + header + data


def bomb(plain_bytes: int) -> bytes:
    """A valid Zstandard frame of a few kilobytes that says, truly, how large it becomes."""
    made = io.BytesIO()
    compressor = zstandard.ZstdCompressor(level=1)
    with compressor.stream_writer(made, size=plain_bytes, closefd=False) as writer:
        for _ in range(plain_bytes >> 20):
            writer.write(bytes(1 << 20))
    return made.getvalue()


class TestTensors:
    def test_a_header_of_27_megabytes(self) -> None:
        """It took 802 MB before it was looked at."""
        entry = b'"x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},'
        data = with_header(b"{" + entry * 500_000 + b'"y":1}')
        assert len(data) > 25_000_000
        wanted = {**MODEL, "b": np.zeros(8_000_000, np.float32)}  # so large that the file may be
        peak = peak_of(lambda: tensors.load(data, like=wanted), UpdateRefusedError, "header has")
        assert peak < 1_000_000
        assert peak_of(lambda: tensors.load(data), UpdateRefusedError, "header has") < 1_000_000

    def test_the_largest_header_that_is_read_takes_little(self) -> None:
        names = [f'"{n}":1' for n in range(90_000)]
        header = ("{" + ",".join(names) + "}").encode()
        assert len(header) < HEADER_MAX_BYTES
        gc.collect()
        tracemalloc.start()
        assert what_is_wrong(with_header(header))
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
        tracemalloc.stop()

    @pytest.mark.parametrize(
        ("entry", "why"),
        [
            ({"dtype": "F32", "shape": [1 << 60, 1 << 60], "data_offsets": [0, 4]}, "size of its"),
            ({"dtype": "F32", "shape": [1 << 40, 0], "data_offsets": [0, 4]}, "size of its shape"),
            ({"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}, "of 2 sizes"),
            ({"dtype": "F32", "shape": [1] * 40, "data_offsets": [0, 4]}, "of 40 sizes"),
            ({"dtype": "OBJ", "shape": [1], "data_offsets": [0, 4]}, "is 'OBJ'"),
            ({"dtype": "F32", "shape": [1], "data_offsets": [10**30, 10**30 + 4]}, "1e\\+30"),
            ({"dtype": "F32", "shape": [1.5], "data_offsets": [0, 4]}, "Expected `int`"),
            ({"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "would take 8 bytes, and"),
        ],
    )
    def test_what_a_header_says_is_checked(self, entry: object, why: str) -> None:
        data = with_header({"x": entry}, bytes(4))
        with pytest.raises(UpdateRefusedError, match=why):
            tensors.load(data)

    @given(st.dictionaries(st.text("ab_", max_size=4), st.integers(0, 30), max_size=4))
    def test_what_the_library_writes_is_right(self, sizes: dict[str, int]) -> None:
        made = {name: np.zeros(size, np.int16) for name, size in sizes.items()}
        assert what_is_wrong(safetensors.numpy.save(made, metadata={"note": "x"})) == ""

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_damage_is_refused_or_harmless(self, data: st.DataObject) -> None:
        spoilt = bytearray(tensors.dump(MODEL))
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, 200) | st.integers(0, len(spoilt) - 1))
            spoilt[at] = data.draw(st.integers(0, 255))
        try:
            found = tensors.load(bytes(spoilt), like=MODEL)
        except UpdateRefusedError:
            return
        assert {name: each.shape for name, each in found.items()} == {
            name: each.shape for name, each in MODEL.items()
        }


class TestBatches:
    def test_a_batch_that_would_unpack_to_gigabytes(self) -> None:
        """The receiver knows that its plan is of 500 images."""
        data = bomb(1000 << 20)
        assert len(data) < 200_000
        peak = peak_of(
            lambda: batches.decode(data, classes=10, image_shape=SHAPE, samples=500),
            batches.BatchError,
            "the limit is 1802144 bytes",
        )
        assert peak < 500_000

    def test_more_images_than_were_planned(self) -> None:
        images = np.zeros((501, *SHAPE), np.uint8)
        data = batches.encode(images, np.zeros(501, np.int64))
        batches.decode(data, classes=10, image_shape=SHAPE, samples=501)
        with pytest.raises(batches.BatchError, match="501 images, it was to hold 500 at most"):
            batches.decode(data, classes=10, image_shape=SHAPE, samples=500)
        bare = batches.encode_unlabelled(images)
        with pytest.raises(batches.BatchError, match="501 images, it was to hold 500 at most"):
            batches.decode_unlabelled(bare, image_shape=SHAPE, samples=500)

    @given(st.integers(0, 40), st.sampled_from([(1, 8, 8), (3, 5, 7), (1, 1, 1)]))
    def test_what_is_planned_always_fits(self, count: int, shape: tuple[int, int, int]) -> None:
        images = np.random.default_rng(count).integers(0, 256, (count, *shape), np.uint8)
        data = batches.encode(images, np.zeros(count, np.int64), "x" * 2000, contract="0" * 64)
        assert len(data) <= batches.largest(count, shape)
        found = batches.decode(data, classes=1, image_shape=shape, samples=count)
        assert np.array_equal(found.images, images)

    def test_a_header_in_a_frame(self) -> None:
        plain = with_header(b"[" * 3_000_000)
        data = zstandard.ZstdCompressor().compress(plain)
        peak = peak_of(
            lambda: batches.decode(data, classes=10, image_shape=SHAPE, samples=2000),
            batches.BatchError,
            "its header has 3000000 bytes",
        )
        assert peak < 4_000_000


class TestSharesAndHashes:
    def test_shares(self) -> None:
        mine = DIGITS
        data = bomb(200 << 20)
        for decode in (
            lambda: shares.decode_indices(data, mine),
            lambda: shares.decode_samples(data, mine, "x"),
        ):
            assert peak_of(decode, DatasetError, "the limit is") < 500_000

    def test_hashes(self) -> None:
        mine = DIGITS
        data = bomb(200 << 20)
        assert peak_of(lambda: leak.decode(data, mine), DatasetError, "the limit is") < 500_000
        many = leak.HeldOut(
            test=np.arange(5000, dtype=np.uint64), public=np.arange(9000, dtype=np.uint64)
        )
        assert len(leak.decode(leak.encode(_random(many), mine), mine).public) == 9000


def _random(like: leak.HeldOut) -> leak.HeldOut:
    """Hashes as they are: random, and sorted."""
    draws = np.random.default_rng(2)
    test, public = (
        np.sort(draws.integers(0, 1 << 64, len(each), np.uint64))
        for each in (like.test, like.public)
    )
    return leak.HeldOut(test=test, public=public)


def test_graphs() -> None:
    data = bomb(500 << 20)
    assert peak_of(lambda: graphs.decode(data), GraphError, "the limit is") < 500_000
    deep = zstandard.ZstdCompressor().compress(b"\x91" * 1_000_000)
    assert peak_of(lambda: graphs.decode(deep), GraphError, "not a set") < 5_000_000
    long = zstandard.ZstdCompressor().compress(msgspec.msgpack.encode({"step": bytes(1 << 20)}))
    assert peak_of(lambda: graphs.decode(long), GraphError, "not a set") < 10_000_000


def test_an_image_of_a_few_kilobytes(tmp_path: Path) -> None:
    """81 megapixels of one grey, of which Pillow does not even warn."""
    path = tmp_path / "bomb.png"
    side = 9_000
    rows = zlib.compress(bytes((1 + side) * side), 1)

    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(kind + body).to_bytes(4, "big")
        return len(body).to_bytes(4, "big") + kind + body + crc

    size = side.to_bytes(4, "big") * 2
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size + bytes([8, 0, 0, 0, 0]))
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )
    assert path.stat().st_size < 600_000
    peak = peak_of(lambda: read_images([path]), DatasetError, "pixels are too many")
    assert peak < 2_000_000
