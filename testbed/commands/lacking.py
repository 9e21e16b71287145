"""What a command says where a package is missing that it needs: which extra of fimi brings it."""

from __future__ import annotations

import importlib.metadata
import re

_DISTRIBUTION = "fimi-testbed"
_OPTIONAL = re.compile(r"""([A-Za-z0-9_.-]+)[^;]*;.*\bextra\s*==\s*['"]([^'"]+)['"]""")
_NOT_FOR_USERS = ("all", "dev")


def lacking(error: ModuleNotFoundError, command: str) -> str | None:
    """What to install, as a sentence; ``None`` if it is no package of an extra that is missing.

    Args:
        error: the module was not found.
        command: first word of the command that needs it.
    """
    package = _plain((error.name or "").split(".")[0])
    try:
        requires = importlib.metadata.requires(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = (_OPTIONAL.match(text) for text in requires)
    extras = [m[2] for m in found if m and _plain(m[1]) == package and m[2] not in _NOT_FOR_USERS]
    if not extras:
        return None
    likely = ("torch",) if command == "agent" else (command, "coordinator")
    extra = next((each for each in likely if each in extras), extras[0])
    return (
        f"'fimi {command}' needs the package {package}, which is not installed here: "
        f"pip install '{_DISTRIBUTION}[{extra}]'"
    )


def _plain(name: str) -> str:
    """A name as packages are compared by it."""
    return re.sub(r"[-_.]+", "-", name).lower()
