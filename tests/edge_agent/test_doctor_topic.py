"""The doctor on a board whose meter publishes on a topic."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
from click.testing import CliRunner
from home_sender import sender

import fimi.energy.host_profile
from fimi.edge_agent.doctor import examine
from fimi.edge_agent.doctor.machine import Machine
from fimi.energy.control.programs import ProgramResult
from fimi.energy.host_profile import load_profile
from fimi.energy.meters import Look, MeterDescription
from fimi.energy.meters.elsewhere import wire
from fimi.energy.meters.elsewhere.topic import TopicSettings
from fimi.messaging.questions import Check
from fimi.testbed.cli import main

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


def test_what_a_sender_doubts_is_a_warning_and_moves_no_cursor(
    tmp_path: Path, home_broker: int
) -> None:
    def message(number: int) -> bytes:
        return wire.sent(
            Look(power_w=8.5),
            MeterDescription(source="x", kind="measured", scope="board", rate_hz=50.0),
            session="s",
            sequence=number,
            clock_s=0.02 * number,
            time_s=0.0,
            doubts=["its shunt\x1b[2J\r is another"],
            facts=["range\x1b[2J ±3.2 A"],
        )

    path = tmp_path / "board.toml"
    example = "\n".join(line.strip() for line in EXAMPLE.splitlines())
    topic = f'[topic]\ntopic = "fimi-meter/odd"\nport = {home_broker}\nwait_s = 5.0\n'
    path.write_text(re.sub("(?m)^meter = .*", 'meter = "topic"', example) + f"\n{topic}")
    with sender(home_broker) as home:
        home.repeat("fimi-meter/odd", message)
        home.repeat("fimi-meter/odd/about", lambda _: message(0))
        options = ["--root", str(tmp_path), "--host-profile", str(path)]
        done = CliRunner().invoke(main, ["agent", "doctor", *options])
    said = " ".join(done.output.split())
    assert (
        "8.5 W now" in said
        and "when its sender was started: range\N{REPLACEMENT CHARACTER}" in said
    )
    assert said.count("on its machine: its shunt\N{REPLACEMENT CHARACTER}") == 2, (
        "chosen, and listed"
    )
    assert "its joules are doubtful" in said
    assert "\x1b" not in done.output
