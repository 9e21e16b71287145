"""A random record, written and read back, is equal."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, get_args

import msgspec
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from random_values import structs, values

from fimi.energy.cost_model import BoardModel
from fimi.learning.data.partition_summary import LabelSkew
from fimi.learning.training.classifier import FileCheck
from fimi.messaging.messages.facts import Profile, Trial
from fimi.messaging.messages.orders import DevicePlan
from fimi.optim.plans import Plan
from fimi.record import schema
from fimi.record.description import StoreTable
from fimi.record.events import Credited, Event, Logged
from fimi.record.insight import DeviceInsight, Insight
from fimi.record.prediction import Residual
from fimi.record.reader import open_store, read_run
from fimi.record.record import Enrolment, Labels, PlanSummary, RunInfo
from fimi.record.results import Deployment, DeviceRound, LateUpdate, Preparation, RoundResult
from fimi.record.store import RunStore

NAMES = st.text(min_size=1, max_size=6)
MANY = settings(
    max_examples=60,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking whole runs takes minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def several(kind: Any, key: str, **fields: Any) -> st.SearchStrategy[tuple[Any, ...]]:
    """Values that differ in a field, in its order."""
    return st.lists(structs(kind, **fields), max_size=3, unique_by=lambda v: getattr(v, key)).map(
        lambda found: tuple(sorted(found, key=lambda v: getattr(v, key)))
    )


def rounds() -> st.SearchStrategy[tuple[RoundResult, ...]]:
    devices = several(DeviceRound, "device", device=NAMES)
    late = several(LateUpdate, "of_round")
    found = several(RoundResult, "number", number=st.integers(1, 2**40), devices=devices, late=late)
    return found.map(
        lambda results: tuple(
            replace(
                result,
                late=tuple(replace(u, device=f"{result.number} {u.device}") for u in result.late),
            )
            for result in results
        )
    )


def preparations() -> st.SearchStrategy[tuple[Preparation, ...]]:
    return several(Preparation, "device", device=NAMES).map(
        lambda found: tuple(
            p for p in found if p.phases or p.predicted or p.transfers or p.evidence
        )
    )


def insights() -> st.SearchStrategy[tuple[Insight, ...]]:
    return several(
        Insight,
        "round",
        round=st.integers(1, 2**40),
        devices=several(DeviceInsight, "device", device=NAMES),
    )


def deployments() -> st.SearchStrategy[tuple[Deployment, ...]]:
    trials = values(Trial).map(lambda trial: (trial,))
    files = st.sampled_from([("fp32",), ("fp32", "int8")]).flatmap(
        lambda variants: st.tuples(*(structs(FileCheck, variant=st.just(v)) for v in variants))
    )
    return several(
        Deployment,
        "round",
        round=st.integers(1, 2**40),
        files=files,
        trials=st.dictionaries(NAMES, trials, max_size=3),
        silent=st.sets(NAMES, max_size=2).map(lambda names: tuple(sorted(names))),
    ).map(lambda found: tuple(d for d in found if not set(d.silent) & set(d.trials)))


def by_device(kind: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(NAMES, values(kind), max_size=3)


def as_made(deployment: Deployment) -> Deployment:
    """What is read of a deployment: a device that was silent has trials that say so."""
    trials = {
        **deployment.trials,
        **{
            device: tuple(
                Trial(variant=file.variant, error="did not answer") for file in deployment.files
            )
            for device in deployment.silent
        },
    }
    there = {device: found for device, found in trials.items() if found}
    return msgspec.structs.replace(deployment, trials=there, silent=())


@MANY
@given(data=st.data())
def test_a_record_comes_back_as_it_was(data: st.DataObject) -> None:
    info = data.draw(values(RunInfo))
    before, results = data.draw(preparations()), data.draw(rounds())
    residuals = {r.number: data.draw(values(tuple[Residual, ...])) for r in results}
    profiles, shares = data.draw(by_device(Profile)), data.draw(by_device(DevicePlan))
    enrolled = data.draw(several(Enrolment, "device", device=NAMES))
    parts = data.draw(st.dictionaries(st.text(max_size=4), st.binary(max_size=9), max_size=3))
    plans = data.draw(st.lists(values(Plan), min_size=bool(shares), max_size=2))
    refits = data.draw(st.dictionaries(st.integers(1, 99), by_device(BoardModel), max_size=2))
    labels = data.draw(st.dictionaries(NAMES, by_device(Labels), max_size=2))
    exports, seen = data.draw(deployments()), data.draw(insights())
    with tempfile.TemporaryDirectory() as folder:
        store = RunStore(Path(folder) / "run.sqlite")
        store.describe(info)
        for device, profile in profiles.items():
            store.write_profile(device, profile)
        store.write_enrolments(enrolled)
        store.write_checkpoint(parts)
        info = store.info  # with the time that it took so far
        for plan in plans:
            store.write_plan(plan)
        store.write_device_plans(shares)
        for preparation in before:
            store.write_preparation(preparation)
        for result in results:
            store.write_round(result, residuals[result.number])
        for number, boards in refits.items():
            store.write_refit(number, boards, {})
        for stage, skews in labels.items():
            store.write_labels(skews, {stage: as_skew(skews)})
        for export in exports:
            store.write_deployment(export)
        for insight in seen:
            store.write_insight(insight)
        assert store.read_checkpoint() == parts
        store.close()
        run = read_run(Path(folder))
        with open_store(Path(folder)) as (_, db):
            fitted = list(schema.REFIT.rows(db))
    assert run.warnings == ()
    assert run.info == info
    assert run.profiles == profiles
    assert run.confirmed == {
        d: profile.contract for d, profile in profiles.items() if profile.contract
    }
    assert sorted(run.enrolments, key=lambda e: e.device) == list(enrolled)
    assert run.plan == (summary(plans[-1]) if plans else None)
    assert run.device_plans == shares
    assert run.preparations == before
    assert run.rounds == results
    assert run.residuals == tuple(each for found in residuals.values() for each in found)
    assert run.refits == tuple(sorted(number for number, boards in refits.items() if boards))
    assert {(n, d): msgspec.json.decode(b, type=BoardModel) for (n, d, _), (b,) in fitted} == {
        (number, device): board
        for number, boards in refits.items()
        for device, board in boards.items()
    }
    assert run.labels == {stage: skews for stage, skews in labels.items() if skews}
    assert run.made == tuple(map(as_made, exports))
    assert run.insights == seen


def summary(plan: Plan) -> PlanSummary:
    """What is read of a plan."""
    return msgspec.convert(msgspec.to_builtins(plan), PlanSummary)


def as_skew(devices: dict[str, Labels]) -> LabelSkew:
    """Labels of devices as they are summarised."""
    return LabelSkew(
        counts=tuple(each.counts for each in devices.values()),
        samples=tuple(sum(each.counts) for each in devices.values()),
        emd=tuple(each.emd for each in devices.values()),
        entropy_bits=tuple(each.entropy_bits for each in devices.values()),
        mean_emd=None,
    )


@MANY
@given(events=st.lists(st.one_of(*(values(kind) for kind in get_args(Logged))), max_size=5))
def test_the_log_comes_back_as_it_was(events: list[Event]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = RunStore(Path(folder) / "run.sqlite")
        for event in events:
            store.write_event(event)
        store.close()
        with open_store(Path(folder)) as (_, db):
            bodies = db.execute("SELECT body FROM event ORDER BY id").fetchall()
    read = [msgspec.json.decode(body, type=Logged) for (body,) in bodies]
    assert read == [without_tables(event) for event in events]


def without_tables(event: Event) -> Event:
    """An event without what has a table of its own."""
    return msgspec.structs.replace(event, entry=None) if isinstance(event, Credited) else event


def test_every_column_of_every_table_is_reached() -> None:
    """Fields that no column holds are those that have tables of their own."""
    elsewhere = {
        "round": {"devices", "server", "evaluation", "late"},
        "device_round": {
            "phases",
            "predicted",
            "transfers",
            "evidence",
            "observed",
            "trained_at",
        },
        "insight": {"devices"},
    }

    def held(table: StoreTable[Any]) -> set[str]:
        return {column.path[0] for column in table.columns if column.path}

    for table in schema.TABLES:
        if table is schema.EVENT or not held(table):
            continue
        fields = set(table.of.__struct_fields__)
        missing = fields - held(table) - elsewhere.get(table.name, set())
        assert missing == set(), table.name
