"""A meter that dies in the middle of a round: told at once, while the round goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench import Bench
from worlds import Ina226

import fimi.energy.host_profile
from fimi.energy.clock import VirtualClock
from fimi.energy.host import HostHardware
from fimi.energy.host_profile import load_profile
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.messages.facts import RoundReport, UpdateReady

EXAMPLE = (fimi.energy.host_profile.__doc__ or "").split("::\n", 1)[1]


def test_the_coordinator_hears_of_it_before_the_rounds_report(
    a_broker: EmbeddedBroker,
    fleet_name: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = Ina226(tmp_path, VirtualClock())
    (tmp_path / "board.toml").write_text("\n".join(s.strip() for s in EXAMPLE.splitlines()))
    profile = load_profile(tmp_path / "board.toml")
    with (
        HostHardware(profile, root=tmp_path, state=tmp_path / "state") as board,
        Bench(a_broker, fleet_name, hardware=board) as bench,
    ):
        assert bench.profile.hardware.meter.source == "hwmon:ina226"
        bench.follow(bench.plan())
        bench.desk.order(bench.start())
        offer = bench.desk.hear(UpdateReady).update  # and nobody pulls it: the round goes on
        world.break_("vanish")
        bench.desk.until(lambda reported: "shows nothing" in reported.meter, "the meter is dead")
        assert not any(isinstance(fact, RoundReport) for fact in bench.desk.everything)
        world.mend()
        bench.desk.until(lambda reported: "reads again" in reported.meter, "it is back")
        bench.desk.peer.transfers.fetch(offer, 30.0)
        report = bench.desk.hear(RoundReport)
    assert report.observed is not None
    (doubt,) = report.observed.doubts
    assert "power1_input does not exist" in doubt
    assert caplog.text.count("shows nothing any more") == 1
    assert caplog.text.count("reads again") == 1
