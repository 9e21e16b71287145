"""``fimi`` as a child of an experiment: the same command line, ended when the parent is gone.

    python -m fimi.testbed.child dry-run --config cell.toml

The parent holds the other end of standard input. When that is closed, by the parent or by its
death, the command gets the signal that ends it cleanly, and a moment later is made to end.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from fimi.testbed.experiment.runner import GRACE_S


def main() -> None:
    """Run ``fimi`` with this process's arguments."""
    threading.Thread(target=_watch, name="parent", daemon=True).start()
    from fimi.testbed.cli import main as fimi

    fimi(args=sys.argv[1:], prog_name="fimi")


def _watch() -> None:
    try:
        while os.read(0, 64):
            pass
    except OSError:
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


if __name__ == "__main__":
    main()
