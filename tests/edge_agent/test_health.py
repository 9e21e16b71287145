"""A number that is none: named, taken out, and never a message that nobody understands."""

from __future__ import annotations

import math
from typing import Any, get_args

import msgspec
import pytest
import random_values
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fimi.edge_agent.health import sound
from fimi.energy.hardware import Observation
from fimi.energy.joules import Energy
from fimi.energy.ledger import PhaseRecord
from fimi.messaging.messages.facts import FactBody, Profile, Refusal, RoundReport, RoundSettled

DEVICE = "device-07"
NONE_AT_ALL = (math.nan, math.inf, -math.inf)
_decode = msgspec.json.Decoder[Any](FactBody).decode


def floats_in(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The places of all floats of a value: written again, beside the code that is tested."""
    if isinstance(value, float):
        return [path]
    if isinstance(value, msgspec.Struct):
        parts = [(name, getattr(value, name)) for name in value.__struct_fields__]
    elif isinstance(value, tuple):
        parts = list(enumerate(value))
    elif isinstance(value, dict):
        parts = list(value.items())
    else:
        return []
    return [found for name, part in parts for found in floats_in(part, (*path, name))]


def with_value(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    if not path:
        return new
    name, rest = path[0], path[1:]
    if isinstance(value, msgspec.Struct):
        return replace(value, **{str(name): with_value(getattr(value, str(name)), rest, new)})
    if isinstance(value, tuple):
        at = int(name)
        return (*value[:at], with_value(value[at], rest, new), *value[at + 1 :])
    return {**value, name: with_value(value[name], rest, new)}


def dotted(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{n}]" if isinstance(n, int) else f".{n}" for n in path)[1:]


def joules_of(fact: Any) -> list[Energy]:
    """The finite joules of a fact's phases, of the whole board."""
    phases = [each for each in getattr(fact, "phases", ()) if each.energy is not None]
    phases += [t.metered for t in getattr(fact, "trials", ()) if t.metered and t.metered.energy]
    return [p.energy for p in phases if not any_none_at_all(p.energy)]


def any_none_at_all(value: Any) -> bool:
    return any(not math.isfinite(_at(value, path)) for path in floats_in(value))


def _at(value: Any, path: tuple[str | int, ...]) -> Any:
    for name in path:
        value = getattr(value, str(name)) if isinstance(value, msgspec.Struct) else value[name]
    return value


def said_by(fact: Any) -> str:
    trials = "".join(trial.error for trial in getattr(fact, "trials", ()))
    return str(getattr(fact, "error", "") or getattr(fact, "reason", "") or trials)


@pytest.mark.parametrize("kind", get_args(FactBody))
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_wherever_it_stands_it_is_named_and_the_rest_is_kept(
    kind: type[Any], data: st.DataObject
) -> None:
    fact = replace(data.draw(random_values.values(kind)), device=DEVICE)
    assert sound(fact) is fact
    places = floats_in(fact)
    if not places:
        return
    chosen = data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=3, unique=True))
    broken = fact
    for place in chosen:
        try:
            broken = with_value(broken, place, data.draw(st.sampled_from(NONE_AT_ALL)))
        except ValueError:  # its type refuses it: no device can have made it
            return
    found = sound(broken)
    wire = _decode(msgspec.json.encode(found))
    assert wire == found, "it arrives as it is"
    assert not any_none_at_all(found)
    assert found.device == DEVICE
    if said := said_by(found):
        assert any(dotted(place) in said for place in chosen)
    else:  # of a fact that cannot tell of a failure, what may be unknown was left out
        assert kind.__name__ in ("UpdateReady", "DeploymentReport")
    if not isinstance(found, Refusal):
        lost = [each for each in joules_of(broken) if each not in joules_of(found)]
        assert not lost


RECORD = PhaseRecord(
    phase="compute",
    start_s=1.0,
    duration_s=2.0,
    energy=Energy(value_j=8.0, kind="measured", source="ina", scope="board", uncertainty_j=0.1),
    sample_count=9,
    largest_gap_s=0.3,
)
REPORT = RoundReport(
    run="r",
    device=DEVICE,
    round=3,
    local_samples=4,
    synthetic_samples=0,
    training_loss=0.5,
    training_accuracy=0.5,
    frequency_hz=1e9,
    busy_s=2.0,
    phases=(replace(RECORD, phase="model-download"), RECORD),
)


class TestReport:
    def test_a_phase_that_cannot_be_without_it_goes(self) -> None:
        """Its joules are unknown, so nothing of them is lost."""
        bare = replace(RECORD, energy=None)
        found = sound(replace(REPORT, phases=(RECORD, replace(bare, start_s=math.nan))))
        assert isinstance(found, RoundReport)
        assert found.phases == (RECORD,)
        assert found.error == f"{DEVICE} reports what is no number: phases[1].start_s is nan"
        assert (found.training_loss, found.busy_s) == (0.5, 2.0)

    def test_joules_that_are_numbers_stay(self) -> None:
        found = sound(replace(REPORT, phases=(RECORD, replace(RECORD, largest_gap_s=math.inf))))
        assert isinstance(found, RoundReport)
        assert found.phases == (RECORD, replace(RECORD, largest_gap_s=RECORD.duration_s))

    def test_busy_time_is_that_of_its_phases(self) -> None:
        found = sound(replace(REPORT, busy_s=math.inf))
        assert isinstance(found, RoundReport)
        assert found.busy_s == 4.0
        assert "busy_s is inf" in found.error

    def test_a_value_outside_its_limits_is_named_as_well(self) -> None:
        """A thermal zone that reads 2,730 °C cost the report: it was "not one of ours"."""
        found = sound(replace(REPORT, observed=Observation(temperature_c=2730.0, cap_hz=1e9)))
        assert isinstance(found, RoundReport)
        assert found.observed == Observation(cap_hz=1e9)
        assert "observed.temperature_c is 2730.0" in found.error

    def test_a_failure_stays_what_it_was_as_well(self) -> None:
        found = sound(replace(REPORT, error="broken off: asked to stop", busy_s=math.nan))
        assert isinstance(found, RoundReport)
        assert found.error.startswith("broken off: asked to stop; device-07 reports")

    def test_many_are_counted(self) -> None:
        found = sound(replace(REPORT, phases=(replace(RECORD, start_s=math.nan),) * 10))
        assert isinstance(found, RoundReport)
        assert found.error.endswith("; and 7 more")


def test_an_idle_phase_that_is_none() -> None:
    settled = RoundSettled(
        run="r", device=DEVICE, round=1, phases=(replace(RECORD, duration_s=math.nan),)
    )
    found = sound(settled)
    assert isinstance(found, RoundSettled)
    assert found.phases[0].energy == RECORD.energy
    assert "phases[0].duration_s is nan" in found.error


def test_a_board_whose_parameters_are_none_refuses_to_take_part() -> None:
    profile = random_values.values(Profile)

    @settings(max_examples=5, deadline=None)
    @given(profile)
    def refused(drawn: Profile) -> None:
        board = replace(drawn.board, idle_power_w=math.nan)
        found = sound(replace(drawn, device=DEVICE, board=board))
        assert isinstance(found, Refusal)
        assert "board.idle_power_w is nan" in found.reason

    refused()
