"""What devices train on, as their coordinator knows it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from run_contract import of
from scripted import MODEL

from fimi.coordinator.dealt import DealtData, SamplesUnknownError
from fimi.coordinator.enrolment import Terms
from fimi.coordinator.update_store import UpdateStore
from fimi.learning.data import batches
from fimi.learning.data.dataset import Dataset
from fimi.learning.training.trainer import TrainingCancelled
from fimi.messaging.errors import TransferCancelled, TransferError
from fimi.messaging.messages.basis import Offer

DATA = Dataset(
    name="three",
    images=np.arange(24, dtype=np.uint8).reshape(6, 1, 2, 2),
    labels=np.array([0, 1, 2, 0, 1, 2]),
    class_names=("a", "b", "c"),
)
CONTRACT = of(DATA)
MADE = batches.encode(DATA.images[:2], DATA.labels[:2], contract=CONTRACT.digest)
BARE = batches.encode_unlabelled(DATA.images[:3], contract=CONTRACT.digest)


class Sure:
    """Is sure of the first two images, which are of classes 2 and 1, and not of the third."""

    def predict(self, model: Any, images: Any) -> Any:
        return np.array([[0, 0, 9], [0, 9, 0], [1, 1, 1]], np.float32)[: len(images)]


class Line:
    """A connection over which batches come, or do not."""

    def __init__(self, answer: Callable[[], bytes]) -> None:
        self.answer, self.asked = answer, 0
        self.waits: list[float] = []

    def fetch(self, offer: Offer, timeout_s: float, *, cancelled: Callable[[], bool]) -> bytes:
        self.asked += 1
        return self.answer()


def failing(error: Exception) -> Callable[[], bytes]:
    def fail() -> bytes:
        raise error

    return fail


def offer(payload: bytes, digest: str = "a") -> Offer:
    return Offer(holder="generator", digest=64 * digest, size_bytes=len(payload), media="")


def dealt(
    folder: Path,
    line: Line,
    batch: Offer | None = None,
    *,
    unlabelled: int = 0,
    top_ups: tuple[Offer, ...] = (),
    use: float = 1.0,
    generators: tuple[str, ...] = ("generator",),
    own: bool = False,
) -> DealtData:
    plan = SimpleNamespace(
        batch=batch,
        unlabelled=unlabelled,
        confidence_min=0.9,
        synthetic_counts=(1,) * 10,
        top_ups=tuple(SimpleNamespace(batch=more) for more in top_ups),
        synthetic_use=use,
    )
    registry = SimpleNamespace(generators=generators)
    return DealtData(
        SimpleNamespace(  # type: ignore[arg-type]
            registry=registry,
            peer=SimpleNamespace(transfers=line),
            inbox=SimpleNamespace(wait=lambda done, seconds: line.waits.append(seconds)),
        ),
        Terms(
            contract=CONTRACT,
            way="file" if own else "indices",
            share=lambda index: b"",
            samples=None if own else lambda index: DATA.subset(np.array([index]), "own"),
        ),
        SimpleNamespace(indices={"x": 4}),  # type: ignore[arg-type]
        SimpleNamespace(devices={"x": plan}, members={"x": None}),  # type: ignore[arg-type]
        Sure(),  # type: ignore[arg-type]
        UpdateStore(folder),
        lambda: False,
    )


def test_a_share_is_that_of_the_devices_index(tmp_path: Path) -> None:
    held = dealt(tmp_path, Line(lambda: MADE))
    assert held.devices == ("x",)
    assert held.local("x").labels.tolist() == [1]
    np.testing.assert_array_equal(held.local("x").images, DATA.images[4:5])
    assert held.synthetic("x", MODEL) is None


def test_of_samples_of_their_own_nothing_is_known(tmp_path: Path) -> None:
    assert dealt(tmp_path, Line(lambda: MADE), own=True).devices == ()


def test_a_batch_is_pulled_once(tmp_path: Path) -> None:
    line = Line(lambda: MADE)
    held = dealt(tmp_path, line, offer(MADE))
    for _ in range(2):
        made = held.synthetic("x", MODEL)
        assert made is not None
        assert made.labels.tolist() == [0, 1]
        np.testing.assert_array_equal(made.images, DATA.images[:2])
    assert line.asked == 1


def test_what_was_fetched_later_is_there_too_and_of_all_only_what_is_used(tmp_path: Path) -> None:
    more = batches.encode(DATA.images[2:6], DATA.labels[2:6], contract=CONTRACT.digest)
    payloads = iter([MADE, more])
    line = Line(lambda: next(payloads))
    held = dealt(tmp_path, line, offer(MADE), top_ups=(offer(more, "b"),), use=0.5)
    made = held.synthetic("x", MODEL)
    assert made is not None
    assert made.labels.tolist() == [0, 1, 2]  # the first one of two of each class
    np.testing.assert_array_equal(made.images, DATA.images[:3])
    assert dealt(tmp_path, Line(lambda: MADE), offer(MADE), use=0.0).synthetic("x", MODEL) is None


def test_unlabelled_images_get_the_labels_that_the_device_gives_them(tmp_path: Path) -> None:
    held = dealt(tmp_path, Line(lambda: BARE), offer(BARE), unlabelled=3)
    made = held.synthetic("x", MODEL)
    assert made is not None
    assert made.labels.tolist() == [2, 1]
    np.testing.assert_array_equal(made.images, DATA.images[:2])


def test_a_node_that_is_away_is_waited_for_once_and_not_long(tmp_path: Path) -> None:
    line = Line(lambda: MADE)
    held = dealt(tmp_path, line, offer(MADE), generators=())
    with pytest.raises(SamplesUnknownError, match="generator is away"):
        held.synthetic("x", MODEL)
    assert line.asked == 0
    assert 9.0 <= sum(line.waits) <= 10.0
    line.waits.clear()
    with pytest.raises(SamplesUnknownError, match="generator is away"):
        held.synthetic("x", MODEL)
    assert line.waits == []


def test_a_node_that_has_just_come_offers_its_batches_a_little_later(tmp_path: Path) -> None:
    def made() -> bytes:
        if line.asked < 3:
            raise TransferError("is not offered")
        return MADE

    line = Line(made)
    found = dealt(tmp_path, line, offer(MADE)).synthetic("x", MODEL)
    assert found is not None
    assert (line.asked, len(line.waits)) == (3, 2)


def test_top_ups_without_a_first_batch(tmp_path: Path) -> None:
    first = dealt(tmp_path, Line(lambda: MADE), offer(MADE)).synthetic("x", MODEL)
    later = dealt(tmp_path, Line(lambda: MADE), None, top_ups=(offer(MADE),)).synthetic("x", MODEL)
    assert first is not None
    assert later is not None
    assert np.array_equal(first.images, later.images)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (TransferError("not complete after 120 s"), SamplesUnknownError),
        (TransferCancelled("cancelled"), TrainingCancelled),
    ],
)
def test_a_batch_that_does_not_come(
    tmp_path: Path, error: Exception, raised: type[Exception]
) -> None:
    with pytest.raises(raised):
        dealt(tmp_path, Line(failing(error)), offer(MADE)).synthetic("x", MODEL)
