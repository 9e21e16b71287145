"""Somebody who publishes on a home's broker, and a broker that can be killed and started again."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from fimi.messaging.broker.embedded import find_mosquitto


def until(what: Callable[[], Any], limit_s: float = 20.0) -> Any:
    """Wait until something is so; fails if it never is."""
    end_s = time.monotonic() + limit_s
    while not (found := what()):
        assert time.monotonic() < end_s, "it never became so"
        time.sleep(0.01)
    return found


class HomeSender:
    """A client that publishes, once or again and again."""

    def __init__(self, port: int, heard: tuple[str, ...] = ()) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.on_heard: Callable[[str, bytes], None] = lambda *_: None
        self._ready = threading.Event()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: (
            client.subscribe([(topic, 0) for topic in heard]) if heard else self._ready.set()
        )
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._on_message
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._ready.wait(10.0)

    def say(self, topic: str, payload: str | bytes, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(10.0)

    def repeat(
        self, topic: str, payload: Callable[[int], str | bytes | None], every_s: float = 0.02
    ) -> None:
        """Publish ``payload(0)``, ``payload(1)`` … until closed; ``None`` says nothing."""

        def go() -> None:
            number = 0
            while not self._stop.wait(every_s):
                message = payload(number)
                if message is not None:
                    self._client.publish(topic, message)
                number += 1

        thread = threading.Thread(target=go, daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        """Repeat no longer; what is said from now on comes behind what was."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def close(self) -> None:
        self.stop()
        self._client.disconnect()
        self._client.loop_stop()

    def _on_message(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        self.heard.append((message.topic, bytes(message.payload)))
        self.on_heard(message.topic, bytes(message.payload))


@contextlib.contextmanager
def sender(port: int, *heard: str) -> Iterator[HomeSender]:
    made = HomeSender(port, heard)
    try:
        yield made
    finally:
        made.close()


class MortalBroker:
    """A mosquitto on a port of its own that can be killed and started again."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self._config = folder / "mortal.conf"
        self._config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = find_mosquitto()
        assert program is not None
        self._process = subprocess.Popen(
            [program, "-c", str(self._config)], stderr=subprocess.DEVNULL
        )
        until(self._answers)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
        except OSError:
            return False
        return True
