"""Random values of any typed record, from the types alone: a new field is tried without a word."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect
from msgspec.structs import replace

from fimi.energy.cost_model import ComputeModel, ComputePoint, ComputeSetting
from fimi.energy.joules import Energy
from fimi.energy.ledger import PhaseRecord
from fimi.energy.phase_powers import PowerEquations
from fimi.messaging.messages.facts import Trial
from fimi.optim.learning_curve import LearningCurve

_LARGE = 1e12
_TEXT = st.text(max_size=8)


@cache
def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a type that it would accept itself."""
    return _OWN[kind]() if kind in _OWN else _of(inspect.type_info(kind))


def structs(kind: type, **given: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Values of a struct, some fields by strategies of their own."""
    fields = {
        f.name: _of(f.type)
        for f in inspect.type_info(kind).fields
        if f.name not in given  # type: ignore[attr-defined]
    }
    return st.builds(kind, **fields, **given)


def _of(info: inspect.Type) -> st.SearchStrategy[Any]:
    match info:
        case inspect.StructType():
            return values(info.cls) if info.cls in _OWN else structs(info.cls)
        case inspect.UnionType():
            return st.one_of(*map(_of, info.types))
        case inspect.NoneType():
            return st.none()
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType():
            low, high = (-(2**40) if info.ge is None else info.ge), info.le or 2**40
            return st.integers(low, high)
        case inspect.FloatType():
            low = next((each for each in (info.ge, info.gt) if each is not None), -_LARGE)
            high = next((each for each in (info.le, info.lt) if each is not None), _LARGE)
            return st.floats(
                low,
                high,
                exclude_min=info.gt is not None,
                exclude_max=info.lt is not None,
                allow_subnormal=False,
            )
        case inspect.StrType():
            return st.from_regex(info.pattern, fullmatch=True) if info.pattern else _TEXT
        case inspect.BytesType():
            return st.binary(max_size=8)
        case inspect.LiteralType():
            return st.sampled_from(info.values)
        case inspect.VarTupleType():
            return st.lists(_of(info.item_type), max_size=4).map(tuple)
        case inspect.TupleType():
            return st.tuples(*map(_of, info.item_types))
        case inspect.DictType():
            return st.dictionaries(_of(info.key_type), _of(info.value_type), max_size=3)
        case inspect.AnyType():
            return st.one_of(st.none(), st.booleans(), st.integers(0, 9), _TEXT, st.lists(_TEXT))
    raise NotImplementedError(f"no random values of {info}")


def _energies(least_j: float = -_LARGE) -> st.SearchStrategy[Energy]:
    some = structs(
        Energy,
        value_j=st.floats(least_j, _LARGE),
        uncertainty_j=st.floats(0.0, _LARGE),
        common_j=st.none(),
    )
    shares = st.none() | st.floats(0.0, 1.0)
    return st.builds(
        lambda energy, share: replace(
            energy, common_j=None if share is None else share * energy.uncertainty_j
        ),
        some,
        shares,
    )


@st.composite
def _equations(draw: st.DrawFn) -> PowerEquations:
    columns = tuple(draw(st.lists(_TEXT, max_size=3)))
    count = len(columns)
    numbers = st.floats(-_LARGE, _LARGE)

    def some(size: int) -> tuple[float, ...]:
        return tuple(draw(st.lists(numbers, min_size=size, max_size=size)))

    products = count * (count + 1) // 2
    shifted = [some(products + count) for _ in range(2)] if draw(st.booleans()) else [(), ()]
    return PowerEquations(
        columns=columns,
        gram=some(products),
        moments=some(count),
        readings=draw(st.integers(0, 2**40)),
        earlier=shifted[0],
        later=shifted[1],
    )


def _phase_records() -> st.SearchStrategy[PhaseRecord]:
    joules = st.none() | _energies(0.0)
    return structs(PhaseRecord, energy=joules, cpu=joules, second=joules)


@st.composite
def _compute_models(draw: st.DrawFn) -> ComputeModel:
    low, high = sorted(draw(st.lists(st.floats(1e6, 1e10), min_size=2, max_size=2)))
    hertz = sorted(draw(st.sets(st.floats(low, high), max_size=4)))
    limits = {"frequency_min_hz": st.just(low), "frequency_max_hz": st.just(high)}
    steps = st.sampled_from([(), tuple(hertz)])
    points = tuple(
        draw(
            structs(
                ComputePoint,
                name=st.just(f"point {place}"),
                seconds_per_sample=st.floats(1e-6, 1e3),
                power_w=st.floats(0.0, 1e3),
                setting=st.just(ComputeSetting(cores=place + 1)),
            )
        )
        for place in range(draw(st.integers(0, 4)))
    )
    model: ComputeModel = draw(
        structs(ComputeModel, frequency_steps_hz=steps, points=st.just(points), **limits)
    )
    return model


@st.composite
def _trials(draw: st.DrawFn) -> Trial:
    """One that ran, or one that says why it did not."""
    trial: Trial = draw(structs(Trial, metered=st.none()))
    if trial.accuracy is None:
        return Trial(variant=trial.variant, error=trial.error)
    return msgspec.structs.replace(trial, metered=draw(st.none() | _phase_records()))


def _learning_curves() -> st.SearchStrategy[LearningCurve]:
    size = st.floats(1e-30, _LARGE)
    return structs(LearningCurve, alpha=size, beta=st.floats(0.01, 10.0), delta0=size)


_OWN: dict[Any, Any] = {
    Energy: _energies,
    PowerEquations: _equations,
    PhaseRecord: _phase_records,
    ComputeModel: _compute_models,
    LearningCurve: _learning_curves,
    Trial: _trials,
}
