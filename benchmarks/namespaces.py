"""Federations of real processes in network namespaces, whose processes are killed.

    python benchmarks/namespaces.py [--keep FOLDER] [NAME ...]

Two boards are network namespaces with an agent each, in a virtual environment with the base install
only; broker, generator node and coordinator run in a third one (root and ``ip`` are needed). A run
of 8 rounds is made without disturbance, then once for each disturbance. Processes are killed with
SIGKILL at moments that the run store shows, and started again with the same command, the
coordinator with ``--resume``. The table says for each

* how many seconds after each disturbance the next round was stored,
* whether every round has an entry of every device, and which updates were lost,
* up to which round the record is that of the undisturbed run, to the last digit: a lost update
  changes the model; and whether phases of devices that took part later have the same joules,
* what processes have said that they should not say: tracebacks, and errors.

The exit status is the number of disturbances after which something was not as it should be.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct
from namespace_lab import SETTINGS, Lab, base_environment
from namespace_network import Network, why_not

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "testbed"))
from same_record import differences

BOARDS = ("board-a", "board-b")
ROUNDS = 8


class Stopwatch:
    """How long it takes until rounds go on."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.seconds: list[float] = []

    def __call__(self) -> None:
        """Begin now; returns when the next round is stored."""
        began_s, after = time.monotonic(), self._lab.last_round()
        if after < ROUNDS:
            self._lab.after_round(after + 1)
            self.seconds.append(time.monotonic() - began_s)


class Unavailable(Exception):  # noqa: N818
    """This machine cannot do what a disturbance asks for."""


class Disturbance(Struct, frozen=True, kw_only=True):
    """What is done to a run.

    Attributes:
        act: does it.
        lab: options of the laboratory.
        options: of the coordinator.
        may_lose: whether updates may be lost.
    """

    act: Callable[[Lab, Stopwatch], None]
    lab: dict[str, Any] = {}
    options: tuple[str, ...] = ()
    may_lose: bool = False


def kill(*names: str, after: int) -> Callable[[Lab, Stopwatch], None]:
    """Processes are killed after a round, all at once, and started again."""

    def act(lab: Lab, went_on: Stopwatch) -> None:
        lab.after_round(after)
        lab.restart(*names)
        went_on()

    return act


def kill_at(*names: str, event: str, count: int = 1) -> Callable[[Lab, Stopwatch], None]:
    """Processes are killed when an event has been stored so many times."""

    def act(lab: Lab, went_on: Stopwatch) -> None:
        lab.after_event(event, count)
        lab.restart(*names)
        went_on()

    return act


def everybody_once(lab: Lab, went_on: Stopwatch) -> None:
    """One after another, the generator node while it makes batches."""
    kill_at("generator", event="batch-delivered")(lab, went_on)
    for number, name in ((2, "coordinator"), (4, "broker"), (6, "board-a")):
        kill(name, after=number)(lab, went_on)


def everybody_in_another_order(lab: Lab, went_on: Stopwatch) -> None:
    """The broker while batches are made, the generator node when nobody needs it."""
    kill_at("broker", event="planned")(lab, went_on)
    for number, name in ((2, "board-b"), (4, "generator"), (6, "coordinator")):
        kill(name, after=number)(lab, went_on)


def while_shares_are_shipped(lab: Lab, went_on: Stopwatch) -> None:
    """The coordinator has written whom it invites, and nobody has joined."""
    lab.until(lambda: lab.rows("SELECT device FROM enrolment"), "a device is invited")
    lab.restart("coordinator")
    went_on()


def cut(board: str, seconds: float, *, after: int) -> Callable[[Lab, Stopwatch], None]:
    """A board's link is down for a while."""

    def act(lab: Lab, went_on: Stopwatch) -> None:
        lab.after_round(after)
        lab.network.cut(board)
        time.sleep(seconds)
        lab.network.mend(board)
        went_on()

    return act


