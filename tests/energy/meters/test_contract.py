"""What every meter must do, whatever it is made of."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from worlds import WORLDS, PlugWorld, Recording, World

from fimi.energy.clock import VirtualClock
from fimi.energy.ledger import Ledger, PhaseRecord
from fimi.energy.meters import NOTHING
from fimi.energy.meters.sampler import Sampler

WAYS = [(world, how) for world in WORLDS for how in world.breaks]


def make(kind: type[World], root: Path, request: pytest.FixtureRequest) -> World:
    clock = VirtualClock(50.0)
    if issubclass(kind, PlugWorld):
        return kind(root, clock, request.getfixturevalue("home_broker"))
    return kind(root, clock)


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made = make(request.param, tmp_path, request)
    yield made
    made.close()


class Bench:
    """A world, its meter, and a ledger that reads it at the edges and where told."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sampler = Sampler(world.open(), world.clock, rate_hz=0.0)
        self.ledger = Ledger(world.clock, self.sampler)

    def phase(self, duration_s: float, power_w: float, looks: int = 4) -> PhaseRecord:
        if not isinstance(self.world, Recording):
            self.world.draw(power_w)
        self.ledger.begin("compute")
        for _ in range(looks):
            self.world.wait(duration_s / looks)
            self.sampler.poll()
        return self.ledger.end()


@pytest.fixture
def bench(world: World) -> Iterator[Bench]:
    made = Bench(world)
    yield made
    made.sampler.close()


@pytest.mark.parametrize("world", WORLDS, indirect=True, ids=lambda kind: kind.__name__)
class TestEveryMeter:
    def test_says_what_it_is(self, world: World) -> None:
        meter = world.open()
        description = meter.describe()
        meter.close()
        assert (description.scope, description.kind) == (world.scope, world.kind)
        assert ":" in description.source
        assert description.rate_hz > 0.0
        assert math.isfinite(description.resolution_w)
        response = description.response
        assert (description.counts or response.window_s > 0.0) is world.averages

    @pytest.mark.parametrize("duration_s", [0.2, 30.0])
    def test_constant_power_within_a_percent(self, bench: Bench, duration_s: float) -> None:
        energy = bench.phase(duration_s, 4.0).energy
        assert energy is not None
        slack_j = bench.world.resolution_w * duration_s
        assert energy.value_j == pytest.approx(4.0 * duration_s, rel=0.01, abs=slack_j)
        assert energy.kind == bench.world.kind
        assert energy.scope == bench.world.scope
        assert energy.uncertainty_j < 0.51 * energy.value_j  # of one reading alone, a half

    def test_phases_add_up(self, bench: Bench) -> None:
        parts = [bench.phase(2.0, power_w) for power_w in (4.0, 8.0, 6.0)]
        powers = (4.0, 4.0, 4.0) if isinstance(bench.world, Recording) else (4.0, 8.0, 6.0)
        # A counter is taken to be half of its refresh behind, which files are not.
        behind_s = bench.sampler.describe().response.lag_s
        slack_j = 2.0 * bench.world.resolution_w + 4.0 * behind_s
        for record, power_w in zip(parts, powers, strict=True):
            assert record.energy is not None
            assert record.energy.value_j == pytest.approx(2.0 * power_w, rel=0.01, abs=slack_j)

    def test_closing_twice_leaves_no_thread(self, world: World) -> None:
        before = threading.active_count()
        sampler = Sampler(world.open(), world.clock, rate_hz=10.0)
        sampler.close()
        sampler.close()
        assert threading.active_count() == before


@pytest.mark.parametrize(
    ("world", "how"), WAYS, indirect=["world"], ids=[f"{w.__name__}-{how}" for w, how in WAYS]
)
class TestBrokenMeters:
    def test_missing_is_missing_and_comes_back(self, bench: Bench, how: str) -> None:
        world = bench.world
        assert bench.phase(1.0, 4.0).energy is not None
        bench.ledger.begin("compute")
        world.clock.advance(1.0)
        world.break_(how)
        assert bench.sampler.meter.look(world.clock.now_s()) == NOTHING
        broken = bench.ledger.end()
        assert broken.energy is None, "missing is missing, never zero"
        if isinstance(world, Recording):
            return
        bench.ledger.begin("idle")  # opens while it is broken
        world.clock.advance(1.0)
        assert bench.ledger.end().energy is None
        world.mend()
        after = bench.phase(1.0, 4.0).energy
        assert after is not None
        assert after.value_j == pytest.approx(4.0, rel=0.01, abs=world.resolution_w)

    def test_a_failure_in_the_middle_costs_certainty_not_joules(
        self, bench: Bench, how: str
    ) -> None:
        world = bench.world
        if isinstance(world, Recording):
            pytest.skip("a recording that is over stays so")
        world.draw(4.0)
        whole = bench.phase(10.0, 4.0, looks=20).energy
        bench.ledger.begin("compute")
        for step in range(20):
            world.wait(0.5)
            if step == 10:
                world.break_(how)
            bench.sampler.poll()
            if step == 10:
                world.mend()
        record = bench.ledger.end()
        assert record.energy is not None
        assert whole is not None
        assert record.energy.value_j == pytest.approx(40.0, rel=0.01, abs=10 * world.resolution_w)
        # A counter misses nothing; what was before it is known a little better the second time.
        assert record.energy.uncertainty_j >= whole.uncertainty_j * 0.99
        assert record.sample_count < 22
