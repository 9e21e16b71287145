"""Ray: every cell a remote task, on this machine or on a cluster.

Without an address a Ray of its own is started on this machine, and ended with the experiment. A
worker that sees the experiment's folder (it is shared, or the machine is the same) works in it.
Then a task whose worker was lost goes on with its run on another one, and so does a later call. A
worker that does not see it works in a temporary folder; run folder and log come back when the run
has ended.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
from msgspec import Struct

from fimi.errors import InputError, SurroundingsError
from fimi.testbed.experiment.cells import finished_rounds
from fimi.testbed.experiment.engines.base import (
    GRACE_S,
    Outcome,
    Task,
    TaskTimes,
    View,
)
from fimi.testbed.experiment.engines.beginning import beginning
from fimi.testbed.experiment.engines.pool import cores
from fimi.testbed.experiment.engines.worker import TaskEnd, TaskProgress, WorkOrder, work

ADDRESS_VARIABLE = "RAY_ADDRESS"
"""Environment variable of Ray with the address of a cluster."""
TRIES = 3
"""How often a task is started again whose worker was lost."""
_LOOK_S = 0.25
_PROBE_S = 5.0
"""How long a cluster may take to accept a connection, s."""
_STORE_BYTES = 200_000_000
"""Memory of a Ray of our own for weights and run folders on their way, bytes."""


class RayCluster:
    """Runs tasks on Ray.

    Args:
        folder: of the experiment.
        address: of a cluster; empty: as ``RAY_ADDRESS`` says, else a Ray on this machine.
        jobs: most tasks at a time; 0: as many as the cluster has CPUs for.
        memory_gb: what one task is said to need, GB; 0: nothing is reserved.
        apart: whether workers use folders of their own though they see this one.

    Raises:
        InputError: the address is none.
        SurroundingsError: Ray is not installed, or nobody answers at the address.
    """

    def __init__(
        self,
        folder: Path,
        address: str = "",
        *,
        jobs: int = 0,
        memory_gb: float = 0.0,
        apart: bool = False,
    ) -> None:
        self._folder = folder
        self._address = address or os.environ.get(ADDRESS_VARIABLE, "")
        self._jobs = jobs
        self._memory_bytes = int(memory_gb * 1e9) or None
        self._apart = apart
        self._ray = _imported()
        _probe(self._address)

    def run(
        self, tasks: Sequence[Task], *, clock: TaskTimes, view: View, stop: threading.Event
    ) -> Outcome:
        """Run tasks; see :class:`~fimi.testbed.experiment.engines.base.Engine`."""
        ray = self._ray
        if not tasks or stop.is_set():
            return Outcome(failures={}, interrupted=bool(tasks))
        with _connected(ray, self._address, self._jobs), _mark(self._folder) as mark:
            try:
                return self._run(ray, mark, tasks, clock, view, stop)
            except ray.exceptions.RayError as error:
                raise SurroundingsError(
                    f"Ray was lost: {_first_words(error)}; the same command goes on",
                    code="X005",
                ) from error

    def _run(
        self,
        ray: Any,
        mark: _Mark,
        tasks: Sequence[Task],
        clock: TaskTimes,
        view: View,
        stop: threading.Event,
    ) -> Outcome:
        board = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Board).remote()
        do = ray.remote(num_cpus=1, memory=self._memory_bytes, max_retries=TRIES)(_do)
        mark = msgspec.structs.replace(mark, secret="") if self._apart else mark
        weights = _Weights(ray)
        waiting = list(tasks)
        sent: dict[Any, _Sent] = {}
        failures: dict[str, str] = {}
        most = self._jobs or int(ray.cluster_resources().get("CPU", 1))
        try:
            while (waiting or sent) and not stop.is_set():
                while waiting and (not self._jobs or len(sent) < self._jobs):
                    task = waiting.pop(0)
                    ref = do.remote(_Remote.of(task), mark, weights.of(task), board)
                    sent[ref] = _Sent(task)
                ended, _ = ray.wait(list(sent), num_returns=len(sent), timeout=_LOOK_S)
                told = ray.get(board.told.remote())
                for each in sent.values():
                    each.hear(told.get(each.task.name), view)
                for ref in ended:
                    each = sent.pop(ref)
                    problem = each.end(ray, ref, view)
                    if problem:
                        failures[each.task.name] = problem
                    else:
                        clock.learn(each.task.kind, each.seconds)
                    view.finished(each.task, each.seconds, problem)
                gone = [(s.shown, s.seconds) for s in sent.values() if s.began_s is not None]
                queued = [s.task for s in sent.values() if s.began_s is None]
                view.tick(gone, clock.left_s([*queued, *waiting], gone, most))
        finally:
            for ref in sent:
                ray.cancel(ref)
            if sent:
                ray.wait(list(sent), num_returns=len(sent), timeout=GRACE_S + 5.0)
        return Outcome(failures=failures, interrupted=stop.is_set() and bool(waiting or sent))


class _Mark(Struct, frozen=True, kw_only=True):
    """A file in the experiment's folder, by which a worker knows whether it sees the folder."""

    path: Path
    secret: str

    def is_seen(self) -> bool:
        try:
            return bool(self.secret) and self.path.read_text() == self.secret
        except OSError:
            return False


