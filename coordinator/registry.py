"""Which devices are online or expected back, their profiles, and whose plan is in force.

A connection that drops is no death: a device that was online is *expected* for a grace time after
it went offline, keeps its plan, and its place in a round. One that has said goodbye is not: its
process has ended in order. Whoever is back, in the same start or another one, is online again.
"""

from __future__ import annotations

from fimi.coordinator.patience import BrokerClock
from fimi.messaging.messages.facts import PlanApplied, Profile
from fimi.messaging.messages.peers import DeviceState


class Registry:
    """The devices and generator nodes that are known to a coordinator.

    Args:
        grace_s: for how long a device is expected back that did not say goodbye, s.
        clock: by which that time passes.
    """

    def __init__(self, grace_s: float = 0.0, clock: BrokerClock | None = None) -> None:
        self._grace_s = grace_s
        self._clock = clock or BrokerClock()
        self._away_since_s: dict[str, float] = {}
        self._profiles: dict[str, Profile] = {}
        self._boot_ids: dict[str, str] = {}
        self._online: set[str] = set()
        self._generators: dict[str, str] = {}
        self._applied: dict[str, PlanApplied] = {}

    def heard_state(self, state: DeviceState) -> bool:
        """Note a peer's state.

        Returns:
            Whether a device has gone offline. A last will of an earlier start (another boot id) is
            ignored.
        """
        online = state.status == "online"
        if state.role == "generator":
            if online:
                self._generators[state.peer] = state.boot_id
            else:
                self._generators.pop(state.peer, None)
            return False
        if state.role != "device":
            return False
        if online:
            self._see_boot(state.peer, state.boot_id)
            self._online.add(state.peer)
            self._away_since_s.pop(state.peer, None)
            return False
        if self._boot_ids.get(state.peer, state.boot_id) != state.boot_id:
            return False
        was_online = state.peer in self._online
        self._online.discard(state.peer)
        if state.goodbye:
            self._away_since_s.pop(state.peer, None)
        elif was_online:
            self._away_since_s[state.peer] = self._clock.now_s()
        return was_online

    def heard_profile(self, profile: Profile) -> bool:
        """Note a profile.

        Returns:
            Whether the device is new, or has started again since its last profile. A profile of an
            earlier start, which the broker has kept, tells nothing.
        """
        known = self._profiles.get(profile.device)
        if profile.device not in self._online:
            self._see_boot(profile.device, profile.boot_id)
        elif self._boot_ids[profile.device] != profile.boot_id:
            return False
        self._profiles[profile.device] = profile
        return known is None or known.boot_id != profile.boot_id

    def heard_plan_applied(self, reply: PlanApplied) -> bool:
        """Note a device's answer to its plan; returns whether it is the first to this plan."""
        first = self._applied.get(reply.device) != reply
        self._applied[reply.device] = reply
        return first

    def answer(self, device: str) -> PlanApplied | None:
        """A device's last answer to a plan since it started; ``None`` before."""
        return self._applied.get(device)

    def profile(self, device: str) -> Profile:
        """The profile of a device.

        Raises:
            KeyError: it has not published one.
        """
        return self._profiles[device]

    def restore(self, profile: Profile, applied: PlanApplied | None) -> None:
        """Note what an earlier coordinator of the run knew; it holds until the device restarts."""
        self._profiles[profile.device] = profile
        self._boot_ids[profile.device] = profile.boot_id
        if applied is not None:
            self._applied[profile.device] = applied

    def forget(self, device: str) -> None:
        """Forget a device that does not take part."""
        self._profiles.pop(device, None)
        self._applied.pop(device, None)

    @property
    def online(self) -> frozenset[str]:
        """Ids of all devices that are online, with a profile or without."""
        return frozenset(self._online)

    @property
    def devices(self) -> tuple[str, ...]:
        """Ids of all devices that are online and have joined since they started, sorted."""
        return tuple(
            sorted(
                device
                for device, profile in self._profiles.items()
                if device in self._online and profile.boot_id == self._boot_ids[device]
            )
        )

    @property
    def generators(self) -> tuple[str, ...]:
        """Ids of all generator nodes that are online, sorted."""
        return tuple(sorted(self._generators))

    def boot_id(self, device: str) -> str | None:
        """The boot id of a device's last known start, or ``None``."""
        return self._boot_ids.get(device)

    def generator_boot(self, generator: str) -> str | None:
        """The boot id of a generator node that is online, else ``None``."""
        return self._generators.get(generator)

    def is_online(self, device: str) -> bool:
        """Whether a device is online."""
        return device in self._online

    def away_s(self, device: str) -> float | None:
        """For how long a device has been offline that did not say goodbye, s; else ``None``."""
        since_s = self._away_since_s.get(device)
        return None if since_s is None else self._clock.now_s() - since_s

    def is_expected(self, device: str) -> bool:
        """Whether a device is online, or so short a time away that its place is kept."""
        if device in self._online:
            return True
        away_s = self.away_s(device)
        return away_s is not None and away_s < self._grace_s

    def has_joined(self, device: str) -> bool:
        """Whether a device has a profile: it has joined, and was not refused since."""
        return device in self._profiles

    def has_answered(self, device: str) -> bool:
        """Whether a device has answered its plan since it last started."""
        return device in self._applied

    def follows_plan(self, device: str) -> bool:
        """Whether a device is online or expected back, and its plan is in force."""
        reply = self._applied.get(device)
        return reply is not None and not reply.error and self.is_expected(device)

    def _see_boot(self, device: str, boot_id: str) -> None:
        if self._boot_ids.get(device) != boot_id:
            self._boot_ids[device] = boot_id
            self._applied.pop(device, None)
