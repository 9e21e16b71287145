"""What the broker says of messages that it has taken, or that its access rules forbid."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Iterator

from paho.mqtt.reasoncodes import ReasonCode

from fimi.messaging.address import BrokerAddress

_REMEMBERED = 64

log = logging.getLogger(__name__)


class Confirmations:
    """The refusals of one broker, which are said once for each reason."""

    def __init__(self, broker: BrokerAddress) -> None:
        """None was refused yet."""
        self._broker = broker
        self._expected = False
        self._said: set[str] = set()
        self._refused: deque[int] = deque(maxlen=_REMEMBERED)

    @contextlib.contextmanager
    def expecting_refusal(self) -> Iterator[None]:
        """Say nothing of a refusal: whoever expects it says what it means."""
        self._expected = True
        try:
            yield
        finally:
            self._expected = False

    def note(self, number: int, reason: ReasonCode) -> None:
        """The broker has confirmed or refused the message of that number (``mid``)."""
        if reason.is_failure:
            self._refused.append(number)
        if self._expected:
            pass
        elif reason.is_failure and (why := str(reason)) not in self._said:
            self._said.add(why)
            log.error(
                "%s refuses a message: %s; check this peer's credentials, and the broker's access "
                "rules (docs/security.md)",
                *(self._broker, why),
            )

    def was_refused(self, number: int) -> bool:
        """Whether the broker has refused the message of this number, of the latest."""
        return number in self._refused
