"""``fimi control``: asks something of a run that goes on.

It is served between two rounds. The command waits for that, and says what became of it.
"""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fimi.errors import FimiError, InputError, NoPlanError, RunFailedError
from fimi.record.clean import clean
from fimi.record.interventions import (
    LONGEST_DEADLINE_S,
    ControlAnswer,
    ExcludeDevice,
    GoOn,
    IncludeDevice,
    PauseRun,
    PlanAgain,
    RefusalKind,
    Request,
    SetDeadline,
    StopRun,
    login,
    words,
)
from fimi.testbed.commands.base import Command
from fimi.testbed.commands.interrupts import EXIT_INTERRUPTED
from fimi.testbed.commands.shared import WordChoice, errors, fail

if TYPE_CHECKING:
    from fimi.monitor.asking import Asking

_PLAIN: dict[str, Request] = {
    "pause": PauseRun(),
    "resume": GoOn(),
    "stop": StopRun(),
    "replan": PlanAgain(),
}
_OF_A_DEVICE: dict[str, type[ExcludeDevice | IncludeDevice]] = {
    "exclude": ExcludeDevice,
    "include": IncludeDevice,
}
ACTIONS = ("pause", "resume", "stop", "exclude", "include", "replan", "deadline")
_BELOW_ZERO = re.compile(r"-(\d|\.\d|inf)")
_ENDS_WITH: dict[RefusalKind, type[FimiError]] = {
    "no-plan": NoPlanError,
    "over": RunFailedError,
    "unfit": InputError,
}


class _Signed(Command):
    """A command whose last argument may be a number below zero, which is no option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put numbers below zero to the end, where options are over."""
        below = [] if "--" in args else [each for each in args if _BELOW_ZERO.match(each)]
        rest = [each for each in args if each not in below]
        return super().parse_args(ctx, [*rest, "--", *below] if below else args)


@click.command(cls=_Signed)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("action", type=WordChoice(ACTIONS), metavar="ACTION")
@click.argument("value", required=False, metavar="[DEVICE|SECONDS]")
@click.option("--yes", "-y", is_flag=True, help="Do not ask before it acts, for scripts.")
@click.option("--no-wait", is_flag=True, help="Do not wait until it is done.")
def control(run: Path, action: str, value: str | None, yes: bool, no_wait: bool) -> None:
    """Pause, steer or stop a run that goes on, between two of its rounds.

    RUN is a name or a folder, on the machine of its coordinator. ACTION is one of

    \b
    pause              begin no further round until "resume"
    resume             go on
    stop               end it as Ctrl-C does; it can be gone on with
    exclude DEVICE     let a device rest from the next round on
    include DEVICE     take it in again
    replan             plan again, with the boards as they are known now
    deadline SECONDS   another plan.deadline_s from the next round on

    Exits with 2 if it does not fit the run, 3 if no coordinator answers, 4 if no plan meets the
    limits, 5 if the run is over first.
    """  # noqa: D301  click wants the character itself
    from fimi.monitor.asking import Asking
    from fimi.testbed.run_folder import find_run

    request = read_request(action, value)
    with errors():
        folder = find_run(run)
        asking = Asking(folder)
    if not yes:
        _confirm(request, folder.name)
    by = login("command line")
    with errors():
        answer = asking.ask(request, by)
    if answer.state == "accepted" and not no_wait:
        answer = _wait(asking, answer, request, by)
    if answer.state == "refused":
        kind = _ENDS_WITH[answer.refusal or "unfit"]
        fail(f"refused: {answer.words}", kind.exit_code, "R016")
    click.echo(clean(answer.words, 2000))


def read_request(action: str, value: str | None) -> Request:
    """The request that a command line names.

    Raises:
        click.UsageError: a device or the seconds are missing, too many, or no number.
    """
    if (plain := _PLAIN.get(action)) is not None:
        if value is not None:
            raise click.UsageError(f"{action!r} takes nothing more; leave {clean(value)!r} out.")
        return plain
    if (kind := _OF_A_DEVICE.get(action)) is not None:
        if not value or len(value) > 200:
            raise click.UsageError(
                f"{action!r} needs the id of a device: fimi control RUN {action} device-03."
            )
        return kind(device=value)
    try:
        seconds = float(value or "")
    except ValueError:
        seconds = math.nan
    if not 0.0 < seconds <= LONGEST_DEADLINE_S:
        raise click.UsageError(
            f"'deadline' needs seconds above 0, {LONGEST_DEADLINE_S:g} at most, not "
            f"{clean(value or '')!r}: fimi control RUN deadline 12.5."
        )
    return SetDeadline(deadline_s=seconds)


def _confirm(request: Request, run: str) -> None:
    """Ask whether it is meant; ends the command if it is not, or if there is nobody to ask."""
    what = f"{words(request)} (run {run})"
    if not _is_terminal():
        raise click.UsageError(
            f"{what}: this asks first, and there is no terminal to ask at; add '--yes'."
        )
    if not click.confirm(f"{clean(what)}?", default=False, err=True):
        click.echo("nothing was asked of the run", err=True)
        sys.exit(0)


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _wait(asking: Asking, answer: ControlAnswer, request: Request, by: str) -> ControlAnswer:
    click.echo(f"{clean(answer.words, 2000)}; waiting for it", err=True)
    try:
        with errors():
            return asking.wait(answer, request, by)
    except KeyboardInterrupt:
        fail("not waited for any more; the run still does what it was asked", EXIT_INTERRUPTED)
