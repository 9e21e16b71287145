"""fimi.generator_node.generators.base: what every generator refuses."""

from __future__ import annotations

import numpy as np
import pytest

from fimi.generator_node.generators.base import (
    Provenance,
    WrongDataError,
    check_order,
    require_trained_on,
)
from fimi.learning.data.dataset import Dataset


def ids(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def seeds(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.uint64)


def made_from(dataset: Dataset) -> Provenance:
    return Provenance(
        generator="test",
        dataset=dataset.name,
        data_digest=dataset.digest(),
        weights_digest="0" * 64,
        libraries={},
    )


class TestCheckOrder:
    def test_what_is_right(self) -> None:
        check_order(ids(0, 9, 0), seeds(3), 10)
        check_order(ids(), seeds(0), 10)

    @pytest.mark.parametrize(
        ("class_ids", "count", "says"),
        [
            (ids(0, 10), 2, "class id 10 is unknown; the classes are 0 to 9"),
            (ids(-1, 3), 2, "class id -1 is unknown"),
            (ids(1, 2), 3, "every image has a seed of its own"),
            (ids(1, 2)[None], 2, "must be one-dimensional"),
        ],
    )
    def test_what_is_not(self, class_ids: np.ndarray, count: int, says: str) -> None:
        with pytest.raises(ValueError, match=says):
            check_order(class_ids, seeds(count), 10)


class TestRequireTrainedOn:
    def test_the_public_part_itself(self, small_public: Dataset) -> None:
        require_trained_on(made_from(small_public), small_public)

    def test_anything_else_and_how_to_train_the_right_one(
        self, small_public: Dataset, parts
    ) -> None:
        with pytest.raises(WrongDataError, match="fimi generator train") as caught:
            require_trained_on(made_from(small_public), parts.public)
        assert parts.public.digest()[:12] in str(caught.value)
        assert small_public.digest()[:12] in str(caught.value)
