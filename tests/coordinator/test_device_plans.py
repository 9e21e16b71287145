"""fimi.coordinator.device_plans: batches, top-ups and the share in use, in what devices are told.

The conversation and the roster are stand-ins; plans, prices and the run store are real.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from test_planning import MODEL_BYTES, SETTINGS, problem_of, profiles

from fimi.coordinator.checkpoint import PlanPart
from fimi.coordinator.context import InForce
from fimi.coordinator.device_plans import DevicePlans
from fimi.coordinator.payloads import PayloadSizes
from fimi.coordinator.strategies import STRATEGIES
from fimi.energy.hardware import Applied
from fimi.messaging.messages.basis import Offer
from fimi.messaging.messages.orders import DevicePlan
from fimi.messaging.messages.synthesis import SyntheticBatch
from fimi.monitor.watcher import Watcher
from fimi.optim.planner import SearchSettings, plan
from fimi.record.events import Event, PlanChanged, PlanInForce
from fimi.record.record import RunInfo
from fimi.record.store import RunStore

FIRST = {"device-1": (0, 8, 6), "device-3": (4, 3, 0)}
MORE = (1, 2, 0)
PLAN = plan(problem_of(SETTINGS), seed=0, settings=SearchSettings(iterations=20))
PROFILES = profiles()


def offer(name: str, size_bytes: int = 2000) -> Offer:
    return Offer(
        holder="generator",
        digest=f"{name:0>64}",
        media="synthetic-batch",
        size_bytes=size_bytes,
    )


def batch(
    device: str, counts: tuple[int, ...], of: Offer | None, skip: tuple[int, ...] = ()
) -> SyntheticBatch:
    return SyntheticBatch(
        run="r",
        device=device,
        skip=skip,
        delivered=counts,
        offer=of,
        seconds=1.0,
        generator="x",
    )


class Desk:
    """Device plans, and what is said to devices."""

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self.orders: list[DevicePlan] = []
        store.write_plan(PLAN)
        self.prepared_s: dict[str, float] = {"device-1": 0.5}
        self.held: dict[str, int] = {}  # top-ups, by the devices' answers
        self.said: list[Event] = []
        context: Any = SimpleNamespace(
            notify=self.said.append,
            run="r",
            settings=SETTINGS,
            strategy=STRATEGIES["fimi"],
            store=store,
            conversation=SimpleNamespace(order=lambda device, order: self.orders.append(order)),
            in_force=InForce(),
        )
        roster: Any = SimpleNamespace(
            members=PROFILES,
            topped_up=lambda device: self.held.get(device, 0),
            indices={device: index for index, device in enumerate(PROFILES)},
            prepared_s=self.prepared_s.get,
        )
        self.plans = DevicePlans(
            context, roster, PayloadSizes.plain(MODEL_BYTES), PlanPart(plan=PLAN, fleet_time_s=0.5)
        )
        made = {device: batch(device, n, offer(f"a{device[-1]}")) for device, n in FIRST.items()}
        self.plans.change(PLAN, PROFILES, made)
        self.orders.clear()

    def top_up(self, device: str = "device-1", of: Offer | None = None) -> None:
        """Further images at 20 s."""
        self.plans.fleet_time_s = 20.0
        skip = self.plans.delivered[device]
        more = batch(device, MORE, of or offer("b"), skip)
        self.plans.change(PLAN, PROFILES, top_ups={device: more})

    def told(self, device: str) -> DevicePlan:
        """What a start of a device is told now."""
        self.orders.clear()
        self.plans.send(device)
        (said,) = self.orders
        return said


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with closing(RunStore(tmp_path / "run.sqlite")) as store:
        yield Desk(store)


def test_whoever_looks_hears_what_devices_are_told(desk: Desk) -> None:
    desk.said.clear()
    desk.plans.change(PLAN, PROFILES)
    (said,) = desk.said
    assert isinstance(said, PlanChanged) and said.plan == PLAN
    assert said.devices == desk.plans.devices
    assert all(each.point.rate_bps for each in said.devices.values())


@pytest.mark.parametrize("in_force_bps", [None, 1e5])
def test_a_plan_of_given_data_is_shown_with_its_images_and_rates(
    desk: Desk, in_force_bps: float | None
) -> None:
    """The plan has no images of its own then, and a board may send at another rate, or not say."""
    shares = (msgspec.structs.replace(s, synthetic_counts=(0, 0, 0)) for s in PLAN.devices)
    given = msgspec.structs.replace(PLAN, devices=tuple(shares))
    seen = Watcher(RunInfo(run="r", config={}))
    desk.said.clear()
    desk.plans.change(given, PROFILES)
    for event in desk.said:
        seen(event)
    applied = Applied(
        frequency_hz=1e9,
        frequency_control="emulated",
        rate_bps=in_force_bps,
        rate_control="emulated",
    )
    seen(PlanInForce(device="device-1", notes=(), error="", applied=applied))
    now = seen.snapshot()
    assert "21 synthetic samples" in now.run.plan
    for device, told in desk.plans.devices.items():
        assert now.devices[device].synthetic == sum(told.synthetic_counts)
        assert now.devices[device].set_bps == told.point.rate_bps


class TestTopUps:
    def test_they_stand_beside_the_first_batch(self, desk: Desk) -> None:
        before = dict(desk.plans.devices)
        desk.top_up()
        plan = desk.plans.devices["device-1"]
        assert plan.batch == before["device-1"].batch == offer("a1")
        assert plan.synthetic_counts == (1, 10, 6)
        (top_up,) = plan.top_ups
        assert (top_up.skip, top_up.counts, top_up.batch) == ((0, 8, 6), MORE, offer("b"))
        assert top_up.fleet_time_s == 20.0
        for device in ("device-2", "device-3"):
            other = desk.plans.devices[device]
            assert (other.batch, other.top_ups) == (before[device].batch, ())
            assert other.synthetic_counts == before[device].synthetic_counts
        assert [order.device for order in desk.orders] == [*PROFILES]
        assert desk.store.read_checkpoint().keys() == {"plan"}

    def test_labels_count_them(self, desk: Desk, tmp_path: Path) -> None:
        def filled() -> int:
            with closing(sqlite3.connect(tmp_path / "run.sqlite")) as db:
                (counts,) = db.execute(
                    "SELECT counts FROM label_skew WHERE device = 'device-1' AND stage = 'filled'"
                ).fetchone()
            return sum(json.loads(counts))

        local = sum(PROFILES["device-1"].label_counts)
        assert filled() == local + 14
        desk.top_up()
        assert filled() == local + 17

    def test_they_stay_and_others_follow(self, desk: Desk) -> None:
        desk.top_up()
        desk.plans.change(PLAN, PROFILES)
        assert len(desk.plans.devices["device-1"].top_ups) == 1
        desk.top_up(of=offer("c"))
        found = desk.plans.devices["device-1"]
        assert [(t.skip, t.batch) for t in found.top_ups] == [
            ((0, 8, 6), offer("b")),
            ((1, 10, 6), offer("c")),
        ]
        assert found.synthetic_counts == (2, 12, 6)

    def test_receiving_is_due_in_the_round_after_alone(self, desk: Desk) -> None:
        before = desk.plans.with_receipts(desk.plans.devices)
        assert before == desk.plans.devices, "the first batch came before all rounds"
        desk.top_up(of=offer("b", size_bytes=5000))
        found = desk.plans.with_receipts(desk.plans.devices)
        cost, *others = found["device-1"].predicted
        assert cost.phase == "synthetic-download"
        link = PROFILES["device-1"].board.link
        assert cost.duration_s == pytest.approx(8 * 5000 / link.downlink_rate_bps)
        assert tuple(others) == desk.plans.devices["device-1"].predicted
        assert found["device-2"] == desk.plans.devices["device-2"]
        desk.plans.fleet_time_s = 28.0  # that round is over
        assert desk.plans.with_receipts(desk.plans.devices) == desk.plans.devices

    def test_a_start_is_told_what_is_in_the_record(self, desk: Desk) -> None:
        desk.top_up()
        desk.top_up("device-3")
        for device, prepared in (("device-1", True), ("device-3", False)):
            said = desk.told(device)
            assert (said.booked, [t.booked for t in said.top_ups]) == (prepared, [False])
        desk.plans.fleet_time_s = 28.0
        said = desk.told("device-1")
        assert [t.booked for t in said.top_ups] == [False]  # it was away when they were sent
        desk.held["device-1"] = 1
        said = desk.told("device-1")
        assert (said.booked, [t.booked for t in said.top_ups]) == (True, [True])
        desk.plans.change(PLAN, PROFILES)
        desk.plans.change(
            PLAN,
            PROFILES,
            top_ups={"device-1": batch("device-1", MORE, offer("c"), (1, 10, 6))},
        )
        assert [t.booked for t in desk.told("device-1").top_ups] == [True, False]


class TestReplacing:
    """A generator node that starts again offers its batches anew."""

    def test_the_first_batch(self, desk: Desk) -> None:
        desk.top_up()
        desk.orders.clear()
        desk.plans.replace_batch(batch("device-1", FIRST["device-1"], offer("z")))
        plan = desk.plans.devices["device-1"]
        assert (plan.batch, plan.top_ups[0].batch) == (offer("z"), offer("b"))
        assert [order.device for order in desk.orders] == ["device-1"]

    def test_a_top_up(self, desk: Desk) -> None:
        desk.top_up()
        desk.top_up(of=offer("c"))
        desk.orders.clear()
        desk.plans.replace_batch(batch("device-1", MORE, offer("z"), (0, 8, 6)))
        plan = desk.plans.devices["device-1"]
        assert plan.batch == offer("a1")
        assert [t.batch for t in plan.top_ups] == [offer("z"), offer("c")]
        assert [order.device for order in desk.orders] == ["device-1"]

    @pytest.mark.parametrize(
        "again",
        [
            batch("device-1", FIRST["device-1"], offer("a1")),  # as it is
            batch("device-1", MORE, offer("b"), (0, 8, 6)),  # as it is
            batch("device-1", MORE, offer("z"), (9, 9, 9)),  # for a plan that was not made
            batch("device-1", FIRST["device-1"], None),
            batch("device-9", FIRST["device-1"], offer("z")),
        ],
    )
    def test_what_is_no_news_is_not_told(self, desk: Desk, again: SyntheticBatch) -> None:
        desk.top_up()
        before = dict(desk.plans.devices)
        desk.orders.clear()
        desk.plans.replace_batch(again)
        assert (desk.plans.devices, desk.orders) == (before, [])


class TestUse:
    def test_a_share_is_in_use_and_nothing_is_taken_away(self, desk: Desk) -> None:
        desk.top_up()
        whole = dict(desk.plans.devices)
        desk.plans.change(PLAN, PROFILES, use=0.5)
        assert desk.plans.delivered["device-1"] == (1, 10, 6)
        assert desk.plans.used["device-1"] == (1, 5, 3)
        for device, share in desk.plans.devices.items():
            assert (share.synthetic_use, share.batch) == (0.5, whole[device].batch)
            assert share.top_ups == whole[device].top_ups
            local = sum(PROFILES[device].label_counts)
            cycles = [local + sum(p.used_counts) for p in (whole[device], share)]
            seconds = [computing_s(p) for p in (whole[device], share)]
            assert seconds[1] / seconds[0] == pytest.approx(cycles[1] / cycles[0])
        stored = msgspec.msgpack.decode(desk.store.read_checkpoint()["plan"], type=PlanPart)
        assert stored.synthetic_use == 0.5
        assert stored.devices == desk.plans.devices
        desk.plans.change(PLAN, PROFILES)
        assert desk.plans.use == 0.5, "until something else is said"


def computing_s(plan: DevicePlan) -> float:
    return math.fsum(cost.duration_s for cost in plan.predicted if cost.phase == "compute")
