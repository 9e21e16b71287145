"""``fimi fleet check``: whether a fleet is ready for a long run, tried and not assumed.

* :func:`check`     tries the broker and every board, and plans the run where one is given
* :class:`FleetChecked`  what was found
* :func:`lines`     as text
* :func:`body`      as JSON
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from fimi.edge_agent.doctor.surroundings import LEAST_DISK_BYTES, LEAST_MEMORY_BYTES
from fimi.energy.cost_model import BoardModel
from fimi.errors import FimiError
from fimi.messaging.console import Console, SeenBoard
from fimi.messaging.errors import MessagingError
from fimi.messaging.questions import BoardStatus, Check, ModelQuestion, ModelReply
from fimi.plural import plural
from fimi.record.clean import clean, enumerated, shortened
from fimi.report.layout import Marked, Paper, entries, table
from fimi.report.words import bits_per_second, joules, seconds
from fimi.sources import source_digest, version
from fimi.testbed.configuration.scenario import Scenario
from fimi.testbed.fleet.boards import each_of, room
from fimi.testbed.fleet.doctor import remedies
from fimi.testbed.fleet.probing import Probe, Rate, probe, try_broker

CLOCK_S = 1.0
"""Clocks that differ by more are warned of, s: no run compares them, its dates will be wrong."""

MODELS_HELD = 4
"""How often a device holds the network's parameters: model, gradient, momentum, update."""
CODED_HELD, OWED_HELD = 2, 2
"""How often more while an update is coded (the change, and what was said of it), and with feedback:
what is owed, and what will be if the update is accepted."""


class BoardChecked(Struct, frozen=True, kw_only=True):
    """What was found of a board.

    Attributes:
        checks: the checks.
        probe: the way to it; ``None`` if it was not tried.
        status: how it is; ``None`` if it does not answer.
        model: what it costs; ``None``: the run will say.
    """

    checks: tuple[Check, ...]
    probe: Probe | None = None
    status: BoardStatus | None = None
    model: BoardModel | None = None


class FleetChecked(Struct, frozen=True, kw_only=True):
    """What was found of a fleet.

    Attributes:
        broker: checks of the broker.
        boards: of every board, by id.
        run: what the run would take, term and words; empty without a configuration.
        checks: checks of the run: its number of boards, its plan.
        estimate: the numbers of ``run``; ``None`` where there is no plan.
    """

    broker: tuple[Check, ...]
    boards: dict[str, BoardChecked]
    run: tuple[tuple[str, str], ...] = ()
    checks: tuple[Check, ...] = ()
    estimate: Any = None

    @property
    def has_failed(self) -> bool:
        """Whether something fails that a run needs."""
        of_boards = (check for board in self.boards.values() for check in board.checks)
        every = (*self.broker, *self.checks, *of_boards)
        return any(check.status == "failure" for check in every)


def check(console: Console, boards: Sequence[SeenBoard], scenario: Scenario | None) -> FleetChecked:
    """Try the broker and boards; plan the run of a configuration.

    Boards are tried one after another, so that each has the network for itself. Of a configuration
    that names its boards (``fleet.members``) only those are.

    Raises:
        BrokerError: the broker cannot be reached.
    """
    by_id = {board.device: board for board in boards}
    if scenario is not None and (members := scenario.config.fleet.members):
        by_id = {name: by_id.get(name, SeenBoard(device=name)) for name in members}
    broker, needs = try_broker(console.address, console.fleet), needed(scenario)
    found = each_of(
        by_id.values(), lambda board: _board(console, board, scenario, needs), in_turn=True
    )
    answered = sum(isinstance(board, BoardChecked) for board in found.values())
    named = scenario is None or bool(scenario.config.fleet.members)
    spare = not named and scenario is not None and answered >= scenario.config.fleet.devices
    checked = {
        name: board
        if isinstance(board, BoardChecked)
        else _silent(board, needed=not spare or by_id[name].standing != "offline")
        for name, board in found.items()
    }
    if not by_id:
        nobody = "the broker knows no board in this fleet"
        none = Check(name="boards", status="failure", found=nobody, fix="start: fimi agent run")
        return FleetChecked(broker=broker, boards={}, checks=(none,))
    if scenario is None:
        return FleetChecked(broker=broker, boards=checked)
    run, checks, estimate = _planned(scenario, checked)
    return FleetChecked(broker=broker, boards=checked, run=run, checks=checks, estimate=estimate)


