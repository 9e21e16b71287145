"""The coordinator's side of codings: the model as it goes, updates as they come, and their sizes.

* :class:`RoundPayload`  the model of a round as devices are sent it, and their updates decoded
* :class:`Decoding`      how updates become models again
* :class:`PayloadSizes`  what a plan is made for

The coordinator keeps the model in single precision. A device changes the model that it was sent,
ω̂; that change is added to ω, so that what the coding of the model has lost is not lost for good
(docs/model.md, "Codings").
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from fimi.coordinator.settings import TransferSettings
from fimi.learning.training import coded, tensors
from fimi.learning.training.coded import Tensors
from fimi.learning.training.coding import Coded, Coding, relative_error
from fimi.learning.training.slices import HeldModel, Slices
from fimi.learning.training.tensors import Parameters
from fimi.record.results import RoundResult


class PayloadSizes(Struct, kw_only=True):
    """Sizes of the model and of an update as sent, bytes.

    They are exact for a coding whose size follows from the shapes. With Zstandard they are those of
    the first model, coded as the model and as an update, and after a round those of that round.

    Attributes:
        model_bytes: of the model.
        update_bytes: of an update.
        is_guess: whether they depend on the values.
    """

    model_bytes: int
    update_bytes: int
    is_guess: bool = False

    @staticmethod
    def plain(model_bytes: int) -> PayloadSizes:
        """Of a model that is sent as it is, both ways."""
        return PayloadSizes(model_bytes=model_bytes, update_bytes=model_bytes)

    @staticmethod
    def of(model: Parameters, transfer: TransferSettings) -> PayloadSizes:
        """Of the first model of a run."""
        return PayloadSizes(
            model_bytes=_size(model, transfer.of_model),
            update_bytes=_size(model, transfer.of_update),
            is_guess=transfer.compress,
        )

    def learn(self, result: RoundResult) -> None:
        """Take the sizes of a round over where they are a guess."""
        if not self.is_guess:
            return
        if result.model_coded is not None:
            self.model_bytes = result.model_coded.coded_bytes
        sent = [
            entry.coded.coded_bytes
            for entry in result.devices
            if entry.status == "accepted" and entry.coded is not None
        ]
        if sent:
            self.update_bytes = round(sum(sent) / len(sent))


def _size(model: Parameters, coding: Coding) -> int:
    """Size of a model in a coding; with Zstandard that of these very values."""
    if coding.is_plain:
        return len(tensors.dump(model))
    if coding.compress:
        return len(coded.encode(model, coding, np.random.default_rng(0)))
    return coded.size_bytes(coded.shapes_of(model), coding)


class Decoding(Struct, frozen=True):
    """How the updates of a run become models again.

    To what an update holds a *base* is added: ω, the model of its round, where it is a change, and
    ω − ω̂, what the coding of that model has lost, where it is a whole model.

    Attributes:
        update: the coding of updates.
        has_base: whether there is anything to add.
    """

    update: Coding
    has_base: bool

    @staticmethod
    def of(transfer: TransferSettings) -> Decoding:
        """With these codings of models and updates."""
        of_update = transfer.of_update
        return Decoding(of_update, of_update.takes_difference or transfer.of_model.kind != "fp32")

    @property
    def is_needed(self) -> bool:
        """Whether updates are anything else than the models that devices have trained."""
        return not self.update.is_plain or self.has_base

    def plain(self, update: bytes, like: Parameters, base: Slices | None) -> Tensors:
        """An update as a model in single precision, checked.

        Args:
            update: any bytes.
            like: a model with its names and shapes.
            base: what is to be added, where there is such a thing.

        Raises:
            UpdateRefusedError: the bytes are no update of this model in the coding asked for.
        """
        if self.update.is_plain:
            found = tensors.load(update, like=like)
        else:
            found = coded.decode(update, self.update, coded.shapes_of(like))
        if base is not None:
            coded.add(found, base)
        tensors.check(found, like)
        return found


class RoundPayload:
    """The model of a round as sent, and the updates of devices in terms of it.

    Args:
        model: ω, the global model.
        transfer: the codings.

    Attributes:
        of_model: the coding of the model.
        of_update: the coding of updates.
        data: the model as sent.
        model_bytes: its size in single precision.
        coded: what its coding did; ``None`` where it is sent as it is.
        base: what is added to a decoded update; ``None`` for nothing.

    Raises:
        ValueError: the model is to be coded, and a parameter is not finite.
    """

    def __init__(self, model: Parameters, transfer: TransferSettings) -> None:
        self.of_model, self.of_update = transfer.of_model, transfer.of_update
        self.data = tensors.dump(model)
        self.model_bytes = len(self.data)
        self.coded: Coded | None = None
        self._model = model
        self._decoding = Decoding.of(transfer)
        self.base = model if self.of_update.takes_difference else None
        if self.of_model.is_plain:
            return
        self.data = b""
        self.data = coded.encode(model, self.of_model)
        error = 0.0
        if self.of_model.kind != "fp32":
            sent = coded.decode(self.data, self.of_model, coded.shapes_of(model))
            error = relative_error((sent[name] for name in model), model.values())
            if not self.of_update.takes_difference:
                self.base = {name: tensor - sent[name] for name, tensor in model.items()}
        self.coded = Coded(
            coding=self.of_model.words,
            raw_bytes=self.model_bytes,
            coded_bytes=len(self.data),
            error=error,
        )

    @property
    def decodes(self) -> bool:
        """Whether updates are anything else than the models that devices have trained."""
        return self._decoding.is_needed

    def plain(self, update: bytes) -> Tensors:
        """An update as a model in single precision, ω + (ω_i − ω̂), checked.

        Raises:
            UpdateRefusedError: the bytes are no update of this model in the coding asked for.
        """
        base = None if self.base is None else HeldModel(self.base)
        return self._decoding.plain(update, self._model, base)
