"""A generator node in a process of its own, to be killed: url, fleet, folder of the pool, delay.

Prints a line per chunk and waits for one after it, so that the test decides how far it gets.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from fimi.generator_node.generators.bootstrap import BootstrapGenerator
from fimi.generator_node.service.drawing import made_by
from fimi.generator_node.service.node import GeneratorNode, RequestJournal
from fimi.generator_node.service.pool import Pool
from fimi.generator_node.service.service import BatchService, QueueProgress
from fimi.learning.data.dataset import load_digits, split
from fimi.messaging.address import BrokerAddress
from fimi.messaging.client import Peer

url, fleet, folder = sys.argv[1:]
generator = BootstrapGenerator(split(load_digits()).public)
pool = Pool(Path(folder), generator.image_shape, made_by(generator, None))
service = BatchService(generator, pool=pool, chunk=8)


def stop_here(progress: QueueProgress) -> None:
    print(progress.drawn, flush=True)
    sys.stdin.readline()


with Peer(BrokerAddress.parse(url), fleet=fleet, peer="generator", role="generator") as peer:
    journal = RequestJournal(Path(folder) / "requests.json")
    GeneratorNode(peer, service, journal=journal, on_progress=stop_here).run(threading.Event())
