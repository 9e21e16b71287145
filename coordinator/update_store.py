"""The updates of a round, kept until they are averaged.

A mean must be summed in a fixed order, and devices do not send in that order. With a large network
and many devices, the waiting updates do not fit into memory. :class:`UpdateStore` keeps small
updates in memory and the rest in files; :class:`Updates` gives them one at a time, or slice by
slice.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from fimi.learning.training import tensors
from fimi.learning.training.aggregation import Scaled
from fimi.learning.training.slices import HeldModel, Slices, StoredModel, change
from fimi.learning.training.tensors import Parameters
from fimi.messaging.transfers.parts import PartFiles

PARTS = "transfers"
"""Folder of updates that are on their way, or have come as files."""
PARTS_BYTES = 1 << 60
"""No limit on them: a round needs room for the updates of all its devices, and whatever was deleted
to make room would be wanted. They go with their round."""
_PREFIX = "update-"
MEMORY_BYTES = 4_000_000
"""Most memory of all waiting updates together, bytes: of models above this size none is in memory,
so that what the updates of a round take does not grow with the model or the number of devices."""


def clear_leftovers(folder: Path) -> None:
    """Delete files of stores of a process that was killed; what is on its way stays."""
    for path in (*folder.glob(f"{_PREFIX}*"), *(folder / PARTS).glob(f"{_PREFIX}*")):
        with contextlib.suppress(OSError):
            path.unlink()


class UpdateStore:
    """Payloads by device, in memory as long as they are small together, else in files.

    Safe to use from several threads.

    Args:
        folder: folder for the files; they are in a folder of their own below it, which
            :meth:`clear` removes.
        memory_bytes: most bytes that stay in memory.

    Attributes:
        parts: where updates are put together while they come. What is there of a coordinator that
            was killed need not come again.
    """

    def __init__(self, folder: Path, memory_bytes: int = MEMORY_BYTES) -> None:
        self._folder = folder
        self._memory_bytes = memory_bytes
        self.parts = PartFiles(folder / PARTS, max_bytes=PARTS_BYTES)
        self._lock = threading.Lock()
        self._held: dict[str, bytes] = {}
        self._files: dict[str, Path] = {}
        self._came: dict[str, Path] = {}
        self._norms: dict[str, float] = {}
        self._held_bytes = 0

    def take(
        self,
        device: str,
        payload: bytes | Path,
        like: Parameters,
        plain: Callable[[bytes], dict[str, NDArray[np.float32]]] | None = None,
    ) -> None:
        """Check an update, measure it, and keep it.

        Args:
            device: whose it is; an earlier one of the device is replaced.
            payload: safetensors bytes, or a file of them, which the store deletes when it drops the
                update; what becomes of its name before does no harm.
            like: the model that it is an update of.
            plain: decodes an update in another coding; ``None``: it is safetensors as it is.

        Raises:
            fimi.learning.training.tensors.UpdateRefusedError: it cannot be used; says why.
            OSError: there is no room on the disk, or the file cannot be read.
        """
        if plain is None:
            norm = StoredModel(payload, like).change(like)
            self.put(device, payload)
        else:
            found = plain(payload if isinstance(payload, bytes) else payload.read_bytes())
            norm = change(HeldModel(found), like)
            self._put_decoded(device, found)
        with self._lock:
            self._norms[device] = norm
            if plain is not None and isinstance(payload, Path):
                self._came[device] = payload

    def put(self, device: str, payload: bytes | Path) -> None:
        """Keep a payload, or a file of one; it replaces an earlier one of the device.

        Raises:
            OSError: there is no room on the disk.
        """
        if isinstance(payload, Path):
            own = _name(payload.parent, ".kept")  # goes with the folder if this process is killed
            try:
                _own(payload, own)
            except BaseException:
                own.unlink()
                raise
            with self._lock:
                if self._came.get(device) == payload:
                    del self._came[device]  # the same file once more
                self._drop(device)
                self._files[device], self._came[device] = own, payload
            return
        with self._lock:
            self._drop(device)
            if len(payload) <= self._memory_bytes - self._held_bytes:
                self._held[device] = payload
                self._held_bytes += len(payload)
                return
            self._files[device] = own = _name(self._folder)
        own.write_bytes(payload)

    def _put_decoded(self, device: str, model: Parameters) -> None:
        """Keep what was decoded; a large one is written tensor by tensor."""
        with self._lock:
            self._drop(device)
            room = self._memory_bytes - self._held_bytes
        if tensors.size_bytes(model) <= room:
            self.put(device, tensors.dump(model))
            return
        own = _name(self._folder)
        with self._lock:
            self._files[device] = own
        with own.open("wb") as file:
            tensors.write(model, file)

    def joined(self, pieces: Iterable[bytes]) -> Path:
        """A file with these bytes, for :meth:`take`.

        Raises:
            OSError: there is no room on the disk.
        """
        own = _name(self._folder)
        try:
            with own.open("wb") as file:
                file.writelines(pieces)
        except BaseException:
            own.unlink()
            raise
        return own

    def norm(self, device: str) -> float:
        """‖ω_k − ω‖ of a device's update, which was kept by :meth:`take`.

        Raises:
            KeyError: there is none.
        """
        with self._lock:
            return self._norms[device]

    def where(self, device: str) -> bytes | Path:
        """The payload of a device, or the file that has it.

        Raises:
            KeyError: there is none.
        """
        with self._lock:
            return self._held[device] if device in self._held else self._files[device]

    def get(self, device: str) -> bytes:
        """The payload of a device.

        Raises:
            KeyError: there is none.
        """
        found = self.where(device)
        return found if isinstance(found, bytes) else found.read_bytes()

    def close(self) -> None:
        """Drop all payloads, and what is on its way; it may be used again."""
        self.clear()
        self.parts.clear()
        with contextlib.suppress(OSError):
            self.parts.folder.rmdir()

    def clear(self) -> None:
        """Drop all payloads."""
        with self._lock:
            for device in [*self._held, *self._files]:
                self._drop(device)

    def _drop(self, device: str) -> None:
        self._norms.pop(device, None)
        self._held_bytes -= len(self._held.pop(device, b""))
        for files in (self._files, self._came):
            if (path := files.pop(device, None)) is not None:
                path.unlink(missing_ok=True)


def _name(folder: Path, suffix: str = "") -> Path:
    """A new empty file."""
    handle, name = tempfile.mkstemp(prefix=_PREFIX, suffix=suffix, dir=folder)
    os.close(handle)
    return Path(name)


def _own(came: Path, path: Path) -> None:
    """Give a file that has come a name of the store's own, in place of an empty file.

    The name that it came under stays, so that it need not come again after this process was killed.
    But others may come under it, and old files are deleted there to make room.
    """
    spare = path.with_name(f"{path.name}-")
    try:
        os.link(came, spare)
    except OSError:  # a file system without links
        shutil.copyfile(came, spare)
    spare.replace(path)


class Updates(Sequence[dict[str, NDArray[np.float32]]]):
    """Checked updates in a fixed order; each access reads one again, as its device has sent it.

    Args:
        spool: keeps their payloads.
        devices: their devices, in order.
        like: the model that they are updates of; ``None``: any tensors, which have no slices.
        scales: s, by which changes of devices are taken smaller in :attr:`slices`; others as they
            are.
    """

    def __init__(
        self,
        spool: UpdateStore,
        devices: Sequence[str],
        like: Parameters | None = None,
        scales: Mapping[str, float] = {},
    ) -> None:
        self._spool = spool
        self._like = like
        self._scales = {device: scales[device] for device in devices if device in scales}
        self.devices = tuple(devices)

    def __len__(self) -> int:
        return len(self.devices)

    def of(self, device: str) -> dict[str, NDArray[np.float32]]:
        """The update of a device."""
        if self._like is None:
            return tensors.load(self._spool.get(device))
        return StoredModel(self._spool.where(device), self._like).load()

    @property
    def slices(self) -> tuple[Slices, ...]:
        """The updates as they go into the model, to be read slice by slice."""
        assert self._like is not None
        base, found = HeldModel(self._like), list[Slices]()
        for device in self.devices:
            model = StoredModel(self._spool.where(device), self._like)
            scale = self._scales.get(device)
            found.append(model if scale is None else Scaled(model, base, scale))
        return tuple(found)

    def with_more(self, scales: Mapping[str, float]) -> Updates:
        """With further updates of the store, by name with the scale of each."""
        known = {**self._scales, **{name: s for name, s in scales.items() if s != 1.0}}
        return Updates(self._spool, (*self.devices, *scales), self._like, known)

    def chosen(self, devices: Sequence[str], scales: Mapping[str, float]) -> Updates:
        """Those of some of the devices, with their changes at these scales."""
        return Updates(self._spool, devices, self._like, scales)

    @overload
    def __getitem__(self, index: int) -> dict[str, NDArray[np.float32]]: ...

    @overload
    def __getitem__(self, index: slice) -> Updates: ...

    def __getitem__(self, index: int | slice) -> dict[str, NDArray[np.float32]] | Updates:
        if isinstance(index, slice):
            return self.chosen(self.devices[index], self._scales)
        return self.of(self.devices[index])

    def __iter__(self) -> Iterator[dict[str, NDArray[np.float32]]]:
        return (self.of(device) for device in self.devices)


def in_slices(updates: Sequence[Parameters]) -> tuple[Slices, ...]:
    """Models in memory, or stored updates as they go into the model, slice by slice."""
    if isinstance(updates, Updates):
        return updates.slices
    return tuple(HeldModel(update) for update in updates)
