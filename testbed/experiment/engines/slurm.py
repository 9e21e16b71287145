"""Slurm: every cell an element of an array job, submitted with submitit.

The experiment's folder must be on a disk that the nodes of the cluster share: every run is written
in place. A job that ends before its run has (time limit, preemption, a node that died) is submitted
again and goes on with the run, until :data:`FRUITLESS` jobs in a row have not finished a round.

Ctrl-C cancels the jobs. Those that a killed call has left are cancelled by the next one, before it
submits its own: nothing but the rounds in progress is lost.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from fimi.errors import InputError, SurroundingsError
from fimi.files import write_whole
from fimi.testbed.commands.interrupts import EXIT_INTERRUPTED
from fimi.testbed.experiment.definition import SlurmRequest
from fimi.testbed.experiment.engines.base import Outcome, Task, TaskTimes, View, last_words
from fimi.testbed.experiment.engines.beginning import wait_until_unused
from fimi.testbed.experiment.engines.worker import TaskEnd, TaskProgress, WorkOrder, work

FRUITLESS = 2
"""After how many jobs in a row that have not finished a round a task has failed."""
_WARNING_S = 60
"""How long before its time limit a job is told to end, s."""
_LOOK_S = 1.0
"""Time between two looks at what jobs have written, s."""
_ASK_S = 10.0
"""Time between two questions to Slurm, s."""
_PATIENCE_S = 60.0
"""How long what a job has written may take to be seen here, s."""
_CANCEL_S = 90.0
"""How long cancelled jobs may take to end, s; Slurm itself waits 30 s before it kills."""
_WAITS = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"}
_RUNS = {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}
_JOBS = "jobs.txt"
_GONE = "no longer known to Slurm"
_TIME_OVER = "its time was over"
_BY_ITSELF = {"COMPLETED", "FAILED", "FINISHED", _GONE}
"""States of a job that nothing from outside has ended; the third one is submitit's own."""


class SlurmArray:
    """Runs tasks as elements of array jobs.

    Args:
        folder: of the experiment; the nodes must see it.
        request: what is asked of Slurm.
        memory_gb: what one task is said to need, if the request does not say it, GB; 0: not said.
        cluster: ``"local"``: submitit's processes on this machine in place of Slurm's jobs.

    Raises:
        InputError: Slurm cannot write below the folder.
        SurroundingsError: there is no Slurm, or no submitit.
    """

    def __init__(
        self,
        folder: Path,
        request: SlurmRequest,
        *,
        memory_gb: float = 0.0,
        cluster: Literal["slurm", "local"] = "slurm",
    ) -> None:
        self._folder = folder.absolute() / "slurm"
        self._request = request
        self._memory_gb = request.memory_gb or memory_gb
        self._cluster = cluster
        if "%" in str(self._folder):
            raise InputError(
                f"{self._folder}: Slurm takes % in a path for a placeholder; take another folder",
                code="X005",
            )
        if self._cluster == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
            raise SurroundingsError(
                "--on slurm submits jobs with sbatch, and there is none here; start it on a login "
                "node of the cluster, or take --on ray, or leave --on out",
                code="X005",
            )
        try:
            import submitit
        except ImportError as error:
            raise SurroundingsError(
                "--on slurm needs submitit: pip install 'fimi-testbed[slurm]'",
                code="U007",
            ) from error
        self._submitit: Any = submitit

    def run(
        self, tasks: Sequence[Task], *, clock: TaskTimes, view: View, stop: threading.Event
    ) -> Outcome:
        """Run tasks; see :class:`~fimi.testbed.experiment.engines.base.Engine`."""
        if not tasks or stop.is_set():
            return Outcome(failures={}, interrupted=bool(tasks))
        queue = self._queue()
        waiting = [_Element(task, self._folder) for task in tasks]
        sent: list[_Element] = []
        failures: dict[str, str] = {}
        most = min(self._request.parallel or len(tasks), len(tasks))
        try:
            while (waiting or sent) and not stop.is_set():
                if waiting:
                    queue.submit(waiting)
                    sent += waiting
                    waiting = []
                states = queue.states()
                for each in list(sent):
                    state = states.get(each.job.job_id, "")
                    each.hear(state, view)
                    if not each.is_over(state):
                        continue
                    sent.remove(each)
                    problem, again = each.end(state)
                    if again:
                        view.noted(each.task, f"{problem}; submitted again")
                        waiting.append(each)
                        continue
                    if problem:
                        failures[each.task.name] = problem
                    else:
                        clock.learn(each.task.kind, each.seconds)
                    view.finished(each.task, each.seconds, problem)
                gone = [(each.shown, each.seconds) for each in sent if each.runs]
                queued = [each.task for each in (*waiting, *sent) if not each.runs]
                view.tick(gone, clock.left_s(queued, gone, most))
                stop.wait(_LOOK_S)
        finally:
            queue.cancel()
            for each in sent:
                if each.task.folder is not None:
                    with contextlib.suppress(SurroundingsError, OSError):
                        wait_until_unused(each.task.folder)
        return Outcome(failures=failures, interrupted=stop.is_set() and bool(waiting or sent))

    def _queue(self) -> _Queue:
        """What the jobs are submitted to."""
        if self._cluster == "slurm":
            _cancel_left(self._folder)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        executor = self._submitit.AutoExecutor(
            self._folder, cluster=self._cluster, slurm_max_num_timeout=0
        )
        asked = self._request
        named = {
            "slurm_partition": asked.partition,
            "slurm_account": asked.account,
            "slurm_array_parallelism": asked.parallel,
            "slurm_additional_parameters": {k: v for k, v in asked.extra.items() if v is not False},
            "mem_gb": self._memory_gb,
        }
        executor.update_parameters(
            name=f"fimi-{self._folder.parent.name}",
            timeout_min=asked.time_min,
            slurm_signal_delay_s=min(_WARNING_S, 15 * asked.time_min),
            cpus_per_task=asked.cpus,
            **{key: value for key, value in named.items() if value},
        )
        return (_SlurmQueue if self._cluster == "slurm" else _Queue)(executor, self._folder)


