"""What is wrong with what a person has asked for."""

from __future__ import annotations


class ConfigError(ValueError):
    """A configuration cannot be used; the message says which key of which file, and what to do."""
