"""What was wrong with updates: clipped, devices set aside, rounds without a usable model.

* :func:`lines`    a term and a sentence for each, for a terminal
* :func:`notices`  a title and sentences, for what a reader of a page must know

All are empty where every update went into the model as it was sent.
"""

from __future__ import annotations

from fimi.record.clean import clean
from fimi.record.record import RunData
from fimi.report.words import rounds_in_words


def lines(run: RunData) -> list[tuple[str, str]]:
    """A term and a sentence for everything that is out of the ordinary."""
    said = [("no new model", words) for words in _kept(run)]
    said += [("set aside", words) for words in _aside(run)]
    for device in run.devices:
        clipped = [(n, entry) for n, entry in run.rounds_of(device) if entry.is_clipped]
        if clipped:
            number, last = clipped[-1]
            scale = 1.0 if last.update_scale is None else last.update_scale
            said.append(
                (
                    "clipped",
                    f"{device}: {len(clipped)} of {run.accepted_of(device)} updates; last in round "
                    f"{number}, to {100 * scale:.3g} % of its change: {clean(last.reason, 400)}",
                )
            )
    return said


def notices(run: RunData) -> list[tuple[str, list[str]]]:
    """A title with its sentences, where devices or rounds are not what they seem."""
    found = [
        ("Rounds gave no usable model; the one before stays. ", _kept(run)),
        ("Devices were set aside. ", _aside(run)),
    ]
    return [(title, said) for title, said in found if said]


def _kept(run: RunData) -> list[str]:
    """The rounds that changed nothing, by their reason."""
    by_reason: dict[str, list[int]] = {}
    for result in run.rounds:
        if result.model_kept is not None:
            by_reason.setdefault(clean(result.model_kept, 400), []).append(result.number)
    return [f"{rounds_in_words(tuple(numbers))}: {why}" for why, numbers in by_reason.items()]


def _aside(run: RunData) -> list[str]:
    return [
        f"{event.device}: after round {event.round}, {clean(event.reason, 1000)}"
        for event in run.set_aside
    ]
