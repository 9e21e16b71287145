"""The credentials of a fleet as text: who has some, until when, and what ends soon."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timezone
from typing import Any

from fimi.messaging.credentials.decided import Credential
from fimi.messaging.credentials.folder import FleetFolder
from fimi.report.layout import Paper, table
from fimi.testbed.commands.reaching import ends_in_words


def lines(folder: FleetFolder, paper: Paper) -> Iterator[str]:
    """Everybody who has credentials, and until when."""
    decided = folder.decided
    today = datetime.now(timezone.utc).date()
    kind = "certificates" if decided.by_certificate else "passwords"
    yield (
        f"fleet {decided.fleet}: broker {', '.join(decided.hosts)}, port {decided.port}, {kind} "
        "of peers"
    )
    rows = [(each.name, each.role, *_until(each, today)) for each in folder.credentials()]
    yield table(("name", "role", "until", ""), rows, paper=paper)


def _until(each: Credential, today: date) -> tuple[str, str]:
    if each.revoked is not None:
        return "", f"revoked on {each.revoked}"
    left = each.days_left(today)
    if left is None:
        return "no end", ""
    return str(each.expires), ends_in_words(left)


def body(folder: FleetFolder) -> dict[str, Any]:
    """The same as a JSON document."""
    return {
        "fleet": folder.decided.fleet,
        "hosts": folder.decided.hosts,
        "port": folder.decided.port,
        "by": "certificate" if folder.decided.by_certificate else "password",
        "credentials": folder.credentials(),
    }


def warnings(folder: FleetFolder) -> Iterator[str]:
    """What ends soon, or has ended, and that the broker runs as root; and what to do."""
    if folder.ownership.warning:
        yield f"warning: {folder.ownership.warning}"
    today = datetime.now(timezone.utc).date()
    for each in folder.ending():
        cure = f"fimi fleet rotate {each.name} --folder {folder.path}"
        if each.name == "authority":
            cure = "begin a new fleet: fimi fleet init"
        words = ends_in_words(each.days_left(today) or 0)
        yield f"warning: the certificate of {each.name} {words}; {cure}"
