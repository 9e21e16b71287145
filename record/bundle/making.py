"""Make the bundle of a run.

:func:`make` lays the files out in a folder that is thrown away afterwards, describes them, and
writes the zip: all of it, or nothing.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from fimi.record.bundle.archive import write_archive
from fimi.record.bundle.contents import (
    MANIFEST,
    METADATA,
    READINGS,
    digest,
    lay_out,
    manifest,
    names_of,
)
from fimi.record.bundle.crate import About, metadata
from fimi.record.record import RunData


class Made(Struct, frozen=True, kw_only=True):
    """A bundle that was made.

    Attributes:
        path: the zip.
        digest: its SHA-256.
        size_bytes: its size.
        files: how many files are in it.
        run: as it is in the bundle.
        readings: devices whose readings are in it.
    """

    path: Path
    digest: str
    size_bytes: int
    files: int
    run: RunData
    readings: int


def make(
    run_folder: Path,
    path: Path,
    about: About,
    *,
    toml: Callable[[object], str],
    names: bool = True,
) -> Made:
    """Make the bundle of a run.

    Args:
        run_folder: of the run; only read.
        path: where the zip goes; an earlier one is replaced.
        about: what its author says.
        toml: a value as TOML.
        names: whether names of devices, hosts and users stay as they are.

    Raises:
        fimi.record.record.ReportError: there is no run, or it cannot be read.
        OSError: a file cannot be read or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".fimi-bundle-", dir=path.parent))
    try:
        run = lay_out(run_folder, folder, toml=toml, names=names)
        described = msgspec.json.encode(metadata(run, folder, about))
        (folder / METADATA).write_bytes(msgspec.json.format(described, indent=2) + b"\n")
        (folder / MANIFEST).write_text(manifest(folder), encoding="utf-8")
        files = names_of(folder)
        write_archive(path, folder, files)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Made(
        path=path,
        digest=digest(path),
        size_bytes=path.stat().st_size,
        files=len(files),
        run=run,
        readings=sum(name.startswith(f"{READINGS}/") for name in files),
    )
