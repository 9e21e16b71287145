"""Errors that a person can do something about: every room's derive from one of these.

=========================  =========  ==============================================
class                      exit code  what is wrong
=========================  =========  ==============================================
:class:`InputError`        2          a configuration, a file or an option
:class:`SurroundingsError` 3          broker, port, disk, permissions, hardware
:class:`NoPlanError`       4          no plan meets the limits
:class:`RunFailedError`    5          a federation could not start or go on
=========================  =========  ==============================================

The command ``fimi`` shows the message of such an error and ends with its exit code. Imports nothing
of ours; every room may import it.
"""

from __future__ import annotations

from typing import ClassVar


class FimiError(Exception):
    """An error whose message tells a person what is wrong, where, and what to do.

    Attributes:
        exit_code: of the command ``fimi`` that ends with this error.
    """

    exit_code: ClassVar[int] = 1


class InputError(FimiError):
    """What was given cannot be used: a configuration, a file, an option."""

    exit_code = 2


class SurroundingsError(FimiError):
    """The surroundings do not allow it: broker, port, disk, permissions, hardware."""

    exit_code = 3


class NoPlanError(FimiError):
    """No plan meets the limits."""

    exit_code = 4


class RunFailedError(FimiError):
    """A federation could not start or go on."""

    exit_code = 5


def of_exit_code(code: int) -> type[FimiError]:
    """The kind of error that ends the command ``fimi`` with this code; else a failed run."""
    kinds = {kind.exit_code: kind for kind in FimiError.__subclasses__()}
    return kinds.get(code, RunFailedError)
