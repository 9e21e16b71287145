"""The short form of benchmarks/chaos_rounds.py: real processes, cut links, kills of everybody."""

from __future__ import annotations

import threading

import chaos_rounds
import msgspec
import pytest
from chaos_rounds import Acknowledged, Setting, federation, lost, violations

from fimi.messaging.broker.embedded import find_mosquitto
from fimi.testbed.chaos.faults import Cut, HalfOpen, Kill, Messages
from fimi.testbed.chaos.runner import Incident

ROUNDS, DEVICES = 3, 2
FAULTS = (
    Messages(proxy="wifi", at_s=0.0, duplicate=0.2, reorder=0.2),
    Messages(proxy="core", at_s=0.0, duplicate=0.1, reorder=0.1),
    Cut(proxy="wifi", every_s=1.7, until_s=20.0),
    HalfOpen(proxy="wifi", at_s=5.0, for_s=20.0, way="up"),
    Kill(process="device-01", at_s=4.5, for_s=0.1),
    Kill(process="broker", at_s=6.5, for_s=0.2),
    Kill(process="coordinator", at_s=7.0, for_s=0.1),
)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
def test_nothing_acknowledged_is_lost_and_nothing_counts_twice(tmp_path):
    options = ("--set", "deployment.export=false")
    setting = Setting(rounds=ROUNDS, devices=DEVICES, faults=FAULTS, options=options)
    done: dict[str, Acknowledged] = {}

    def run(name: str) -> None:
        done[name] = federation(tmp_path / name, setting, faults=name == "wild")[1]

    threads = [threading.Thread(target=run, args=(name,)) for name in ("calm", "wild")]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    calm, wild = ((tmp_path / name, done[name]) for name in ("calm", "wild"))
    assert violations(calm, wild, DEVICES) == []
    log = (tmp_path / "wild" / "faults.jsonl").read_bytes().splitlines()
    seen = [msgspec.json.decode(line, type=Incident) for line in log]
    assert {"messages", "cut"} <= {each.kind for each in seen if each.phase == "begin"}
    assert len(chaos_rounds.rows(tmp_path / "wild", "SELECT * FROM round")) == ROUNDS
    assert not lost(tmp_path / "calm") and len(done["calm"].yes()) > 0


def test_a_loss_a_double_count_and_another_model_would_be_seen(tmp_path):
    """The judge of the benchmark, on records that are wrong on purpose."""
    import sqlite3

    def record(name: str, statuses: str, loss: float, model: bytes) -> tuple:
        folder = tmp_path / name
        (folder / "runs" / "it").mkdir(parents=True)
        (folder / "runs" / "it" / "model.safetensors").write_bytes(model)
        db = sqlite3.connect(folder / "runs" / "it" / "run.sqlite")
        db.execute("CREATE TABLE round (number, accuracy, loss)")
        db.execute("CREATE TABLE device_round (round, device, status, share)")
        db.execute("INSERT INTO round VALUES (1, 0.5, ?)", (loss,))
        for number, status in enumerate(statuses):
            row = (f"d{number}", "accepted" if status == "a" else "missing", 0.5)
            db.execute("INSERT INTO device_round VALUES (1, ?, ?, ?)", row)
        db.commit()
        db.close()
        listener = Acknowledged.__new__(Acknowledged)
        listener.heard, listener.offered = {(1, "d0"), (1, "d1")}, {}
        listener.verdicts = {(1, "d0"): True, (1, "d1"): statuses[1] == "a"}
        return folder, listener

    calm = record("calm", "aa", 1.0, b"model")
    assert violations(calm, record("same", "aa", 1.0, b"model"), 2) == []
    assert violations(calm, record("late", "am", 9.0, b"other"), 2) == []  # told, and so another
    (said,) = violations(calm, record("lost", "ma", 1.0, b"model"), 2)
    assert "the update of d0 was acknowledged, and is lost" in said
    (said,) = violations(calm, record("model", "aa", 1.0, b"other"), 2)
    assert "the final model" in said
    (said,) = violations(calm, record("round", "aa", 2.0, b"model"), 2)
    assert "round 1: (0.5, 2.0) instead of (0.5, 1.0)" in said
