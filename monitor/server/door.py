"""The file in a run folder that says where the run's dashboard is, and its key.

``dashboard.json`` is there while the run goes on; only who started the run can read it. Commands
find a running coordinator by it.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from fimi.errors import SurroundingsError
from fimi.record.clean import clean

NAME, NEW = "dashboard.json", "dashboard.json.new"
HEADER = "X-FIMI-Key"
"""In which a command sends the key."""


class NoDoorError(SurroundingsError, RuntimeError):
    """A run has no dashboard at present; the message says why, as far as it is known."""

    code = "R015"


class Door(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a dashboard is.

    Attributes:
        url: of the page, without the key.
        key: lets its holder act.
        pid: of the coordinator's process.
        host: name of its machine; a run folder may be looked at from several.
    """

    url: str
    key: str
    pid: int
    host: str = ""

    @property
    def elsewhere(self) -> str:
        """The name of the machine if it is another one than this; empty otherwise."""
        return self.host if self.host != socket.gethostname() else ""

    @property
    def with_key(self) -> str:
        """The address that a person opens."""
        return f"{self.url}?key={self.key}"


def put_up(folder: Path, url: str, key: str) -> Door:
    """Write the file; readable by this user only from its first moment on.

    Raises:
        OSError: it cannot be written.
    """
    door = Door(url=url, key=key, pid=os.getpid(), host=socket.gethostname())
    path = folder / NAME
    beside = folder / NEW
    with contextlib.suppress(FileNotFoundError):
        beside.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(beside, flags, 0o600), "wb") as file:
        file.write(msgspec.json.encode(door))
    beside.replace(path)
    return door


def find(folder: Path) -> Door:
    """The dashboard of a run.

    Raises:
        NoDoorError: there is none.
    """
    path = folder / NAME
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Door)
        place = urlsplit(found.url)
        if place.scheme != "http" or not place.hostname or not place.port:
            raise ValueError(f"{found.url!r} is no address of a dashboard")
        if not (found.key.isascii() and found.key.isprintable()):
            raise ValueError("its key is none")
    except FileNotFoundError:
        raise NoDoorError(
            f"run {folder.name} has no dashboard now: it is not running here, or it was started "
            "with --dashboard off"
        ) from None
    except PermissionError:
        raise NoDoorError(
            f"{path} belongs to another user: only who started the run may act on it"
        ) from None
    except (OSError, ValueError) as error:
        raise NoDoorError(f"{path} cannot be read: {clean(error)}") from error
    return found


def take_down(folder: Path) -> None:
    """Remove the file if it is this process's."""
    with contextlib.suppress(NoDoorError, OSError):
        if find(folder).pid == os.getpid():
            (folder / NAME).unlink()
