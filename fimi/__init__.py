"""FIMI testbed: energy-aware federated learning on real edge devices.

The public interface; ``docs/api.md`` describes it, ``examples/tour.py`` shows it:

* :func:`dry_run`         run a whole federation of emulated devices on this machine
* :func:`read_run`        a stored run as data
* :func:`read_trace`      what the meter of a device showed in a round, with its phases
* :func:`summarise`       its figures, as in the report
* :func:`plan`            a certified plan for a fleet
* :class:`Problem`        what is planned, as arrays over devices
* :func:`run_experiment`  many runs compared

Rooms, from the lowest to the highest; each is a folder at the top level of the repository, to which
``fimi/`` holds a link:

* :mod:`fimi.energy`          boards: cost models, meters, controls, calibration
* :mod:`fimi.optim`           the optimisation problem and its solvers
* :mod:`fimi.learning`        data sets, networks, training, ONNX graphs
* :mod:`fimi.messaging`       MQTT: messages, topics, payloads
* :mod:`fimi.record`          the run store and the figures of a run
* :mod:`fimi.edge_agent`      the process on a device
* :mod:`fimi.generator_node`  the process that makes synthetic samples
* :mod:`fimi.coordinator`     the process that runs a federation
* :mod:`fimi.report`          the report of a run
* :mod:`fimi.testbed`         the command ``fimi``, configurations, experiments

Modules of this folder, which every room may import:

* :mod:`fimi.children`     child processes that never outlive their parent
* :mod:`fimi.fork_server`  children that share loaded modules
* :mod:`fimi.files`        files that are written completely or not at all
* :mod:`fimi.own_parts`    parts of the user's own, ``module:name``
* :mod:`fimi.plural`       a number of things in words
* :mod:`fimi.errors`       base classes of all errors that a user can act on

Errors that a person can do something about are :class:`fimi.errors.FimiError`. Everything else
below ``fimi`` is private: it may change without notice. What is named here is loaded when it is
first used, so that ``import fimi`` takes no time.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False
"""True for type checkers alone; :mod:`typing` itself takes time that Ctrl-C could fall into."""

if TYPE_CHECKING:
    from fimi.optim.ask import plan
    from fimi.optim.problem import FimiProblem as Problem
    from fimi.record.reader import read_run
    from fimi.record.readings import trace as read_trace
    from fimi.record.summary import summarise
    from fimi.testbed.interface import dry_run, run_experiment

__all__ = ["Problem", "dry_run", "plan", "read_run", "read_trace", "run_experiment", "summarise"]

_PLACES = {
    "Problem": ("fimi.optim.problem", "FimiProblem"),
    "dry_run": ("fimi.testbed.interface", "dry_run"),
    "plan": ("fimi.optim.ask", "plan"),
    "read_run": ("fimi.record.reader", "read_run"),
    "read_trace": ("fimi.record.readings", "trace"),
    "run_experiment": ("fimi.testbed.interface", "run_experiment"),
    "summarise": ("fimi.record.summary", "summarise"),
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module 'fimi' has no attribute {name!r}; there are {__all__}")
    module, attribute = _PLACES[name]
    globals()[name] = found = getattr(import_module(module), attribute)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
