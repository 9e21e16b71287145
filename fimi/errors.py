"""Base classes of all errors that a user can act on.

=========================  =========  ==============================================
class                      exit code  what is wrong
=========================  =========  ==============================================
:class:`InputError`        2          a configuration, a file or an option
:class:`SurroundingsError` 3          broker, port, disk, permissions, hardware
:class:`NoPlanError`       4          no plan meets the limits
:class:`RunFailedError`    5          a federation could not start or go on
=========================  =========  ==============================================

The command ``fimi`` prints the message of such an error with its *code*, such as ``B003``, and ends
with its exit code. ``fimi explain B003`` says what it means and what to do; the texts stand in
``testbed/explanations/``, and a test holds that every code has one. The letter names the subject:
C configuration, D data, P planning, M meters and boards, B broker and messages, F fleet and
credentials, G generator, R runs and records, X experiments and faults on purpose, U the command
line and this machine. A code is never used for something else.

This module imports no other module of the project; every package may import it.
"""

from __future__ import annotations

from typing import ClassVar

CODE_LINE = "error["
"""How the last line of an error begins: ``error[B003]: …``."""


class FimiError(Exception):
    """An error whose message says what is wrong, where, and what to do.

    Attributes:
        exit_code: exit code of the command ``fimi`` for this error.
        code: what ``fimi explain`` knows it by. A class has one for all of its errors; one of them
            gets its own with ``code=``. Empty: it has none.
    """

    exit_code: ClassVar[int] = 1
    code: str = ""

    def __init__(self, *args: object, code: str = "") -> None:
        super().__init__(*args)
        if code:
            self.code = code


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


def coded(error: BaseException) -> str:
    """The message of an error with its code behind it, for a reason that another process shows."""
    code = error.code if isinstance(error, FimiError) else ""
    return f"{error} [{code}]" if code else str(error)


def of_exit_code(code: int) -> type[FimiError]:
    """The class of errors with this exit code; :class:`RunFailedError` if there is none."""
    kinds = {kind.exit_code: kind for kind in FimiError.__subclasses__()}
    return kinds.get(code, RunFailedError)
