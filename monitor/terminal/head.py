"""The upper part of the picture: where the run is, what it has learned, what it has used.

* :func:`head`          lines, the most important first
* :func:`energy_words`  joules so far, with their kind and what is missing
* :func:`predicted_words`  the prediction beside them
"""

from __future__ import annotations

from collections.abc import Iterable

from fimi.energy.joules import format_energy
from fimi.monitor.snapshot import OVER, JoulesNow, RunNow, Snapshot
from fimi.monitor.terminal.text import Look, Piece, TextLine, flow, of, wrapped
from fimi.report.layout import columns
from fimi.report.words import (
    exposed_in_words,
    modelled,
    percent,
    rounds_in_number,
    seconds,
    signed_percent,
)

NARROW = 60
"""Columns below which only the most important things are said."""
_BAR = 12


def head(snapshot: Snapshot, width: int, most: int, link: str = "") -> list[TextLine]:
    """The head, in at most ``most`` lines.

    Args:
        snapshot: the run.
        width: columns.
        most: lines.
        link: what is wrong with the connection to the run; empty: nothing.
    """
    run = snapshot.run
    narrow = width < NARROW
    title = flow(_title(snapshot, narrow), width)
    parts: list[list[TextLine]] = [title[:1] if narrow else title]
    if link:
        parts.append(wrapped(f"! {link}", width, "problem", indent="  ")[:3])
    elif run.broker_away_s is not None:
        parts.append([_marked(f"the broker is away for {seconds(run.broker_away_s)}", "problem")])
    if run.state in OVER and run.reason:
        parts.append([of(run.reason, "plain" if run.state == "completed" else "warning")])
    elif run.waiting:
        parts.append([_marked(run.waiting, "warning")])
    elif run.doing not in ("", run.state, _in_round(run)):
        parts.append(in_phrases(run.doing, width)[:3])
    parts.append(flow(_progress(snapshot, narrow), width))
    parts += [[each] for each in _more(snapshot)]
    return [line for part in parts for line in part][:most]


def in_phrases(text: str, width: int) -> list[TextLine]:
    """A sentence over as many lines as it takes, broken behind a semicolon where that does.

    A command that is named at its end stands in one line, if the width has room for it.
    """
    lines: list[TextLine] = []
    *others, last = text.split("; ")
    for phrase in (*(f"{each};" for each in others), last):
        joined = f"{lines[-1].text} {phrase}" if lines else phrase
        if lines and columns(joined) <= width:
            lines[-1] = of(joined)
        else:
            lines += wrapped(phrase, width)
    return lines


def _marked(text: str, look: Look) -> TextLine:
    return of(f"! {text}", look)


def _title(snapshot: Snapshot, narrow: bool) -> Iterable[Piece]:
    run = snapshot.run
    look: Look = "warning" if run.state in ("failed", "interrupted", "paused") else "title"
    state: list[Piece] = [(run.state, look), (took(snapshot.unix_s - run.began_unix_s), "plain")]
    name: list[Piece] = [] if narrow else [(run.title or "run", "title")]
    if run.name not in run.title.split() or narrow:
        name.append((run.name, "plain"))
    yield from (*state, *name) if narrow else (*name, *state)


def bar(done: int, steps: int, length: int) -> str:
    """How much of something is done."""
    filled = length * max(0, min(done, steps)) // max(1, steps)
    return "█" * filled + "░" * (length - filled)


def _in_round(run: RunNow) -> str:
    return f"round {run.round}"


def took(elapsed_s: float) -> str:
    """A duration in whole seconds: ``42 s``, ``4 min 05 s``."""
    elapsed_s = max(0.0, elapsed_s)
    return f"{elapsed_s:.0f} s" if elapsed_s < 99.5 else seconds(elapsed_s)


def _progress(snapshot: Snapshot, narrow: bool) -> Iterable[Piece]:
    run, done = snapshot.run, len(snapshot.rounds)
    if run.doing == _in_round(run):
        yield run.doing, "plain"
    if run.rounds:
        length = _BAR // 2 if narrow else _BAR
        yield f"{bar(done, run.rounds, length)} {done}/{rounds_in_number(run.rounds)}", "plain"
    if (study := snapshot.study) is not None:
        drawn = bar(study.done, study.runs, _BAR // 2 if narrow else _BAR)
        yield f"{drawn} {study.done} of {study.runs} runs", "plain"
        if study.failed:
            yield f"! {len(study.failed)} failed", "problem"
    if run.accuracy is not None:
        aim = "" if run.target is None else f" (target {percent(run.target)})"
        yield f"accuracy {percent(run.accuracy)}{aim}", "plain"
    yield from energy_phrases(run.energy)
    if run.left_s is not None:
        yield f"{took(run.left_s)} left", "plain"


def energy_phrases(found: JoulesNow) -> Iterable[Piece]:
    """Joules so far, then what was predicted of them, then what is missing."""
    yield energy_words(found, so_far=True), "plain"
    yield predicted_words(found), "plain"
    if found.missing:
        yield f"without {found.missing}", "faint"


def energy_words(found: JoulesNow, *, so_far: bool = False) -> str:
    """``165 J (emulated, board)``; ``unknown; 165 J (…) known`` where some are missing."""
    behind = " so far" if so_far else ""
    if found.energy is None:
        return "" if found.whole else f"energy not metered{behind}"
    said = format_energy(found.energy)
    return f"{said}{behind}" if found.whole else f"unknown; {said} known{behind}"


def predicted_words(found: JoulesNow) -> str:
    """``predicted 184 J (modelled; +6.9 %)``, of which part if not of all; empty without one."""
    if found.compared is None or found.predicted_j is None:
        return ""
    said = f"predicted {modelled(found.predicted_j, signed_percent(found.error_percent))}"
    if found.energy is not None and found.compared.value_j == found.energy.value_j:
        return said
    return f"{said} for the {format_energy(found.compared)} of which both are known"


def _more(snapshot: Snapshot) -> Iterable[TextLine]:
    """What is worth a line where there is room for it."""
    run = snapshot.run
    if run.exposed:
        yield _marked(exposed_in_words(run.exposed), "warning")
    if run.plan:
        yield of(run.plan, "faint")
    if (said := _generator(snapshot)) and run.state not in ("drawing", *OVER):
        yield of(said, "faint")
    if run.server is not None:
        yield of(f"training on the server: {format_energy(run.server)}", "faint")
    yield of(" · ".join(_about(run)), "faint")


def _generator(snapshot: Snapshot) -> str:
    made = snapshot.generator
    said = []
    if made.batches_asked:
        said.append(f"{made.batches_done} of {made.batches_asked} batches ready")
    if made.lacking:
        rate = f", {made.images_per_s:.0f} a second" if made.images_per_s else ""
        said.append(f"{made.lacking} to draw{rate}")
    if made.failed:
        said.append(f"{len(made.failed)} with a problem")
    if made.energy is not None:
        said.append(format_energy(made.energy))
    return f"synthetic images: {', '.join(said)}" if said else ""


def _about(run: RunNow) -> Iterable[str]:
    if run.strategy:
        yield run.strategy
    if run.dataset or run.model:
        yield " with ".join(filter(None, (run.dataset, run.model)))
    if run.seed is not None:
        yield f"seed {run.seed}"
    if run.deadline_s is not None:
        yield f"deadline {seconds(run.deadline_s)}"
    if run.trained:
        yield run.trained
    if run.broker:
        yield run.broker
