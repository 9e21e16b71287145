"""The contract of a run: one typed description of its data, with one digest.

The coordinator makes it; it travels to every device and generator node of the run. Whoever cannot
meet it refuses and names the keys that differ.
"""

from __future__ import annotations

import hashlib

import msgspec
from msgspec import Struct

PROTOCOL = 2
"""Version of the conversation between the processes; both sides must have the same."""


class Contract(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the data of a run are.

    Attributes:
        protocol: version of the conversation.
        dataset: name of the data set.
        class_names: one per class.
        image_shape: channels, height, width.
    """

    protocol: int = PROTOCOL
    dataset: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]

    @property
    def digest(self) -> str:
        """SHA-256 of all values, hexadecimal; equal in every process."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()
