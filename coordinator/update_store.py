"""The updates of a round, kept until they are averaged.

A mean must be summed in a fixed order, and devices do not send in that order. With a large network
and many devices, the waiting updates do not fit into memory. :class:`UpdateStore` keeps small
updates in memory and the rest in files; :class:`Updates` gives them one at a time.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from fimi.learning.training import tensors

MEMORY_BYTES = 64_000_000
"""Most memory of all waiting updates together, bytes."""


class UpdateStore:
    """Payloads by device, in memory as long as they are small together, else in files.

    Safe to use from several threads.

    Args:
        folder: folder for the files; they are in a folder of their own below it, which
            :meth:`clear` removes.
        memory_bytes: most bytes that stay in memory.
    """

    def __init__(self, folder: Path, memory_bytes: int = MEMORY_BYTES) -> None:
        self._folder = folder
        self._memory_bytes = memory_bytes
        self._lock = threading.Lock()
        self._held: dict[str, bytes] = {}
        self._files: dict[str, Path] = {}
        self._held_bytes = 0

    def put(self, device: str, payload: bytes) -> None:
        """Keep a payload; it replaces an earlier one of the device.

        Raises:
            OSError: there is no room on the disk.
        """
        with self._lock:
            self._drop(device)
            if self._held_bytes + len(payload) <= self._memory_bytes:
                self._held[device] = payload
                self._held_bytes += len(payload)
                return
            handle, name = tempfile.mkstemp(prefix="update-", dir=self._folder)
            self._files[device] = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(payload)

    def get(self, device: str) -> bytes:
        """The payload of a device.

        Raises:
            KeyError: there is none.
        """
        with self._lock:
            if device in self._held:
                return self._held[device]
            path = self._files[device]
        return path.read_bytes()

    def clear(self) -> None:
        """Drop all payloads."""
        with self._lock:
            for device in [*self._held, *self._files]:
                self._drop(device)

    def _drop(self, device: str) -> None:
        self._held_bytes -= len(self._held.pop(device, b""))
        path = self._files.pop(device, None)
        if path is not None:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


class Updates(Sequence[dict[str, NDArray[np.float32]]]):
    """Checked updates in a fixed order; each access decodes one again.

    Args:
        spool: keeps their payloads.
        devices: their devices, in order.
    """

    def __init__(self, spool: UpdateStore, devices: Sequence[str]) -> None:
        self._spool = spool
        self.devices = tuple(devices)

    def __len__(self) -> int:
        return len(self.devices)

    def of(self, device: str) -> dict[str, NDArray[np.float32]]:
        """The update of a device."""
        return tensors.load(self._spool.get(device))

    @overload
    def __getitem__(self, index: int) -> dict[str, NDArray[np.float32]]: ...

    @overload
    def __getitem__(self, index: slice) -> Updates: ...

    def __getitem__(self, index: int | slice) -> dict[str, NDArray[np.float32]] | Updates:
        if isinstance(index, slice):
            return Updates(self._spool, self.devices[index])
        return self.of(self.devices[index])

    def __iter__(self) -> Iterator[dict[str, NDArray[np.float32]]]:
        return (self.of(device) for device in self.devices)
