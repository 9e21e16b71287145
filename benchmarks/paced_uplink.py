"""How exactly a paced device's payload moves at the planned rate, and what goes on top of it.

A device, a coordinator and mosquitto over loopback, as in a run on one machine. Each row fetches so
many seconds of payload at a planned rate. Printed: goodput over the planned rate, bytes sent and
needed, and what the device's connection sends, headers included, over the payload.

With ``--packets 1500`` and root, in a network namespace of its own whose packets are as large as
Ethernet's; else loopback as it is, with packets of 64 kB.

    python benchmarks/paced_uplink.py [--seconds 6] [--packets 1500]
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time

from fimi.messaging.broker.embedded import EmbeddedBroker
from fimi.messaging.client import Peer
from fimi.messaging.topics import COORDINATOR

RATES_BPS = (20e3, 100e3, 139e3, 400e3, 5e6, 20e6)
_TCP_INFO_BYTES_SENT = 200  # offset of tcpi_bytes_sent in struct tcp_info, <linux/tcp.h>
_TCP_INFO_SEGS_OUT = 136


def sent(peer: Peer) -> tuple[int, int]:
    """TCP payload bytes and packets that a peer's connection has sent so far."""
    sock = peer._link._client.socket()
    raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    size_bytes = int.from_bytes(raw[_TCP_INFO_BYTES_SENT:][:8], sys.byteorder)
    return size_bytes, int.from_bytes(raw[_TCP_INFO_SEGS_OUT:][:4], sys.byteorder)


def measure(broker: EmbeddedBroker, rate_bps: float, seconds: float) -> str:
    """One row of the table."""
    fleet = f"rate-{rate_bps:.0f}"
    with (
        Peer(broker.address, fleet=fleet, peer="d1", role="device") as device,
        Peer(broker.address, fleet=fleet, peer=COORDINATOR, role="coordinator") as coordinator,
    ):
        means = device.set_pacing(rate_bps)
        data = os.urandom(round(rate_bps / 8.0 * seconds))
        offer = device.transfers.serve(data, "noise")
        before, begin_s = sent(device), time.monotonic()
        coordinator.transfers.fetch(offer, 10.0 * seconds)
        took_s = time.monotonic() - begin_s
        after = sent(device)
        wire = after[0] - before[0] + 66 * (after[1] - before[1])
        needed = len(data)
        return (
            f"{rate_bps / 1e3:10.0f} {len(data) * 8 / took_s / rate_bps:10.4f} "
            f"{device.transfers.counters.sent_bytes:9d} {needed:9d} {wire / len(data):8.3f}  "
            f"{means}"
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--packets", type=int, default=0)
    given = parser.parse_args()
    if given.packets and "FIMI_OWN_NAMESPACE" not in os.environ:
        environment = {**os.environ, "FIMI_OWN_NAMESPACE": "1"}
        sys.exit(subprocess.call(["unshare", "-n", sys.executable, *sys.argv], env=environment))
    if given.packets:
        subprocess.run(f"ip link set lo mtu {given.packets} up".split(), check=True)
    print(f"{'kbit/s':>10} {'reached':>10} {'sent':>6} {'needed':>6} {'on wire':>8}  by")
    with EmbeddedBroker("mosquitto") as broker:
        for rate_bps in RATES_BPS:
            print(measure(broker, rate_bps, given.seconds), flush=True)


if __name__ == "__main__":
    main()