@contextlib.contextmanager
def _mark(folder: Path) -> Iterator[_Mark]:
    secret = secrets.token_hex(16)
    path = folder.absolute() / f".ray-{secret[:8]}"
    path.write_text(secret)
    try:
        yield _Mark(path=path, secret=secret)
    finally:
        path.unlink(missing_ok=True)


class _Remote(Struct, frozen=True, kw_only=True):
    """A task on its way: what there is to do, and what a worker in a folder of its own needs."""

    order: WorkOrder
    folder: Path | None
    config: Any

    @classmethod
    def of(cls, task: Task) -> _Remote:
        return cls(order=WorkOrder.of(task), folder=task.folder, config=task.config)


class _Brought(Struct, frozen=True, kw_only=True):
    """What comes back: how a task ended, and its files if the worker did not see the folder."""

    ended: TaskEnd
    run: dict[str, bytes] | None = None
    log: bytes | None = None


class _Told(Struct, kw_only=True):
    """What workers have told of a task: how far it is, and how often it was started."""

    progress: TaskProgress
    starts: int


class _Board:
    """Where workers tell their progress: an actor."""

    def __init__(self) -> None:
        self._told: dict[str, _Told] = {}

    def start(self, name: str) -> None:
        """A task is started, perhaps once more."""
        starts = self._told[name].starts if name in self._told else 0
        self._told[name] = _Told(progress=TaskProgress(), starts=starts + 1)

    def tell(self, name: str, progress: TaskProgress) -> None:
        """A task has come so far; perhaps it was begun before this actor was restarted."""
        self._told.setdefault(name, _Told(progress=progress, starts=1)).progress = progress

    def told(self) -> dict[str, _Told]:
        """By the names of tasks."""
        return self._told


class _Sent:
    """A task that was sent."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.began_s: float | None = None
        self._told = _Told(progress=TaskProgress(), starts=0)

    @property
    def seconds(self) -> float:
        """How long it has been running, s."""
        return 0.0 if self.began_s is None else time.monotonic() - self.began_s

    @property
    def shown(self) -> Task:
        """The task with the steps that its worker has told."""
        steps = self._told.progress.steps
        return msgspec.structs.replace(self.task, done=lambda: steps)

    def hear(self, told: _Told | None, view: View) -> None:
        """Show what is new."""
        if told is None:
            return
        if self.began_s is None:
            self.began_s = time.monotonic()
            view.started(self.task)
        if told.starts > max(1, self._told.starts):
            view.noted(self.task, "its worker was lost; it was started on another one")
        note = told.progress.note
        if note and note != self._told.progress.note:
            view.noted(self.task, note)
        self._told = told

    def end(self, ray: Any, ref: Any, view: View) -> str:
        """What is wrong with a task that has ended, or an empty string."""
        if self.began_s is None:
            self.began_s = time.monotonic()
            view.started(self.task)
        try:
            brought: _Brought = ray.get(ref)
            _put_in_place(self.task, brought)
        except ray.exceptions.RayError as error:
            return _first_words(error)
        except OSError as error:
            return f"its run cannot be stored here: {error}"
        return brought.ended.problem or self.task.problem()


class _Weights:
    """Generators' folders on their way, each sent once."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._sent: dict[Path, list[Any]] = {}

    def of(self, task: Task) -> list[Any]:
        """The folder that a task needs, in a list, so that only who wants it fetches it."""
        named = task.config.generator.weights if task.config is not None else ""
        folder = Path(named)
        if not named or not folder.is_dir():
            return []
        if folder not in self._sent:
            self._sent[folder] = [self._ray.put(_packed(folder))]
        return self._sent[folder]


def _do(remote: _Remote, mark: _Mark, weights: list[Any], board: Any) -> _Brought:
    """What a worker does."""
    order = remote.order
    board.start.remote(order.name)
    tell = partial(board.tell.remote, order.name)
    if mark.is_seen():
        return _Brought(ended=work(order, tell))
    with tempfile.TemporaryDirectory(prefix="fimi-cell-", ignore_cleanup_errors=True) as place:
        try:
            return _apart(remote, Path(place), weights, tell)
        finally:
            os.chdir("/")


