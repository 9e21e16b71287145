"""The files of a bundle against its manifest, its description and its store.

``digests``      every file is as the manifest says, none is missing, none is too many
``metadata``     the description is that of this run and these files
``settings``     configuration and environment are those of the store
``models``       the model files are those that the store names
``readings``     every part of the readings in the store is undamaged; the files say the same
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec

from fimi.record.bundle import contents
from fimi.record.bundle.contents import MANIFEST, METADATA, MODELS, digest, names_of
from fimi.record.bundle.crate import CRATE, PROFILE, about_in, metadata
from fimi.record.bundle.findings import BundleCheck, Verdict, few, plain, unlike
from fimi.record.reader import STORE_NAME, open_store
from fimi.record.record import RunData
from fimi.record.recount import Recount

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_VARIANTS = {"fp32": MODELS[1], "int8": MODELS[2]}
_HEADER_MOST = 64 << 20


def check_digests(folder: Path) -> BundleCheck:
    """Every file against the manifest."""
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
        details=few(wrong),
    )


def check_metadata(folder: Path, run: RunData | None) -> BundleCheck:
    """The description against the files, and against the run where that can be read."""
    try:
        document = msgspec.json.decode((folder / METADATA).read_bytes(), type=dict[str, Any])
        entities = {each["@id"]: each for each in document["@graph"]}
        about = entities[METADATA]
        root = entities[about["about"]["@id"]]
        parts = {unquote(part["@id"]) for part in root["hasPart"]}
        wrong = list(_of_standard(about, root))
        wrong += _of_files(folder, entities, parts)
        if not wrong and run is not None:
            described = metadata(run, folder, about_in(entities, root))
            wrong += _of_run(document, plain(described))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        said = f"{METADATA} cannot be read: {type(error).__name__} {error}"
        return BundleCheck(what="metadata", verdict="fails", words=said)
    return BundleCheck(
        what="metadata",
        verdict="fails" if wrong else "holds",
        words=f"{CRATE}, {PROFILE}",
        details=few(wrong),
    )


def _of_standard(about: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    if about.get("conformsTo", {}).get("@id") != CRATE:
        yield f"it does not say that it is of {CRATE}"
    if root.get("conformsTo", {}).get("@id") != PROFILE:
        yield f"it does not say that it follows {PROFILE}"


def _of_files(folder: Path, entities: dict[str, Any], parts: set[str]) -> Iterator[str]:
    """What it says of files."""
    there = set(names_of(folder)) - {METADATA}
    yield from (f"{name} is described, and not there" for name in sorted(parts - there))
    yield from (f"{name} is not described" for name in sorted(there - parts))
    for entity in entities.values():
        name = unquote(str(entity["@id"]))
        told = entity.get("sha256")
        if told is not None and name in there and digest(folder / name) != told:
            yield f"{name} is described with another SHA-256"


def _of_run(document: dict[str, Any], again: dict[str, Any]) -> Iterator[str]:
    """What it says of the run: what would be said now, of this store."""
    if (said := unlike(document.get("@context"), again["@context"], "@context")) is not None:
        yield said
    told = {str(each["@id"]): each for each in document["@graph"]}
    known = {str(each["@id"]): each for each in again["@graph"]}
    if len(told) != len(document["@graph"]):
        yield "it describes a thing twice"
    yield from (f"it lacks {name}" for name in sorted(known.keys() - told.keys()))
    yield from (f"the store has no {name}" for name in sorted(told.keys() - known.keys()))
    for name in sorted(told.keys() & known.keys()):
        if (said := unlike(told[name], known[name], name)) is not None:
            yield f"{said}, as the store gives it"


def check_settings(folder: Path, run: RunData) -> BundleCheck:
    """The files of configuration and environment, value by value."""
    wrong: list[str] = []
    try:
        sections = tomllib.loads((folder / contents.CONFIGURATION).read_text(encoding="utf-8"))
        found = unlike(_flat(sections), plain(contents.settings(run)))
        wrong += [f"{contents.CONFIGURATION}: {found}, as in the store"] if found else []
    except (OSError, ValueError) as error:
        wrong.append(f"{contents.CONFIGURATION} cannot be read: {error}")
    try:
        told = msgspec.json.decode((folder / contents.ENVIRONMENT).read_bytes())
        found = unlike(told, plain(contents.environment(run)))
        wrong += [f"{contents.ENVIRONMENT}: {found}, as in the store"] if found else []
    except (OSError, ValueError) as error:
        wrong.append(f"{contents.ENVIRONMENT} cannot be read: {error}")
    return BundleCheck(
        what="settings",
        verdict="fails" if wrong else "holds",
        words="configuration and environment, as the store has them",
        details=few(wrong),
    )


def _flat(value: Any, at: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {at: value}
    found: dict[str, Any] = {}
    for key, each in value.items():
        found |= _flat(each, f"{at}.{key}" if at else key)
    return found


def check_models(folder: Path, run: RunData) -> BundleCheck:
    """The exported files against the digests of the last export; the parameters against these."""
    wrong, unknown = [], []
    last = run.made[-1] if run.made else None
    files = last.files if last is not None else ()
    known: set[str] = set()
    for file in files:
        name = _VARIANTS.get(file.variant, "")
        path = folder / name
        if not name or not path.is_file():
            unknown.append(f"the store names a model {file.variant}, and the run had none left")
        elif digest(path) != file.digest:
            wrong.append(f"{name} is not the model of the run: its SHA-256 is not the store's")
        else:
            known.add(name)
    words = f"{len(known)} of {len(files)} files" + (f" of round {last.round}" if last else "")
    told = {_VARIANTS.get(file.variant) for file in files}
    unknown += [
        f"not checked: {name}, of which the store has no digest"
        for name in MODELS[1:]
        if (folder / name).is_file() and name not in told
    ]
    if (folder / MODELS[0]).is_file():
        if MODELS[1] in known and _has_parameters(folder / MODELS[1], folder / MODELS[0]):
            words += f"; {MODELS[0]} has the parameters of {MODELS[1]}"
        else:
            unknown.append(
                f"not checked: {MODELS[0]}, of which the store has no digest"
                + (f"; {MODELS[1]} does not have all of its parameters" * (MODELS[1] in known))
            )
    if not files and not unknown:
        unknown.append("the store names no model file")
    verdict: Verdict = "fails" if wrong else "unknown" if unknown else "holds"
    return BundleCheck(what="models", verdict=verdict, words=words, details=few([*wrong, *unknown]))


def _has_parameters(onnx: Path, safetensors: Path) -> bool:
    """Whether every parameter stands in an ONNX file, byte by byte, and nothing else is there."""
    data = safetensors.read_bytes()
    size = int.from_bytes(data[:8], "little")
    if not 0 < size <= min(_HEADER_MOST, len(data) - 8):
        return False
    try:
        header = msgspec.json.decode(data[8 : 8 + size], type=dict[str, dict[str, Any]])
        places = sorted(
            (int(each["data_offsets"][0]), int(each["data_offsets"][1]))
            for name, each in header.items()
            if name != "__metadata__"
        )
    except (ValueError, LookupError, TypeError):
        return False
    ends = [0, *(end for _, end in places)]
    if [start for start, _ in places] != ends[:-1] or ends[-1] != len(data) - 8 - size:
        return False
    with onnx.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        return bool(places) and all(
            whole.find(data[8 + size + start : 8 + size + end]) >= 0 for start, end in places
        )


def check_readings(folder: Path, found: Recount) -> BundleCheck:
    """The files of readings against the store."""
    wrong = list(found.damaged)
    expected: set[str] = set()
    with open_store(folder / STORE_NAME) as (_, db):
        for name, content in contents.readings(db):
            expected.add(name)
            path = folder / name
            if not path.is_file():
                wrong.append(f"{name} is missing")
            elif not contents.is_content(path, content):
                wrong.append(f"{name} does not say what the readings in the store say")
    there = {name for name in names_of(folder) if name.startswith(f"{contents.READINGS}/")}
    wrong += [f"{name}: the store has no such readings" for name in sorted(there - expected)]
    words = f"{found.readings} readings in {found.parts} parts"
    if found.missing:
        words += f"; missing parts: {len(found.missing)}"
    if found.left_out:
        words += f"; without those of another meter, for want of room: {len(found.left_out)}"
    verdict: Verdict = "fails" if wrong else "holds" if found.parts else "unknown"
    if not found.parts and not wrong:
        words = "the run has none: no joule can be computed again"
    return BundleCheck(
        what="readings",
        verdict=verdict,
        words=words,
        details=few([*wrong, *found.missing, *found.left_out]),
    )
