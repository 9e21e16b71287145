"""Chooses the trainer of a device: ONNX Runtime on the coordinator's graphs, or PyTorch.

Where a device may choose (``training.backend = "auto"``) and has both, it takes the one that is
faster for networks of that size. The rule depends on the network and on what is installed, never on
a time measurement: two runs with the same seed must use the same backend.

Graphs are kept by digest, also on disk if there is a folder for it (:mod:`fimi.edge_agent.kept`),
so that a device fetches a graph once.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import threading
from collections.abc import Callable
from pathlib import Path

from fimi.edge_agent.kept import Kept
from fimi.errors import RunFailedError
from fimi.learning.onnx import graphs
from fimi.learning.training.trainer import Trainer, TrainingSettings

KEPT = 8
"""Number of sets of graphs that are kept on disk."""
HEAVY_MULTIPLY_ADDS = 50_000_000
"""Multiply-accumulates of one image, forward, above which PyTorch is faster.

From ``benchmarks/onnx_training.py``: the small CNN (0.4 million on digits) trains faster with ONNX
Runtime; VGG-9 (over 100 million) and ResNet-18 (over 500 million), which consist of matrix
products, mostly train faster with PyTorch (not always at batch 1). Between them nothing was
measured.
"""


class BackendError(RunFailedError, RuntimeError):
    """There is no backend for the training; the message says what to install or set."""

    code = "R014"


class Trainers:
    """Trainers that several devices of one process use in turn.

    A trainer's network and buffers then exist once and not once for each device. Only devices that
    take turns may share a trainer, because it does one training at a time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key: str | None = None
        self._trainer: Trainer | None = None

    def get(self, key: str, make: Callable[[], Trainer]) -> Trainer:
        """The trainer of a key; only the last one is kept."""
        with self._lock:
            if self._key != key or self._trainer is None:
                self._trainer = None  # frees its memory before the next one is made
                self._trainer, self._key = make(), key
            return self._trainer


class Backends:
    """Chooses and keeps trainers.

    Args:
        classes: K.
        image_shape: channels, height, width.
        cache: folder for graphs; ``None`` keeps them in memory only.
        trainers: shared with devices of the process that take turns training; else its own.
    """

    def __init__(
        self,
        classes: int,
        image_shape: tuple[int, int, int],
        *,
        cache: Path | None = None,
        trainers: Trainers | None = None,
    ) -> None:
        self._classes = classes
        self._image_shape = image_shape
        self._kept = Kept(cache, "graphs", count=KEPT)
        self._trainers = trainers or Trainers()
        self._fetched: str | None = None

    @property
    def available(self) -> str:
        """The backends that are installed, with versions, without loading them."""
        found = [
            f"{package} {importlib.metadata.version(package).split('+')[0]}"
            for package in ("onnxruntime", "torch")
            if _installed(package)
        ]
        return ", ".join(found) or "none"

    def trainer(
        self, settings: TrainingSettings, digest: str | None, fetch: Callable[[], bytes]
    ) -> Trainer:
        """The trainer of a round; the same one as long as nothing changes.

        Args:
            settings: training settings of the round.
            digest: digest of the graphs that the coordinator offers; ``None`` if it offers none.
            fetch: fetches them; called only if they are not kept here.

        Raises:
            BackendError: there are neither graphs nor PyTorch, or not the backend of the settings.
            fimi.learning.onnx.graphs.GraphError: the graphs cannot be used.
        """
        wanted = settings.backend
        if settings.device != "cpu" or settings.amp not in ("off", "auto"):
            wanted = "torch"  # ONNX Runtime can do neither
        if wanted == "onnx" and digest is None:
            raise BackendError(
                'training.backend is "onnx" and the coordinator offers no graph; it needs the '
                "package onnx to export one"
            )
        if wanted == "torch" or digest is None:
            return self._trainers.get(
                f"torch {settings.model} {settings.threads}", lambda: self._torch(settings)
            )
        payload = None
        if self._fetched != digest:  # every device fetches by itself, even if trainers are shared
            payload = self._kept.get_or(digest, fetch)
            self._fetched = digest
        return self._trainers.get(
            f"{wanted} {digest} {settings.threads}",
            lambda: self._from_graphs(settings, payload or self._kept.get_or(digest, fetch)),
        )

    def _torch(self, settings: TrainingSettings) -> Trainer:
        if not _installed("torch"):
            raise BackendError(
                "PyTorch is not installed here and the coordinator offers no ONNX graph: "
                "pip install 'fimi-testbed[torch]', or take a network that can be exported and "
                'training.backend = "auto"'
            )
        from fimi.learning.training.torch_trainer import TorchTrainer

        return TorchTrainer.of(settings, self._classes, self._image_shape)

    def _from_graphs(self, settings: TrainingSettings, payload: bytes) -> Trainer:
        decoded = graphs.decode(payload)
        if (decoded.classes, decoded.image_shape) != (self._classes, self._image_shape):
            raise graphs.GraphError(
                f"graphs for {decoded.classes} classes and images {decoded.image_shape}; this "
                f"device has {self._classes} and {self._image_shape}"
            )
        if torch_is_faster(settings, decoded.multiply_adds) and _installed("torch"):
            return self._torch(settings)
        from fimi.learning.training.onnx_trainer import OnnxTrainer

        return OnnxTrainer(decoded, threads=settings.threads)


def torch_is_faster(settings: TrainingSettings, multiply_adds: int) -> bool:
    """Whether a device that may choose takes PyTorch, where it is installed.

    A network of the user's own uses its graph, because its code may not be on the device.
    ``multiply_adds`` are the multiply-accumulates of one image, forward.
    """
    own = ":" in settings.model
    return settings.backend == "auto" and not own and multiply_adds > HEAVY_MULTIPLY_ADDS


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ImportError:
        return False
