"""What codings of models and updates did in a run: bytes, joules of the upload, errors.

* :class:`CodingFigures`  of the whole run
* :class:`UpdateFigures`  of the updates of one device, or of all
* :func:`coding_figures`  both from a run
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from fimi.learning.training.coding import Coded
from fimi.record.record import RunData
from fimi.record.sums import Compared, EnergyPart, EnergyTally, Sum, mean


class UpdateFigures(Struct, frozen=True, kw_only=True):
    """Coded updates.

    Attributes:
        device: whose; empty for those of all.
        coding: in words; several where the run has had several.
        updates: how many.
        raw_bytes: of all of them in single precision.
        coded_bytes: of all of them as sent.
        planned_bytes: of all of them by the plans in force.
        error: mean of their relative errors, by the devices' own accounts.
        error_max: the largest.
        upload: energy of sending them, whole boards.
        upload_compared: the same against its prediction.
    """

    device: str
    coding: str
    updates: int
    raw_bytes: int
    coded_bytes: int
    planned_bytes: int | None
    error: float
    error_max: float
    upload: Sum
    upload_compared: Compared

    @property
    def share(self) -> float | None:
        """Bytes sent over those in single precision; ``None`` of nothing."""
        return self.coded_bytes / self.raw_bytes if self.raw_bytes else None


class CodingFigures(Struct, frozen=True, kw_only=True):
    """Codings in a run.

    Attributes:
        model_coding: of the global model; empty where it was sent as it is.
        model_raw_bytes: size of a model in single precision; ``None`` likewise.
        model_coded_bytes: as sent, mean over the rounds.
        model_error: relative error, mean over the rounds.
        updates: of all devices; ``None`` where updates were sent as they are.
        devices: of each that sent any.
    """

    model_coding: str
    model_raw_bytes: int | None
    model_coded_bytes: float | None
    model_error: float | None
    updates: UpdateFigures | None
    devices: tuple[UpdateFigures, ...]


def coding_figures(run: RunData, parts: Sequence[EnergyPart]) -> CodingFigures | None:
    """What codings did; ``None`` where nothing was coded.

    Args:
        run: the run.
        parts: its joules, of :func:`fimi.record.phases.run_parts`.
    """
    models = [each.model_coded for each in run.rounds if each.model_coded is not None]
    sent = {
        (entry.device, each.number): (entry.coded, each.planned_update_bytes)
        for each in run.rounds
        for entry in each.devices
        if entry.coded is not None
    }
    if not models and not sent:
        return None
    uploads = [p for p in parts if p.phase == "upload" and (p.device, p.round) in sent]
    names = sorted({device for device, _ in sent})
    devices = tuple(
        _figures(
            name,
            [found for (device, _), found in sent.items() if device == name],
            [part for part in uploads if part.device == name],
        )
        for name in names
    )
    return CodingFigures(
        model_coding=_words(model.coding for model in models),
        model_raw_bytes=models[-1].raw_bytes if models else None,
        model_coded_bytes=mean(model.coded_bytes for model in models),
        model_error=mean(model.error for model in models),
        updates=_figures("", list(sent.values()), uploads) if sent else None,
        devices=devices,
    )


def _figures(
    device: str, sent: Sequence[tuple[Coded, int | None]], uploads: Iterable[EnergyPart]
) -> UpdateFigures:
    tally = EnergyTally(uploads)
    planned = [bytes_ for _, bytes_ in sent]
    known = [size for size in planned if size is not None]
    return UpdateFigures(
        device=device,
        coding=_words(each.coding for each, _ in sent),
        updates=len(sent),
        raw_bytes=sum(each.raw_bytes for each, _ in sent),
        coded_bytes=sum(each.coded_bytes for each, _ in sent),
        planned_bytes=sum(known) if len(known) == len(planned) else None,
        error=mean(each.error for each, _ in sent) or 0.0,
        error_max=max(each.error for each, _ in sent),
        upload=tally.sum(),
        upload_compared=tally.compared(),
    )


def _words(codings: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(codings))
