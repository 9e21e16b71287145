"""fimi.testbed.tools.pilot: what federations tell of the rounds, and what they do not."""

from __future__ import annotations

import sys

import pytest

from fimi.optim.rounds_model import RoundsModel
from fimi.testbed.tools.pilot import Pilot, PilotError, fit, lines, scatter

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TRUE = RoundsModel(scale=0.7, sensitivity=9.0, epochs_exponent=0.6)
ACCURACIES = (0.7, 0.8, 0.9)


def pilot(epochs: int, error: float) -> Pilot:
    rounds = {a: round(TRUE.at(epochs).rounds(error, a)) for a in ACCURACIES}
    return Pilot(epochs=epochs, error=error, reached=rounds, best=0.9)


FOUND = [pilot(epochs, error) for epochs in (1, 4) for error in (0.1, 0.25)]


def test_the_model_behind_the_rounds_is_found_but_for_whole_rounds() -> None:
    model = fit(FOUND)
    assert model.scale == pytest.approx(TRUE.scale, rel=0.25)
    assert model.sensitivity == pytest.approx(TRUE.sensitivity, rel=0.15)
    assert model.epochs_exponent == pytest.approx(TRUE.epochs_exponent, rel=0.15)
    assert scatter(model, FOUND) < 0.2
    plan = tomllib.loads(lines(model))["plan"]
    assert plan["rounds_epochs_exponent"] == pytest.approx(model.epochs_exponent, rel=0.01)
    assert set(plan) == {"rounds_scale", "rounds_sensitivity", "rounds_epochs_exponent"}


def test_accuracies_that_never_rise_tell_nothing() -> None:
    flat = [Pilot(epochs=e, error=0.1, reached={}, best=0.113) for e in (2, 5)]
    with pytest.raises(PilotError, match=r"none of 2 federations .*best accuracy 11\.3 %"):
        fit(flat)
    with pytest.raises(PilotError, match="only those with 4 epochs"):
        fit([*flat, pilot(4, 0.1)])
    with pytest.raises(PilotError, match="two or more different learning errors"):
        fit([pilot(1, 0.1), pilot(4, 0.1)])
