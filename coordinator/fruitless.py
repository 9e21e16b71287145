"""Rounds of which nothing came, and when they end a run.

* :func:`require_a_new_model`  after each round: some of the last ones gave a usable model
* :func:`require_an_update`    after the last one: the model was trained at all
"""

from __future__ import annotations

from collections.abc import Sequence

from fimi.coordinator.context import FederationError
from fimi.plural import plural
from fimi.record.results import RoundResult

KEPT_MOST = 3
"""After so many rounds in a row without a usable model a run ends."""


def require_a_new_model(results: Sequence[RoundResult]) -> None:
    """Make sure that not each of the last rounds has kept the model before it.

    Raises:
        FederationError: so many rounds in a row gave no usable model.
    """
    last = results[-KEPT_MOST:]
    if len(last) == KEPT_MOST and all(each.model_kept is not None for each in last):
        result = last[-1]
        raise FederationError(
            f"{plural(KEPT_MOST, 'round')} in a row gave no usable model; of round "
            f"{result.number}: {result.model_kept}. The model is that of round "
            f"{result.number - KEPT_MOST}",
            code="R010",
        )


def require_an_update(results: Sequence[RoundResult]) -> None:
    """Make sure that the model was trained.

    Raises:
        FederationError: no update was accepted in any round, or no round gave a usable model.
    """
    if results and all(each.model_kept is not None for each in results):
        raise FederationError(
            f"not one usable model came of {plural(len(results), 'round')}; of the last one: "
            f"{results[-1].model_kept}",
            code="R010",
        )
    devices = [device for each in results for device in each.participants]
    late = any(each.late for each in results)
    if devices and not late and not any(device.status == "accepted" for device in devices):
        last = devices[-1]
        raise FederationError(
            f"not one update was accepted in {plural(len(results), 'round')}; the last of "
            f"{last.device}: {last.status}{': ' + last.reason if last.reason else ''}",
            code="R010",
        )
