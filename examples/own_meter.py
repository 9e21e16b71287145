"""A meter of your own: publishes watts over MQTT, for docs/your-own.md.

python examples/own_meter.py desk.local 1884 lab/board-1
"""

from __future__ import annotations

import json
import sys
import time

import paho.mqtt.client as mqtt


def read_w() -> float:
    """Replace this by your instrument: watts, now."""
    return 4.2


def main() -> None:
    """Publish ten times a second, with the time at which the value was made."""
    host, port, topic = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.connect(host, port)
    client.loop_start()
    while True:
        reading = {"power": read_w(), "time": time.time()}
        client.publish(topic, json.dumps(reading))
        time.sleep(0.1)


if __name__ == "__main__":
    main()