def _silent(error: MessagingError, *, needed: bool) -> BoardChecked:
    """A board that does not answer: without it there are enough, or there are not."""
    status: Literal["failure", "warning"] = "failure" if needed else "warning"
    return BoardChecked(checks=(Check(name="answers", status=status, found=str(error)),))


def _board(
    console: Console, seen: SeenBoard, scenario: Scenario | None, needs: tuple[int, int]
) -> BoardChecked:
    status = seen.status
    assert status is not None  # it has answered
    way = probe(console, seen.device)
    reply = console.ask(seen.device, ModelQuestion())
    return BoardChecked(
        checks=tuple(_checks(status, way, scenario, needs)),
        probe=way,
        status=status,
        model=reply.board if isinstance(reply, ModelReply) else None,
    )


def _checks(
    status: BoardStatus, way: Probe, scenario: Scenario | None, needs: tuple[int, int]
) -> Iterator[Check]:
    busy = status.busy or status.errand
    yield _judged("free", f"it is busy: {busy}" if busy else "", "wait until that has ended")
    damaged = f"{way.damaged} of the chunks came back changed" if way.damaged else ""
    yield _judged("chunks", damaged, "look at its network and its memory")
    apart = abs(way.ahead_s) - way.uncertainty_s > CLOCK_S
    yield _judged(
        "clock",
        f"its clock is {_ahead(way)} of the clock here" if apart else "",
        "sudo timedatectl set-ntp true, on both",
        "warning",
    )
    ours, theirs = (version(), source_digest()), (status.version, status.sources)
    yield _judged(
        "code",
        ""
        if ours == theirs
        else f"it runs fimi {theirs[0] or '?'} ({theirs[1]}), here is {ours[0]} ({ours[1]})",
        "install the same on both, and restart its agent",
        "warning",  # a run can be made as long as both speak the same protocol
    )
    memory_bytes, disk_bytes = needs
    yield _enough("memory", status.memory_free_bytes, memory_bytes, "stop other programs")
    yield _enough("disk", status.disk_free_bytes, disk_bytes, "sudo apt clean, or empty its cache")
    if scenario is not None and scenario.own_images and status.contract:
        same = status.contract == scenario.contract.digest
        yield _judged(
            "contract",
            ""
            if same
            else f"its data file has the contract {status.contract[:12]}…, the run has "
            f"{scenario.contract.digest[:12]}…",
            "write it again with 'fimi agent data' and this configuration, if the keys differ",
            "warning",
        )
    for trouble in status.troubles:
        yield Check(name="trouble", status="failure", found=trouble)


def _judged(name: str, wrong: str, fix: str, weight: Any = "failure") -> Check:
    if not wrong:
        return Check(name=name, status="ok", found="")
    return Check(name=name, status=weight, found=wrong, fix=fix)


def _enough(name: str, free: int, needed: int, fix: str) -> Check:
    wrong = f"{room(free)} are free, a run needs about {room(needed)}" if free < needed else ""
    return _judged(name, wrong, fix)


def needed(scenario: Scenario | None) -> tuple[int, int]:
    """Memory and disk that a run needs on a device, about, bytes.

    What an agent needs at least, the network with what training holds beside it, the largest share
    of the data, and as many synthetic images.
    """
    if scenario is None:
        return LEAST_MEMORY_BYTES, LEAST_DISK_BYTES
    network, shares = scenario.network.size_bytes, () if scenario.own_images else scenario.shares
    coding, held = scenario.config.transfer.of_update, MODELS_HELD
    if coding.takes_difference:
        held += CODED_HELD + (OWED_HELD if coding.kind == "top-k" and coding.feedback else 0)
    images = 2 * max((share.images.nbytes for share in shares), default=0)
    return (
        LEAST_MEMORY_BYTES + held * network + images,
        LEAST_DISK_BYTES + network + images,
    )


