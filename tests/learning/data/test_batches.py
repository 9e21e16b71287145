"""fimi.learning.data.batches: lossless, and nothing received is trusted."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
import safetensors.numpy
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image

from fimi.learning.data.batches import (
    BatchError,
    decode,
    decode_unlabelled,
    differences,
    encode,
    encode_unlabelled,
    packed_bytes,
)
from fimi.learning.data.dataset import Images

MAGIC = b"\x28\xb5\x2f\xfd"
IMAGES = np.zeros((50, 1, 8, 8), np.uint8)
LABELS = np.arange(50, dtype=np.int64) % 10


def packed(**tensors: NDArray[np.generic]) -> bytes:
    return safetensors.numpy.save(dict(tensors))


class TestThereAndBack:
    @settings(max_examples=60, deadline=None)
    @given(
        images=hnp.arrays(
            np.uint8,
            st.tuples(
                st.integers(0, 6), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9)
            ),
        ),
        data=st.data(),
        provenance=st.text(max_size=50),
    )
    def test_lossless(self, images: Images, data: st.DataObject, provenance: str) -> None:
        labels = data.draw(hnp.arrays(np.int64, len(images), elements=st.integers(0, 9)))
        sent = encode(images, labels, provenance)
        batch = decode(sent, classes=10)
        assert np.array_equal(batch.images, images)
        assert np.array_equal(batch.labels, labels)
        assert batch.images.shape == images.shape
        assert batch.provenance == provenance
        assert sent == encode(images.copy(), labels.copy(), provenance)

    @given(
        provenance=st.text(max_size=9), made=st.sampled_from(["", "a" * 64]), labelled=st.booleans()
    )
    def test_the_contract_travels_and_another_is_refused(
        self, provenance: str, made: str, labelled: bool
    ) -> None:
        shape = (1, 8, 8)
        if labelled:
            sent = encode(IMAGES, LABELS, provenance, contract=made)
            got = decode(sent, classes=10)
            assert (got.contract, got.provenance) == (made, provenance)
            assert decode(sent, classes=10, contract=made).contract == made
        else:
            sent = encode_unlabelled(IMAGES, provenance, contract=made)
            decode_unlabelled(sent, image_shape=shape, contract=made)
        said = f"made under {'contract aaaaaaaaaaaa…' if made else 'no contract'}, the run has"
        with pytest.raises(BatchError, match=said):
            if labelled:
                decode(sent, classes=10, contract="b" * 64)
            else:
                decode_unlabelled(sent, image_shape=shape, contract="b" * 64)

    def test_compressed_where_that_is_smaller(self) -> None:
        assert encode(IMAGES, LABELS).startswith(MAGIC)
        assert len(encode(IMAGES, LABELS)) < IMAGES.nbytes / 4
        noise = np.random.default_rng(0).integers(0, 256, (50, 1, 8, 8)).astype(np.uint8)
        assert len(encode(noise, LABELS)) <= len(packed(images=noise, labels=LABELS))

    @pytest.mark.parametrize(("photo", "png"), [("china.jpg", 0.9), ("flower.jpg", 1.06)])
    def test_photographs_against_png(self, photo: str, png: float) -> None:
        """Crops in one PNG file, the smallest that its encoder makes; the flower's are blurred."""
        pixels = load_sample_image(photo)
        corners = itertools.product(range(0, 380, 38), range(0, 600, 60))
        crops = [pixels[y : y + 32, x : x + 32] for y, x in corners]
        buffer = io.BytesIO()
        Image.fromarray(np.concatenate(crops)).save(buffer, "PNG", optimize=True)
        images = np.stack(crops).transpose(0, 3, 1, 2)
        labels = np.zeros(len(images), np.int64)
        sent = encode(images, labels)
        assert np.array_equal(decode(sent, classes=1).images, images)
        assert np.array_equal(
            decode_unlabelled(encode_unlabelled(images), image_shape=(3, 32, 32)), images
        )
        raw = zstandard.ZstdCompressor(level=9).compress(packed(images=images, labels=labels))
        assert len(sent) < png * buffer.tell()
        assert len(sent) < 0.8 * len(raw)

    def test_drawings_are_smaller_than_as_differences(self) -> None:
        digits = (load_digits().images[:300, None] * 15).astype(np.uint8)
        labels = np.zeros(300, np.int64)
        coded = packed(differences=differences(digits), labels=labels)
        sent = encode(digits, labels)
        assert len(sent) < 0.9 * len(zstandard.ZstdCompressor(level=3).compress(coded))
        assert np.array_equal(decode(coded, classes=1).images, digits)

    @pytest.mark.parametrize("count", [100, 500])
    def test_the_size_of_an_image_is_known_before_it_is_drawn(self, count: int) -> None:
        digits = (load_digits().images[:count, None] * 15).astype(np.uint8)
        pixels = load_sample_image("flower.jpg")[:320, :640]
        photographs = pixels.reshape(10, 32, 20, 32, 3).transpose(0, 2, 4, 1, 3)
        for images in (digits, photographs.reshape(-1, 3, 32, 32)[:count]):
            labels = np.zeros(len(images), np.int64)
            _, *shape = images.shape
            expected = packed_bytes((shape[0], shape[1], shape[2]))
            assert 0.5 < len(encode(images, labels)) / len(images) / expected < 1.5

    def test_an_image_that_is_not_contiguous(self) -> None:
        images = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4, 3).transpose(0, 3, 1, 2)
        batch = decode(encode(images, LABELS[:2]), classes=10)
        assert np.array_equal(batch.images, images)


