"""A live dry run: Prometheus answers with the joules of its record, a tracker has its curve."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from fimi.monitor.asking import Asking
from fimi.record.interventions import StopRun
from fimi.record.reader import read_run
from fimi.record.summary import summarise
from fimi.testbed.commands.interrupts import EXIT_INTERRUPTED

PATIENCE_S = 60.0
ROOT = Path(__file__).parents[3]
GRAFANA: Any = json.loads((ROOT / "packaging/grafana/fimi.json").read_text(encoding="utf-8"))
CONFIG = """
global:
  scrape_interval: 200ms
  scrape_timeout: 200ms
scrape_configs:
  - job_name: fimi
    static_configs:
      - targets: ["127.0.0.1:{port}"]
"""


class Prometheus:
    """A Prometheus of Debian that scrapes one port of this machine."""

    def __init__(self, folder: Path, own_port: int, scraped_port: int) -> None:
        program = shutil.which("prometheus")
        if program is None:
            pytest.skip("prometheus is not installed (apt install prometheus)")
        (folder / "prometheus.yml").write_text(CONFIG.format(port=scraped_port))
        self._url = f"http://127.0.0.1:{own_port}"
        self.process = subprocess.Popen(
            [program, "--config.file=prometheus.yml", "--storage.tsdb.path=data",
             f"--web.listen-address=127.0.0.1:{own_port}", "--log.level=error"],
            cwd=folder,
        )  # fmt: skip

    def query(self, text: str) -> list[Any]:
        """The vector that a query gives; empty as long as the server does not answer."""
        asked = urllib.parse.urlencode({"query": text})
        try:
            with urllib.request.urlopen(f"{self._url}/api/v1/query?{asked}", timeout=10) as answer:
                body = json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 503:
                return []
            raise AssertionError(f"{text}: {error.read().decode()}") from error
        except OSError:
            return []
        assert body["status"] == "success", body
        found: list[Any] = body["data"]["result"]
        return found


@pytest.fixture
def two_ports(free_port: int) -> Iterator[tuple[int, int]]:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        other = probe.getsockname()[1]
    yield free_port, other


def until(found: Callable[[], Any], what: str, process: subprocess.Popen[Any]) -> Any:
    limit_s = time.monotonic() + PATIENCE_S
    while not (value := found()):
        assert time.monotonic() < limit_s, f"not within {PATIENCE_S:g} s: {what}"
        assert process.poll() in (None, 0)
        time.sleep(0.05)
    return value


def test_a_live_dry_run(tmp_path: Path, two_ports: tuple[int, int]) -> None:
    own, scraped = two_ports
    prometheus = Prometheus(tmp_path, own, scraped)
    dry_run = subprocess.Popen(
        [sys.executable, "-m", "fimi.testbed.cli", "dry-run", "--strategy", "tfl", "--devices", "2",
         "--rounds", "2000", "--name", "scraped", "--dashboard", f"127.0.0.1:{scraped}",
         "--set", "deployment.export=false", "--set", "trackers.tensorboard=events"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        # What was scraped stays in the answer after the run is over.
        joules = "last_over_time(fimi_device_energy_joules_total[10m])"
        until(lambda: len(prometheus.query(joules)) == 2, "joules of both devices", dry_run)
        assert prometheus.query("up")
        about = prometheus.query(
            "last_over_time(fimi_run_info[10m])"
        )  # broker and boards came late
        assert {series["metric"]["run"] for series in about} == {"scraped"}
        for target in (each for panel in GRAFANA["panels"] for each in panel["targets"]):
            asked = target["expr"].replace("$instance", f"127.0.0.1:{scraped}")
            prometheus.query(asked.replace("$device", ".*"))  # fails where it is no PromQL
        # It goes on until it is asked to stop: no race with its end.
        Asking(tmp_path / "runs" / "scraped").ask(StopRun(), "a test")
        assert dry_run.wait(PATIENCE_S) == EXIT_INTERRUPTED
        answer = prometheus.query(joules)
        power = prometheus.query("last_over_time(fimi_device_power_watts[10m])")
    finally:
        for process in (dry_run, prometheus.process):
            for each in (
                [*psutil.Process(process.pid).children(recursive=True), process]
                if (process.poll() is None)
                else []
            ):
                each.kill()
            process.wait()
    run = read_run(tmp_path / "runs" / "scraped")
    assert {row.device: row.energy.value for row in summarise(run).devices}.keys() == {
        series["metric"]["device"] for series in answer
    }
    for series in answer:
        labels, value = series["metric"], float(series["value"][1])
        own_parts = [
            math.fsum(p.energy.value_j for p in stretch.phases if p.energy is not None)
            for stretch in run.stretches_of(labels["device"])
        ]
        after_a_round = list(itertools.accumulate(own_parts))
        assert any(math.isclose(value, total, rel_tol=1e-9) for total in after_a_round)
        assert (labels["kind"], labels["scope"]) == ("emulated", "board")
        assert labels["source"].startswith("emulated:")
    assert {series["metric"]["kind"] for series in power} <= {"emulated"}
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="reads what was tracked"
    )
    events = accumulator.EventAccumulator(str(tmp_path / "events" / "scraped"))
    events.Reload()
    tracked = [(event.step, event.value) for event in events.Scalars("accuracy")]
    assert tracked == [
        (result.number, pytest.approx(result.evaluation.accuracy)) for result in run.rounds
    ]
    assert (tmp_path / "events" / "scraped" / "report.html").is_file()
