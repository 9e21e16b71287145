"""What exported files are, for programs: a Data Package with Table Schemas.

* :func:`package`   the content of ``datapackage.json``

Data Package and Table Schema are those of the Frictionless Data standard, version 2
(https://datapackage.org). ``unit``, ``contains`` and ``fimi`` are ours; the standard leaves room
for them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fimi.record.description import StoreColumn
from fimi.record.export.files import ExportFormat, WrittenFile
from fimi.record.export.tables import TakenTable
from fimi.record.record import RunInfo

PACKAGE_NAME = "datapackage.json"

_PROFILE = "https://datapackage.org/profiles/2.0/{}.json"
_TYPES = {"TEXT": "string", "INTEGER": "integer", "REAL": "number", "JSON": "any"}
_MEDIA = {
    "csv": "text/csv",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
}


def package(
    info: RunInfo,
    version: int,
    written: Sequence[tuple[TakenTable, Path, WrittenFile]],
    output: ExportFormat,
) -> dict[str, Any]:
    """The description of an exported run.

    Args:
        info: of the run.
        version: of its store.
        written: each table with its file and what that holds.
        output: format of the files.
    """
    return {
        "$schema": _PROFILE.format("datapackage"),
        "name": _name(info.run),
        "title": f"{info.run}: a run of the FIMI testbed",
        "description": "Tables of a federated learning run. Energies are in joules, and beside "
        "each stands what it is: measured, modelled or emulated, by which meter or formula, of "
        "which part of a device. A cell that is missing is not known; it is never 0.",
        "fimi": {
            "run": info.run,
            "instance": info.instance,
            "strategy": info.strategy,
            "seed": info.seed,
            "status": info.status,
            "started_at": info.started_at,
            "finished_at": info.finished_at,
            "store_version": version,
            "versions": info.versions,
            "guarded_cells": sum(each.guarded for _, _, each in written),
        },
        "resources": [_resource(*each, output) for each in written],
    }


def _resource(
    table: TakenTable, path: Path, written: WrittenFile, output: ExportFormat
) -> dict[str, Any]:
    data = path.read_bytes()
    found: dict[str, Any] = {
        "$schema": _PROFILE.format("dataresource"),
        "name": table.name,
        "path": path.name,
        "type": "table",
        "description": table.about,
        "format": output,
        "mediatype": _MEDIA[output],
        "bytes": len(data),
        "hash": f"sha256:{hashlib.sha256(data).hexdigest()}",
        "schema": _schema(table),
        "fimi": {"rows": written.rows, "guarded_cells": written.guarded},
    }
    if output == "csv":
        found["encoding"] = "utf-8"
        found["dialect"] = {
            "$schema": _PROFILE.format("tabledialect"),
            "delimiter": ",",
            "lineTerminator": "\r\n",
            "quoteChar": '"',
            "doubleQuote": True,
            "header": True,
        }
    return found


def _schema(table: TakenTable) -> dict[str, Any]:
    found: dict[str, Any] = {
        "$schema": _PROFILE.format("tableschema"),
        "fields": [_field(column, column.name in table.primary) for column in table.columns],
        "missingValues": [""],
    }
    if table.primary:
        found["primaryKey"] = list(table.primary)
    return found


def _field(column: StoreColumn, identifies: bool) -> Mapping[str, Any]:
    """A column; only what identifies a row is always there, whatever version wrote the store."""
    found: dict[str, Any] = {
        "name": column.name,
        "type": _TYPES[column.kind],
        "description": column.meaning,
    }
    if column.unit:
        found["unit"] = column.unit
    if column.kind == "JSON":
        found["contains"] = "JSON"
    if identifies:
        found["constraints"] = {"required": True}
    return found


def _name(run: str) -> str:
    """A name as the standard has it: small letters, digits, ``.``, ``_`` and ``-``."""
    return re.sub(r"[^a-z0-9._-]+", "-", run.lower()).strip("-") or "run"
