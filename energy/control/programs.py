"""Running programs of the system: with a list of arguments and a time limit."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from typing import NamedTuple

TIMEOUT_S = 10.0
NOT_FOUND = 127


class ProgramResult(NamedTuple):
    """The result of a program.

    Attributes:
        code: exit status; 127 if there is no such program, 124 if it did not end in time.
        out: its standard output.
        error: its standard error.
    """

    code: int
    out: str
    error: str


Run = Callable[[Sequence[str]], ProgramResult]
"""Runs a program. It is passed in, so that tests can replace a program that is not installed."""


def run_program(arguments: Sequence[str]) -> ProgramResult:
    """Run a program with empty standard input, and wait until it ends."""
    try:
        done = subprocess.run(
            list(arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        return ProgramResult(NOT_FOUND, "", f"{arguments[0]} is not installed")
    except subprocess.TimeoutExpired:
        return ProgramResult(124, "", f"{arguments[0]} did not end within {TIMEOUT_S:g} s")
    except OSError as error:
        return ProgramResult(126, "", f"{arguments[0]}: {error.strerror}")
    return ProgramResult(done.returncode, done.stdout, done.stderr.strip())
