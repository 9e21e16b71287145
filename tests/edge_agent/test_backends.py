from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from fimi.edge_agent import backends
from fimi.edge_agent.backends import BackendError, Backends
from fimi.learning.onnx import export, graphs
from fimi.learning.onnx.graphs import GraphError
from fimi.learning.training import tensors
from fimi.learning.training.trainer import TrainingSettings

SETTINGS = TrainingSettings()
SET = export.export(SETTINGS, 10, (1, 8, 8))
PAYLOAD = graphs.encode(SET)
DIGEST = tensors.digest(PAYLOAD)


def never() -> bytes:
    raise AssertionError("fetched again")


def kept(folder: Path | None) -> Backends:
    return Backends(10, (1, 8, 8), cache=folder)


def test_graphs_are_what_auto_means_where_there_are_any() -> None:
    assert kept(None).trainer(SETTINGS, DIGEST, lambda: PAYLOAD).backend.startswith("onnxruntime")
    assert kept(None).trainer(SETTINGS, None, never).backend.startswith("torch")


class TestAuto:
    """By the network and by what is installed; never by a clock."""

    def kind(self, settings: TrainingSettings, multiply_adds: int) -> str:
        payload = graphs.encode(msgspec.structs.replace(SET, multiply_adds=multiply_adds))
        device, digest = kept(None), tensors.digest(payload)
        return device.trainer(settings, digest, lambda: payload).backend.split()[0]

    def test_the_small_cnn_is_for_onnx_and_the_deep_networks_are_for_torch(self) -> None:
        light = export.export(TrainingSettings(model="small-cnn"), 10, (3, 32, 32))
        heavy = export.export(TrainingSettings(model="vgg-9"), 10, (3, 32, 32))
        assert light.multiply_adds < backends.HEAVY_MULTIPLY_ADDS / 5
        assert heavy.multiply_adds > backends.HEAVY_MULTIPLY_ADDS * 2

    def test_multiply_adds_of_the_small_cnn(self) -> None:
        convolutions = 64 * 9 * (1 * 16 + 16 * 32)
        assert SET.multiply_adds == convolutions + 512 * 64 + 64 * 10

    def test_the_rule(self, monkeypatch: pytest.MonkeyPatch) -> None:
        limit = backends.HEAVY_MULTIPLY_ADDS
        assert self.kind(SETTINGS, limit) == "onnxruntime"
        assert self.kind(SETTINGS, limit + 1) == "torch"
        assert self.kind(TrainingSettings(backend="onnx"), limit + 1) == "onnxruntime"
        assert self.kind(TrainingSettings(model="mine:network"), limit + 1) == "onnxruntime"
        monkeypatch.setattr(backends, "_installed", lambda package: package != "torch")
        assert self.kind(SETTINGS, limit + 1) == "onnxruntime"


def test_torch_if_asked_for() -> None:
    settings = TrainingSettings(backend="torch")
    assert kept(None).trainer(settings, DIGEST, never).backend.startswith("torch")


def test_onnx_without_graphs() -> None:
    with pytest.raises(BackendError, match="offers no graph"):
        kept(None).trainer(TrainingSettings(backend="onnx"), None, never)


def test_neither_graphs_nor_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match=r"fimi-testbed\[torch\]"):
        kept(None).trainer(SETTINGS, None, never)


def test_graphs_are_fetched_once(tmp_path: Path) -> None:
    one = kept(tmp_path)
    first = one.trainer(SETTINGS, DIGEST, lambda: PAYLOAD)
    assert one.trainer(SETTINGS, DIGEST, never) is first
    assert kept(tmp_path).trainer(SETTINGS, DIGEST, never).backend == first.backend


def test_a_damaged_file_is_fetched_again(tmp_path: Path) -> None:
    kept(tmp_path).trainer(SETTINGS, DIGEST, lambda: PAYLOAD)
    (path,) = tmp_path.glob("*.graphs")
    path.write_bytes(PAYLOAD[:-1] + b"\0")
    with pytest.raises(AssertionError, match="fetched again"):
        kept(tmp_path).trainer(SETTINGS, DIGEST, never)


def test_only_so_many_are_kept(tmp_path: Path) -> None:
    for number in range(backends.KEPT + 3):
        changed = graphs.encode(
            msgspec.structs.replace(
                SET, recipe=msgspec.structs.replace(SET.recipe, momentum=number / 100)
            )
        )
        kept(tmp_path).trainer(SETTINGS, tensors.digest(changed), lambda data=changed: data)  # type: ignore[misc]
    assert len(list(tmp_path.iterdir())) == backends.KEPT


@pytest.mark.parametrize("data", [b"", b"nothing", PAYLOAD[:100], PAYLOAD + b"x"])
def test_noise(data: bytes) -> None:
    with pytest.raises(GraphError):
        kept(None).trainer(SETTINGS, tensors.digest(data), lambda: data)


def test_graphs_of_other_images() -> None:
    other = graphs.encode(export.export(SETTINGS, 10, (1, 12, 12)))
    with pytest.raises(GraphError, match="this device has"):
        kept(None).trainer(SETTINGS, tensors.digest(other), lambda: other)


def test_a_hostile_graph_is_refused() -> None:
    hostile = msgspec.structs.replace(SET, step=SET.step.replace(b"Conv", b"Evil"))
    payload = graphs.encode(hostile)
    with pytest.raises(GraphError, match="step graph refused: operator 'Evil'"):
        kept(None).trainer(SETTINGS, tensors.digest(payload), lambda: payload)
