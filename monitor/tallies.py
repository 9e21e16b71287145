"""Joules of a run that goes on: of all boards and of each, round by round.

The sums are those of the record (:mod:`fimi.record.sums`), over the parts that
:mod:`fimi.record.phases` makes of each round, so that no window can differ from the report.
"""

from __future__ import annotations

from msgspec.structs import replace

from fimi.energy.joules import Energy
from fimi.monitor.snapshot import JoulesNow, RoundNow
from fimi.record.phases import preparation_parts, round_parts
from fimi.record.results import Preparation, RoundResult
from fimi.record.sums import EnergyPart, EnergyTally, Gap
from fimi.report.words import gaps

SOURCES_MOST = 3
"""Sources that the joules of a round are shown with."""


def shown(tally: EnergyTally, *, words: bool = True) -> JoulesNow:
    """What was added so far, as it is shown.

    Args:
        tally: of it.
        words: whether what is missing is said in words, all of it.
    """
    compared = tally.compared(gaps=False)
    return JoulesNow(
        energy=tally.known,
        whole=tally.is_whole,
        missing=gaps(tally.missing) if words else "",
        compared=compared.measured,
        predicted_j=compared.predicted_j,
        error_percent=compared.error_percent,
    )


def brief(found: JoulesNow) -> JoulesNow:
    """The same with a few sources by their names: every round of hundreds of meters is sent."""
    energy = _few_sources(found.energy)
    compared = energy if found.compared is found.energy else _few_sources(found.compared)
    return replace(found, energy=energy, compared=compared)


def _few_sources(energy: Energy | None) -> Energy | None:
    if energy is None or energy.source.count("+") < SOURCES_MOST:
        return energy
    *few, rest = energy.source.split("+", SOURCES_MOST)
    return replace(energy, source=f"{'+'.join(few)}+{rest.count('+') + 1} more")


class Tallies:
    """Adds up rounds as they end.

    Attributes:
        prepared: devices whose time before the first round is in it.
        rounds: the rounds so far, by number.
        total: joules of all boards.
        server: joules of training on the server; ``None`` where it does not train, or where any of
            it was not metered.
        of_device: joules of each board.
        of_round: joules of each board in the last round that it has a part in, with its number.
    """

    def __init__(self) -> None:
        self._fleet = EnergyTally()
        self._devices: dict[str, EnergyTally] = {}
        self._server = EnergyTally()
        self._elapsed_s: float | None = None
        self._changed: dict[str, tuple[int, list[EnergyPart]] | None] = {}
        self.prepared: set[str] = set()
        self.rounds: dict[int, RoundNow] = {}
        self.total = JoulesNow()
        self.server: Energy | None = None
        self.of_device: dict[str, JoulesNow] = {}
        self.of_round: dict[str, tuple[int, JoulesNow]] = {}

    def copy(self) -> Tallies:
        """Another one with the same in it; what is added to one is not in the other."""
        found = Tallies()
        found._fleet, found._server = self._fleet.copy(), self._server.copy()
        found._devices = {device: each.copy() for device, each in self._devices.items()}
        found._elapsed_s, found._changed = self._elapsed_s, dict(self._changed)
        found.prepared, found.rounds = set(self.prepared), dict(self.rounds)
        found.total, found.server = self.total, self.server
        found.of_device, found.of_round = dict(self.of_device), dict(self.of_round)
        return found

    def prepare(self, preparation: Preparation) -> None:
        """Add what a device did before the first round."""
        self.prepared.add(preparation.device)
        for device in self._add(preparation_parts(preparation)):
            self._changed.setdefault(device, None)

    def settle(self) -> None:
        """Show what was added: the sums of devices and of the fleet are those of now afterwards."""
        for device, last in self._changed.items():
            self.of_device[device] = shown(self._devices[device])
            if last is not None:
                number, parts = last
                self.of_round[device] = (number, shown(EnergyTally(parts)))
        self._changed = {}
        self.total = shown(self._fleet)

    def finish(self, result: RoundResult) -> None:
        """Add a round."""
        parts = round_parts(result)
        own = self._add(parts)
        so_far = shown(self._fleet, words=False)
        if result.server is not None:
            self._server.enter(Gap(device="server", round=result.number), result.server.energy)
            self.server = self._server.sum().value
        if self._elapsed_s is None:
            self._elapsed_s = result.start_s
        self._elapsed_s += result.duration_s
        self._changed.update({device: (result.number, few) for device, few in own.items()})
        self.rounds[result.number] = RoundNow(
            accuracy=result.evaluation.accuracy,
            validation_accuracy=result.validation.accuracy if result.validation else None,
            loss=result.evaluation.loss,
            duration_s=result.duration_s,
            elapsed_s=self._elapsed_s,
            accepted=result.accepted,
            participants=len(result.participants),
            energy=brief(shown(EnergyTally(parts))),
            so_far=brief(so_far),
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
