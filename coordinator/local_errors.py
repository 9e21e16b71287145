"""Δ_i of a round: the errors of the devices' models before they are averaged, planned and measured.

The measured one is the share of wrong answers on images for validation, which nobody trains on. The
planned one is that of the learning curve in force for the samples that the device trained on. Both
go into the record of the round, beside its joules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from fimi.coordinator.update_store import Updates
from fimi.learning.data.dataset import Dataset, some
from fimi.learning.training.trainer import Trainer
from fimi.record.results import DeviceRound

IMAGES_MAX = 1000
"""Most validation images that devices' models are judged on: one look takes a forward pass of each
image for each device."""


class LocalErrors:
    """Judges the devices' models.

    Args:
        trainer: evaluates them.
        validation: images that nobody trains on; ``None``: nothing is measured.
        seed: of the run; draws images where there are more than :data:`IMAGES_MAX`.
    """

    def __init__(self, trainer: Trainer, validation: Dataset | None, *, seed: int) -> None:
        self._trainer = trainer
        self._images = None
        if validation is not None and len(validation):
            self._images = some(validation, IMAGES_MAX, seed=seed)

    def measured(self, updates: Updates) -> dict[str, float]:
        """Δ_i by device, 0 to 1; empty without images for validation."""
        if self._images is None:
            return {}
        images, labels = self._images.images, self._images.labels
        return {
            device: 1.0 - self._trainer.evaluate(updates.of(device), images, labels).accuracy
            for device in updates.devices
        }

    def beside(
        self,
        devices: tuple[DeviceRound, ...],
        updates: Updates,
        planned: Callable[[DeviceRound], float | None],
    ) -> tuple[DeviceRound, ...]:
        """The entries of a round with both errors of those whose update was accepted."""
        found: Mapping[str, float] = self.measured(updates)
        return tuple(
            replace(entry, local_error=found.get(entry.device), planned_error=planned(entry))
            if entry.status == "accepted"
            else entry
            for entry in devices
        )
