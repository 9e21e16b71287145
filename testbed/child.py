"""``fimi`` as a child process of an experiment: the same command, which ends with its parent.

When the parent asks it to end or dies (:mod:`fimi.children`), the command gets the signal that ends
it cleanly; if it does not end in time, it is killed.
"""

from __future__ import annotations

import os
import signal
import sys

from fimi.children import when_parent_is_gone
from fimi.testbed.commands.dashboard import VARIABLE
from fimi.testbed.experiment.engines.base import GRACE_S


def main(_orders: bytes) -> None:
    """Run ``fimi`` with this process's arguments."""
    os.environ[VARIABLE] = "off"  # the parent has its own
    when_parent_is_gone(lambda: os.kill(os.getpid(), signal.SIGTERM), GRACE_S)
    from fimi.testbed.cli import main as fimi

    fimi(args=sys.argv[1:], prog_name="fimi")
