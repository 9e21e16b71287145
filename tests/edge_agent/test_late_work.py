"""A device goes on with a round that was closed where its late update is still wanted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bench import Bench
from msgspec.structs import replace

from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.messages.facts import RoundReport, RoundSettled


@pytest.fixture
def bench(a_broker: EmbeddedBroker, fleet_name: str) -> Iterator[Bench]:
    with Bench(a_broker, fleet_name) as found:
        found.follow(found.plan())
        yield found


def test_it_delivers_and_then_works_in_the_next_round(bench: Bench) -> None:
    bench.offered(replace(bench.start(1), late_rounds=2))
    bench.desk.order(bench.closed(1, 10.0), replace(bench.start(2, 10.0), late_rounds=2))
    assert bench.desk.is_answered()
    bench.desk.stores = True
    first, report = bench.pull(), bench.desk.hear(RoundReport)
    assert (report.round, report.error) == (1, "")
    assert bench.desk.hear(RoundSettled).round == 1
    second, report = bench.pull(), bench.desk.hear(RoundReport)
    assert (report.round, report.error) == (2, "")
    assert first != second


def test_it_breaks_off_what_would_be_too_late(bench: Bench) -> None:
    bench.offered(replace(bench.start(1), late_rounds=1))
    bench.desk.order(bench.closed(2, 10.0), bench.start(3, 10.0))
    report = bench.desk.hear(RoundReport)
    assert report.round == 1
    assert "broken off" in report.error


def test_nothing_is_late_after_the_last_round(bench: Bench) -> None:
    bench.offered(replace(bench.start(1), late_rounds=5))
    bench.desk.order(replace(bench.closed(1, 10.0), last=True))
    assert "broken off" in bench.desk.hear(RoundReport).error


def test_it_does_not_wait_for_a_model_that_is_served_no_more(bench: Bench) -> None:
    start = replace(bench.start(1), late_rounds=5)
    bench.desk.peer.transfers.withdraw(start.model.digest)
    bench.desk.order(start)
    bench.desk.until(lambda reported: "does not serve" in reported.waits_for, "it waits")
    bench.desk.order(bench.closed(1, 10.0), replace(bench.start(2, 10.0), late_rounds=5))
    assert "broken off" in bench.desk.hear(RoundReport).error
    bench.pull()
    assert bench.desk.hear(RoundReport).round == 2
