"""Which updates go into the model, and how far: no device can ruin it; docs/model.md (L12).

The change ω_k − ω of an update has a norm, which is compared with what is usual in the round. A
change far above that is clipped to it, one out of all proportion is refused, and a device of which
that is so again and again is set aside for the rest of the run.

* :class:`Usual`      what norms are compared with
* :class:`Screening`  does all that, round by round, and says it

Honest norms are far apart: one device has ten times the samples of another one, and where trainings
have converged, most changes are small and a single one that has left its minimum is not. So the
factor above which a change is clipped is large, and what is clipped is clipped to the usual norm,
not to that factor of it.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Sequence

from msgspec.structs import replace

from fimi.coordinator.round_order import RoundOutcome
from fimi.coordinator.settings import RoundSettings
from fimi.coordinator.update_store import UpdateStore
from fimi.record.events import DeviceSetAside, Listener, UpdateClipped, UpdateRejected
from fimi.record.results import RoundResult

MAJORITY = 3
"""Updates of which a median says what is usual."""
FLOOR = 0.25
"""No norm below this share of the largest median so far is what is usual."""


class Usual:
    """The norm that those of a round are compared with.

    A majority is needed to say what is usual. Of three updates or more it is their median, of an
    even number the lower one of the middle two, so that two wrong ones of four do not make it
    large; at least :data:`FLOOR` of the largest median of earlier rounds. One or two updates are
    compared with the largest norm that went unclipped into the model before; without any, nothing
    is known.
    """

    def __init__(self) -> None:
        self._median = self._largest = 0.0

    def of(self, norms: Sequence[float]) -> float | None:
        """The usual norm in a round with these norms; ``None`` if nothing is known."""
        if len(norms) < MAJORITY:
            return self._largest or None
        usual = max(statistics.median_low(norms), FLOOR * self._median)
        return usual or self._largest or None  # most may have changed nothing

    def learn(self, norms: Sequence[float], whole: Iterable[float]) -> None:
        """A round is over.

        Args:
            norms: of all its updates.
            whole: of those that went unclipped into the model.
        """
        if len(norms) >= MAJORITY:
            self._median = max(self._median, statistics.median_low(norms))
        self._largest = max(self._largest, *whole, 0.0)


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
        self._usual = Usual()
        self._doubtful: dict[str, int] = {}
        for result in results:
            self._learn(result)

    @property
    def set_aside(self) -> frozenset[str]:
        """Devices that train no more in this run."""
        most = self._settings.set_aside_after
        return frozenset(d for d, times in self._doubtful.items() if most and times >= most)

    def screen(self, number: int, outcome: RoundOutcome, spool: UpdateStore) -> None:
        """Clip or refuse what is out of proportion; the entries and weights of a round follow.

        Args:
            number: of the round.
            outcome: what came of it; its accepted updates are in ``spool``.
            spool: has the norms of their changes.
        """
        settings = self._settings
        norms = {device: spool.norm(device) for device in outcome.updates.devices}
        usual = self._usual.of([*norms.values()])
        weights = dict(zip(norms, outcome.weights, strict=True))
        scales: dict[str, float] = {}
        for device, norm in norms.items():
            entry, scale, reason = outcome.devices[device], 1.0, ""
            times = 0.0 if usual is None else norm / usual
            said = f"the norm of its change is {norm:.4g}, {times:.3g} times the usual one"
            if 0.0 < settings.refuse_factor < times:
                reason = f"{said}; rounds.refuse_factor is {settings.refuse_factor:g}"
                del weights[device]
                outcome.devices[device] = replace(
                    entry, status="refused", reason=reason, update_norm=norm
                )
                self._notify(UpdateRejected(round=number, device=device, reason=reason))
                continue
            if 0.0 < settings.clip_factor < times:
                scale = scales[device] = settings.clip_to / times
                reason = f"{said}; rounds.clip_factor is {settings.clip_factor:g}"
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

    def late(self, norm: float, norms: Sequence[float]) -> tuple[float | None, str]:
        """How far a late update goes into the model of a round whose updates have these norms.

        Returns:
            The scale of its change, ``None`` if it is refused; and why it is not 1.
        """
        settings, usual = self._settings, self._usual.of(norms)
        times = 0.0 if usual is None else norm / usual
        said = f"the norm of its change is {norm:.4g}, {times:.3g} times the usual one"
        if 0.0 < settings.refuse_factor < times:
            return None, f"{said}; rounds.refuse_factor is {settings.refuse_factor:g}"
        if 0.0 < settings.clip_factor < times:
            return (
                settings.clip_to / times,
                f"{said}; rounds.clip_factor is {settings.clip_factor:g}",
            )
        return 1.0, ""

    def stored(self, result: RoundResult) -> None:
        """A round is stored: learn from it, and say who is set aside from now on."""
        before = self.set_aside
        self._learn(result)
        for entry in result.devices:
            if entry.device in self.set_aside - before:
                reason = (
                    f"its updates were refused or clipped {self._doubtful[entry.device]} times in "
                    f"a row (rounds.set_aside_after); the last time: {entry.reason}"
                )
                self._notify(
                    DeviceSetAside(round=result.number, device=entry.device, reason=reason)
                )

    def _learn(self, result: RoundResult) -> None:
        for entry in result.devices:
            if entry.status == "refused" or entry.is_clipped:
                self._doubtful[entry.device] = self._doubtful.get(entry.device, 0) + 1
            elif entry.status == "accepted":
                self._doubtful.pop(entry.device, None)
        if result.model_kept is None:
            known = [(e.update_norm, e) for e in result.devices if e.update_norm is not None]
            whole = (norm for norm, e in known if e.update_scale == 1.0)
            self._usual.learn([norm for norm, _ in known], whole)


def left_out(devices: Collection[str], excluded: Collection[str] = ()) -> str:
    """A part of a sentence about devices that are set aside or excluded; empty without any."""
    why = {
        "set aside: updates refused again and again": devices,
        "excluded; 'fimi control RUN include DEVICE' takes one in again": excluded,
    }
    said = [
        f"{', '.join(sorted(those))} {'is' if len(those) == 1 else 'are'} {what}"
        for what, those in why.items()
        if those
    ]
    return f" ({'; '.join(said)})" if said else ""
