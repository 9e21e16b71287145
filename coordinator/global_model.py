"""The global model: what is in force, how good it is, and where a later process finds it.

* :class:`GlobalModel`     the model in force; a new one takes its place where it is usable
* :class:`Judgement`       how good the model is, and why a new one was of no use
* :class:`ModelKeeper`     keeps it on the disk; :class:`ForgetfulKeeper` keeps nothing
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from fimi.learning.data.dataset import Dataset
from fimi.learning.training import tensors
from fimi.learning.training.aggregation import Model, is_finite
from fimi.learning.training.trainer import Evaluation, Trainer


class ModelKeeper(Protocol):
    """Keeps the global model where a later process finds it."""

    def propose(self, model: Model) -> str:
        """Write a model beside the current one, on the disk; returns its SHA-256."""

    def accept(self) -> None:
        """The model that was proposed last is the current one."""


class ForgetfulKeeper:
    """Keeps no model."""

    def propose(self, model: Model) -> str:
        """Nothing but the digest."""
        return tensors.digest(tensors.dump(model))

    def accept(self) -> None:
        """Nothing."""


class Judgement(NamedTuple):
    """How good the global model is after a round.

    Attributes:
        evaluation: on held-out data.
        validation: on public samples that nobody trains on; ``None`` without such.
        kept: why the model before stays in force; ``None`` where the new one is.
    """

    evaluation: Evaluation
    validation: Evaluation | None
    kept: str | None


class GlobalModel:
    """The global model of a run.

    Args:
        model: parameters to start from.
        trainer: evaluates it.
        test: held-out data.
        validation: public samples that nobody trains on; ``None`` for none.

    Attributes:
        current: the model in force; one that is being judged is in force meanwhile.
    """

    def __init__(
        self, model: Model, trainer: Trainer, test: Dataset, validation: Dataset | None
    ) -> None:
        self.current = model
        self._trainer = trainer
        self._test = test
        self._validation = validation

    def take(self, model: Model) -> Judgement:
        """Judge a new model, which is in force from then on unless it is unusable."""
        before, self.current = self.current, model
        kept = None if is_finite(model) else "the model that came of it is not finite"
        if kept is None:
            evaluation, validation = self._evaluated()
            judged = [evaluation, *([] if validation is None else [validation])]
            if any(each.loss is None for each in judged):
                kept = "the loss of the model that came of it is not finite"
        if kept is not None:
            self.current = before
            evaluation, validation = self._evaluated()
        return Judgement(evaluation, validation, kept)

    def _evaluated(self) -> tuple[Evaluation, Evaluation | None]:
        """The model in force on both parts of the data."""
        return self._judge(self._test), (
            None if self._validation is None else self._judge(self._validation)
        )

    def _judge(self, data: Dataset) -> Evaluation:
        """How good it is on a part of the data."""
        return self._trainer.evaluate(self.current, data.images, data.labels)
