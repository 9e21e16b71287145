"""Joules of a run that goes on: of all boards and of each, round by round.

The sums are those of the record (:mod:`fimi.record.sums`), over the parts that
:mod:`fimi.record.phases` makes of each round, so that no window can differ from the report.
"""

from __future__ import annotations

from fimi.energy.joules import Energy, total
from fimi.monitor.snapshot import JoulesNow, RoundNow
from fimi.record.phases import preparation_parts, round_parts
from fimi.record.results import Preparation, RoundResult
from fimi.record.sums import EnergyPart, EnergyTally
from fimi.report.words import gaps


def shown(tally: EnergyTally) -> JoulesNow:
    """What was added so far, as it is shown."""
    total, compared = tally.sum(), tally.compared()
    return JoulesNow(
        energy=total.known,
        whole=not total.missing,
        missing=gaps(total.missing),
        compared=compared.measured,
        predicted_j=compared.predicted_j,
        error_percent=compared.error_percent,
    )


class Tallies:
    """Adds up rounds as they end.

    Attributes:
        rounds: the rounds so far, by number.
        total: joules of all boards.
        server: joules of training on the server; ``None`` where it does not train.
        of_device: joules of each board.
        of_round: joules of each board in the last round that it has a part in, with its number.
    """

    def __init__(self) -> None:
        self._fleet = EnergyTally()
        self._devices: dict[str, EnergyTally] = {}
        self._server = EnergyTally()
        self._elapsed_s: float | None = None
        self.rounds: dict[int, RoundNow] = {}
        self.total = JoulesNow()
        self.server: Energy | None = None
        self.of_device: dict[str, JoulesNow] = {}
        self.of_round: dict[str, tuple[int, JoulesNow]] = {}

    def prepare(self, preparation: Preparation) -> None:
        """Add what a device did before the first round."""
        self._add(preparation_parts(preparation))
        self.total = shown(self._fleet)
        device = preparation.device
        if device in self._devices:
            self.of_device[device] = shown(self._devices[device])

    def finish(self, result: RoundResult) -> None:
        """Add a round."""
        parts = round_parts(result)
        own = self._add(parts)
        self.total = shown(self._fleet)
        if result.server is not None and result.server.energy is not None:
            energy = result.server.energy
            self.server = total(filter(None, (self.server, energy)))
        if self._elapsed_s is None:
            self._elapsed_s = result.start_s
        self._elapsed_s += result.duration_s
        for device, few in own.items():
            self.of_device[device] = shown(self._devices[device])
            self.of_round[device] = (result.number, shown(EnergyTally(few)))
        self.rounds[result.number] = RoundNow(
            accuracy=result.evaluation.accuracy,
            validation_accuracy=result.validation.accuracy if result.validation else None,
            loss=result.evaluation.loss,
            duration_s=result.duration_s,
            elapsed_s=self._elapsed_s,
            accepted=result.accepted,
            participants=len(result.participants),
            energy=shown(EnergyTally(parts)),
            so_far=self.total,
        )

    def _add(self, parts: tuple[EnergyPart, ...]) -> dict[str, list[EnergyPart]]:
        """Add parts to their sums; returns them by device."""
        own: dict[str, list[EnergyPart]] = {}
        self._fleet.add(parts)
        for part in parts:
            own.setdefault(part.device, []).append(part)
        for device, few in own.items():
            self._devices.setdefault(device, EnergyTally()).add(few)
        return own
