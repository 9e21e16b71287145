from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fimi.optim.known_curve import (
    CurveError,
    CurveSubject,
    KnownCurve,
    built_in,
    built_in_curves,
    read_curve,
)
from fimi.optim.learning_curve import LearningCurve
from fimi.testbed.configuration.scenario import Scenario
from fimi.testbed.configuration.sections import Config

DEFAULT = Scenario(config=Config()).subject
names = st.sampled_from(["digits", "cifar-10", "mine:images", "image-folder"])
subjects = st.builds(
    CurveSubject,
    dataset=names,
    data_digest=st.sampled_from(["a" * 64, "b" * 64]),
    image_shape=st.tuples(st.sampled_from([1, 3]), st.just(8), st.just(8)),
    classes=st.sampled_from([3, 10]),
    network=st.sampled_from(["small-cnn", "vgg-9"]),
    training=st.fixed_dictionaries({"batch_size": st.sampled_from([10, 20])}),
)


class TestSubject:
    @given(subjects)
    def test_it_differs_from_itself_in_nothing(self, subject: CurveSubject) -> None:
        assert subject.differences(subject) == ()

    @given(subjects, subjects)
    def test_a_difference_is_one_from_both_sides(
        self, one: CurveSubject, other: CurveSubject
    ) -> None:
        assert bool(one.differences(other)) == bool(other.differences(one))

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"dataset": "gtsrb"}, "data.dataset gtsrb instead of digits"),
            ({"image_shape": (1, 16, 16)}, "images 1×16×16 instead of 1×8×8"),
            ({"network": "vgg-9"}, "training.model vgg-9 instead of small-cnn"),
            (
                {"training": {**DEFAULT.training, "learning_rate": 0.05}},
                "training.learning_rate 0.05 instead of 0.2",
            ),
        ],
    )
    def test_it_says_which_key(self, changes: dict[str, object], said: str) -> None:
        assert msgspec.structs.replace(DEFAULT, **changes).differences(DEFAULT) == (said,)

    def test_samples_count_where_a_name_says_nothing_of_them(self) -> None:
        own = msgspec.structs.replace(DEFAULT, dataset="image-folder")
        for subject, differs in ((DEFAULT, False), (own, True)):
            other = msgspec.structs.replace(subject, data_digest="0" * 64)
            assert bool(subject.differences(other)) == differs


class TestBuiltIn:
    def test_the_default_run_has_one(self) -> None:
        known = built_in(DEFAULT)
        assert known is not None
        split = Scenario(config=Config()).split
        assert known.public_digest == split.public.digest()
        assert known.validation_digest == split.validation.digest()
        assert (known.public_images, known.validation_images) == (575, 144)

    def test_another_run_has_none(self) -> None:
        assert built_in(msgspec.structs.replace(DEFAULT, network="vgg-9")) is None

    @pytest.mark.parametrize("known", built_in_curves())
    def test_each_says_where_it_comes_from(self, known: KnownCurve) -> None:
        subject = known.subject
        assert subject is not None and known.public_images is not None
        assert built_in(subject) == known
        assert known.amounts[-1] <= known.public_images
        for value, interval in (
            (known.curve.alpha, known.alpha),
            (known.curve.beta, known.beta),
            (known.curve.delta0, known.delta0),
        ):
            assert interval is not None and interval.low <= value <= interval.high
        for word in (subject.network, subject.dataset, known.made, f"{known.amounts[-1]} of"):
            assert word in known.provenance

    def test_it_says_where_it_is_extrapolated(self) -> None:
        known = built_in(DEFAULT)
        assert known is not None
        assert known.beyond(known.amounts[-1]) == ""
        assert "more than the 575" in known.beyond(known.amounts[-1] + 1)


class TestFile:
    def test_a_curve_comes_back_with_the_name_of_its_file(self, tmp_path: Path) -> None:
        known = built_in(DEFAULT)
        assert known is not None
        path = tmp_path / "curve.json"
        path.write_bytes(msgspec.json.encode(known))
        found = read_curve(path)
        assert (found.source, found.file) == ("file", str(path))
        assert (found.curve, found.subject) == (known.curve, known.subject)

    @pytest.mark.parametrize("body", [b"", b"{}", b'{"curve": 3}', b"\xff"])
    def test_other_files_are_refused(self, tmp_path: Path, body: bytes) -> None:
        path = tmp_path / "curve.json"
        with pytest.raises(CurveError, match="cannot be read"):
            read_curve(path)
        path.write_bytes(body)
        with pytest.raises(CurveError, match="no file of a learning curve"):
            read_curve(path)

    def test_one_without_a_provenance_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "curve.json"
        curve = LearningCurve(alpha=1.0, beta=1.0)
        path.write_bytes(msgspec.json.encode(KnownCurve(curve=curve, source="given")))
        with pytest.raises(CurveError, match="does not say what"):
            read_curve(path)
