"""Is this machine ready to be a device? One check, one line, and the command that mends it.

* :func:`examine`                     runs every check; none of them changes anything
* :mod:`fimi.edge_agent.doctor.patient`    what is examined, and what is found
* :mod:`fimi.edge_agent.doctor.meters`     what joules come from
* :mod:`fimi.edge_agent.doctor.frequency`  whether its clock can be set and counted
* :mod:`fimi.edge_agent.doctor.board`      what is limited and observed
* :mod:`fimi.edge_agent.doctor.surroundings`  what the process needs around it

A check is ``ok``, something that is simply ``absent``, a ``warning`` (the agent runs, with less: a
declared power instead of a meter, no frequency cap) or a ``failure`` (it cannot run, or its joules
would be missing).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fimi.edge_agent.doctor.board import clock, heat, rate
from fimi.edge_agent.doctor.frequency import frequency
from fimi.edge_agent.doctor.meters import meters
from fimi.edge_agent.doctor.patient import Check, Patient
from fimi.edge_agent.doctor.surroundings import broker, python, room

_PARTS: tuple[Callable[[Patient], Iterator[Check]], ...] = (
    python,
    meters,
    frequency,
    rate,
    clock,
    heat,
    broker,
    room,
)


def examine(patient: Patient) -> tuple[Check, ...]:
    """Run every check, in the order in which somebody sets a board up."""
    return tuple(check for part in _PARTS for check in part(patient))
