"""FIMI testbed: energy-aware federated learning on real edge devices.

The public interface; ``docs/api.md`` describes it, ``examples/tour.py`` shows it:

* :func:`dry_run`         run a whole federation of emulated devices on this machine
* :func:`read_run`        a stored run as data
* :func:`summarise`       its figures, as in the report
* :func:`plan`            a certified plan for a fleet
* :class:`Problem`        what is planned, as arrays over devices
* :func:`run_experiment`  many runs compared

Errors that a person can do something about are :class:`fimi.errors.FimiError`. Everything else
below ``fimi`` is private: it may change without notice. What is named here is loaded when it is
first used, so that ``import fimi`` takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fimi.optim.ask import plan
    from fimi.optim.problem import FimiProblem as Problem
    from fimi.record.reader import read_run
    from fimi.record.summary import summarise
    from fimi.testbed.interface import dry_run, run_experiment

__all__ = ["Problem", "dry_run", "plan", "read_run", "run_experiment", "summarise"]

_PLACES = {
    "Problem": ("fimi.optim.problem", "FimiProblem"),
    "dry_run": ("fimi.testbed.interface", "dry_run"),
    "plan": ("fimi.optim.ask", "plan"),
    "read_run": ("fimi.record.reader", "read_run"),
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