def suspend(name: str, seconds: float, *, after: int) -> Callable[[Lab, Stopwatch], None]:
    """A process stands still for a while."""

    def act(lab: Lab, went_on: Stopwatch) -> None:
        lab.after_round(after)
        lab.running[name].send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        lab.running[name].send_signal(signal.SIGCONT)
        went_on()

    return act


def twice(lab: Lab, went_on: Stopwatch) -> None:
    """The coordinator is killed again as soon as it goes on."""
    lab.after_round(3)
    lab.restart("coordinator")
    lab.after_event("resumed")
    lab.restart("coordinator")
    went_on()


def bad_link(lab: Lab, went_on: Stopwatch) -> None:
    """One board's link loses 5 % of all packets and delays the others by 200 ms."""
    lab.after_event("device-joined", 2)
    try:
        lab.network.impair("board-a", "loss", "5%", "delay", "100ms")
    except OSError as error:
        raise Unavailable(f"this kernel has no netem ({error})") from error
    went_on()


def gone_for_good(lab: Lab, went_on: Stopwatch) -> None:
    """A board is killed and never comes back."""
    lab.after_round(3)
    lab.kill("board-a")
    went_on()


SHIPPED = ("--set", "data.shares=shipped")
DISTURBANCES: dict[str, Disturbance] = {
    "everybody-once": Disturbance(act=everybody_once, may_lose=True),
    "another-order": Disturbance(act=everybody_in_another_order, may_lose=True),
    "coordinator": Disturbance(act=kill("coordinator", after=4)),
    "coordinator-twice": Disturbance(act=twice),
    "coordinator-in-synthesis": Disturbance(act=kill_at("coordinator", event="planned")),
    "coordinator-one-batch": Disturbance(act=kill_at("coordinator", event="batch-delivered")),
    "coordinator-one-plan": Disturbance(act=kill_at("coordinator", event="plan-in-force")),
    "coordinator-one-report": Disturbance(act=kill_at("coordinator", event="device-reported")),
    "coordinator-at-the-end": Disturbance(act=kill("coordinator", after=ROUNDS)),
    "coordinator-shipping": Disturbance(act=while_shares_are_shipped, lab={"more": SHIPPED}),
    "coordinator-and-broker": Disturbance(act=kill("coordinator", "broker", after=3)),
    "coordinator-and-generator": Disturbance(
        act=kill_at("coordinator", "generator", event="batch-delivered")
    ),
    "everybody-at-once": Disturbance(
        act=kill("coordinator", "broker", "generator", *BOARDS, after=3)
    ),
    "agent": Disturbance(act=kill("board-a", after=3), may_lose=True),
    "agent-fetching": Disturbance(
        act=kill_at("board-a", event="batch-delivered", count=2), may_lose=True
    ),
    "both-agents": Disturbance(act=kill(*BOARDS, after=3), may_lose=True),
    "broker": Disturbance(act=kill("broker", after=3)),
    "broker-keeps-nothing": Disturbance(act=kill("broker", after=3), lab={"keeps": False}),
    "amqtt": Disturbance(act=kill("broker", after=3), lab={"broker": "amqtt"}),
    "amqtt-and-coordinator": Disturbance(
        act=kill("broker", "coordinator", after=3), lab={"broker": "amqtt"}
    ),
    "link-cut-5s": Disturbance(act=cut("board-a", 5.0, after=3)),
    "link-cut-40s": Disturbance(act=cut("board-a", 40.0, after=3)),
    "agent-suspended": Disturbance(act=suspend("board-a", 20.0, after=3)),
    "coordinator-suspended": Disturbance(act=suspend("coordinator", 20.0, after=3)),
    "bad-link": Disturbance(act=bad_link),
    "gone-for-good": Disturbance(act=gone_for_good, may_lose=True),
}


class Outcome(Struct, kw_only=True):
    """What became of a run.

    Attributes:
        went_on_s: after each disturbance, until the next round was stored, s.
        whole: whether every round has an entry of every device.
        lost: round to status of each update that did not arrive.
        equal: rounds whose record is that of the undisturbed run.
        differences: where it is not, though it should.
        said: lines of logs that should not be there.
        energy_ratio: of later rounds' phases, largest deviation of joules.
    """

    went_on_s: list[float]
    whole: bool
    lost: dict[int, list[str]]
    equal: int
    differences: list[str]
    said: list[str]


