"""Files of a person's own, called like modules of ours or others', are not run by any process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commandline import Workplace

NAMES = ("fimi", "energy", "learning", "messaging", "testbed", "optim", "record", "queue", "json",
         "logging", "selectors", "signal", "torch", "numpy", "onnxruntime", "amqtt",
         "own_network")  # fmt: skip

BROKER = """
import os, sys
from pathlib import Path
from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.link import probe
sys.path.insert(0, os.getcwd())  # as "python -m" does
for kind in ("amqtt", "auto"):
    with EmbeddedBroker(kind) as broker:
        probe(broker.address)
"""


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Workplace]:
    """A folder of files that leave a mark when they are imported, and a program beside it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.py").write_text(
            "import pathlib\n"
            f"pathlib.Path({str(tmp_path)!r}, 'imported-' + __name__.split('.')[-1]).touch()\n"
        )
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "fimi").write_text("from fimi.testbed.cli import main\nmain()\n")
    (tmp_path / "bin" / "broker").write_text(BROKER)
    place = Workplace(folder)
    yield place
    place.clean_up()


def run(place: Workplace, program: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, place.folder.parent / "bin" / program, *arguments],
        cwd=place.folder,
        env=place.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in place.folder.parent.glob("imported-*")) == []


def test_by_an_experiment_and_its_dry_run(full: Workplace) -> None:
    """Broker, devices with PyTorch, generator node: every kind of child, and what they start."""
    (full.folder / "one.toml").write_text(
        'strategies = ["fimi"]\nseeds = 1\n[base]\nfleet.devices = 3\nrounds.count = 1\n'
        'plan.error_max = 0.08\nbroker.kind = "amqtt"\ntraining.backend = "torch"\n'
    )
    run(full, "fimi", "experiment", "one.toml")
    folder = full.folder / "experiments" / "one"
    (found,) = json.loads((folder / "results.json").read_bytes())["runs"]
    assert found["series"]["synthetic_samples"] > 0


def test_by_a_broker_of_a_program_that_looks_there_itself(full: Workplace) -> None:
    run(full, "broker")
