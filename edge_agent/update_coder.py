"""The device's side of codings: the model as it came, the update as it goes.

* :func:`model_of`     the model of a round
* :class:`UpdateCoder` codes updates, and keeps what top-k has left out of them

What is left out stands in memory until the run ends: an agent that is started again owes nothing
(docs/decisions/0093).
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from fimi.learning.training import coded, tensors
from fimi.learning.training.coded import Tensors
from fimi.learning.training.coding import Coded, relative_error
from fimi.learning.training.tensors import Parameters
from fimi.messaging.messages.orders import RoundClosed, RoundStart

_DRAWS = 0xC0DE
"""Sets the numbers drawn for rounding apart from those drawn for the order of batches."""


def model_of(start: RoundStart, payload: bytes) -> Tensors:
    """The model of a round, from its payload.

    Raises:
        UpdateRefusedError: the bytes are no model in the coding of the round.
    """
    if start.model_coding.is_plain:
        return tensors.load(payload)
    return coded.decode_model(payload, start.model_coding, start.model_bytes)


class _Pending(Struct, frozen=True):
    """What will be owed if the update of a round counts as sent."""

    start: RoundStart
    owed: Tensors
    sent: bool = False


class UpdateCoder:
    """Codes the updates of a device in one run.

    With top-k, e ← (p − c) is owed after an update, where p = ω_i − ω + e is what was to be said
    and c what was said of it (docs/model.md, (Q4)): what was not sent is owed. So it is as well
    where c enters the mean of a later round. A round whose update enters none leaves e as it was:
    its training is lost, as without a coding, and what was owed before still is.
    """

    def __init__(self) -> None:
        self._owed: Tensors = {}
        self._pending: _Pending | None = None

    @property
    def owed(self) -> Parameters:
        """e, what earlier updates have left out; empty for nothing."""
        return self._owed

    def code(
        self, start: RoundStart, device_index: int, model: Parameters, trained: Parameters
    ) -> tuple[bytes, Coded | None]:
        """An update as it is sent, and what its coding did; ``None`` where there is none.

        Args:
            start: the round.
            device_index: with the seed of the run and the round it determines what is drawn.
            model: as :func:`model_of` gives it; not used by ``"fp32"``.
            trained: the same after training.

        Raises:
            ValueError: a parameter is not finite.
        """
        coding = start.update_coding
        self._pending = None
        if coding.is_plain:
            return tensors.dump(trained), None
        exact = dict(trained)
        if coding.takes_difference:
            owed = self._owed if coding.kind == "top-k" and coding.feedback else {}
            exact = {
                name: value - model[name] + owed[name] if name in owed else value - model[name]
                for name, value in trained.items()
            }
        draws = np.random.default_rng([start.seed, device_index, start.round, _DRAWS])
        payload = coded.encode(exact, coding, draws)
        error = 0.0
        if coding.kind != "fp32":
            shapes = coded.shapes_of(exact)
            said = coded.decode(payload, coding, shapes)
            names = sorted(exact)  # so that the sum repeats to the last digit
            error = relative_error((said[n] for n in names), (exact[n] for n in names))
        if coding.kind == "top-k" and coding.feedback:
            left = {n: exact[n] - said[n] for n, shape in shapes.items() if len(shape) >= 2}
            self._pending = _Pending(start, left)
        raw = start.model_bytes or start.model.size_bytes
        return payload, Coded(
            coding=coding.words, raw_bytes=raw, coded_bytes=len(payload), error=error
        )

    def sent(self, number: int) -> None:
        """The coordinator has the update of a round."""
        if self._pending is not None and self._pending.start.round == number:
            self._pending = replace(self._pending, sent=True)

    def settle(self, closed: RoundClosed) -> None:
        """A round is closed: what its update left out is owed if that is, or may be, in a model.

        A device that was so late that another round was closed meanwhile is told nothing of its
        own.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        own = pending.start.round == closed.round
        late = closed.late if own else pending.start.late_rounds > 0
        if (own and closed.accepted) or (late and pending.sent):
            self._owed = pending.owed

    def clear(self) -> None:
        """The run is over."""
        self._owed, self._pending = {}, None
