"""What late updates are decoded with: the models of earlier rounds, in files.

A coded update is a change of the model that its device was sent, so it is added to that model and
to no other (docs/model.md, "Codings"). The models of as many rounds as an update may be late lie
beside the run store; in memory is none of them. They stay when the run is interrupted: a
coordinator that goes on finds them.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from fimi.coordinator.payloads import Decoding, RoundPayload
from fimi.coordinator.settings import TransferSettings
from fimi.files import whole_file
from fimi.learning.training import tensors
from fimi.learning.training.slices import StoredModel
from fimi.learning.training.tensors import Parameters, UpdateRefusedError

MODELS = "late-models"
"""Folder beside the run store of models of earlier rounds."""
DECODED = "decoded"
"""The file there of the update that was decoded last."""
_SUFFIX = ".safetensors"


class LateModels:
    """The bases of coded updates that may come late (:class:`~fimi.coordinator.payloads.Decoding`).

    Args:
        folder: it is made when it is needed.
        transfer: the codings of the run.
    """

    def __init__(self, folder: Path, transfer: TransferSettings) -> None:
        self._folder = folder
        self._decoding = Decoding.of(transfer)
        self._why: dict[int, str] = {}

    def keep(self, number: int, payload: RoundPayload, least: int) -> None:
        """A round begins; its updates may come late.

        Without room on the disk the run goes on, and late updates of this round are refused.

        Args:
            number: of the round.
            payload: its model.
            least: number of the first round of which an update may still come.
        """
        if payload.base is None:
            return
        try:
            for path in self._folder.glob(f"*{_SUFFIX}"):
                if not path.stem.isdigit() or int(path.stem) < least:
                    path.unlink(missing_ok=True)
            self._folder.mkdir(parents=True, exist_ok=True)
            with whole_file(self._at(number)) as file:
                tensors.write(payload.base, file)
        except OSError as error:
            self._why[number] = str(error)

    def plain(self, number: int, update: bytes | Path, like: Parameters) -> bytes | Path:
        """A late update as a model in single precision, checked.

        Args:
            number: of its round.
            update: any bytes, or a file of them.
            like: a model with its names and shapes.

        Returns:
            Its safetensors bytes, or a file of them: the one that was given, or one that the next
            call writes over.

        Raises:
            UpdateRefusedError: it is no update of this model in the coding asked for, or the model
                of its round is not there.
            OSError: the file of the update cannot be read, or there is no room on the disk.
        """
        if not self._decoding.is_needed:
            StoredModel(update, like).change(like)  # says whether it is one, and finite
            return update
        data = update if isinstance(update, bytes) else update.read_bytes()
        base = self._base(number, like) if self._decoding.has_base else None
        found = self._decoding.plain(data, like, base)
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / DECODED
        with path.open("wb") as file:
            tensors.write(found, file)
        return path

    def _base(self, number: int, like: Parameters) -> StoredModel:
        try:
            return StoredModel(self._at(number), like)
        except OSError as error:
            why = self._why.get(number, str(error))
            raise UpdateRefusedError(
                f"the model of round {number}, which its change is to be added to, is not there: "
                f"{why}"
            ) from error

    def clear(self) -> None:
        """No update comes any more: delete the models."""
        for path in (*self._folder.glob(f"*{_SUFFIX}"), self._folder / DECODED):
            with contextlib.suppress(OSError):
                path.unlink()
        with contextlib.suppress(OSError):
            self._folder.rmdir()

    def _at(self, number: int) -> Path:
        return self._folder / f"{number}{_SUFFIX}"
