"""fimi.learning.data.shares: lossless, and nothing received is trusted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from run_contract import DIGITS as CONTRACT

from fimi.learning.data import shares
from fimi.learning.data.contract import Contract
from fimi.learning.data.dataset import DatasetError, load_digits
from fimi.learning.data.packing import pack

DIGITS = load_digits()
OTHER = replace(CONTRACT, seed=5)


def steps(values: list[int], contract: Contract = CONTRACT, **kinds: type) -> bytes:
    kind = kinds.get("kind", np.uint32)
    return pack({"steps": np.array(values, kind)}, {"contract": contract.digest})


class TestIndices:
    @given(st.sets(st.integers(0, CONTRACT.samples - 1), min_size=1))
    def test_there_and_back(self, chosen: set[int]) -> None:
        indices = np.array(sorted(chosen), np.intp)
        sent = shares.encode_indices(indices, CONTRACT)
        assert shares.decode_indices(sent, CONTRACT).tolist() == sorted(chosen)
        assert sent == shares.encode_indices(indices.copy(), CONTRACT)

    def test_of_a_large_data_set_they_are_small(self) -> None:
        large = replace(CONTRACT, samples=50_000)
        chosen = np.sort(np.random.default_rng(0).permutation(50_000)[:5_000])
        sent = shares.encode_indices(chosen, large)
        assert len(sent) < 8_000  # of 40,000 as they are in memory
        assert (shares.decode_indices(sent, large) == chosen).all()

    @pytest.mark.parametrize("wrong", [[], [3, 3], [4, 3], [-1, 2], [0, CONTRACT.samples]])
    def test_what_is_no_share_is_not_sent(self, wrong: list[int]) -> None:
        with pytest.raises(ValueError, match="share of a device"):
            shares.encode_indices(np.array(wrong, np.intp), CONTRACT)

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (steps([]), "no samples"),
            (steps([0, 1]), "there is no sample -1"),
            (steps([1, 0]), "indices must ascend"),
            (steps([CONTRACT.samples + 1]), "there is no sample 1797; the data set has .* to 1796"),
            (steps([2**32 - 1] * 9), "there is no sample"),
            (steps([1], kind=np.int64), "steps alone, uint32"),
            (steps([1], OTHER), "made under contract .* another run"),
            (pack({"steps": np.ones(1, np.uint32)}), "made under contract none"),
            (pack({"x": np.ones(1)}, {"contract": CONTRACT.digest}), r"holds arrays \['x'\]"),
            (b"", "share is not safetensors"),
            (b"\x28\xb5\x2f\xfd", "compressed share"),
        ],
    )
    def test_what_is_refused(self, data: bytes, said: str) -> None:
        with pytest.raises(DatasetError, match=said):
            shares.decode_indices(data, CONTRACT)

    @given(st.data())
    def test_damage_is_noticed_or_harmless(self, data: st.DataObject) -> None:
        sent = bytearray(shares.encode_indices(np.arange(0, 900, 7), CONTRACT))
        place = data.draw(st.integers(0, len(sent) - 1))
        sent[place] ^= data.draw(st.integers(1, 255))
        try:
            got = shares.decode_indices(bytes(sent), CONTRACT)
        except DatasetError:
            return
        assert (np.diff(got) > 0).all()
        assert got[0] >= 0
        assert got[-1] < CONTRACT.samples


class TestSamples:
    SHARE = DIGITS.subset(np.arange(5, 300, 3), "share")

    def test_there_and_back(self) -> None:
        sent = shares.encode_samples(self.SHARE, CONTRACT)
        got = shares.decode_samples(sent, CONTRACT, "digits/device-1")
        assert got.digest() == self.SHARE.digest()
        assert got.name == "digits/device-1"

    def test_of_another_contract(self) -> None:
        sent = shares.encode_samples(self.SHARE, OTHER)
        with pytest.raises(DatasetError, match=r"made under contract .* another run"):
            shares.decode_samples(sent, CONTRACT, "x")

    def test_other_images(self) -> None:
        wide = replace(CONTRACT, image_shape=(3, 32, 32))
        with pytest.raises(DatasetError, match=r"expected \(3, 32, 32\)"):
            shares.decode_samples(shares.encode_samples(self.SHARE, wide), wide, "x")

    def test_too_large(self) -> None:
        sent = shares.encode_samples(self.SHARE, CONTRACT)
        with pytest.raises(DatasetError, match="the limit is 500 bytes"):
            shares.decode_samples(sent, CONTRACT, "x", max_bytes=500)

    def test_nothing(self) -> None:
        nothing = DIGITS.subset(np.arange(0), "nothing")
        with pytest.raises(DatasetError, match="no samples"):
            shares.decode_samples(shares.encode_samples(nothing, CONTRACT), CONTRACT, "x")


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=3), max_size=3),
    st.lists(st.lists(st.integers(0, 9), max_size=3), max_size=3),
)
def test_only_equal_partitions_have_one_digest(one: list[list[int]], two: list[list[int]]) -> None:
    first, second = (
        shares.partition_digest(np.array(part, np.intp) for part in lists) for lists in (one, two)
    )
    assert (first == second) == (one == two)
