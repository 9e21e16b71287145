"""How long it takes to collect the updates of 16 devices, against 4, over links of a fixed rate.

Every device has a link of its own, so 16 take no longer than 4 when all are pulled at once; with
four places (``places 4``, as before the collector) they take four times as long, and the time in
which a device waits for its turn would be metered as upload.

    python benchmarks/collection.py [--devices 16] [--rate 2e6] [--size 300000] [--broker auto]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.topics import COORDINATOR
from fimi.messaging.transfers.collecting import Collector
from fimi.messaging.transfers.parts import PartFiles


def seconds(broker: EmbeddedBroker, devices: int, rate_bps: float, size: int, places: int) -> float:
    """Wall time until all updates are there; ``places`` 0 for the collector."""
    fleet = f"f{devices}-{places}"
    with ExitStack() as stack:
        desk = stack.enter_context(
            Peer(broker.address, fleet=fleet, peer=COORDINATOR, role="coordinator")
        )
        offers = []
        for number in range(devices):
            device = stack.enter_context(
                Peer(broker.address, fleet=fleet, peer=f"d{number}", role="device")
            )
            device.set_pacing(rate_bps)
            offers.append(device.transfers.serve(os.urandom(size), "noise"))
        begin_s = time.monotonic()
        if places:
            with ThreadPoolExecutor(places) as pool:
                list(pool.map(lambda offer: desk.transfers.fetch(offer, 600.0), offers))
        else:
            with Collector(desk.transfers) as collector:
                parts = PartFiles(Path(stack.enter_context(tempfile.TemporaryDirectory())))
                for future in [collector.pull_into(parts, offer) for offer in offers]:
                    future.result(600.0)
        return time.monotonic() - begin_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=16)
    parser.add_argument("--rate", type=float, default=2e6, help="of each device, bit/s")
    parser.add_argument("--size", type=int, default=300_000, help="of each update, bytes")
    parser.add_argument("--broker", choices=("auto", "mosquitto", "amqtt"), default="auto")
    args = parser.parse_args()
    with EmbeddedBroker(args.broker) as broker:
        ideal_s = 8.0 * args.size / args.rate
        print(f"{broker.kind}; one update over its link: {ideal_s:.2f} s")
        print("places     4 devices, s  more devices, s   ratio")
        for places in (4, 0):
            few, many = (
                seconds(broker, count, args.rate, args.size, places) for count in (4, args.devices)
            )
            name = str(places) if places else "all"
            print(f"{name:>6}  {few:14.2f}  {many:15.2f}  {many / few:6.2f}")


if __name__ == "__main__":
    main()
