"""``--dashboard``: where a run is seen while it goes on."""

from __future__ import annotations

import re
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

VARIABLE = "FIMI_DASHBOARD"
PORT = 8765
"""Port where none is given; if it is taken, another one is."""
_HOST = "127.0.0.1"
_OFF = ("off", "no", "none", "false")
_PLACE = re.compile(r"[\w.\[\]:%-]+")


class Place(NamedTuple):
    """Where a dashboard listens.

    Attributes:
        host: address.
        port: port; 0: a free one.
    """

    host: str = _HOST
    port: int = PORT


class PlaceType(click.ParamType):  # type: ignore[type-arg]  # in click 8.1 it is not generic
    """``off``, ``HOST``, ``HOST:PORT`` or ``:PORT``; ``None`` for the first."""

    name = "place"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Place | None:
        """The place."""
        if value is None or isinstance(value, Place):
            return value
        text = str(value).strip()
        if text.lower() in _OFF:
            return None
        if text.lower() == "on":
            return Place()
        if text.isdigit():  # a system takes a number for an address, 0 for all of the machine's
            self.fail(
                f"{text!r}{_from(param, ctx)} is no place for a dashboard: a port has a colon "
                f"before it (:{text}); 'off' is for none.",
                param,
                ctx,
            )
        try:
            split = urlsplit(f"//{text}")
            port = split.port
        except ValueError:
            split, port = urlsplit("//"), None
        whole = split.netloc == text and _PLACE.fullmatch(text)
        if not whole or (split.hostname is None and port is None):
            self.fail(
                f"{text!r}{_from(param, ctx)} is no place for a dashboard: 'off', an address, an "
                "address and a port such as 0.0.0.0:8765 or [::1]:8765, or a port such as :8765.",
                param,
                ctx,
            )
        return Place(split.hostname or _HOST, PORT if port is None else port)


def _from(param: click.Parameter | None, ctx: click.Context | None) -> str:
    """Where a value is from, if that is not the command line."""
    if param is None or ctx is None or param.name is None:
        return ""
    source = ctx.get_parameter_source(param.name)
    return f" ({VARIABLE})" if source is ParameterSource.ENVIRONMENT else ""


DASHBOARD = click.option(
    "--dashboard",
    type=PlaceType(),
    default="on",
    envvar=VARIABLE,
    metavar="[HOST][:PORT]|off",
    help=f"Where the run is seen while it goes on. Default: {_HOST}:{PORT}, or another port. "
    f"Beyond loopback only with the key in the printed address. Variable: {VARIABLE}.",
)
