"""Calibrating this machine: with real training, real traffic and in real time.

* :class:`Draft`       values that must be known beforehand: name, link, meter, operating points
* :func:`read_draft`   reads it from a profile, complete or not, and this machine's files
* :class:`HostLoad`    rests, trains with the fleet's training graph, sends paced traffic
* :class:`TimedTraining`    the training that is timed
* :func:`load_trainer`  makes it, of a kept graph, of one exported now, or with PyTorch
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct

from fimi.energy.calibration.candidates import TrialChoice, candidates
from fimi.energy.calibration.sweep_plan import CalibrationImpossibleError, TrialPoint
from fimi.energy.control.cpufreq import EVERY_CLUSTER, FOLDER, CpuFrequency
from fimi.energy.control.devfreq import GpuClock
from fimi.energy.control.journal import Journal, default_folder
from fimi.energy.control.nvpmodel import PowerModes
from fimi.energy.control.programs import Run, run_program
from fimi.energy.cost_model import (
    BoardModel,
    ComputeModel,
    ComputePoint,
    ComputeSetting,
    LinkModel,
    OperatingPoint,
    speed_hz,
    uplink_rate_bps,
)
from fimi.energy.host_profile import HostProfile, ProfileError
from fimi.learning.onnx import graphs
from fimi.learning.training.trainer import Trainer, TrainingSettings
from fimi.testbed.configuration.load import read_toml

_SO_MAX_PACING_RATE = 47
_NO_LIMIT = 0xFFFF_FFFF
_CHUNK = bytes(1 << 16)
_SEND_BUFFER = 1 << 17
_SAMPLES = 200
_NO_DRAFT = (
    ". Write a draft with name and [board.link] first; calibration adds the rest. The keys are in "
    "the docstring of fimi.energy.host_profile"
)


class Draft(Struct, frozen=True, kw_only=True):
    """Values that a calibration cannot measure.

    Attributes:
        profile: a profile with placeholders for the values that calibration finds. It is used to
            build the hardware. :func:`fimi.energy.calibration.fitted.calibrated` replaces every
            placeholder; otherwise no profile is written. Its points are those that are to be
            tried. Its C is 1, so that the speed of a point is the clock that is expected.
        points: the points to try.
        kept: keys of the file that calibration does not change.
    """

    profile: HostProfile
    points: tuple[TrialPoint, ...]
    kept: dict[str, Any]


def read_draft(
    path: Path, *, root: Path = Path("/"), choice: TrialChoice | None = None, run: Run = run_program
) -> Draft:
    """A draft from a profile, in which the values that calibration finds may be missing.

    Args:
        path: TOML file with at least ``name`` and ``[board.link]``.
        root: root of the file system, for what this machine can set.
        choice: which operating points to try; every frequency, at most 13, if left out.
        run: runs programs.

    Raises:
        ProfileError: there is no such file, it is not TOML, or a value is impossible.
        CalibrationImpossibleError: name or link is missing, or the clock of the processor is not
            known.
    """
    tree = read_toml(path, absent=_NO_DRAFT, problem=ProfileError)
    missing = []
    if not tree.get("name"):
        missing.append(f'{path}: name, for example name = "raspberry-pi-4"')
    link = tree.get("board", {}).get("link")
    if not isinstance(link, dict):
        missing.append(
            f"{path}: [board.link] with channel_gain, noise_density_w_per_hz, "
            "transmit_power_max_w and downlink_rate_bps: no sweep on one device can tell them"
        )
    choice = choice or TrialChoice()
    frequencies, discrete = settable_frequencies(root)
    known_hz = tree.get("board", {}).get("compute", {}).get("frequency_max_hz")
    if not frequencies and not isinstance(known_hz, int | float):
        cpufreq = CpuFrequency(root, Journal(default_folder(root), root))
        why = cpufreq.absent({EVERY_CLUSTER: 1.0}) or f"{root / FOLDER} lists none that can be read"
        missing.append(
            f"the clock of the processor: {why}. What it is as it runs can be calibrated: add "
            f"frequency_max_hz to [board.compute] of {path}"
        )
    if missing:
        raise CalibrationImpossibleError(missing)
    clock_hz = frequencies[-1] if frequencies else float(known_hz)
    limits = (frequencies[0], frequencies[-1]) if frequencies else (clock_hz, clock_hz)
    points = _candidates(root, frequencies, discrete, choice, clock_hz, run)
    kept = {key: value for key, value in tree.items() if key not in ("name", "board")}
    try:
        board = BoardModel(
            compute=ComputeModel(
                cycles_per_sample=1.0,
                capacitance_w_per_hz3=1e-30,
                frequency_min_hz=limits[0],
                frequency_max_hz=limits[1],
                frequency_steps_hz=frequencies if discrete else (),
                points=tuple(
                    ComputePoint(
                        name=point.name,
                        seconds_per_sample=1.0 / point.frequency_hz,
                        power_w=0.0,
                        setting=point.setting,
                    )
                    for point in points
                ),
            ),
            link=msgspec.convert(link, LinkModel),
            idle_power_w=0.0,
        )
        known = {"name": tree["name"], "board": msgspec.to_builtins(board), **kept}
        profile = msgspec.convert(known, HostProfile)
    except msgspec.ValidationError as error:
        raise ProfileError(f"{path}: {error}") from error
    return Draft(profile=profile, points=points, kept=kept)


def _candidates(
    root: Path,
    frequencies_hz: tuple[float, ...],
    discrete: bool,
    choice: TrialChoice,
    clock_hz: float,
    run: Run,
) -> tuple[TrialPoint, ...]:
    """The points of this machine to try."""
    journal = Journal(default_folder(root), root, run)
    cpufreq = CpuFrequency(root, journal)
    if frequencies_hz and not discrete:
        ends = (frequencies_hz[0], frequencies_hz[-1], choice.frequencies)
        frequencies_hz = tuple(np.linspace(*ends).round(-3).tolist())
    levels = [(hertz, cpufreq.level(hertz)) for hertz in frequencies_hz]
    return candidates(levels, GpuClock(root, journal).clocks_hz(), choice, clock_hz=clock_hz)


def power_modes(root: Path, run: Run = run_program) -> tuple[int, ...]:
    """The power modes that this user may set, without the present one."""
    modes = PowerModes(root, Journal(default_folder(root), root, run), run)
    present = modes.present() if modes.numbers() else None
    return tuple(mode for mode in modes.numbers() if mode != present)


def sweep_points(profile: HostProfile, board: BoardModel) -> tuple[TrialPoint, ...]:
    """Those points of a draft that this machine can set, as a board publishes them."""
    compute = profile.board.compute
    here = {point.name for point in board.compute.points}
    return tuple(
        TrialPoint(name=p.name, frequency_hz=speed_hz(compute, p), setting=p.setting)
        for p in compute.points
        if p.name in here
    )


def settable_frequencies(root: Path) -> tuple[tuple[float, ...], bool]:
    """Frequencies of cpufreq on this machine, Hz, and whether only these can be set."""
    return CpuFrequency(root, Journal(default_folder(root), root)).range_hz()


def paced(link: LinkModel, rates_bps: Sequence[float], frequency_hz: float) -> tuple[Any, ...]:
    """One operating point for each of these rates, at full power."""
    points = []
    for rate_bps in rates_bps:
        low, high = 1e-9, 1e12
        for _ in range(200):
            middle = float(np.sqrt(low * high))
            reached = uplink_rate_bps(
                middle, link.transmit_power_max_w, link.channel_gain, link.noise_density_w_per_hz
            )
            low, high = (middle, high) if reached < rate_bps else (low, middle)
        points.append(
            OperatingPoint(
                frequency_hz=frequency_hz,
                bandwidth_hz=high,
                transmit_power_w=link.transmit_power_max_w,
                time_split=0.5,
            )
        )
    return tuple(points)


class TimedTraining(NamedTuple):
    """The training of a fleet's network.

    Attributes:
        make: makes its trainer with so many threads.
        parameters: its first parameters.
        image_shape: channels, height, width.
        classes: K.
        settings: network and step.
    """

    make: Callable[[int], Trainer]
    parameters: dict[str, Any]
    image_shape: tuple[int, int, int]
    classes: int
    settings: TrainingSettings


class HostLoad:
    """Makes this machine work.

    Like a device, it trains with no more threads than the point in force gives it cores.

    Args:
        work: the training of the fleet's network.
        stop: when set, the running work ends.
        sink: host and port of a program that reads and discards; ``None`` for no traffic.
    """

    def __init__(
        self, work: TimedTraining, stop: threading.Event, sink: tuple[str, int] | None = None
    ) -> None:
        self._work = work
        self._trainer: tuple[int, Trainer] | None = None
        self._cores: int | None = None
        self._settings = msgspec.structs.replace(work.settings, epochs=1, steps=0)
        draw = np.random.default_rng(0)
        self._images = draw.integers(0, 255, (_SAMPLES, *work.image_shape), dtype=np.uint8)
        self._labels = draw.integers(0, work.classes, _SAMPLES)
        self._stop = stop
        self._sink = sink
        self._socket: socket.socket | None = None
        self._rate_bps: float | None = None

    def begin(self, number: int, setting: ComputeSetting) -> None:
        """Note the number of cores that the setting gives."""
        self._cores = setting.cores

    def rest(self, duration_s: float) -> None:
        """Sleep."""
        self._stop.wait(duration_s)

    def compute(self, duration_s: float) -> int:
        """Train until the time is over; returns samples."""
        threads = self._work.settings.threads
        if self._cores is not None:
            threads = min(threads, self._cores)
        if self._trainer is None or self._trainer[0] != threads:
            self._trainer = (threads, self._work.make(threads))
        trainer = self._trainer[1]
        samples, until_s = 0, time.monotonic() + duration_s
        while time.monotonic() < until_s and not self._stop.is_set():
            result = trainer.train(
                self._work.parameters,
                self._images,
                self._labels,
                self._settings,
                stream=(0, 0, samples),
            )
            samples += result.samples
        return max(samples, 1)

    def send(self, duration_s: float) -> float:
        """Send zeros to the sink until the time is over; returns bits."""
        connection = self._connection()
        sent, until_s = 0, time.monotonic() + duration_s
        while time.monotonic() < until_s and not self._stop.is_set():
            sent += connection.send(_CHUNK)
        return max(8.0 * sent, 1.0)

    def receive(self, duration_s: float) -> float:
        """Receive nothing: one machine alone cannot measure receiving."""
        raise NotImplementedError("a host does not receive during its calibration")

    def set_pacing(self, rate_bps: float | None) -> str:
        """Pace the connection to the sink, bit/s; returns how, or an empty string if it cannot."""
        if self._sink is None:
            return ""
        limit = _NO_LIMIT if rate_bps is None else max(1, int(rate_bps / 8))
        try:
            self._connection().setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, limit)
        except OSError:
            return ""
        self._rate_bps = rate_bps
        return "socket-pacing"

    def pacing_bps(self) -> float | None:
        """The rate in force, bit/s; ``None`` if there is none."""
        return self._rate_bps

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connection(self) -> socket.socket:
        if self._socket is None:
            if self._sink is None:
                raise OSError("there is nowhere to send to")
            self._socket = socket.create_connection(self._sink, timeout=10.0)
            # Bytes that are still in the kernel's buffer have not been sent.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        return self._socket


def load_trainer(
    graph_file: Path | None,
    settings: TrainingSettings,
    classes: int = 10,
    image_shape: tuple[int, int, int] = (1, 8, 8),
) -> TimedTraining:
    """The training for the sweep: of a kept graph, of one that is exported now, or with PyTorch.

    PyTorch is taken where the settings ask for it, or for a GPU, as a device does.

    Args:
        graph_file: a graph that an agent has kept with ``--cache``; ``None`` to export one.
        settings: network and step.
        classes: K, where there is no graph.
        image_shape: channels, height, width, where there is no graph.

    Raises:
        CalibrationImpossibleError: there is neither a graph nor PyTorch.
    """
    try:
        if graph_file is None and (settings.backend == "torch" or settings.device != "cpu"):
            from fimi.learning.training.torch_trainer import TorchTrainer, initial_parameters

            def with_torch(threads: int) -> Trainer:
                limited = msgspec.structs.replace(settings, threads=threads)
                return TorchTrainer.of(limited, classes, image_shape)

            start = initial_parameters(settings.model, classes, image_shape, seed=0)
            return TimedTraining(with_torch, start, image_shape, classes, settings)
        if graph_file is None:
            from fimi.learning.onnx.export import export

            decoded = export(settings, classes, image_shape)
        else:
            decoded = graphs.decode(graph_file.read_bytes())
    except ImportError as error:
        raise CalibrationImpossibleError(
            [
                "the network that is to be timed: --graphs FILE with a training graph (an "
                "agent with --cache FOLDER keeps those it gets), or pip install "
                "'fimi-testbed[coordinator]' to export one here"
            ]
        ) from error
    from fimi.learning.training.onnx_trainer import OnnxTrainer

    settings = msgspec.structs.replace(settings, model=decoded.recipe.model)
    draw = np.random.default_rng(0)
    parameters = {
        name: draw.normal(0.0, 0.05, shape).astype(np.float32)
        for name, shape in _parameter_shapes(decoded.step)
    }
    return TimedTraining(
        lambda threads: OnnxTrainer(decoded, threads=threads),
        parameters,
        decoded.image_shape,
        decoded.classes,
        settings,
    )


def _parameter_shapes(step: bytes) -> list[tuple[str, tuple[int, ...]]]:
    from fimi.learning.training.onnx_runtime import onnxruntime

    session = onnxruntime.InferenceSession(step, providers=["CPUExecutionProvider"])
    return [
        (given.name.removeprefix(graphs.PARAMETER), tuple(given.shape))
        for given in session.get_inputs()
        if given.name.startswith(graphs.PARAMETER)
    ]
