"""The training graphs of a run, which devices without PyTorch train with.

Exporting them loads PyTorch's compiler, longer than everything else does until a fleet is invited.
So those of the built-in networks are kept in the user's cache (``~/.cache/fimi/graphs``), for every
run with the same training, images and versions. The code of one's own network may change, and then
its name says nothing of it: its graphs are kept in the run's folder, for the run to go on with.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from fimi.files import write_whole
from fimi.learning.networks.built_in_cost import BUILT_IN
from fimi.learning.onnx import graphs
from fimi.testbed.configuration.sections import Config
from fimi.testbed.resuming import versions
from fimi.testbed.run_folder import RunFolder

KEPT_MAX = 100
"""How many files the cache holds at most, of some kB each; the oldest are removed."""


def training_graphs(
    folder: RunFolder,
    config: Config,
    classes: int,
    image_shape: tuple[int, int, int],
    say: Callable[[str], None],
) -> bytes:
    """What devices without PyTorch train with; empty if they train with PyTorch.

    Args:
        folder: of the run.
        config: network and backend.
        classes: K.
        image_shape: channels, height, width.
        say: called with the backend, and why.

    Raises:
        ExportError: ``training.backend`` is ``"onnx"`` and the network cannot.
    """
    model = config.training.model
    made_of = msgspec.json.encode([config.training, classes, image_shape, versions()])
    name = f"graphs-{hashlib.sha256(made_of).hexdigest()[:16]}"
    shared = cache() if model in BUILT_IN else None
    path = (shared or folder.work) / name
    payload = _kept(path)
    if not payload:
        payload = _exported(config, classes, image_shape, say)
        if payload:
            with contextlib.suppress(OSError):  # they are exported again then
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, hashlib.sha256(payload).digest() + payload)
                if shared is not None:
                    _remove_oldest(shared)
    if payload:
        say(f"devices are offered {model} as a training graph of {len(payload)} bytes")
    return payload


def cache() -> Path | None:
    """Where the graphs of built-in networks are kept; ``None`` for a user without a home."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return home / "fimi" / "graphs"


def _kept(path: Path) -> bytes:
    """The graphs in a file; empty if there are none, or they are damaged."""
    with contextlib.suppress(OSError):
        found = path.read_bytes()
        if hashlib.sha256(found[32:]).digest() == found[:32]:
            return found[32:]
    return b""


def _remove_oldest(folder: Path) -> None:
    found = sorted(folder.glob("graphs-*"), key=lambda path: path.stat().st_mtime)
    for path in found[:-KEPT_MAX]:
        path.unlink(missing_ok=True)


def _exported(
    config: Config,
    classes: int,
    image_shape: tuple[int, int, int],
    say: Callable[[str], None],
) -> bytes:
    training = config.training
    if training.backend == "torch":
        say('devices train with PyTorch (training.backend = "torch")')
        return b""
    from fimi.learning.onnx.export import ExportError, export

    try:
        return graphs.encode(export(training, classes, image_shape))
    except ExportError as error:
        if training.backend == "onnx":
            raise ExportError(
                f'{error}. Or let devices train with PyTorch: training.backend = "torch"'
            ) from error
        say(f"devices train with PyTorch, for there is no training graph: {error}")
        return b""
