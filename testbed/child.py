"""``fimi`` as a child of an experiment: the same command line, ended when the parent is gone.

When the parent closes the life line (:mod:`fimi.children`) or dies, the command gets the signal
that ends it cleanly, and a moment later is made to end.
"""

from __future__ import annotations

import os
import signal
import sys

from fimi.children import when_parent_is_gone
from fimi.testbed.experiment.runner import GRACE_S


def main(_orders: bytes) -> None:
    """Run ``fimi`` with this process's arguments."""
    when_parent_is_gone(lambda: os.kill(os.getpid(), signal.SIGTERM), GRACE_S)
    from fimi.testbed.cli import main as fimi

    fimi(args=sys.argv[1:], prog_name="fimi")
