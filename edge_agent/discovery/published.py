"""Senders of ``fimi meter publish``: ``fimi-meter/<name>/about``, retained while they run."""

from __future__ import annotations

from fimi.edge_agent.discovery.announced import Announced, Heard, table
from fimi.energy.meters.elsewhere.wire import PREFIX, read_sent
from fimi.messaging.address import BrokerAddress

TOPICS = (f"{PREFIX}/+/about", f"{PREFIX}/+")


def find(heard: Heard, broker: BrokerAddress) -> list[Announced]:
    """Every sender that runs."""
    found = []
    for topic, payload in sorted(heard.items()):
        if not (topic.startswith(f"{PREFIX}/") and topic.endswith("/about") and payload):
            continue
        values = topic.removesuffix("/about")
        try:
            about = read_sent(payload)
        except ValueError as error:
            found.append(Announced(maker="fimi", name=values, note=str(error)))
            continue
        shows, note = "", ""
        try:
            last = read_sent(heard.get(values, b""))
            note = "; ".join(last.doubts or ())
            shows = "a counter" if last.power_w is None else f"{last.power_w:.4g} W now"
        except ValueError:
            pass
        found.append(
            Announced(
                maker="fimi",
                name=f"{values} ({about.source}, {about.kind}, scope {about.scope}, "
                f"{about.rate_hz:g} Hz)",
                lines=table("topic", {"topic": values}, broker),
                shows=shows,
                note=note and f"doubtful: {note}",
                topic=values,
            )
        )
    return found
