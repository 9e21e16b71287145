"""The zip of a bundle: written with the same bytes each time, read as if it came from a stranger.

* :func:`write_archive`  files of a folder, in order, without times, owners or rights
* :func:`unpack`         into a new folder, or a :class:`CrateError` that says what is wrong

Nothing is unpacked whose name leads out of the folder, that is a link, that has another checksum,
or that is larger than it says. A bundle may be as large as the disk has room for, but what is
unpacked is at most :data:`RATIO_MOST` times what came, and :data:`BYTES_MOST`.
"""

from __future__ import annotations

import errno
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
_NAME_MOST, _PART_MOST = 1000, 200
_ELSE = ". It is no bundle that 'fimi bundle' has written: get it from who made it"
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
    with _faults(path, "not a whole zip file"), path.open("rb") as file:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            _refuse(path, entries)
            for entry in entries:
                with _faults(path, f"{entry.filename} is damaged"):
                    _unpack(path, archive, entry, folder)
            return [entry.filename for entry in entries]


@contextmanager
def _faults(path: Path, what: str) -> Iterator[None]:
    """Whatever a damaged zip makes its reader say is the error of a bundle.

    What the disk says stays as it is: only a place that cannot be in a file is the zip's own fault.
    """
    try:
        yield
    except CrateError:
        raise
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise CrateError(_damaged(path, what, "a place before its beginning")) from error
    except (
        *(zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, EOFError),
        *(NotImplementedError, RuntimeError, ValueError, ArithmeticError, LookupError),
    ) as error:
        raise CrateError(_damaged(path, what, error)) from error


def _damaged(path: Path, what: str, why: object) -> str:
    return f"{path}: {what} ({why}); it was cut off or changed on its way: get it again"


def _refuse(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Look at what a zip says of its files before any of them is written."""
    if len(entries) > FILES_MOST:
        raise CrateError(
            f"{path}: has {len(entries)} files, a bundle has at most {FILES_MOST}; nothing was "
            f"unpacked{_ELSE}"
        )
    seen: set[str] = set()
    for entry in entries:
        if said := _fault(entry, seen):
            raise CrateError(f"{path}: {said}; nothing was unpacked{_ELSE}")
        seen.add(entry.filename.lower())
    for name in seen:
        if inside := next((str(p) for p in PurePosixPath(name).parents if str(p) in seen), ""):
            raise CrateError(
                f"{path}: {inside!r} is a file, and the folder of {name!r}; nothing was unpacked"
                f"{_ELSE}"
            )
    whole, came = sum(e.file_size for e in entries), path.stat().st_size
    most = min(BYTES_MOST, max(_ROOM_LEAST, RATIO_MOST * came))
    if whole > most:
        raise CrateError(
            f"{path}: {came} B would become {whole} B, more than the {most} B that are unpacked "
            f"of a file of this size; nothing was unpacked{_ELSE}"
        )


def _fault(entry: zipfile.ZipInfo, seen: set[str]) -> str:
    """Why a bundle cannot have a file, in words; empty if it can."""
    name = entry.filename
    if _leads_out(name):
        return f"a file is called {name!r}, which leads out of the folder or is no name"
    if len(name) > _NAME_MOST or any(len(p.encode()) > _PART_MOST for p in name.split("/")):
        return f"a file has a name of {len(name)} letters, {name[:40]!r}…, which is too long"
    if name.lower() in seen:
        return f"has two files called {name!r}, or alike but for the case of letters"
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
        return f"{name} is a link or a device"
    if entry.flag_bits & 1:
        return f"{name} is encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"{name} is packed by method {entry.compress_type}, a bundle's files by 0 or 8"
    return ""


def _leads_out(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return (
        not name
        or name.startswith("/")
        or name.endswith("/")
        or "\\" in name
        or ":" in name
        or not name.isprintable()
        or ".." in parts
        or "/".join(parts) != name
    )


def _unpack(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    target = folder / entry.filename
    target.parent.mkdir(parents=True, exist_ok=True)
    left = entry.file_size
    with archive.open(entry) as source, target.open("xb") as file:
        while block := source.read(_BLOCK):
            left -= len(block)
            if left < 0:
                raise CrateError(_damaged(path, entry.filename, "it is larger than it says"))
            file.write(block)
    if left:
        raise CrateError(_damaged(path, entry.filename, f"it is {left} B smaller than it says"))
