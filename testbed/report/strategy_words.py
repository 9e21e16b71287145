"""What a strategy did besides filling devices: training on the server, pseudo-labels.

The server's seconds and joules are its own and in no sum of the devices'.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

from coordinator.results import RoundResult, server_energy
from testbed.report.run_data import RunData
from testbed.report.text import percent, seconds


class Extra(Struct, frozen=True, kw_only=True):
    """One more thing to say of a run.

    Attributes:
        term: what it is.
        value: the figure.
        note: what it means.
    """

    term: str
    value: str
    note: str


def extras(run: RunData) -> tuple[Extra, ...]:
    """What there is to say of the server's and the pseudo-labels' part; empty for most runs."""
    return tuple(e for e in (_server(run.rounds), _pseudo_labels(run)) if e is not None)


def server_line(result: RoundResult) -> str:
    """The server's part of a round in a few words; empty if it only averaged."""
    server = result.server
    if server is None:
        return ""
    energy = f", {server.energy}" if server.energy else ""
    weight = "" if server.weight is None else f", κ2 {server.weight:.3g}"
    return f"server trained on {server.images} images in {seconds(server.seconds)}{energy}{weight}"


def _server(rounds: Sequence[RoundResult]) -> Extra | None:
    parts = [r.server for r in rounds if r.server is not None]
    if not parts:
        return None
    energy = server_energy(rounds)
    weights = [part.weight for part in parts if part.weight is not None]
    mixed = ""
    if weights:
        low, high = min(weights), max(weights)
        mixed = f"; κ2 {low:.3g}" + (f" to {high:.3g}" if high > low else "")
    return Extra(
        term="server",
        value=seconds(math.fsum(part.seconds for part in parts)),
        note=f"of training on up to {max(part.images for part in parts)} images, "
        f"{energy or 'joules not metered'}; in no device's joules{mixed}",
    )


def _pseudo_labels(run: RunData) -> Extra | None:
    held = sum(plan.unlabelled for plan in run.device_plans.values())
    if not held or not run.rounds:
        return None
    last = run.rounds[-1].participants
    kept = sum(device.synthetic_samples for device in last)
    looked = sum(
        run.device_plans[d.device].unlabelled for d in last if d.device in run.device_plans
    )
    return Extra(
        term="pseudo-labels",
        value=percent(kept / looked if looked else None),
        note=f"{kept} of {looked} unlabelled images were kept in the last round; the prediction "
        "has all of them kept",
    )