def run(
    network: Network, folder: Path, python: Path, what: Disturbance | None
) -> tuple[Lab, list[float]]:
    """A run from its first process to its last."""
    options = dict(what.lab) if what is not None else {}
    settings = (*SETTINGS, *options.pop("more", ()))
    lab = Lab(network, folder, python, settings=settings, **options)
    with contextlib.ExitStack() as stack:
        stack.callback(network.kill_all)
        lab.bring_up()
        lab.coordinate("--rounds", str(ROUNDS), *(what.options if what is not None else ()))
        went_on = Stopwatch(lab)
        if what is not None:
            what.act(lab, went_on)
        lab.finish()
        lab.close()
        stack.pop_all()
    return lab, went_on.seconds


def judge(lab: Lab, undisturbed: Path, went_on_s: list[float]) -> Outcome:
    """Compare a run with the undisturbed one."""
    rows = lab.rows("SELECT round, device, status, reason FROM device_round ORDER BY round, device")
    lost: dict[int, list[str]] = {}
    for number, device, status, reason in rows:
        if status != "accepted":
            lost.setdefault(number, []).append(f"{device} {status}: {reason}")
    entries = [(number, device) for number, device, *_ in rows]
    whole = entries == [(number, board) for number in range(1, ROUNDS + 1) for board in BOARDS]
    equal = min(lost, default=ROUNDS + 1) - 1
    # Round 0 is the time before the first; a device that missed that one has had its own.
    compared = range(0 if equal else 1, equal + 1) if lost else None
    found = differences(lab.store.parent, undisturbed, rounds=compared)
    found = [each for each in found if "its row: broker is" not in each]  # its address
    found = _without_restarts(found, lab.store)
    found += list(_other_joules(lab.store, undisturbed / "run.sqlite", lost))
    return Outcome(
        went_on_s=went_on_s,
        whole=whole,
        lost=lost,
        equal=equal,
        differences=found,
        said=list(oddities(lab.logs())),
    )


def _without_restarts(found: list[str], store: Path) -> list[str]:
    """Differences without what a device that was killed cannot tell, or tells later: its idling.

    It keeps its place in the round, and its round is not compared with predictions. Its work, its
    update and what was predicted of it are those of an undisturbed run.
    """
    apart: list[str] = []
    for number, device in _interrupted(store):
        place = f"round {number}, device {device}"
        apart += [
            f"  only in one: {place}, phase ",  # of residuals: the line of any other table stays
            f"table sample, {place}, phase idle: ",
            f"table device_round, {place}: unknown_",
            f'event only in one: {{"device": "{device}", "event": "credited", "round": {number}}}',
        ]
    left = [each for each in found if not each.startswith(tuple(apart))]
    of_residuals = [each for each in left if each.startswith("  only in one: ")]
    return [each for each in left if of_residuals or not each.startswith("table residual: ")]


def _interrupted(store: Path) -> set[tuple[int, str]]:
    """Rounds in which a device was started again, from the one before its end was noticed."""
    number, gone, found = 0, dict[str, int](), set[tuple[int, str]]()
    with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db:
        events = [json.loads(body) for (body,) in db.execute("SELECT body FROM event ORDER BY id")]
    for event in events:
        if event["event"] == "round-started":
            number = event["round"]
        elif event["event"] == "device-lost":
            gone.setdefault(event["device"], number - 1)
        elif event["event"] == "device-joined" and event["device"] in gone:
            since = gone.pop(event["device"])
            found |= {(each, event["device"]) for each in range(since, number + 1)}
    return found


