"""What a run of a configuration would take on the boards that are there: time and joules."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from msgspec import Struct

from fimi.energy.cost_model import BoardModel
from fimi.energy.hardware import HardwareDescription
from fimi.energy.meters import MeterDescription
from fimi.messaging.messages.facts import Profile
from fimi.messaging.questions import BoardStatus
from fimi.messaging.topics import device_names
from fimi.optim.plans import Plan
from fimi.testbed.configuration.scenario import Scenario
from fimi.testbed.processes.devices import emulated_board
from fimi.testbed.tools.check import Unplanned, make_plan


class RunEstimate(Struct, frozen=True, kw_only=True):
    """What a run would take, by its plan; all joules are modelled, of whole boards.

    Attributes:
        rounds: their number.
        round_s: how long one lasts, s.
        total_j: of all boards in all rounds, with what comes before them, J.
        preparation_j: of receiving the synthetic samples, J, a part of it.
        by_kind: joules of the rounds of physical and of emulated boards, J.
        boards: how many there are of each kind.
    """

    rounds: int
    round_s: float
    total_j: float
    preparation_j: float
    by_kind: dict[str, float]
    boards: dict[str, int]

    @property
    def duration_s(self) -> float:
        """Of all rounds, s; planning and synthesis come before them."""
        return self.rounds * self.round_s


def estimate(
    scenario: Scenario, boards: Mapping[str, tuple[BoardStatus, BoardModel | None]]
) -> RunEstimate | Unplanned:
    """The plan of a configuration for these boards, times its rounds.

    Boards get the shares of the data as in a run, those whose names do not say which in the order
    of their ids. One without a model of its own is emulated as the configuration says.

    Raises:
        InfeasibleError: no plan meets the limits; says why, and what would help.
    """
    if scenario.own_images:
        return Unplanned("not tried, for devices bring images of their own (data.shares)")
    profiles = {}
    by_share = _by_share(scenario, boards)
    for index, (device, held) in enumerate(zip(by_share, scenario.shares, strict=True)):
        if device is None:
            continue
        status, model = boards[device]
        emulated = emulated_board(scenario.config, index, held)
        profiles[device] = Profile(
            device=device,
            boot_id="check",
            dataset=held.name,
            label_counts=held.label_counts(),
            hardware=emulated.describe() if model is None else _hardware(status),
            board=emulated.model() if model is None else model,
            backend="",
        )
    plan = make_plan(scenario, profiles)
    if isinstance(plan, Unplanned):
        return plan
    rounds = scenario.config.rounds.count
    by_kind: dict[str, float] = {}
    counts: dict[str, int] = {}
    for share, joules in zip(plan.devices, _round_j(plan, profiles, rounds), strict=True):
        kind = profiles[share.device].hardware.kind
        by_kind[kind] = by_kind.get(kind, 0.0) + rounds * joules
        counts[kind] = counts.get(kind, 0) + 1
    return RunEstimate(
        rounds=rounds,
        round_s=plan.round_s,
        total_j=rounds * plan.board.energy_j,
        preparation_j=plan.preparation_j,
        by_kind=by_kind,
        boards=counts,
    )


def _by_share(scenario: Scenario, boards: Collection[str]) -> list[str | None]:
    """The board of each share; ``None``: there are too few."""
    fleet = scenario.config.fleet
    names = device_names(fleet.devices, fleet.members)
    others = iter(sorted(set(boards) - set(names)))
    return [name if name in boards else next(others, None) for name in names]


def _round_j(plan: Plan, profiles: Mapping[str, Profile], rounds: int) -> list[float]:
    """Energy of each board in a round of a plan, without preparation, J.

    The plan has the joules of receiving the model as a sum only: every board receives as many bits,
    so that they go by its joules for a bit.
    """
    boards = [profiles[share.device].board for share in plan.devices]
    parts_j = [
        board.idle_power_w * plan.round_s + share.compute_j + share.upload_j
        for board, share in zip(boards, plan.devices, strict=True)
    ]
    receiving_j = plan.board.energy_j - plan.preparation_j / rounds - sum(parts_j)
    for_a_bit = [board.link.receive_power_w / board.link.downlink_rate_bps for board in boards]
    every = sum(for_a_bit) or 1.0
    return [
        part_j + receiving_j * each / every for part_j, each in zip(parts_j, for_a_bit, strict=True)
    ]


def _hardware(status: BoardStatus) -> HardwareDescription:
    meter = status.meter
    return HardwareDescription(
        board=status.board,
        kind=status.kind,
        meter=MeterDescription(
            source=meter.source if meter is not None else "",
            kind=meter.kind if meter is not None else "modelled",
            scope=meter.scope if meter is not None else "board",
            rate_hz=0.0,
        ),
    )
