"""The ONNX Runtime trainer: runs the graphs that a coordinator exported. Needs no PyTorch.

Parameters and optimiser state have two sets of buffers. A step reads one and writes the other, then
they are swapped, so that nothing is copied between steps.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fimi.learning.data.dataset import Images, Labels
from fimi.learning.onnx import graph_check
from fimi.learning.onnx.graphs import (
    ANCHOR,
    DRAW,
    NEW,
    PARAMETER,
    SUM,
    GraphError,
    GraphSet,
    recipe,
)
from fimi.learning.training.draws import Draws
from fimi.learning.training.onnx_runtime import onnxruntime as ort
from fimi.learning.training.onnx_runtime import session_of
from fimi.learning.training.tensors import Parameters
from fimi.learning.training.trainer import (
    LocalTraining,
    Trainer,
    TrainingCancelled,
    TrainingSettings,
    pieces,
)

EVALUATION_BATCH = 64
STATE_SHARE = 4
"""State of an optimiser and sums of gradients over parameters, at most: Adam's two and the sums are
three."""
STATE_NUMBERS = 1 << 16
CANCEL_INTERVAL_S = 0.1
"""Time between two checks whether a training is cancelled, s."""


class OnnxTrainer(Trainer):
    """Trains and evaluates one network with ONNX Runtime.

    Args:
        graphs: graphs of the network; checked before they are loaded.
        threads: number of threads within an operator.

    Raises:
        GraphError: a graph is not allowed, or has wrong inputs or outputs.
    """

    def __init__(self, graphs: GraphSet, *, threads: int = 1) -> None:
        super().__init__(graphs.classes)
        self._graphs = graphs
        self._threads = threads
        self._step = self._load(graphs.step, "step")
        self._apply = self._load(graphs.apply, "apply") if graphs.recipe.accumulates else None
        self._evaluate: ort.InferenceSession | None = None

    @property
    def backend(self) -> str:
        """Name and version of the backend."""
        return f"onnxruntime {ort.__version__}"

    @property
    def batch_min(self) -> int:
        """Smallest batch; see :class:`fimi.learning.training.trainer.Trainer`."""
        return self._graphs.batch_min

    def _train(self, training: LocalTraining) -> dict[str, NDArray[np.float32]]:
        parameters, images, labels, settings = training[:4]
        self._check(images, settings)
        with _Cancellation(training.cancelled) as cancellation:
            draws = Draws(training.stream)
            runner = _Runner(self._step, self._apply, parameters, settings.learning_rate, draws)
            for _, order in training.batches:
                for part in pieces(order, settings.micro_batch):
                    given = training.changed(part) if training.changed else images[part]
                    loss, correct = runner.step(cancellation, given, labels[part])
                    # A step gives the batch's mean loss; a step that only sums gives the sum.
                    loss = loss if self._apply else loss * len(part)
                    training.tally.add(len(part), loss, correct)
                runner.apply(cancellation)
        return {**parameters, **runner.parameters()}

    def predict(self, parameters: Parameters, images: Images) -> NDArray[np.float32]:
        """Logits, (N, classes); see :class:`fimi.learning.training.trainer.Trainer`."""
        if self._evaluate is None:
            self._evaluate = self._load(self._graphs.evaluate, "evaluate")
        fixed = _matching(self._evaluate, PARAMETER, parameters)
        logits = [
            self._evaluate.run(["logits"], {**fixed, "images": part})[0]
            for part in pieces(images, EVALUATION_BATCH)
        ]
        return np.concatenate([np.zeros((0, self._classes), np.float32), *logits])

    def _load(self, model: bytes, what: str) -> ort.InferenceSession:
        try:
            graph_check.check(model)
        except GraphError as error:
            raise GraphError(f"{what} graph refused: {error}") from error
        try:
            return session_of(model, self._threads)
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise GraphError(f"ONNX Runtime cannot load the {what} graph: {error}") from error

    def _check(self, images: Images, settings: TrainingSettings) -> None:
        if recipe(settings) != self._graphs.recipe:
            raise ValueError(
                f"the graphs were made for {self._graphs.recipe}, the round asks for "
                f"{recipe(settings)}; the coordinator must offer graphs for its settings"
            )
        if images.shape[1:] != self._graphs.image_shape:
            raise ValueError(
                f"the graphs take images of shape {self._graphs.image_shape}, the data has "
                f"{images.shape[1:]}"
            )


class _Runner:
    """The state of one training, in buffers that ONNX Runtime reads and writes in place."""

    def __init__(
        self,
        step: ort.InferenceSession,
        apply: ort.InferenceSession | None,
        parameters: Parameters,
        learning_rate: float,
        draws: Draws,
    ) -> None:
        rate = _buffer(np.array(learning_rate, np.float32))
        self._buffers: dict[str, ort.OrtValue] = {}
        self._spares: dict[str, ort.OrtValue] = {}
        for session in (step, apply):
            if session is not None:
                self._allocate(session, parameters)
        self.step = _Program(step, self._buffers, self._spares, rate, draws).run
        self._apply = _Program(apply, self._buffers, self._spares, rate, draws) if apply else None

    def _allocate(self, session: ort.InferenceSession, parameters: Parameters) -> None:
        starts = {
            **_matching(session, PARAMETER, parameters),
            **_matching(session, ANCHOR, parameters),
        }
        _check_state(session, parameters, starts)
        carried = {output.name.removeprefix(NEW) for output in session.get_outputs()}
        for given in session.get_inputs():
            name = given.name
            batched = name == "weights" or name.startswith(DRAW)
            if given.type != "tensor(float)" or batched or name == "learning_rate":
                continue
            zeros = np.zeros(given.shape, np.float32)
            if name not in self._buffers:
                self._buffers[name] = _buffer(np.array(starts.get(name, zeros)))
            if name in carried and name not in self._spares:
                self._spares[name] = _buffer(zeros)

    def apply(self, cancellation: _Cancellation) -> None:
        """Apply the summed gradients, if there are any, and start new sums."""
        if self._apply is None:
            return
        self._apply.run(cancellation)
        for name, buffer in self._buffers.items():
            if name.startswith(SUM):
                buffer.update_inplace(np.zeros(buffer.shape(), np.float32))

    def parameters(self) -> dict[str, NDArray[np.float32]]:
        """A copy of the trained parameters."""
        return {
            name.removeprefix(PARAMETER): np.array(buffer.numpy())
            for name, buffer in self._buffers.items()
            if name.startswith(PARAMETER)
        }


def _check_state(
    session: ort.InferenceSession, parameters: Parameters, starts: Mapping[str, Any]
) -> None:
    """Refuse a graph that carries more from step to step than any optimiser needs.

    Raises:
        GraphError: says how much.
    """
    most = STATE_SHARE * sum(tensor.size for tensor in parameters.values()) + STATE_NUMBERS
    carried = 0
    for given in session.get_inputs():
        name = given.name
        if name in starts or name == "weights" or name.startswith(DRAW):
            continue
        if given.type == "tensor(float)":
            if not all(isinstance(side, int) for side in given.shape):
                raise GraphError(f"input {name!r} has shape {given.shape}, not known beforehand")
            carried += math.prod(given.shape)
    if carried > most:
        raise GraphError(f"its state has {carried} numbers, the limit for this model is {most}")


class _Program:
    """One session with its bindings."""

    def __init__(
        self,
        session: ort.InferenceSession,
        buffers: dict[str, ort.OrtValue],
        spares: dict[str, ort.OrtValue],
        rate: ort.OrtValue,
        draws: Draws,
    ) -> None:
        self._session = session
        self._buffers, self._spares = buffers, spares
        self._binding = session.io_binding()
        inputs = [given.name for given in session.get_inputs()]
        self._draws = draws
        self._drawn = [given for given in session.get_inputs() if given.name.startswith(DRAW)]
        self._fixed = [name for name in inputs if name in buffers]
        outputs = [output.name for output in session.get_outputs()]
        self._reports = {
            name: _buffer(np.zeros((), np.float32))
            for name in ("loss", "correct")
            if name in outputs
        }
        for name, value in self._reports.items():
            self._binding.bind_ortvalue_output(name, value)
        self._carried = [name for name in outputs if name.startswith(NEW)]
        if "learning_rate" in inputs:
            self._binding.bind_ortvalue_input("learning_rate", rate)
        self._weights = np.zeros(0, np.float32)

    def run(
        self,
        cancellation: _Cancellation,
        images: Images | None = None,
        labels: Labels | None = None,
    ) -> tuple[float, float]:
        """Run the session on a batch, if it takes one; returns its loss and right answers."""
        binding, buffers, spares = self._binding, self._buffers, self._spares
        for name in self._fixed:
            binding.bind_ortvalue_input(name, buffers[name])
        for name in self._carried:
            binding.bind_ortvalue_output(name, spares[name.removeprefix(NEW)])
        if images is not None and labels is not None:
            if len(self._weights) != len(labels):
                self._weights = np.ones(len(labels), np.float32)
            binding.bind_cpu_input("images", np.ascontiguousarray(images))
            binding.bind_cpu_input("labels", np.ascontiguousarray(labels))
            binding.bind_cpu_input("weights", self._weights)
            for place, given in enumerate(self._drawn):
                shape = [len(labels) if isinstance(n, str) else n for n in given.shape]
                binding.bind_cpu_input(given.name, self._draws.uniform(place, shape))
        cancellation.run(self._session, binding)
        for name in self._carried:
            key = name.removeprefix(NEW)
            buffers[key], spares[key] = spares[key], buffers[key]
        if not self._reports:
            return 0.0, 0.0
        loss, correct = (float(value.numpy()) for value in self._reports.values())
        return loss, correct


class _Cancellation:
    """Ends a running step when the training is cancelled; free of cost if it cannot be.

    Args:
        cancelled: called every tenth of a second, from a thread of its own.
    """

    def __init__(self, cancelled: Callable[[], bool] | None) -> None:
        self._cancelled = cancelled
        self._options = ort.RunOptions()
        self._stop = threading.Event()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> _Cancellation:
        if self._cancelled is not None:
            self._thread = threading.Thread(target=self._watch, name="cancel", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def run(self, session: ort.InferenceSession, binding: Any) -> None:
        """Run a session, unless cancelled."""
        try:
            if not self._stop.is_set():
                session.run_with_iobinding(binding, self._options)
        except Exception as error:  # ONNX Runtime's errors have no common base
            if not self._stop.is_set():
                raise RuntimeError(f"ONNX Runtime failed in a step: {error}") from error
        if self._stop.is_set():
            raise TrainingCancelled("the training was asked to stop")

    def _watch(self) -> None:
        assert self._cancelled is not None
        while not self._over.wait(CANCEL_INTERVAL_S):
            if self._cancelled():
                self._stop.set()
                with contextlib.suppress(AttributeError):
                    self._options.terminate = True
                return


def _buffer(array: NDArray[np.float32]) -> ort.OrtValue:
    return ort.OrtValue.ortvalue_from_numpy(array)


def _matching(
    session: ort.InferenceSession, prefix: str, parameters: Parameters
) -> Mapping[str, NDArray[np.float32]]:
    """The parameters under the names of a graph's inputs.

    Raises:
        ValueError: one is missing or has another shape.
    """
    found = {}
    for given in session.get_inputs():
        if not given.name.startswith(prefix):
            continue
        name = given.name.removeprefix(prefix)
        tensor = parameters.get(name)
        if tensor is None or list(tensor.shape) != list(given.shape):
            has = "nothing" if tensor is None else f"shape {tensor.shape}"
            raise ValueError(
                f"the graph wants parameter {name!r} of shape {tuple(given.shape)}, the model has "
                f"{has}; graph and model are of different networks"
            )
        found[given.name] = np.asarray(tensor, np.float32, order="C")
    return found
