"""The order of runs on boards."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fimi.testbed.configuration.sections import Config
from fimi.testbed.experiment.definition import LiveStudy
from fimi.testbed.experiment.engines.base import CommandLine, Task
from fimi.testbed.experiment.live.order import in_order

LABELS = ("tfl", "fimi", "genfl")
SEEDS = range(8)


def task(label: str, seed: int) -> Task:
    config = Config()
    return Task(
        name=f"{label}-seed{seed}",
        kind=label,
        command=lambda: CommandLine(arguments=()),
        log=Path("log"),
        config=replace(config, run=replace(config.run, seed=seed)),
    )


ALL = [task(label, seed) for label in LABELS for seed in SEEDS]


def names(tasks: list[Task]) -> list[str]:
    return [each.name for each in tasks]


@given(st.integers(0, 2**31 - 1))
def test_every_block_of_a_seed_holds_every_strategy_once(order_seed: int) -> None:
    ordered = in_order(ALL, LiveStudy(order_seed=order_seed))
    size = len(LABELS)
    for start in range(0, len(ordered), size):
        block = ordered[start : start + size]
        assert {each.kind for each in block} == set(LABELS)
        assert len({each.config.run.seed for each in block if each.config}) == 1
    assert Counter(names(ordered)) == Counter(names(ALL))


@given(st.sets(st.sampled_from(ALL), min_size=1), st.randoms())
def test_what_is_left_of_a_study_keeps_its_order(left: set[Task], shuffler) -> None:
    live = LiveStudy(order_seed=3)
    some = list(left)
    shuffler.shuffle(some)
    whole = names(in_order(ALL, live))
    assert names(in_order(some, live)) == [n for n in whole if n in set(names(some))]


def test_no_strategy_is_always_the_first_of_its_block() -> None:
    first = Counter()
    for order_seed in range(60):
        ordered = in_order(ALL, LiveStudy(order_seed=order_seed))
        first.update(each.kind for each in ordered[:: len(LABELS)])
    # 480 blocks, 160 expected of each with a standard deviation of 10
    assert all(abs(first[label] - 160) < 60 for label in LABELS)


def test_the_order_of_the_file_where_it_is_asked_for() -> None:
    assert in_order(ALL, LiveStudy(order="file")) == ALL
    assert names(in_order(ALL, LiveStudy())) != names(ALL)
