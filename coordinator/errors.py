"""What keeps a federation from starting or going on."""

from __future__ import annotations


class FederationError(RuntimeError):
    """A federation cannot start or go on; the message says what is missing."""
