"""A configuration from files and options: every effective value, and its origin.

A configuration is TOML with one table per section. The sections
(:mod:`fimi.testbed.configuration.sections`) are frozen types whose fields carry their own
documentation, so ``fimi init`` (the commented template), ``fimi check`` (every effective value with
its origin) and validation always agree. Unknown keys are refused.
"""

from __future__ import annotations

import re
import sys
import textwrap
import typing
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec

from fimi.coordinator.strategies import STRATEGIES
from fimi.energy import units
from fimi.energy.toml_text import quoted
from fimi.errors import InputError
from fimi.learning.data.registry import DATASETS
from fimi.learning.networks.built_in_cost import BUILT_IN
from fimi.testbed.configuration import rules, strategy_config
from fimi.testbed.configuration.scenario import Scenario
from fimi.testbed.configuration.sections import GENERATOR_KINDS, Config
from fimi.testbed.configuration.sections import ConfigError as ConfigError
from fimi.testbed.nearest import hint, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE_NAME = "fimi.toml"
"""Name of the file in the working folder that is read if no other file is named."""
_NAMED: dict[str, Iterable[str]] = {
    "run.strategy": STRATEGIES,
    "data.dataset": DATASETS,
    "training.model": BUILT_IN,
    "generator.kind": GENERATOR_KINDS,
}
"""Keys whose values are names from a table and whose type is no ``Literal``, with these names."""


def default_file() -> Path | None:
    """``fimi.toml`` if the working folder has one."""
    path = Path(FILE_NAME)
    return path if path.is_file() else None


def load(
    path: Path | None = None,
    overrides: Mapping[str, tuple[Any, str]] | None = None,
    *,
    stored: Mapping[str, tuple[Any, str]] | None = None,
) -> Scenario:
    """Read a configuration file and replace values by those of the command line.

    Args:
        path: TOML file, or ``None`` for the defaults.
        overrides: dotted key to (value, option name), from the command line.
        stored: the same of a run that is gone on with, in place of the defaults.

    Raises:
        ConfigError: the file cannot be read, a key is unknown, or a value has the wrong type or is
            impossible.
    """
    origins = {key: "default" for key, _ in fields()}
    tree: dict[str, dict[str, Any]] = {}
    for dotted, (value, origin) in (stored or {}).items():
        require_known(dotted, "the stored configuration")
        section, key = dotted.split(".")
        tree.setdefault(section, {})[key] = value
        origins[dotted] = origin
    if path is not None:
        for section, table in read_toml(path, absent="; 'fimi init' writes one").items():
            if not isinstance(table, dict):
                raise ConfigError(
                    f"{path}: {section} = {table!r} stands outside any table; keys belong to a "
                    f"section: {', '.join(f'[{name}]' for name in Config.__struct_fields__)}",
                    code="C002",
                )
            for key, value in table.items():
                require_known(f"{section}.{key}", str(path))
                tree.setdefault(section, {})[key] = value
                origins[f"{section}.{key}"] = str(path)
    for dotted, (value, option) in (overrides or {}).items():
        section, key = dotted.split(".")
        tree.setdefault(section, {})[key] = value
        origins[dotted] = option
    try:
        config = msgspec.convert(tree, Config, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(error, tree, origins), code="C003") from error
    rules.check(config, origins)
    config = strategy_config.settle(config, origins)
    return Scenario(config=config, origins=origins)


def parse_setting(text: str, where: str = "--set") -> tuple[str, Any]:
    """Key and value of ``section.key=value``; the value is TOML, or a bare word.

    Raises:
        ConfigError: there is no such key, or the text has another form.
    """
    dotted, equals, raw = text.partition("=")
    dotted = dotted.strip()
    if not equals or dotted.count(".") != 1:
        raise ConfigError(
            f"{where} {text!r}: write section.key=value, for example plan.deadline_s=20",
            code="C002",
        )
    require_known(dotted, where)
    try:
        return dotted, tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return dotted, raw.strip()


@cache
def fields() -> tuple[tuple[str, msgspec.inspect.Field], ...]:
    """Every key of the configuration, dotted, with its type and default."""
    return tuple(
        (f"{section.name}.{field.name}", typing.cast("msgspec.inspect.Field", field))
        for section in msgspec.structs.fields(Config)
        for field in msgspec.structs.fields(section.type)
    )


def template() -> str:
    """A configuration with every key and its description; the defaults are comments.

    So the values of a file are only those that differ from the defaults.
    """
    lines = [
        "# Configuration of a FIMI federation.",
        "# A key behind '#' without a space is at its default: take the '#' away to set another",
        "# value. 'fimi check' shows every value with its origin and says whether there is a plan.",
        "",
    ]
    for section in msgspec.structs.fields(Config):
        lines += [f"# {_summary(section.type)}", f"[{section.name}]"]
        for field in msgspec.structs.fields(section.type):
            lines += [f"# {line}" for line in textwrap.wrap(_description(field.type), 96)]
            lines += [f"#{field.name} = {to_toml(field.default)}", ""]
    return "\n".join(lines)


