"""Calibrating this machine: with real training, real traffic and in real time.

* :class:`Draft`       values that must be known beforehand: name, link, meter, frequencies
* :func:`read_draft`   reads it from a profile, complete or not, and this machine's cpufreq files
* :class:`HostLoad`    rests, trains with the fleet's training graph, sends paced traffic
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from fimi.energy.calibration.sweep import CalibrationImpossibleError
from fimi.energy.control.cpufreq import CpuFrequency
from fimi.energy.control.journal import Journal, default_folder
from fimi.energy.cost_model import (
    BoardModel,
    ComputeModel,
    LinkModel,
    OperatingPoint,
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
_CPUFREQ = "sys/devices/system/cpu/cpufreq"


class Draft(Struct, frozen=True, kw_only=True):
    """Values that a calibration cannot measure.

    Attributes:
        profile: a profile with placeholders for the values that calibration finds. It is used to
            build the hardware. :func:`fimi.energy.calibration.fitted.calibrated` replaces every
            placeholder; otherwise no profile is written.
        frequencies_hz: operating points, or the lowest and the highest frequency.
        discrete: whether only ``frequencies_hz`` can be set, and nothing between them.
        kept: keys of the file that calibration does not change.
    """

    profile: HostProfile
    frequencies_hz: tuple[float, ...]
    discrete: bool
    kept: dict[str, Any]


def read_draft(path: Path, *, root: Path = Path("/")) -> Draft:
    """A draft from a profile, in which the values that calibration finds may be missing.

    Args:
        path: TOML file with at least ``name`` and ``[board.link]``.
        root: root of the file system, for the frequencies that this machine can set.

    Raises:
        ProfileError: there is no such file, it is not TOML, or a value is impossible.
        CalibrationImpossibleError: name, link or frequencies are missing.
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
    frequencies, discrete = settable_frequencies(root)
    if not frequencies:
        missing.append(
            f"control over the CPU frequency: no cpufreq policy under {root / _CPUFREQ}. Virtual "
            "machines and containers have none"
        )
    if missing:
        raise CalibrationImpossibleError(missing)
    kept = {key: value for key, value in tree.items() if key not in ("name", "board")}
    try:
        board = BoardModel(
            compute=ComputeModel(
                cycles_per_sample=1.0,
                capacitance_w_per_hz3=1e-30,
                frequency_min_hz=frequencies[0],
                frequency_max_hz=frequencies[-1],
                frequency_steps_hz=frequencies if discrete else (),
            ),
            link=msgspec.convert(link, LinkModel),
            idle_power_w=0.0,
        )
        known = {"name": tree["name"], "board": msgspec.to_builtins(board), **kept}
        profile = msgspec.convert(known, HostProfile)
    except msgspec.ValidationError as error:
        raise ProfileError(f"{path}: {error}") from error
    return Draft(profile=profile, frequencies_hz=frequencies, discrete=discrete, kept=kept)


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


class HostLoad:
    """Makes this machine work.

    Args:
        trainer: trainer of the fleet's network, with its first parameters.
        stop: when set, the running work ends.
        sink: host and port of a program that reads and discards; ``None`` for no traffic.
    """

    def __init__(
        self,
        trainer: tuple[Trainer, dict[str, Any], tuple[int, int, int], int, TrainingSettings],
        stop: threading.Event,
        sink: tuple[str, int] | None = None,
    ) -> None:
        self._trainer, self._parameters, shape, classes, settings = trainer
        self._settings = msgspec.structs.replace(settings, epochs=1, steps=0)
        draw = np.random.default_rng(0)
        self._images = draw.integers(0, 255, (_SAMPLES, *shape), dtype=np.uint8)
        self._labels = draw.integers(0, classes, _SAMPLES)
        self._stop = stop
        self._sink = sink
        self._socket: socket.socket | None = None
        self._rate_bps: float | None = None

    def begin(self, number: int) -> None:
        """Do nothing: on a real machine nothing is drawn."""

    def rest(self, duration_s: float) -> None:
        """Sleep."""
        self._stop.wait(duration_s)

    def compute(self, duration_s: float) -> int:
        """Train until the time is over; returns samples."""
        samples, until_s = 0, time.monotonic() + duration_s
        while time.monotonic() < until_s and not self._stop.is_set():
            result = self._trainer.train(
                self._parameters, self._images, self._labels, self._settings, stream=(0, 0, samples)
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
    graph_file: Path | None, settings: TrainingSettings
) -> tuple[Trainer, dict[str, Any], tuple[int, int, int], int, TrainingSettings]:
    """The trainer for the sweep: of a kept training graph, or of one that is exported now.

    Args:
        graph_file: a graph that an agent has kept with ``--cache``; ``None`` to export one.
        settings: network and step.

    Raises:
        CalibrationImpossibleError: there is neither a graph nor PyTorch.
    """
    if graph_file is None:
        try:
            from fimi.learning.onnx.export import export

            decoded = export(settings, 10, (1, 8, 8))
        except ImportError as error:
            raise CalibrationImpossibleError(
                [
                    "the network that is to be timed: --graphs FILE with a training graph (an "
                    "agent with --cache FOLDER keeps those it gets), or pip install "
                    "'fimi-testbed[coordinator]' to export one here"
                ]
            ) from error
    else:
        decoded = graphs.decode(graph_file.read_bytes())
    from fimi.learning.training.onnx_trainer import OnnxTrainer

    settings = msgspec.structs.replace(settings, model=decoded.recipe.model)
    draw = np.random.default_rng(0)
    return (
        OnnxTrainer(decoded),
        {
            name: draw.normal(0.0, 0.05, shape).astype(np.float32)
            for name, shape in _parameter_shapes(decoded.step)
        },
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
