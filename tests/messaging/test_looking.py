"""Whether somebody looks: for how long, told how often, whoever reads."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest

from fimi.messaging.looking import AGAIN_S, LEASE_S, READS_S, Looking, Onlookers


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def told(reads_s: Iterable[float]) -> list[float]:
    """At which of these times devices are told."""
    clock = Clock()
    looks, found = Onlookers(clock), []
    for at_s in reads_s:
        clock.now_s = at_s
        if looks.read():
            found.append(at_s)
    return found


@pytest.mark.parametrize("every_s", [0.1, 1.0, READS_S])
def test_a_viewer_is_told_of_before_the_lease_ends(every_s: float) -> None:
    reads_s = [k * every_s for k in range(int(60.0 / every_s))]
    found = told(reads_s)
    assert found[0] == reads_s[1]  # at the second read
    gaps_s = [b - a for a, b in itertools.pairwise(found)]
    assert all(AGAIN_S - 1e-6 < gap_s < AGAIN_S + every_s + 1e-6 for gap_s in gaps_s)
    assert max(gaps_s) < LEASE_S
    assert len(found) <= 60.0 / AGAIN_S + 1


@pytest.mark.parametrize("every_s", [READS_S + 0.01, 15.0, 60.0])
def test_who_reads_seldom_does_not_look(every_s: float) -> None:
    assert told(k * every_s for k in range(50)) == []


def test_several_who_read_seldom_are_no_viewer_together() -> None:
    clock = Clock()
    looks = Onlookers(clock)
    for at_s, reader in ((0.0, "metrics"), (1.0, ""), (2.0, "otlp"), (15.0, "metrics"), (16.0, "")):
        clock.now_s = at_s
        assert not looks.read(reader)
    clock.now_s = 17.0
    assert looks.read()


def test_reading_once_is_not_looking() -> None:
    assert told([5.0]) == []


def test_a_device_is_looked_at_for_the_lease() -> None:
    clock = Clock()
    looking, began = Looking(clock), []
    looking.on_change = lambda: began.append(clock.now_s)
    assert (looking.is_on, looking.left_s) == (False, 0.0)
    looking.told()
    assert (looking.is_on, looking.left_s) == (True, LEASE_S)
    clock.now_s += LEASE_S - 1.0
    looking.told()
    clock.now_s += LEASE_S - 1.0
    assert looking.is_on
    clock.now_s += 1.0
    assert (looking.is_on, looking.left_s) == (False, 0.0)
    looking.told()
    assert began == [1000.0, 1000.0 + 2 * LEASE_S - 1.0]
