"""The doctor on a board whose meter publishes on a topic."""

from __future__ import annotations

from pathlib import Path

import msgspec
from home_sender import sender

import fimi.energy.host_profile
from fimi.edge_agent.doctor import examine
from fimi.edge_agent.doctor.machine import Check, Machine
from fimi.energy.control.programs import ProgramResult
from fimi.energy.host_profile import load_profile
from fimi.energy.meters.elsewhere.topic import TopicSettings

EXAMPLE = (fimi.energy.host_profile.__doc__ or "").split("::\n", 1)[1]


def test_a_topic_that_the_profile_names(tmp_path: Path, home_broker: int) -> None:
    path = tmp_path / "board.toml"
    path.write_text("\n".join(line.strip() for line in EXAMPLE.splitlines()))
    topic = TopicSettings(
        topic="lab/doctor", port=home_broker, unit="W", pointer="/power", wait_s=1.0
    )
    profile = msgspec.structs.replace(load_profile(path), topic=topic, meter="topic")
    machine = Machine(
        root=tmp_path,
        profile=profile,
        state=tmp_path / "state",
        run=lambda _: ProgramResult(127, "", "not installed"),
    )

    def found(name: str) -> Check:
        return {check.name: check for check in examine(machine)}[name]

    assert found("meter").status == "failure"
    assert "no message on 'lab/doctor'" in found("meter").found
    assert found("meter topic").status == "warning", "the profile names it"
    with sender(home_broker) as home:
        home.repeat("lab/doctor", lambda _: '{"power":8.5}')
        assert found("meter").found.startswith("topic:lab/doctor: measured, scope wall")
        assert "8.5 W now" in found("meter topic").found