def _planned(
    scenario: Scenario, boards: Mapping[str, BoardChecked]
) -> tuple[tuple[tuple[str, str], ...], tuple[Check, ...], Any]:
    """What the run would take, in words; checks of it; the numbers."""
    from fimi.testbed.fleet.estimate import RunEstimate, estimate

    ready = {
        name: (board.status, board.model)
        for name, board in boards.items()
        if board.status is not None
    }
    config = scenario.config
    fewer = len(ready) != config.fleet.devices
    checks = [
        _judged(
            "boards",
            f"fleet.devices is {config.fleet.devices}, {len(ready)} boards answer" if fewer else "",
            "start the others, or set fleet.devices",
            "warning" if len(ready) > config.fleet.devices else "failure",
        )
    ]
    if not ready:
        return (), tuple(checks), None
    try:
        found = estimate(scenario, ready)
    except FimiError as error:
        checks.append(Check(name="plan", status="failure", found=str(error)))
        return (), tuple(checks), None
    if not isinstance(found, RunEstimate):
        return (("plan", f"{found}"),), tuple(checks), None
    each = ", ".join(
        f"{plural(count, f'{kind} board')} {joules(found.by_kind[kind])}"
        for kind, count in found.boards.items()
    )
    before = f", receiving the synthetic samples {joules(found.preparation_j)}"
    said = (
        ("duration", f"{found.rounds} rounds of {seconds(found.round_s)}: about "
         f"{seconds(found.duration_s)}, after planning and synthesis"),
        ("energy", f"{joules(found.total_j)} (modelled, board): {each}"
         + (before if found.preparation_j else "")),
    )  # fmt: skip
    return said, tuple(checks), found


def _ahead(way: Probe) -> str:
    side = "ahead" if way.ahead_s >= 0.0 else "behind"
    return f"{seconds(abs(way.ahead_s))} ± {seconds(way.uncertainty_s)} {side}"


def _rate(rate: Rate) -> str:
    return f"{'>' if rate.at_least else ''}{bits_per_second(rate.bps)}"


def lines(checked: FleetChecked, paper: Paper) -> Iterator[str]:
    """What was found as text: broker, boards, run, and what to do."""
    fine = [check.found for check in checked.broker if check.status == "ok"]
    if fine:
        yield entries([("broker", "; ".join(fine))], indent=11, paper=paper)
    answering = {name: board for name, board in checked.boards.items() if board.probe is not None}
    if answering:
        yield ""
        yield table(
            ("device", "chunk\nthere", "chunk\nback", "clock", "free\nmemory", "free\ndisk",
             "code", "run"),
            [*map(_row, shortened([*answering], 20), answering.values())],
            paper=paper,
        )  # fmt: skip
    if checked.run:
        yield ""
        yield entries(checked.run, indent=11, paper=paper)
    every = {
        "broker": checked.broker,
        **{name: board.checks for name, board in checked.boards.items()},
        "run": checked.checks,
    }
    for status in ("failure", "warning"):
        yield from remedies(every, status, paper)
    yield ""
    yield (
        paper.ink(Marked("not ready for a run", "problem"))
        if checked.has_failed
        else f"ready: {enumerated(list(checked.boards))}"
    )


def _row(name: str, board: BoardChecked) -> list[str]:
    way, status = board.probe, board.status
    assert way is not None and status is not None
    by_name = {check.name: check.status for check in board.checks}

    def cell(text: str, *names: str) -> str:
        found = {by_name.get(name) for name in names}
        if "failure" in found:
            return Marked(text, "problem")
        return Marked(text, "warning") if "warning" in found else text

    same = by_name.get("code") == "ok"
    return [
        name,
        cell(_rate(way.there), "chunks"),
        cell(_rate(way.back), "chunks"),
        cell(_clock(way), "clock"),
        cell(room(status.memory_free_bytes), "memory"),
        cell(room(status.disk_free_bytes), "disk"),
        cell("same" if same else "differs", "code"),
        cell(clean(status.run or "free", 12), "free"),
    ]


def _clock(way: Probe) -> str:
    """``+1.2 ± 0.4 ms``."""
    scale, unit = (1e3, "ms") if abs(way.ahead_s) < 1.0 else (1.0, "s")
    return f"{round(scale * way.ahead_s, 1) + 0.0:+.1f} ± {scale * way.uncertainty_s:.1f} {unit}"


def body(checked: FleetChecked) -> dict[str, Any]:
    """What was found, as JSON."""
    found: dict[str, Any] = msgspec.to_builtins(checked)
    return {"ready": not checked.has_failed, **found}
