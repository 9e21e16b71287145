"""A place for the folder that PyTorch makes for its compiler as soon as diffusers is imported.

By default this is ``torchinductor_<user>`` among the temporary files. It would stay there, empty,
because nothing is compiled here.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
_PREFIX = "fimi-torch-"


@contextmanager
def torch_cache() -> Iterator[None]:
    """Give PyTorch, here and in child processes, a folder that is removed at the end.

    A child that uses its parent's folder removes it as well, in case the parent was killed. A
    folder that the user has set is not changed.
    """
    given = os.environ.get(_VARIABLE)
    folder = given or tempfile.mkdtemp(prefix=_PREFIX)
    os.environ[_VARIABLE] = folder
    try:
        yield
    finally:
        if given is None:
            del os.environ[_VARIABLE]
        if Path(folder).name.startswith(_PREFIX):
            shutil.rmtree(folder, ignore_errors=True)