class _Element:
    """A task, and the job that does it."""

    def __init__(self, task: Task, folder: Path) -> None:
        self.task = task
        self.job: Any = None
        self.runs = False
        self.told = folder / f"{task.name}.progress.json"
        self._began_s: float | None = None
        self._over_s: float | None = None
        self._seen = TaskProgress()
        self._steps_before = task.done()
        self._fruitless = 0
        self._ended: TaskEnd | None = None

    def submitted(self, job: Any) -> None:
        """A job was submitted for it."""
        self.job, self.runs, self._over_s, self._ended = job, False, None, None

    @property
    def seconds(self) -> float:
        """How long ago its first job began, s."""
        return 0.0 if self._began_s is None else time.monotonic() - self._began_s

    @property
    def shown(self) -> Task:
        """The task with the steps that its job has told."""
        steps = self._seen.steps
        return msgspec.structs.replace(self.task, done=lambda: steps)

    def hear(self, state: str, view: View) -> None:
        """Show what is new."""
        before = self._seen
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            self._seen = msgspec.json.decode(self.told.read_bytes(), type=TaskProgress)
            self.runs = True
        self.runs |= bool(state) and state not in _WAITS
        if self.runs and self._began_s is None:
            self._began_s = time.monotonic()
            view.started(self.task)
        if self._seen.note and self._seen.note != before.note:
            view.noted(self.task, self._seen.note)

    def is_over(self, state: str) -> bool:
        """Whether its job has ended, and what it has written can be read.

        A task that has a problem is over when its job is: the state of the job may be the reason.
        """
        if self._ended is None:
            self._ended = self._result()
        if self._ended is not None and not self._ended.problem:
            return True
        if not state or state in _WAITS | _RUNS:
            self._over_s = None
            return False
        folder: Path = self.job.paths.folder
        with contextlib.suppress(OSError):  # a network disk then looks again
            folder.chmod(folder.stat().st_mode)
        self._over_s = self._over_s or time.monotonic()
        patience_s = _PATIENCE_S if state == "COMPLETED" else 2 * _LOOK_S
        return self._ended is not None or time.monotonic() - self._over_s > patience_s

    def end(self, state: str) -> tuple[str, bool]:
        """What is wrong with a task whose job has ended, and whether it is to be done again."""
        ended = self._ended
        if ended is not None and not ended.problem:
            return self.task.problem(), False
        if ended is not None and not ended.cut_short and state in _BY_ITSELF:
            return ended.problem, False
        steps = self.task.done()
        self._fruitless = 0 if steps > self._steps_before else self._fruitless + 1
        self._steps_before = steps
        log: Path = self.job.paths.stderr
        if ended is not None:
            said = ended.problem
        elif log.exists():
            said = last_words(log)
        else:
            said = f"it has not written {log}: is this folder on a disk that the nodes share?"
        again = self._fruitless < FRUITLESS
        if not again and (state == "TIMEOUT" or said == _TIME_OVER):
            said += "; raise time_min below [slurm], so that a round fits into it"
        return f"job {self.job.job_id}, {state}: {said}", again

    def _result(self) -> TaskEnd | None:
        """What the job has given back, if it came to its end."""
        from submitit.core.utils import UncompletedJobError

        if not self.job.paths.result_pickle.exists():
            return None
        try:
            ended: TaskEnd = self.job.result()
        except UncompletedJobError as error:
            cause = _TIME_OVER if "timed-out" in str(error) else "it was cut short"
            return TaskEnd(code=EXIT_INTERRUPTED, problem=cause)
        return ended


