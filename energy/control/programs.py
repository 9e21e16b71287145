"""Running a system's programs: arguments as a list, a time limit, a missing one is no surprise."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from typing import NamedTuple

TIMEOUT_S = 10.0
NOT_FOUND = 127


class ProgramResult(NamedTuple):
    """What a program left.

    Attributes:
        code: exit status; 127 if there is no such program, 124 if it did not end in time.
        out: what it printed.
        error: what it complained of.
    """

    code: int
    out: str
    error: str


Run = Callable[[Sequence[str]], ProgramResult]
"""Runs a program; injected, so that tests can stand in for one that is not installed."""


def run_program(arguments: Sequence[str]) -> ProgramResult:
    """Run a program with nothing to read and wait for it."""
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
