"""A link in a process of its own, for benchmarks: ``fimi chaos proxy``."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator

from msgspec.structs import replace

from fimi.messaging.address import BrokerAddress


@contextlib.contextmanager
def bad_link(broker: BrokerAddress, **options: float | None) -> Iterator[BrokerAddress]:
    """The broker's address behind a link.

    Args:
        broker: the broker.
        options: of ``fimi chaos proxy``: ``up_bps=20e6`` for ``--up-bps``.
    """
    words = [sys.executable, "-m", "fimi.testbed.cli", "chaos", "proxy"]
    for name, value in options.items():
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    child = subprocess.Popen(
        words,
        env={**os.environ, "FIMI_BROKER": broker.url(with_password=True)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    try:
        said = child.stdout.readline()
        found = re.search(r"listens on (\S+):(\d+)", said)
        if found is None:
            raise RuntimeError(f"the proxy did not start: {said}")
        yield replace(broker, host=found[1], port=int(found[2]))
    finally:
        child.terminate()
        child.stdout.close()
        child.wait(10)