def _other_joules(one: Path, other: Path, lost: dict[int, list[str]]) -> Iterator[str]:
    """Phases of rounds in which every update arrived whose seconds or joules differ.

    They do not depend on the model, so they are the same also after an update was lost, but for the
    rounding of a clock that shows another time. The noise of idling follows from that time.
    """
    ours, theirs = _phases(one), _phases(other)
    for key in sorted(ours.keys() & theirs.keys()):
        if key[0] not in lost:
            for mine, its, unit in zip(ours[key], theirs[key], ("s", "J"), strict=True):
                noisy = key[2] == "idle" and unit == "J"
                if not noisy and not math.isclose(mine, its, rel_tol=1e-9, abs_tol=1e-9):
                    yield f"round {key[0]}, {key[1]}, {key[2]}: {mine!r} and {its!r} {unit}"
    for key in sorted(theirs.keys() - ours.keys()):
        if key[0] not in lost:
            yield f"round {key[0]}, {key[1]}: no phase {key[2]}"
    for key in sorted(key for key in ours.keys() - theirs.keys() if key[0] not in lost):
        yield f"round {key[0]}, {key[1]}: a phase {key[2]} more"


def _phases(store: Path) -> dict[tuple[int, str, str], tuple[float, float]]:
    query = (
        "SELECT round, device, phase, sum(duration_s), sum(energy_j) FROM sample GROUP BY 1, 2, 3"
    )
    with contextlib.closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db:
        return {(r, d, p): (s, j) for r, d, p, s, j in db.execute(query)}


def oddities(logs: dict[str, str]) -> Iterator[str]:
    """Lines that no process should have said."""
    for name, text in logs.items():
        if "Traceback" in text:
            yield f"{name}: {text[text.index('Traceback') :][:2000]}"
        for line in text.splitlines():
            if re.match(r"(error|critical)\b|.*\b(dropped|could not be handled)\b", line):
                yield f"{name}: {line[:300]}"


def main() -> None:
    """Run the disturbances that are named, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(DISTURBANCES))
    parser.add_argument("--keep", type=Path, help="Keep runs and logs in this folder.")
    arguments = parser.parse_args()
    if reason := why_not():
        sys.exit(reason)
    names = arguments.names or list(DISTURBANCES)
    if unknown := set(names) - DISTURBANCES.keys():
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(DISTURBANCES)}")
    bad = 0
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="fimi-namespaces-"))
    folder.mkdir(parents=True, exist_ok=True)
    python = base_environment(folder / "board")
    with Network(BOARDS) as network:
        began_s = time.monotonic()
        lab, _ = run(network, folder / "undisturbed", python, None)
        undisturbed = {(): lab.store.parent}
        print(f"undisturbed: {time.monotonic() - began_s:.0f} s", flush=True)
        for name in names:
            what = DISTURBANCES[name]
            more = what.lab.get("more", ())
            if more not in undisturbed:
                other = Disturbance(act=lambda lab, went_on: None, lab={"more": more})
                lab, _ = run(network, folder / f"undisturbed-{name}", python, other)
                undisturbed[more] = lab.store.parent
            try:
                lab, seconds = run(network, folder / name, python, what)
            except Unavailable as error:
                print(f"{name:<26} left out: {error}", flush=True)
                continue
            except (TimeoutError, RuntimeError) as error:
                bad += 1
                print(f"{name:<26} FAILED: {error}", flush=True)
                continue
            found = judge(lab, undisturbed[more], seconds)
            wrong = not found.whole or bool(found.differences or found.said)
            wrong |= bool(found.lost) and not what.may_lose
            bad += wrong
            print(_line(name, found, wrong), flush=True)
    if arguments.keep is None:
        shutil.rmtree(folder)
    sys.exit(bad)


def _line(name: str, found: Outcome, wrong: bool) -> str:
    went_on = ", ".join(f"{seconds:.1f}" for seconds in found.went_on_s)
    lost = "; ".join(f"round {number}: {', '.join(each)}" for number, each in found.lost.items())
    text = f"{name:<26} {'WRONG' if wrong else 'ok':<6} next round after {went_on or '-'} s"
    text += f"; {'whole' if found.whole else 'NOT WHOLE'}; equal to round {found.equal}"
    text += f"; lost: {lost}" if lost else ""
    return "\n    ".join([text, *found.differences[:12], *found.said[:8]])


if __name__ == "__main__":
    main()
