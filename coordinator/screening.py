"""Which updates go into the model, and how far: no device can ruin it; docs/model.md (L12).

The change ω_k − ω of an update has a norm. A norm is compared with the median of the round: what is
far above it is clipped, what is out of all proportion is refused, and who is refused again and
again is set aside for the rest of the run.

* :func:`usual_norm`   what norms of a round are compared with
* :class:`Screening`   does all that, round by round, and says it

A majority is needed to say what is usual. Of three updates or more, the median is that of the round
(the lower one of an even number, so that two wrong ones of four do not make it large). One or two
updates are compared with the largest that went unclipped into the model in the last rounds; before
there is any, nothing is known, and they are taken as they are.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence

from msgspec.structs import replace

from fimi.coordinator.rounds import RoundOutcome
from fimi.coordinator.settings import RoundSettings
from fimi.coordinator.update_store import UpdateStore
from fimi.record.events import DeviceSetAside, Listener, UpdateClipped, UpdateRejected
from fimi.record.results import DeviceRound, RoundResult

MAJORITY = 3
"""Updates of which a median says what is usual."""
LOOKS_BACK = 5
"""Rounds whose norms fewer updates are compared with."""


def usual_norm(norms: Sequence[float], earlier: Sequence[float]) -> float | None:
    """The norm that those of a round are compared with; ``None`` if nothing is known.

    Args:
        norms: of all updates of the round.
        earlier: of updates that went unclipped into the model in the last rounds.
    """
    usual = statistics.median_low(norms) if len(norms) >= MAJORITY else 0.0
    return usual or max(earlier, default=0.0) or None


class Screening:
    """Screens the updates of every round of a run.

    Args:
        settings: factors, and after how many refusals a device is set aside.
        notify: called with events.
        results: stored rounds of a run that goes on.
    """

    def __init__(
        self, settings: RoundSettings, notify: Listener, results: Sequence[RoundResult] = ()
    ) -> None:
        self._settings = settings
        self._notify = notify
        self._earlier: list[list[float]] = []
        self._refused: dict[str, int] = {}
        for result in results:
            self._learn(result)

    @property
    def set_aside(self) -> frozenset[str]:
        """Devices that train no more in this run."""
        most = self._settings.set_aside_after
        return frozenset(d for d, times in self._refused.items() if most and times >= most)

    def screen(self, number: int, outcome: RoundOutcome, spool: UpdateStore) -> None:
        """Clip or refuse what is out of proportion; the entries and weights of a round follow.

        Args:
            number: of the round.
            outcome: what came of it; its accepted updates are in ``spool``.
            spool: has the norms of their changes.
        """
        settings = self._settings
        norms = {device: spool.norm(device) for device in outcome.updates.devices}
        usual = usual_norm(
            [*norms.values()], [norm for each in self._earlier[-LOOKS_BACK:] for norm in each]
        )
        weights = dict(zip(norms, outcome.weights, strict=True))
        scales: dict[str, float] = {}
        for device, norm in norms.items():
            entry, scale, reason = outcome.devices[device], 1.0, ""
            times = None if usual is None else norm / usual
            if times is not None and 0.0 < settings.refuse_factor < times:
                reason = _far(norm, usual, settings.refuse_factor, "refuse_factor")
                del weights[device]
                outcome.devices[device] = replace(
                    entry, status="refused", reason=reason, update_norm=norm
                )
                self._notify(UpdateRejected(round=number, device=device, reason=reason))
                continue
            if times is not None and 0.0 < settings.clip_factor < times:
                scale = scales[device] = settings.clip_factor / times
                reason = _far(norm, usual, settings.clip_factor, "clip_factor")
                self._notify(
                    UpdateClipped(
                        round=number, device=device, norm=norm, limit=scale * norm, reason=reason
                    )
                )
            outcome.devices[device] = replace(
                entry, reason=reason, update_norm=norm, update_scale=scale
            )
        outcome.updates = outcome.updates.chosen((*weights,), scales)
        outcome.weights = [*weights.values()]

    def stored(self, result: RoundResult) -> None:
        """A round is stored: learn from it, and say who is set aside from now on."""
        before = self.set_aside
        self._learn(result)
        for entry in result.devices:
            if entry.device in self.set_aside - before:
                reason = (
                    f"its updates were refused in {self._refused[entry.device]} rounds in a row "
                    f"(rounds.set_aside_after); the last time: {entry.reason}"
                )
                self._notify(
                    DeviceSetAside(round=result.number, device=entry.device, reason=reason)
                )

    def _learn(self, result: RoundResult) -> None:
        taken = [] if result.model_kept is not None else result.devices
        self._earlier.append(
            [e.update_norm for e in taken if e.update_norm is not None and _is_whole(e)]
        )
        del self._earlier[:-LOOKS_BACK]
        for entry in result.devices:
            if entry.status == "refused":
                self._refused[entry.device] = self._refused.get(entry.device, 0) + 1
            elif entry.status == "accepted":
                self._refused.pop(entry.device, None)


def left_out(devices: Collection[str]) -> str:
    """A part of a sentence about devices that are set aside; empty if there are none."""
    if not devices:
        return ""
    are = "is" if len(devices) == 1 else "are"
    return f" ({', '.join(sorted(devices))} {are} set aside: updates refused again and again)"


def _is_whole(entry: DeviceRound) -> bool:
    return entry.status == "accepted" and entry.update_scale == 1.0


def _far(norm: float, usual: float | None, factor: float, key: str) -> str:
    assert usual is not None
    return (
        f"the norm of its change is {norm:.4g}, {norm / usual:.3g} times the usual {usual:.4g}; "
        f"rounds.{key} is {factor:g}"
    )
