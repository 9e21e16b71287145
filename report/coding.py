"""What codings of models and updates did, in words and as a table.

* :func:`words`         one line for the terminal and the page
* :func:`coding_table`  one row per device
"""

from __future__ import annotations

from fimi.record.clean import clean
from fimi.record.codings import CodingFigures, UpdateFigures
from fimi.report.markup import Column, Html, table
from fimi.report.words import alike, byte_count, cell, percent, small_percent, whole


def words(found: CodingFigures | None) -> str:
    """What was coded, in how many bytes, with which error; empty where nothing was."""
    if found is None:
        return ""
    said = []
    if (all_ := found.updates) is not None:
        count = all_.updates
        planned = ""
        if all_.planned_bytes is not None and all_.planned_bytes != all_.coded_bytes:
            planned = f", planned {byte_count(all_.planned_bytes / count)}"
        said.append(
            f"updates {clean(all_.coding)}: {byte_count(all_.coded_bytes / count)} of "
            f"{byte_count(all_.raw_bytes / count)} on average ({percent(all_.share)}){planned}; "
            f"relative error of a change {small_percent(100.0 * all_.error)}, at most "
            f"{small_percent(100.0 * all_.error_max)}; sending them took {whole(all_.upload)}"
        )
    if found.model_coding:
        said.append(
            f"model {clean(found.model_coding)}: {byte_count(found.model_coded_bytes)} of "
            f"{byte_count(found.model_raw_bytes)}; relative error "
            f"{small_percent(100.0 * (found.model_error or 0.0))}"
        )
    return "; ".join(said)


def coding_table(found: CodingFigures | None) -> Html | None:
    """One row per device that sent coded updates."""
    if found is None or not found.devices:
        return None
    bare = alike([each.upload.known for each in found.devices])
    kind = next((e.upload.known.kind for e in found.devices if e.upload.known), "")
    columns: list[Column[UpdateFigures]] = [
        Column("Device", "", lambda u: u.device, "name"),
        Column("Updates", "", lambda u: str(u.updates)),
        Column("Coding", "", lambda u: u.coding, "name"),
        Column("Bytes", "single precision", lambda u: byte_count(u.raw_bytes)),
        Column("Bytes", "sent", lambda u: byte_count(u.coded_bytes)),
        Column("Bytes", "planned", lambda u: byte_count(u.planned_bytes)),
        Column("Saved", "of the bytes", lambda u: percent(1.0 - u.share if u.share else None)),
        Column("Upload", kind if bare else "energy", lambda u: cell(u.upload.value, bare=bare)),
        Column("Error", "mean", lambda u: small_percent(100.0 * u.error)),
        Column("Error", "largest", lambda u: small_percent(100.0 * u.error_max)),
    ]
    return table(columns, found.devices, caption="Codings of updates")
