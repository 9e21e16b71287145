"""The description of a bundle: RO-Crate 1.3 with the profile Process Run Crate 0.5.

One JSON document, ``ro-crate-metadata.json``, says what the files are and how they came to be: the
run is an action, carried out with the testbed as its instrument, on boards, with a configuration as
its object and the store, the tables and the model as its results. The terms are schema.org's
(https://w3id.org/ro/crate/1.3, https://w3id.org/ro/wfrun/process/0.5).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from fimi.energy.joules import format_energy
from fimi.plural import plural
from fimi.record.bundle.contents import (
    CONFIGURATION,
    ENVIRONMENT,
    FIGURES,
    MANIFEST,
    METADATA,
    MODELS,
    READINGS,
    TABLES,
    digest,
    names_of,
    reading_files,
)
from fimi.record.reader import STORE_NAME, open_store
from fimi.record.record import RunData
from fimi.record.summary import summarise

CRATE = "https://w3id.org/ro/crate/1.3"
CONTEXT = f"{CRATE}/context"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
TESTBED = "#fimi-testbed"
NO_LICENCE = "No licence was given: ask the author before you use this."

Entity = dict[str, Any]

_TEXTS = {
    STORE_NAME: ("Run store: every round, device, phase and reading", "application/vnd.sqlite3"),
    CONFIGURATION: ("Every value of the configuration", "application/toml"),
    ENVIRONMENT: ("Versions, broker, digests of the data, boards and meters", "application/json"),
    FIGURES: ("Figures of the run: energies, rounds, devices, predictions", "application/json"),
    MANIFEST: ("SHA-256 of the other files", "text/plain"),
    MODELS[0]: ("Parameters of the trained model", "application/octet-stream"),
    MODELS[1]: ("The trained model as ONNX", "application/octet-stream"),
    MODELS[2]: ("The trained model as ONNX, weights in 8 bits", "application/octet-stream"),
}
_STATUS = {
    "completed": "http://schema.org/CompletedActionStatus",
    "running": "http://schema.org/ActiveActionStatus",
}
_FAILED = "http://schema.org/FailedActionStatus"


class About(Struct, frozen=True, kw_only=True):
    """What only a person can say of a bundle.

    Attributes:
        licence: an SPDX id such as ``CC-BY-4.0``, an address, or a sentence; empty: none is given.
        author: a name; empty: none is given.
        orcid: the author's, ``https://orcid.org/…``; empty likewise.
        published: ISO 8601; empty: the day on which the run ended.
    """

    licence: str = ""
    author: str = ""
    orcid: str = ""
    published: str = ""


def metadata(run: RunData, folder: Path, about: About) -> Entity:
    """The metadata document of a bundle.

    Args:
        run: as it is in the bundle.
        folder: with all other files of it but the manifest.
        about: what its author says.
    """
    files = [name for name in names_of(folder) if name not in (METADATA, MANIFEST)]
    with open_store(folder / STORE_NAME) as (_, db):
        of_devices = reading_files(db)
    info = run.info
    licence, licences = _licence(about.licence)
    people = _people(about)
    boards = _boards(run)
    software = _software(run)
    published = about.published or (info.finished_at or info.started_at)[:10] or "1970-01-01"
    root: Entity = {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Federated learning run {info.run}",
        "description": _sentence(run),
        "datePublished": published,
        "license": licence,
        "conformsTo": {"@id": PROFILE},
        "hasPart": [_ref(name) for name in (*files, MANIFEST)],
        "mentions": [{"@id": f"#run-{info.instance or 'unnamed'}"}, *_refs(boards)],
        **({"author": _refs(people)[0]} if people else {}),
    }
    results = [name for name in files if name not in (CONFIGURATION, ENVIRONMENT)]
    action: Entity = {
        "@id": f"#run-{info.instance or 'unnamed'}",
        "@type": "CreateAction",
        "name": f"Run {info.run}",
        "description": f"fimi {info.command}" if info.command else "a federated learning run",
        "instrument": {"@id": TESTBED},
        "object": [_ref(CONFIGURATION), _ref(ENVIRONMENT)],
        "result": [_ref(name) for name in results],
        "actionStatus": _STATUS.get(info.status, _FAILED),
        **({"startTime": info.started_at} if info.started_at else {}),
        **({"endTime": info.finished_at} if info.finished_at else {}),
        **({"agent": _refs(people)[0]} if people else {}),
    }
    if action["actionStatus"] == _FAILED and info.reason:
        action["error"] = info.reason
    return {
        "@context": CONTEXT,
        "@graph": [
            {
                "@id": METADATA,
                "@type": "CreativeWork",
                "about": {"@id": "./"},
                "conformsTo": {"@id": CRATE},
            },
            root,
            {
                "@id": PROFILE,
                "@type": ["CreativeWork", "Profile"],
                "name": "Process Run Crate",
                "version": "0.5",
            },
            action,
            *software,
            *boards,
            *people,
            *licences,
            *(_file(folder, name, of_devices.get(name, "")) for name in files),
            _manifest([METADATA, *files]),
        ],
    }


def about_in(entities: Mapping[str, Entity], root: Entity) -> About:
    """What its author says of a bundle, from its description.

    Raises:
        LookupError, TypeError, AttributeError: the description is not of this form.
    """
    licence = root["license"]
    if isinstance(licence, dict):
        licence = entities[licence["@id"]]["name"]
    person = entities[root["author"]["@id"]] if "author" in root else {}
    orcid = str(person.get("@id", ""))
    return About(
        licence="" if licence == NO_LICENCE else licence,
        author=person.get("name", ""),
        orcid="" if orcid == "#author" else orcid,
        published=root["datePublished"],
    )


def _manifest(files: list[str]) -> Entity:
    """The manifest, which is written last: it has the digest of this description."""
    said, kind = _TEXTS[MANIFEST]
    return {
        "@id": MANIFEST,
        "@type": "File",
        "name": MANIFEST,
        "description": said,
        "encodingFormat": kind,
        "contentSize": str(sum(64 + 2 + len(name.encode()) + 1 for name in files)),
    }


def _file(folder: Path, name: str, device: str) -> Entity:
    path = folder / name
    said, kind = _TEXTS.get(name, ("", "text/csv"))
    if name.startswith(f"{TABLES}/"):
        said = f"View {path.stem} of the run store as a table; docs/record.md says what is in it"
    elif name.startswith(f"{READINGS}/"):
        meter = f"the meter of {device}" if device else "a meter"
        said = f"What {meter} showed, reading by reading, with the edges of phases"
    return {
        "@id": quote(name),
        "@type": "File",
        "name": path.name,
        "description": said,
        "encodingFormat": kind,
        "contentSize": str(path.stat().st_size),
        "sha256": digest(path),
    }


def _boards(run: RunData) -> list[Entity]:
    """The boards as things, with their meters."""
    found = []
    for device, profile in sorted(run.profiles.items()):
        meter = profile.hardware.meter
        found.append(
            {
                "@id": f"#board-{quote(device)}",
                "@type": "IndividualProduct",
                "name": f"{device}: {profile.hardware.board}",
                "model": profile.hardware.board,
                "description": (
                    f"A board of this kind ({profile.hardware.kind}); its joules are {meter.kind}, "
                    f"of {meter.scope}, by {meter.source}"
                ),
            }
        )
    return found


def _software(run: RunData) -> list[Entity]:
    """The testbed, and what it ran with."""
    versions = dict(run.info.versions)
    version = versions.pop("fimi-testbed", "")
    source = versions.pop("fimi source", "")
    platform = versions.pop("platform", "")
    parts = []
    for name, said in sorted(versions.items()):
        page = f"https://pypi.org/project/{quote(name)}/{quote(str(said))}/"
        if name == "python":
            page = f"https://www.python.org/downloads/release/python-{said.replace('.', '')}/"
        parts.append(_application(page, name, str(said)))
    if run.info.broker:
        name, _, said = run.info.broker.partition(" ")
        page = f"https://pypi.org/project/{quote(name)}/{quote(said)}/"
        parts.append(
            _application("https://mosquitto.org/" if name == "mosquitto" else page, name, said)
        )
    testbed = {
        "@id": TESTBED,
        "@type": "SoftwareApplication",
        "name": "FIMI testbed",
        "url": "https://arxiv.org/abs/2310.13981",
        "version": f"{version} (source {source})" if source else version,
        "softwareRequirements": _refs(parts),
        **({"operatingSystem": platform} if platform else {}),
    }
    return [testbed, *parts]


def _application(page: str, name: str, version: str) -> Entity:
    return {
        "@id": page,
        "@type": "SoftwareApplication",
        "name": name,
        "url": page,
        "version": version,
    }


def _licence(said: str) -> tuple[Any, list[Entity]]:
    """What stands as the licence, and its entity."""
    if not said:
        return NO_LICENCE, []
    if re.match(r"https?://", said):
        address, name = said, said
    elif re.fullmatch(r"[A-Za-z0-9.+-]+", said):
        address, name = f"https://spdx.org/licenses/{said}", said
    else:
        return said, []
    entity = {
        "@id": address,
        "@type": "CreativeWork",
        "name": name,
        "description": f"The files of this bundle may be used under {name}, see {address}.",
    }
    return {"@id": address}, [entity]


def _people(about: About) -> list[Entity]:
    if not about.author:
        return []
    return [{"@id": about.orcid or "#author", "@type": "Person", "name": about.author}]


def _sentence(run: RunData) -> str:
    summary = summarise(run)
    energy = summary.energy
    took = (
        f"All boards took {format_energy(energy.known)}" + (", with gaps" if energy.missing else "")
        if energy.known is not None
        else "No joules are known"
    )
    rounds = len(run.rounds)
    return (
        f"{len(run.profiles)} devices, {plural(rounds, 'round')} of "
        f"{run.info.strategy} on {run.info.dataset.name or 'unknown data'}; {run.info.status}. "
        f"{took}. Made by the FIMI testbed; 'fimi verify' computes every joule again from the "
        "readings of the meters."
    )


def _ref(name: str) -> Entity:
    return {"@id": quote(name)}


def _refs(entities: list[Entity]) -> list[Entity]:
    return [{"@id": entity["@id"]} for entity in entities]
