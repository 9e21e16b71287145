"""``fimi agent run`` as a process: killed, started twice, its terminal closed."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from bench import CONTRACT, DEVICE, EMULATED, LOCAL, MODEL, POINT, SETTINGS
from desk import Desk

import fimi.energy.host_profile
from fimi.learning.data import shares
from fimi.learning.training import tensors
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.console import Console
from fimi.messaging.errors import BoardDeclines
from fimi.messaging.messages.facts import (
    PlanApplied,
    Profile,
    RoundReport,
    RoundSettled,
    UpdateReady,
)
from fimi.messaging.messages.orders import DevicePlan, Invitation, RoundClosed, RoundStart
from fimi.messaging.questions import Restarting, RestartRequest

PATIENCE_S = 60.0
EXAMPLE = (fimi.energy.host_profile.__doc__ or "").split("::\n", 1)[1]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def desk(a_broker: EmbeddedBroker, fleet_name: str) -> Iterator[Desk]:
    with Desk(a_broker, fleet_name) as desk:
        yield desk


@pytest.fixture
def start(a_broker: EmbeddedBroker, fleet_name: str, tmp_path: Path) -> Iterator[Start]:
    """Starts agents of one id."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **options: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "fimi.testbed.cli", "agent", "run", "--id", DEVICE,
                "--fleet", fleet_name, "--cache", str(tmp_path / "cache"), *arguments,
            ],
            env={
                **os.environ,
                "FIMI_BROKER": a_broker.address.url(with_password=True),
                "XDG_STATE_HOME": str(tmp_path / "state"),
            },
            text=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **options},  # type: ignore[call-overload]
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


def invitation(desk: Desk) -> Invitation:
    share = shares.encode_samples(LOCAL, CONTRACT)
    return Invitation(
        run=desk.run,
        device=DEVICE,
        index=0,
        contract=CONTRACT,
        way="shipped",
        share=desk.peer.transfers.serve(share, shares.SAMPLES_MEDIA),
        emulated=EMULATED,
    )


def plan(desk: Desk, fleet_time_s: float = 0.0) -> DevicePlan:
    return DevicePlan(
        run=desk.run,
        device=DEVICE,
        device_index=0,
        synthetic_counts=(0,) * 10,
        batch=None,
        point=POINT,
        predicted=(),
        fleet_time_s=fleet_time_s,
    )


def round_start(desk: Desk, number: int, at_s: float) -> RoundStart:
    return RoundStart(
        run=desk.run,
        device=DEVICE,
        round=number,
        model=desk.peer.transfers.serve(tensors.dump(MODEL), "safetensors"),
        training=SETTINGS,
        seed=5,
        fleet_time_s=at_s,
    )


def work(desk: Desk, number: int, at_s: float) -> RoundReport:
    desk.order(round_start(desk, number, at_s))
    desk.pull()
    return desk.hear(RoundReport, PATIENCE_S)


def test_one_that_is_killed_goes_on_with_its_next_start(desk: Desk, start: Start) -> None:
    """SIGKILL while its update waits to be pulled; the same id again, at once."""
    desk.order(invitation(desk), plan(desk))
    first = start()
    met = desk.hear(Profile, PATIENCE_S)
    desk.order(round_start(desk, 1, 0.0))
    offered = desk.hear(UpdateReady, PATIENCE_S).update
    killed_s = time.time()
    first.kill()
    first.communicate(timeout=PATIENCE_S)
    start()
    assert desk.hear(Profile, PATIENCE_S).boot_id != met.boot_id
    assert desk.hear(PlanApplied, PATIENCE_S).error == ""
    assert sha256(desk.pull()).hexdigest() == offered.digest  # it is not trained again
    report = desk.hear(RoundReport, PATIENCE_S)
    assert (report.error, report.local_samples) == ("", len(LOCAL))
    assert report.trained_at is not None
    assert report.trained_at[1] < killed_s
    assert [phase.phase for phase in report.phases] == ["model-download", "compute", "upload"]
    desk.order(RoundClosed(run=desk.run, device=DEVICE, round=1, accepted=True, fleet_time_s=30.0))
    desk.hear(RoundSettled, PATIENCE_S)
    assert work(desk, 2, 30.0).error == ""


