"""An agent waits for its broker: it may be started before the broker is, or before its network.

What a broker answers (a wrong password, no certificate) is an error at once: waiting does not mend
it. That nobody answers is said, and tried again: after half a second, then after twice as long each
time up to :data:`LONGEST_S`, each time by chance between half of it and all of it. So forty boards
that come back after a power cut do not come in step. In the same way it waits for the time: a board
whose clock has no battery begins in the past, where no certificate is valid yet.

That it still waits is said again after a minute, and then after twice as long each time up to an
hour: a broker that is away for a week is some 170 lines in the log.
"""

from __future__ import annotations

import logging
import random
import threading
import time

from fimi.edge_agent.service.notify import Notifier
from fimi.messaging.address import BrokerAddress
from fimi.messaging.errors import BrokerTimeout, BrokerUnreachable, ClockBehind
from fimi.messaging.link import probe

FIRST_S = 0.5
LONGEST_S = 30.0
SAY_AGAIN_S, SAY_AT_LEAST_S = 60.0, 3600.0
"""That it still waits is said again after so long, s; at first, and in the end."""

_UNTIL = {"the broker": "it answers", "the time": "the clock is right"}

log = logging.getLogger(__name__)


def wait_for(
    address: BrokerAddress,
    stop: threading.Event,
    notifier: Notifier,
    draw: random.Random | None = None,
) -> bool:
    """Wait until a broker accepts a connection.

    Args:
        address: the broker.
        stop: ends the wait.
        notifier: is told of it, and that the process is alive.
        draw: gives the chance in the pauses.

    Returns:
        Whether it does; ``False``: ``stop`` was set.

    Raises:
        fimi.messaging.errors.BrokerError: it answers, and refuses, for another reason than that the
            clock of this machine is behind.
    """
    draw = draw or random.Random()
    began_s = said_s = time.monotonic()
    again_s, tries, why = SAY_AGAIN_S, 0, ""
    while not stop.is_set():
        notifier.alive()
        try:
            probe(address)
        except (BrokerUnreachable, BrokerTimeout, ClockBehind) as error:
            now_s, before = time.monotonic(), why
            why = "the time" if isinstance(error, ClockBehind) else "the broker"
            if why != before:
                said_s, again_s = now_s, SAY_AGAIN_S
                log.warning("%s. It is tried again until %s", error, _UNTIL[why])
            elif now_s >= said_s + again_s:
                said_s, again_s = now_s, min(2.0 * again_s, SAY_AT_LEAST_S)
                log.warning("%s: still waits for %s, for %.0f s", address, why, now_s - began_s)
            notifier.status(f"waits for {why} ({_clock() if why == 'the time' else address})")
        else:
            if tries:
                log.info("%s answers after %.1f s", address, time.monotonic() - began_s)
            return True
        _pause(pause_s(tries, draw), stop, notifier)
        tries += 1
    return False


def _clock() -> str:
    """What the clock of this machine says, by the day: the status is sent once a day then."""
    return f"the clock says {time.strftime('%Y-%m-%d', time.gmtime())}"


def pause_s(tries: int, draw: random.Random) -> float:
    """How long to wait after so many failed tries before, s."""
    longest_s = min(LONGEST_S, FIRST_S * 2.0 ** min(tries, 30))
    return longest_s * draw.uniform(0.5, 1.0)


def _pause(pause_s: float, stop: threading.Event, notifier: Notifier) -> None:
    """Wait, alive for the watchdog."""
    until_s = time.monotonic() + pause_s
    while (left_s := until_s - time.monotonic()) > 0.0 and not stop.is_set():
        notifier.alive()
        stop.wait(min(left_s, 5.0))
