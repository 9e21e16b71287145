"""Where the command ``fimi`` begins: Ctrl-C while it still loads stops it as it does later on."""

from __future__ import annotations

import sys

from fimi.testbed.commands.interrupts import EXIT_INTERRUPTED, harmless_interrupts


def main() -> None:
    """Load the command, and run it."""
    try:
        with harmless_interrupts():
            from fimi.testbed.cli import main as command
    except KeyboardInterrupt:
        print("fimi: stopped", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    command()
