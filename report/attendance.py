"""Who took part in a run, and in how many processes it ran: sentences and a table.

* :func:`lines`             what a terminal says: resumed, joined late, not used, absent, how rounds
  ended for those who were invited, and which late updates were added
* :func:`resumed`           that other processes went on with the run, and when
* :func:`attendance_table`  devices that were not there all the time
* :func:`zone_of`, :func:`moment`  times of a run as text, in the zone of its own

All are empty where one process ran the whole run with all its devices.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone, tzinfo
from typing import NamedTuple, get_args

from fimi.plural import plural
from fimi.record.clean import clean
from fimi.record.interventions import after_round
from fimi.record.record import RunData
from fimi.record.results import Outcome
from fimi.record.summary import Summary
from fimi.report.markup import Column, Html, table
from fimi.report.words import MISSING, rounds_in_words


def lines(run: RunData, summary: Summary) -> list[tuple[str, str]]:
    """A term and a sentence for everything that is out of the ordinary."""
    said = [("resumed", words)] if (words := resumed(run)) else []
    said += [("joined late", f"{d}: from round {n} on") for d, n in run.joined_late.items()]
    said += [("not used", f"{device}: {why}") for device, why in run.not_used.items()]
    said += [("offender", clean(each.words, 600)) for each in run.offenders]
    said += [
        ("absent", f"{row.device}: {rounds_in_words(row.absent)}{_why(run, row.device)}")
        for row in summary.devices
        if row.absent
    ]
    return [*said, *_outcomes(run), *_added(run)]


def _outcomes(run: RunData) -> list[tuple[str, str]]:
    """How all rounds ended for all who were invited; nothing where all was well."""
    told = Counter(d.outcome for each in run.rounds for d in each.devices if d.outcome)
    if told.keys() <= {"ok"}:
        return []
    counts = ", ".join(f"{told[each]} {each}" for each in get_args(Outcome) if told[each])
    return [("outcomes", f"{counts}, of {told.total()} invitations to a round")]


def _added(run: RunData) -> list[tuple[str, str]]:
    """How many late updates of each device entered a later round."""
    told = Counter(late.device for each in run.rounds for late in each.late)
    return [
        ("added late", f"{plural(count, 'update')} of {device}")
        for device, count in sorted(told.items())
    ]


def resumed(run: RunData) -> str:
    """``after round 5 (2026-11-28 12:01:05)``, each time that it was; empty if it never was."""
    zone = zone_of(run.info.started_at)
    return ", ".join(
        f"{after_round(each.after_round)} "
        f"({'; '.join([moment(each.at, zone), *(clean(said) for said in each.changes)])})"
        for each in run.resumptions
    )


class _Row(NamedTuple):
    device: str
    number: str
    since: str
    absent: str
    why: str


def attendance_table(run: RunData, summary: Summary) -> Html | None:
    """One row per device, if one came late, was not used, or was absent from a round."""
    absent = {row.device: row.absent for row in summary.devices if row.absent}
    if not (absent or run.joined_late or run.not_used):
        return None
    enrolled = {each.device: each for each in run.enrolments}
    rows = []
    for device in dict.fromkeys([*enrolled, *absent]):
        found = enrolled.get(device)
        why = run.not_used.get(device) or _reason(run, device)
        rows.append(
            _Row(
                device=device,
                number=_number(found.device_index if found else None),
                since=_number(found.since_round if found else None),
                absent=rounds_in_words(absent.get(device, ())) or MISSING,
                why=clean(why, 1000),
            )
        )
    columns: list[Column[_Row]] = [
        Column("Device", "", lambda r: r.device, "name"),
        Column("Index", "", lambda r: r.number),
        Column("Used from round", "", lambda r: r.since),
        Column("Absent", "", lambda r: r.absent, "text"),
        Column("Why", "", lambda r: r.why, "text"),
    ]
    return table(columns, rows, caption="Who took part")


def _number(value: int | None) -> str:
    return MISSING if value is None else str(value)


def _why(run: RunData, device: str) -> str:
    reason = _reason(run, device)
    return f" ({clean(reason, 200)})" if reason else ""


def _reason(run: RunData, device: str) -> str:
    """Why a device was absent, in most of the rounds."""
    told = Counter(entry.reason for _, entry in run.rounds_of(device) if entry.status == "absent")
    return told.most_common(1)[0][0] if told else ""


def zone_of(started_at: str) -> tzinfo:
    """The time zone in which the run's own times are."""
    try:
        return datetime.fromisoformat(started_at).tzinfo or timezone.utc
    except ValueError:
        return timezone.utc


def moment(at: float, zone: tzinfo) -> str:
    """A UNIX time as text."""
    try:
        return f"{datetime.fromtimestamp(at, zone):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return "at an unknown time"
