"""Each tracker's own reader finds the figures of the record, at their rounds."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from fimi.monitor.trackers import figures
from fimi.monitor.trackers.figures import ALWAYS
from fimi.monitor.trackers.mlflow_sink import MlflowTracker
from fimi.monitor.trackers.opening import trackers_of
from fimi.monitor.trackers.settings import TrackerSettings
from fimi.monitor.trackers.tensorboard_sink import TensorBoardTracker
from fimi.monitor.trackers.tracker import Tracked
from fimi.monitor.trackers.tracking import tracked
from fimi.monitor.trackers.wandb_file import last_round
from fimi.monitor.trackers.wandb_sink import WandbTracker

MIXED = "board_energy_so_far_j/mixed/wall"


def truth(stored: Any, name: str) -> dict[int, float]:
    """A curve from the summary of the stored run."""
    of = {
        "accuracy": lambda point: point.accuracy,
        MIXED: lambda point: point.energy_so_far.value_j,
        "board_energy_so_far_predicted_j": lambda point: point.compared_so_far.predicted_j,
    }
    return {point.number: of[name](point) for point in stored.summary.points}


CURVES = ("accuracy", MIXED, "board_energy_so_far_predicted_j")


def test_mlflow_has_the_curves_the_configuration_and_the_files(stored: Any, tmp_path: Path) -> None:
    pytest.importorskip(
        "mlflow", reason="MLflow is not installed: pip install fimi-testbed[mlflow]"
    )
    pytest.importorskip("sqlalchemy", reason="writes a database of MLflow")
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path}/sub/mlflow.db"
    assert stored.tell([MlflowTracker(uri, "desk")], upto=2, status="interrupted") == []
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("desk")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "KILLED"
    # another process goes on with it: the same run of MLflow. It is killed before it tells of the
    # last round, which it has stored; a third one does.
    about = tracked(stored.run.info, after_round=3)
    assert MlflowTracker(uri, "desk").begin(about) == 2
    assert stored.tell([MlflowTracker(uri, "desk")], before=stored.run) == []
    assert MlflowTracker(uri, "desk").begin(about) == 3
    assert stored.tell([MlflowTracker(uri, "desk")], before=stored.run) == []
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "a-run")
    assert run.data.params["plan.deadline_s"] == "12.0"
    assert run.data.tags["fimi.strategy"] == "fimi"
    for name in CURVES:
        history = client.get_metric_history(run.info.run_id, name)
        assert {m.step: m.value for m in history} == pytest.approx(truth(stored, name))
        assert len(history) == 3
    assert run.data.metrics["run/board_energy_j/mixed/wall"] == stored.summary.energy.value_j
    assert [f.path for f in client.list_artifacts(run.info.run_id)] == ["report.html"]
    assert [*(tmp_path / "sub").rglob("report.html")]


def test_tensorboard_has_the_curves_and_purges_what_was_not_stored(
    stored: Any, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard", reason="pip install fimi-testbed[tensorboard]")
    pytest.importorskip("torch", reason="TensorBoard's files are written by PyTorch's writer")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    # A process that was killed has written rounds 2 and 3, of which only round 1 was stored.
    assert stored.tell([TensorBoardTracker(str(tmp_path))], status="failed") == []
    before = replace(stored.run, rounds=stored.run.rounds[:1])
    assert stored.tell([TensorBoardTracker(str(tmp_path))], before=before, upto=1) == []
    # Another one has stored rounds 2 and 3, and was killed over telling round 2.
    killed = TensorBoardTracker(str(tmp_path))
    assert killed.begin(tracked(stored.run.info, after_round=1)) == 0
    told = {p.number: figures.of_round(p) for p in stored.summary.points}
    killed.round(1, told[1])
    killed.round(2, {"accuracy": 0.0, ALWAYS: told[2][ALWAYS]})
    assert stored.tell([TensorBoardTracker(str(tmp_path))], before=stored.run) == []
    events = EventAccumulator(str(tmp_path / "a-run"))
    events.Reload()
    for name in CURVES:
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert [step for step, _ in found] == [1, 2, 3]
        assert dict(found) == pytest.approx(truth(stored, name), rel=1e-6)
    (text, *_) = [e.tensor_proto.string_val[0].decode() for e in events.Tensors("run/text_summary")]
    assert "| plan.deadline_s | 12.0 |" in text
    assert (tmp_path / "a-run" / "report.html").read_text() == stored.report.read_text()


def records(file: bytes) -> Iterator[bytes]:
    """The records of a file of W&B: LevelDB's log format, after a header of 7 bytes.

    The package can write such files and upload them, and has no reader of its own.
    """
    assert file[:4] in (b":W&B", b"")  # nothing is there yet
    at, whole = 7, b""
    while at + 7 <= len(file):
        if 32768 - at % 32768 < 7:  # what is left of a block holds no header
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack_from("<HB", file, at + 4)
        if at + 7 + length > len(file):  # its process is still writing, or was killed
            return
        whole += file[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


def kinds(file: Path) -> set[str | None]:
    """What there is in such a file so far."""
    from wandb.proto import wandb_internal_pb2

    found = set()
    for data in records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        found.add(record.WhichOneof("record_type"))
    return found


def test_two_runs_of_one_name_do_not_take_each_others_curves(tmp_path: Path) -> None:
    pytest.importorskip(
        "tensorboard", reason="TensorBoard is not installed: pip install fimi-testbed[tensorboard]"
    )
    pytest.importorskip("torch", reason="TensorBoard's files are written by PyTorch's writer")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for instance, rounds in (("first-run", 5), ("second-run", 3), ("first-run", 6)):
        after = 5 if rounds == 6 else 0
        run = Tracked(
            name="x", instance=instance, after_round=after, about={"from": instance}, config={}
        )
        tracker = TensorBoardTracker(str(tmp_path))
        told = tracker.begin(run)
        for number in range(told + 1, rounds + 1):
            tracker.round(number, {ALWAYS: float(rounds)})
        tracker.end("completed", {}, [])
    for folder, count, instance in (("x", 6, "first-run"), ("x-second-r", 3, "second-run")):
        found = EventAccumulator(str(tmp_path / folder))
        found.Reload()
        assert len(found.Scalars(ALWAYS)) == count
        (text,) = found.Tensors("run/text_summary")
        assert instance in text.tensor_proto.string_val[0].decode()


def test_wandb_writes_an_offline_run_with_the_curves(stored: Any, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="pip install fimi-testbed[wandb]")
    from wandb.proto import wandb_internal_pb2

    assert stored.tell([WandbTracker(str(tmp_path), "desk")]) == []
    (file,) = tmp_path.rglob("*.wandb")
    limit_s = time.monotonic() + 60.0
    while "exit" not in kinds(file):  # its own process writes to the end after finish() returns
        assert time.monotonic() < limit_s
        time.sleep(0.05)
    curves: dict[str, dict[int, float]] = {}
    config: dict[str, str] = {}
    for data in records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "run":
            assert (record.run.project, record.run.run_id) == ("desk", "0123456789abcdef")
            config |= {item.key: item.value_json for item in record.run.config.update}
        if record.WhichOneof("record_type") == "history":
            for item in record.history.item:
                name = item.key or "/".join(item.nested_key)
                curves.setdefault(name, {})[record.history.step.num] = float(item.value_json)
    for name in CURVES:
        assert curves[name] == pytest.approx(truth(stored, name))
    assert float(config["plan.deadline_s"]) == 12.0
    assert [*tmp_path.rglob("report.html")]
    # What is there at any moment at which the machine may stop; then of one that was killed.
    whole = file.read_bytes()
    for length in range(7, len(whole), 97):
        file.write_bytes(whole[:length])
        steps = [0]
        for data in records(whole[:length]):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            steps.append(record.history.step.num)
        assert last_round(file) == max(steps)
        if max(steps) == 2:
            break
    again = WandbTracker(str(tmp_path), "desk")
    assert again.begin(tracked(stored.run.info, after_round=3)) == 2
    again.end("failed", {}, ())


def test_wandb_files_are_read_over_the_ends_of_blocks(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="pip install fimi-testbed[wandb]")
    from wandb.proto import wandb_internal_pb2

    body = b":W&B\x00\x00\x00"
    for step in range(1, 1500):
        record = wandb_internal_pb2.Record()
        record.history.step.num = step
        item = record.history.item.add()
        item.nested_key.append("text")
        item.value_json = "7" * (step * 37 % 400)
        if step % 100 == 0:
            item.value_json = "8" * 70_000  # over three blocks
        data = record.SerializeToString()
        first = True
        while first or data:
            left = 32768 - len(body) % 32768
            if left < 7:
                body += bytes(left)
                left = 32768
            piece, data = data[: left - 7], data[left - 7 :]
            kind = (1 if first else 4) if not data else (2 if first else 3)
            body += struct.pack("<IHB", 0, len(piece), kind) + piece
            first = False
    file = tmp_path / "a.wandb"
    file.write_bytes(body)
    assert last_round(file) == 1499
    file.write_bytes(body[:-1])
    assert last_round(file) == 1498


def test_settings_name_the_trackers() -> None:
    assert trackers_of(TrackerSettings()) == ()
    all_of_them = TrackerSettings(mlflow="http://desk:5000", tensorboard="tb", wandb="wb")
    assert [each.extra for each in trackers_of(all_of_them)] == ["mlflow", "tensorboard", "wandb"]