def _apart(remote: _Remote, place: Path, weights: list[Any], tell: Any) -> _Brought:
    """A run in a folder of this worker's own; relative paths start there."""
    config = remote.config
    if config is None or remote.folder is None:
        return _Brought(ended=TaskEnd(problem="the worker does not see the experiment's folder"))
    if weights:
        named = Path(config.generator.weights)
        if named.is_absolute() or ".." in named.parts:
            if not named.is_dir():
                return _Brought(
                    ended=TaskEnd(
                        problem=f"there is no {named} on the worker {socket.gethostname()}: put "
                        "it there, or name the weights by a path below the working folder, then "
                        "they are brought along"
                    )
                )
        else:
            import ray

            _unpack(ray.get(weights[0]), place / named)
    run = msgspec.structs.replace(config.run, directory=str(place / "runs"))
    config = msgspec.structs.replace(config, run=run)
    folder, log = place / "runs" / remote.folder.name, place / "log"
    order = msgspec.structs.replace(
        remote.order,
        command=partial(beginning, folder, place / "cell.toml", config),
        done=partial(finished_rounds, folder),
        log=log,
        place=place,
    )
    ended = work(order, tell)
    return _Brought(
        ended=ended,
        run=_packed(folder) if folder.is_dir() else None,
        log=log.read_bytes() if log.exists() else None,
    )


def _put_in_place(task: Task, brought: _Brought) -> None:
    """Store what a worker in a folder of its own has brought.

    Raises:
        OSError: it cannot be written.
    """
    if brought.log is not None:
        task.log.parent.mkdir(parents=True, exist_ok=True)
        task.log.write_bytes(brought.log)
    if brought.run is not None and task.folder is not None:
        shutil.rmtree(task.folder, ignore_errors=True)
        _unpack(brought.run, task.folder)


def _packed(folder: Path) -> dict[str, bytes]:
    """The files of a folder, by their paths in it; links are left out."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def _unpack(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files below a folder.

    Raises:
        OSError: one cannot be written, or its path leads out of the folder.
    """
    for name, data in files.items():
        inside = PurePosixPath(name)
        if inside.is_absolute() or ".." in inside.parts:
            raise OSError(f"the path {name!r} leads out of {folder}")
        path = folder / inside
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _imported() -> Any:
    """Ray.

    Raises:
        SurroundingsError: it is not installed.
    """
    # Read when Ray is imported: it shall neither send statistics nor write over our progress.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise SurroundingsError(
            "--on ray needs Ray: pip install 'fimi-testbed[ray]'; without it, leave --on out",
            code="U007",
        ) from error
    return ray


@contextlib.contextmanager
def _connected(ray: Any, address: str, jobs: int) -> Iterator[None]:
    """Connect to a cluster, or start one here; a connection that is there is used.

    Raises:
        SurroundingsError: there is no cluster at the address, or none can be started here.
    """
    if ray.is_initialized():
        yield
        return
    own: dict[str, Any] = {
        "address": "local",
        "num_cpus": jobs or cores(),
        "include_dashboard": False,
        "object_store_memory": _STORE_BYTES,
    }
    handler = signal.getsignal(signal.SIGTERM)
    try:
        try:
            ray.init(
                **({"address": address} if address and address != "local" else own),
                log_to_driver=False,
                logging_level="ERROR",
            )
        except Exception as error:
            where = f"at {address}" if address else "on this machine"
            hint = "; a cluster with tokens needs RAY_AUTH_MODE=token" if ":" in address else ""
            raise SurroundingsError(
                f"no Ray {where}: {_first_words(error)}{hint}", code="X005"
            ) from error
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)  # Ray has set one of its own
        yield
    finally:
        ray.shutdown()


def _probe(address: str) -> None:
    """Make sure that somebody answers at an address; Ray itself tries for minutes.

    Raises:
        InputError: it is no address.
        SurroundingsError: nobody answers.
    """
    if address in ("", "auto", "local"):
        return
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not (colon and host and port.isdigit()):
        raise InputError(f"{address!r} is no address of Ray; write host:port or auto", code="X005")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PROBE_S).close()
    except (OSError, OverflowError) as error:
        raise SurroundingsError(
            f"nobody answers at {address}: {error}; is Ray running there ('ray start --head', "
            "'ray status')?",
            code="X005",
        ) from error


def _first_words(error: Exception) -> str:
    """What an error of Ray says, without its traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kind = type(error).__name__
    if kind.startswith("RayTaskError"):  # an exception in a worker; its own words come last
        return lines[-1]
    return f"{kind}: {lines[0]}" if lines else kind
