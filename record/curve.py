"""A run round by round: what each round took, what all took so far, what an accuracy has cost.

* :class:`RoundPoint`  a round, and the run after it
* :func:`points`       all of them
* :func:`generator_sum` the joules of drawing images
* :class:`Price`       rounds, joules, seconds and bytes until an accuracy was first reached
* :func:`reached`      the first round with an accuracy
* :func:`price`        of one accuracy

The first round holds what came before it: receiving the synthetic data, and waiting for it. It
holds all that the generator node took as well, also for images that were asked for later.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from fimi.energy.joules import Energy
from fimi.record.fairness import Fairness, fairness
from fimi.record.phases import add_dynamic
from fimi.record.record import RunData
from fimi.record.resolution import PartKey
from fimi.record.results import DeviceStretch
from fimi.record.sums import (
    Compared,
    EnergyPart,
    EnergyTally,
    Gap,
    Sum,
    error_percent,
    joined,
    mean,
)

JudgedOn = Literal["test", "validation"]
"""What the global model is judged on."""


class Moved(Struct, frozen=True, kw_only=True):
    """Bytes that devices sent and received, as they report them.

    Attributes:
        size_bytes: all of them; ``None`` if a device did not report it, or none took part.
        known_bytes: of the devices that reported; ``None`` if none did.
        missing: the devices that did not, by round.
    """

    size_bytes: int | None = None
    known_bytes: int | None = None
    missing: tuple[Gap, ...] = ()


class RoundPoint(Struct, frozen=True, kw_only=True):
    """A round, and the run up to its end.

    Attributes:
        number: from 1.
        accuracy: of the global model on the test set, 0 to 1.
        validation_accuracy: on the public images for validation; ``None`` without any.
        loss: of the global model; ``None`` where it is not finite.
        round_s: length of this round, fleet's clock, s; without what came before the first.
        accepted: updates in this round's model.
        participants: devices that were to train in this round.
        absent: devices that were not there when it began.
        error_percent: mean absolute error of the predicted joules of its participants, over the
            phases that were both metered and predicted; ``None`` without any.
        energy: of whole boards in this round.
        dynamic: the paper's energy in this round.
        compared: ``energy`` against its prediction.
        duration_s: of this round, with the time on the fleet's clock before the first, s.
        moved: in this round.
        energy_so_far: whole boards from the beginning.
        dynamic_so_far: the paper's energy from the beginning.
        compared_so_far: whole boards from the beginning, against the prediction.
        dynamic_compared_so_far: the paper's energy likewise.
        elapsed_s: from the beginning, s.
        moved_so_far: from the beginning.
        server_so_far: training on the server, from the beginning; empty if it does not train.
        total_so_far: boards, generator node and server from the beginning.
        fairness: accuracy of the global model as each device would see it.
    """

    number: int
    accuracy: float
    validation_accuracy: float | None
    loss: float | None
    round_s: float
    accepted: int
    participants: int
    absent: int
    error_percent: float | None
    energy: Sum
    dynamic: Sum
    compared: Compared
    duration_s: float
    moved: Moved
    energy_so_far: Sum
    dynamic_so_far: Sum
    compared_so_far: Compared
    dynamic_compared_so_far: Compared
    elapsed_s: float
    moved_so_far: Moved
    server_so_far: Sum
    total_so_far: Sum
    fairness: Fairness


class Price(Struct, frozen=True, kw_only=True):
    """What an accuracy had cost when the global model first reached it.

    Attributes:
        target: accuracy, 0 to 1.
        rounds: until then; ``None``, as all below, if it was never reached.
        energy_j: whole boards, J; ``None`` if a part is missing.
        dynamic_j: the paper's energy, J; ``None`` likewise.
        duration_s: on the fleet's clock, s.
        size_bytes: that devices moved; ``None`` if one did not report it.
        energy: ``energy_j`` with its kind, its known part and what is missing.
        dynamic: ``dynamic_j`` likewise.
        moved: ``size_bytes`` likewise.
        server: training on the server.
        total: boards, generator node and server.
    """

    target: float
    rounds: int | None = None
    energy_j: float | None = None
    dynamic_j: float | None = None
    duration_s: float | None = None
    size_bytes: int | None = None
    energy: Sum | None = None
    dynamic: Sum | None = None
    moved: Moved | None = None
    server: Sum | None = None
    total: Sum | None = None


def points(
    run: RunData, parts: Iterable[EnergyPart], above: Mapping[PartKey, Energy]
) -> tuple[RoundPoint, ...]:
    """A run round by round; ``above`` is from :func:`fimi.record.resolution.above_rest`."""
    of_round: dict[int, list[EnergyPart]] = {}
    for part in parts:
        of_round.setdefault(part.round, []).append(part)
    board, dynamic, server = EnergyTally(), EnergyTally(), EnergyTally()
    generator = generator_sum(run)
    before = of_round.get(0, [])
    waited_s = run.rounds[0].start_s if run.rounds else 0.0
    moving: list[tuple[int, DeviceStretch]] = [
        (0, each) for each in run.preparations if each.phases or each.predicted
    ]  # others have rested, and received nothing
    moved_so_far, elapsed_s = Moved(), 0.0
    held = {d: p.label_counts if (p := run.profiles.get(d)) else () for d in run.devices}
    found = []
    for result in run.rounds:
        during = of_round.get(result.number, [])
        here, here_dynamic = EnergyTally(), EnergyTally()
        for whole, of_rest in ((board, dynamic), (here, here_dynamic)):
            whole.add([*before, *during])
            add_dynamic(of_rest, during, above)
        moving += [(result.number, entry) for entry in result.participants]
        moved = _moved(
            [transfer.size_bytes for _, entry in moving for transfer in entry.transfers],
            tuple(Gap(device=e.device, round=n) for n, e in moving if not e.transfers),
        )
        moved_so_far = _moved(
            [moved_so_far.known_bytes, moved.known_bytes], moved_so_far.missing + moved.missing
        )
        if result.server is not None:
            server.enter(Gap(device="server", round=result.number), result.server.energy)
        board_so_far, server_so_far = board.sum(), server.sum()
        elapsed_s += waited_s + result.duration_s
        found.append(
            RoundPoint(
                number=result.number,
                accuracy=result.evaluation.accuracy,
                validation_accuracy=result.validation.accuracy if result.validation else None,
                loss=result.evaluation.loss,
                round_s=result.duration_s,
                accepted=result.accepted,
                participants=len(result.participants),
                absent=len(result.absent),
                error_percent=mean(device_errors(during)),
                energy=here.sum(),
                dynamic=here_dynamic.sum(),
                compared=here.compared(),
                duration_s=waited_s + result.duration_s,
                moved=moved,
                energy_so_far=board_so_far,
                dynamic_so_far=dynamic.sum(),
                compared_so_far=board.compared(),
                dynamic_compared_so_far=dynamic.compared(),
                elapsed_s=elapsed_s,
                moved_so_far=moved_so_far,
                server_so_far=server_so_far,
                total_so_far=joined(board_so_far, generator, server_so_far),
                fairness=fairness(result.evaluation.class_accuracy, held),
            )
        )
        before, moving, waited_s = [], [], 0.0
    return tuple(found)


def generator_sum(run: RunData) -> Sum:
    """Joules of drawing a run's images; empty where none were asked for.

    Those of images that had been drawn before, for another run, are not known.
    """
    made = run.generation
    if made is None or not made.delivered:
        return Sum()
    tally = EnergyTally()
    energy = made.energy if made.drawn else None
    tally.enter(Gap(device="generator", round=0), energy)
    return tally.sum()


def device_errors(parts: Iterable[EnergyPart]) -> list[float]:
    """Absolute errors of the predicted joules of each participant in each round, percent."""
    sums: dict[tuple[int, str], tuple[list[float], list[float]]] = {}
    for part in parts:
        if part.participant and part.energy is not None and part.predicted_j is not None:
            predicted, measured = sums.setdefault((part.round, part.device), ([], []))
            predicted.append(part.predicted_j)
            measured.append(part.energy.value_j)
    errors = (error_percent(math.fsum(p), math.fsum(m)) for p, m in sums.values())
    return [abs(error) for error in errors if error is not None]


def reached(found: Sequence[RoundPoint], target: float, on: JudgedOn = "test") -> RoundPoint | None:
    """The first round with this accuracy, 0 to 1, on a part of the data; ``None``: no round."""
    for point in found:
        accuracy = point.accuracy if on == "test" else point.validation_accuracy
        if accuracy is not None and accuracy >= target:
            return point
    return None


def price(found: Sequence[RoundPoint], target: float, on: JudgedOn = "test") -> Price:
    """What an accuracy, 0 to 1, had cost when it was first reached in a run round by round."""
    point = reached(found, target, on)
    if point is None:
        return Price(target=target)
    return Price(
        target=target,
        rounds=point.number,
        energy_j=point.energy_so_far.value_j,
        dynamic_j=point.dynamic_so_far.value_j,
        duration_s=point.elapsed_s,
        size_bytes=point.moved_so_far.size_bytes,
        energy=point.energy_so_far,
        dynamic=point.dynamic_so_far,
        moved=point.moved_so_far,
        server=point.server_so_far,
        total=point.total_so_far,
    )


def _moved(told: Iterable[int | None], missing: tuple[Gap, ...]) -> Moved:
    sizes = [size for size in told if size is not None]
    known = sum(sizes) if sizes else None
    return Moved(size_bytes=None if missing else known, known_bytes=known, missing=missing)
