from __future__ import annotations

import threading
import time

from paho.mqtt.client import MQTTMessageInfo
from paho.mqtt.enums import MQTTErrorCode

from fimi.messaging.outbox import Outbox


def sent(number: int) -> MQTTMessageInfo:
    return MQTTMessageInfo(number)


def test_settled_once_everything_is_confirmed_in_any_order() -> None:
    outbox, infos = Outbox(), [sent(n) for n in range(3)]
    assert outbox.settled()
    for info in infos:
        outbox.add(info)
    for info in reversed(infos):
        assert not outbox.settled()
        info._set_as_published()
    assert outbox.settled()


def test_what_was_never_queued_is_not_waited_for() -> None:
    outbox, info = Outbox(), sent(1)
    info.rc = MQTTErrorCode.MQTT_ERR_QUEUE_SIZE
    outbox.add(info)
    assert outbox.settled()


def test_what_waits_for_a_connection_is() -> None:
    outbox, info = Outbox(), sent(1)
    info.rc = MQTTErrorCode.MQTT_ERR_NO_CONN
    outbox.add(info)
    assert not outbox.settled_within(0.01)


def test_waiting_ends_with_the_confirmation() -> None:
    outbox, info = Outbox(), sent(1)
    outbox.add(info)
    threading.Timer(0.05, info._set_as_published).start()
    begin_s = time.monotonic()
    assert outbox.settled_within(10.0)
    assert time.monotonic() - begin_s < 5.0