def test_one_that_is_restarted_from_afar_in_a_round_goes_on_with_it(
    desk: Desk, start: Start, a_broker: EmbeddedBroker, fleet_name: str
) -> None:
    """Declined without force; with it the same process is another start."""
    desk.order(invitation(desk), plan(desk))
    process = start("--allow", "restart")
    met = desk.hear(Profile, PATIENCE_S)
    desk.order(round_start(desk, 1, 0.0))
    offered = desk.hear(UpdateReady, PATIENCE_S).update
    with Console(a_broker.address, fleet=fleet_name) as console:
        with pytest.raises(BoardDeclines, match="takes part in run r1, round 1"):
            console.ask(DEVICE, RestartRequest(), PATIENCE_S)
        assert console.ask(DEVICE, RestartRequest(force=True), PATIENCE_S) == Restarting()
    assert desk.hear(Profile, PATIENCE_S).boot_id != met.boot_id
    assert process.poll() is None
    assert desk.hear(PlanApplied, PATIENCE_S).error == ""
    assert sha256(desk.pull()).hexdigest() == offered.digest
    assert desk.hear(RoundReport, PATIENCE_S).error == ""


def test_a_second_one_is_told_who_has_its_id(desk: Desk, start: Start) -> None:
    desk.order(invitation(desk), plan(desk))
    first = start()
    desk.hear(PlanApplied, PATIENCE_S)
    second = start()
    said, _ = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 3
    assert f"the id '{DEVICE}' of fleet " in said
    assert f"process {first.pid}" in said or f"pid {first.pid}" in said
    assert f"run {desk.run}" in said
    assert "'--id NAME' gives it another" in said
    assert work(desk, 1, 0.0).error == ""
    first.terminate()
    out, _ = first.communicate(timeout=PATIENCE_S)
    assert first.returncode == 0
    assert out.splitlines()[-1] == f"{DEVICE}: stopped after 1 round"


@pytest.mark.parametrize("how", ["hangup", "terminal closed"])
def test_the_end_of_its_terminal_puts_the_clock_back(
    desk: Desk, start: Start, tmp_path: Path, how: str
) -> None:
    policy = tmp_path / "sys/devices/system/cpu/cpufreq/policy0"
    policy.mkdir(parents=True)
    limit = policy / "scaling_max_freq"
    limit.write_text("1800000\n")
    (policy / "scaling_min_freq").write_text("600000\n")
    board = tmp_path / "board.toml"
    board.write_text("\n".join(line.strip() for line in EXAMPLE.splitlines()))
    ours, theirs = pty.openpty()
    desk.order(invitation(desk), plan(desk))
    agent = start(
        *("--host-profile", str(board), "--root", str(tmp_path)),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=_take_terminal,
    )
    os.close(theirs)
    applied = desk.hear(PlanApplied, PATIENCE_S).applied
    assert applied is not None
    assert limit.read_text() == "1000000\n"
    if how == "hangup":
        agent.send_signal(signal.SIGHUP)
    else:
        os.close(ours)  # the kernel tells the agent that its terminal is gone
    agent.wait(PATIENCE_S)
    assert limit.read_text() == "1800000\n"
    if how == "hangup":
        os.close(ours)
        assert agent.returncode == 0


def _take_terminal() -> None:
    """In the child: a session of its own, whose terminal is standard input."""
    import fcntl
    import termios

    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_its_name_is_that_of_the_machine_where_it_is_given_none() -> None:
    from fimi.messaging import topics
    from fimi.testbed.processes.agent import own_name

    assert topics.check_name(own_name(), "peer")


@pytest.mark.parametrize(
    ("option", "instead"),
    [
        ("--index", "--id NAME"),
        ("--devices", "fleet.devices"),
        ("--alpha", "data.alpha"),
        ("--seed", "run.seed"),
        ("--set", "--fleet NAME"),
    ],
)
def test_an_option_of_old_says_what_came_instead(option: str, instead: str) -> None:
    from click.testing import CliRunner

    from fimi.testbed.commands.nodes import agent

    found = CliRunner().invoke(agent, ["run", option, "1"])
    assert found.exit_code == 2
    assert f"no option '{option}' any more" in found.output
    assert instead in found.output
