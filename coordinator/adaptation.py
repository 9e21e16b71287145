"""When predictions drift, and the boards as fitted.

:class:`Adaptation` keeps the observations of the rounds, says when a device's predictions have
drifted, and refits the fleet. :mod:`fimi.coordinator.replanning` then makes the new plan.

:class:`AdaptationState` is all that it has learned, for a run that goes on later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from fimi.coordinator.refit import RefitPoint, observe, refit
from fimi.coordinator.settings import PlanSettings
from fimi.energy.cost_model import BoardModel
from fimi.learning.training.trainer import TrainingSettings
from fimi.messaging.messages.facts import Profile
from fimi.messaging.messages.orders import DevicePlan
from fimi.record.prediction import Residual, drift_percent, residuals
from fimi.record.results import RoundResult


class AdaptationState(Struct, frozen=True, kw_only=True):
    """What was learned of the boards so far.

    Attributes:
        boards: cost parameters in force.
        seen: each device's observations in the window.
        since: each device's residuals since the last refit, of the rounds in the window.
        rounds_since: rounds since the last refit.
    """

    boards: dict[str, BoardModel]
    seen: dict[str, tuple[RefitPoint, ...]]
    since: dict[str, tuple[Residual, ...]]
    rounds_since: int


class Adaptation:
    """The residuals of past rounds, and the refits that follow from them.

    Args:
        settings: limit and window.
        profiles: the first profiles of the devices.
        training: epochs or steps.
        model_bits: size of the model and of an update in single precision, bits.
        state: what an earlier coordinator of the run had learned.
    """

    def __init__(
        self,
        settings: PlanSettings,
        profiles: Mapping[str, Profile],
        *,
        training: TrainingSettings,
        model_bits: float,
        state: AdaptationState | None = None,
    ) -> None:
        self._settings = settings
        self._first = {device: profile.board for device, profile in profiles.items()}
        self._boards = dict(self._first)
        self._training = training
        self._model_bits = model_bits
        self._seen: dict[str, deque[RefitPoint]] = {}
        self._since: dict[str, list[Residual]] = {}
        self._rounds_since = 0
        if state is not None:
            self.restore(state)

    @property
    def state(self) -> AdaptationState:
        """All of it, for a run that goes on later."""
        return AdaptationState(
            boards=dict(self._boards),
            seen={device: tuple(seen) for device, seen in self._seen.items()},
            since={device: tuple(found) for device, found in self._since.items()},
            rounds_since=self._rounds_since,
        )

    def restore(self, state: AdaptationState) -> None:
        """As it was then: what was learned since is forgotten, but for devices that are new."""
        self._boards |= state.boards
        self._seen = {d: deque(seen, self._settings.refit_window) for d, seen in state.seen.items()}
        self._since = {device: list(found) for device, found in state.since.items()}
        self._rounds_since = state.rounds_since

    def admit(self, device: str, profile: Profile) -> None:
        """Take a device in that has come later."""
        self._first[device] = profile.board
        self._boards.setdefault(device, profile.board)

    def learn(self, result: RoundResult, plans: Mapping[str, DevicePlan]) -> tuple[Residual, ...]:
        """Add a round; returns its residuals.

        Args:
            result: the round; its resting devices are ignored.
            plans: the plans of its participants; others are left out.
        """
        found: list[Residual] = []
        for entry in result.participants:
            if entry.device not in plans:
                continue
            point = plans[entry.device].point
            of_device = residuals(result.number, entry, point, self._boards[entry.device])
            found += of_device
            self._since[entry.device] = self._recent(
                [*self._since.get(entry.device, ()), *of_device]
            )
            sent, came = result.model_coded, entry.coded
            seen = observe(
                entry,
                point,
                training=self._training,
                model_bits=self._model_bits if sent is None else 8.0 * sent.coded_bytes,
                update_bits=self._model_bits if came is None else 8.0 * came.coded_bytes,
            )
            if seen is not None:
                window = self._seen.setdefault(
                    entry.device, deque(maxlen=self._settings.refit_window)
                )
                window.append(seen)
        self._rounds_since += 1
        return tuple(found)

    def _recent(self, found: list[Residual]) -> list[Residual]:
        """The residuals of a device's last rounds, as many as the window holds."""
        numbers = sorted({each.round for each in found})[-self._settings.refit_window :]
        return [each for each in found if each.round >= numbers[0]] if numbers else []

    @property
    def lately(self) -> int:
        """Rounds since the last refit; 0 before a window of them, and where refits are off."""
        settings = self._settings
        whole = settings.refit_percent and self._rounds_since >= settings.refit_window
        return self._rounds_since if whole else 0

    def drifted(self) -> dict[str, float]:
        """Devices whose predictions since the last refit are wrong by more than the limit, percent.

        Empty before a whole window of rounds, and where refits are off. The window counts a
        device's own rounds; if k of n devices are drawn, these are not consecutive.
        """
        settings = self._settings
        if not self.lately:
            return {}
        drifts = {}
        for device, found in self._since.items():
            numbers = sorted({each.round for each in found})
            if len(numbers) >= settings.refit_window:
                since = numbers[-settings.refit_window]
                drifts[device] = drift_percent(each for each in found if each.round >= since)
        return {d: drift for d, drift in drifts.items() if drift > settings.refit_percent}

    def refit(self) -> dict[str, BoardModel]:
        """New cost parameters of every device that has reported; they are in force from now on."""
        for device, seen in self._seen.items():
            self._boards[device] = refit(self._first[device], tuple(seen))
        return self.keep()

    def keep(self) -> dict[str, BoardModel]:
        """The cost parameters in force, as they are; a new window begins as after a refit."""
        self._since, self._rounds_since = {}, 0
        return dict(self._boards)

    def profiles(self, profiles: Mapping[str, Profile]) -> dict[str, Profile]:
        """Profiles with the cost parameters in force."""
        return {
            device: msgspec.structs.replace(profile, board=self._boards.get(device, profile.board))
            for device, profile in profiles.items()
        }
