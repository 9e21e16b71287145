"""Which code runs: the version that is installed, and a digest of its modules."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.resources
import os
from functools import cache
from pathlib import Path


@cache
def version() -> str:
    """The version of fimi that is installed; empty where it was never installed."""
    try:
        return importlib.metadata.version("fimi-testbed")
    except importlib.metadata.PackageNotFoundError:
        return ""


@cache
def source_digest() -> str:
    """The first digits of the SHA-256 of all modules of fimi: a version does not tell changes."""
    digest = hashlib.sha256()
    root = Path(str(importlib.resources.files("fimi")))
    found = []
    for folder, _, names in os.walk(root, followlinks=True):
        found += [Path(folder, name) for name in names if name.endswith(".py")]
    for path in sorted(found):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