class TestRefusals:
    @pytest.mark.parametrize(
        ("data", "says"),
        [
            (b"", "not safetensors"),
            (b"not a batch", "not safetensors"),
            (packed(images=IMAGES), "must hold 'images' and 'labels'"),
            (packed(images=IMAGES, labels=LABELS, x=LABELS), "must hold"),
            (packed(images=IMAGES, differences=IMAGES, labels=LABELS), "must hold"),
            (packed(differences=IMAGES), "must hold 'images' and 'labels'"),
            (packed(differences=IMAGES[:, 0], labels=LABELS), "differences .* must be uint8"),
            (packed(differences=IMAGES / 1.0, labels=LABELS), "differences float64"),
            (packed(images=IMAGES.astype(np.float32), labels=LABELS), "float32.*must be uint8"),
            (packed(images=IMAGES[:, 0], labels=LABELS), "must be uint8"),
            (packed(images=IMAGES[:, :0], labels=LABELS), "must be uint8"),
            (packed(images=IMAGES, labels=LABELS.astype(np.int32)), "int32.*must be int64"),
            (packed(images=IMAGES, labels=LABELS[:49]), r"must be int64 \(50,\)"),
            (packed(images=IMAGES, labels=LABELS + 1), "label 10; the classes are 0 to 9"),
            (packed(images=IMAGES, labels=LABELS - 1), "label -1"),
        ],
    )
    def test_content(self, data: bytes, says: str) -> None:
        with pytest.raises(BatchError, match=says):
            decode(data, classes=10)

    def test_another_image_shape(self) -> None:
        with pytest.raises(BatchError, match=r"\(1, 8, 8\), expected \(3, 32, 32\)"):
            decode(encode(IMAGES, LABELS), classes=10, image_shape=(3, 32, 32))
        assert len(decode(encode(IMAGES, LABELS), classes=10, image_shape=(1, 8, 8)).labels) == 50

    def test_wrong_arrays_are_not_sent(self) -> None:
        with pytest.raises(BatchError, match="must be int64"):
            encode(IMAGES, LABELS[1:])


class TestSize:
    def test_too_large_uncompressed(self) -> None:
        data = packed(images=IMAGES, labels=LABELS)
        with pytest.raises(BatchError, match="the limit is 1000"):
            decode(data, classes=10, max_bytes=1000)

    def test_a_small_file_that_unpacks_to_much(self) -> None:
        bomb = zstandard.ZstdCompressor().compress(bytes(50_000_000))
        assert len(bomb) < 10_000
        with pytest.raises(BatchError, match="50000000 bytes"):
            decode(bomb, classes=10, max_bytes=1_000_000)

    def test_a_frame_that_does_not_say_how_large_it_is(self) -> None:
        anonymous = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100))
        with pytest.raises(BatchError, match="does not say"):
            decode(anonymous, classes=10)

    def test_a_frame_that_lies_about_it(self) -> None:
        honest = bytearray(zstandard.ZstdCompressor().compress(bytes(200)))
        assert honest[5] == 200  # single segment: one byte of content size after the descriptor
        honest[5] = 100
        with pytest.raises(BatchError, match="damaged"):
            decode(bytes(honest), classes=10)

    def test_more_behind_the_frame(self) -> None:
        with pytest.raises(BatchError, match="damaged"):
            decode(encode(IMAGES, LABELS) + b"more", classes=10)


@settings(max_examples=300, deadline=None)
@given(
    where=st.integers(0, 10_000),
    value=st.integers(0, 255),
    cut=st.integers(0, 60),
    compressed=st.booleans(),
)
def test_damage_is_refused_or_harmless(where: int, value: int, cut: int, compressed: bool) -> None:
    """Whatever comes in: a usable batch, or BatchError; never another exception."""
    sent = bytearray(
        encode(IMAGES, LABELS, "from") if compressed else packed(images=IMAGES, labels=LABELS)
    )
    sent[where % len(sent)] = value
    try:
        batch = decode(bytes(sent[: len(sent) - cut]), classes=10)
    except BatchError:
        return
    assert batch.images.dtype == np.uint8
    assert batch.images.ndim == 4
    assert batch.labels.shape == batch.images.shape[:1]
    assert set(batch.labels.tolist()) <= set(range(10))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_anything_is_refused(data: bytes) -> None:
    with pytest.raises(BatchError):
        decode(data, classes=10)
    with pytest.raises(BatchError):
        decode(MAGIC + data, classes=10)


class TestWithoutLabels:
    images = np.arange(2 * 1 * 2 * 2, dtype=np.uint8).reshape(2, 1, 2, 2)

    def test_there_and_back_with_nothing_but_images(self) -> None:
        data = encode_unlabelled(self.images, "somewhere")
        np.testing.assert_array_equal(decode_unlabelled(data, image_shape=(1, 2, 2)), self.images)
        assert b"label" not in data

    def test_one_is_not_taken_for_the_other(self) -> None:
        with pytest.raises(BatchError, match=r"must hold 'images' and 'labels'"):
            decode(encode_unlabelled(self.images), classes=3)
        with pytest.raises(BatchError, match=r"must hold 'images'$"):
            decode_unlabelled(encode(self.images, np.zeros(2, np.int64)), image_shape=(1, 2, 2))

    def test_another_shape(self) -> None:
        with pytest.raises(BatchError, match="another data set"):
            decode_unlabelled(encode_unlabelled(self.images), image_shape=(3, 2, 2))
