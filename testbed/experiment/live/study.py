"""A fleet, held for one study: from a broker and an experiment to an engine that runs its cells.

* :func:`of_fleet`     the experiment as it is run on boards: in a folder of its own
* :func:`live_study`   the fleet, held, with its boards chosen
* :func:`boards_to_choose`   how many that are
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from fimi.coordinator.strategies import STRATEGIES
from fimi.messaging.address import BrokerAddress
from fimi.messaging.bundle import Bundle
from fimi.messaging.console import Console, SeenBoard
from fimi.messaging.errors import BrokerUnreachable
from fimi.messaging.reservation import Reservation
from fimi.messaging.topics import check_name
from fimi.testbed.configuration.rules import first_twice
from fimi.testbed.configuration.sections import Config, ConfigError
from fimi.testbed.experiment.cells import Cell, cells
from fimi.testbed.experiment.definition import Experiment
from fimi.testbed.experiment.live.attempts import Study
from fimi.testbed.experiment.live.boards import Boards, StudyBoard
from fimi.testbed.experiment.live.engine import LiveFleet
from fimi.testbed.experiment.live.processes import Starter
from fimi.testbed.run_folder import RunFolderError, write_atomically

SUFFIX = "-live"
BOARDS = "boards.json"
"""File with the boards of a study: one that goes on is made on the same."""


def of_fleet(experiment: Experiment) -> Experiment:
    """The experiment as it is run on boards: its folder, and its boards if they were chosen.

    Raises:
        RunFolderError: the file with the boards cannot be read.
        ConfigError: it names a board twice, or what is no id; the runs are of several fleets, or
            on images that boards bring themselves.
    """
    live = replace(experiment, name=experiment.name + SUFFIX)
    path = live.folder / BOARDS
    if path.exists():
        try:
            chosen = msgspec.json.decode(path.read_bytes(), type=tuple[str, ...])
        except (OSError, msgspec.MsgspecError) as error:
            raise RunFolderError(
                f"{path} cannot be read ({error}); it holds the boards of this study, in the order "
                'of their shares: ["pi-01", "pi-02"]',
                code="C006",
            ) from error
        try:
            if (twice := first_twice(chosen)) is not None:
                raise ValueError(f"board {twice} is named twice")
            for board in chosen:
                check_name(board, "board")
        except ValueError as error:
            raise ConfigError(f"{path}: {error}", code="C006") from error
        live = replace(live, boards=chosen)
    _fleet_of(live)
    return live


@contextlib.contextmanager
def live_study(
    experiment: Experiment,
    address: BrokerAddress,
    *,
    generator: bool,
    tell: Callable[[str], None],
    stop: threading.Event,
    keep_open: Sequence[int] = (),
) -> Iterator[tuple[Experiment, LiveFleet]]:
    """A fleet, held for a study until the block ends.

    Args:
        experiment: of :func:`of_fleet`.
        address: of the broker.
        generator: whether a generator node runs here beside each run that needs one.
        tell: told for whom is waited.
        stop: ends the study.
        keep_open: files that runs hold open as long as they live.

    Yields:
        The experiment with its boards, and the engine for its cells.

    Raises:
        IdentityTaken: another study has the fleet.
        BrokerError: there is no broker.
        MissingBoardsError: too few boards come.
        Stopped: the study was stopped while it waited for them.
        ConfigError: runs have different generators, and the generator node is not started here; or
            the bundle is for another fleet.
    """
    fleet = _fleet_of(experiment)
    _require_own_bundle(experiment, fleet, address)
    if not generator:
        _require_one_generator(experiment)
    held = Reservation(address, fleet=fleet, what=f"study {experiment.name}")
    with held, Console(address, fleet=fleet) as console:

        def look() -> dict[str, StudyBoard]:
            if held.is_away:
                raise BrokerUnreachable(f"connection to {address} lost")
            return {name: board_of(seen) for name, seen in console.look().items()}

        def require_held() -> None:
            if held.lost is not None:
                raise held.lost

        count = boards_to_choose(experiment)
        if not experiment.boards and count:
            chosen = Boards(look, experiment.live, stop, tell).choose(count)
            experiment.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(experiment.folder / BOARDS, msgspec.json.encode(chosen) + b"\n")
            experiment = replace(experiment, boards=chosen)
        elif len(experiment.boards) < count:
            raise ConfigError(
                f"{experiment.folder / BOARDS} names {len(experiment.boards)} boards, and runs of "
                f"{experiment.path} need {count}; add boards at its end, or remove the file to "
                "choose anew",
                code="C006",
            )
        study = Study(
            experiment.live,
            look,
            experiment.folder,
            Starter(address, keep_open),
            generator=generator,
            require_held=require_held,
            has_node=lambda: console.has_generator,
        )
        yield experiment, LiveFleet(study)


def board_of(seen: SeenBoard) -> StudyBoard:
    """What a study asks of a board."""
    status, online = seen.status, seen.standing != "offline"
    why_not = seen.why_not() if online else ""
    if status is not None and status.errand:
        why_not = why_not or status.errand
    return StudyBoard(
        online=online,
        why_not=why_not,
        temperature_c=status.temperature_c if status is not None and seen.answered else None,
        emulated=status is not None and status.kind == "emulated",
    )


def _fleet_of(experiment: Experiment) -> str:
    """The fleet that all runs are made on."""
    found = {cell.config.fleet.name for cell in cells(experiment)}
    if len(found) > 1:
        raise ConfigError(
            f"{experiment.path}: runs are of several fleets ({', '.join(sorted(found))}); a live "
            "study holds one: set fleet.name below [base] only",
            code="C006",
        )
    return found.pop()


def _require_own_bundle(experiment: Experiment, fleet: str, address: BrokerAddress) -> None:
    """Refuse a bundle of another fleet: the broker would refuse each message, without this reason.

    Raises:
        ConfigError: it is one.
    """
    if not address.bundle_path:
        return
    own = Bundle.read(Path(address.bundle_path)).fleet
    if own != fleet:
        raise ConfigError(
            f"the bundle is for fleet {own!r}, and the runs of {experiment.path} are made on "
            f'{fleet!r}: set fleet.name = "{own}" below [base]',
            code="C006",
        )


def boards_to_choose(experiment: Experiment) -> int:
    """How many boards its largest run needs; runs whose boards the file names need none."""
    fleets = [cell.config.fleet for cell in cells(replace(experiment, boards=()))]
    return max((fleet.devices for fleet in fleets if not fleet.members), default=0)


def _require_one_generator(experiment: Experiment) -> None:
    """A node that was started by hand has one set of weights, whatever a run asks for."""
    needing = [c for c in cells(experiment) if STRATEGIES[c.config.run.strategy].needs_images]
    asked: dict[str, Cell] = {}
    for cell in needing:
        asked.setdefault(_weights(cell.config), cell)
    if len(asked) > 1:
        first, second, *_ = asked.values()
        raise ConfigError(
            f"{experiment.path}: {first.name} and {second.name} need different generators, and a "
            "generator node that was started by hand has one; add --generator, which runs the "
            "node of each run here",
            code="C006",
        )


def _weights(config: Config) -> str:
    made_by = config.generator
    return f"{made_by.kind} {made_by.weights} {made_by.text_model}"
