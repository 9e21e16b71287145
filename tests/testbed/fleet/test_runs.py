"""No question changes what a run gives."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commandline import SMALL, SharedRun, Workplace
from same_record import differences

from fimi.messaging.address import BrokerAddress
from fimi.messaging.console import Console
from fimi.messaging.errors import BoardDeclines, BrokerError, NotAnswered
from fimi.messaging.questions import DoctorQuestion, Echo, LogQuestion, ModelQuestion

TELLING = """
import pathlib, sys
from fimi.testbed.processes import dry_run
start = dry_run._broker
def telling(*given):
    broker = start(*given)
    pathlib.Path("url").write_text(broker.address.url(with_password=True))
    return broker
dry_run._broker = telling
from fimi.testbed.cli import main
main(sys.argv[1:])
"""
"""``fimi`` that tells where the broker of its dry run is."""


@pytest.mark.slow
def test_a_run_of_which_somebody_asks_all_the_time(place: Workplace, reference: SharedRun) -> None:
    arguments = ["dry-run", *SMALL, "--format", "json", "--broker-kind", "amqtt"]
    process = subprocess.Popen(
        [sys.executable, "-c", TELLING, *arguments],
        cwd=place.folder,
        env=place.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    url = place.folder / "url"
    while not url.exists() or not url.read_text():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    asked, runs = _ask_until_it_ends(process, BrokerAddress.parse(url.read_text()))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert asked >= 10
    assert runs - {""}  # also in the run
    result = json.loads(out)
    mine = Path(result["run_dir"])
    mine = mine if mine.is_absolute() else place.folder / mine
    assert differences(reference.run_folder, mine) == []
    one, other = (folder / "model.safetensors" for folder in (reference.run_folder, mine))
    assert one.read_bytes() == other.read_bytes()
    assert "dropped" not in err


def _ask_until_it_ends(
    process: subprocess.Popen[str], address: BrokerAddress
) -> tuple[int, set[str]]:
    """Look, and ask everything of everybody; how often boards have answered, and in which runs."""
    asked, runs = 0, set()
    # At its end the broker goes before the process does.
    with Console(address, fleet="desk") as console, contextlib.suppress(BrokerError):
        while process.poll() is None:
            for device, seen in console.look(0.5).items():
                if not seen.answered or seen.status is None:
                    continue
                asked += 1
                runs.add(seen.status.run)
                for question in (Echo(payload=bytes(1000)), ModelQuestion(), LogQuestion()):
                    _ask(console, device, question)
                _ask(console, device, DoctorQuestion())
            time.sleep(0.2)
    return asked, runs


def _ask(console: Console, device: str, question: object) -> None:
    with contextlib.suppress(BoardDeclines, NotAnswered):
        console.ask(device, question, 1.0)  # type: ignore[arg-type]
