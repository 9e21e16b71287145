"""Who takes part in a run, and with which samples.

Every device that comes online is invited with the contract of the run and a share of its data, and
answers with a profile, which confirms the contract, or with a refusal. A device keeps its index for
the whole run: it is the number of its share, and the seed of what is drawn for it. Who cannot take
part is told why.

* :class:`Terms`   what devices are invited with
* :class:`Roster`  invites, and keeps who has answered what
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from fimi.coordinator import checkpoint
from fimi.coordinator.checkpoint import DevicePart
from fimi.coordinator.context import Context
from fimi.learning.data import leak
from fimi.learning.data.contract import Contract, Way
from fimi.learning.data.dataset import Dataset
from fimi.learning.data.shares import INDICES_MEDIA, SAMPLES_MEDIA
from fimi.messaging.messages.basis import Offer
from fimi.messaging.messages.facts import PlanApplied, Profile, Refusal
from fimi.messaging.messages.orders import EmulatedDevice, Invitation, RunEnded
from fimi.messaging.topics import device_names
from fimi.messaging.transfers import stream
from fimi.record.clean import enumerated
from fimi.record.events import DeviceRefused
from fimi.record.record import Enrolment

_NEVER_JOINED = "went offline before it had joined"


class Terms(Struct, frozen=True, kw_only=True):
    """What devices are invited with.

    Attributes:
        contract: the data of the run.
        way: how devices get their samples.
        share: a device's payload by its index: indices, or samples; not called for ``"file"``.
        hashes: payload of the held-out images' hashes by the run's instance; ``None`` for nothing
            to compare with.
        emulated: by index, the board of a device that has no meter.
        samples: a device's samples by its index, for measuring; ``None`` where they are its own.
    """

    contract: Contract
    way: Way
    share: Callable[[int], bytes]
    hashes: Callable[[str], bytes] | None = None
    emulated: Callable[[int], EmulatedDevice] | None = None
    samples: Callable[[int], Dataset] | None = None


class Roster:
    """The devices of a run.

    Args:
        context: the context of the run.
        terms: what devices are invited with.
        known: the devices of a run that goes on.
    """

    def __init__(
        self, context: Context, terms: Terms, known: Mapping[str, DevicePart] = {}
    ) -> None:
        self._context = context
        self._terms = terms
        self._parts: dict[str, DevicePart] = {
            device: part for device, part in known.items() if part.refused != _NEVER_JOINED
        }
        self._boots: dict[str, str] = {}
        self._shares: dict[str, Offer] = {}
        self._hashes: Offer | None = None
        self._gathered = bool(known)
        for part in self._parts.values():
            if part.profile is not None:
                context.registry.restore(part.profile, part.applied)
        self._is_exposed = bool(context.store.info.exposed)  # the coordinator itself
        self._note_exposed()

    @property
    def indices(self) -> dict[str, int]:
        """Device to its number in the run, for all that take part."""
        return {d: part.index for d, part in self._parts.items() if not part.refused}

    @property
    def members(self) -> dict[str, Profile]:
        """Profiles of all devices that take part, online or not, by device, sorted."""
        return {
            device: part.profile
            for device, part in sorted(self._parts.items())
            if part.profile is not None and not part.refused
        }

    @property
    def refused(self) -> dict[str, str]:
        """Devices that do not take part, and why."""
        return {device: part.refused for device, part in self._parts.items() if part.refused}

    @property
    def candidates(self) -> set[str]:
        """Devices that are online, and that the run may be with."""
        members, online = self._context.settings.fleet.members, self._context.registry.online
        return set(online & set(members) if members else online)

    def prepared_s(self, device: str) -> float | None:
        """How long a device received its batch, s; ``None``: that is not in the run store."""
        part = self._parts.get(device)
        return None if part is None else part.prepared_s

    def topped_up(self, device: str) -> int:
        """How many top-ups a device holds by its last answer."""
        part = self._parts.get(device)
        return 0 if part is None or part.applied is None else part.applied.top_ups

    def came(self, device: str, boot_id: str) -> None:
        """A device is online; it is invited after each start, also if it was refused before."""
        members = self._context.settings.fleet.members
        if members and device not in members:
            return
        part = self._parts.get(device)
        if part is None:
            if not self._gathered and not self._is_named(device):
                return  # the order in which devices come must not decide who gets which share
            self._invite(device)
        elif self._boots.get(device) != boot_id:
            self._invite(device)  # its share was withdrawn; what it was refused for may be mended
        self._boots[device] = boot_id
        self._context.conversation.meet(device, boot_id)

    def went(self, device: str) -> None:
        """A device is offline. Has it never joined, then its share is free for one that is there.

        A device may be taken for online that is not: the broker keeps its last state until its
        connection is known to be lost.
        """
        part = self._parts.get(device)
        if part is None or part.refused or part.profile is not None:
            return
        self._withdraw(device)
        self._keep(device, replace(part, index=-1, refused=_NEVER_JOINED))
        del self._parts[device]
        self._boots.pop(device, None)
        for other, without in sorted(self._parts.items()):
            if without.index < 0 and self._context.registry.is_online(other):
                del self._parts[other]
                self._invite(other)
                return

    def close_gathering(self) -> None:
        """Devices with names of their own get what is left, in the order of their names."""
        self._gathered = True
        for device in sorted(self.candidates):
            if device not in self._parts:
                self._invite(device)

    def confirm(self, profile: Profile) -> bool:
        """Take a profile in; returns whether the device takes part."""
        device = profile.device
        part = self._parts.get(device)
        if part is None or part.refused:
            return False
        try:
            self._check(profile)
        except ValueError as error:
            self.refuse(device, str(error))
            return False
        with self._context.store.together():
            self._keep(device, replace(part, profile=profile))
            self._context.store.write_profile(device, profile)
            self._note_exposed()
        self._withdraw(device)
        return True

    def _note_exposed(self) -> None:
        """Say in the record who reaches the broker unprotected, where the coordinator does not.

        It may be on the broker's own machine.
        """
        names = [device for device, profile in self.members.items() if profile.exposed]
        if not names or self._is_exposed:
            return
        store = self._context.store
        said = f"by {enumerated(names)} without TLS, or without a password or certificate"
        store.describe(replace(store.info, exposed=said))

    def refuse(self, device: str, reason: str) -> None:
        """A device does not take part: by its own words, or because of what it brings."""
        part = self._parts.get(device)
        if part is None or part.refused == reason:
            return
        self._keep(device, replace(part, refused=reason))
        self._withdraw(device)
        self._context.registry.forget(device)
        self._context.notify(DeviceRefused(device=device, reason=reason))
        self._context.conversation.order(
            device, RunEnded(run=self._context.run, instance=self._context.instance, reason=reason)
        )

    def hear(self, refusal: Refusal) -> None:
        """A device says that it cannot take part."""
        self.refuse(refusal.device, refusal.reason)

    def used_since(self, devices: Iterable[str], number: int) -> None:
        """These devices have a plan from round ``number`` on."""
        with self._context.store.together():
            for device in devices:
                part = self._parts[device]
                if part.since_round is None:
                    self._keep(device, replace(part, since_round=number))

    def applied(self, reply: PlanApplied, prepared_s: float | None) -> dict[str, bytes]:
        """Note a device's answer to its plan.

        Args:
            reply: the answer.
            prepared_s: how long it received its batch, if it did, s.

        Returns:
            What is to be stored of it, together with what the answer holds.
        """
        part = self._parts.get(reply.device)
        if part is None:
            return {}
        prepared = part.prepared_s if prepared_s is None else prepared_s
        told = replace(reply, readings=())  # they are in a table of their own
        self._parts[reply.device] = part = replace(part, applied=told, prepared_s=prepared)
        return checkpoint.of_device(reply.device, part)

    def close(self) -> None:
        """Stop offering shares."""
        for device in [*self._shares]:
            self._withdraw(device)
        if self._hashes is not None:
            self._context.peer.transfers.withdraw(self._hashes.digest)
            self._hashes = None

    def _is_named(self, device: str) -> bool:
        """Whether its name says which share it gets."""
        return device in self._names

    @property
    def _names(self) -> tuple[str, ...]:
        """Of the devices whose names say so, by share."""
        fleet = self._context.settings.fleet
        return device_names(fleet.devices, fleet.members)

    def _free_index(self, device: str) -> int | None:
        """The share of a new device; ``None``: all are taken."""
        names = self._names
        taken = {part.index for part in self._parts.values() if part.index >= 0}
        if device in names and (own := names.index(device)) not in taken:
            return own
        free = [index for index in range(len(names)) if index not in taken]
        if free:
            return free[0]
        return max(taken) + 1 if self._terms.way == "file" else None

    def _invite(self, device: str) -> None:
        context, terms = self._context, self._terms
        part = self._parts.get(device)
        index = part.index if part is not None and part.index >= 0 else self._free_index(device)
        if index is None:
            self._parts[device] = DevicePart(index=-1)
            holders = ", ".join(sorted(d for d, p in self._parts.items() if p.index >= 0))
            self.refuse(
                device,
                f"the data are divided among {context.settings.fleet.devices} devices, and all "
                f"shares are taken ({holders}); start the run with fleet.devices raised",
            )
            return
        if part is None or part.refused:
            self._keep(device, DevicePart(index=index) if part is None else _anew(part, index))
            context.conversation.withdraw(device, RunEnded)  # if it was told that none is left
        if self._hashes is None and terms.hashes is not None:
            payload = terms.hashes(context.instance)
            many = stream.is_for(context.settings.fleet.devices)
            self._hashes = context.peer.transfers.serve(payload, media=leak.MEDIA, shared=many)
        if terms.way != "file" and device not in self._shares:
            media = INDICES_MEDIA if terms.way == "indices" else SAMPLES_MEDIA
            self._shares[device] = context.peer.transfers.serve(terms.share(index), media=media)
        context.conversation.order(
            device,
            Invitation(
                run=context.run,
                device=device,
                index=index,
                contract=terms.contract,
                way=terms.way,
                share=self._shares.get(device),
                hashes=self._hashes,
                emulated=terms.emulated(index) if terms.emulated is not None else None,
                readings=context.settings.rounds.readings,
            ),
        )

    def _check(self, profile: Profile) -> None:
        """Raises ValueError with the reason why a device cannot take part."""
        contract = self._terms.contract
        if profile.contract != contract.digest:
            raise ValueError(
                f"{profile.device} confirms contract {profile.contract[:12] or 'none'}…, the run "
                f"has {contract.digest[:12]}…"
            )
        if len(profile.label_counts) != len(contract.class_names):
            raise ValueError(
                f"{profile.device} counts {len(profile.label_counts)} classes "
                f"({profile.dataset}), the run has {len(contract.class_names)}"
            )
        if self._terms.way == "file":
            others = {d: known.fingerprint for d, known in self.members.items()}
            leak.require_own_data(profile.device, profile.fingerprint, others)

    def _keep(self, device: str, part: DevicePart) -> None:
        self._parts[device] = part
        store = self._context.store
        with store.together():
            store.write_checkpoint(checkpoint.of_device(device, part))
            store.write_enrolments(
                [
                    Enrolment(
                        device=device,
                        device_index=part.index if part.index >= 0 else None,
                        since_round=part.since_round,
                        why_not=part.refused,
                    )
                ]
            )

    def _withdraw(self, device: str) -> None:
        if (offer := self._shares.pop(device, None)) is not None:
            self._context.peer.transfers.withdraw(offer.digest)


def _anew(part: DevicePart, index: int) -> DevicePart:
    """A device that was refused and has started again: it is asked once more."""
    return replace(part, index=index, refused="", profile=None, applied=None)
