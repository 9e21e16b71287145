"""An agent waits for its broker: it may be started before the broker is, or before its network.

That nobody answers is said, and tried again: after half a second, then after twice as long each
time up to :data:`LONGEST_S`, each time by chance between half of it and all of it. So forty boards
that come back after a power cut do not come in step. In the same way it waits for the time: a board
whose clock has no battery begins in the past, where no certificate is valid yet.

What a broker answers (a wrong password, a certificate that was revoked) is an error at once for a
person. A service would be started again and again for it, with a dozen lines in the journal each
time. So it tries again by itself, up to :data:`REFUSED_S` later: somebody may let it in.

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
from fimi.messaging.errors import BrokerError, BrokerTimeout, BrokerUnreachable, ClockBehind
from fimi.messaging.link import probe

FIRST_S = 0.5
LONGEST_S = 30.0
"""Longest pause between two tries, s."""

REFUSED_S = 600.0
"""The same of a service that the broker refuses."""

SAY_AGAIN_S = 60.0
"""That it still waits is said again after so long at first, s."""

SAY_AT_LEAST_S = 3600.0
"""In the end it is said so often, s."""

_UNTIL = {
    "for the broker": "it answers",
    "for the time": "the clock is right",
    "to be let in": "it is let in",
}

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
        fimi.messaging.errors.BrokerError: it refuses a process that no service manager has started,
            for another reason than that the clock of this machine is behind.
    """
    draw = draw or random.Random()
    began_s = said_s = time.monotonic()
    again_s, tries, why = SAY_AGAIN_S, 0, ""
    while not stop.is_set():
        notifier.alive()
        try:
            probe(address)
        except BrokerError as error:
            now_s, before = time.monotonic(), why
            why = _waits(error)
            if why == "to be let in" and not notifier.heard:
                raise
            if why != before:
                said_s, again_s, tries = now_s, SAY_AGAIN_S, 0
                log.warning("%s. It is tried again until %s", error, _UNTIL[why])
            elif now_s >= said_s + again_s:
                said_s, again_s = now_s, min(2.0 * again_s, SAY_AT_LEAST_S)
                log.warning("%s: still waits %s, for %.0f s", address, why, now_s - began_s)
            notifier.status(f"waits {why} ({_about(why, error, address)})")
        else:
            if why:
                log.info("%s answers after %.1f s", address, time.monotonic() - began_s)
            return True
        longest_s = REFUSED_S if why == "to be let in" else LONGEST_S
        _pause(pause_s(tries, draw, longest_s), stop, notifier)
        tries += 1
    return False


def _waits(error: BrokerError) -> str:
    """For what is waited, in words."""
    if isinstance(error, ClockBehind):
        return "for the time"
    away = isinstance(error, BrokerUnreachable | BrokerTimeout)
    return "for the broker" if away else "to be let in"


def _about(why: str, error: BrokerError, address: BrokerAddress) -> str:
    """What the status says beside it; no more than a few other words a day."""
    if why == "for the time":
        return f"the clock says {time.strftime('%Y-%m-%d', time.gmtime())}"
    return str(error if why == "to be let in" else address)


def pause_s(tries: int, draw: random.Random, longest_s: float = LONGEST_S) -> float:
    """How long to wait after so many failed tries before, s."""
    return min(longest_s, FIRST_S * 2.0 ** min(tries, 30)) * draw.uniform(0.5, 1.0)


def _pause(pause_s: float, stop: threading.Event, notifier: Notifier) -> None:
    """Wait, alive for the watchdog."""
    until_s = time.monotonic() + pause_s
    while (left_s := until_s - time.monotonic()) > 0.0 and not stop.is_set():
        notifier.alive()
        stop.wait(min(left_s, 5.0))
