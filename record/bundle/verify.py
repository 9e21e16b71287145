"""Whether a bundle holds: digests, completeness, and every joule once more from the readings.

:func:`verify` looks at a zip, or at a folder that it was unpacked into, in this order. What
fails is named; what depends on it is still looked at as far as it can be.

``archive``   the zip is whole, and leads nowhere
``digests``   every file is as the manifest says, none is missing, none is too many
``metadata``  the description is of RO-Crate 1.3, and names every file with its digest
``store``     the run store can be read
``models``    the model files are those that the store names
``readings``  every part of the readings in the store is undamaged; the files of readings say the
              same
``phases``    every phase has the joules that its readings give (:mod:`fimi.record.recount`)
``tables``    the tables are those of the store, and those of the recounted phases
``figures``   likewise the figures
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

import msgspec
from msgspec import Struct

from fimi.errors import FimiError
from fimi.record.bundle import contents
from fimi.record.bundle.archive import CrateError, unpack
from fimi.record.bundle.consequences import other_figures, other_tables
from fimi.record.bundle.contents import MANIFEST, METADATA, MODELS, digest, names_of
from fimi.record.bundle.crate import CRATE, PROFILE
from fimi.record.reader import STORE_NAME, open_store, read_run
from fimi.record.record import RunData
from fimi.record.recount import LEFT_OUT, Recount, recount

Verdict = Literal["holds", "fails", "unknown"]

_MOST = 20
"""Faults of a kind that are named one by one."""
_TABLES_OF_MODELS = {"fp32": MODELS[1], "int8": MODELS[2]}


class BundleCheck(Struct, frozen=True, kw_only=True):
    """One thing that was looked at.

    Attributes:
        what: its name, one word.
        verdict: whether it holds; ``unknown`` where it cannot be checked.
        words: what was found, in a sentence.
        details: what is wrong, worst first, a sentence each.
    """

    what: str
    verdict: Verdict
    words: str
    details: tuple[str, ...] = ()


class Verified(Struct, frozen=True, kw_only=True):
    """What is known of a bundle.

    Attributes:
        checks: in the order in which they were made.
        digest: SHA-256 of the zip; empty for a folder.
        recount: its phases; ``None`` where the store cannot be read.
    """

    checks: tuple[BundleCheck, ...]
    digest: str = ""
    recount: Recount | None = None

    @property
    def holds(self) -> bool:
        """Whether nothing that can be checked is wrong."""
        return all(check.verdict != "fails" for check in self.checks)


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
            files = unpack(path, folder)
        except CrateError as error:
            failed = BundleCheck(what="archive", verdict="fails", words=str(error))
            return Verified(checks=(failed,), digest=found)
        whole = BundleCheck(what="archive", verdict="holds", words=f"{len(files)} files")
        return _of_folder(folder, [whole], found)


def _of_folder(folder: Path, checks: list[BundleCheck], of_zip: str) -> Verified:
    checks += [_digests(folder), _metadata(folder)]
    again = None
    try:
        run = read_run(folder / STORE_NAME)
        again = recount(folder / STORE_NAME, run)
    except (FimiError, ValueError, sqlite3.Error, OSError) as error:
        said = f"the run store cannot be read: {error}"
        checks.append(BundleCheck(what="store", verdict="fails", words=said))
    else:
        said = f"run {run.info.run}, {len(run.rounds)} rounds, {len(run.profiles)} devices"
        warnings = tuple(run.warnings)
        checks.append(
            BundleCheck(
                what="store",
                verdict="fails" if warnings else "holds",
                words=said,
                details=_few(warnings),
            )
        )
        checks += [_models(folder, run), _readings(folder, again), _phases(again)]
        checks += _consequences(folder, run, again)
    return Verified(checks=tuple(checks), digest=of_zip, recount=again)


def _few(said: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    more = len(said) - _MOST
    return (*said[:_MOST], *((f"and {more} more",) if more > 0 else ()))


def _digests(folder: Path) -> BundleCheck:
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        said = f"there is no manifest that can be read ({error}); nothing says what files were"
        return BundleCheck(what="digests", verdict="fails", words=said)
    wrong: list[str] = []
    told: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        found, gap, name = line.partition("  ")
        if not gap or len(found) != 64:
            wrong.append(f"line {number} of {MANIFEST} is no digest")
            continue
        told[name] = found
    there = set(names_of(folder)) - {MANIFEST}
    for name, found in told.items():
        if name not in there:
            wrong.append(f"{name} is missing")
        elif digest(folder / name) != found:
            wrong.append(f"{name} is not the file that the manifest names: its SHA-256 differs")
    wrong += [f"{name} is not in the manifest" for name in sorted(there - set(told))]
    return BundleCheck(
        what="digests",
        verdict="fails" if wrong else "holds",
        words=f"{len(told)} files, {len(wrong)} faults" if wrong else f"{len(told)} files",
        details=_few(wrong),
    )


def _metadata(folder: Path) -> BundleCheck:
    wrong: list[str] = []
    try:
        document = msgspec.json.decode((folder / METADATA).read_bytes(), type=dict[str, Any])
        entities = {each["@id"]: each for each in document["@graph"]}
        about = entities[METADATA]
        root = entities[about["about"]["@id"]]
        if about.get("conformsTo", {}).get("@id") != CRATE:
            wrong.append(f"it does not say that it is of {CRATE}")
        if root.get("conformsTo", {}).get("@id") != PROFILE:
            wrong.append(f"it does not say that it follows {PROFILE}")
        parts = {unquote(part["@id"]) for part in root["hasPart"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        said = f"{METADATA} cannot be read: {type(error).__name__} {error}"
        return BundleCheck(what="metadata", verdict="fails", words=said)
    there = set(names_of(folder)) - {METADATA}
    wrong += [f"{name} is described, and not there" for name in sorted(parts - there)]
    wrong += [f"{name} is not described" for name in sorted(there - parts)]
    for entity in entities.values():
        name = unquote(str(entity["@id"]))
        told = entity.get("sha256")
        if told is not None and name in there and digest(folder / name) != told:
            wrong.append(f"{name} is described with another SHA-256")
    return BundleCheck(
        what="metadata",
        verdict="fails" if wrong else "holds",
        words=f"{CRATE}, {PROFILE}",
        details=_few(wrong),
    )


def _models(folder: Path, run: RunData) -> BundleCheck:
    """The exported files against the digests of the last export."""
    last = run.made[-1] if run.made else None
    if last is None or not last.files:
        return BundleCheck(what="models", verdict="unknown", words="the store names no model file")
    wrong, lacking = [], []
    for file in last.files:
        name = _TABLES_OF_MODELS.get(file.variant, "")
        path = folder / name
        if not name or not path.is_file():
            lacking.append(f"the store names a model {file.variant}, and the run had none left")
        elif digest(path) != file.digest:
            wrong.append(f"{name} is not the model of the run: its SHA-256 is not the store's")
    words = f"{len(last.files) - len(lacking)} of {len(last.files)} files of round {last.round}"
    verdict: Verdict = "fails" if wrong else "unknown" if lacking else "holds"
    return BundleCheck(what="models", verdict=verdict, words=words, details=(*wrong, *lacking))


def _readings(folder: Path, found: Recount) -> BundleCheck:
    wrong = list(found.damaged)
    with open_store(folder / STORE_NAME) as (_, db):
        expected = dict(contents.readings(db))
    for name, content in expected.items():
        path = folder / name
        if not path.is_file():
            wrong.append(f"{name} is missing")
        elif path.read_bytes() != content:
            wrong.append(f"{name} does not say what the readings in the store say")
    there = {name for name in names_of(folder) if name.startswith(f"{contents.READINGS}/")}
    wrong += [f"{name}: the store has no such readings" for name in sorted(there - set(expected))]
    words = f"{found.readings} readings in {found.parts} parts"
    if found.missing:
        words += f"; {len(found.missing)} parts are missing"
    if found.left_out:
        words += f"; {len(found.left_out)} times those of another meter had no room"
    verdict: Verdict = "fails" if wrong else "holds" if found.parts else "unknown"
    if not found.parts and not wrong:
        words = "the run has none: no joule can be computed again"
    return BundleCheck(
        what="readings",
        verdict=verdict,
        words=words,
        details=_few([*wrong, *found.missing, *found.left_out]),
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
        f"{each.device}, {_round(each.round)}, {each.phase}: {each.why}" for each in wrong
    ] + list(found.other_evidence)
    unknown: dict[str, int] = {}
    for each in counts["unchecked"]:
        unknown[each.why] = unknown.get(each.why, 0) + 1
    details = [*_few(details), *(f"{n} not checked: {why}" for why, n in unknown.items())]
    verdict: Verdict = "fails" if not found.holds else "holds" if counts["holds"] else "unknown"
    return BundleCheck(
        what="phases", verdict=verdict, words="; ".join(parts), details=_few(details)
    )


def _round(number: int) -> str:
    return f"round {number}" if number else "before the first round"


def _consequences(folder: Path, run: RunData, found: Recount) -> Iterator[BundleCheck]:
    """Tables and figures: as stored, and with the recounted phases."""
    for what, told in (("tables", other_tables), ("figures", other_figures)):
        wrong = list(told(folder, run, found))
        words = "as the store has them, and as the recounted phases give them"
        if not any(each.verdict == "holds" for each in found.phases):
            words = "as the store has them; nothing was recounted"
        verdict: Verdict = "fails" if wrong else "holds"
        yield BundleCheck(what=what, verdict=verdict, words=words, details=_few(wrong))
