"""Devices of a run that goes on, from what happens and from what they say of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from fimi.energy.hardware import Applied
from fimi.messaging.messages.facts import Profile
from fimi.messaging.messages.orders import DevicePlan
from fimi.messaging.messages.peers import Telemetry
from fimi.messaging.presence import PeerView
from fimi.monitor.snapshot import Condition, DeviceNow
from fimi.monitor.tallies import Tallies
from fimi.optim.planner import Plan
from fimi.record.clean import clean
from fimi.record.events import (
    DeviceJoined,
    DeviceLost,
    DeviceRefused,
    DeviceReported,
    DeviceSetAside,
    Event,
    Intervened,
    MeterDoubted,
    PlanInForce,
    RoundFinished,
    RoundStarted,
    StillInForce,
    UpdateRejected,
)
from fimi.record.interventions import ExcludeDevice, IncludeDevice
from fimi.record.results import DeviceRound

_STAYS: tuple[Condition, ...] = ("refused", "set-aside")
"""States that a new round does not end."""


class Devices:
    """The devices of a run. One thread uses it at a time."""

    def __init__(self) -> None:
        self._known: dict[str, DeviceNow] = {}
        self._lost: dict[str, str] = {}
        self._excluded: set[str] = set()

    @property
    def kind(self) -> str:
        """Kind of the boards; ``mixed`` for several, empty for none."""
        kinds = {each.kind for each in self._known.values() if each.kind}
        return "mixed" if len(kinds) > 1 else "".join(kinds)

    def knows(self, device: str) -> bool:
        """Whether it is one of them."""
        return device in self._known

    def update(self, device: str, **fields: Any) -> None:
        """Change what is known of a device; one that is new begins with this."""
        self._known[device] = replace(self._known.get(device, DeviceNow()), **fields)

    def recall(self, device: str, plan: DevicePlan, profile: Profile | None) -> None:
        """A device of an earlier process of the run."""
        self.update(
            device,
            state="awaited",
            synthetic=_images(plan),
            set_hz=plan.point.frequency_hz,
            set_bps=plan.point.rate_bps,
        )
        if profile is not None:
            self.update(
                device,
                board=clean(profile.hardware.board),
                kind=profile.hardware.kind,
                samples=sum(profile.label_counts),
            )

    def plan(self, plan: Plan, told: Mapping[str, DevicePlan] = {}) -> int:
        """A new plan of the fleet, and what devices are told of it, once that is known.

        Returns:
            The synthetic images of all devices that it plans.
        """
        images = 0
        for share in plan.devices:
            known = told.get(share.device)
            own = sum(share.synthetic_counts) if known is None else _images(known)
            images += own
            self.update(
                share.device,
                synthetic=own,
                set_hz=share.point.frequency_hz,
                set_bps=share.point.rate_bps if known is None else known.point.rate_bps,
            )
        return images

    def take(self, event: Event) -> None:
        """Something happened."""
        match event:
            case DeviceJoined():
                self._lost.pop(event.device, None)
                self.update(
                    event.device,
                    board=clean(event.board),
                    kind=event.kind,
                    samples=event.samples,
                    state="joined",
                    problem="",
                )
            case DeviceRefused():
                self.update(event.device, state="refused", problem=clean(event.reason, 1000))
            case DeviceLost():
                self._lost[event.device] = clean(event.reason, 1000)
            case PlanInForce() if event.error:
                self.update(event.device, state="failed", problem=clean(event.error, 1000))
            case PlanInForce():
                self._lost.pop(event.device, None)
                self.update(event.device, state="ready", problem="")
                if event.applied is not None:
                    self._applied(event.device, event.applied)
            case RoundStarted():
                for device, now in self._known.items():
                    if device in event.devices:
                        self._lost.pop(device, None)
                        self.update(device, state="training")
                    elif now.state not in _STAYS:
                        self.update(device, state="resting")
            case DeviceReported():
                problem = clean(event.error, 1000)
                state: Condition = "failed" if problem else "reported"
                self.update(event.device, state=state, problem=problem)
            case UpdateRejected():
                self.update(event.device, problem=clean(event.reason, 1000))
            case MeterDoubted():
                self.update(event.device, problem=clean("; ".join(event.doubts), 1000))
            case DeviceSetAside():
                self.update(event.device, state="set-aside", problem=clean(event.reason, 1000))
            case Intervened(request=ExcludeDevice() as request) if event.done:
                self._excluded.add(request.device)
            case Intervened(request=IncludeDevice() as request) if event.done:
                self._excluded.discard(request.device)
            case StillInForce():
                self._excluded = set(event.excluded)
            case RoundFinished():
                for entry in event.result.devices:
                    if not entry.is_outside:
                        self._finished(entry)

    def _applied(self, device: str, applied: Applied) -> None:
        self.update(
            device,
            applied_hz=applied.frequency_hz,
            point=clean(applied.point),
        )

    def _finished(self, entry: DeviceRound) -> None:
        """What a round says of a device."""
        seen, sent = entry.observed, [t for t in entry.transfers if t.phase == "upload"]
        now = self._known.get(entry.device, DeviceNow())
        fields: dict[str, Any] = {}
        if entry.frequency_hz is not None:
            fields["clock_hz"] = entry.frequency_hz
        if sent:
            fields["sent_bps"] = sent[-1].rate_bps
        if seen is not None and seen.temperature_c is not None:
            fields["temperature_c"] = seen.temperature_c
        if entry.training_accuracy is not None:
            fields["accuracy"] = entry.training_accuracy
        if entry.status == "accepted":
            fields["synthetic"] = entry.synthetic_samples
            if seen is None or not seen.doubts:
                fields["problem"] = ""
            if now.state == "training":
                fields["state"] = "reported"
        elif entry.status in ("late", "missing", "refused") and now.state not in _STAYS:
            fields["problem"] = clean(entry.reason, 1000)
        self.update(entry.device, **fields)

    def now(
        self,
        tallies: Tallies,
        telemetry: Mapping[str, Telemetry],
        peers: Mapping[str, PeerView],
        clock_s: float,
        unix_s: float,
    ) -> dict[str, DeviceNow]:
        """All devices as they are.

        Args:
            tallies: their joules.
            telemetry: the latest of each.
            peers: whom the coordinator's connection knows.
            clock_s: monotonic time, s.
            unix_s: UNIX time, s.
        """
        found = {}
        for device, known in self._known.items():
            fields: dict[str, Any] = {}
            view = peers.get(device)
            if view is None:  # of one that is awaited nobody has heard yet
                online = device not in self._lost and known.state != "awaited"
            else:
                online = view.online
                fields["seen_unix_s"] = round(unix_s - (clock_s - view.last_heard_s), 1)
            if device in self._excluded:
                fields.update(state="excluded", problem="")
            elif not online and known.state not in (*_STAYS, "awaited"):
                lost = self._lost.get(device) or "it is not connected"
                fields.update(state="gone", problem=lost)
            if (total := tallies.of_device.get(device)) is not None:
                fields["total"] = total
            if device in tallies.of_round:
                fields["round"], fields["round_energy"] = tallies.of_round[device]
            if online and (said := telemetry.get(device)) is not None:
                fields.update(_said(said))
            found[device] = replace(known, online=online, **fields)
        return found


def _said(said: Telemetry) -> dict[str, Any]:
    """What a device's telemetry says, without what it does not."""
    fields = {
        "stage": said.stage,
        "phase": said.phase,
        "power_w": said.power_w,
        "power_kind": said.kind,
        "power_scope": said.scope,
        "meter": clean(said.source),
        "temperature_c": said.temperature_c,
        "clock_hz": said.frequency_hz,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _images(plan: DevicePlan) -> int:
    """Synthetic images that a device has under its plan, with labels or without."""
    return sum(plan.synthetic_counts) or plan.unlabelled
