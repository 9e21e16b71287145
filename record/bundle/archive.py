"""The zip of a bundle: written with the same bytes each time, read as if it came from a stranger.

* :func:`write_archive`  files of a folder, in order, without times, owners or rights
* :func:`unpack`         into a new folder, or a :class:`CrateError` that says what is wrong

Nothing is unpacked whose name leads out of the folder, that is a link, that has another checksum,
or that is larger than it says. A bundle may be as large as the disk has room for, but what is
unpacked is at most :data:`RATIO_MOST` times what came, and :data:`BYTES_MOST`.
"""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from fimi.errors import InputError
from fimi.files import whole_file

RATIO_MOST = 200
"""A store is packed to a tenth; a bomb to a thousandth."""
BYTES_MOST = 64 << 30
FILES_MOST = 100_000
_ROOM_LEAST = 1 << 20
"""So much may always come of a small file, B."""
_WHEN = (1980, 1, 1, 0, 0, 0)
_RIGHTS = (stat.S_IFREG | 0o644) << 16
_UNIX = 3
_BLOCK = 1 << 20
_PACKED_ALREADY = (".onnx", ".safetensors")


class CrateError(InputError, ValueError):
    """A bundle cannot be read; the message says which part, and why."""

    code = "R019"


def write_archive(path: Path, folder: Path, names: Iterable[str]) -> None:
    """Write files into a zip, in this order, whole or not at all.

    Args:
        path: the zip; an earlier one is replaced.
        folder: where the files are.
        names: their names below it, with ``/``.

    Raises:
        OSError: it cannot be written.
    """
    with whole_file(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name in names:
            entry = zipfile.ZipInfo(name, _WHEN)
            entry.external_attr, entry.create_system = _RIGHTS, _UNIX
            stored = name.endswith(_PACKED_ALREADY)
            entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            entry.file_size = (folder / name).stat().st_size
            with (folder / name).open("rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target, _BLOCK)


def unpack(path: Path, folder: Path) -> list[str]:
    """Unpack a bundle into an empty folder; returns the names of its files.

    Raises:
        CrateError: it is no zip, is truncated or damaged, or has what a bundle cannot have.
        OSError: it cannot be read, or there is no room.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _refuse(path, entries)
            for entry in entries:
                _unpack(path, archive, entry, folder)
            return [entry.filename for entry in entries]
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError) as error:
        raise CrateError(
            f"{path}: not a whole zip file ({error}); it was cut off or changed on its way: get "
            "it again"
        ) from error


def _refuse(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Look at what a zip says of its files before any of them is written."""
    if len(entries) > FILES_MOST:
        raise CrateError(f"{path}: has {len(entries)} files, a bundle has at most {FILES_MOST}")
    seen: set[str] = set()
    for entry in entries:
        name = entry.filename
        if _leads_out(name):
            raise CrateError(
                f"{path}: a file is called {name!r}, which leads out of the folder or is no name; "
                "nothing was unpacked"
            )
        if name in seen or name.lower() in seen:
            raise CrateError(f"{path}: has two files called {name!r}; nothing was unpacked")
        seen |= {name, name.lower()}
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise CrateError(f"{path}: {name} is a link or a device; nothing was unpacked")
        if entry.flag_bits & 1:
            raise CrateError(f"{path}: {name} is encrypted; nothing was unpacked")
    whole, came = sum(e.file_size for e in entries), path.stat().st_size
    most = min(BYTES_MOST, max(_ROOM_LEAST, RATIO_MOST * came))
    if whole > most:
        raise CrateError(
            f"{path}: {came} B would become {whole} B, more than the {most} B that are unpacked "
            "of a file of this size; nothing was unpacked"
        )


def _leads_out(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return (
        not name
        or name.startswith("/")
        or name.endswith("/")
        or "\\" in name
        or "\0" in name
        or ":" in name
        or ".." in parts
        or "/".join(parts) != name
    )


def _unpack(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    target = folder / entry.filename
    target.parent.mkdir(parents=True, exist_ok=True)
    left = entry.file_size
    try:
        with archive.open(entry) as source, target.open("xb") as file:
            while block := source.read(_BLOCK):
                left -= len(block)
                if left < 0:
                    raise CrateError(f"{path}: {entry.filename} is larger than it says")
                file.write(block)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise CrateError(f"{path}: {entry.filename} is damaged: {error}") from error
    if left:
        raise CrateError(f"{path}: {entry.filename} is {left} B smaller than it says")
