"""A part of the user's own, named ``module:name``; every package may import this.

* :class:`OwnPart`  a kind of such parts: how one is looked up, and what is said where that fails

Networks, data sets, generators and strategies are found in the same way, and what is wrong with one
is said in the same words. Each kind has its own class of error.
"""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from fimi.errors import FimiError


class OwnPart(Struct, frozen=True, kw_only=True):
    """A kind of parts.

    Attributes:
        what: it is called in messages, such as ``generator.kind``.
        holds: what a module has of it, such as ``the factory``.
        error: makes the error of a message.
        where: the module must be importable.
        wanted: the class of the part; ``None``: anything that can be called.
    """

    what: str
    holds: str
    error: Callable[[str], FimiError]
    where: str = "here"
    wanted: type | None = None

    def find(self, name: str, called: str = "") -> Any:
        """The part of this name; whoever asks knows its type.

        Args:
            name: ``module:name``.
            called: what messages call it, where that is not its name.

        Raises:
            FimiError: the module cannot be imported, lacks the name, or holds something else there;
                of the class of this kind.
        """
        place, _, attribute = name.partition(":")
        it = f"{self.what} {(called or name)!r}"
        hint = (
            f"the module must be importable {self.where} and hold {self.holds} (export "
            "PYTHONPATH=FOLDER)"
        )
        try:
            module = importlib.import_module(place)
        except (ImportError, ValueError) as error:
            raise self.error(f"{it}: {error}; {hint}") from error
        except Exception as error:
            line = traceback.extract_tb(error.__traceback__)[-1]
            raise self.error(
                f"{it}: importing {place} raised {type(error).__name__}: {error} "
                f"({line.filename}:{line.lineno})"
            ) from error
        try:
            found = getattr(module, attribute)
        except AttributeError as error:
            raise self.error(f"{it}: {error}; {hint}") from error
        fits = callable(found) if self.wanted is None else isinstance(found, self.wanted)
        if not fits:
            wanted = self.wanted
            a_what = "function" if wanted is None else f"{wanted.__module__}.{wanted.__qualname__}"
            raise self.error(f"{it} is a {type(found).__name__}, not a {a_what}")
        return found
