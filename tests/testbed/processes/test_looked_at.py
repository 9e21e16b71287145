"""Boards hear of whoever looks at a run through its dashboard, and of nobody else."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from bench import Bench
from told import Told

from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.looking import READS_S
from fimi.monitor.server import door
from fimi.record.record import RunInfo
from fimi.testbed.commands.dashboard import Place
from fimi.testbed.configuration.sections import Config, RunConfig
from fimi.testbed.processes.windows import Windows
from fimi.testbed.run_folder import RunFolder


def until(true: Callable[[], object]) -> None:
    limit_s = time.monotonic() + 30.0
    while not true():
        assert time.monotonic() < limit_s
        time.sleep(0.02)


@contextmanager
def viewer(url: str) -> Iterator[None]:
    """Reads the feed as the page and ``fimi top --url`` do."""
    at = urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=30)
    connection.request("GET", "/feed")
    answer, gone = connection.getresponse(), threading.Event()

    def read() -> None:
        while not gone.is_set() and answer.readline():
            pass

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        gone.set()
        thread.join()  # the next event comes within a second
        connection.close()


def test_a_viewer_of_the_page_and_no_scraper(
    a_broker: EmbeddedBroker, fleet_name: str, tmp_path: Path
) -> None:
    config = Config(run=RunConfig(name="r", directory=str(tmp_path)))
    folder = RunFolder(config, RunInfo(run="r", config={"rounds.count": 3}))
    place = Place(port=0)
    with (
        Bench(a_broker, fleet_name, joins=False, looked_s=0.2) as bench,
        Windows(folder, Told(), "a run", place) as windows,
    ):
        desk, looking = bench.desk.peer, bench.device.peer.looking
        windows.connect(desk, broker="a broker", exposed="")
        at = door.find(folder.path)
        split = urlsplit(at.url)
        connection = http.client.HTTPConnection(split.hostname or "", split.port, timeout=30)
        connection.request("GET", "/snapshot")  # as 'fimi top --once' does
        json.loads(connection.getresponse().read())
        connection.close()
        assert (looking.is_on, desk.counters.telemetry) == (False, 0)
        time.sleep(READS_S / 2)
        assert (looking.is_on, desk.counters.telemetry) == (False, 0)
        with viewer(at.url):
            until(lambda: desk.counters.telemetry >= 5)
            assert looking.is_on
    folder.close()
