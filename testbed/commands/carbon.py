"""``--carbon KEY=VALUE``: an intensity, and what goes with it, that is given after the run.

The values are checked as those of a configuration, together with those that the run has already.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from fimi.testbed.configuration import load as configuration
from fimi.testbed.configuration.sections import ConfigError

CARBON = click.option(
    "--carbon",
    multiple=True,
    metavar="KEY=VALUE",
    help="A carbon figure with this key of section carbon: intensity_g_per_kwh=380, source='…'.",
)
_PREFIX = "carbon."
_INTENSITY = "intensity_g_per_kwh"


def carbon_of(texts: tuple[str, ...], run: Path) -> dict[str, Any]:
    """Settings of a carbon figure for a run, by their names; none where none are given.

    Args:
        texts: as they were given.
        run: the run, whose own settings they are put before.

    Raises:
        ConfigError: a key is unknown, or a value is impossible.
        ReportError: the run cannot be read.
    """
    if not texts:
        return {}
    from fimi.record.reader import read_info

    info, _ = read_info(run)
    found = checked(texts, info.config)
    if _INTENSITY not in found and not info.config.get(_PREFIX + _INTENSITY):
        raise ConfigError(
            f"--carbon: the run has no carbon intensity, and without one there is no figure; add "
            f"--carbon {_INTENSITY}=… and its source",
            code="C004",
        )
    return found


def checked(texts: tuple[str, ...], stored: Mapping[str, Any]) -> dict[str, Any]:
    """The same for a stored configuration.

    Raises:
        ConfigError: a key is unknown, or a value is impossible.
    """
    known = {key: each for key, each in configuration.fields() if key.startswith(_PREFIX)}
    given: dict[str, tuple[Any, str]] = {}
    for text in texts:
        if "=" not in text:
            raise ConfigError(
                f"--carbon {text!r}: write KEY=VALUE, for example intensity_g_per_kwh=380; "
                "'fimi init' lists the keys of section carbon",
                code="U001",
            )
        key, value = configuration.parse_setting(
            text if text.startswith(_PREFIX) else _PREFIX + text, "--carbon"
        )
        if isinstance(known[key].default, str) and not isinstance(value, str):
            value = text.partition("=")[2].strip()  # a year is a text here
        given[key] = (value, "--carbon")
    before = {key: (value, "the run") for key, value in stored.items() if key in known}
    settled = configuration.values(configuration.load(None, given, stored=before).config)
    return {key.removeprefix(_PREFIX): settled[key] for key in given}
