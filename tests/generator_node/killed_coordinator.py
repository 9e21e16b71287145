"""A coordinator in a process of its own, to be killed: url, fleet, a request as JSON.

Asks for images, says that it has, and waits.
"""

from __future__ import annotations

import sys

import msgspec

from fimi.messaging.address import BrokerAddress
from fimi.messaging.client import Peer
from fimi.messaging.messages.synthesis import SyntheticRequest
from fimi.messaging.topics import COORDINATOR

url, fleet, request = sys.argv[1:]
with Peer(BrokerAddress.parse(url), fleet=fleet, peer=COORDINATOR, role="coordinator") as peer:
    peer.send("generator", msgspec.json.decode(request, type=SyntheticRequest))
    print(int(peer.flush(10)), flush=True)
    sys.stdin.readline()
