"""A process that keeps one core busy at given times, and says when it really did.

The times are of the monotonic clock, which all processes of a machine share. So the process may
start whenever it likes: what lies before does not move an edge.
"""

from __future__ import annotations

import json
import os
import time

_NICENESS = 3
"""Whoever reads the meter comes first."""
_ROUNDS = 300
_NEAR_S = 2e-3


def main(orders: bytes) -> int:
    """Be busy from ``begin`` to ``end`` of each pair in the orders, a list of pairs in s.

    Prints one line: the pairs as they were, as JSON; ``null`` for one that began too late.
    """
    import threading

    from fimi.children import when_parent_is_gone

    over = threading.Event()
    when_parent_is_gone(over.set, 1.0)
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    done: list[list[float] | None] = []
    for begin_s, end_s in json.loads(orders):
        left_s = begin_s - time.monotonic()
        if left_s < 0.0:
            done.append(None)
            over.wait(max(0.0, end_s - time.monotonic()))
            continue
        if over.wait(max(0.0, left_s - _NEAR_S)):
            return 0
        while (began_s := time.monotonic()) < begin_s:
            pass
        number = 1
        while (now_s := time.monotonic()) < end_s and not over.is_set():
            for _ in range(_ROUNDS):
                number = (number * 1664525 + 1013904223) & 0xFFFFFFFF
        done.append([began_s, now_s])
    print(json.dumps({"busy": done, "cpu_s": time.process_time()}))
    return 0
