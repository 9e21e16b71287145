"""How commands reach a broker: ``--broker URL`` or ``--bundle FILE``, and ``--insecure``.

* :data:`BROKER`, :data:`BROKER_IF_ANY`, :data:`BROKER_OF_STUDY`, :data:`BROKER_OR_FOLDER`  the
  options
* :func:`reach`       the address, after a trial connection
* :func:`parsed`      the address, without one
* :func:`as_typed`    the options that the command line reached its broker with
* :func:`chosen_bundle`, :func:`own_fleet`, :func:`fleet_setting`  what the bundle decides: the
  fleet, and the peer's id

A command line beats the environment, which beats a file of options. A broker off this machine is
refused without TLS, or without a password or certificate, unless ``--insecure`` says that this is
known.
"""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec
from click.core import ParameterSource

from fimi.plural import plural
from fimi.testbed.commands.shared import EXIT_CONFIG, code_of, fail
from fimi.testbed.configuration.sections import FleetConfig

if TYPE_CHECKING:
    from fimi.messaging.address import BrokerAddress
    from fimi.messaging.bundle import Bundle, BundleRole

BROKER_VARIABLE = "FIMI_BROKER"
"""Environment variable with the URL of the broker."""

BUNDLE_VARIABLE = "FIMI_BUNDLE"
"""Environment variable with the path of the bundle."""

INSECURE_VARIABLE = "FIMI_INSECURE"
"""Environment variable that stands for ``--insecure`` if it is 1."""

log = logging.getLogger(__name__)

_BEFORE = (
    ParameterSource.COMMANDLINE,
    ParameterSource.ENVIRONMENT,
    ParameterSource.DEFAULT_MAP,  # of a file of options
)
"""Where an option comes from, in the order in which they hold."""

