"""Options of every command of ``fimi``: ``-h``, ``-q``, ``-v``, ``--log-file``; and suggestions.

* :class:`Command`  sets up logging before it runs, at any position of the options
* :class:`Group`    commands with a common first word
* :class:`ServiceCommand`  a command whose only output is its log
* :class:`Branching`  a command and others with the same first word
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import click

from fimi.testbed import logs
from fimi.testbed.commands.interrupts import EXIT_INTERRUPTED, harmless_interrupts
from fimi.testbed.commands.lacking import lacking
from fimi.testbed.commands.shared import EXIT_SURROUNDINGS, code_of, end_if_unread, fail
from fimi.testbed.nearest import nearest

log = logging.getLogger(__name__)

CONTEXT = {"max_content_width": 100}
HELP = ["-h", "--help"]
_FLAG = re.compile(r"-[hqv]+|--help|--quiet|--verbose|--log-file=.*|(--log-file)")
"""An option that every command has, in group 1 if a value follows."""


def _count(ctx: click.Context, param: click.Parameter, value: int) -> None:
    sign = -1 if param.name == "quiet" else 1
    ctx.meta[logs.__name__] = ctx.meta.get(logs.__name__, 0) + sign * value


def _name(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:
    if value is not None:
        ctx.meta[f"{logs.__name__}.file"] = value


_OPTIONS: list[click.Parameter] = [
    click.Option(
        ["-q", "--quiet"], count=True, expose_value=False, callback=_count,
        help="Only results, warnings and errors.",
    ),
    click.Option(
        ["-v", "--verbose"], count=True, expose_value=False, callback=_count,
        help="Also stages of the work, and every phase of rounds of this process; processes that "
        "it starts write theirs to logs/ of the run. -vv: what libraries say, too.",
    ),
    click.Option(
        ["--log-file"], expose_value=False, callback=_name, metavar="PATH",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Append what -v shows to this file, with time, level and the part of fimi.",
    ),
]  # fmt: skip


def _beside_help(own: list[click.Parameter]) -> list[click.Parameter]:
    """Parameters of a command, with those of every command just before ``--help``."""
    return [*own[:-1], *_OPTIONS, *own[-1:]]


class Command(click.Command):
    """A command of ``fimi``."""

    talks = False

    def get_help_option_names(self, ctx: click.Context) -> list[str]:
        """The same for every command, whichever group it was reached through."""
        return HELP

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Its own parameters and those that every command has."""
        return _beside_help(super().get_params(ctx))

    def invoke(self, ctx: click.Context) -> Any:
        """Set up logging, and run the command."""
        file = ctx.meta.get(f"{logs.__name__}.file")
        settings = logs.LogSettings(
            verbosity=ctx.meta.get(logs.__name__, 0), file=logs.absolute(file)
        )
        try:
            logs.set_up(settings, talks=self.talks)
        except OSError as error:
            logs.set_up(logs.LogSettings())  # without it, logging writes the error once more
            fail(
                f"--log-file {file} cannot be written: {error.strerror}; name a file in a folder "
                "that exists and can be written",
                EXIT_SURROUNDINGS,
                code_of(error),
            )
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except Exception as error:
            if isinstance(error, BrokenPipeError):
                end_if_unread()
            if isinstance(error, ModuleNotFoundError):
                words = ctx.command_path.split()
                if said := lacking(error, words[1] if len(words) > 1 else words[0]):
                    fail(said, EXIT_SURROUNDINGS, "U007")
            log.critical("stopped by an error of ours", exc_info=True, extra=logs.SHOWN)
            raise


class ServiceCommand(Command):
    """A command that runs until Ctrl-C and whose only output is its log."""

    talks = True


class Branching(Command):
    """A command with others beside it, each called by a word in place of its first argument.

    Attributes:
        commands: the others, by their words.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands: dict[str, click.Command] = {}

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """That of the command that is meant."""
        at = 0
        while at < len(args) and (flag := _FLAG.fullmatch(args[at])):
            at += 2 if flag[1] else 1
        word = args[at] if at < len(args) else ""
        if (meant := self.commands.get(word)) is None:
            return super().make_context(info_name, args, parent, **extra)
        rest = [*args[:at], *args[at + 1 :]]
        return meant.make_context(f"{info_name} {word}", rest, parent, **extra)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options, and the commands beside it."""
        super().format_options(ctx, formatter)
        rows = [(name, each.get_short_help_str(80)) for name, each in self.commands.items()]
        with formatter.section("Commands in place of the first argument"):
            formatter.write_dl(rows)


class Group(click.Group):
    """Commands with a common first word."""

    command_class = Command
    group_class = type

    def get_help_option_names(self, ctx: click.Context) -> list[str]:
        """The same for every group."""
        return HELP

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Its own parameters and those that every command has."""
        return _beside_help(super().get_params(ctx))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command, or suggest the nearest name."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            meant = nearest(args[0], self.list_commands(ctx))
            ctx.fail(
                f"No such command {args[0]!r}. "
                + (f"Did you mean {meant!r}?" if meant else f"'{ctx.command_path} -h' lists them.")
            )
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; Ctrl-C while it loads or asks something also ends with exit code 130."""
        try:
            with harmless_interrupts():
                return super().invoke(ctx)
        except click.Abort:
            click.echo(err=True)  # behind the question
            fail("stopped", EXIT_INTERRUPTED)
        except KeyboardInterrupt:
            fail("stopped", EXIT_INTERRUPTED)
