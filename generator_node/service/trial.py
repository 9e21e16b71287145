"""The trial: whether a generator's images show their classes, before any of them is shipped.

The gate judges single images, and of anything some pass: a judge is sure of pure noise, too (mean
confidence 0.5 to 0.8 on the digits and on GTSRB), and among its features noise may lie as near to
public images as these to each other. What noise does not do is to depend on the class that was
ordered. So the trial counts, over first draws, for how many images the judge sees the ordered
class, and asks whether images that know nothing of their class would do as well (one-sided binomial
test). It ends as soon as they hardly would, after a dozen draws of a good generator; a generator
that has not succeeded after :func:`most` is of no use.

Chance is Σ_c s_c p_c for shares s_c of orders and p_c of what the judge sees, so that a generator
that draws the same class whatever is ordered is at chance too.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fimi.generator_node.service.gate import Gate
from fimi.learning.data.dataset import Labels
from fimi.learning.training.metrics import wilson

LEVEL = 0.001
"""Probability at which images without any class pass one look at them."""
_LEAST, _PER_CLASS = 200, 12
_PUBLIC_IMAGES = 1000


def most(classes: int) -> int:
    """Draws after which a generator must have succeeded; three times chance is then seen."""
    return max(_LEAST, _PER_CLASS * classes)


class ClassesSeen(Struct, frozen=True, kw_only=True):
    """What a judge saw: one count for each class.

    Attributes:
        ordered: draws by the class that was ordered.
        right: those of them that the judge takes for that class.
        taken: draws by the class that the judge takes them for.
    """

    ordered: tuple[int, ...]
    right: tuple[int, ...]
    taken: tuple[int, ...]

    @classmethod
    def of(cls, class_ids: Labels, taken: Labels, classes: int) -> ClassesSeen:
        """The counts of some images: ordered and seen classes, (N,) each."""
        return cls(
            ordered=_counts(class_ids, classes),
            right=_counts(class_ids[class_ids == taken], classes),
            taken=_counts(taken, classes),
        )

    def __add__(self, other: ClassesSeen) -> ClassesSeen:
        def both(one: tuple[int, ...], two: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(a + b for a, b in zip(one, two, strict=True))

        return ClassesSeen(
            ordered=both(self.ordered, other.ordered),
            right=both(self.right, other.right),
            taken=both(self.taken, other.taken),
        )

    @property
    def chance(self) -> float:
        """Share that is right where images do not depend on the class; of one class 1/K."""
        if np.count_nonzero(self.ordered) < 2:
            return 1 / len(self.ordered)
        return float(np.dot(self.ordered, self.taken)) / sum(self.ordered) ** 2

    @property
    def shows(self) -> bool:
        """Whether so many right ones are hardly chance."""
        return tail(sum(self.right), sum(self.ordered), self.chance) < LEVEL

    def __str__(self) -> str:
        right, of = sum(self.right), sum(self.ordered)
        low, high = wilson(right, of)
        return (
            f"{right} of {of} first images show their class to the judge "
            f"({right / of:.0%}, 95 % interval {low:.0%} to {high:.0%}; chance {self.chance:.0%}, "
            f"so many by chance with probability {tail(right, of, self.chance):.2g})"
        )


class GeneratorTrial:
    """The trial of one generator.

    Args:
        gate: has the judge, and the public images that it must know for a trial to be possible.
        seen: what was seen of it before.

    Attributes:
        seen: what was seen so far.
        result: ``"untried"`` where the judge knows not even public images.
    """

    def __init__(self, gate: Gate, seen: ClassesSeen | None = None) -> None:
        self._classes = gate.public.classes
        none = np.zeros(0, np.int64)
        self.seen = seen or ClassesSeen.of(none, none, self._classes)
        self.result: Literal["open", "useful", "useless", "untried"] = "open"
        some = np.random.default_rng(0).permutation(len(gate.public))[:_PUBLIC_IMAGES]
        taken = gate.judged_by.look(gate.public.images[some])[0].argmax(1)
        self.of_public = ClassesSeen.of(gate.public.labels[some], taken, self._classes)
        if not self.of_public.shows:
            self.result = "untried"
        self._decide()

    def add(self, class_ids: Labels, taken: Labels) -> None:
        """First draws: ordered and seen classes, (N,) each."""
        self.seen += ClassesSeen.of(class_ids, taken, self._classes)
        self._decide()

    def _decide(self) -> None:
        if self.result == "open" and sum(self.seen.ordered) > 0:
            if self.seen.shows:
                self.result = "useful"
            elif sum(self.seen.ordered) >= most(self._classes):
                self.result = "useless"


def tail(right: int, of: int, chance: float) -> float:
    """P(X ≥ right) of a binomial X of ``of`` draws."""
    if right <= 0 or chance >= 1:
        return 1.0
    if chance <= 0:
        return 0.0
    logs = (
        math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1)
        + k * math.log(chance) + (of - k) * math.log1p(-chance)
        for k in range(right, of + 1)
    )  # fmt: skip
    return min(1.0, math.fsum(map(math.exp, logs)))


def _counts(class_ids: NDArray[np.integer], classes: int) -> tuple[int, ...]:
    return tuple(np.bincount(class_ids, minlength=classes).tolist())
