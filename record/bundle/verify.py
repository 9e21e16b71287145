"""Whether a bundle holds: digests, completeness, and every joule once more from the readings.

:func:`verify` looks at a zip, or at a folder that it was unpacked into, in this order. What
fails is named; what depends on it is still looked at as far as it can be.

``archive``      the zip is whole, and leads nowhere (:mod:`fimi.record.bundle.archive`)
``digests``, ``metadata``, ``settings``, ``models``, ``readings``  the files, against manifest and
                 store (:mod:`fimi.record.bundle.files`)
``store``        the run store can be read
``phases``       every phase has the joules that its readings give (:mod:`fimi.record.recount`)
``trials``       so have trials of the model above resting (:mod:`fimi.record.derived_joules`)
``predictions``  so have the differences of predicted and metered joules
                 (:mod:`fimi.record.residual_check`)
``tables``, ``figures``  they are those of the store, and those of the recounted phases
                 (:mod:`fimi.record.bundle.consequences`)
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fimi.errors import FimiError
from fimi.plural import plural
from fimi.record.bundle import files
from fimi.record.bundle.archive import CrateError, unpack
from fimi.record.bundle.consequences import other_figures, other_tables
from fimi.record.bundle.contents import digest
from fimi.record.bundle.findings import BundleCheck, Verdict, Verified, few
from fimi.record.derived_joules import check_derived, told_only
from fimi.record.reader import STORE_NAME, open_store, read_run
from fimi.record.record import RunData
from fimi.record.recount import LEFT_OUT, Recount, recount
from fimi.record.residual_check import check_residuals
from fimi.record.retold import place


def verify(path: Path) -> Verified:
    """Look at a bundle.

    Args:
        path: the zip, or a folder that it was unpacked into; only read.

    Raises:
        CrateError: there is nothing.
        OSError: it cannot be read, or there is no room to unpack it.
    """
    if path.is_dir():
        return _of_folder(path, [], "")
    if not path.exists():
        raise CrateError(f"{path}: there is no such bundle; 'fimi bundle RUN' makes one")
    found = digest(path)
    with tempfile.TemporaryDirectory(prefix="fimi-verify-") as name:
        folder = Path(name)
        try:
            there = unpack(path, folder)
        except CrateError as error:
            failed = BundleCheck(what="archive", verdict="fails", words=str(error))
            return Verified(checks=(failed,), digest=found)
        whole = BundleCheck(what="archive", verdict="holds", words=f"{len(there)} files")
        return _of_folder(folder, [whole], found)


def _of_folder(folder: Path, checks: list[BundleCheck], of_zip: str) -> Verified:
    checks.append(files.check_digests(folder))
    try:
        run = read_run(folder / STORE_NAME)
        again = recount(folder / STORE_NAME, run)
    except (FimiError, ValueError, sqlite3.Error, OSError) as error:
        said = f"the run store cannot be read: {error}"
        checks.append(files.check_metadata(folder, None))
        checks.append(BundleCheck(what="store", verdict="fails", words=said))
        return Verified(checks=tuple(checks), digest=of_zip)
    rounds, devices = len(run.rounds), len(run.profiles)
    said = f"run {run.info.run}, {plural(rounds, 'round')}, {plural(devices, 'device')}"
    warnings = tuple(run.warnings)
    verdict: Verdict = "fails" if warnings else "holds"
    checks += [
        files.check_metadata(folder, run),
        BundleCheck(what="store", verdict=verdict, words=said, details=few(warnings)),
        files.check_settings(folder, run),
        files.check_models(folder, run),
        files.check_readings(folder, again),
        _phases(again),
        *_trials(run, again),
        *_predictions(folder, run, again),
        *_consequences(folder, run, again),
    ]
    return Verified(
        checks=tuple(checks), digest=of_zip, recount=again, not_checked=tuple(told_only(run))
    )


def _phases(found: Recount) -> BundleCheck:
    counts = {verdict: found.of(verdict) for verdict in ("holds", "differs", "absent", "unchecked")}
    wrong = [*counts["differs"], *counts["absent"]]
    wrong.sort(key=lambda each: -abs(each.difference_j))
    declared = sum(each.declared for each in counts["holds"])
    parts = [f"{len(counts['holds'])} of {len(found.phases)} have the joules of their readings"]
    if declared:
        parts.append(f"{declared} of these are of a declared power, which no meter has shown")
    if less := sum(each.why == LEFT_OUT for each in counts["holds"]):
        parts.append(f"{less} of these {LEFT_OUT}")
    if wrong:
        parts.append(f"{len(wrong)} have not")
    if counts["unchecked"]:
        parts.append(f"{len(counts['unchecked'])} cannot be checked")
    told, same = found.evidence
    if told:
        parts.append(f"{same} of {told} equations and resting powers hold")
    details = [
        f"{each.device}, {place(each.round)}, {each.phase}: {each.why}" for each in wrong
    ] + list(found.other_evidence)
    unknown: dict[str, int] = {}
    for each in counts["unchecked"]:
        unknown[each.why] = unknown.get(each.why, 0) + 1
    details = [*few(details), *(f"{n} not checked: {why}" for why, n in unknown.items())]
    unread = any(each.record and each.record.energy for each in counts["unchecked"])
    known = bool(counts["holds"]) and not unread
    verdict: Verdict = "fails" if not found.holds else "holds" if known else "unknown"
    return BundleCheck(what="phases", verdict=verdict, words="; ".join(parts), details=few(details))


def _trials(run: RunData, again: Recount) -> Iterator[BundleCheck]:
    """Trials of the model; nothing where there were none."""
    found = check_derived(run, again)
    all_ = found.count + found.unchecked
    if not all_:
        return
    words = f"{found.count - len(found.wrong)} of {all_} have the joules above resting of their "
    verdict: Verdict = "fails" if found.wrong else "unknown" if found.unchecked else "holds"
    details = [*few(found.wrong)]
    if found.unchecked:
        details.append(f"{found.unchecked} not checked: their readings are not there")
    yield BundleCheck(
        what="trials", verdict=verdict, words=f"{words}readings", details=tuple(details)
    )


def _predictions(folder: Path, run: RunData, again: Recount) -> Iterator[BundleCheck]:
    """What is stored of predicted and metered joules; nothing where they were not compared."""
    with open_store(folder / STORE_NAME) as (_, db):
        found = check_residuals(db, run, again)
    if not found.count and not found.without and not found.wrong:
        return
    words = (
        f"{found.count} differences of predicted and metered joules, as phases, predictions, plans "
        "and fits give them"
    )
    details = [*few(found.wrong)]
    if found.unchecked:
        details.append(f"{found.unchecked} not checked: the phases' readings are not there")
    if found.without:
        details.append(f"{found.without} phases more were predicted and metered, and not compared")
    verdict: Verdict = "fails" if found.wrong else "unknown" if found.unchecked else "holds"
    yield BundleCheck(what="predictions", verdict=verdict, words=words, details=tuple(details))


def _consequences(folder: Path, run: RunData, found: Recount) -> Iterator[BundleCheck]:
    """Tables and figures: as stored, and with the recounted phases."""
    for what, told in (("tables", other_tables), ("figures", other_figures)):
        wrong = list(told(folder, run, found))
        words = "as the store has them, and as the recounted phases give them"
        counted = len(found.phases) - len(found.of("unchecked"))
        if not any(each.verdict == "holds" for each in found.phases):
            words = "as the store has them; nothing was recounted"
        elif counted < len(found.phases):
            words += f": {counted} of {len(found.phases)} were recounted"
        verdict: Verdict = "fails" if wrong else "holds"
        yield BundleCheck(what=what, verdict=verdict, words=words, details=few(wrong))
