"""Readings that a device hands in late come into the picture of their round."""

from __future__ import annotations

from chromium import Browser
from msgspec.structs import replace
from stored_runs import device_round, round_result

from fimi.energy.joules import Energy
from fimi.monitor.server.hooks import NoHooks
from fimi.monitor.server.service import Dashboard
from fimi.monitor.tracing import PhaseSpan, PowerDrawing
from fimi.monitor.watcher import Watcher
from fimi.record.events import DeviceJoined, RoundFinished
from fimi.record.record import RunInfo

PHASE = PhaseSpan(
    phase="compute",
    start_s=0.0,
    duration_s=2.0,
    energy=Energy(value_j=4.0, kind="emulated", source="meter"),
    made="resolved",
    sample_count=3,
    largest_gap_s=1.0,
    most_j=None,
)
PART = PowerDrawing(
    device="d",
    round=1,
    source="meter",
    kind="emulated",
    scope="board",
    readings=2,
    times_s=[0.0, 1.0],
    power_w=[2.0, 2.0],
    phases=(PHASE,),
    missing=(),
)


class Late(NoHooks):
    """Gives what there is of a device's readings."""

    found = PART

    def trace(self, device: str, number: int) -> PowerDrawing:
        return replace(self.found, round=number)


def test_a_part_that_comes_late_is_drawn(browser: Browser) -> None:
    told = "document.getElementById('trace-told').textContent"
    seen, hooks = Watcher(RunInfo(run="r", config={"rounds.count": 4})), Late()
    seen(DeviceJoined(device="d", board="pi", kind="emulated", samples=7, backend="torch"))
    seen(RoundFinished(result=round_result(1, [device_round("d")], 0.5)))
    with Dashboard(seen, hooks, folder=None) as served:
        browser.visit(served.url)
        browser.run("location.hash = '#device/d'")
        browser.wait(f"{told}.startsWith('2 readings')")
        number = "document.getElementById('trace-round')"
        browser.run(f"{number}.dispatchEvent(new Event('change'))")  # this round stays
        more = replace(PART, readings=5, times_s=[0.0, 0.5, 1.0, 1.5, 2.0], power_w=[2.0] * 5)
        hooks.found = more
        seen(RoundFinished(result=round_result(2, [device_round("d")], 0.6)))
        browser.wait(f"{told}.startsWith('5 readings')", 20)
        assert browser.run(f"{number}.value") == "1"
        browser.run("location.hash = ''")
