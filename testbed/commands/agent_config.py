"""The file of ``fimi agent run --config``: its keys are the options of that command.

A key is an option's name with ``_`` for ``-``; options that may be given several times are lists.
Paths are absolute, because a service runs in no folder of its user's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from fimi.errors import InputError
from fimi.testbed.nearest import hint


class AgentConfigError(InputError, ValueError):
    """The file cannot be used; the message says which key, why, and what to do."""

    code = "C010"


def read_agent_config(path: Path, options: Mapping[str, click.Option]) -> dict[str, Any]:
    """Read the file.

    Args:
        path: the file, TOML.
        options: the command's options, by the names of their parameters.

    Returns:
        Values by parameter, as ``click`` takes them for defaults.

    Raises:
        AgentConfigError: it cannot be read, or has a key or a value that no option takes.
    """
    try:
        found = msgspec.toml.decode(path.read_bytes())
    except OSError as error:
        raise AgentConfigError(
            f"{path}: {error.strerror}; 'fimi agent install' writes such a file"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise AgentConfigError(f"{path}: {error}") from error
    known = {_key(each): name for name, each in options.items() if not each.hidden}
    given: dict[str, Any] = {}
    for key, value in found.items():
        if isinstance(value, dict):
            raise AgentConfigError(
                f"{path}: [{key}] is a table; an agent's file has none. The configuration of runs "
                "(fimi.toml) is the coordinator's"
            )
        if key not in known:
            raise AgentConfigError(f"{path}: no key {key!r}; {hint(key, known)}")
        given[known[key]] = _value(path, key, value, options[known[key]])
    return given


def _key(option: click.Option) -> str:
    """An option's name as a key."""
    longest = max(option.opts, key=len)
    return longest.lstrip("-").replace("-", "_")


def _value(path: Path, key: str, value: Any, option: click.Option) -> Any:
    """The value of a key, if the option can take it."""
    if option.multiple:
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise AgentConfigError(f'{path}: {key} is {value!r}; write a list: ["…", "…"]')
        return value
    counts = isinstance(option.type, click.types.IntParamType | click.types.FloatParamType)
    taken: tuple[type, ...] = (bool,) if option.is_flag else (int, float) if counts else (str,)
    if not isinstance(value, taken) or option.is_flag != isinstance(value, bool):
        wanted = "true or false" if option.is_flag else "a number" if counts else "a text"
        raise AgentConfigError(f"{path}: {key} is {value!r}; write {wanted}")
    is_path = isinstance(option.type, click.Path)
    if is_path and not Path(str(value)).is_absolute():
        raise AgentConfigError(f"{path}: {key} is {value!r}; write the whole path, from / on")
    return value