def changed(config: Config) -> dict[str, Any]:
    """Dotted key to default value of every key that is not at its default."""
    defaults = values(Config())
    return {key: defaults[key] for key, value in values(config).items() if value != defaults[key]}


def to_toml(value: object) -> str:
    """A value in TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return "[" + ", ".join(to_toml(item) for item in value) + "]"
    if isinstance(value, float):
        short = f"{value:.6g}".replace("e+0", "e")
        return short if abs(value) >= 1e6 and float(short) == value else repr(value)
    return quoted(value) if isinstance(value, str) else msgspec.json.encode(value).decode()


def require_known(dotted: str, where: str) -> None:
    """Make sure that there is such a key.

    Args:
        dotted: ``section.key``.
        where: where it was read, for the error.

    Raises:
        ConfigError: there is no such key; suggests the nearest one.
    """
    known = dict(fields())
    if dotted in known:
        return
    section, key = dotted.split(".", 1)
    sections = Config.__struct_fields__
    if section not in sections:
        meant = nearest(section, sections)
        raise ConfigError(
            f"{where}: unknown section [{section}]; "
            + (f"did you mean [{meant}]? " if meant else "")
            + f"there are {', '.join(f'[{name}]' for name in sections)}",
            code="C002",
        )
    same = [name.split(".")[1] for name in known if name.startswith(f"{section}.")]
    elsewhere = [name for name in known if name.endswith(f".{key}")]
    close = nearest(key, same)
    said = (
        f"did you mean {close!r}?"
        if close
        else f"it belongs to [{elsewhere[0].split('.')[0]}]"
        if elsewhere
        else f"[{section}] has {', '.join(same)}"
    )
    raise ConfigError(f"{where}: unknown key {key!r} in [{section}]; {said}", code="C002")


def values(config: Config) -> dict[str, Any]:
    """Dotted key to value, in the order of the template."""
    return {
        f"{section}.{field}": getattr(getattr(config, section), field)
        for section in config.__struct_fields__
        for field in getattr(config, section).__struct_fields__
    }


def read_toml(
    path: Path, *, absent: str, problem: type[InputError] = ConfigError
) -> dict[str, Any]:
    """The tables of a TOML file.

    Args:
        path: of the file.
        absent: what to do if there is no such file, for the error.
        problem: the type of the errors.

    Raises:
        InputError: of that type; the file cannot be read, or is not TOML.
    """
    try:
        with path.open("rb") as file:
            loaded: dict[str, Any] = tomllib.load(file)
            return loaded
    except FileNotFoundError as error:
        raise problem(f"{path}: no such file{absent}", code="C001") from error
    except OSError as error:
        raise problem(f"{path}: cannot be read: {error.strerror}", code="C001") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise problem(f"{path}: not TOML: {error}", code="C001") from error


_NAME = "[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
"""Part of the patterns of names."""


def _explain(
    error: msgspec.ValidationError, tree: dict[str, dict[str, Any]], origins: Mapping[str, str]
) -> str:
    text, _, place = str(error).partition(" - at `$.")
    dotted = place.rstrip("`").split("[")[0]
    section, _, key = dotted.partition(".")
    value = tree.get(section, {}).get(key)
    what = text.replace("Expected", "expected").replace("Object", "object").strip()
    names = _names(dotted)
    if " matching regex " in what:
        plain = _NAME in what and "=" not in what
        what = (
            "at most 64 letters, digits, '_', '.' and '-', the first a letter or digit"
            if plain
            else "it is not of the form that is described here"
        )
    if isinstance(value, str) and names:
        what = f"no such name; {hint(value, names)}"
    message = f"{origins.get(dotted, dotted)}: {dotted} = {value!r}: {what}"
    if field := dict(fields()).get(dotted):
        message += f"\n  {dotted}: {_description(field.type)} Default: {to_toml(field.default)}"
    if said := _meant(key, error_place=place, value=value, text=text):
        message += f"\n  {said}."
    asks_number = text.startswith(("Expected `float", "Expected `int"))
    if isinstance(value, str) and asks_number and any(c.isdigit() for c in value):
        message += "\n  Write a number without a unit; the key's name says the unit."
    return message


def _meant(key: str, *, error_place: str, value: Any, text: str) -> str:
    """The unit that would explain a number that is too large or too small; empty if none would."""
    index = re.search(r"\[(\d+)\]", error_place)
    if index and isinstance(value, list):
        value = value[int(index[1])]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    share = re.search(r"<=? 1(\.0)?$", text)
    return units.hint("error_max" if share else key, float(value))


def _names(dotted: str) -> tuple[str, ...]:
    """The names that a key can have; empty if its value is not a name."""
    if dotted in _NAMED:
        return tuple(_NAMED[dotted])
    field = dict(fields()).get(dotted)
    choice = typing.get_args(field.type)[0] if field else None
    return typing.get_args(choice) if typing.get_origin(choice) is Literal else ()


def _description(annotation: Any) -> str:
    for extra in typing.get_args(annotation)[1:]:
        if isinstance(extra, str):
            return extra
    raise TypeError(f"a configuration key has no description: {annotation}")


def _summary(section: type) -> str:
    return (section.__doc__ or "").strip().splitlines()[0]
