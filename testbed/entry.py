"""Where the command ``fimi`` begins: Ctrl-C while it still loads stops it as it does later on."""

from __future__ import annotations

import sys


def main() -> None:
    """Load the command, and run it.

    Nothing of fimi is imported before: an interrupt that comes while this module is loaded cannot
    be caught.
    """
    try:
        from fimi.testbed.commands.interrupts import harmless_interrupts

        with harmless_interrupts():
            from fimi.testbed.cli import main as command

            command()
    except KeyboardInterrupt:
        print("fimi: stopped", file=sys.stderr)
        sys.exit(130)  # EXIT_INTERRUPTED of a module that may not be loaded yet
