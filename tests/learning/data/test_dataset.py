"""fimi.learning.data.dataset: four disjoint parts, and digests that tell data apart."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fimi.learning.data import dataset as datasets
from fimi.learning.data.dataset import Dataset, DatasetError, SplitKind, load_digits, split

DIGITS = load_digits()


def numbered(count: int) -> Dataset:
    """Images that can be told apart: the pixels are the sample's number."""
    pixels = np.stack([np.arange(count) // 256, np.arange(count) % 256], axis=1)
    return Dataset(
        name="numbered",
        images=pixels.astype(np.uint8).reshape(count, 1, 1, 2),
        labels=np.arange(count, dtype=np.int64) % 3,
        class_names=("a", "b", "c"),
    )


def numbers(dataset: Dataset) -> list[int]:
    pixels = dataset.images.reshape(len(dataset), 2).astype(int)
    return [int(high) * 256 + int(low) for high, low in pixels]


class TestDigits:
    def test_what_they_are(self) -> None:
        assert len(DIGITS) == 1797
        assert DIGITS.image_shape == (1, 8, 8)
        assert DIGITS.images.dtype == np.uint8
        assert DIGITS.labels.dtype == np.int64
        assert DIGITS.class_names == tuple("0123456789")
        # scikit-learn 1.9: np.bincount(load_digits().target)
        assert DIGITS.label_counts() == (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)

    def test_seventeen_grey_levels(self) -> None:
        levels = np.unique(DIGITS.images)
        assert len(levels) == 17
        assert (levels[0], levels[-1]) == (0, 255)


class TestSplit:
    @settings(max_examples=60, deadline=None)
    @given(
        count=st.integers(3, 400),
        kind=st.sampled_from(["writers", "random"]),
        public=st.floats(0.01, 0.98),
        test=st.floats(0.01, 0.98),
        seed=st.integers(0, 2**40),
    )
    def test_every_sample_is_in_exactly_one_part(
        self, count: int, kind: SplitKind, public: float, test: float, seed: int
    ) -> None:
        whole = numbered(count)
        try:
            parts = split(whole, kind=kind, public_fraction=public, test_fraction=test, seed=seed)
        except ValueError:
            sizes = round(public * count), round(test * count)
            assert min(sizes[0] - 1, sizes[1], count - sum(sizes)) < 1
            return
        found = [
            numbers(part) for part in (parts.public, parts.validation, parts.private, parts.test)
        ]
        assert all(part == sorted(part) and part for part in found)
        assert sorted(number for part in found for number in part) == list(range(count))
        assert len(parts.public) + len(parts.validation) == round(public * count)
        assert len(parts.validation) == max(1, round(0.2 * round(public * count)))

    def test_writers_take_the_first_whatever_the_seed(self) -> None:
        """The shipped generator was trained on this part: it must not depend on the run's seed."""
        first, other = split(DIGITS, seed=0), split(DIGITS, seed=41)
        assert first.public.digest() == other.public.digest()
        assert np.array_equal(first.public.images, DIGITS.images[:575])
        assert np.array_equal(first.validation.images, DIGITS.images[575:719])
        assert first.test.digest() != other.test.digest()

    def test_random_depends_on_the_seed(self) -> None:
        first, again, other = (split(DIGITS, kind="random", seed=s) for s in (0, 0, 1))
        assert first.public.digest() == again.public.digest()
        assert first.public.digest() != other.public.digest()

    def test_names(self) -> None:
        parts = split(DIGITS)
        assert parts.public.name == "digits/public"
        assert parts.validation.name == "digits/validation"
        assert parts.private.name == "digits/private"
        assert parts.test.name == "digits/test"

    @pytest.mark.parametrize(("public", "test"), [(0.8, 0.2), (0.0, 0.2), (0.4, 0.0), (-0.1, 0.5)])
    def test_no_empty_part(self, public: float, test: float) -> None:
        with pytest.raises(ValueError, match="each part needs at least one sample"):
            split(DIGITS, public_fraction=public, test_fraction=test)

    def test_unknown_kind(self) -> None:
        with pytest.raises(ValueError, match="unknown split 'writer'"):
            split(DIGITS, kind="writer")  # type: ignore[arg-type]


def _all_public(whole: Dataset, parts: datasets.Split) -> Dataset:
    """The public samples, those for validation included."""
    assert parts.public.origin is not None
    assert parts.validation.origin is not None
    return whole.subset(
        np.sort(np.concatenate([parts.public.origin, parts.validation.origin])), "public"
    )


def labelled(counts: list[int], seed: int) -> Dataset:
    """So many samples of each class, in random order, which can be told apart."""
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    return replace(
        numbered(len(labels)),
        labels=labels.astype(np.int64),
        class_names=tuple(f"c{n}" for n in range(len(counts))),
    )


def plain_parts(
    whole: Dataset, kind: SplitKind, sizes: tuple[int, int], seed: int, *, own_test: bool
) -> list[list[int]]:
    """Public, private and test samples as they are drawn without regard to class."""
    generator = np.random.default_rng((seed, 0x5EED))
    order = generator.permutation(len(whole)) if kind == "random" else np.arange(len(whole))
    public, rest = order[: sizes[0]], generator.permutation(order[sizes[0] :])
    drawn = 0 if own_test else sizes[1]
    return [sorted(part.tolist()) for part in (public, rest[drawn:], rest[:drawn])]


class TestEveryClass:
    @settings(max_examples=400, deadline=None)
    @given(
        counts=st.lists(st.integers(0, 9), min_size=2, max_size=7),
        kind=st.sampled_from(["writers", "random"]),
        public=st.floats(0.05, 0.9),
        test=st.floats(0.05, 0.9),
        own_test=st.booleans(),
        seed=st.integers(0, 50),
    )
    def test_of_three_samples_every_part_has_one_and_nothing_else_is_changed(
        self, counts: list[int], kind: SplitKind, public: float, test: float, own_test: bool,
        seed: int,
    ) -> None:  # fmt: skip
        whole = labelled(counts, seed)
        sizes = round(public * len(whole)), round(test * len(whole))
        drawn = 0 if own_test else sizes[1]
        if min(sizes[0] - 1, 1 if own_test else drawn, len(whole) - sizes[0] - drawn) < 1:
            return
        own = labelled([1] * len(counts), 0) if own_test else None
        parts = split(
            whole, kind=kind, public_fraction=public, test_fraction=test, seed=seed, test=own
        )
        found = [_all_public(whole, parts), parts.private] + ([] if own_test else [parts.test])
        before = plain_parts(whole, kind, sizes, seed, own_test=own_test)
        needed = len(found)
        tellable = [numbers(part) for part in found]
        assert sorted(n for part in tellable for n in part) == list(range(len(whole)))
        assert [len(part) for part in tellable] == [len(part) for part in before[:needed]]
        lacks = [
            {k for k, n in enumerate(counts) if n >= needed} - set(whole.labels[part].tolist())
            for part in before[:needed]
        ]
        if not any(lacks):
            assert tellable == before[:needed]
            return
        if all(len(part) >= len(counts) for part in found):
            for part in found:
                assert all(
                    there
                    for there, n in zip(part.label_counts(), counts, strict=True)
                    if n >= needed
                )

    @pytest.mark.parametrize("seed", range(40))
    def test_a_class_with_4_of_604_images(self, seed: int) -> None:
        whole = labelled([200, 200, 200, 4], 7)
        parts = split(whole, kind="random", seed=seed)
        datasets.check_classes(parts)
        sizes = (len(parts.public), len(parts.validation), len(parts.private), len(parts.test))
        assert sizes == (194, 48, 241, 121)

    @pytest.mark.parametrize("kind", ["writers", "random"])
    def test_three_of_a_class_at_the_very_end(self, kind: SplitKind) -> None:
        whole = replace(
            numbered(300), labels=np.array([0, 1] * 148 + [0] + [2] * 3), class_names=tuple("abc")
        )
        publics = set()
        for seed in range(20):
            parts = split(whole, kind=kind, seed=seed)
            datasets.check_classes(parts)
            publics.add(parts.public.digest())
        # of the first writers' samples one is exchanged, and always the same
        assert len(publics) == (1 if kind == "writers" else 20)
        if kind == "writers":
            assert numbers(_all_public(whole, parts)) == [*range(119), 297]

    def test_what_works_today_is_drawn_as_before(self) -> None:
        for kind, seed in itertools.product(("writers", "random"), range(5)):
            parts = split(DIGITS, kind=kind, seed=seed)  # type: ignore[arg-type]
            before = plain_parts(DIGITS, kind, (719, 359), seed, own_test=False)  # type: ignore[arg-type]
            for part, indices in zip(
                (_all_public(DIGITS, parts), parts.private, parts.test), before, strict=True
            ):
                assert part.digest() == DIGITS.subset(np.array(indices), "").digest()

    def test_two_samples_are_too_few_and_said_so(self) -> None:
        parts = split(labelled([50, 50, 2], 0), kind="random", seed=0)
        with pytest.raises(
            DatasetError, match="too few samples of c2 for one in each of the three"
        ):
            datasets.check_classes(parts)

    def test_a_part_without_room_for_every_class(self) -> None:
        parts = split(labelled([20] * 10, 0), kind="random", public_fraction=0.02, seed=0)
        with pytest.raises(
            DatasetError, match=r"the public part .3 samples.*another fraction, so tha"
        ):
            datasets.check_classes(parts)


class TestLimit:
    def test_least_of_each_class(self) -> None:
        whole = labelled([300, 4, 2], 0)
        assert datasets.limited(whole, 30, seed=0, least=3).label_counts() == (25, 3, 2)
        assert datasets.limited(whole, 30, seed=0).label_counts() == (28, 1, 1)
        assert datasets.limited(whole, 4, seed=0, least=3).label_counts() == (2, 1, 1)

    @given(st.lists(st.integers(30, 90), min_size=2, max_size=5), st.integers(0, 5))
    def test_where_there_was_enough_it_is_the_same(self, counts: list[int], seed: int) -> None:
        whole = labelled(counts, seed)
        plain = datasets.limited(whole, 25, seed=seed)
        if min(plain.label_counts()) >= 3:
            assert datasets.limited(whole, 25, seed=seed, least=3).digest() == plain.digest()

    @settings(max_examples=60)
    @given(
        counts=st.lists(st.integers(0, 40), min_size=2, max_size=6).filter(lambda c: sum(c) > 6),
        most=st.integers(6, 120),
        seed=st.integers(0, 3),
    )
    def test_every_class_keeps_its_share(self, counts: list[int], most: int, seed: int) -> None:
        labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
        whole = Dataset(
            name="some",
            images=np.arange(len(labels), dtype=np.uint8)[:, None, None, None],
            labels=labels,
            class_names=tuple(map(str, range(len(counts)))),
        )
        part = datasets.limited(whole, most, seed=seed)
        assert len(part) == min(most, len(whole))
        first = part.images[:, 0, 0, 0].astype(int)
        assert (np.diff(first) > 0).all()  # in their order, none twice
        for had, kept in zip(counts, part.label_counts(), strict=True):
            assert bool(had) == bool(kept)
            share = had * len(part) / len(whole)
            assert kept <= had
            # off by rounding, and by what classes take that would have none
            assert abs(kept - share) <= 1 + len(counts)

    def test_no_limit_and_one_beyond(self) -> None:
        assert datasets.limited(DIGITS, 0, seed=0) is DIGITS
        assert datasets.limited(DIGITS, 1797, seed=0) is DIGITS

    def test_the_seed_decides(self) -> None:
        one, again, other = (datasets.limited(DIGITS, 200, seed=n).digest() for n in (1, 1, 2))
        assert one == again != other

    def test_fewer_than_classes(self) -> None:
        with pytest.raises(DatasetError, match=r"digits: 9 samples cannot hold.*raise data\.limit"):
            datasets.limited(DIGITS, 9, seed=0)


class TestOwnTestPart:
    def test_nothing_else_is_held_out(self) -> None:
        whole = numbered(20)
        own = whole.subset(np.arange(4), "numbered/test")
        parts = split(whole, kind="random", public_fraction=0.25, test_fraction=0.9, test=own)
        assert parts.test is own
        assert (len(parts.public), len(parts.validation), len(parts.private)) == (4, 1, 15)
        found = numbers(_all_public(whole, parts)) + numbers(parts.private)
        assert sorted(found) == list(range(20))

    def test_it_must_not_be_empty(self) -> None:
        whole = numbered(20)
        with pytest.raises(ValueError, match="15 private, 0 test"):
            split(whole, public_fraction=0.25, test=whole.subset(np.arange(0), "t"))


class TestClasses:
    def test_all_there(self) -> None:
        datasets.check_classes(split(DIGITS))

    @pytest.mark.parametrize("part", ["public", "private", "test"])
    def test_the_part_and_the_class_are_named(self, part: str) -> None:
        parts = split(DIGITS)
        whole: Dataset = getattr(parts, part)
        lacking = whole.subset(np.flatnonzero(whole.labels != 7), "lacking")
        assert datasets.missing_classes(lacking) == ("7",)
        with pytest.raises(
            datasets.DatasetError, match=rf"the {part} part .* none of class 7: 1 o"
        ):
            datasets.check_classes(replace(parts, **{part: lacking}))


class TestDigest:
    def test_depends_on_everything_but_the_name(self) -> None:
        whole = numbered(6)

        def changed(**fields: object) -> str:
            given = {name: getattr(whole, name) for name in whole.__struct_fields__}
            return Dataset(**{**given, **fields}).digest()  # type: ignore[arg-type]

        images, labels = whole.images.copy(), whole.labels.copy()
        images[3, 0, 0, 1] += 1
        labels[2] = 0
        assert changed(name="other") == whole.digest()
        assert changed(images=images) != whole.digest()
        assert changed(labels=labels) != whole.digest()
        assert changed(images=whole.images.reshape(6, 2, 1, 1)) != whole.digest()
        assert changed(class_names=("a", "b", "d")) != whole.digest()

    def test_of_the_shipped_generators_data(self) -> None:
        """Golden value: if it changes, the shipped weights are refused and must be retrained."""
        assert split(DIGITS).public.digest().startswith("d00ff1a8557fd4b2")


def test_subset_and_counts() -> None:
    part = numbered(9).subset(np.array([8, 0, 3]), "part")
    assert numbers(part) == [8, 0, 3]
    assert part.name == "part"
    assert part.label_counts() == (2, 0, 1)
    assert part.classes == 3


class TestOrigin:
    """Every sample of a part knows which of the whole data set it is."""

    @settings(max_examples=40)
    @given(
        count=st.integers(20, 600),
        most=st.integers(0, 600),
        kind=st.sampled_from(["writers", "random"]),
        seed=st.integers(0, 5),
        own_test=st.booleans(),
    )
    def test_of_all_parts(
        self, count: int, most: int, kind: SplitKind, seed: int, own_test: bool
    ) -> None:
        whole = numbered(count)
        limited = datasets.limited(whole, max(most, 20), seed=seed)
        test = numbered(9) if own_test else None
        parts = split(limited, kind=kind, seed=seed, test=test)
        drawn = [parts.public, parts.validation, parts.private]
        for part in drawn if own_test else [*drawn, parts.test]:
            assert part.origin is not None
            assert part.origin.tolist() == numbers(part)
            again = whole.subset(part.origin, "again")
            assert again.digest() == part.digest()
            few = part.subset(np.arange(0, len(part), 3), "few")
            assert few.origin is not None
            assert few.origin.tolist() == numbers(few)

    def test_a_whole_data_set_has_none(self) -> None:
        assert numbered(9).origin is None
