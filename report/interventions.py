"""What people asked of a run while it went on, and what became of it.

* :func:`lines`               a term and a sentence for each, for a terminal
* :func:`notices`             sentences for what a reader of a page must know before any number
* :func:`intervention_table`  all of them, refused ones too

All are empty where nobody has asked for anything.
"""

from __future__ import annotations

from fimi.record.clean import clean
from fimi.record.interventions import Intervention, PauseRun, StopRun, after_round
from fimi.record.interventions import words as request_words
from fimi.record.record import RunData
from fimi.report.attendance import moment, zone_of
from fimi.report.markup import Column, Html, table
from fimi.report.words import MISSING, seconds

_MOST = 12
MEANING = "It is no undisturbed run: compare it with others knowing that."
"""What follows from an intervention."""


def lines(run: RunData) -> list[tuple[str, str]]:
    """A term and a sentence for everything that was asked."""
    return [("intervention", _sentence(each)) for each in run.interventions]


def notices(run: RunData) -> list[str]:
    """A sentence for everything that was done, as long as that is not too much to read."""
    said = [_sentence(each) for each in run.changed_by_hand]
    more = len(said) - _MOST
    return said if more <= 0 else [*said[:_MOST], f"and {more} more, in the table of interventions"]


def intervention_table(run: RunData) -> Html | None:
    """A row for everything that was asked; ``None`` without any."""
    if not run.interventions:
        return None
    zone = zone_of(run.info.started_at)
    columns: list[Column[Intervention]] = [
        Column("After round", "", lambda i: str(i.after_round)),
        Column("Asked for", "", lambda i: clean(request_words(i.request)), "text"),
        Column("By", "", lambda i: i.by, "text"),
        Column("Asked at", "", lambda i: moment(i.asked_at, zone), "text"),
        Column("Served at", "", lambda i: moment(i.at, zone), "text"),
        Column("Pause", "wall time", lambda i: _pause(i) or MISSING),
        Column("What became of it", "", _outcome, "text"),
    ]
    return table(columns, run.interventions, caption="Interventions")


def _sentence(each: Intervention) -> str:
    when = after_round(each.after_round)
    said = f"{when}: {clean(request_words(each.request))}, asked by {each.by}"
    tells_nothing = each.done and isinstance(each.request, PauseRun | StopRun)
    return said if tells_nothing else f"{said}: {_outcome(each)}"


def _outcome(each: Intervention) -> str:
    return each.words if each.done else f"refused: {each.words}"


def _pause(each: Intervention) -> str:
    return "" if each.paused_s is None else seconds(each.paused_s)
