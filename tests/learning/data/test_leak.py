"""fimi.learning.data.leak: by hashes the same is found as by comparison of all pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from msgspec.structs import replace
from run_contract import DIGITS as CONTRACT

from fimi.learning.data import leak
from fimi.learning.data.dataset import Dataset, DatasetError, Images, Split, load_digits, split
from fimi.learning.data.leak import LeakError, Overlap
from fimi.learning.data.packing import pack
from fimi.learning.data.partition_schemes import Dealing, divide

SALT = "0123456789abcdef"
FEW = hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.just(1), st.just(1), st.just(2)),
                 elements=st.integers(0, 2))  # fmt: skip
"""Images of nine kinds, so that many of them are equal."""


def parts(public: Images, validation: Images, private: Images, test: Images) -> Split:
    made = [
        Dataset(name="x", images=i, labels=np.zeros(len(i), np.int64), class_names=("a",))
        for i in (public, validation, private, test)
    ]
    return Split(public=made[0], validation=made[1], private=made[2], test=made[3], kind="random")


def all_public(split: Split) -> Images:
    """The public images, those for validation included."""
    return np.concatenate([split.validation.images, split.public.images])


def brute(own: Images, test: Images, public: Images) -> Overlap:
    """By comparison of every image with every other, pixel by pixel."""

    def among(others: Images) -> list[bool]:
        return [any((image == other).all() for other in others) for image in own]

    in_test, in_public = among(test), among(public)
    return Overlap(
        samples=len(own),
        test=sum(in_test),
        public=sum(in_public),
        either=sum(a or b for a, b in zip(in_test, in_public, strict=True)),
    )


def through_the_wire(split: Split, salt: str = SALT) -> leak.HeldOut:
    return leak.decode(leak.encode(leak.held_out(split, salt), CONTRACT), CONTRACT)


class TestOverlap:
    @given(own=FEW, test=FEW, public=FEW, validation=FEW)
    def test_is_what_comparison_of_all_pixels_finds(
        self, own: Images, test: Images, public: Images, validation: Images
    ) -> None:
        whole = parts(public, validation, own, test)
        truth = brute(own, test, all_public(whole))
        assert leak.overlap(leak.image_hashes(own, SALT), through_the_wire(whole)) == truth

    def test_agents_of_seed_0_and_a_coordinator_of_seed_5(self) -> None:
        digits = load_digits()
        held, run = split(digits, seed=0), split(digits, seed=5)
        dealing = Dealing(devices=10, seed=0, min_samples=5, alpha=0.05)
        shares = [
            held.private.subset(part, "share")
            for part in divide("dirichlet", held.private.labels, dealing)
        ]
        truth = [brute(s.images, run.test.images, all_public(run)) for s in shares]
        assert (sum(each.test for each in truth), len(run.test)) == (243, 359)
        known = through_the_wire(run)
        found = [leak.overlap(leak.image_hashes(s.images, SALT), known) for s in shares]
        assert found == truth
        for share in shares:
            with pytest.raises(LeakError, match="are held out by the coordinator"):
                leak.check(leak.image_hashes(share.images, SALT), known, CONTRACT)


class TestCheck:
    OWN = np.arange(8, dtype=np.uint8).reshape(8, 1, 1, 1)
    KNOWN = through_the_wire(parts(OWN[:1], OWN[5:6], OWN, OWN[1:3]))

    def test_what_is_declared_may_be(self) -> None:
        own = leak.image_hashes(self.OWN, SALT)
        just = replace(CONTRACT, overlap_max=4 / 8)
        assert leak.check(own, self.KNOWN, just) == Overlap(samples=8, test=2, public=2, either=4)

    def test_more_than_that_is_refused_with_its_numbers(self) -> None:
        own = leak.image_hashes(self.OWN, SALT)
        with pytest.raises(LeakError) as caught:
            leak.check(own, self.KNOWN, replace(CONTRACT, overlap_max=0.49))
        assert "4 of 8 images of this device are held out" in str(caught.value)
        assert "(2 are test images, 2 public images): 50 %" in str(caught.value)
        assert "the contract allows 49 %" in str(caught.value)

    def test_a_validation_image_is_a_public_one(self) -> None:
        only = leak.image_hashes(self.OWN[5:6], SALT)
        with pytest.raises(LeakError, match=r"1 of 1 .* \(0 are test images, 1 public images\)"):
            leak.check(only, self.KNOWN, CONTRACT)

    def test_no_image_without_a_salt(self) -> None:
        """Whoever compares hashes of two runs finds nothing in common."""
        one, other = (leak.image_hashes(self.OWN, salt) for salt in (SALT, "f" * 16))
        assert not np.isin(one, other).any()


class TestNatural:
    @given(
        public=FEW,
        validation=FEW,
        private=FEW,
        test=FEW,
        devices=st.integers(1, 4),
        data=st.data(),
    )
    def test_is_what_its_own_division_just_passes_with(
        self,
        public: Images,
        validation: Images,
        private: Images,
        test: Images,
        devices: int,
        data: st.DataObject,
    ) -> None:
        whole = parts(public, validation, private, test)
        order = np.array(data.draw(st.permutations(range(len(private)))), np.intp)
        held = [np.sort(part) for part in np.array_split(order, devices) if len(part)]
        share = leak.natural(whole, held)
        found = [brute(private[each], test, all_public(whole)) for each in held]
        assert share == max(each.either / each.samples for each in found)
        for each in held:  # computed by the device, to the last digit
            own = leak.image_hashes(private[each], SALT)
            leak.check(own, through_the_wire(whole), replace(CONTRACT, overlap_max=share))

    def test_the_digits_have_no_image_twice(self) -> None:
        digits = split(load_digits())
        assert leak.natural(digits, [np.arange(len(digits.private))]) == 0.0


class TestFingerprint:
    @given(one=FEW, other=FEW, data=st.data())
    def test_says_whether_the_images_are_the_same(
        self, one: Images, other: Images, data: st.DataObject
    ) -> None:
        order = data.draw(st.permutations(range(len(one))))
        prints = [
            leak.fingerprint(leak.image_hashes(images, SALT)) for images in (one, one[order], other)
        ]
        assert prints[0] == prints[1]
        same = sorted(map(bytes, one)) == sorted(map(bytes, other))
        assert (prints[0] == prints[2]) == same

    def test_two_devices_with_one_file(self) -> None:
        others = {"device-01": "a" * 64, "device-02": "b" * 64}
        leak.require_own_data("device-03", "c" * 64, others)
        leak.require_own_data("device-02", "b" * 64, others)  # it comes again
        with pytest.raises(LeakError, match="device-03 brings the same images as device-01"):
            leak.require_own_data("device-03", "a" * 64, others)


class TestBytes:
    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (b"", "is not safetensors"),
            (pack({}, {"contract": CONTRACT.digest}), r"holds \[\]"),
            (
                pack(
                    {"test": np.zeros(2, np.int64), "public": np.zeros(2, np.uint64)},
                    {"contract": CONTRACT.digest},
                ),
                "must hold test and public, uint64",
            ),
            (pack({}), "made under contract none"),
        ],
    )
    def test_what_is_refused(self, data: bytes, said: str) -> None:
        with pytest.raises(DatasetError, match=said):
            leak.decode(data, CONTRACT)

    def test_of_another_contract(self) -> None:
        sent = leak.encode(TestCheck.KNOWN, replace(CONTRACT, seed=5))
        with pytest.raises(DatasetError, match="belongs to another run"):
            leak.decode(sent, CONTRACT)

    def test_eight_bytes_an_image(self) -> None:
        digits = split(load_digits())
        sent = leak.encode(leak.held_out(digits, SALT), CONTRACT)
        images = len(digits.test) + len(digits.public) + len(digits.validation)
        assert 8 * images < len(sent) < 8 * images + 400
