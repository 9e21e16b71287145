"""Meters under a step load, simulated by brute force: a second truth beside the emulated meters."""

from __future__ import annotations

from typing import Any

import numpy as np

from fimi.energy.meters import MeterDescription, Reading
from fimi.energy.meters.response import MeterResponse
from fimi.energy.step_load.load import Edges, pattern, turn_s


def edges_for(response: MeterResponse, seed: int = 0, works: int = 8) -> Edges:
    """A load that suits a meter with this response."""
    at_s, begins, ends = 2.0, [], []
    for rest_s, work_s in pattern(turn_s([response]), works, seed):
        begins.append(at_s + rest_s)
        ends.append(at_s + rest_s + work_s)
        at_s = ends[-1]
    until_s = at_s + 2.0 * response.settling_s + 0.5
    return Edges(begins_s=tuple(begins), ends_s=tuple(ends), from_s=0.0, until_s=until_s)


def meter(response: MeterResponse, **more: Any) -> MeterDescription:
    """Its description."""
    known = {"source": "simulated", "kind": "measured", "scope": "board", "rate_hz": 10.0}
    return MeterDescription(**{**known, **more}, response=response)


def readings(
    response: MeterResponse,
    edges: Edges,
    seed: int = 0,
    *,
    idle_w: float = 3.0,
    step_w: float = 4.0,
    noise_w: float = 0.05,
    quantum_w: float = 0.0,
    counts: bool = False,
    jitter: float = 0.0,
) -> list[Reading]:
    """What it shows: each value from the exact energy at both ends of its window."""
    random = np.random.default_rng(seed)
    refresh_s = response.refresh_s
    period_s = min(0.25, max(0.01, refresh_s / 10.0))
    many = int(edges.until_s / period_s / 0.6) + 1
    looks = np.cumsum(random.uniform(0.6, 1.4, many) * period_s)
    looks = looks[looks < edges.until_s]
    news = np.arange(-1.0, edges.until_s / refresh_s + 1.0) * refresh_s
    news += random.uniform(0.0, refresh_s) + random.uniform(-0.5, 0.5, len(news)) * jitter
    news = np.sort(news)
    place = np.searchsorted(news, looks, side="right") - 1
    looks, place = looks[place >= 0], place[place >= 0]
    knots = np.array([-1e3, *np.stack([edges.begins_s, edges.ends_s], 1).ravel(), 1e5])
    levels = np.array([idle_w, *([idle_w + step_w, idle_w] * len(edges.begins_s))])
    energy_j = np.concatenate([[0.0], np.cumsum(np.diff(knots) * levels)])
    end_s = news - response.delay_s
    if counts:
        shown = np.interp(end_s, knots, energy_j)
        pairs = zip(looks.tolist(), shown[place].tolist(), strict=True)
        return [Reading(time_s=at_s, counter_j=value) for at_s, value in pairs]
    window_s = response.window_s or 1e-6
    shown = np.interp(end_s, knots, energy_j) - np.interp(end_s - window_s, knots, energy_j)
    shown = shown / window_s + noise_w * random.normal(size=len(news))
    if quantum_w:
        shown = np.round(shown / quantum_w) * quantum_w
    pairs = zip(looks.tolist(), shown[place].tolist(), strict=True)
    return [Reading(time_s=at_s, power_w=value) for at_s, value in pairs]