_BUNDLE = f"{__name__}.bundle"
_INSECURE = f"{__name__}.insecure"

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def _take_bundle(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
    if path is None or ctx.resilient_parsing:
        return
    assert param.name is not None
    ctx.meta[_BUNDLE] = path, ctx.get_parameter_source(param.name)


def _take_insecure(ctx: click.Context, _: click.Parameter, given: bool) -> None:
    ctx.meta[_INSECURE] = given


def _take_url(ctx: click.Context, param: click.Parameter, url: str | None) -> str:
    """The URL; empty where a bundle is used instead."""
    assert param.name is not None
    path, source = ctx.meta.get(_BUNDLE, (None, None))
    if path is not None and url:
        ours = ctx.get_parameter_source(param.name)
        if ours == source:
            raise click.UsageError(
                "'--broker' and '--bundle' both name a broker (or the variables "
                f"{BROKER_VARIABLE} and {BUNDLE_VARIABLE} do): leave one out.",
                ctx,
            )
        if _BEFORE.index(ours) < _BEFORE.index(source):
            del ctx.meta[_BUNDLE]
            return url
        url = None
    return url or ""


def _require(ctx: click.Context, param: click.Parameter, url: str | None) -> str:
    found = _take_url(ctx, param, url)
    if not (found or _BUNDLE in ctx.meta or ctx.resilient_parsing):
        raise click.UsageError(
            "Missing option '--broker', the URL of the broker, or '--bundle', the file with this "
            "peer's credentials; FIMI_BROKER and FIMI_BUNDLE can hold them instead.\n"
            "'fimi broker' starts a broker for a trial and prints a line to paste:\n"
            "  export FIMI_BROKER='mqtt://…'",
            ctx,
        )
    return found


def _options(
    callback: Callable[..., str], words: str, variable: str | None
) -> Callable[[Decorated], Decorated]:
    made = [
        click.option(
            "--broker",
            "url",
            envvar=variable,
            callback=callback,
            metavar="URL",
            help=words,
        ),
        click.option(
            "--bundle",
            envvar=None if variable is None else BUNDLE_VARIABLE,
            type=click.Path(path_type=Path, dir_okay=False),
            is_eager=True,
            expose_value=False,
            callback=_take_bundle,
            metavar="FILE",
            help="In its place: the credentials of this peer, as 'fimi fleet enroll' writes them "
            f"(or the variable {BUNDLE_VARIABLE}).",
        ),
        click.option(
            "--insecure",
            envvar=INSECURE_VARIABLE,
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_take_insecure,
            help="Use a broker on another machine without TLS, or without a password; it is said "
            f"in the report (or {INSECURE_VARIABLE}=1).",
        ),
    ]

    def decorate(command: Decorated) -> Decorated:
        for option in reversed(made):
            command = option(command)
        return command

    return decorate


BROKER = _options(
    _require,
    "mqtts://user:password@host:8883?ca=FILE with TLS, and &cert=FILE&key=FILE for a certificate "
    "of its own; mqtt://… without TLS, on this machine (or the variable FIMI_BROKER, which hides "
    "it from ps).  [required, or --bundle]",
    BROKER_VARIABLE,
)
BROKER_OF_STUDY = _options(
    _take_url, "Run on the boards of a fleet, over this broker, one run after another.", None
)
BROKER_OR_FOLDER = _options(
    _take_url, "A broker without a fleet's folder (or the variable FIMI_BROKER).", BROKER_VARIABLE
)
BROKER_IF_ANY = _options(_take_url, "Try this broker as well (or the variable FIMI_BROKER).",
                         BROKER_VARIABLE)  # fmt: skip


def chosen_bundle() -> Bundle | None:
    """The bundle that the command was given; an unusable one ends the command."""
    ctx = click.get_current_context(silent=True)
    path, _ = (None, None) if ctx is None else ctx.meta.get(_BUNDLE, (None, None))
    if path is None:
        return None
    from fimi.messaging.bundle import Bundle, BundleError

    try:
        return Bundle.read(path)
    except BundleError as error:
        fail(str(error), EXIT_CONFIG, error.code)


def as_typed(url: str) -> str:
    """How the command line reaches the broker, to be typed again, with a space before it.

    Empty where the environment says it. A password is ``***``.

    Args:
        url: value of ``--broker``; empty where a bundle names the broker.
    """
    ctx = click.get_current_context()
    bundle, source = ctx.meta.get(_BUNDLE, (None, None))
    said = ""
    if bundle is not None:
        if source is ParameterSource.COMMANDLINE:
            said = f" --bundle {shlex.quote(str(bundle))}"
    elif url and ctx.get_parameter_source("url") is ParameterSource.COMMANDLINE:
        from fimi.messaging.address import BrokerAddress

        said = f" --broker '{BrokerAddress.parse(url)}'"  # quoted for its *** as well
    if ctx.get_parameter_source("insecure") is ParameterSource.COMMANDLINE:
        said += " --insecure"
    return said


def is_named(url: str) -> bool:
    """Whether the command was given a broker, by URL or by bundle."""
    return bool(url) or _BUNDLE in click.get_current_context().meta


def fleet_setting(settings: tuple[str, ...]) -> tuple[str, ...]:
    """Settings of a command, with the fleet of its bundle in place of ``fleet.name``."""
    bundle = chosen_bundle()
    return settings if bundle is None else (*settings, f'fleet.name="{bundle.fleet}"')


def use_environment() -> str:
    """The broker of the environment, for a command that looks there only when it is told so.

    Returns:
        Its URL; empty if a bundle names it, or nothing does.
    """
    ctx = click.get_current_context()
    bundle, url = os.environ.get(BUNDLE_VARIABLE, ""), os.environ.get(BROKER_VARIABLE, "")
    if bundle and url:
        raise click.UsageError(
            f"{BROKER_VARIABLE} and {BUNDLE_VARIABLE} both name a broker: unset one.", ctx
        )
    if bundle:
        ctx.meta[_BUNDLE] = Path(bundle), ParameterSource.ENVIRONMENT
    return url


def own_fleet(given: str, *, role: BundleRole, name: str | None = None) -> tuple[str, str | None]:
    """The fleet and the id of this process: those of its bundle, else what was given.

    Args:
        given: value of ``--fleet``, or of ``fleet.name``.
        role: what the process is.
        name: value of ``--id``; ``None`` if it was left out.
    """
    bundle = chosen_bundle()
    if bundle is None:
        return given, name
    if bundle.role != role:
        whose = "bundles/coordinator.bundle in the folder of 'fimi fleet init' is that of one"
        if role != "coordinator":
            whose = f"'fimi fleet enroll NAME --role {role}' writes one"
        fail(
            f"the bundle is that of {bundle.role} {bundle.name!r}, and this needs that of a "
            f"{role}: {whose}",
            EXIT_CONFIG,
            "F003",
        )
    if given not in (bundle.fleet, FleetConfig().name):
        fail(f"the bundle is for fleet {bundle.fleet!r}, not for {given!r}", EXIT_CONFIG, "F003")
    if name not in (None, bundle.name):
        said = f"the bundle is that of {bundle.name!r}: no other id goes with it"
        fail(said, EXIT_CONFIG, "F003")
    return bundle.fleet, bundle.name


def parsed(url: str, *, of_plugs: bool = False) -> BrokerAddress:
    """The address of the broker that the command was given; one that is exposed is refused.

    Args:
        url: value of ``--broker``; empty where a bundle names it.
        of_plugs: whether it is that of somebody's plugs, which may be exposed.
    """
    from fimi.messaging.address import BrokerAddress

    bundle = chosen_bundle()
    try:
        address = BrokerAddress.parse(url) if bundle is None else _of_bundle(bundle)
    except ValueError as error:
        fail(str(error), EXIT_CONFIG, code_of(error, "B015"))
    if not of_plugs:
        require_protection(address)
    return address


def _of_bundle(bundle: Bundle) -> BrokerAddress:
    ctx = click.get_current_context()
    path, _ = ctx.meta[_BUNDLE]
    return msgspec.structs.replace(bundle.address(), bundle_path=str(path.absolute()))


def require_protection(address: BrokerAddress) -> None:
    """End the command if what is sent to a broker is exposed, and nobody has said that it may be.

    A certificate that ends soon is warned of.
    """
    from fimi.messaging.tls import WARN_DAYS, days_left

    exposed = address.exposed()
    ctx = click.get_current_context(silent=True)
    if exposed and not (ctx is not None and ctx.meta.get(_INSECURE)):
        fail(
            f"{address}: {exposed}. Give this peer credentials ('fimi fleet init' and '--bundle "
            "FILE', docs/security.md), or say '--insecure' on a network that you trust",
            EXIT_CONFIG,
            "B011",
        )
    if exposed:
        log.warning("%s: %s (--insecure)", address, exposed)
    left = days_left(address.expires)
    if left is not None and left < WARN_DAYS:
        log.warning(
            "the certificate of %s %s; make a new one: fimi fleet rotate %s",
            *(address.username, ends_in_words(left), address.username),
        )


def ends_in_words(days: int) -> str:
    """When a certificate ends, in words."""
    if days < 0:
        return f"has ended {plural(-days, 'day')} ago"
    return "ends today" if days == 0 else f"ends in {plural(days, 'day')}"


def reach(url: str, *, of_plugs: bool = False) -> Any:
    """The address of a broker, after a trial connection; called before heavy libraries are loaded.

    Args:
        url: as for :func:`parsed`.
        of_plugs: as well.

    Raises:
        fimi.messaging.errors.BrokerError: it refuses, or there is no answer.
    """
    from fimi.messaging.link import probe

    address = parsed(url, of_plugs=of_plugs)
    probe(address)
    return address
