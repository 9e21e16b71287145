"""Where an experiment is run: on an engine of this machine or of others, or on a fleet of boards.

:class:`Where` is what a person asks for, from the command line and from Python.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from fimi.errors import InputError
from fimi.messaging.address import BrokerAddress
from fimi.testbed.experiment.definition import Experiment
from fimi.testbed.experiment.engines.base import Engine
from fimi.testbed.experiment.engines.choosing import engine_for
from fimi.testbed.experiment.live.study import live_study, of_fleet


class Where(Struct, frozen=True, kw_only=True):
    """Where the cells of an experiment are run.

    Attributes:
        on: engine, as :func:`~fimi.testbed.experiment.engines.choosing.engine_for` takes it.
        jobs: runs side by side; 0: as the file says.
        live: on a fleet of boards instead.
        generator: with a generator node here beside each of its runs that needs images.
    """

    on: str = "local"
    jobs: int = 0
    live: bool = False
    generator: bool = False

    def experiment(self, asked: Experiment) -> Experiment:
        """The experiment as it is run there, in its own folder.

        Raises:
            InputError: it cannot be run there, or what is asked for does not go together.
            SurroundingsError: what it needs is not here.
        """
        if not self.live:
            if self.generator:
                raise InputError("--generator goes with --broker URL or --live", code="U001")
            engine_for(self.on, asked, jobs=self.jobs)  # refused before anything is made
            return asked
        if self.jobs or self.on != "local":
            raise InputError(
                "--jobs and --on: the runs of a fleet come one after another", code="U001"
            )
        return of_fleet(asked)

    @contextlib.contextmanager
    def opened(
        self,
        asked: Experiment,
        broker: Callable[[], BrokerAddress],
        tell: Callable[[str], None],
        stop: threading.Event,
        keep_open: Sequence[int],
    ) -> Iterator[tuple[Experiment, Engine]]:
        """The engine, for as long as the block lasts.

        Args:
            asked: of :meth:`experiment`.
            broker: gives the broker of the fleet; called for boards only.
            tell: told for whom is waited.
            stop: ends the waiting.
            keep_open: files that runs on this machine hold open.

        Yields:
            The experiment with its boards, if there are any, and the engine.

        Raises:
            FimiError: as :func:`~fimi.testbed.experiment.live.study.live_study` and
                :func:`~fimi.testbed.experiment.engines.choosing.engine_for`.
            Stopped: ``stop`` was set while it waited.
        """
        if not self.live:
            yield asked, engine_for(self.on, asked, jobs=self.jobs, keep_open=keep_open)
            return
        with live_study(
            asked,
            broker(),
            generator=self.generator,
            tell=tell,
            stop=stop,
            keep_open=keep_open,
        ) as (experiment, engine):
            yield experiment, engine

    def options(self, reached: str = "") -> str:
        """What to write on the command line, with a space before it.

        Args:
            reached: options by which it reaches the broker; empty where the environment says it.
        """
        words = [f"--on {self.on}"] if self.on != "local" else []
        words += [f"--jobs {self.jobs}"] if self.jobs else []
        words += ["--live"] if self.live and not reached else []
        words += ["--generator"] if self.generator else []
        return "".join(f" {word}" for word in words) + reached