class _Queue:
    """Where jobs are: here processes on this machine.

    Args:
        executor: of submitit.
        folder: for what jobs write.
    """

    def __init__(self, executor: Any, folder: Path) -> None:
        self._executor = executor
        self._folder = folder
        self._jobs: list[Any] = []

    def submit(self, elements: Sequence[_Element]) -> None:
        """Submit a job for each element, all as one array.

        Raises:
            SurroundingsError: they are refused.
        """
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        for each in elements:
            each.told.unlink(missing_ok=True)
        orders, told = (
            [WorkOrder.of(each.task) for each in elements],
            [each.told for each in elements],
        )
        try:
            jobs = self._executor.map_array(_do, orders, told)
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            said = [line for line in str(error).splitlines() if line.strip()] or [repr(error)]
            raise SurroundingsError(f"Slurm takes no jobs: {said[-1]}", code="X005") from error
        self._jobs += jobs
        for each, job in zip(elements, jobs, strict=True):
            each.submitted(job)

    def states(self) -> dict[str, str]:
        """The state of each job by its id, in Slurm's words; what is not known is left out."""
        return {job.job_id: job.state for job in self._jobs}

    def cancel(self) -> None:
        """Cancel the jobs that have not ended, and wait until they have."""
        for job in self._jobs:
            if job.state in _RUNS:
                job.cancel(check=False)
        _wait(self.states)


class _SlurmQueue(_Queue):
    """The queue of Slurm."""

    def __init__(self, executor: Any, folder: Path) -> None:
        super().__init__(executor, folder)
        self._asked_s = -_ASK_S
        self._states: dict[str, str] = {}

    def submit(self, elements: Sequence[_Element]) -> None:
        """Submit a job for each element; a later call knows them."""
        super().submit(elements)
        write_whole(self._folder / _JOBS, "\n".join(job.job_id for job in self._jobs))

    def states(self) -> dict[str, str]:
        """By ``squeue``, which also knows jobs that ended some minutes ago."""
        if time.monotonic() - self._asked_s > _ASK_S:
            self._asked_s = time.monotonic()
            self._states = _ask([job.job_id for job in self._jobs]) or self._states
        return self._states

    def cancel(self) -> None:
        """Cancel the jobs that have not ended, and wait until they have."""
        ids = [job.job_id for job in self._jobs if not job.paths.result_pickle.exists()]
        if ids:
            _scancel(ids)
        (self._folder / _JOBS).unlink(missing_ok=True)


def _cancel_left(folder: Path) -> None:
    """Cancel the jobs of an earlier call that was killed."""
    with contextlib.suppress(OSError):
        _scancel((folder / _JOBS).read_text().split())


def _scancel(ids: Sequence[str]) -> None:
    """Cancel jobs, and wait until they have ended."""
    subprocess.run(["scancel", *ids], capture_output=True, check=False)
    _wait(lambda: _ask(ids))


def _wait(states: Callable[[], dict[str, str]]) -> None:
    """Wait until no job is active any more."""
    limit_s = time.monotonic() + _CANCEL_S
    while set(states().values()) & (_WAITS | _RUNS) and time.monotonic() < limit_s:
        time.sleep(0.5)


def _ask(ids: Sequence[str]) -> dict[str, str]:
    """The states of jobs; empty if Slurm does not answer."""
    arrays = ",".join(dict.fromkeys(each.partition("_")[0] for each in ids))
    question = ["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T"]
    try:
        said = subprocess.run(
            [*question, f"--jobs={arrays}"], capture_output=True, text=True, timeout=_CANCEL_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    if said.returncode and "Invalid job id" not in said.stderr:
        return {}
    known = dict(line.strip().split("|", 1) for line in said.stdout.splitlines() if "|" in line)
    return {each: known.get(each, _GONE) for each in ids}


def _do(order: WorkOrder, told: Path) -> TaskEnd:
    """What a job does."""

    def tell(progress: TaskProgress) -> None:
        write_whole(told, msgspec.json.encode(progress), durable=False)

    return work(order, tell)
